//! What the operator knows of the cluster, and what follows from it for each node.
//!
//! `apply`, `delete` and `reset` take what the watches say, in any order; [`Index::plan`] then says what each node that something
//! changed for is to have. No clock and no I/O.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use k8s_openapi::jiff::Timestamp;
use mooring_crd::ContainerDriftPolicyStatus;
use mooring_policy::node_rules::asks_for_release;
use mooring_policy::select::Labels;
use mooring_policy::{NodeDefaults, NodePolicyEntry};

use crate::content::{Content, Fragment, Fragments, NodeScope};
use crate::objects::{Change, ConfigMapObject, Kind, PolicyObject};

mod node;
mod plan;

use node::is_older;
pub use node::{Node, Observed, Write};
use plan::Sets;

/// The order of policies: by creation time, then name.
pub type PolicyKey = (Option<Timestamp>, Arc<str>);

/// How many contents of a node are remembered by their digest: what its agent applies may be one or two behind.
const REMEMBERED: usize = 4;

/// What became of a policy by itself.
#[derive(Clone, Debug)]
pub enum Wording {
    /// It can be applied.
    Good(Arc<Fragment>),
    /// It is accepted, and not enabled.
    Disabled,
    /// It is refused, and why.
    Refused(String),
}

/// A policy.
#[derive(Clone, Debug)]
pub struct Policy {
    /// Its uid.
    pub uid: Option<String>,
    /// Its generation.
    pub generation: i64,
    /// The version that a write of its status must carry.
    pub resource_version: String,
    /// What became of it by itself.
    pub wording: Wording,
    /// Its status, as it is at the API server.
    pub status: ContainerDriftPolicyStatus,
    nodes: NodeScope,
}

impl Policy {
    fn concerns(&self, labels: &Labels) -> bool {
        matches!(self.wording, Wording::Good(_)) && self.nodes.concerns(labels)
    }
}

/// Something that a person should know, seen while taking a change in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notice {
    /// A node's `ConfigMap` was edited by somebody else.
    Edited(String),
    /// A node's `ConfigMap` was deleted by somebody else.
    Deleted(String),
    /// A node's `ConfigMap` belongs to something else: the node, and to whom.
    Foreign(String, String),
}

/// What the operator knows.
#[derive(Debug, Default)]
pub struct Index {
    defaults: NodeDefaults,
    fragments: Fragments,
    policies: BTreeMap<PolicyKey, Policy>,
    keys: BTreeMap<Arc<str>, PolicyKey>,
    nodes: BTreeMap<String, Node>,
    agents: BTreeMap<String, (String, bool)>,
    sets: Sets,
    /// Policies that came, changed or went since the last plan.
    changed: BTreeSet<PolicyKey>,
    dirty_nodes: BTreeSet<String>,
    dirty_policies: BTreeSet<PolicyKey>,
    notices: Vec<Notice>,
}

impl Index {
    /// Nothing is known.
    #[must_use]
    pub fn new(defaults: NodeDefaults) -> Self {
        Self { defaults, ..Self::default() }
    }

    /// The policies, oldest first.
    #[must_use]
    pub fn policies(&self) -> &BTreeMap<PolicyKey, Policy> {
        &self.policies
    }

    /// A policy by its name.
    #[must_use]
    pub fn policy(&self, name: &str) -> Option<(&PolicyKey, &Policy)> {
        self.policies.get_key_value(self.keys.get(name)?)
    }

    /// The nodes, by name.
    #[must_use]
    pub fn nodes(&self) -> &BTreeMap<String, Node> {
        &self.nodes
    }

    /// What people should know since it was asked last.
    pub fn take_notices(&mut self) -> Vec<Notice> {
        std::mem::take(&mut self.notices)
    }

    /// The policies whose status may have changed since it was asked last.
    pub fn take_dirty_policies(&mut self) -> BTreeSet<PolicyKey> {
        std::mem::take(&mut self.dirty_policies)
    }

