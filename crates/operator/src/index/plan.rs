//! What each node is to have: done once for all nodes that nothing tells apart.
//!
//! Of a node's labels only those count that some policy asks for, so that a cluster has a few groups of nodes, whatever their number; and
//! nodes that the same policies concern and that have the same in force come to the same.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use mooring_policy::select::Labels;

use super::{Index, Node, Observed, Policy, PolicyKey, Wording};
use crate::content::{Content, Fragment, NoRoom};
use crate::fit::{Candidate, fit};

/// The policies that concern a node, in their order.
pub(super) type Matching = Arc<BTreeSet<PolicyKey>>;

/// An `Arc` that is compared by where it points to, and keeps that alive.
#[derive(Clone, Debug, Default)]
struct Same<T>(Arc<T>);

impl<T> PartialEq for Same<T> {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl<T> Eq for Same<T> {}

impl<T> Hash for Same<T> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        Arc::as_ptr(&self.0).hash(state);
    }
}

/// Which policies concern nodes with certain labels, for the policies as they are.
#[derive(Debug, Default)]
pub(super) struct Groups {
    /// The keys of labels that policies ask for.
    keys: BTreeSet<String>,
    /// By the values of these.
    found: HashMap<Vec<Option<String>>, Matching>,
}

impl Groups {
    fn of(policies: &BTreeMap<PolicyKey, Policy>) -> Self {
        let keys = policies.values().flat_map(|policy| policy.nodes.keys()).map(str::to_owned).collect();
        Self { keys, found: HashMap::new() }
    }

    fn matching(&mut self, policies: &BTreeMap<PolicyKey, Policy>, labels: &Labels) -> Matching {
        let values: Vec<_> = self.keys.iter().map(|key| labels.get(key).cloned()).collect();
        let find =
            || policies.iter().filter(|(_, policy)| policy.concerns(labels)).map(|(key, _)| key.clone()).collect();
        self.found.entry(values).or_insert_with(|| Arc::new(find())).clone()
    }

    /// Forgets what no node has any more.
    fn sweep(&mut self, nodes: usize) {
        if self.found.len() > 2 * nodes {
            self.found.retain(|_, matching| Arc::strong_count(matching) > 1);
        }
    }
}

/// Of a content in force, the wordings that are no longer those of their policies.
type Outdated = Vec<(PolicyKey, Arc<Fragment>)>;
/// What is planned alike: what concerns a node, what it has in force, and which of the outdated wordings of that concern it.
type Alike = (Same<BTreeSet<PolicyKey>>, Option<Same<Content>>, Vec<bool>);
type Planned = (Arc<Content>, Arc<[(PolicyKey, NoRoom)]>);

impl Index {
    /// Plans each node that something changed for since it was planned last, and names those.
    pub fn plan(&mut self) -> Vec<String> {
        self.match_nodes();
        let mut outdated: HashMap<Same<Content>, Outdated> = HashMap::new();
        let mut planned: HashMap<Alike, Planned> = HashMap::new();
        let dirty: Vec<String> = std::mem::take(&mut self.dirty_nodes).into_iter().collect();
        for name in &dirty {
            let Some(node) = self.nodes.get(name).filter(|node| node.uid.is_some()) else { continue };
            let in_force = in_force(node).cloned().map(Same);
            let outdated = match &in_force {
                None => &Outdated::new(),
                Some(content) => outdated.entry(content.clone()).or_insert_with(|| self.outdated(&content.0)),
            };
            let concern = outdated.iter().map(|(_, fragment)| fragment.concerns(&node.labels)).collect();
            let alike = (Same(node.matching.clone()), in_force, concern);
            let (content, refused) = if let Some(known) = planned.get(&alike) {
                known.clone()
            } else {
                let new = self.fit(&alike, outdated);
                planned.insert(alike, new.clone());
                new
            };
            let Some(node) = self.nodes.get_mut(name) else { continue };
            if refused != node.refused {
                self.dirty_policies.extend(refused.iter().chain(&*node.refused).map(|(key, _)| key.clone()));
            }
            node.refused = refused;
            node.desired = Some(content);
        }
        dirty
    }

