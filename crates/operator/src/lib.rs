//! The operator: policies in, one `ConfigMap` for each node out; and back, what the nodes report into the policies' status.
//!
//! One way: [`watch`] says what there is, [`index`] keeps what counts of it and plans, [`write`] writes what differs. Everything
//! but `watch`, `write`, [`leader`], [`term`] and [`serve`] is pure: time comes as an argument.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs))]

pub mod breaker;
pub mod cli;
pub mod content;
pub mod fit;
pub mod index;
pub mod leader;
pub mod lease;
pub mod metrics;
pub mod objects;
pub mod queue;
pub mod release;
pub mod retention;
pub mod serve;
pub mod status;
pub mod tell;
pub mod term;
pub mod unlisted;
pub mod watch;
pub mod write;
