//! What of the events is to be written next, and when. Pure: time is an argument, the writing is the caller's.
//!
//! An event's object counts what all lives of the event counted: the aggregator begins at 1 when an event comes back, and so does
//! another agent. Its counts are absolute here, so that a write that is done twice changes nothing.
//!
//! An object that somebody has deleted (retention, a person) has told what it counted: another one counts what came after it. It
//! comes no sooner than [`HELD_BACK`] after the last write of the one before, each time later: retention deletes what is beyond
//! its caps, and would do nothing else if agents made it again at once. What had expired was written long ago and comes back
//! at once.
//!
//! In a namespace whose breaker is open the API server refuses new objects: what would make one is a number only, and nothing is
//! asked there before [`PROBE`] is over, each time later.

use std::collections::BTreeMap;
use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use mooring_crd::DriftEvent;

use super::mailbox::{EventName, Untold};
use super::pace::{Backoff, Bucket};

/// Objects that are remembered; of another the API server is asked.
const REMEMBERED_MAX: usize = 1024;
/// Events that wait to be written.
const WAITING_MAX: usize = 1024;
/// How often an object that is refused is tried.
const TRIES: u32 = 6;

/// From the last write of an object that was deleted to the one that takes its place: at first, and at most.
const HELD_BACK: Duration = Duration::from_mins(10);
const HELD_BACK_MOST: Duration = Duration::from_hours(6);

/// From a refusal by the breaker to the next try in its namespace: at first, and at most.
const PROBE: Duration = Duration::from_secs(30);
const PROBE_MOST: Duration = Duration::from_mins(10);
/// After so long without a refusal a namespace is as good as new.
const PROBE_FORGOTTEN: Duration = Duration::from_hours(1);

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
    /// It was to be created where the breaker is open.
    BreakerOpen,
    /// Refused for now, and for this object only.
    NotNow,
    /// The API server is not there, or overloaded.
    Away,
}

#[derive(Debug)]
struct Object {
    exists: bool,
    /// What earlier lives counted, without what is told elsewhere: by objects that are gone, or as lost.
    base: i64,
    /// What the object is known to count, and when that was written.
    written: i64,
    written_at: Duration,
    /// How often it was deleted, and when another one may take its place.
    deletions: u32,
    not_before: Duration,
    /// This life, by its `firstSeen`, and what it has counted.
    life: MicroTime,
    latest: i64,
    /// Over all lives.
    first_seen: MicroTime,
    touched: u64,
}

impl Object {
    fn count(&self) -> i64 {
        self.base.saturating_add(self.latest)
    }

    /// Of what it counts, what no object says.
    fn untold(&self) -> i64 {
        self.count().saturating_sub(self.written)
    }

    /// That has been told otherwise.
    fn told(&mut self) {
        self.base = self.written.saturating_sub(self.latest);
    }

