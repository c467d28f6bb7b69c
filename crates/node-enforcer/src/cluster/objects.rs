//! The Kubernetes Event of a violation: what people see at the pod.

use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::api::events::v1::{Event, EventSeries};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use mooring_crd::access::Binary;
use mooring_crd::{API_VERSION, DriftEvent};

use crate::report::Quoted;

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
        regarding: Some(ObjectReference {
            api_version: Some("v1".to_owned()),
            kind: Some("Pod".to_owned()),
            name: Some(spec.pod.name.clone()),
            namespace: namespace.clone(),
            uid: spec.pod.uid.clone(),
            field_path: Some(format!("spec.containers{{{}}}", spec.container)),
            ..ObjectReference::default()
        }),
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
