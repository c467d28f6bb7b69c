//! `ContainerDriftPolicy`.
#![allow(clippy::doc_markdown)] // `kubectl explain` shows these comments as plain text.
#![allow(clippy::duplicated_attributes)] // Each printer column has a type of its own.

use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    actions::Actions, detect::Detect, rules, scope::Scope, status::ContainerDriftPolicyStatus, words::Severity,
};

/// What the policy is for, what it regards as drift, and what it does about it. Several policies may match one
/// container: they add up.
#[derive(CustomResource, Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "mooring.dev",
    version = "v1alpha1",
    kind = "ContainerDriftPolicy",
    plural = "containerdriftpolicies",
    shortname = "cdp",
    category = "mooring",
    status = "ContainerDriftPolicyStatus",
    derive = "PartialEq",
    doc = "Says, for a scope of containers, that nothing may execute which their image did not bring.",
    selectable = ".spec.enabled",
    selectable = ".spec.severity",
    selectable = ".spec.actions.prevent",
    printcolumn(
        name = "SEVERITY",
        type_ = "string",
        json_path = ".spec.severity",
        description = "How serious a violation is"
    ),
    printcolumn(
        name = "PREVENT",
        type_ = "boolean",
        json_path = ".spec.actions.prevent",
        description = "Whether the kernel refuses the execution"
    ),
    printcolumn(
        name = "NODES",
        type_ = "string",
        json_path = ".status.nodes.summary",
        description = "Nodes that enforce the policy, of those it concerns"
    ),
    printcolumn(
        name = "CONTAINERS",
        type_ = "string",
        json_path = ".status.containers.summary",
        description = "Containers that are protected, of those that match"
    ),
    printcolumn(
        name = "VIOLATIONS",
        type_ = "integer",
        json_path = ".status.violations",
        description = "Violations so far"
    ),
    printcolumn(
        name = "READY",
        type_ = "string",
        json_path = r#".status.conditions[?(@.type=="Enforcing")].status"#,
        description = "Whether every node that the policy concerns enforces it"
    ),
    printcolumn(name = "AGE", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
pub struct ContainerDriftPolicySpec {
    /// What the policy is for, in a sentence for the person who meets it in an event. At most 1024 characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "rules::description")]
    pub description: Option<String>,

    /// Whether the policy is applied. A policy that is not enabled is checked, and otherwise as if it were not there.
    #[serde(default = "enabled")]
    pub enabled: bool,

    /// How serious a violation is: High, Medium, Low or Info. It is shown in events and changes no verdict. Medium
    /// unless written.
    #[serde(default)]
    pub severity: Severity,

    /// Where the person who handles a violation finds what to do, as an http or https URL; it is shown in every event. At
    /// most 2048 characters.
    #[serde(default, rename = "runbookURL", skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "rules::runbook_url")]
    pub runbook_url: Option<String>,

    /// Which containers the policy is for. All that is written must match; an empty scope is every container.
    #[serde(default)]
    pub scope: Scope,

    /// What counts as a violation.
    #[serde(default)]
    pub detect: Detect,

    /// What is done about a violation. A policy that writes nothing here only reports.
    #[serde(default)]
    pub actions: Actions,
}

fn enabled() -> bool {
    true
}

impl Default for ContainerDriftPolicySpec {
    fn default() -> Self {
        Self {
            description: None,
            enabled: enabled(),
            severity: Severity::default(),
            runbook_url: None,
            scope: Scope::default(),
            detect: Detect::default(),
            actions: Actions::default(),
        }
    }
}
