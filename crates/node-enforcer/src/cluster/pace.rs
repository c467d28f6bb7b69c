//! How often something may be done, and when again after it failed. Times are durations since any moment of the caller's.

use std::time::Duration;

/// A bucket of tokens: one for each thing done, refilled at a steady rate.
#[derive(Debug, Clone)]
pub(super) struct Bucket {
    every: Duration,
    burst: u32,
    /// When it would be full.
    full_at: Duration,
}

impl Bucket {
    /// One in `every` sustained, `burst` at once.
    pub(super) fn new(every: Duration, burst: u32) -> Self {
        Self { every, burst, full_at: Duration::ZERO }
    }

    /// When the next token is there: now or later.
    pub(super) fn ready(&self, now: Duration) -> Duration {
        let most = self.every * (self.burst - 1);
        now.max(self.full_at.saturating_sub(most))
    }

    /// Takes a token if there is one.
    pub(super) fn take(&mut self, now: Duration) -> bool {
        let is_there = self.ready(now) <= now;
        if is_there {
            self.full_at = self.full_at.max(now) + self.every;
        }
        is_there
    }
}

/// Waits that double, so that a server that is in trouble is not kept there.
#[derive(Debug, Clone)]
pub(super) struct Backoff {
    first: Duration,
    most: Duration,
    failures: u32,
    /// Of this node: so that not all come back at once.
    spread: u32,
}

impl Backoff {
    pub(super) fn new(first: Duration, most: Duration, node: &str) -> Self {
        let spread = node.bytes().fold(17_u32, |hash, byte| hash.wrapping_mul(31).wrapping_add(u32::from(byte)));
        Self { first, most, failures: 0, spread }
    }

    /// It worked.
    pub(super) fn reset(&mut self) {
        self.failures = 0;
    }

    /// It failed again: how long to wait. Up to a quarter more than twice the wait before.
    pub(super) fn next(&mut self) -> Duration {
        let wait = self.first.saturating_mul(1 << self.failures.min(16)).min(self.most);
        self.failures = self.failures.saturating_add(1);
        wait + wait / 4 * (self.spread.wrapping_mul(self.failures) % 256) / 256
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_bucket_never_gives_more_than_it_has(
            every in 1_u64..10_000, burst in 1_u32..50, steps in prop::collection::vec(0_u64..20_000, 1..200),
        ) {
            let mut bucket = Bucket::new(Duration::from_millis(every), burst);
            let (mut now, mut taken) = (0, Vec::new());
            for step in steps {
                now += step;
                if bucket.take(Duration::from_millis(now)) {
                    taken.push(now);
                } else {
                    let ready = u64::try_from(bucket.ready(Duration::from_millis(now)).as_millis()).unwrap();
                    prop_assert!(ready > now && ready - now <= every);
                }
            }
            // In any span: the burst, and one for each full interval.
            for (index, begin) in taken.iter().enumerate() {
                for (more, end) in taken.iter().enumerate().skip(index) {
                    let count = u64::try_from(more - index + 1).unwrap();
                    prop_assert!(count <= u64::from(burst) + (end - begin) / every);
                }
            }
        }
    }

    #[test]
    fn waits_double_to_a_limit() {
        let mut backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(30), "node1");
        let waits: Vec<_> = (0..8).map(|_| backoff.next()).collect();
        assert!(waits.first().unwrap() < &Duration::from_millis(1251));
        assert!(waits.iter().all(|wait| *wait <= Duration::from_millis(37_500)));
        assert!(waits.last().unwrap() >= &Duration::from_secs(30));
        backoff.reset();
        assert!(backoff.next() < Duration::from_millis(1251));
    }
}
