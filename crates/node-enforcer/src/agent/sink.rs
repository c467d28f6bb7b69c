//! Where the agent's events go: the other seam between a node on its own and one of a cluster.

use std::time::Duration;

use mooring_crd::DriftEvent;

use super::facts::Facts;
use super::output::{Format, print};
use crate::report::Limits;

/// Takes events and the node's state. Nothing here waits for anyone.
pub trait Sink {
    /// How many events it has room for, and how often it wants to hear of one.
    fn limits(&self) -> Limits;

    /// Events to be told, each with all that it has counted since it lives.
    fn take(&mut self, events: Vec<DriftEvent>);

    /// What the node does, when it has changed.
    fn state(&mut self, facts: &Facts);
}

/// Standard output, for a node on its own.
#[derive(Debug)]
pub struct Printer {
    /// How events are printed.
    pub format: Format,
}

/// How often an event is printed again while its count grows.
const REPEAT: Duration = Duration::from_secs(2);

impl Sink for Printer {
    fn limits(&self) -> Limits {
        // Lines on standard output are no objects of an API server: only the agent's memory bounds them.
        Limits { per_container: 512, per_node: 2048, repeat: REPEAT, ..Limits::default() }
    }

    /// A closed standard output must not end enforcement.
    fn take(&mut self, events: Vec<DriftEvent>) {
        if let Err(error) = print(&events, self.format) {
            eprintln!("{} events could not be printed: {error}", events.len());
        }
    }

    fn state(&mut self, _: &Facts) {}
}
