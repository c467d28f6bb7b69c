//! The agent in a cluster: rules from the node's `ConfigMap`, labels from the API server, and what happened to its objects.
//!
//! Everything that talks to the API server runs in a thread of its own. The agent's loop meets it at two places only, the
//! [`mailbox`]'s two sides: neither ever waits for the network, and both are bounded. What is enforced never depends on the API
//! server: the last good rules and the labels that were seen lie in the state folder.

mod connection;
mod desk;
mod directory;
mod event_writer;
mod follow;
pub mod host;
mod keep;
mod mailbox;
mod node_status;
mod node_writer;
mod objects;
mod outcomes;
mod pace;
mod pod;
mod presence;
mod ready;
mod rules;
mod state;

pub use connection::{Connection, Options, connect};
pub use directory::{Directory, PodFacts};
pub use mailbox::{ClusterSink, ClusterSource};
pub use presence::Presence;
pub use ready::DEFAULT_READY_FILE;
