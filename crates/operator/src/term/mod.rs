//! A term as leader: fresh watches into a fresh index, plans out of it, writes of what differs.
//!
//! A term begins with nothing: what an earlier one knew may be old. It ends by being dropped.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use k8s_openapi::api::core::v1::ConfigMap;
use k8s_openapi::jiff::Timestamp;
use kube::Client;
use mooring_crd::BREAKER;
use mooring_policy::NodeDefaults;
use tokio::sync::mpsc;

use crate::breaker::Breaker;
use crate::index::{Index, PolicyKey};
use crate::leader::{Clock, Leadership};
use crate::metrics::{Metrics, word};
use crate::objects::{BreakerObject, Change, Kind};
use crate::queue::{Budget, Queue};
use crate::retention::{Caps, Events, Surplus, Wall, Why, namespace};
use crate::tell::Told;
use crate::unlisted::Unlisted;
use crate::watch::{Said, watch_all};
use crate::write::{WriteError, Writer};

mod begin;

/// How many Kubernetes Events may be written at once, and how often one more.
const TELL_BURST: u32 = 50;
const TELL_EVERY: Duration = Duration::from_secs(2);
/// Changes that are taken in before anything is done about them.
const BATCH: usize = 2000;

/// What a term needs.
pub struct Setting {
    /// The connection.
    pub client: Client,
    /// Writes.
    pub writer: Writer,
    /// Whether this process may act.
    pub leadership: Leadership,
    /// Its clock.
    pub clock: Clock,
    /// What cannot be listed.
    pub unlisted: Arc<Unlisted>,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// For what policies leave unset.
    pub defaults: NodeDefaults,
    /// How many `DriftEvent`s there may be.
    pub caps: Caps,
    /// How long agents make none in a namespace with far more, at first.
    pub breaker: Duration,
}

/// Something that was written, or not.
enum Done {
    Map(String, Box<Result<Option<ConfigMap>, WriteError>>),
    Status(PolicyKey, Vec<Told>, Result<(), WriteError>),
    Trimmed(Surplus, Result<(), WriteError>),
    /// Where agents made no events before, and the object as it is now.
    Breaker(Vec<String>, Result<BreakerObject, WriteError>),
    Told(Result<(), WriteError>),
}

struct Term<'a> {
    setting: &'a Setting,
    index: Index,
    events: Events,
    /// Of the kinds that are being listed: what was in the list so far.
    listing: BTreeMap<Kind, BTreeSet<String>>,
    /// The kinds that were listed in full once.
    known: BTreeSet<Kind>,
    maps: Queue<String>,
    statuses: Queue<PolicyKey>,
    written: BTreeMap<PolicyKey, Duration>,
    /// When each policy's status was worked out last, which takes a look at every node.
    looked: BTreeMap<PolicyKey, Duration>,
    trims: BTreeMap<String, Surplus>,
    trimming: BTreeSet<String>,
    trim_at: Duration,
    breaker: Breaker,
    /// The breaker's object, as it was read or written last, and whether it is being written.
    breaker_there: Option<BreakerObject>,
    breaker_doing: bool,
    wall: Wall,
    tell: Budget,
    doing: FuturesUnordered<BoxFuture<'a, Done>>,
}

/// Runs a term until it is dropped.
pub async fn run(setting: &Setting) {
    let (to, mut said) = mpsc::channel(1024);
    let _watches = watch_all(&setting.client, &to);
    let mut term = Term {
        setting,
        index: Index::new(setting.defaults),
        events: Events::default(),
        listing: BTreeMap::new(),
        known: BTreeSet::new(),
        maps: Queue::default(),
        statuses: Queue::default(),
        written: BTreeMap::new(),
        looked: BTreeMap::new(),
        trims: BTreeMap::new(),
        trimming: BTreeSet::new(),
        trim_at: Duration::ZERO,
        breaker: Breaker::new(setting.caps, setting.breaker),
        breaker_there: None,
        breaker_doing: false,
        wall: Wall::new(Timestamp::now(), setting.clock.now()),
        tell: Budget::new(TELL_BURST, TELL_EVERY),
        doing: FuturesUnordered::new(),
    };
    loop {
        let wake = term.wake();
        tokio::select! {
            Some((kind, one)) = said.recv() => {
                term.hear(kind, one);
                for _ in 0..BATCH {
                    let Ok((kind, one)) = said.try_recv() else { break };
                    term.hear(kind, one);
                }
            }
            Some(done) = term.doing.next(), if !term.doing.is_empty() => term.did(done),
            () = tokio::time::sleep_until(setting.clock.at(wake).into()) => {}
        }
        term.act();
    }
}

