//! The agent: containers from their runtimes, rules from a [`Source`], events to a [`Sink`]. With and without a cluster it differs
//! in these two only.

mod adopt;
mod again;
mod compare;
mod facts;
mod floods;
mod layers;
mod links;
mod listener;
mod membership;
mod output;
mod proofs;
mod release;
mod reporter;
mod room;
mod roster;
mod run;
mod signals;
mod sink;
mod source;
mod start;

pub(crate) use compare::{REMOTE, find_by_number, same_content};
pub use facts::{Facts, PolicyFacts};
pub(crate) use layers::file_in;
pub use membership::{Labels, PodLabels, Surroundings, UnknownContainers};
pub use output::Format;
pub use reporter::violation_of;
pub use run::{Agent, AgentError, Ended, Options};
pub use signals::Signals;
pub use sink::{Printer, Sink};
pub use source::{Changes, Files, Rules, Source};
