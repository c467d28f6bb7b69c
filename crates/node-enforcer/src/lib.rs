//! The node's agent: finds containers, reads policies, keeps the kernel's tables, tells what was refused.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

pub mod agent;
pub mod canary;
pub mod check;
pub mod cluster;
pub mod config;
pub mod containers;
mod descriptors;
pub mod explain;
pub mod fanotify;
pub mod kernel;
pub mod policies;
pub mod report;
pub mod response;
