//! The pure core of Mooring: what policies mean.
//!
//! One way: [`mod@compile`] turns policies into a [`RuleSet`], [`mod@select`] says which of its policies are for a container,
//! [`verdict`] says what they make of an execution. The kernel programs do the same on encoded tables and must agree
//! bit for bit. Nothing here reads a clock, a file, the network or the kernel.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs))]

pub mod action;
pub mod compile;
pub mod limits;
pub mod mask;
pub mod node_policy;
pub mod node_rules;
pub mod path;
pub mod rules;
pub mod select;
pub mod support;
pub mod verdict;

pub use action::strongest;
pub use compile::{Compiled, Refusal, compile};
pub use mask::{Slot, SlotMask};
pub use node_policy::{NodeDefaults, NodePolicy, NodePolicyEntry};
pub use node_rules::{NodeRules, NodeRulesError};
pub use path::{ListPath, ListPathError};
pub use rules::{NoRoom, PathMasks, RuleSet, SlotPolicy};
pub use select::{Workload, select};
pub use support::{shortcoming, unsupported};
pub use verdict::{Attempt, Class, Judgement, Name, Use, judge};
