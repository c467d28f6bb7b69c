//! A node: what it is to have, what it has, and what follows from the two.

use std::collections::VecDeque;
use std::sync::Arc;

use mooring_crd::DriftNodeStatus;
use mooring_policy::select::Labels;

use super::PolicyKey;
use super::plan::Matching;
use crate::content::{Content, NoRoom};

/// A node's `ConfigMap`, as it is at the API server.
#[derive(Clone, Debug, PartialEq)]
pub struct Observed {
    /// Its uid.
    pub uid: String,
    /// The version that a write must carry.
    pub resource_version: String,
    /// The uid of the Node that owns it.
    pub owner: Option<String>,
    /// Whom it belongs to, where that is neither a Node of its name nor nobody: it is not overwritten.
    pub foreign: Option<String>,
    /// Whether it has the operator's labels.
    pub labelled: bool,
    /// Whether it asks the node to take everything down: whoever asked for that is no longer there when this process leads.
    pub release: bool,
    /// The digest that it states.
    pub digest: String,
    /// Its revision; 0 where it cannot be read.
    pub revision: u64,
    /// Its content, where it is what its digest says and all of it can be applied.
    pub content: Option<Arc<Content>>,
}

/// A node.
#[derive(Clone, Debug, Default)]
pub struct Node {
    /// The uid of its Node; none where there is none (any more).
    pub uid: Option<String>,
    /// What it is to have; none before the first plan.
    pub desired: Option<Arc<Content>>,
    /// What it has.
    pub observed: Option<Observed>,
    /// Policies that it has no room for.
    pub refused: Arc<[(PolicyKey, NoRoom)]>,
    /// What its agent reports; none where it never did. Text where that cannot be read.
    pub report: Option<Result<DriftNodeStatus, String>>,
    /// What the API server said against its `ConfigMap` last.
    pub refusal: Option<String>,
    /// How many of its agents' pods are ready.
    pub agents_ready: usize,
    pub(super) labels: Labels,
    /// Whether it came, or its labels changed, since the last plan.
    pub(super) is_new: bool,
    /// The policies that concern it, in their order; as of the last plan.
    pub(super) matching: Matching,
    /// Contents that it had, by digest, the latest last.
    pub(super) remembered: VecDeque<(String, Arc<Content>)>,
    /// The highest revision that it ever had.
    pub(super) revision: u64,
}

impl Node {
    /// Whether a policy concerned it when it was planned last.
    #[must_use]
    pub fn has_policy(&self, key: &PolicyKey) -> bool {
        self.matching.contains(key)
    }

    /// The content with this digest, if it is one of the node's last few.
    #[must_use]
    pub fn content_of(&self, digest: &str) -> Option<&Arc<Content>> {
        self.remembered.iter().rev().find(|(known, _)| known == digest).map(|(_, content)| content)
    }

    /// Whether it has what it is to have.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        self.write().is_none()
    }

    /// What must be written; nothing where nothing differs, or where it must not be touched.
    #[must_use]
    pub fn write(&self) -> Option<Write> {
        let Some(uid) = &self.uid else {
            let observed = self.observed.as_ref().filter(|observed| observed.foreign.is_none() && observed.labelled)?;
            let (uid, resource_version) = (observed.uid.clone(), observed.resource_version.clone());
            return Some(Write::Delete { uid, resource_version });
        };
        let content = self.desired.clone()?;
        let revision = self.revision + 1;
        let Some(observed) = &self.observed else {
            return Some(Write::Create { owner: uid.clone(), revision, content });
        };
        let right = observed.content.as_ref() == Some(&content)
            && observed.owner.as_ref() == Some(uid)
            && observed.labelled
            && !observed.release;
        if right || observed.foreign.is_some() {
            return None;
        }
        let resource_version = observed.resource_version.clone();
        Some(Write::Replace { owner: uid.clone(), revision, content, resource_version })
    }

    pub(super) fn is_nothing(&self) -> bool {
        self.uid.is_none() && self.observed.is_none() && self.report.is_none() && self.agents_ready == 0
    }
}

/// A write of a node's `ConfigMap`.
#[derive(Clone, Debug, PartialEq)]
pub enum Write {
    /// There is none.
    Create {
        /// The uid of the Node.
        owner: String,
        /// Its revision.
        revision: u64,
        /// Its content.
        content: Arc<Content>,
    },
    /// There is another.
    Replace {
        /// The uid of the Node.
        owner: String,
        /// Its revision.
        revision: u64,
        /// Its content.
        content: Arc<Content>,
        /// The version that it replaces, and no other.
        resource_version: String,
    },
    /// There is one, and no node.
    Delete {
        /// The uid that it must have.
        uid: String,
        /// The version that it must have.
        resource_version: String,
    },
}

/// Whether `new` is an earlier version of the same object than `known`. Versions of one object can be compared as numbers
/// (Kubernetes from 1.35 on promises it); where they are none, nothing is older.
pub(super) fn is_older(new: &Observed, known: Option<&Observed>) -> bool {
    let Some(known) = known.filter(|known| known.uid == new.uid) else { return false };
    match (new.resource_version.parse::<u64>(), known.resource_version.parse::<u64>()) {
        (Ok(new), Ok(known)) => new < known,
        _ => false,
    }
}