    /// The names of all objects of a kind.
    #[must_use]
    pub fn names(&self, kind: Kind) -> Vec<String> {
        let of = |has: fn(&Node) -> bool| {
            self.nodes.iter().filter(|(_, node)| has(node)).map(|(name, _)| name.clone()).collect()
        };
        match kind {
            Kind::Policy => self.keys.keys().map(ToString::to_string).collect(),
            Kind::Node => of(|node| node.uid.is_some()),
            Kind::ConfigMap => of(|node| node.observed.is_some()),
            Kind::Report => of(|node| node.report.is_some()),
            Kind::Agent => self.agents.keys().cloned().collect(),
            // Kept elsewhere.
            Kind::Event | Kind::Breaker => Vec::new(),
        }
    }

    /// Takes in an object as it is now.
    pub fn apply(&mut self, name: &str, change: Change) {
        match change {
            Change::Policy(policy) => self.apply_policy(name, *policy),
            Change::Node { uid, labels } => self.apply_node(name, uid, labels),
            Change::ConfigMap(object) => self.apply_config_map(name, *object),
            Change::Report(report) => {
                let node = self.nodes.entry(name.to_owned()).or_default();
                if node.report.as_ref() != Some(&*report) {
                    node.report = Some(*report);
                    self.touch_policies_of(name);
                }
            }
            Change::Agent { node, ready } => {
                self.set_agent(name, Some((node, ready)));
            }
            Change::Event(_) | Change::Breaker(_) => {}
        }
    }

    /// Takes in that an object is gone.
    pub fn delete(&mut self, kind: Kind, name: &str) {
        match kind {
            Kind::Policy => self.delete_policy(name),
            Kind::Node => {
                if let Some(node) = self.nodes.get_mut(name) {
                    node.uid = None;
                    node.labels.clear();
                    node.desired = None;
                    node.refused = Arc::default();
                    let concerned = std::mem::take(&mut node.matching);
                    self.dirty_policies.extend(concerned.iter().cloned());
                    self.dirty_nodes.insert(name.to_owned());
                }
            }
            Kind::ConfigMap => {
                if let Some(node) = self.nodes.get_mut(name) {
                    if node.uid.is_some() && node.observed.is_some() && node.is_settled() {
                        self.notices.push(Notice::Deleted(name.to_owned()));
                    }
                    node.observed = None;
                    self.dirty_nodes.insert(name.to_owned());
                }
            }
            Kind::Report => {
                if let Some(node) = self.nodes.get_mut(name) {
                    node.report = None;
                    self.touch_policies_of(name);
                }
            }
            Kind::Agent => self.set_agent(name, None),
            Kind::Event | Kind::Breaker => {}
        }
        if self.nodes.get(name).is_some_and(Node::is_nothing) {
            self.nodes.remove(name);
        }
    }

    /// Takes in what the API server said against a node's `ConfigMap`; nothing where it took it, or was not heard.
    pub fn not_written(&mut self, node: &str, refusal: Option<String>) {
        if let Some(there) = self.nodes.get_mut(node)
            && there.refusal != refusal
        {
            there.refusal = refusal;
            self.touch_policies_of(node);
        }
    }

    /// Takes in that these are all objects of a kind that there are.
    pub fn reset(&mut self, kind: Kind, there: &BTreeSet<String>) {
        for name in self.names(kind) {
            if !there.contains(&name) {
                self.delete(kind, &name);
            }
        }
    }

    fn apply_policy(&mut self, name: &str, object: PolicyObject) {
        let name: Arc<str> = name.into();
        let key: PolicyKey = (object.created, name.clone());
        let known = self.keys.get(&name).and_then(|key| self.policies.get(key));
        if let Some(known) = known {
            if known.uid != object.uid {
                self.delete_policy(&name);
            } else if known.generation == object.generation
                && object.spec.is_ok()
                && !matches!(known.wording, Wording::Refused(_))
            {
                // Its status, or what means nothing here.
                if let Some(known) = self.policies.get_mut(&key) {
                    known.resource_version = object.resource_version;
                    known.status = object.status;
                }
                self.dirty_policies.insert(key);
                return;
            }
        }
        let (wording, nodes) = match object.spec {
            Err(unreadable) => (Wording::Refused(unreadable), NodeScope::default()),
            Ok(spec) => {
                let nodes = NodeScope::of(&spec.scope);
                let entry = NodePolicyEntry { name: name.to_string(), uid: object.uid.clone(), spec: *spec };
                let wording = match self.fragments.of_entry(entry, self.defaults) {
                    Ok(Some(fragment)) => Wording::Good(fragment),
                    Ok(None) => Wording::Disabled,
                    Err(error) => Wording::Refused(error.to_string()),
                };
                (wording, nodes)
            }
        };
        let policy = Policy {
            uid: object.uid,
            generation: object.generation,
            resource_version: object.resource_version,
            wording,
            status: object.status,
            nodes,
        };
        self.keys.insert(name, key.clone());
        self.policies.insert(key.clone(), policy);
        self.changed.insert(key.clone());
        self.dirty_policies.insert(key);
    }

