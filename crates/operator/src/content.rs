//! What a node's `ConfigMap` holds, revision apart: policies as fragments of JSON that all nodes share.
//!
//! Fifteen thousand nodes with sixty-four policies each are a gigabyte of text, and a few hundred different policies. Each
//! policy is written as JSON once, a content is a list of pointers, and nodes with the same policies share one.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use mooring_crd::{FieldError, Scope};
use mooring_policy::limits::MAX_PATHS;
use mooring_policy::node_rules::MAX_BYTES;
use mooring_policy::select::{Labels, in_scope};
use mooring_policy::{
    Automaton, ListPath, NodeDefaults, NodePolicy, NodePolicyEntry, NodeRules, NodeRulesError, Pattern, Workload,
};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

/// Bytes of a `ConfigMap`'s data beside the policies: keys, digest, the longest revision, the defaults; rounded up.
const FRAME: usize = 256;

/// Sets of patterns of which it is remembered whether they fit.
const KNOWN_MAX: usize = 64;

/// One policy as nodes are handed it.
pub struct Fragment {
    name: String,
    uid: Option<String>,
    nodes: NodeScope,
    paths: Vec<ListPath>,
    patterns: Vec<Pattern>,
    json: Box<RawValue>,
}

impl Fragment {
    /// The policy's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The policy's uid.
    #[must_use]
    pub fn uid(&self) -> Option<&str> {
        self.uid.as_deref()
    }

    /// Bytes in a `ConfigMap`, with the comma.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.json.get().len() + 1
    }

    /// Whether it concerns a node with these labels.
    #[must_use]
    pub fn concerns(&self, labels: &Labels) -> bool {
        self.nodes.concerns(labels)
    }
}

impl fmt::Debug for Fragment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.json.get())
    }
}

/// Which nodes a policy concerns: of its scope, the `nodeSelector` only.
#[derive(Clone, Debug, Default)]
pub struct NodeScope(Scope);

impl NodeScope {
    /// Of a policy's scope.
    #[must_use]
    pub fn of(scope: &Scope) -> Self {
        Self(Scope { node_selector: scope.node_selector.clone(), ..Scope::default() })
    }

    /// Whether a node with these labels is one of them.
    #[must_use]
    pub fn concerns(&self, labels: &Labels) -> bool {
        in_scope(&self.0, &Workload { node_labels: Some(labels), ..Workload::default() })
    }
}

