//! Where agents may make no `DriftEvent`s for now. Pure: time comes as an argument, on this process's own clock.
//!
//! Trimming deletes what is beyond the caps; where more comes all the time, the API server would do nothing else than store and
//! delete. So a namespace is closed to agents when as many of its events were trimmed within [`WINDOW`] as its cap allows: all
//! that it shows was replaced once. The same for the cluster, with its cap: then each namespace that something was trimmed in.
//!
//! While a namespace is closed nobody can tell whether the flood goes on, so it is opened again after a time; where it has to be
//! closed again soon, after twice that.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use mooring_crd::EVERY_NAMESPACE;
use mooring_crd::limits::MAX_BREAKER_NAMESPACES;

use crate::retention::Caps;

/// Trims of so long count.
pub const WINDOW: Duration = Duration::from_mins(5);
/// Fewer trims than these are no flood, however low the caps.
pub const LEAST: u64 = 100;
/// How long a namespace is closed, at most.
pub const LONGEST: Duration = Duration::from_hours(6);
/// One that was open again for so many times as long as it was closed has a clean slate.
const FORGIVEN: u32 = 4;
/// The window is counted in this many parts.
const PARTS: u32 = 10;

/// How many were trimmed within the window.
#[derive(Clone, Debug, Default)]
struct Trims(VecDeque<(u64, u64)>);

impl Trims {
    fn part(now: Duration) -> u64 {
        u64::try_from(now.as_millis() / (WINDOW / PARTS).as_millis()).unwrap_or(u64::MAX)
    }

    fn add(&mut self, now: Duration) {
        let part = Self::part(now);
        match self.0.back_mut() {
            Some((last, count)) if *last == part => *count += 1,
            _ => self.0.push_back((part, 1)),
        }
    }

    fn sum(&mut self, now: Duration) -> u64 {
        let oldest = (Self::part(now) + 1).saturating_sub(u64::from(PARTS));
        while self.0.front().is_some_and(|(part, _)| *part < oldest) {
            self.0.pop_front();
        }
        self.0.iter().map(|(_, count)| count).sum()
    }
}

/// A namespace in which something was trimmed lately, or that is or was closed.
#[derive(Clone, Debug, Default)]
struct Namespace {
    trims: Trims,
    /// Until when it is, or was, closed, and for how long.
    closed: Option<(Duration, Duration)>,
}

impl Namespace {
    fn is_closed(&self, now: Duration) -> bool {
        self.closed.is_some_and(|(until, _)| now < until)
    }

    /// Closes it, for twice as long as the last time unless that is long ago.
    fn close(&mut self, first: Duration, now: Duration) {
        let lately = self.closed.filter(|(until, held)| now < until.saturating_add(*held * FORGIVEN));
        let held = lately.map_or(first, |(_, held)| (held * 2).min(LONGEST));
        *self = Self { trims: Trims::default(), closed: Some((now + held, held)) };
    }
}

/// Which namespaces are closed to agents' `DriftEvent`s. In the words of a circuit breaker: open for these.
#[derive(Clone, Debug)]
pub struct Breaker {
    caps: Caps,
    first: Duration,
    namespaces: BTreeMap<String, Namespace>,
}

impl Breaker {
    /// Nothing was trimmed. A namespace is closed for `first` at first.
    #[must_use]
    pub fn new(caps: Caps, first: Duration) -> Self {
        Self { caps, first, namespaces: BTreeMap::new() }
    }

    /// An event was trimmed because there are too many, not because it expired.
    pub fn trimmed(&mut self, namespace: &str, now: Duration) {
        let one = self.namespaces.entry(namespace.to_owned()).or_default();
        // What was there when it was closed is still being trimmed then.
        if !one.is_closed(now) {
            one.trims.add(now);
        }
    }

    /// A namespace was closed by the operator before this one.
    pub fn adopt(&mut self, namespace: &str, now: Duration) {
        let one = self.namespaces.entry(namespace.to_owned()).or_default();
        if !one.is_closed(now) {
            one.close(self.first, now);
        }
    }

