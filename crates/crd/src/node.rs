//! `DriftNode`: what one node can do, and does. Written by the node's own agent only.
#![allow(clippy::doc_markdown)] // `kubectl explain` shows these comments as plain text.
#![allow(clippy::duplicated_attributes)] // Each printer column has a type of its own.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    limits, rules,
    words::{Backend, RulesSource, SelfTestResult},
};

/// Nothing is asked of a node here: its rules are in its ConfigMap.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "mooring.dev",
    version = "v1alpha1",
    kind = "DriftNode",
    plural = "driftnodes",
    shortname = "dn",
    category = "mooring",
    status = "DriftNodeStatus",
    derive = "PartialEq",
    doc = "What a node can do about drift, and what it does. It has the name of its Node and goes with it.",
    selectable = ".status.backend",
    selectable = ".status.released",
    printcolumn(
        name = "READY",
        type_ = "string",
        json_path = r#".status.conditions[?(@.type=="Ready")].status"#,
        description = "Whether the node does all that its rules ask for"
    ),
    printcolumn(
        name = "BACKEND",
        type_ = "string",
        json_path = ".status.backend",
        description = "How an execution is stopped"
    ),
    printcolumn(
        name = "SELF-TEST",
        type_ = "string",
        json_path = ".status.selfTest.result",
        description = "Whether a drifted file was really refused"
    ),
    printcolumn(
        name = "CONTAINERS",
        type_ = "string",
        json_path = ".status.containers.summary",
        description = "Containers that are protected, of those that match a policy"
    ),
    printcolumn(
        name = "UNPROTECTED",
        type_ = "integer",
        json_path = ".status.containers.unprotectable",
        description = "Containers that match and cannot be protected"
    ),
    printcolumn(
        name = "LOST",
        type_ = "integer",
        json_path = ".status.events.lost",
        description = "Violations that were decided and could not be told"
    ),
    printcolumn(
        name = "REVISION",
        type_ = "integer",
        json_path = ".status.applied.revision",
        description = "The revision of the rules in force"
    ),
    printcolumn(name = "AGE", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(
        name = "KERNEL",
        type_ = "string",
        json_path = ".status.kernel",
        description = "The kernel's release",
        priority = 1
    ),
    printcolumn(
        name = "AGENT",
        type_ = "string",
        json_path = ".status.agentVersion",
        description = "The agent's version",
        priority = 1
    ),
    printcolumn(
        name = "WHY",
        type_ = "string",
        json_path = ".status.backendReason",
        description = "Why no better backend is used",
        priority = 1
    )
)]
pub struct DriftNodeSpec {}

/// What the node can do and does, as of the agent's last report. It is written when it changes: figures at
/// most every 30 s, what is in force at once. An agent that has nothing to say writes nothing, so its age says nothing of its health.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DriftNodeStatus {
    /// The agent's version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = limits::MAX_VERSION))]
    pub agent_version: Option<String>,

    /// The kernel's release, as uname -r prints it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = limits::MAX_VERSION))]
    pub kernel: Option<String>,

    /// How an execution is stopped. (The words of the type are what `kubectl explain` shows.)
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backend: Option<Backend>,

    /// Why no better backend is used, and what would have to change; absent with the best one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = limits::MAX_MESSAGE))]
    pub backend_reason: Option<String>,

    /// What came of trying to run a drifted file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub self_test: Option<SelfTest>,

    /// The rules in force; absent while none are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub applied: Option<AppliedRules>,

    /// How many containers are protected.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub containers: Option<NodeContainers>,

    /// What became of violations that have no DriftEvent of their own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub events: Option<NodeEvents>,

    /// What the node can do, for each thing that a policy can ask for. At most 32.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend(
        "maxItems" = limits::MAX_FEATURES,
        "x-kubernetes-list-type" = "map",
        "x-kubernetes-list-map-keys" = ["name"],
    ))]
    pub features: Vec<FeatureSupport>,

    /// The figures of each policy in force here. At most 64, which is what a node can apply.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend(
        "maxItems" = limits::MAX_NODE_POLICIES,
        "x-kubernetes-list-type" = "map",
        "x-kubernetes-list-map-keys" = ["name"],
    ))]
    pub policies: Vec<PolicyFigures>,

    /// Whether everything was taken down at the operator's request, before Mooring is removed.
    #[serde(default)]
    pub released: bool,

    /// Ready: the node does all that its rules ask for. Degraded: it cannot honour all of them, or leaves containers
    /// unprotected. The message says why and what to do.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "rules::status::conditions")]
    pub conditions: Vec<Condition>,
}