    fn delete_policy(&mut self, name: &str) {
        let Some(key) = self.keys.remove(name) else { return };
        self.policies.remove(&key);
        self.dirty_policies.remove(&key);
        self.changed.insert(key);
    }

    fn apply_node(&mut self, name: &str, uid: String, labels: Labels) {
        let node = self.nodes.entry(name.to_owned()).or_default();
        if node.uid.as_ref() == Some(&uid) && node.labels == labels {
            return;
        }
        if node.uid.as_ref() != Some(&uid) {
            node.desired = None;
        }
        node.uid = Some(uid);
        node.labels = labels;
        node.is_new = true;
        self.touch_policies_of(name);
        self.dirty_nodes.insert(name.to_owned());
    }

    fn apply_config_map(&mut self, name: &str, object: ConfigMapObject) {
        let (decoded, digest) = match Content::decode(&object.data, &mut self.fragments) {
            Ok((decoded, digest)) => (Some(decoded), digest),
            Err(_) => (None, String::new()),
        };
        let observed = Observed {
            uid: object.uid,
            resource_version: object.resource_version,
            owner: object.owner,
            foreign: object.foreign,
            labelled: object.labelled,
            release: asks_for_release(&object.data),
            digest,
            revision: decoded.as_ref().map(|decoded| decoded.revision).unwrap_or_default(),
            content: decoded.and_then(|decoded| decoded.content),
        };
        let node = self.nodes.entry(name.to_owned()).or_default();
        if node.observed.as_ref() == Some(&observed) {
            return;
        }
        // The watch may still tell what was there before our own last write.
        if is_older(&observed, node.observed.as_ref()) {
            return;
        }
        let was_settled = node.observed.is_some() && node.uid.is_some() && node.is_settled();
        let was_foreign = node.observed.as_ref().is_some_and(|observed| observed.foreign.is_some());
        node.revision = node.revision.max(observed.revision);
        if let Some(content) = &observed.content {
            node.remembered.retain(|(digest, _)| *digest != observed.digest);
            node.remembered.push_back((observed.digest.clone(), content.clone()));
            if node.remembered.len() > REMEMBERED {
                node.remembered.pop_front();
            }
        }
        if let Some(to) = observed.foreign.clone().filter(|_| !was_foreign) {
            self.notices.push(Notice::Foreign(name.to_owned(), to));
        }
        node.observed = Some(observed);
        if was_settled && !was_foreign && !node.is_settled() {
            self.notices.push(Notice::Edited(name.to_owned()));
        }
        self.dirty_nodes.insert(name.to_owned());
        self.touch_policies_of(name);
    }

    fn set_agent(&mut self, pod: &str, to: Option<(String, bool)>) {
        let before = self.agents.get(pod).cloned();
        if before == to {
            return;
        }
        for (change, agent) in [(-1_isize, &before), (1, &to)] {
            if let Some((node_name, true)) = agent {
                let node = self.nodes.entry(node_name.clone()).or_default();
                node.agents_ready = node.agents_ready.saturating_add_signed(change);
                let node_name = node_name.clone();
                self.touch_policies_of(&node_name);
                if self.nodes.get(&node_name).is_some_and(Node::is_nothing) {
                    self.nodes.remove(&node_name);
                }
            }
        }
        match to {
            Some(agent) => self.agents.insert(pod.to_owned(), agent),
            None => self.agents.remove(pod),
        };
    }

    fn touch_policies_of(&mut self, node: &str) {
        if let Some(node) = self.nodes.get(node) {
            self.dirty_policies.extend(node.matching.iter().cloned());
        }
    }
}
