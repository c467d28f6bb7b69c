//! The agent without a cluster: policies from files, containers from their runtimes, events to standard output.

mod adopt;
mod compare;
mod floods;
mod links;
mod membership;
mod output;
mod proofs;
mod reporter;
mod room;
mod roster;
mod run;

pub use membership::{Surroundings, workload_of};
pub use output::Format;
pub use run::{Agent, AgentError, Options, UnknownContainers};