    /// Finds out what concerns the nodes that are dirty, and which nodes more are for the policies that changed.
    fn match_nodes(&mut self) {
        let changed = std::mem::take(&mut self.changed);
        if changed.is_empty() {
            for name in &self.dirty_nodes {
                let Some(node) = self.nodes.get_mut(name).filter(|node| node.uid.is_some()) else { continue };
                let now = self.groups.matching(&self.policies, &node.labels);
                if node.matching != now {
                    self.dirty_policies.extend(node.matching.symmetric_difference(&now).cloned());
                    node.matching = now;
                }
            }
            self.groups.sweep(self.nodes.len());
            return;
        }
        self.groups = Groups::of(&self.policies);
        let names: BTreeSet<&str> = changed.iter().map(|(_, name)| &**name).collect();
        let mut concerned: HashMap<Same<BTreeSet<PolicyKey>>, bool> = HashMap::new();
        let mut held: HashMap<Same<Content>, bool> = HashMap::new();
        for (name, node) in self.nodes.iter_mut().filter(|(_, node)| node.uid.is_some()) {
            let now = self.groups.matching(&self.policies, &node.labels);
            let was_dirty = self.dirty_nodes.contains(name);
            let mut concerns = |matching: &Matching| {
                *concerned.entry(Same(matching.clone())).or_insert_with(|| !changed.is_disjoint(matching))
            };
            // A last good wording may be in force where its policy concerns nobody.
            let mut holds = |content: &Arc<Content>| {
                let any = || content.fragments.iter().any(|fragment| names.contains(fragment.name()));
                *held.entry(Same(content.clone())).or_insert_with(any)
            };
            let dirty = was_dirty
                || concerns(&node.matching)
                || concerns(&now)
                || node.desired.as_ref().is_some_and(&mut holds);
            if dirty && !was_dirty {
                self.dirty_nodes.insert(name.clone());
            }
            // Of what did not change, only a change of the node itself can make a difference.
            if was_dirty {
                self.dirty_policies.extend(node.matching.symmetric_difference(&now).cloned());
            }
            node.matching = now;
        }
    }

    fn outdated(&self, content: &Content) -> Outdated {
        let of = |fragment: &Arc<Fragment>| {
            let (key, policy) = self.policy(fragment.name())?;
            let same = policy.uid.as_deref() == fragment.uid();
            let is_now = matches!(&policy.wording, Wording::Good(now) if Arc::ptr_eq(now, fragment));
            (same && !is_now).then(|| (key.clone(), fragment.clone()))
        };
        content.fragments.iter().filter_map(of).collect()
    }

    fn fit(&mut self, (Same(matching), in_force, concern): &Alike, outdated: &Outdated) -> Planned {
        // Wordings that were good and still concern the node, of policies whose present one is another.
        let good: BTreeMap<&PolicyKey, &Arc<Fragment>> =
            outdated.iter().zip(concern).filter(|(_, concern)| **concern).map(|((key, good), _)| (key, good)).collect();
        let is_refused = |key: &PolicyKey| {
            self.policies.get(key).is_some_and(|policy| matches!(policy.wording, Wording::Refused(_)))
        };
        let kept = good.keys().copied().filter(|key| is_refused(key));
        let keys: BTreeSet<&PolicyKey> = matching.iter().chain(kept).collect();
        let candidates: Vec<_> = keys
            .into_iter()
            .map(|key| {
                let wanted = match self.policies.get(key).map(|policy| &policy.wording) {
                    Some(Wording::Good(fragment)) if matching.contains(key) => Some(fragment),
                    _ => None,
                };
                let is_in_force = |wanted: &&Arc<Fragment>| in_force.as_ref().is_some_and(|Same(all)| all.has(wanted));
                let last_good = good.get(key).copied().or_else(|| wanted.filter(is_in_force));
                Candidate { policy: key, wanted: wanted.cloned(), last_good: last_good.cloned() }
            })
            .collect();
        let fit = fit(&candidates);
        let refused = fit.refused.into_iter().map(|(key, why)| (key.clone(), why)).collect();
        let content = Content { defaults: self.defaults, fragments: fit.fragments };
        (self.fragments.content(content), refused)
    }
}

/// What this process gave a node last; after a start, what it has.
fn in_force(node: &Node) -> Option<&Arc<Content>> {
    let owned = |observed: &&Observed| observed.owner == node.uid;
    node.desired.as_ref().or_else(|| node.observed.as_ref().filter(owned)?.content.as_ref())
}
