//! A term as leader: fresh watches into a fresh index, plans out of it, writes of what differs.
//!
//! A term begins with nothing: what an earlier one knew may be old. It ends by being dropped.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use futures::{FutureExt as _, StreamExt as _};
use k8s_openapi::api::core::v1::{ConfigMap, ObjectReference};
use k8s_openapi::jiff::Timestamp;
use kube::Client;
use mooring_crd::access::NODES_NAMESPACE;
use mooring_policy::NodeDefaults;
use tokio::sync::mpsc;

use crate::index::{Index, Node, Notice, PolicyKey, Write};
use crate::leader::{Clock, Leadership};
use crate::metrics::{Metrics, word};
use crate::objects::{Change, Kind};
use crate::queue::{Budget, Queue};
use crate::retention::{Caps, Events, Surplus, Wall, Why};
use crate::status::{only_figures_differ, status};
use crate::tell::{Told, about_map, changes, reference};
use crate::watch::{Said, watch_all};
use crate::write::{WriteError, Writer};

/// Requests of a kind that are on their way at a time.
const AT_ONCE: usize = 16;
/// Between two writes of one policy's status; and where only figures moved.
const STATUS_PAUSE: Duration = Duration::from_secs(1);
const FIGURES_PAUSE: Duration = Duration::from_secs(30);
/// Between two looks at how many events there are.
const RETENTION_PAUSE: Duration = Duration::from_secs(2);
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
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// For what policies leave unset.
    pub defaults: NodeDefaults,
    /// How many `DriftEvent`s there may be.
    pub caps: Caps,
}