    /// The namespaces that are closed now, in their order; [`EVERY_NAMESPACE`] alone where they are too many to name.
    pub fn closed(&mut self, now: Duration) -> Vec<String> {
        let most = |cap: usize| u64::try_from(cap).unwrap_or(u64::MAX).max(LEAST);
        let mut all = 0_u64;
        for one in self.namespaces.values_mut() {
            let sum = one.trims.sum(now);
            if sum > most(self.caps.namespace) {
                one.close(self.first, now);
            } else {
                all += sum;
            }
        }
        if all > most(self.caps.cluster) {
            for one in self.namespaces.values_mut().filter(|one| !one.trims.0.is_empty()) {
                one.close(self.first, now);
            }
        }
        self.namespaces.retain(|_, one| {
            let remembered = one.closed.is_some_and(|(until, held)| now < until.saturating_add(held * FORGIVEN));
            remembered || !one.trims.0.is_empty()
        });
        let closed = self.namespaces.iter().filter(|(_, one)| one.is_closed(now)).map(|(name, _)| name);
        let closed: Vec<String> = closed.cloned().collect();
        let most = usize::try_from(MAX_BREAKER_NAMESPACES).unwrap_or(usize::MAX);
        if closed.len() > most || closed.iter().any(|name| name == EVERY_NAMESPACE) {
            return vec![EVERY_NAMESPACE.to_owned()];
        }
        closed
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const FIRST: Duration = Duration::from_mins(10);
    const CAPS: Caps = Caps { time_to_live: Duration::from_hours(1), namespace: 200, cluster: 600 };

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    /// So many trims a second in each namespace while it is not closed, for a day; what was trimmed in all, and how often each was closed.
    fn a_day(rates: &[(&str, u64)], breaker: &mut Breaker) -> BTreeMap<String, (u64, u32)> {
        let mut days: BTreeMap<String, (u64, u32)> = BTreeMap::new();
        let mut before = Vec::new();
        for second in 0..24 * 3600 {
            let closed = breaker.closed(seconds(second));
            for (name, rate) in rates {
                let day = days.entry((*name).to_owned()).or_default();
                let is_closed = |closed: &[String]| closed.iter().any(|one| one == name);
                if is_closed(&closed) {
                    day.1 += u32::from(!is_closed(&before));
                    continue;
                }
                for _ in 0..*rate {
                    breaker.trimmed(name, seconds(second));
                    day.0 += 1;
                }
            }
            before = closed;
        }
        days
    }

    #[test]
    fn a_flood_that_lasts_a_day_costs_a_few_times_the_cap() {
        let days = a_day(&[("flooded", 50), ("quiet", 0)], &mut Breaker::new(CAPS, FIRST));
        let (trimmed, closed) = days["flooded"];
        // 10, 20, 40, 80, 160, 320, 360, … minutes.
        assert!((6..=9).contains(&closed), "{closed}");
        assert!(trimmed <= u64::from(closed + 1) * 300, "{trimmed}");
        assert_eq!(days["quiet"], (0, 0));
    }

    #[test]
    fn many_namespaces_that_stay_below_their_caps_reach_the_clusters() {
        let rates: Vec<(String, u64)> = (0..400).map(|n| (format!("n{n}"), 1)).collect();
        let mut breaker = Breaker::new(CAPS, FIRST);
        for (name, _) in &rates {
            breaker.trimmed(name, seconds(1));
            breaker.trimmed(name, seconds(2));
        }
        assert_eq!(breaker.closed(seconds(3)), ["*"], "more than can be named");
        let mut breaker = Breaker::new(CAPS, FIRST);
        for (name, _) in &rates[..4] {
            (0..160).for_each(|_| breaker.trimmed(name, seconds(1)));
        }
        assert_eq!(breaker.closed(seconds(3)).len(), 4);
    }

    #[test]
    fn what_was_long_ago_is_forgiven_and_what_another_closed_is_taken_over() {
        let mut breaker = Breaker::new(CAPS, FIRST);
        breaker.adopt("a", seconds(0));
        assert_eq!(breaker.closed(seconds(599)), ["a"]);
        assert!(breaker.closed(seconds(600)).is_empty());
        let flood = |breaker: &mut Breaker, at| (0..=200).for_each(|_| breaker.trimmed("a", seconds(at)));
        flood(&mut breaker, 2000);
        assert_eq!(breaker.closed(seconds(2000)), ["a"]);
        assert_eq!(breaker.closed(seconds(2000 + 1199)), ["a"], "twice as long");
        assert!(breaker.closed(seconds(2000 + 1200)).is_empty());
        let later = 2000 + 1200 * 6;
        flood(&mut breaker, later);
        assert_eq!(breaker.closed(seconds(later)), ["a"]);
        assert!(breaker.closed(seconds(later + 600)).is_empty(), "as if it were the first time");
        breaker.closed(seconds(later + 600 * 6));
        assert!(breaker.namespaces.is_empty(), "and forgotten");
    }

    proptest! {
        /// Closed exactly after more trims than the cap within the window, and open again by itself.
        #[test]
        fn it_closes_for_floods_only_and_always_ends(
            steps in prop::collection::vec((0_u64..90, 0_usize..3, 0_u64..120), 1..200),
        ) {
            let mut breaker = Breaker::new(CAPS, FIRST);
            let names = ["a", "b", "c"];
            let (mut now, mut history, mut before) = (0, Vec::new(), Vec::<String>::new());
            for (pause, which, count) in steps {
                now += pause;
                for _ in 0..count {
                    breaker.trimmed(names[which], seconds(now));
                    history.push((now, names[which]));
                }
                let within = |name: Option<&str>| {
                    let of = |one: &&(u64, &str)| now - one.0 <= WINDOW.as_secs() && name.is_none_or(|name| name == one.1);
                    history.iter().filter(of).count()
                };
                let closed = breaker.closed(seconds(now));
                for name in &closed {
                    let new = !before.contains(name);
                    prop_assert!(!new || within(Some(name)) > CAPS.namespace || within(None) > CAPS.cluster);
                }
                if count > 0 && within(Some(names[which])) <= CAPS.namespace && within(None) <= CAPS.cluster {
                    prop_assert!(!closed.iter().any(|name| name == names[which]) || before.iter().any(|name| name == names[which]));
                }
                before = closed;
            }
            prop_assert!(breaker.closed(seconds(now) + LONGEST).is_empty());
            breaker.closed(seconds(now) + LONGEST * 10);
            prop_assert!(breaker.namespaces.is_empty());
        }
    }
}
