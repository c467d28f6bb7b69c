//! What each node is to have: done once for all nodes that come to the same.
//!
//! Nodes that the same policies concerned, and of what changed the same again, share one set of policies; and those of a set that have the
//! same in force are planned once.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::hash::{Hash, Hasher};
use std::sync::Arc;

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

/// Every set of policies that concerns a node, once.
#[derive(Debug, Default)]
pub(super) struct Sets(HashSet<Matching>);

impl Sets {
    fn one(&mut self, set: BTreeSet<PolicyKey>) -> Matching {
        if let Some(known) = self.0.get(&set) {
            return known.clone();
        }
        let set = Arc::new(set);
        self.0.insert(set.clone());
        set
    }

    /// Forgets those of no node.
    fn sweep(&mut self) {
        self.0.retain(|set| Arc::strong_count(set) > 1);
    }
}

/// What concerned a node, and which of the policies in question do now.
type Asked = (Same<BTreeSet<PolicyKey>>, Vec<bool>);
/// Of a content in force, the wordings that are no longer those of their policies.
type Outdated = Vec<(PolicyKey, Arc<Fragment>)>;
/// What is planned alike: what concerns a node, what it has in force, and which of the outdated wordings of that concern it.
type Alike = (Same<BTreeSet<PolicyKey>>, Option<Same<Content>>, Vec<bool>);
type Planned = (Arc<Content>, Arc<[(PolicyKey, NoRoom)]>);

impl Index {
    /// Plans each node that something changed for since it was planned last, and names those.
    pub fn plan(&mut self) -> Vec<String> {
        self.match_nodes();
        self.sets.sweep();
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

    /// Finds out what concerns the nodes that changed, and which nodes are dirty for the policies that changed.
    fn match_nodes(&mut self) {
        let changed = std::mem::take(&mut self.changed);
        let is_new = |name: &String| self.nodes.get(name).is_some_and(|node| node.is_new);
        if changed.is_empty() && !self.dirty_nodes.iter().any(is_new) {
            return;
        }
        let names: BTreeSet<&str> = changed.iter().map(|(_, name)| &**name).collect();
        let edited: Vec<_> = changed.iter().map(|key| (key, self.policies.get(key))).collect();
        let every: Vec<_> = self.policies.iter().map(|(key, policy)| (key, Some(policy))).collect();
        let nothing = Matching::default();
        // What concerns a node then, and whether that is news.
        let mut found: HashMap<Asked, (Matching, bool)> = HashMap::new();
        let mut held: HashMap<Same<Content>, bool> = HashMap::new();
        for (name, node) in self.nodes.iter_mut().filter(|(_, node)| node.uid.is_some()) {
            let is_new = std::mem::take(&mut node.is_new);
            if !is_new && changed.is_empty() {
                continue;
            }
            let (before, asked) = if is_new { (&nothing, &every) } else { (&node.matching, &edited) };
            let concerns = |policy: Option<&Policy>| policy.is_some_and(|policy| policy.concerns(&node.labels));
            let concern: Vec<bool> = asked.iter().map(|(_, policy)| concerns(*policy)).collect();
            let entry = found.entry((Same(before.clone()), concern));
            let (now, is_news) = entry.or_insert_with_key(|(Same(before), concern)| {
                let mut now = BTreeSet::clone(before);
                let mut is_news = false;
                for ((key, _), concern) in asked.iter().zip(concern) {
                    is_news |= *concern || now.contains(*key);
                    if *concern {
                        now.insert((*key).clone());
                    } else {
                        now.remove(*key);
                    }
                }
                (self.sets.one(now), is_news)
            });
            if is_new {
                self.dirty_policies.extend(node.matching.symmetric_difference(now).cloned());
            }
            node.matching = now.clone();
            // A last good wording may be in force where its policy concerns nobody.
            let mut holds = |content: &Arc<Content>| {
                let any = || content.fragments.iter().any(|fragment| names.contains(fragment.name()));
                *held.entry(Same(content.clone())).or_insert_with(any)
            };
            let is_dirty = is_new || *is_news || node.desired.as_ref().is_some_and(&mut holds);
            if is_dirty && !self.dirty_nodes.contains(name) {
                self.dirty_nodes.insert(name.clone());
            }
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
