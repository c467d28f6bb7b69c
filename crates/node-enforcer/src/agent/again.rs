//! When to look again at what is not there yet.

use std::time::{Duration, Instant};

/// The shortest and the longest pause between two looks.
const LEAST: Duration = Duration::from_millis(20);
const MOST: Duration = Duration::from_secs(4);
/// The part of the time waited so far that a pause takes.
const PART: u32 = 8;

/// Looks at something, the longer it takes the seldomer: what they cost is bounded by how long the runtime takes, on slow machines and
/// for many containers at once, too, and what comes is seen an eighth of that late at most.
#[derive(Debug, Clone, Copy)]
pub(super) struct Again {
    begun: Instant,
    due: Instant,
}

impl Again {
    /// The first look has just been taken.
    pub(super) fn from(now: Instant) -> Self {
        Self { begun: now, due: now + LEAST }
    }

    /// When the next look is due.
    pub(super) fn due(&self) -> Instant {
        self.due
    }

    /// A look was in vain; gives the time waited so far.
    pub(super) fn looked(&mut self, now: Instant) -> Duration {
        let waited = now.saturating_duration_since(self.begun);
        self.due = now + (waited / PART).clamp(LEAST, MOST);
        waited
    }

    /// The next look is due now.
    pub(super) fn hurry(&mut self, now: Instant) {
        self.due = now;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn looks_become_seldom() {
        let begun = Instant::now();
        let mut again = Again::from(begun);
        let mut looks = 0;
        while again.due() < begun + Duration::from_mins(1) {
            let before = again.due();
            let waited = again.looked(before);
            let pause = again.due() - before;
            assert!(pause >= LEAST && pause <= MOST && (pause == LEAST || pause <= waited / PART), "{pause:?}");
            looks += 1;
        }
        assert!((40..70).contains(&looks), "{looks}");
        again.hurry(begun);
        assert_eq!(again.due(), begun);
    }
}
