//! What the operator counts. Labels come from closed sets.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};

/// A label `what`, one word.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Word {
    what: &'static str,
}

/// A label set of one word.
#[must_use]
pub const fn word(what: &'static str) -> Word {
    Word { what }
}

/// An object that is written, and what became of it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Outcome {
    /// `ConfigMap`, `Status`, `Event`, `DriftEvent`, `Breaker`.
    pub object: &'static str,
    /// `Ok`, `Conflict`, `Denied`, `Refused`, `Unreachable`.
    pub result: &'static str,
}

/// All metrics.
pub struct Metrics {
    registry: Registry,
    /// Whether this process leads.
    pub leader: Gauge,
    /// Objects that are known, by kind.
    pub objects: Family<Word, Gauge>,
    /// Nodes whose `ConfigMap` waits to be written.
    pub nodes: Family<Word, Gauge>,
    /// Nodes by the backend that their agent uses.
    pub backends: Family<Word, Gauge>,
    /// Writes.
    pub writes: Family<Outcome, Counter>,
    /// Lists that were begun anew, by kind.
    pub lists: Family<Word, Counter>,
    /// Watches that failed, by kind.
    pub watch_failures: Family<Word, Counter>,
    /// `DriftEvent`s that were deleted, by why.
    pub trimmed: Family<Word, Counter>,
    /// Namespaces in which agents make no `DriftEvent`s for now.
    pub breaker: Gauge,
    /// Time of a plan.
    pub plan_seconds: Histogram,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::with_prefix("mooring_operator");
        let metrics = Self {
            leader: Gauge::default(),
            objects: Family::default(),
            nodes: Family::default(),
            backends: Family::default(),
            writes: Family::default(),
            lists: Family::default(),
            watch_failures: Family::default(),
            trimmed: Family::default(),
            breaker: Gauge::default(),
            plan_seconds: Histogram::new(exponential_buckets(0.001, 4.0, 8)),
            registry: Registry::default(),
        };
        registry.register("leader", "Whether this process leads", metrics.leader.clone());
        registry.register("objects", "Objects that are known, by kind", metrics.objects.clone());
        registry.register("nodes", "Nodes, by what their ConfigMap waits for", metrics.nodes.clone());
        registry.register("backends", "Nodes, by how they stop an execution", metrics.backends.clone());
        registry.register("writes", "Writes, by object and result", metrics.writes.clone());
        registry.register("lists", "Lists that were begun, by kind", metrics.lists.clone());
        registry.register("watch_failures", "Watches that failed, by kind", metrics.watch_failures.clone());
        registry.register("driftevents_trimmed", "DriftEvents that were deleted, by why", metrics.trimmed.clone());
        let breaker = "Namespaces in which agents make no DriftEvents for now";
        registry.register("driftevents_breaker_open", breaker, metrics.breaker.clone());
        registry.register_with_unit("plan", "Time of a plan", Unit::Seconds, metrics.plan_seconds.clone());
        Self { registry, ..metrics }
    }
}

impl Metrics {
    /// Counts a write.
    pub fn wrote(&self, object: &'static str, result: &'static str) {
        self.writes.get_or_create(&Outcome { object, result }).inc();
    }

    /// As Prometheus reads them.
    #[must_use]
    pub fn text(&self) -> String {
        let mut text = String::new();
        // Writing to a String cannot fail.
        let _ = encode(&mut text, &self.registry);
        text
    }
}
