//! What of the events is to be written next, and when. Pure: time is an argument, the writing is the caller's.
//!
//! An event's object counts what all lives of the event counted: the aggregator begins at 1 when an event comes back, and so does
//! another agent. Its counts are absolute here, so that a write that is done twice changes nothing.

use std::collections::BTreeMap;
use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use mooring_crd::DriftEvent;

use super::mailbox::EventName;
use super::pace::{Backoff, Bucket};

/// Objects that are remembered; of another the API server is asked.
const REMEMBERED_MAX: usize = 1024;
/// Events that wait to be written.
const WAITING_MAX: usize = 1024;
/// How often an object that is refused is tried.
const TRIES: u32 = 6;

/// What to write.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Job {
    /// An object that is not there, as far as is known.
    Create(Box<DriftEvent>),
    /// The count of one that is.
    Update(Box<DriftEvent>),
}

/// What came of it.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Outcome {
    /// It is written.
    Done,
    /// It was to be created and is there already: with this count, since then.
    Exists {
        /// What it counts.
        count: i64,
        /// Its `firstSeen`.
        first_seen: MicroTime,
    },
    /// It was to be updated and is not there (any more).
    Gone,
    /// Refused for good.
    Refused,
    /// Refused for now, and for this object only.
    NotNow,
    /// The API server is not there, or overloaded.
    Away,
}

#[derive(Debug)]
struct Object {
    exists: bool,
    /// What earlier lives counted.
    base: i64,
    /// This life, by its `firstSeen`, and what it has counted.
    life: MicroTime,
    latest: i64,
    /// Over all lives.
    first_seen: MicroTime,
    touched: u64,
}

#[derive(Debug)]
struct Waiting {
    event: DriftEvent,
    since: u64,
    tries: u32,
    not_before: Duration,
}

/// The events that wait, and the objects that they have.
#[derive(Debug)]
pub(super) struct Desk {
    waiting: BTreeMap<EventName, Waiting>,
    objects: BTreeMap<EventName, Object>,
    creates: Bucket,
    updates: Bucket,
    backoff: Backoff,
    not_before: Duration,
    turn: u64,
    lost: u64,
}

impl Desk {
    pub(super) fn new(node: &str) -> Self {
        Self {
            waiting: BTreeMap::new(),
            objects: BTreeMap::new(),
            creates: Bucket::new(Duration::from_secs(1), 20),
            updates: Bucket::new(Duration::from_secs(5), 20),
            backoff: Backoff::new(Duration::from_secs(1), Duration::from_mins(1), node),
            not_before: Duration::ZERO,
            turn: 0,
            lost: 0,
        }
    }

    /// Violations that could not be told.
    pub(super) fn lost(&self) -> u64 {
        self.lost
    }

    pub(super) fn add_lost(&mut self, more: u64) {
        self.lost = self.lost.saturating_add(more);
    }

    /// An event, with what its life has counted so far.
    pub(super) fn take(&mut self, name: EventName, event: DriftEvent) {
        let Some(status) = &event.status else { return };
        self.turn += 1;
        if self.waiting.len() >= WAITING_MAX && !self.waiting.contains_key(&name) {
            self.add_lost(u64::try_from(status.count).unwrap_or(1));
            return;
        }
        let object = self.objects.entry(name.clone()).or_insert_with(|| Object {
            exists: false,
            base: 0,
            life: status.first_seen.clone(),
            latest: 0,
            first_seen: status.first_seen.clone(),
            touched: 0,
        });
        if object.life.0 != status.first_seen.0 {
            object.base = object.base.saturating_add(object.latest);
            object.life = status.first_seen.clone();
        }
        object.latest = status.count;
        object.touched = self.turn;
        let since = self.turn;
        let waiting = self.waiting.entry(name).or_insert_with(|| Waiting {
            event: event.clone(),
            since,
            tries: 0,
            not_before: Duration::ZERO,
        });
        waiting.event = event;
        self.forget_old();
    }

