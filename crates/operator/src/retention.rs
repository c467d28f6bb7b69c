//! Which `DriftEvent`s have to go. Pure: the time comes as an argument.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use k8s_openapi::jiff::Timestamp;

use crate::objects::EventObject;

/// How many events there may be, and for how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Caps {
    /// How long an event stays after it was written last.
    pub time_to_live: Duration,
    /// In one namespace.
    pub namespace: usize,
    /// In the cluster.
    pub cluster: usize,
}

/// The wall clock as far as events expire by it: one that somebody sets forward must not make them all expire at once.
#[derive(Clone, Copy, Debug)]
pub struct Wall {
    said: Timestamp,
    at: Duration,
}

impl Wall {
    /// What the wall clock says now, at a time on a clock that nobody can set.
    #[must_use]
    pub fn new(said: Timestamp, at: Duration) -> Self {
        Self { said, at }
    }

    /// What it may be by now at most, when it says `says`. One that went back is believed: events then stay longer.
    #[must_use]
    pub fn at_most(&self, says: Timestamp, now: Duration) -> Timestamp {
        self.said.checked_add(now.saturating_sub(self.at)).map_or(says, |at_most| says.min(at_most))
    }
}

/// Why an event has to go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Why {
    /// Nothing was added to it for the time to live.
    Expired,
    /// Its namespace has too many.
    NamespaceCap,
    /// The cluster has too many.
    ClusterCap,
}

/// An event that has to go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Surplus {
    /// Its key: namespace, slash, name.
    pub key: String,
    /// Its uid.
    pub uid: String,
    /// Why.
    pub why: Why,
}

/// All events: namespace, then when it was written last, uid and name.
#[derive(Debug, Default)]
pub struct Events {
    by_key: BTreeMap<String, EventObject>,
    by_namespace: BTreeMap<String, BTreeSet<(Timestamp, String)>>,
}

impl Events {
    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.by_key.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.by_key.is_empty()
    }

    /// Their keys.
    #[must_use]
    pub fn keys(&self) -> Vec<String> {
        self.by_key.keys().cloned().collect()
    }

    /// Takes in an event as it is now.
    pub fn apply(&mut self, key: &str, event: EventObject) {
        self.delete(key);
        self.by_namespace.entry(namespace(key).to_owned()).or_default().insert((event.written, key.to_owned()));
        self.by_key.insert(key.to_owned(), event);
    }

    /// Takes in that an event is gone.
    pub fn delete(&mut self, key: &str) {
        let Some(event) = self.by_key.remove(key) else { return };
        if let Some(events) = self.by_namespace.get_mut(namespace(key)) {
            events.remove(&(event.written, key.to_owned()));
            if events.is_empty() {
                self.by_namespace.remove(namespace(key));
            }
        }
    }

    /// What has to go: what has expired; in a namespace with too many the oldest; and while the cluster has too many, the oldest of
    /// the namespace that has most, so that a flood in one does not push out what happened in another.
    #[must_use]
    pub fn surplus(&self, now: Timestamp, caps: Caps) -> Vec<Surplus> {
        let mut surplus = Vec::new();
        // How many are left in each namespace, oldest first.
        let mut left: Vec<Vec<&str>> = Vec::new();
        for events in self.by_namespace.values() {
            let expired =
                |written: &Timestamp| now.duration_since(*written).unsigned_abs() > caps.time_to_live && now > *written;
            let (old, young): (Vec<_>, Vec<_>) = events.iter().partition(|(written, _)| expired(written));
            surplus.extend(old.iter().filter_map(|(_, key)| self.say(key, Why::Expired)));
            let beyond = young.len().saturating_sub(caps.namespace);
            surplus.extend(young[..beyond].iter().filter_map(|(_, key)| self.say(key, Why::NamespaceCap)));
            left.push(young[beyond..].iter().map(|(_, key)| key.as_str()).collect());
        }
        // The level to which the fullest namespaces must be lowered.
        let total: usize = left.iter().map(Vec::len).sum();
        if total > caps.cluster {
            let (mut low, mut high) = (0, left.iter().map(Vec::len).max().unwrap_or_default());
            while low < high {
                let middle = (low + high).div_ceil(2);
                let sum: usize = left.iter().map(|events| events.len().min(middle)).sum();
                if sum <= caps.cluster { low = middle } else { high = middle - 1 }
            }
            for events in &left {
                let beyond = events.len().saturating_sub(low);
                surplus.extend(events[..beyond].iter().filter_map(|key| self.say(key, Why::ClusterCap)));
            }
        }
        surplus
    }

    fn say(&self, key: &str, why: Why) -> Option<Surplus> {
        let event = self.by_key.get(key)?;
        Some(Surplus { key: key.to_owned(), uid: event.uid.clone(), why })
    }
}

pub(crate) fn namespace(key: &str) -> &str {
    key.split_once('/').map_or("", |(namespace, _)| namespace)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_jumps_makes_nothing_expire() {
        let at = |second| Timestamp::from_second(second).unwrap();
        let wall = Wall::new(at(1_000_000), Duration::from_secs(50));
        let caps = Caps { time_to_live: Duration::from_mins(10), namespace: 9, cluster: 9 };
        let mut events = Events::default();
        events.apply("a/old", EventObject { uid: "1".to_owned(), written: at(1_000_000 - 590) });
        events.apply("a/new", EventObject { uid: "2".to_owned(), written: at(1_000_000) });
        let gone = |says, now| events.surplus(wall.at_most(at(says), Duration::from_secs(now)), caps).len();
        assert_eq!(gone(1_000_005, 55), 0);
        assert_eq!(gone(9_000_000, 55), 0, "forward");
        assert_eq!(gone(1, 55), 0, "back");
        assert_eq!(gone(1_000_020, 70), 1);
        assert_eq!(gone(9_000_000, 70), 1);
    }
}
