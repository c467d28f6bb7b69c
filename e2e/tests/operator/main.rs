//! The operator against a real control plane, under its own service account and roles only.
//!
//! One control plane serves all tests here, one after another: each begins without policies, nodes and `ConfigMap`s.
#![allow(missing_docs, unreachable_pub, clippy::unwrap_used, clippy::expect_used, clippy::panic)]
#![allow(clippy::needless_pass_by_value)] // Documents are made where they are passed.

mod clock;
mod doubling;
mod faults;
mod line;
mod release;
mod retention;
mod rig;
mod rights;
mod scale;
