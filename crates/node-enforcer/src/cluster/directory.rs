//! The labels of this node's pods and of namespaces, and how the pods' containers are to be stopped, as far as it is known.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::agent::{Labels, PodLabels, Surroundings};
use crate::containers::Container;
use crate::response::StopSignal;

/// Labels that are kept by the thousand: a map has room to grow that these never need.
type Packed = Box<[(Box<str>, Box<str>)]>;

fn pack(labels: Labels) -> Packed {
    labels.into_iter().map(|(key, value)| (key.into_boxed_str(), value.into_boxed_str())).collect()
}

fn unpack(labels: &Packed) -> Labels {
    labels.iter().map(|(key, value)| (key.to_string(), value.to_string())).collect()
}

/// Bytes of one object's labels that are kept. A tenant may give an object a million, and what is kept of all must stay readable.
const LABELS_MAX: usize = 8 << 10;

fn bytes(labels: &Labels) -> usize {
    labels.iter().map(|(key, value)| key.len() + value.len()).sum()
}

/// What is kept of a pod.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PodFacts {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its labels.
    #[serde(default)]
    pub labels: Labels,
    /// Its labels when it was first seen, where they were others.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_labels: Option<Labels>,
    /// Its labels were too long once to be kept: they are taken for unknown, which is on the side of every policy.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub overlong: bool,
    /// Of a static pod: what its cgroup and its containers are called by, instead of its uid.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub static_uid: Option<String>,
    /// The signals by which its containers are to be stopped, by their names, where the pod says it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub stop_signals: BTreeMap<String, StopSignal>,
}

#[derive(Debug)]
struct Pod {
    facts: PodFacts,
    /// Its object is gone; its containers may not be.
    gone: bool,
}

/// Pods by uid and namespaces by name, and which of them have changed since somebody looked.
#[derive(Debug, Default)]
pub struct Directory {
    pods: BTreeMap<String, Pod>,
    /// By the uid that a static pod's containers have: its mirror pod, the one before it, and whatever says that it is one.
    static_pods: BTreeMap<String, BTreeSet<String>>,
    namespaces: BTreeMap<Box<str>, Packed>,
    /// While a list is read: what was in it so far.
    listed_pods: Option<BTreeSet<String>>,
    listed_namespaces: Option<BTreeSet<Box<str>>>,
    changed_pods: BTreeSet<String>,
    changed_namespaces: BTreeSet<String>,
    /// Counts the changes.
    version: u64,
}

impl Directory {
    /// A pod is there, or has changed.
    pub fn pod(&mut self, uid: String, mut facts: PodFacts) {
        if bytes(&facts.labels) > LABELS_MAX {
            facts.labels.clear();
            facts.overlong = true;
        }
        if let Some(listed) = &mut self.listed_pods {
            listed.insert(uid.clone());
        }
        let before = self.pods.remove(&uid);
        let is_new = before.as_ref().is_none_or(|Pod { facts: before, .. }| {
            (&before.labels, before.overlong, &before.stop_signals)
                != (&facts.labels, facts.overlong, &facts.stop_signals)
        });
        let facts = match before {
            Some(before) => succeed(before.facts, facts),
            None => facts,
        };
        let called = facts.static_uid.clone();
        if let Some(called) = &called {
            self.static_pods.entry(called.clone()).or_default().insert(uid.clone());
        }
        self.pods.insert(uid.clone(), Pod { facts, gone: false });
        if is_new {
            self.changed_pods.insert(called.unwrap_or(uid));
            self.version += 1;
        }
    }

    /// A pod's object is gone. It is kept until it has no container: they do not become unknown.
    pub fn pod_gone(&mut self, uid: &str) {
        if let Some(pod) = self.pods.get_mut(uid) {
            pod.gone = true;
            self.changed_pods.insert(pod.facts.static_uid.clone().unwrap_or_else(|| uid.to_owned()));
        }
    }

    /// The pod that containers call by this uid has no container (any more).
    pub fn without_containers(&mut self, called: &str) {
        let mirrors = self.static_pods.get(called).cloned().unwrap_or_default();
        for uid in mirrors.iter().map(String::as_str).chain([called]) {
            if self.pods.get(uid).is_some_and(|pod| pod.gone) {
                self.pods.remove(uid);
                self.static_pods.retain(|_, of| {
                    of.remove(uid);
                    !of.is_empty()
                });
                self.version += 1;
            }
        }
    }

