//! The enforcer on this machine's own kernel, with a real runc and without a cluster. Needs root in the first pid and mount namespace.
#![allow(missing_docs, unreachable_pub, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod costs;
mod fanotify;
mod kill;
mod matrix;
mod responses;
mod rig;
