//! The Kubernetes Event of a violation: what people see at the pod.

use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::api::events::v1::{Event, EventSeries};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use mooring_crd::access::Binary;
use mooring_crd::{API_VERSION, DriftEvent};

use crate::report::{Quoted, Timestamp};
use crate::response::Told;

/// Bytes of a note, as the API says.
const NOTE_MAX: usize = 1024;
/// Bytes of the path in it.
const PATH_MAX: usize = 256;

/// The Event's name: another one for each verdict, because nothing but its series can change.
pub(super) fn name_of(event: &DriftEvent) -> String {
    let name = event.metadata.name.as_deref().unwrap_or_default();
    format!("{name}.{}", event.spec.verdict.as_str().to_ascii_lowercase())
}

/// The Event of a `DriftEvent`, on its pod.
pub(super) fn pod_event(event: &DriftEvent) -> Event {
    let spec = &event.spec;
    let namespace = event.metadata.namespace.clone();
    Event {
        metadata: ObjectMeta { name: Some(name_of(event)), namespace: namespace.clone(), ..ObjectMeta::default() },
        event_time: event.status.as_ref().map(|status| status.last_seen.clone()),
        type_: Some("Warning".to_owned()),
        reason: Some(spec.reason.as_str().to_owned()),
        action: Some("Execute".to_owned()),
        note: Some(note(event)),
        regarding: Some(pod_of(
            namespace.as_deref().unwrap_or_default(),
            &spec.pod.name,
            spec.pod.uid.as_ref(),
            &spec.container,
        )),
        related: Some(ObjectReference {
            api_version: Some(API_VERSION.to_owned()),
            kind: Some("DriftEvent".to_owned()),
            name: event.metadata.name.clone(),
            namespace,
            ..ObjectReference::default()
        }),
        reporting_controller: Some(Binary::Enforcer.reporting_controller().to_owned()),
        reporting_instance: Some(spec.node.clone()),
        ..Event::default()
    }
}

/// The Event of what has become of a container, on its pod.
pub(super) fn outcome_event(told: &Told, reason: &str, node: &str) -> Event {
    let container = &told.container;
    let now = Timestamp::now();
    // As client-go names Events, by the moment, which makes them differ; a name has room for so much.
    let name = format!("{}.{:x}", cut(&container.pod, 200), now.as_nanosecond());
    let took = told.outcome.duration_milliseconds.map_or_else(String::new, |took| format!(" ({took} ms)"));
    let said = format!("{} of container {}: {}{took}", told.outcome.action, container.name, told.outcome.outcome);
    Event {
        metadata: ObjectMeta {
            name: Some(name),
            namespace: Some(container.namespace.clone()),
            ..ObjectMeta::default()
        },
        event_time: Some(MicroTime(now)),
        type_: Some(if reason == "ContainerResumed" { "Normal" } else { "Warning" }.to_owned()),
        reason: Some(reason.to_owned()),
        action: Some(told.outcome.action.as_str().to_owned()),
        note: Some(cut(&said, NOTE_MAX).to_owned()),
        regarding: Some(pod_of(&container.namespace, &container.pod, container.pod_uid.as_ref(), &container.name)),
        reporting_controller: Some(Binary::Enforcer.reporting_controller().to_owned()),
        reporting_instance: Some(node.to_owned()),
        ..Event::default()
    }
}

fn pod_of(namespace: &str, pod: &str, uid: Option<&String>, container: &str) -> ObjectReference {
    ObjectReference {
        api_version: Some("v1".to_owned()),
        kind: Some("Pod".to_owned()),
        name: Some(pod.to_owned()),
        namespace: Some(namespace.to_owned()),
        uid: uid.cloned(),
        field_path: Some(format!("spec.containers{{{container}}}")),
        ..ObjectReference::default()
    }
}

/// What changes of it when it happens again.
pub(super) fn series(count: i64, last: &MicroTime) -> EventSeries {
    EventSeries { count: i32::try_from(count).unwrap_or(i32::MAX).max(2), last_observed_time: last.clone() }
}

fn note(event: &DriftEvent) -> String {
    let spec = &event.spec;
    let mut path = Quoted(spec.path.as_bytes()).to_string();
    if path.len() > PATH_MAX {
        path = format!("{}…", cut(&path, PATH_MAX));
    }
    let path = if spec.path.is_empty() { "a file whose path is unknown" } else { &path };
    let mut note = format!(
        "{} {path} in container {} (policy {}, severity {})",
        spec.verdict.as_str(),
        spec.container,
        spec.policy,
        spec.severity.as_str()
    );
    if let Some(runbook) = spec.runbook_url.as_ref().filter(|url| note.len() + url.len() < NOTE_MAX - 16) {
        note.push_str("; see ");
        note.push_str(runbook);
    }
    cut(&note, NOTE_MAX).to_owned()
}

fn cut(text: &str, most: usize) -> &str {
    let end = (0..=most.min(text.len())).rev().find(|end| text.is_char_boundary(*end));
    text.get(..end.unwrap_or_default()).unwrap_or_default()
}
