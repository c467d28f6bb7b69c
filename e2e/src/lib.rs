//! End-to-end tests on real kernels: the rig that boots guests ([`vm`]), what runs in them, and clusters of them ([`cluster`]).
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

pub mod attacks;
pub mod bench;
pub mod cluster;
pub mod guest;
pub mod testing;
pub mod vm;
