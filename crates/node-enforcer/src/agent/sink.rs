//! Where the agent's events go: the other seam between a node on its own and one of a cluster.

use std::sync::Arc;
use std::time::Duration;

use mooring_crd::DriftEvent;

use super::facts::Facts;
use super::output::{Format, print};
use crate::containers::Container;
use crate::report::Limits;
use crate::response::Told;

/// Takes events and the node's state. Nothing here waits for anyone.
pub trait Sink {
    /// How many events it has room for, and how often it wants to hear of one.
    fn limits(&self) -> Limits;

    /// Events to be told, each with all that it has counted since it lives.
    fn take(&mut self, events: Vec<DriftEvent>);

    /// What the node does, when it has changed.
    fn state(&mut self, facts: &Facts);

    /// What was done to a container has another outcome now. `is_told`: the events that say what was done were given to
    /// [`Sink::take`]; otherwise those that an earlier agent wrote have yet to be changed.
    fn acted(&mut self, _told: &Told, _is_told: bool) {}

    /// The containers that are paused, when they have changed: somebody may ask to resume one.
    fn paused(&mut self, _paused: Vec<Arc<Container>>) {}
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