    /// What to write now, if anything may be: new objects first, then what has waited longest.
    pub(super) fn next(&mut self, now: Duration) -> Option<(EventName, Job)> {
        if now < self.not_before {
            return None;
        }
        let oldest = |exists: bool| {
            let due = self.waiting.iter().filter(|(name, waiting)| {
                waiting.not_before <= now && self.objects.get(*name).is_some_and(|object| object.exists == exists)
            });
            due.min_by_key(|(_, waiting)| waiting.since).map(|(name, _)| name.clone())
        };
        let (new, known) = (oldest(false), oldest(true));
        if let Some(name) = new.filter(|_| self.creates.take(now)) {
            let event = self.object(&name)?;
            return Some((name, Job::Create(Box::new(event))));
        }
        let name = known.filter(|_| self.updates.take(now))?;
        let event = self.object(&name)?;
        Some((name, Job::Update(Box::new(event))))
    }

    /// When [`Desk::next`] may have something; None while nothing waits.
    pub(super) fn next_due(&self, now: Duration) -> Option<Duration> {
        let due = self.waiting.iter().map(|(name, waiting)| {
            let exists = self.objects.get(name).is_some_and(|object| object.exists);
            let bucket = if exists { &self.updates } else { &self.creates };
            waiting.not_before.max(bucket.ready(now)).max(self.not_before)
        });
        due.min()
    }

    /// Takes a token for one more update, if there is one.
    pub(super) fn may_update(&mut self, now: Duration) -> bool {
        self.updates.take(now)
    }

    /// A job was tried.
    pub(super) fn done(&mut self, name: &EventName, job: &Job, outcome: Outcome, now: Duration) {
        if outcome != Outcome::Away {
            self.backoff.reset();
        }
        let (Some(object), Some(waiting)) = (self.objects.get_mut(name), self.waiting.get_mut(name)) else { return };
        match outcome {
            Outcome::Done => {
                object.exists = true;
                let (Job::Create(written) | Job::Update(written)) = job;
                // What came meanwhile has yet to be written.
                if written.status.as_ref().is_some_and(|s| s.count == object.base.saturating_add(object.latest))
                    && written.spec.verdict == waiting.event.spec.verdict
                {
                    self.waiting.remove(name);
                }
            }
            Outcome::Exists { count, first_seen } => {
                object.exists = true;
                // Its own, whose answer was lost: it began when this one did.
                if first_seen.0 != object.first_seen.0 {
                    object.base = object.base.saturating_add(count);
                    if first_seen.0 < object.first_seen.0 {
                        object.first_seen = first_seen;
                    }
                }
            }
            Outcome::Gone => object.exists = false,
            Outcome::NotNow if waiting.tries + 1 < TRIES => {
                waiting.tries += 1;
                waiting.not_before = now + Duration::from_secs(1 << waiting.tries);
            }
            Outcome::Refused | Outcome::NotNow => {
                self.lost = self.lost.saturating_add(u64::try_from(object.latest).unwrap_or(1));
                self.waiting.remove(name);
                self.objects.remove(name);
            }
            Outcome::Away => self.not_before = now + self.backoff.next(),
        }
    }

    /// The object as it is to be.
    fn object(&self, name: &EventName) -> Option<DriftEvent> {
        let (object, waiting) = (self.objects.get(name)?, self.waiting.get(name)?);
        let mut event = waiting.event.clone();
        let status = event.status.as_mut()?;
        status.count = object.base.saturating_add(object.latest);
        status.first_seen = object.first_seen.clone();
        Some(event)
    }

    fn forget_old(&mut self) {
        if self.objects.len() <= REMEMBERED_MAX + WAITING_MAX {
            return;
        }
        let idle = self.objects.iter().filter(|(name, _)| !self.waiting.contains_key(*name));
        if let Some(name) = idle.min_by_key(|(_, object)| object.touched).map(|(name, _)| name.clone()) {
            self.objects.remove(&name);
        }
    }
}

#[cfg(test)]
mod tests;