    /// It was deleted.
    fn deleted(&mut self) {
        self.base = self.base.saturating_sub(self.written);
        (self.exists, self.written) = (false, 0);
        let held = HELD_BACK.saturating_mul(1 << self.deletions.min(16)).min(HELD_BACK_MOST);
        self.deletions = self.deletions.saturating_add(1);
        self.not_before = self.written_at + held;
    }
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
    untold: Untold,
    /// Namespaces whose breaker was open: when one is tried again.
    open: BTreeMap<String, (Duration, Backoff)>,
    node: String,
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
            untold: Untold::default(),
            open: BTreeMap::new(),
            node: node.to_owned(),
        }
    }

    /// Violations that no object tells.
    pub(super) fn untold(&self) -> Untold {
        self.untold
    }

    pub(super) fn add_lost(&mut self, more: u64) {
        self.untold.lost = self.untold.lost.saturating_add(more);
    }

    /// The namespaces whose breaker is open, as far as is known.
    pub(super) fn open(&self, now: Duration) -> impl Iterator<Item = &str> {
        self.open.iter().filter(move |(_, (until, _))| now < *until).map(|(namespace, _)| namespace.as_str())
    }

    /// What is due and would be made where the breaker is open is a number only.
    fn suppress(&mut self, now: Duration) {
        let Self { waiting, objects, open, untold, .. } = self;
        if !open.values().any(|(until, _)| now < *until) {
            return;
        }
        waiting.retain(|name, waiting| {
            let is_open = open.get(&name.0).is_some_and(|(until, _)| now < *until);
            let Some(object) = objects.get_mut(name).filter(|object| is_open && !object.exists) else { return true };
            if waiting.not_before > now {
                return true;
            }
            untold.suppressed = untold.suppressed.saturating_add(u64::try_from(object.untold()).unwrap_or(1));
            object.told();
            false
        });
    }

    /// An event, with what its life has counted so far.
    pub(super) fn take(&mut self, name: EventName, event: DriftEvent) {
        let Some(status) = &event.status else { return };
        self.turn += 1;
        let object = self.objects.entry(name.clone()).or_insert_with(|| Object {
            exists: false,
            base: 0,
            written: 0,
            written_at: Duration::ZERO,
            deletions: 0,
            not_before: Duration::ZERO,
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
        if let Some(waiting) = self.waiting.get_mut(&name) {
            waiting.event = event;
        } else if self.waiting.len() >= WAITING_MAX {
            self.untold.lost = self.untold.lost.saturating_add(u64::try_from(object.untold()).unwrap_or(1));
            object.told();
        } else if object.exists || object.untold() > 0 {
            let not_before = object.not_before;
            self.waiting.insert(name, Waiting { event, since: self.turn, tries: 0, not_before });
        }
        self.forget_old();
    }

    /// What to write now, if anything may be: new objects first, then what has waited longest.
    pub(super) fn next(&mut self, now: Duration) -> Option<(EventName, Job)> {
        self.suppress(now);
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
        // What is known of a breaker ends, too.
        let known = self.open.values().map(|(until, _)| *until).filter(|until| now < *until);
        due.chain(known).min()
    }

    /// The agent ends: what was held back is due.
    pub(super) fn end(&mut self) {
        self.waiting.values_mut().for_each(|waiting| waiting.not_before = Duration::ZERO);
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
        if matches!(job, Job::Create(_)) && matches!(outcome, Outcome::Done | Outcome::Exists { .. }) {
            self.open.remove(&name.0);
        }
        let (Some(object), Some(waiting)) = (self.objects.get_mut(name), self.waiting.get_mut(name)) else { return };
        match outcome {
            Outcome::Done => {
                let (Job::Create(written) | Job::Update(written)) = job;
                (object.exists, object.written_at) = (true, now);
                object.written = written.status.as_ref().map_or(object.written, |status| status.count);
                // What came meanwhile has yet to be written.
                if object.untold() == 0 && written.spec.verdict == waiting.event.spec.verdict {
                    self.waiting.remove(name);
                }
            }
            Outcome::Exists { count, first_seen } => {
                (object.exists, object.written, object.written_at) = (true, count, now);
                // Its own, whose answer was lost: it began when this one did.
                if first_seen.0 != object.first_seen.0 {
                    object.base = object.base.saturating_add(count);
                    if first_seen.0 < object.first_seen.0 {
                        object.first_seen = first_seen;
                    }
                }
            }
            // It was to be created, and went away while it was looked at.
            Outcome::Gone if !object.exists => {}
            Outcome::Gone => {
                object.deleted();
                waiting.not_before = object.not_before;
                if let Some(status) = &waiting.event.status {
                    object.first_seen = status.last_seen.clone();
                }
                if object.untold() == 0 {
                    self.waiting.remove(name);
                }
            }
            Outcome::NotNow if waiting.tries + 1 < TRIES => {
                waiting.tries += 1;
                waiting.not_before = now + Duration::from_secs(1 << waiting.tries);
            }
            Outcome::BreakerOpen => {
                self.open.retain(|_, (until, _)| now < until.saturating_add(PROBE_FORGOTTEN));
                let backoff = || (now, Backoff::new(PROBE, PROBE_MOST, &self.node));
                let (until, backoff) = self.open.entry(name.0.clone()).or_insert_with(backoff);
                *until = now + backoff.next();
                self.suppress(now);
            }
            Outcome::Refused | Outcome::NotNow => {
                self.untold.lost = self.untold.lost.saturating_add(u64::try_from(object.untold()).unwrap_or(1));
                object.told();
                self.waiting.remove(name);
            }
            Outcome::Away => self.not_before = now + self.backoff.next(),
        }
    }

    /// The object as it is to be.
    fn object(&self, name: &EventName) -> Option<DriftEvent> {
        let (object, waiting) = (self.objects.get(name)?, self.waiting.get(name)?);
        let mut event = waiting.event.clone();
        let status = event.status.as_mut()?;
        status.count = object.count();
        status.first_seen = object.first_seen.clone();
        // Clocks are set back, and the API server takes no end before a beginning.
        if status.last_seen.0 < status.first_seen.0 {
            status.last_seen = status.first_seen.clone();
        }
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
