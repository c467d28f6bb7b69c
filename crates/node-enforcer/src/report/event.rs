//! From a violation to the events of the policies that it violates.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use mooring_crd::{
    DriftEvent, DriftEventSpec, DriftEventStatus, EventPod, EventVolume, Parent, Process, Reason, Verdict, event_name,
};
use mooring_policy::{Class, RuleSet, SlotPolicy};

use super::Violation;
use crate::containers::name_in_pod;

/// Bytes of a command line in an event, as the API says.
const COMMAND_LINE_MAX: usize = 4096;

/// What makes two violations the same event: their count is added, and the rest is told once.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct EventKey {
    /// The policy's name.
    pub policy: String,
    /// The pod's uid; outside a cluster the container's id.
    pub pod: String,
    /// The container's name.
    pub container: String,
    /// The file's path, byte for byte.
    pub path: Vec<u8>,
    /// Why.
    pub reason: Reason,
}

impl EventKey {
    /// The name of the event's object.
    pub(super) fn object_name(&self) -> String {
        event_name(&self.policy, &self.pod, &self.container, &self.path, self.reason)
    }
}

/// The events of a violation: one for each policy that it violates, in the order of slots. `rules` are those that were in
/// force when it happened: a slot may hold another policy after an edit.
#[must_use]
pub fn events_of(violation: &Violation, rules: &RuleSet, node: &str) -> Vec<(EventKey, DriftEvent)> {
    let judgement = violation.judgement();
    let verdict = match judgement.verdict() {
        Some(Verdict::Denied) if violation.killed => Verdict::Killed,
        Some(verdict) => verdict,
        None => return Vec::new(),
    };
    let slots = judgement.violating.slots();
    slots
        .filter_map(|slot| {
            let policy = rules.policy(slot)?;
            let reason = judgement.reason(slot, violation.usage, violation.class)?;
            let key = key_of(violation, policy, reason);
            let spec = DriftEventSpec {
                policy: policy.name.clone(),
                severity: policy.spec.severity,
                reason,
                verdict,
                node: node.to_owned(),
                pod: EventPod { name: violation.container.pod.clone(), uid: violation.container.pod_uid.clone() },
                container: violation.container.name.clone(),
                container_id: violation.container.id.clone(),
                image: violation.container.image.clone(),
                path: lossy(&violation.path),
                invoked_as: invoked_as(violation),
                sha256: None,
                volume: volume_of(violation),
                process: process_of(violation),
                runbook_url: policy.spec.runbook_url.clone(),
            };
            let mut event = DriftEvent::new(&key.object_name(), spec);
            event.metadata.namespace = Some(violation.container.namespace.clone());
            event.status = Some(DriftEventStatus {
                count: i64::try_from(violation.count.max(1)).unwrap_or(i64::MAX),
                first_seen: MicroTime(violation.first_seen.min(violation.last_seen)),
                last_seen: MicroTime(violation.last_seen.max(violation.first_seen)),
                container_action: None,
                capture_ref: None,
            });
            Some((key, event))
        })
        .collect()
}

fn key_of(violation: &Violation, policy: &SlotPolicy, reason: Reason) -> EventKey {
    let container = &violation.container;
    EventKey {
        policy: policy.name.clone(),
        pod: container.pod_uid.clone().unwrap_or_else(|| container.id.clone()),
        container: container.name.clone(),
        path: violation.path.clone(),
        reason,
    }
}

fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// A name that is not the path and says more than it. A renamed image file is told by its image's name, unless the caller's
/// own name says it.
fn invoked_as(violation: &Violation) -> Option<String> {
    let names = [&violation.invoked, &violation.lower_path];
    names.into_iter().find(|name| !name.is_empty() && **name != violation.path).map(|name| lossy(name))
}

fn process_of(violation: &Violation) -> Process {
    let some = |text: String| Some(text).filter(|text| !text.is_empty());
    Process {
        pid: violation.pid,
        uid: violation.uid,
        command_line: some(command_line(&violation.argv)).or_else(|| some(lossy(&violation.comm))),
        parent: (violation.parent_pid != 0)
            .then(|| Parent { pid: violation.parent_pid, name: some(lossy(&violation.parent_comm)) }),
    }
}

/// The arguments with a space between, cut at a character.
fn command_line(argv: &[u8]) -> String {
    let argv = argv.get(..COMMAND_LINE_MAX).unwrap_or(argv);
    let argv = argv.strip_suffix(b"\0").unwrap_or(argv);
    let spaced: Vec<u8> = argv.iter().map(|byte| if *byte == 0 { b' ' } else { *byte }).collect();
    let mut text = lossy(&spaced);
    // A byte that is no character becomes three.
    let end = (0..=COMMAND_LINE_MAX.min(text.len())).rev().find(|end| text.is_char_boundary(*end));
    text.truncate(end.unwrap_or_default());
    text
}

/// The volume that the path is on: the longest destination that holds it.
fn volume_of(violation: &Violation) -> Option<EventVolume> {
    if violation.class != Class::VolumeBinary {
        return None;
    }
    let holds = |destination: &str| {
        destination == "/"
            || violation
                .path
                .strip_prefix(destination.as_bytes())
                .is_some_and(|rest| rest.is_empty() || rest.starts_with(b"/"))
    };
    // Of two on one destination the later hides the earlier.
    let volume =
        violation.container.volumes.iter().filter(|v| holds(&v.destination)).max_by_key(|v| v.destination.len())?;
    let name = if violation.container.pod_uid.is_some() {
        name_in_pod(&volume.source)
    } else {
        volume.source.to_str().map(str::to_owned)
    };
    Some(EventVolume {
        mount_path: volume.destination.clone(),
        kind: Some(volume.kind.clone()),
        name: name.filter(|name| !name.is_empty()),
    })
}
