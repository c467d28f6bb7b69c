//! `DriftEvent`: one violation, and how often it happened.
//!
//! What it is about is in `spec` and cannot be changed; what goes on counting is in `status`. It carries everything a
//! person or another system needs without a second lookup. There is no status subresource: an event is one write, with
//! its count, where a subresource would need two and show an event without a count between them.
#![allow(clippy::doc_markdown)] // `kubectl explain` shows these comments as plain text.
#![allow(clippy::duplicated_attributes)] // Each printer column has a type of its own.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    limits, rules,
    text::make_printable,
    words::{ActionResult, ContainerAction, HeldBackAction, Reason, Severity, Switch, Verdict},
};

/// The annotation of a `DriftEvent` that ends the pause of its container, whatever its value; the agent removes it before it does so.
/// It is on the event and never on the pod, which its own workload may be able to change.
pub const RESUME_ANNOTATION: &str = "mooring.dev/resume";

/// The path of an event that stands for all further ones of its policy, container and reason, and for those whose path was
/// not told. No file's path begins so.
pub const OTHER_PATHS: &str = "(other paths)";

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
    selectable = ".spec.policy",
    selectable = ".spec.severity",
    selectable = ".spec.reason",
    selectable = ".spec.verdict",
    selectable = ".spec.node",
    selectable = ".spec.pod.name",
    selectable = ".spec.pod.uid",
    selectable = ".spec.container",
    printcolumn(
        name = "VERDICT",
        type_ = "string",
        json_path = ".spec.verdict",
        description = "What became of the execution"
    ),
    printcolumn(
        name = "REASON",
        type_ = "string",
        json_path = ".spec.reason",
        description = "Why the file violates the policy"
    ),
    printcolumn(name = "POD", type_ = "string", json_path = ".spec.pod.name", description = "The pod"),
    printcolumn(name = "CONTAINER", type_ = "string", json_path = ".spec.container", description = "The container"),
    printcolumn(name = "PATH", type_ = "string", json_path = ".spec.path", description = "The file, in the container"),
    printcolumn(name = "COUNT", type_ = "integer", json_path = ".status.count", description = "How often it happened"),
    printcolumn(
        name = "LAST",
        type_ = "date",
        json_path = ".status.lastSeen",
        description = "How long ago it happened last"
    ),
    printcolumn(
        name = "POLICY",
        type_ = "string",
        json_path = ".spec.policy",
        description = "The policy that was violated",
        priority = 1
    ),
    printcolumn(
        name = "SEVERITY",
        type_ = "string",
        json_path = ".spec.severity",
        description = "How serious the policy says it is",
        priority = 1
    ),
    printcolumn(
        name = "NODE",
        type_ = "string",
        json_path = ".spec.node",
        description = "The node that the pod runs on",
        priority = 1
    )
)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = rules::event::spec()))]
pub struct DriftEventSpec {
    /// The name of the ContainerDriftPolicy that was violated.
    #[schemars(schema_with = "rules::policy_name")]
    pub policy: String,

    /// The severity that the policy gives its violations.
    pub severity: Severity,

    /// Why the file violates the policy.
    pub reason: Reason,

    /// What became of the execution; of the last one, where the same happened often.
    pub verdict: Verdict,

    /// The node, by its name.
    #[schemars(schema_with = "rules::node_name")]
    pub node: String,

    /// The pod. Outside a cluster, the sandbox or the container itself.
    pub pod: EventPod,

    /// The container's name in the pod.
    #[schemars(schema_with = "rules::event::container_name")]
    pub container: String,

    /// The container's id, as its runtime has it.
    #[serde(rename = "containerID")]
    #[schemars(schema_with = "rules::event::id")]
    pub container_id: String,

    /// The image that the container was started from, where it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "rules::event::image")]
    pub image: Option<String>,

    /// The file, by its path inside the container; memfd:NAME for an anonymous file; (other paths) where the event
    /// counts what had no room for one of its own; empty where the path could not be found out. Bytes that are not UTF-8
    /// are shown as U+FFFD, control and invisible characters as in \u{1b}. At most 4096 characters.
    #[schemars(schema_with = "rules::event::path")]
    pub path: String,

    /// The name that the file was invoked with, where it is not the path.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "rules::event::path")]
    pub invoked_as: Option<String>,

    /// The SHA-256 of the file, as 64 lower-case hexadecimal digits, where it could be read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "rules::sha256")]
    pub sha256: Option<String>,

    /// The volume that the file is on, where it is on one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub volume: Option<EventVolume>,

    /// The process that tried, at its first attempt.
    pub process: Process,

    /// The policy's runbook: where to read what to do.
    #[serde(default, rename = "runbookURL", skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "rules::runbook_url")]
    pub runbook_url: Option<String>,
}