/// Why there is no fragment of a policy.
#[derive(Debug, thiserror::Error)]
pub enum FragmentError {
    /// The policy cannot be compiled.
    #[error("{}", said(.0))]
    Refused(Vec<FieldError>),
    /// It is no policy at all.
    #[error("cannot be read as a policy: {0}")]
    Unreadable(#[from] serde_json::Error),
}

fn said(errors: &[FieldError]) -> String {
    errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

/// Every fragment and every content that is in use, once: equal ones are the same pointer.
#[derive(Debug, Default)]
pub struct Fragments {
    by_text: HashMap<Box<str>, Arc<Fragment>>,
    contents: HashSet<Arc<Content>>,
    sweep_at: usize,
}

impl Fragments {
    /// The fragment of a policy; none where it is accepted and not enabled.
    ///
    /// # Errors
    /// When it cannot be compiled: everything that is wrong with it.
    pub fn of_entry(
        &mut self,
        entry: NodePolicyEntry,
        defaults: NodeDefaults,
    ) -> Result<Option<Arc<Fragment>>, FragmentError> {
        let text = serde_json::to_string(&entry)?;
        if let Some(known) = self.by_text.get(text.as_str()) {
            return Ok(Some(known.clone()));
        }
        let (name, uid) = (entry.name.clone(), entry.uid.clone());
        let nodes = NodeScope::of(&entry.spec.scope);
        let compiled = NodePolicy { revision: 0, defaults, policies: vec![entry] }.compile();
        if let Some(refusal) = compiled.refused.into_iter().next() {
            return Err(FragmentError::Refused(refusal.errors));
        }
        if compiled.rules.policies().is_empty() {
            return Ok(None);
        }
        let paths = compiled.rules.paths().map(|(path, _)| path.clone()).collect();
        let patterns = compiled.rules.patterns().map(|(pattern, _)| pattern.clone()).collect();
        let json = RawValue::from_string(text.clone())?;
        let fragment = Arc::new(Fragment { name, uid, nodes, paths, patterns, json });
        self.sweep();
        self.by_text.insert(text.into(), fragment.clone());
        Ok(Some(fragment))
    }

    fn of_text(&mut self, text: &RawValue, defaults: NodeDefaults) -> Result<Option<Arc<Fragment>>, FragmentError> {
        match self.by_text.get(text.get()) {
            Some(known) => Ok(Some(known.clone())),
            None => self.of_entry(serde_json::from_str(text.get())?, defaults),
        }
    }

    /// The one content that is equal to this.
    pub fn content(&mut self, content: Content) -> Arc<Content> {
        if let Some(known) = self.contents.get(&content) {
            return known.clone();
        }
        self.sweep();
        let content = Arc::new(content);
        self.contents.insert(content.clone());
        content
    }

    /// Forgets what nobody uses any more, now and then.
    fn sweep(&mut self) {
        if self.by_text.len() + self.contents.len() >= self.sweep_at {
            // First those that hold fragments.
            self.contents.retain(|content| Arc::strong_count(content) > 1);
            self.by_text.retain(|_, fragment| Arc::strong_count(fragment) > 1);
            self.sweep_at = (2 * (self.by_text.len() + self.contents.len())).max(1024);
        }
    }
}

/// The content of a node's `ConfigMap`, revision apart.
#[derive(Clone, Debug, Default)]
pub struct Content {
    /// The node's defaults.
    pub defaults: NodeDefaults,
    /// The policies, by slot.
    pub fragments: Vec<Arc<Fragment>>,
}

impl PartialEq for Content {
    fn eq(&self, other: &Self) -> bool {
        self.defaults == other.defaults
            && self.fragments.len() == other.fragments.len()
            && self.fragments.iter().zip(&other.fragments).all(|(one, two)| Arc::ptr_eq(one, two))
    }
}

impl Eq for Content {}

impl Hash for Content {
    fn hash<H: Hasher>(&self, state: &mut H) {
        for fragment in &self.fragments {
            Arc::as_ptr(fragment).hash(state);
        }
    }
}

#[derive(Serialize)]
struct Written<'a> {
    revision: u64,
    defaults: NodeDefaults,
    policies: Vec<&'a RawValue>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Read<'a> {
    revision: u64,
    #[serde(default)]
    defaults: NodeDefaults,
    #[serde(default, borrow)]
    policies: Vec<&'a RawValue>,
}

/// What was found in a `ConfigMap`.
#[derive(Clone, Debug, PartialEq)]
pub struct Decoded {
    /// Its revision.
    pub revision: u64,
    /// Its content, where every policy in it is one that nodes take.
    pub content: Option<Arc<Content>>,
}

impl Content {
    /// As a node is handed it: byte for byte what [`NodeRules::encode`] makes of the same policies.
    ///
    /// # Errors
    /// When it cannot be written as JSON.
    pub fn encode(&self, revision: u64) -> Result<NodeRules, NodeRulesError> {
        let policies = self.fragments.iter().map(|fragment| &*fragment.json).collect();
        Ok(NodeRules::of(serde_json::to_string(&Written { revision, defaults: self.defaults, policies })?))
    }

    /// Reads the data of a `ConfigMap`.
    ///
    /// # Errors
    /// When it is not what its digest says, or no rules at all.
    pub fn decode(
        data: &BTreeMap<String, String>,
        fragments: &mut Fragments,
    ) -> Result<(Decoded, String), NodeRulesError> {
        let rules = NodeRules::from_data(data)?;
        let Read { revision, defaults, policies } = serde_json::from_str(rules.verified()?)?;
        let found: Option<Vec<_>> =
            policies.into_iter().map(|text| fragments.of_text(text, defaults).ok().flatten()).collect();
        let content = found.map(|found| fragments.content(Self { defaults, fragments: found }));
        Ok((Decoded { revision, content }, rules.digest))
    }

    /// The fragment of this very policy.
    #[must_use]
    pub fn of_policy(&self, name: &str, uid: Option<&str>) -> Option<&Arc<Fragment>> {
        self.fragments.iter().find(|fragment| fragment.name == name && fragment.uid() == uid)
    }

    /// Whether exactly this fragment is in it.
    #[must_use]
    pub fn has(&self, fragment: &Arc<Fragment>) -> bool {
        self.fragments.iter().any(|there| Arc::ptr_eq(there, fragment))
    }
}

/// Whether a node can take these together.
///
/// # Errors
/// What there is no room for.
pub fn check_room<'a>(fragments: impl Iterator<Item = &'a Arc<Fragment>> + Clone) -> Result<(), NoRoom> {
    let bytes: usize = fragments.clone().map(|fragment| fragment.bytes()).sum();
    if FRAME + bytes > MAX_BYTES {
        return Err(NoRoom::Bytes);
    }
    let most: usize = fragments.clone().map(|fragment| fragment.paths.len()).sum();
    if most > MAX_PATHS
        && fragments.clone().flat_map(|fragment| &fragment.paths).collect::<BTreeSet<_>>().len() > MAX_PATHS
    {
        return Err(NoRoom::Paths);
    }
    let patterns: BTreeSet<&Pattern> = fragments.flat_map(|fragment| &fragment.patterns).collect();
    if patterns.is_empty() || patterns_fit(patterns) { Ok(()) } else { Err(NoRoom::Patterns) }
}

/// Whether one table holds these. The same ones are asked for again and again: for each group of nodes, at each edit.
fn patterns_fit(patterns: BTreeSet<&Pattern>) -> bool {
    thread_local! {
        static KNOWN: RefCell<HashMap<Vec<Pattern>, bool>> = RefCell::default();
    }
    let patterns: Vec<Pattern> = patterns.into_iter().cloned().collect();
    KNOWN.with_borrow_mut(|known| {
        if let Some(fit) = known.get(&patterns) {
            return *fit;
        }
        if known.len() >= KNOWN_MAX {
            known.clear();
        }
        let fit = Automaton::of(&patterns).is_ok();
        known.insert(patterns, fit);
        fit
    })
}

/// Why a policy that is good by itself is not applied on a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum NoRoom {
    /// It is beyond the slots.
    Slots,
    /// With it the node's rules would be too long for a `ConfigMap`.
    Bytes,
    /// With it there would be too many distinct paths in lists.
    Paths,
    /// With it the table of patterns would be too large.
    Patterns,
}
