//! The rules of a `DriftEvent`.

use schemars::{Schema, SchemaGenerator, json_schema};
use serde_json::{Value, json};

use super::rule;
use crate::{limits, text};

/// Rules over `spec`. An agent may write the events of its node again, to count; what an event is about stays.
pub(crate) fn spec() -> Value {
    json!([rule(
        "self.policy == oldSelf.policy && self.reason == oldSelf.reason && self.node == oldSelf.node && self.pod == oldSelf.pod && self.container == oldSelf.container && self.path == oldSelf.path",
        "policy, reason, node, pod, container and path must stay as they are: they say which event this is, so write another DriftEvent",
    )])
}

/// Rules over `status`.
pub(crate) fn status() -> Value {
    json!([
        rule(
            "self.firstSeen <= self.lastSeen",
            "firstSeen must not be after lastSeen: write the earlier of the two times there",
        ),
        rule("self.count >= oldSelf.count", "count must not fall: add to the count that the object has"),
    ])
}

/// `spec.container`.
pub(crate) fn container_name(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "string",
        "maxLength": limits::MAX_CONTAINER_NAME,
        "x-kubernetes-validations": [rule(
            "self.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?$')",
            "must be a container's name: lower-case letters, digits and '-', beginning and ending with a letter or digit, as in api",
        )],
    })
}

/// Text that a workload may have chosen.
fn printable(most: u64) -> Schema {
    json_schema!({
        "type": "string",
        "maxLength": most,
        "x-kubernetes-validations": [rule(
            &format!("!self.matches('{}')", text::UNSAFE),
            "must not hold control or invisible characters: write them escaped, as in \\u{1b}",
        )],
    })
}

/// Paths, and the names of volumes, which are paths outside a cluster.
pub(crate) fn path(_: &mut SchemaGenerator) -> Schema {
    printable(limits::MAX_EVENT_PATH)
}

/// `spec.process.commandLine`.
pub(crate) fn command_line(_: &mut SchemaGenerator) -> Schema {
    printable(limits::MAX_COMMAND_LINE)
}

/// `spec.process.parent.name`.
pub(crate) fn process_name(_: &mut SchemaGenerator) -> Schema {
    printable(limits::MAX_PROCESS_NAME)
}

/// `spec.containerID` and `spec.pod.uid`.
pub(crate) fn id(_: &mut SchemaGenerator) -> Schema {
    printable(limits::MAX_UID_TEXT)
}

/// `spec.image`.
pub(crate) fn image(_: &mut SchemaGenerator) -> Schema {
    printable(limits::MAX_IMAGE)
}

/// `spec.volume.kind`.
pub(crate) fn volume_kind(_: &mut SchemaGenerator) -> Schema {
    printable(limits::MAX_VOLUME_KIND)
}

/// What became of an action or a recording.
pub(crate) fn message(_: &mut SchemaGenerator) -> Schema {
    printable(limits::MAX_MESSAGE)
}
