//! Pods as a kubelet makes them, on a real node with Mooring in it: each protected, none disturbed, whatever happens to the node.
#![allow(missing_docs, unreachable_pub, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod faults;
mod kinds;
mod manifests;
mod oracle;
mod reboots;
mod responses;
mod rig;
mod upgrades;
