//! Which policies apply to a container, and what each of them does there.

use mooring_crd::{ContainerAction, Severity};
use mooring_policy::{Class, RuleSet, SlotPolicy, Use};
use serde::Serialize;

use crate::agent::{Surroundings, UnknownContainers};
use crate::containers::Container;

/// A container and its policies.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Explanation {
    /// The runtime's id.
    pub id: String,
    /// The container's name.
    pub container: String,
    /// Its namespace.
    pub namespace: String,
    /// Its image, where it is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    /// The policies, by slot.
    pub policies: Vec<AppliedPolicy>,
}

/// What one policy does in a container.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct AppliedPolicy {
    /// Its name.
    pub name: String,
    /// Its slot on this node.
    pub slot: usize,
    /// Its severity.
    pub severity: Severity,
    /// Whether it refuses what it detects.
    pub prevent: bool,
    /// What it does to the container, where it does something.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub container_action: Option<ContainerAction>,
    /// The reasons for which an execution or a mapping violates it.
    pub detects: Vec<String>,
    /// Paths that it ignores although they drifted.
    pub exceptions: Vec<String>,
    /// Paths that may not be executed.
    pub prohibited_binaries: Vec<String>,
    /// Programs that may execute what drifted.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub process_exceptions: Vec<String>,
    /// Programs that may execute nothing.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub prohibited_processes: Vec<String>,
}

/// Explains one container.
#[must_use]
pub fn explain(rules: &RuleSet, container: &Container, node: &str) -> Explanation {
    // Without a cluster nothing is about to become known.
    let member = Surroundings::of(container, node).member(rules, container, UnknownContainers::DenyDrift);
    Explanation {
        id: container.id.clone(),
        container: container.name.clone(),
        namespace: container.namespace.clone(),
        image: container.image.clone(),
        policies: member.slots().filter_map(|slot| rules.policy(slot)).map(applied).collect(),
    }
}

fn applied(policy: &SlotPolicy) -> AppliedPolicy {
    let detect = &policy.spec.detect;
    let executed = Class::ALL.into_iter().filter(|class| policy.detects(Use::Execute, *class));
    let mut detects: Vec<String> = executed.filter_map(Class::reason).map(|reason| reason.to_string()).collect();
    if policy.detects(Use::Map, Class::NewBinary) {
        detects.push("DriftedLibrary".into());
    }
    if !detect.prohibited_binaries.is_empty() {
        detects.push("ProhibitedBinary".into());
    }
    if !detect.prohibited_processes.is_empty() {
        detects.push("ProhibitedProcess".into());
    }
    AppliedPolicy {
        name: policy.name.clone(),
        slot: policy.slot.number(),
        severity: policy.spec.severity,
        prevent: policy.spec.actions.prevent,
        container_action: Some(policy.spec.actions.container).filter(|action| *action != ContainerAction::None),
        detects,
        exceptions: detect.exceptions.iter().map(|exception| exception.path.clone()).collect(),
        prohibited_binaries: detect.prohibited_binaries.iter().map(|binary| binary.path.clone()).collect(),
        process_exceptions: detect.process_exceptions.iter().map(|process| process.path.clone()).collect(),
        prohibited_processes: detect.prohibited_processes.iter().map(|process| process.path.clone()).collect(),
    }
}

impl std::fmt::Display for Explanation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(f, "{}/{} ({})", self.namespace, self.container, self.id)?;
        if self.policies.is_empty() {
            return writeln!(f, "  no policy applies");
        }
        for policy in &self.policies {
            let does = if policy.prevent { "prevents" } else { "detects" };
            writeln!(
                f,
                "  slot {}: {} ({}) {does} {}",
                policy.slot,
                policy.name,
                policy.severity,
                policy.detects.join(", ")
            )?;
            if let Some(action) = policy.container_action {
                writeln!(f, "    {action} of the container")?;
            }
            for path in &policy.exceptions {
                writeln!(f, "    excepts {path}")?;
            }
            for path in &policy.prohibited_binaries {
                writeln!(f, "    prohibits {path}")?;
            }
            for path in &policy.process_exceptions {
                writeln!(f, "    excepts what {path} executes")?;
            }
            for path in &policy.prohibited_processes {
                writeln!(f, "    prohibits whatever {path} executes")?;
            }
        }
        Ok(())
    }
}