/// What goes on counting about a violation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = rules::event::status()))]
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

    /// What switches of the node's agent held back of these violations, and which ones; the last time that any did. At most 4.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("maxItems" = limits::MAX_HELD_BACK))]
    pub held_back: Vec<HeldBack>,

    /// The recording, where the policy asks for one: its name at the agent of the node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "rules::event::message")]
    pub capture_ref: Option<String>,
}

/// The pod of a violation.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct EventPod {
    /// The pod's name; its namespace is the event's own.
    #[schemars(schema_with = "rules::pod_name")]
    pub name: String,

    /// The pod's uid, where it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "rules::event::id")]
    pub uid: Option<String>,
}

/// The volume of a violation.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct EventVolume {
    /// Where it is mounted in the container.
    #[schemars(schema_with = "rules::event::path")]
    pub mount_path: String,

    /// Its kind, as in emptyDir, persistentVolumeClaim, hostPath; outside a cluster the mount's type, as in bind.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "rules::event::volume_kind")]
    pub kind: Option<String>,

    /// Its name in the pod's spec or that of its persistent volume, where the node's files say it; outside a cluster the mount's source.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "rules::event::path")]
    pub name: Option<String>,
}

/// The process of a violation.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Process {
    /// The process's id on the node.
    #[schemars(range(min = 0, max = limits::MAX_PID))]
    pub pid: u32,

    /// The user's id on the node.
    #[schemars(range(min = 0, max = limits::MAX_UID))]
    pub uid: u32,

    /// The command line, where it could be read: arguments with a space between, cut at 4096 bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "rules::event::command_line")]
    pub command_line: Option<String>,

    /// Its parent, where it could be read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<Parent>,
}

/// The parent of a process.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Parent {
    /// The process's id on the node.
    #[schemars(range(min = 0, max = limits::MAX_PID))]
    pub pid: u32,

    /// The name that the parent gave itself (the kernel's `comm`). It proves nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "rules::event::process_name")]
    pub name: Option<String>,
}

/// What was done to the container of a violation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ContainerActionOutcome {
    /// The strongest action of all policies that were violated.
    pub action: ContainerAction,

    /// Whether it is done: UnderWay, Done, HeldBack or Failed.
    pub result: ActionResult,

    /// What became of it, or why it was held back.
    #[schemars(schema_with = "rules::event::message")]
    pub outcome: String,

    /// Milliseconds from when the agent read of the violation until the action was complete: the last process dead, or every one frozen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub duration_milliseconds: Option<i64>,
}

/// What was not done, though a policy asks for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct HeldBack {
    /// Prevent, Kill, Stop or Pause.
    pub what: HeldBackAction,

    /// The field of the agent's configuration that held it back.
    pub by: Switch,
}

impl DriftEvent {
    /// Makes the event one that the API server takes and `kubectl` prints: whatever is unsafe in its texts is written as
    /// `\u{1b}`, and what is longer than the API allows is cut. A workload chooses paths and arguments: no violation may go
    /// untold for them. Its name is that of the path as it was.
    pub fn fit_for_api_server(&mut self) {
        let spec = &mut self.spec;
        make_printable(&mut spec.path, limits::MAX_EVENT_PATH);
        make_printable(&mut spec.container_id, limits::MAX_UID_TEXT);
        let some = [
            (&mut spec.invoked_as, limits::MAX_EVENT_PATH),
            (&mut spec.image, limits::MAX_IMAGE),
            (&mut spec.pod.uid, limits::MAX_UID_TEXT),
            (&mut spec.process.command_line, limits::MAX_COMMAND_LINE),
        ];
        for (text, most) in some {
            make_some_printable(text.as_mut(), most);
        }
        if let Some(parent) = &mut spec.process.parent {
            make_some_printable(parent.name.as_mut(), limits::MAX_PROCESS_NAME);
        }
        if let Some(volume) = &mut spec.volume {
            make_printable(&mut volume.mount_path, limits::MAX_EVENT_PATH);
            make_some_printable(volume.kind.as_mut(), limits::MAX_VOLUME_KIND);
            make_some_printable(volume.name.as_mut(), limits::MAX_EVENT_PATH);
        }
        if let Some(status) = &mut self.status {
            make_some_printable(status.capture_ref.as_mut(), limits::MAX_MESSAGE);
            make_some_printable(
                status.container_action.as_mut().map(|action| &mut action.outcome),
                limits::MAX_MESSAGE,
            );
        }
    }
}

fn make_some_printable(text: Option<&mut String>, most: u64) {
    if let Some(text) = text {
        make_printable(text, most);
    }
}
