//! Counts what is the same, and bounds what is not.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use mooring_crd::{ContainerActionOutcome, DriftEvent, OTHER_PATHS, Verdict};
use mooring_policy::RuleSet;

use super::{EventKey, Violation, events_of};

/// How many events there may be, and how often they are told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Live events of one container, each with a path of its own; what comes then is counted in one event a policy and reason. A
    /// flood of names in one must not hide what happens in another.
    pub per_container: usize,
    /// Live events of the node.
    pub per_node: usize,
    /// At most this often is an event told again, with its new count.
    pub repeat: Duration,
    /// An event that does not happen for so long makes room for others.
    pub idle: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self { per_container: 10, per_node: 200, repeat: Duration::from_secs(10), idle: Duration::from_mins(10) }
    }
}

/// A workload can make one policy's event alternate between refused and allowed (by the name that it invokes), so even that is
/// told at most so often.
const VERDICT_CHANGE: Duration = Duration::from_secs(1);

/// The live events. An event that has left (idle, or its container gone) and happens again begins at 1 under the same name: a sink
/// that keeps objects adds to what it has. Times are durations since any moment of the caller's, by a clock that never goes back.
#[derive(Debug)]
pub struct Aggregator {
    node: String,
    limits: Limits,
    live: HashMap<EventKey, Live>,
    /// By container id.
    live_of: BTreeMap<String, usize>,
    /// Violations that had no room in any event.
    suppressed: u64,
}

#[derive(Debug)]
struct Live {
    event: DriftEvent,
    told: Duration,
    happened: Duration,
    /// Counted since it was told.
    untold: bool,
}

impl Aggregator {
    /// An aggregator for the node of this name.
    #[must_use]
    pub fn new(node: String, limits: Limits) -> Self {
        Self { node, limits, live: HashMap::new(), live_of: BTreeMap::new(), suppressed: 0 }
    }

    /// Takes a violation; gives the events to be told at once: those that are new, and those that went from allowed to
    /// refused or back, which no one should learn only later. `rules` are those that the kernel judged by.
    pub fn record(&mut self, violation: &Violation, rules: &RuleSet, now: Duration) -> Vec<DriftEvent> {
        let mut tell = Vec::new();
        let container_id = &violation.container.id;
        for (mut key, mut event) in events_of(violation, rules, &self.node) {
            let is_live = self.live.contains_key(&key);
            if !is_live && self.is_full_for(container_id, now) {
                (key, event) = shared(key, event);
            }
            if let Some(live) = self.live.get_mut(&key) {
                tell.extend(live.add(event, now));
            } else if self.live.len() < self.limits.per_node {
                if !is_shared(&key) {
                    *self.live_of.entry(container_id.clone()).or_default() += 1;
                }
                self.live.insert(key, Live { event: event.clone(), told: now, happened: now, untold: false });
                tell.push(event);
            } else {
                self.suppressed = self.suppressed.saturating_add(violation.count.max(1));
            }
        }
        tell
    }

    /// What was done to a container has another outcome now: gives its events that say what was, all to be told at once; None where none of
    /// them is live.
    pub fn acted(
        &mut self,
        container_id: &str,
        outcome: &ContainerActionOutcome,
        now: Duration,
    ) -> Option<Vec<DriftEvent>> {
        let mut tell = None;
        for live in self.live.values_mut().filter(|live| live.event.spec.container_id == container_id) {
            let Some(said) = live.event.status.as_mut().and_then(|status| status.container_action.as_mut()) else {
                continue;
            };
            let tell = tell.get_or_insert_with(Vec::new);
            if said != outcome {
                *said = outcome.clone();
                tell.push(live.tell(now));
            }
        }
        tell.map(|mut tell| {
            sort(&mut tell);
            tell
        })
    }

    /// The events whose new count is due to be told.
    pub fn due(&mut self, now: Duration) -> Vec<DriftEvent> {
        let repeat = self.limits.repeat;
        let mut tell: Vec<DriftEvent> = self
            .live
            .values_mut()
            .filter(|live| live.untold && now >= live.told + repeat)
            .map(|live| live.tell(now))
            .collect();
        sort(&mut tell);
        tell
    }

