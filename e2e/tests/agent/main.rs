//! The agent in a real cluster, under its own service account and roles only.
#![allow(missing_docs, unreachable_pub, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod api;
mod faults;
mod line;
mod played;
mod relay;
mod rig;
mod unknown;
mod watches;