impl Term<'_> {
    fn now(&self) -> Duration {
        self.setting.clock.now()
    }

    /// When something is due.
    fn wake(&self) -> Duration {
        let soonest = [self.maps.next_due(), self.statuses.next_due(), Some(self.trim_at)].into_iter().flatten().min();
        let now = self.now();
        // What is due and cannot be begun waits for something on its way.
        soonest.unwrap_or(now).max(now + Duration::from_millis(50))
    }

    fn hear(&mut self, kind: Kind, said: Said) {
        match said {
            Said::Begin => {
                self.setting.metrics.lists.get_or_create(&word(kind.as_str())).inc();
                self.listing.insert(kind, BTreeSet::new());
            }
            Said::Apply(name, change) => {
                if let Some(there) = self.listing.get_mut(&kind) {
                    there.insert(name.clone());
                }
                self.apply(&name, change);
            }
            Said::Delete(name) => {
                if let Some(there) = self.listing.get_mut(&kind) {
                    there.remove(&name);
                }
                self.delete(kind, &name);
            }
            Said::Done => {
                self.setting.unlisted.listed(kind);
                let there = self.listing.remove(&kind).unwrap_or_default();
                match kind {
                    Kind::Event => {
                        for key in self.events.keys() {
                            if !there.contains(&key) {
                                self.delete(kind, &key);
                            }
                        }
                    }
                    Kind::Breaker if !there.contains(BREAKER) => self.delete(kind, BREAKER),
                    _ => self.index.reset(kind, &there),
                }
                if kind == Kind::Breaker && !self.known.contains(&kind) {
                    self.adopt_breaker();
                }
                if self.known.insert(kind) && self.known.len() == Kind::ALL.len() {
                    tracing::info!("everything is known");
                }
            }
            Said::Failed { error, listing } => {
                if listing {
                    // Nothing waits for the breaker.
                    if kind != Kind::Breaker {
                        self.setting.unlisted.failed(kind, &error, self.now());
                    }
                }
                self.setting.metrics.watch_failures.get_or_create(&word(kind.as_str())).inc();
                tracing::warn!(kind = kind.as_str(), error, "a watch failed; it is taken up again");
            }
        }
    }

    fn apply(&mut self, name: &str, change: Change) {
        match change {
            Change::Event(event) => self.events.apply(name, event),
            Change::Breaker(breaker) if name == BREAKER => self.breaker_there = Some(breaker),
            change => self.index.apply(name, change),
        }
    }

    fn delete(&mut self, kind: Kind, name: &str) {
        match kind {
            Kind::Event => {
                self.events.delete(name);
                self.trims.remove(name);
            }
            Kind::Breaker if name == BREAKER => self.breaker_there = None,
            _ => self.index.delete(kind, name),
        }
    }

    fn did(&mut self, done: Done) {
        let now = self.now();
        match done {
            Done::Map(node, result) => {
                self.count("ConfigMap", (*result).as_ref().err());
                let failed = result.is_err();
                match *result {
                    // Sooner than the watch says it.
                    Ok(Some(map)) => {
                        self.index.not_written(&node, None);
                        self.index.apply(&node, Change::from(map));
                    }
                    Ok(None) => self.index.not_written(&node, None),
                    Err(error) => {
                        report(&error);
                        self.index.not_written(&node, error.refusal());
                    }
                }
                self.maps.ended(&node, failed, now);
            }
            Done::Status(key, told, result) => {
                self.count("Status", result.as_ref().err());
                self.statuses.ended(&key, result.is_err(), now);
                self.written.insert(key.clone(), now);
                match result {
                    Ok(()) => self.tell_of(&key, told),
                    Err(error) => report(&error),
                }
            }
            Done::Trimmed(surplus, result) => {
                self.count("DriftEvent", result.as_ref().err());
                self.trimming.remove(&surplus.key);
                match result {
                    Ok(()) => {
                        let why = match surplus.why {
                            Why::Expired => "Expired",
                            Why::NamespaceCap => "NamespaceCap",
                            Why::ClusterCap => "ClusterCap",
                        };
                        self.setting.metrics.trimmed.get_or_create(&word(why)).inc();
                        self.events.delete(&surplus.key);
                        if surplus.why != Why::Expired {
                            self.breaker.trimmed(namespace(&surplus.key), now);
                        }
                    }
                    Err(error) => report(&error),
                }
            }
            Done::Breaker(before, result) => {
                self.count("Breaker", result.as_ref().err());
                self.breaker_doing = false;
                match result {
                    Ok(now) => self.breaker_wrote(&before, now),
                    Err(error) => report(&error),
                }
            }
            Done::Told(result) => {
                self.count("Event", result.as_ref().err());
                if let Err(error) = result {
                    report(&error);
                }
            }
        }
    }

    fn count(&self, object: &'static str, error: Option<&WriteError>) {
        self.setting.metrics.wrote(object, error.map_or("Ok", WriteError::word));
    }
}

fn report(error: &WriteError) {
    if error.is_conflict() {
        tracing::debug!(%error, "another version is there by now");
    } else {
        tracing::warn!(%error, "a write failed; it is tried again");
    }
}
