//! What cannot be listed, for `/readyz`: an operator that does not know all that there is lets its work wait. Pure but for a lock.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::objects::Kind;

/// The kinds of which a list failed, and none has come about since: since when, and why.
#[derive(Debug, Default)]
pub struct Unlisted(Mutex<BTreeMap<Kind, (Duration, String)>>);

impl Unlisted {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<Kind, (Duration, String)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A list of a kind failed.
    pub fn failed(&self, kind: Kind, error: &str, now: Duration) {
        let mut unlisted = self.lock();
        let since = unlisted.get(&kind).map_or(now, |(since, _)| *since);
        unlisted.insert(kind, (since, error.to_owned()));
    }

    /// A kind was listed in full.
    pub fn listed(&self, kind: Kind) {
        self.lock().remove(&kind);
    }

    /// Nothing is to be listed any more, or all of it anew.
    pub fn clear(&self) {
        self.lock().clear();
    }

    /// What could not be listed for so long, and why, for people.
    #[must_use]
    pub fn for_longer_than(&self, patience: Duration, now: Duration) -> Option<String> {
        let unlisted = self.lock();
        let long = unlisted.iter().filter(|(_, (since, _))| now.saturating_sub(*since) > patience);
        let words: Vec<String> =
            long.map(|(kind, (_, error))| format!("{} cannot be listed: {error}", kind.as_str())).collect();
        (!words.is_empty()).then(|| words.join("\n"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_told_after_a_while_and_until_it_is_listed() {
        let (unlisted, seconds) = (Unlisted::default(), Duration::from_secs);
        unlisted.failed(Kind::Event, "denied", seconds(5));
        unlisted.failed(Kind::Event, "denied again", seconds(9));
        let told = |now| unlisted.for_longer_than(seconds(10), seconds(now));
        assert_eq!(told(15), None);
        assert_eq!(told(16).as_deref(), Some("driftevents cannot be listed: denied again"));
        unlisted.listed(Kind::Node);
        assert!(told(16).is_some());
        unlisted.listed(Kind::Event);
        assert_eq!(told(100), None);
    }
}