    /// When [`Aggregator::due`] has something next; None while nothing is untold.
    #[must_use]
    pub fn next_due(&self) -> Option<Duration> {
        self.live.values().filter(|live| live.untold).map(|live| live.told + self.limits.repeat).min()
    }

    /// Everything untold, whatever its time: before the end.
    pub fn flush(&mut self, now: Duration) -> Vec<DriftEvent> {
        let mut tell: Vec<DriftEvent> =
            self.live.values_mut().filter(|live| live.untold).map(|live| live.tell(now)).collect();
        sort(&mut tell);
        tell
    }

    /// Forgets a container that is gone; gives its last counts where they are untold.
    pub fn forget(&mut self, container_id: &str, now: Duration) -> Vec<DriftEvent> {
        let mut tell = Vec::new();
        self.live.retain(|_, live| {
            let is_its = live.event.spec.container_id == container_id;
            if is_its && live.untold {
                tell.push(live.tell(now));
            }
            !is_its
        });
        self.live_of.remove(container_id);
        sort(&mut tell);
        tell
    }

    /// Violations that had no room in any event, since the start.
    #[must_use]
    pub fn suppressed(&self) -> u64 {
        self.suppressed
    }

    /// How many events are live.
    #[must_use]
    pub fn len(&self) -> usize {
        self.live.len()
    }

    /// Whether none is.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.live.is_empty()
    }

    /// Whether a container has all the events that it may have.
    fn is_full_for(&mut self, container_id: &str, now: Duration) -> bool {
        let is_full = |aggregator: &Self| {
            aggregator.live_of.get(container_id).is_some_and(|live| *live >= aggregator.limits.per_container)
        };
        if is_full(self) || self.live.len() >= self.limits.per_node {
            self.forget_idle(now);
        }
        is_full(self)
    }

    /// Drops what has not happened for long, and has been told.
    fn forget_idle(&mut self, now: Duration) {
        let idle = self.limits.idle;
        let live_of = &mut self.live_of;
        self.live.retain(|key, live| {
            let keep = live.untold || now < live.happened + idle;
            if !keep && !is_shared(key) {
                let id = &live.event.spec.container_id;
                if let Some(count) = live_of.get_mut(id) {
                    *count = count.saturating_sub(1);
                }
            }
            keep
        });
        live_of.retain(|_, count| *count > 0);
    }
}

impl Live {
    /// Adds another event of the same key; gives what has to be told at once.
    fn add(&mut self, event: DriftEvent, now: Duration) -> Option<DriftEvent> {
        let verdict: Verdict = event.spec.verdict;
        let changed = verdict != self.event.spec.verdict;
        let (Some(mine), Some(more)) = (&mut self.event.status, event.status) else {
            return None;
        };
        mine.count = mine.count.saturating_add(more.count);
        // `first_seen` stays, also where the clock was set back: a sink tells an event's lives apart by it.
        if more.last_seen.0 > mine.last_seen.0 {
            mine.last_seen = more.last_seen;
        }
        let mut changed = changed;
        if more.container_action.is_some() && more.container_action != mine.container_action {
            mine.container_action = more.container_action;
            changed = true;
        }
        if !more.held_back.is_empty() {
            mine.held_back = more.held_back;
        }
        self.happened = now;
        self.untold = true;
        self.event.spec.verdict = verdict;
        (changed && now >= self.told + VERDICT_CHANGE).then(|| self.tell(now))
    }

    fn tell(&mut self, now: Duration) -> DriftEvent {
        self.told = now;
        self.untold = false;
        self.event.clone()
    }
}

fn is_shared(key: &EventKey) -> bool {
    key.path == OTHER_PATHS.as_bytes()
}

/// The event that counts what has no room for one of its own; the process is that of the first.
fn shared(key: EventKey, mut event: DriftEvent) -> (EventKey, DriftEvent) {
    let key = EventKey { path: OTHER_PATHS.into(), ..key };
    event.metadata.name = Some(key.object_name());
    event.spec.path = OTHER_PATHS.into();
    event.spec.invoked_as = None;
    event.spec.volume = None;
    (key, event)
}

/// The table has no order of its own; readers and tests want one.
fn sort(events: &mut [DriftEvent]) {
    events.sort_by(|a, b| a.metadata.name.cmp(&b.metadata.name));
}
