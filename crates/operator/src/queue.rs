//! What is to be done when: one thing at a time for each key, later after a failure. Time comes as an argument.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// The longest pause after a failure.
const LONGEST: Duration = Duration::from_secs(15);

/// Keys for which something is to be done.
#[derive(Debug)]
pub struct Queue<K> {
    due: BTreeSet<(Duration, K)>,
    when: BTreeMap<K, Duration>,
    doing: BTreeSet<K>,
    failures: BTreeMap<K, u32>,
}

impl<K> Default for Queue<K> {
    fn default() -> Self {
        Self { due: BTreeSet::new(), when: BTreeMap::new(), doing: BTreeSet::new(), failures: BTreeMap::new() }
    }
}

impl<K: Ord + Clone> Queue<K> {
    /// Asks for a key at a time; the earlier counts where it was asked for already. After failures it stays as late as these made it.
    pub fn add(&mut self, key: K, at: Duration) {
        if let Some(before) = self.when.get(&key) {
            if *before <= at || self.failures.contains_key(&key) {
                return;
            }
            self.due.remove(&(*before, key.clone()));
        }
        self.when.insert(key.clone(), at);
        self.due.insert((at, key));
    }

    /// Nothing is to be done for the key any more.
    pub fn remove(&mut self, key: &K) {
        if let Some(at) = self.when.remove(key) {
            self.due.remove(&(at, key.clone()));
        }
        self.failures.remove(key);
    }

    /// A key that is due and for which nothing is being done; now it is.
    pub fn take_due(&mut self, now: Duration) -> Option<K> {
        let found =
            self.due.iter().take_while(|(at, _)| *at <= now).find(|(_, key)| !self.doing.contains(key))?.clone();
        self.due.remove(&found);
        self.when.remove(&found.1);
        self.doing.insert(found.1.clone());
        Some(found.1)
    }

    /// What was being done for a key has ended; after a failure it is due again after a pause.
    pub fn ended(&mut self, key: &K, failed: bool, now: Duration) {
        self.doing.remove(key);
        if !failed {
            self.failures.remove(key);
            return;
        }
        let failures = self.failures.get(key).copied().unwrap_or_default();
        self.remove(key);
        self.add(key.clone(), now + (Duration::from_millis(250) * 2_u32.pow(failures.min(6))).min(LONGEST));
        self.failures.insert(key.clone(), failures + 1);
    }

    /// How many keys something is being done for.
    #[must_use]
    pub fn doing(&self) -> usize {
        self.doing.len()
    }

    /// How many keys wait.
    #[must_use]
    pub fn len(&self) -> usize {
        self.when.len()
    }

    /// Whether none waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.when.is_empty()
    }

    /// When the next is due.
    #[must_use]
    pub fn next_due(&self) -> Option<Duration> {
        self.due.first().map(|(at, _)| *at)
    }
}

/// So many at once, and one more now and then.
#[derive(Debug)]
pub struct Budget {
    burst: u32,
    every: Duration,
    left: u32,
    since: Duration,
}

impl Budget {
    /// A full budget.
    #[must_use]
    pub fn new(burst: u32, every: Duration) -> Self {
        Self { burst, every, left: burst, since: Duration::ZERO }
    }

    /// Whether one more may be had.
    pub fn take(&mut self, now: Duration) -> bool {
        let more = now.saturating_sub(self.since).as_millis() / self.every.as_millis().max(1);
        if more > 0 {
            self.left = self.left.saturating_add(u32::try_from(more).unwrap_or(u32::MAX)).min(self.burst);
            self.since = now;
        }
        let may = self.left > 0;
        self.left = self.left.saturating_sub(1);
        may
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn at(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    #[test]
    fn a_key_is_done_once_at_a_time_and_not_forgotten() {
        let mut queue = Queue::default();
        queue.add("a", at(5));
        queue.add("a", at(9));
        assert_eq!(queue.take_due(at(4)), None);
        assert_eq!(queue.take_due(at(5)), Some("a"));
        // Asked for again while it is being done.
        queue.add("a", at(6));
        assert_eq!(queue.take_due(at(7)), None);
        queue.ended(&"a", false, at(8));
        assert_eq!(queue.take_due(at(8)), Some("a"));
        queue.ended(&"a", false, at(9));
        assert!(queue.is_empty() && queue.doing() == 0);
    }

    #[test]
    fn failures_make_it_later_each_time_up_to_a_bound() {
        let mut queue = Queue::default();
        queue.add("a", at(0));
        let (mut now, mut pauses) = (at(0), Vec::new());
        for _ in 0..10 {
            assert_eq!(queue.take_due(now), Some("a"));
            queue.ended(&"a", true, now);
            // A change in between does not hurry it.
            queue.add("a", now);
            let due = queue.next_due().unwrap();
            pauses.push(due.checked_sub(now).unwrap());
            now = due;
        }
        assert!(pauses.is_sorted() && pauses[0] == at(250) && pauses[9] == LONGEST, "{pauses:?}");
        queue.take_due(now);
        queue.ended(&"a", false, now);
        queue.add("a", now);
        assert_eq!(queue.take_due(now), Some("a"));
    }

    #[test]
    fn a_budget_lasts() {
        let mut budget = Budget::new(2, at(100));
        let had = |budget: &mut Budget, now| (0..5).filter(|_| budget.take(at(now))).count();
        assert_eq!(
            [had(&mut budget, 0), had(&mut budget, 99), had(&mut budget, 100), had(&mut budget, 5000)],
            [2, 0, 1, 2]
        );
    }
}
