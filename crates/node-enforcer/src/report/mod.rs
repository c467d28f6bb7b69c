//! From what the kernel refused or saw to events that people and programs read.
//!
//! One way: [`Violation`] (one kernel record, with its container) → one [`mooring_crd::DriftEvent`] for each policy that it
//! violates → [`Aggregator`] (the same again is a count) → [`write_json`], [`write_text`], [`write_yaml`]. All of it is pure: time is an
//! argument, and nothing here feeds a verdict.

mod aggregate;
mod escape;
mod event;
#[cfg(test)]
pub(crate) mod tests;
mod text;
mod violation;
mod yaml;

pub use aggregate::{Aggregator, Limits};
pub use escape::{Quoted, write_escaped, write_json};
pub use event::{EventKey, events_of};
pub use k8s_openapi::jiff::Timestamp;
pub use text::write_text;
pub use violation::Violation;
pub use yaml::write_yaml;
