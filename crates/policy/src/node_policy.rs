//! What a node applies, as it is handed to the node and kept on its disk.

use mooring_crd::ContainerDriftPolicySpec;
use serde::{Deserialize, Serialize};

use crate::compile::{Candidate, Compiled, compile_in_order};
use crate::rules::RuleSet;

/// Defaults of the node, for what policies leave unset.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NodeDefaults {
    /// What `detect.volumeBinaries` is where a policy leaves it unset.
    #[serde(default)]
    pub volume_binaries: bool,
}

/// All policies of a node, selectors verbatim, in the order of their slots.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NodePolicy {
    /// Counts up with every change. For people: order is the API server's.
    pub revision: u64,
    /// The node's defaults.
    #[serde(default)]
    pub defaults: NodeDefaults,
    /// The policies, the first in slot 0.
    #[serde(default)]
    pub policies: Vec<NodePolicyEntry>,
}

/// A policy of a node.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NodePolicyEntry {
    /// Its name.
    pub name: String,
    /// Its uid, where it came from an API server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uid: Option<String>,
    /// What it says.
    pub spec: ContainerDriftPolicySpec,
}

impl NodePolicy {
    /// The serialisable form of a rule set.
    #[must_use]
    pub fn of(rules: &RuleSet, revision: u64) -> Self {
        let policies = rules.policies().iter().map(|policy| NodePolicyEntry {
            name: policy.name.clone(),
            uid: policy.uid.clone(),
            spec: policy.spec.clone(),
        });
        Self { revision, defaults: rules.defaults(), policies: policies.collect() }
    }

    /// The rule set of it. Slots are given in the order that the policies have here.
    #[must_use]
    pub fn compile(&self) -> Compiled {
        let candidates = self.policies.iter().map(|entry| Candidate {
            name: &entry.name,
            uid: entry.uid.as_deref(),
            spec: &entry.spec,
        });
        compile_in_order(candidates.collect(), self.defaults)
    }
}
