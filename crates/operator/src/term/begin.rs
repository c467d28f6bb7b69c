//! What a term begins: plans, and the writes that are due.

use std::time::Duration;

use futures::FutureExt as _;
use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::jiff::Timestamp;
use mooring_crd::Backend;
use mooring_crd::access::NODES_NAMESPACE;

use super::{Done, Term};
use crate::index::{Node, Notice, PolicyKey, Write};
use crate::metrics::word;
use crate::objects::{BreakerObject, Kind};
use crate::status::{only_figures_differ, status};
use crate::tell::{Told, about_breaker, about_map, changes, reference};

/// Requests of a kind that are on their way at a time.
const AT_ONCE: usize = 16;
/// Between two writes of one policy's status; and where only figures moved.
const STATUS_PAUSE: Duration = Duration::from_secs(1);
const FIGURES_PAUSE: Duration = Duration::from_secs(30);
/// Between two looks at how many events there are.
const RETENTION_PAUSE: Duration = Duration::from_secs(2);

impl Term<'_> {
    /// Plans, and begins what is due.
    pub(super) fn act(&mut self) {
        // Before all of it is known, what is missing looks like what was deleted.
        if self.knows(&[Kind::Policy, Kind::Node, Kind::ConfigMap]) {
            self.plan();
            self.begin_maps();
        }
        // Nor does anything wait for the breaker but itself.
        if Kind::ALL.iter().all(|kind| *kind == Kind::Breaker || self.known.contains(kind)) {
            self.begin_statuses();
            self.trim();
        }
        for notice in self.index.take_notices() {
            self.notice(&notice);
        }
    }

    fn knows(&self, kinds: &[Kind]) -> bool {
        kinds.iter().all(|kind| self.known.contains(kind))
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
        let reported = |node: &Node| node.report.as_ref()?.as_ref().ok()?.backend;
        for backend in Backend::ALL {
            let nodes = self.index.nodes().values().filter(|node| reported(node) == Some(*backend)).count();
            let nodes = i64::try_from(nodes).unwrap_or(i64::MAX);
            self.setting.metrics.backends.get_or_create(&word(backend.as_str())).set(nodes);
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
            self.begin_breaker();
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

    /// Writes where agents are to make no events, where that is news.
    fn begin_breaker(&mut self) {
        let closed = self.breaker.closed(self.now());
        self.setting.metrics.breaker.set(i64::try_from(closed.len()).unwrap_or(i64::MAX));
        let there = self.breaker_there.clone();
        let before = there.as_ref().map(|there| there.namespaces.clone()).unwrap_or_default();
        let is_news = before != closed;
        if !is_news || self.breaker_doing || !self.knows(&[Kind::Breaker]) || !self.setting.leadership.holds() {
            return;
        }
        self.breaker_doing = true;
        let writer = &self.setting.writer;
        let work = async move { Done::Breaker(before, writer.breaker(there, closed).await) };
        self.doing.push(work.boxed());
    }

    /// Goes on where another operator, or an earlier term, left off.
    pub(super) fn adopt_breaker(&mut self) {
        let now = self.now();
        for namespace in self.breaker_there.iter().flat_map(|there| &there.namespaces) {
            self.breaker.adopt(namespace, now);
        }
    }

    pub(super) fn breaker_wrote(&mut self, before: &[String], now: BreakerObject) {
        let (about, told) = about_breaker(now.uid.clone(), before, &now.namespaces);
        self.breaker_there = Some(now);
        for told in told {
            tracing::warn!(reason = told.reason, "{}", told.note);
            self.tell(about.clone(), told);
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
    pub(super) fn tell_of(&mut self, key: &PolicyKey, told: Vec<Told>) {
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