    /// A list of all pods begins.
    pub fn pods_begin(&mut self) {
        self.listed_pods = Some(BTreeSet::new());
    }

    /// It is complete: what was not in it is gone.
    pub fn pods_complete(&mut self) {
        let Some(listed) = self.listed_pods.take() else { return };
        let gone: Vec<String> = self.pods.keys().filter(|uid| !listed.contains(*uid)).cloned().collect();
        for uid in gone {
            self.pod_gone(&uid);
        }
    }

    /// A namespace is there, or has changed.
    pub fn namespace(&mut self, name: &str, labels: Labels) {
        if let Some(listed) = &mut self.listed_namespaces {
            listed.insert(name.into());
        }
        let mut labels = labels;
        // Its name says it, and is what selectors are told.
        labels.remove("kubernetes.io/metadata.name");
        if bytes(&labels) > LABELS_MAX {
            return self.namespace_gone(name);
        }
        let labels = pack(labels);
        if self.namespaces.get(name) != Some(&labels) {
            self.namespaces.insert(name.into(), labels);
            self.changed_namespaces.insert(name.to_owned());
            self.version += 1;
        }
    }

    /// A namespace is gone, and with it everything in it.
    pub fn namespace_gone(&mut self, name: &str) {
        if self.namespaces.remove(name).is_some() {
            self.version += 1;
        }
    }

    /// A list of all namespaces begins.
    pub fn namespaces_begin(&mut self) {
        self.listed_namespaces = Some(BTreeSet::new());
    }

    /// It is complete: what was not in it is gone.
    pub fn namespaces_complete(&mut self) {
        let Some(listed) = self.listed_namespaces.take() else { return };
        self.namespaces.retain(|name, _| listed.contains(name));
    }

    /// Pods (by what their containers call them) and namespaces that have changed since this was asked last.
    pub fn take_changed(&mut self) -> (BTreeSet<String>, BTreeSet<String>) {
        (std::mem::take(&mut self.changed_pods), std::mem::take(&mut self.changed_namespaces))
    }

    /// Another number after every change.
    #[must_use]
    pub fn version(&self) -> u64 {
        self.version
    }

    /// What is known round a container.
    #[must_use]
    pub fn surroundings(&self, container: &Container, node: &str) -> Surroundings {
        let Some(uid) = &container.pod_uid else {
            // Nobody's pod: what the runtime says is all there is.
            return Surroundings { node: None, ..Surroundings::of(container, node) };
        };
        let pod = self.pods.get(uid).or_else(|| {
            // Whoever may annotate a pod must not become another one's labels.
            let mirrors = self.static_pods.get(uid)?.iter().filter_map(|uid| self.pods.get(uid));
            let its = |pod: &&Pod| pod.facts.namespace == container.namespace && pod.facts.name == container.pod;
            mirrors.filter(its).min_by_key(|pod| pod.gone)
        });
        let stop_signal = pod.and_then(|pod| pod.facts.stop_signals.get(&container.name)).copied();
        Surroundings {
            namespace: self.namespaces.get(container.namespace.as_str()).map(unpack),
            pod: match pod.map(|pod| &pod.facts) {
                None => PodLabels::Unknown,
                Some(facts) if facts.overlong => PodLabels::Overlong,
                Some(facts) => PodLabels::Known { now: facts.labels.clone(), first: facts.first_labels.clone() },
            },
            node: None,
            stop_signal: stop_signal.unwrap_or_default(),
        }
    }

    /// The pods, and the namespaces that they are in: what a reboot without an API server needs.
    #[must_use]
    pub fn to_be_kept(&self) -> (BTreeMap<String, PodFacts>, BTreeMap<String, Labels>) {
        let pods: BTreeMap<_, _> = self.pods.iter().map(|(uid, pod)| (uid.clone(), pod.facts.clone())).collect();
        let names: BTreeSet<&str> = pods.values().map(|pod| pod.namespace.as_str()).collect();
        let namespaces =
            names.into_iter().filter_map(|name| Some((name.to_owned(), unpack(self.namespaces.get(name)?))));
        let namespaces = namespaces.collect();
        (pods, namespaces)
    }
}

/// A pod keeps the labels that it had first.
fn succeed(before: PodFacts, mut now: PodFacts) -> PodFacts {
    now.overlong |= before.overlong;
    let first = before.first_labels.unwrap_or(before.labels);
    now.first_labels = (first != now.labels).then_some(first);
    now
}

#[cfg(test)]
mod tests;
