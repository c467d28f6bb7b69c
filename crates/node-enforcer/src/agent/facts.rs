//! What the node does, as numbers: for whoever tells others of it.

use std::collections::BTreeMap;

use mooring_crd::{AppliedRules, Backend, Feature, SelfTest};
use mooring_policy::{Refusal, RuleSet, SlotMask, unsupported};

/// The node's state as the agent's loop knows it.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Facts {
    /// Whether rules are in force.
    pub enforcing: bool,
    /// Whether everything was taken down because the source asked for it.
    pub released: bool,
    /// Which ones.
    pub applied: Option<AppliedRules>,
    /// How executions are refused.
    pub backend: Option<Backend>,
    /// Why no better one is used.
    pub backend_reason: Option<String>,
    /// What came of the self-test.
    pub self_test: Option<SelfTest>,
    /// Containers, sandboxes apart.
    pub seen: u64,
    /// Those of them that a policy is for.
    pub matched: u64,
    /// Those of these whose rules are in the kernel.
    pub protected: u64,
    /// By policy, in the order of slots.
    pub policies: Vec<PolicyFacts>,
    /// Violations that could not be told.
    pub lost: u64,
    /// Violations beyond the events that a node may have.
    pub suppressed: u64,
    /// What is wrong, each with what to do.
    pub problems: Vec<String>,
}

/// What one policy does here.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PolicyFacts {
    /// Its name.
    pub name: String,
    /// Containers that it is for.
    pub matched: u64,
    /// Those of them whose rules are in the kernel.
    pub protected: u64,
    /// Violations so far.
    pub violations: u64,
    /// What it asks for and the backend cannot do in full.
    pub unsupported: Vec<Feature>,
    /// Why it is not honoured here.
    pub problem: Option<String>,
}

impl Facts {
    /// Whether nothing has been said yet.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Counts containers, each with its policies and whether it is protected.
    pub(super) fn count(&mut self, rules: &RuleSet, containers: impl Iterator<Item = (SlotMask, bool)>) {
        self.policies = rules
            .policies()
            .iter()
            .map(|policy| PolicyFacts {
                name: policy.name.clone(),
                unsupported: self.backend.map_or_else(Vec::new, |backend| unsupported(backend, policy)),
                ..PolicyFacts::default()
            })
            .collect();
        for (member, protected) in containers {
            self.seen += 1;
            let is_matched = !member.is_empty();
            self.matched += u64::from(is_matched);
            self.protected += u64::from(is_matched && protected);
            for slot in member.slots() {
                if let Some(policy) = self.policies.get_mut(slot.number()) {
                    policy.matched += 1;
                    policy.protected += u64::from(protected);
                }
            }
        }
    }

    /// Adds policies that this node refuses.
    pub(super) fn add_refused(&mut self, refused: &[Refusal]) {
        self.policies.extend(refused.iter().map(|refusal| PolicyFacts {
            name: refusal.policy.clone(),
            problem: Some(refusal.to_string()),
            ..PolicyFacts::default()
        }));
    }

    /// Adds each policy's violations.
    pub(super) fn add_violations(&mut self, violations: &BTreeMap<String, u64>) {
        for policy in &mut self.policies {
            policy.violations = violations.get(&policy.name).copied().unwrap_or_default();
        }
    }
}