/// Something that was written, or not.
enum Done {
    Map(String, Box<Result<Option<ConfigMap>, WriteError>>),
    Status(PolicyKey, Vec<Told>, Result<(), WriteError>),
    Trimmed(Surplus, Result<(), WriteError>),
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
                let there = self.listing.remove(&kind).unwrap_or_default();
                if kind == Kind::Event {
                    for key in self.events.keys() {
                        if !there.contains(&key) {
                            self.delete(kind, &key);
                        }
                    }
                } else {
                    self.index.reset(kind, &there);
                }
                if self.known.insert(kind) && self.known.len() == Kind::ALL.len() {
                    tracing::info!("everything is known");
                }
            }
            Said::Failed(error) => {
                self.setting.metrics.watch_failures.get_or_create(&word(kind.as_str())).inc();
                tracing::warn!(kind = kind.as_str(), error, "a watch failed; it is taken up again");
            }
        }
    }

    fn apply(&mut self, name: &str, change: Change) {
        match change {
            Change::Event(event) => self.events.apply(name, event),
            change => self.index.apply(name, change),
        }
    }

    fn delete(&mut self, kind: Kind, name: &str) {
        if kind == Kind::Event {
            self.events.delete(name);
            self.trims.remove(name);
        } else {
            self.index.delete(kind, name);
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
                    Ok(Some(map)) => self.index.apply(&node, Change::from(map)),
                    Ok(None) => {}
                    Err(error) => report(&error),
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
                    }
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

    /// Plans, and begins what is due.
    fn act(&mut self) {
        // Before all of it is known, what is missing looks like what was deleted.
        if [Kind::Policy, Kind::Node, Kind::ConfigMap].iter().all(|kind| self.known.contains(kind)) {
            self.plan();
            self.begin_maps();
        }
        if self.known.len() == Kind::ALL.len() {
            self.begin_statuses();
            self.trim();
        }
        for notice in self.index.take_notices() {
            self.notice(&notice);
        }
    }

    fn plan(&mut self) {
        let begun = self.now();
        let planned = self.index.plan();
        if planned.is_empty() {
            return;
        }
        for node in planned {
            if self.index.nodes().get(&node).is_none_or(Node::is_settled) {
                self.maps.remove(&node);
            } else {
                self.maps.add(node, begun);
            }
        }
        let took = self.now().saturating_sub(begun);
        self.setting.metrics.plan_seconds.observe(took.as_secs_f64());
        self.setting
            .metrics
            .nodes
            .get_or_create(&word("waiting"))
            .set(i64::try_from(self.maps.len()).unwrap_or(i64::MAX));
    }

    fn count_objects(&self) {
        for kind in Kind::ALL {
            let known = if kind == Kind::Event { self.events.len() } else { self.index.names(kind).len() };
            let known = i64::try_from(known).unwrap_or(i64::MAX);
            self.setting.metrics.objects.get_or_create(&word(kind.as_str())).set(known);
        }
    }

    fn begin_maps(&mut self) {
        let now = self.now();
        // Without the lease nothing is begun, and everything stays due.
        while self.maps.doing() < AT_ONCE && self.setting.leadership.holds() {
            let Some(name) = self.maps.take_due(now) else { break };
            let write = self.index.nodes().get(&name).and_then(Node::write);
            let Some(write) = write else {
                self.maps.ended(&name, false, now);
                continue;
            };
            say(&name, &write);
            let writer = &self.setting.writer;
            let work = async move {
                let result = writer.config_map(&name, write).await;
                Done::Map(name, Box::new(result))
            };
            self.doing.push(work.boxed());
        }
    }

    fn begin_statuses(&mut self) {
        let now = self.now();
        for key in self.index.take_dirty_policies() {
            let at = self.looked.get(&key).map_or(now, |looked| now.max(*looked + STATUS_PAUSE));
            self.statuses.add(key, at);
        }
        while self.statuses.doing() < AT_ONCE && self.setting.leadership.holds() {
            let Some(key) = self.statuses.take_due(now) else { break };
            let Some(policy) = self.index.policies().get(&key) else {
                self.statuses.ended(&key, false, now);
                continue;
            };
            self.looked.insert(key.clone(), now);
            let new = status(&self.index, &key, policy, Timestamp::now());
            let pause = if only_figures_differ(&new, &policy.status) { FIGURES_PAUSE } else { STATUS_PAUSE };
            let due = self.written.get(&key).map_or(now, |written| *written + pause);
            if new == policy.status {
                self.statuses.ended(&key, false, now);
                continue;
            }
            if due > now {
                self.statuses.ended(&key, false, now);
                self.statuses.add(key, due);
                continue;
            }
            let (told, version) = (changes(&policy.status, &new), policy.resource_version.clone());
            let writer = &self.setting.writer;
            let work = async move {
                let result = writer.status(&key.1, version, &new).await;
                Done::Status(key, told, result)
            };
            self.doing.push(work.boxed());
        }
    }

    fn trim(&mut self) {
        let now = self.now();
        if now >= self.trim_at {
            self.trim_at = now + RETENTION_PAUSE;
            let surplus = self.events.surplus(self.wall.at_most(Timestamp::now(), now), self.setting.caps);
            self.count_objects();
            self.written.retain(|key, _| self.index.policies().contains_key(key));
            self.looked.retain(|key, _| self.index.policies().contains_key(key));
            self.trims = surplus.into_iter().map(|one| (one.key.clone(), one)).collect();
        }
        while self.trimming.len() < AT_ONCE && self.setting.leadership.holds() {
            let Some((key, surplus)) = self.trims.pop_first() else { break };
            if !self.trimming.insert(key) {
                continue;
            }
            let writer = &self.setting.writer;
            let work = async move {
                let result = writer.delete_event(&surplus.key, surplus.uid.clone()).await;
                Done::Trimmed(surplus, result)
            };
            self.doing.push(work.boxed());
        }
    }

    fn notice(&mut self, notice: &Notice) {
        let (node, told) = about_map(notice);
        tracing::warn!(node, reason = told.reason, "{}", told.note);
        let observed = self.index.nodes().get(node).and_then(|node| node.observed.as_ref());
        let about = ObjectReference {
            api_version: Some("v1".to_owned()),
            kind: Some("ConfigMap".to_owned()),
            name: Some(node.clone()),
            namespace: Some(NODES_NAMESPACE.to_owned()),
            uid: observed.map(|observed| observed.uid.clone()),
            ..ObjectReference::default()
        };
        self.tell(about, told);
    }

    /// Tells people what changed for a policy.
    fn tell_of(&mut self, key: &PolicyKey, told: Vec<Told>) {
        let Some(policy) = self.index.policies().get(key) else { return };
        let about = reference(key, policy);
        for told in told {
            self.tell(about.clone(), told);
        }
    }

    fn tell(&mut self, about: ObjectReference, told: Told) {
        let now = self.now();
        if !self.setting.leadership.holds() || !self.tell.take(now) {
            return;
        }
        let writer = &self.setting.writer;
        let work = async move { Done::Told(writer.tell(about, told, Timestamp::now()).await) };
        self.doing.push(work.boxed());
    }
}

fn say(node: &str, write: &Write) {
    match write {
        Write::Create { revision, content, .. } => {
            tracing::info!(node, revision, policies = content.fragments.len(), "its ConfigMap is made");
        }
        Write::Replace { revision, content, .. } => {
            tracing::info!(node, revision, policies = content.fragments.len(), "its ConfigMap is replaced");
        }
        Write::Delete { .. } => tracing::info!(node, "its ConfigMap goes with it"),
    }
}

fn report(error: &WriteError) {
    if error.is_conflict() {
        tracing::debug!(%error, "another version is there by now");
    } else {
        tracing::warn!(%error, "a write failed; it is tried again");
    }
}