/// What came of trying to run a drifted file on a scratch overlay.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SelfTest {
    /// Passed, Failed or NotRun. A node whose test fails is not enforced on.
    pub result: SelfTestResult,

    /// What failed and what to do, or what was tried. At most 1024 characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = limits::MAX_MESSAGE))]
    pub message: Option<String>,
}

/// The rules in force.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AppliedRules {
    /// Their revision, for people: it counts up with every change.
    #[schemars(range(min = 0))]
    pub revision: i64,

    /// The digest of their content, as the ConfigMap states it and the agent found it.
    #[schemars(length(max = limits::MAX_VERSION))]
    pub digest: String,

    /// The resourceVersion of the ConfigMap that they came with; absent where they came from disk.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = limits::MAX_VERSION))]
    pub resource_version: Option<String>,

    /// ConfigMap, or Disk where the agent enforces its last good set without the API server.
    pub source: RulesSource,
}

/// Counts of a node's containers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct NodeContainers {
    /// Containers that the agent knows of.
    #[schemars(range(min = 0))]
    pub seen: i64,

    /// Containers of these that at least one policy matches.
    #[schemars(range(min = 0))]
    pub matched: i64,

    /// Containers of those that match whose rules are in the kernel.
    #[schemars(range(min = 0))]
    pub protected: i64,

    /// Containers that match and cannot be protected: beyond the room of the kernel's tables, or without a root that can
    /// be judged.
    #[schemars(range(min = 0))]
    pub unprotectable: i64,

    /// Protected of matched, for people, as in 24/24.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32))]
    pub summary: Option<String>,
}

/// Counts of violations without a DriftEvent of their own. A verdict never depends on them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct NodeEvents {
    /// Violations that were decided and could not be told: no room in the kernel's buffers, or no container found for
    /// them.
    #[schemars(range(min = 0))]
    pub lost: i64,

    /// Violations beyond the events that a node may have, or where the breaker is open (DriftEventBreaker): counted here and in
    /// the policies' figures only.
    #[schemars(range(min = 0))]
    pub suppressed: i64,
}

/// Whether the node can do one thing that a policy can ask for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct FeatureSupport {
    /// Which one, as in Prevent, DriftedLibraries, ContainerActions, Capture.
    #[schemars(schema_with = "rules::status::feature_name")]
    pub name: String,

    /// Whether the node can do it in full.
    pub supported: bool,

    /// What is missing, or what is done instead. At most 1024 characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = limits::MAX_MESSAGE))]
    pub message: Option<String>,
}

/// What one policy does on the node.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PolicyFigures {
    /// The name of the ContainerDriftPolicy.
    #[schemars(schema_with = "rules::policy_name")]
    pub name: String,

    /// Containers here that its scope matches.
    #[schemars(range(min = 0))]
    pub matched: i64,

    /// Containers of these whose rules are in the kernel.
    #[schemars(range(min = 0))]
    pub protected: i64,

    /// Violations here so far, whatever became of them.
    #[schemars(range(min = 0))]
    pub violations: i64,

    /// What the policy asks for and the node cannot do in full: names of features, whose messages say what happens instead.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "rules::status::feature_names")]
    pub unsupported: Vec<String>,

    /// Why the node cannot honour all of the policy, and what to do; absent where it does. At most 1024 characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = limits::MAX_MESSAGE))]
    pub problem: Option<String>,
}
