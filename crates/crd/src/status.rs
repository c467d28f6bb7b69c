//! What became of a policy on the nodes. Written by the operator only.
#![allow(clippy::doc_markdown)] // `kubectl explain` shows these comments as plain text.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{limits, rules};

/// What became of the policy on the nodes, as of the last report.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ContainerDriftPolicyStatus {
    /// The generation of the spec that this status is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub observed_generation: Option<i64>,

    /// The revision of the node rules that this status is about; it counts up with every change.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub revision: Option<i64>,

    /// Accepted: the policy could be compiled. Enforcing: every node that it concerns applies it. Degraded: at least
    /// one node cannot honour all of it. The message says why and what to do.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "rules::status::conditions")]
    pub conditions: Vec<Condition>,

    /// How many nodes apply the policy, and which do not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nodes: Option<NodeCounts>,

    /// How many containers the policy protects.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub containers: Option<ContainerCounts>,

    /// Violations so far, on all nodes, whatever became of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub violations: Option<i64>,
}

/// Counts of nodes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct NodeCounts {
    /// Nodes that the policy's nodeSelector selects.
    #[schemars(range(min = 0))]
    pub targeted: i64,

    /// Nodes that apply this generation in full.
    #[schemars(range(min = 0))]
    pub enforcing: i64,

    /// Nodes that cannot honour all of it.
    #[schemars(range(min = 0))]
    pub degraded: i64,

    /// Nodes whose agent is gone: what it left in the kernel goes on enforcing the last rules until the node restarts, and nothing is told.
    #[serde(default)]
    #[schemars(range(min = 0))]
    pub unattended: i64,

    /// The first few of the nodes that do not enforce, degraded or unattended, by name and why. At most 10.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend(
        "maxItems" = limits::MAX_PROBLEM_NODES,
        "x-kubernetes-list-type" = "map",
        "x-kubernetes-list-map-keys" = ["node"],
    ))]
    pub problems: Vec<NodeProblem>,

    /// Enforcing of targeted, for people, as in 12/12.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32))]
    pub summary: Option<String>,
}

/// A node that does not do all that the policy asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct NodeProblem {
    /// The node's name.
    #[schemars(schema_with = "rules::node_name")]
    pub node: String,

    /// Why, and what to do. At most 1024 characters.
    #[schemars(length(max = limits::MAX_MESSAGE))]
    pub message: String,
}

/// Counts of containers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ContainerCounts {
    /// Containers that the policy's scope matches.
    #[schemars(range(min = 0))]
    pub matched: i64,

    /// Containers of these whose rules are in the kernel.
    #[schemars(range(min = 0))]
    pub protected: i64,

    /// Protected of matched, for people, as in 96/96.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32))]
    pub summary: Option<String>,
}
