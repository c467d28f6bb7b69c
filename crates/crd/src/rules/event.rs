//! The rules of a `DriftEvent`.

use schemars::{Schema, SchemaGenerator, json_schema};
use serde_json::{Value, json};

use super::rule;
use crate::limits;

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
