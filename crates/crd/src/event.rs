//! `DriftEvent`: one violation, and how often it happened.
//!
//! The facts are in `spec` and never change; what goes on counting is in `status`, so that an agent's role can be
//! limited to creating events and updating their status. It carries everything a person or another system needs
//! without a second lookup.
#![allow(clippy::doc_markdown)] // `kubectl explain` shows these comments as plain text.
#![allow(clippy::duplicated_attributes)] // Each printer column has a type of its own.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::words::{ContainerAction, Reason, Severity, Verdict};

/// The facts of a violation.
#[derive(CustomResource, Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "mooring.dev",
    version = "v1alpha1",
    kind = "DriftEvent",
    plural = "driftevents",
    shortname = "de",
    category = "mooring",
    namespaced,
    status = "DriftEventStatus",
    derive = "PartialEq",
    doc = "A container tried to execute what its image did not bring, or what a policy prohibits.",
    printcolumn(name = "VERDICT", type_ = "string", json_path = ".spec.verdict"),
    printcolumn(name = "REASON", type_ = "string", json_path = ".spec.reason"),
    printcolumn(name = "POD", type_ = "string", json_path = ".spec.pod.name"),
    printcolumn(name = "CONTAINER", type_ = "string", json_path = ".spec.container"),
    printcolumn(name = "PATH", type_ = "string", json_path = ".spec.path"),
    printcolumn(name = "COUNT", type_ = "integer", json_path = ".status.count"),
    printcolumn(name = "LAST", type_ = "date", json_path = ".status.lastSeen"),
    printcolumn(name = "POLICY", type_ = "string", json_path = ".spec.policy"),
    printcolumn(name = "SEVERITY", type_ = "string", json_path = ".spec.severity")
)]
#[serde(rename_all = "camelCase")]
pub struct DriftEventSpec {
    /// The name of the ContainerDriftPolicy that was violated.
    pub policy: String,

    /// The severity that the policy gives its violations.
    pub severity: Severity,

    /// Why the file violates the policy.
    pub reason: Reason,

    /// What became of the execution.
    pub verdict: Verdict,

    /// The node, by its name.
    pub node: String,

    /// The pod. Outside a cluster, the sandbox or the container itself.
    pub pod: EventPod,

    /// The container's name in the pod.
    pub container: String,

    /// The container's id, as its runtime has it.
    #[serde(rename = "containerID")]
    pub container_id: String,

    /// The image that the container was started from, where it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,

    /// The file, by its path inside the container; memfd:NAME for an anonymous file; empty where the path could not
    /// be found out. Bytes that are not UTF-8 are shown as U+FFFD.
    pub path: String,

    /// The name that the file was invoked with, where it is not the path.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub invoked_as: Option<String>,

    /// The SHA-256 of the file, as 64 lower-case hexadecimal digits, where it could be read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<String>,

    /// The volume that the file is on, for reason VolumeBinary.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub volume: Option<EventVolume>,

    /// The process that tried, at its first attempt.
    pub process: Process,

    /// The policy's runbook: where to read what to do.
    #[serde(default, rename = "runbookURL", skip_serializing_if = "Option::is_none")]
    pub runbook_url: Option<String>,
}

/// What goes on counting about a violation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DriftEventStatus {
    /// How often it happened, at least 1. The kernel counts, while the agent is away, too; what it has no room to
    /// count is counted as lost.
    #[schemars(range(min = 1))]
    pub count: i64,

    /// When it happened first.
    pub first_seen: MicroTime,

    /// When it happened last.
    pub last_seen: MicroTime,

    /// What was done to the container, where the policy asks for something.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub container_action: Option<ContainerActionOutcome>,

    /// The recording, where the policy asks for one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub capture_ref: Option<String>,
}

/// The pod of a violation.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct EventPod {
    /// The pod's name; its namespace is the event's own.
    pub name: String,

    /// The pod's uid, where it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uid: Option<String>,
}

/// The volume of a violation.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct EventVolume {
    /// Where it is mounted in the container.
    pub mount_path: String,

    /// Its kind, as in emptyDir, persistentVolumeClaim, hostPath; outside a cluster the mount's type, as in bind.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,

    /// Its name in the pod's spec; outside a cluster the mount's source.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
}

/// The process of a violation. Ids are those of the node.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Process {
    /// The process id.
    pub pid: u32,

    /// The user id.
    pub uid: u32,

    /// The command line, where it could be read: arguments with a space between, cut at 4096 bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub command_line: Option<String>,

    /// Its parent, where it could be read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<Parent>,
}

/// The parent of a process.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Parent {
    /// The process id.
    pub pid: u32,

    /// The name that the parent gave itself (the kernel's `comm`). It proves nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
}

/// What was done to the container of a violation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ContainerActionOutcome {
    /// The strongest action of all policies that were violated.
    pub action: ContainerAction,

    /// What became of it, or why it was held back.
    pub outcome: String,
}
