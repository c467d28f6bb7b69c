//! The rules that statuses share. Statuses are written by programs: their bounds keep one broken writer from filling etcd.

use schemars::{Schema, SchemaGenerator, json_schema};

use super::rule;
use crate::limits;

/// `conditions`, as Kubernetes defines them, with bounds.
pub(crate) fn conditions(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "array",
        "maxItems": limits::MAX_CONDITIONS,
        "x-kubernetes-list-type": "map",
        "x-kubernetes-list-map-keys": ["type"],
        "items": {
            "description": "One aspect of the object's state.",
            "type": "object",
            "required": ["lastTransitionTime", "message", "reason", "status", "type"],
            "properties": {
                "type": {
                    "description": "Which aspect, in CamelCase.",
                    "type": "string",
                    "maxLength": 64,
                    "x-kubernetes-validations": [rule(
                        "self.matches('^[A-Za-z][A-Za-z0-9]*$')",
                        "must be a word: write letters and digits without spaces, as in Enforcing",
                    )],
                },
                "status": {
                    "description": "Whether it holds: True, False or Unknown.",
                    "type": "string",
                    "enum": ["True", "False", "Unknown"],
                },
                "reason": {
                    "description": "Why it is so, as one word in CamelCase for programs.",
                    "type": "string",
                    "maxLength": 64,
                    "x-kubernetes-validations": [rule(
                        "self.matches('^[A-Za-z][A-Za-z0-9]*$')",
                        "must be a word: write letters and digits without spaces, as in AllNodesEnforce",
                    )],
                },
                "message": {
                    "description": "Why it is so and what to do, in words for people. At most 4096 characters.",
                    "type": "string",
                    "maxLength": 4096,
                },
                "lastTransitionTime": {
                    "description": "When status changed last.",
                    "type": "string",
                    "format": "date-time",
                },
                "observedGeneration": {
                    "description": "The generation of the spec that this is about.",
                    "type": "integer",
                    "format": "int64",
                    "minimum": 0,
                },
            },
        },
    })
}

/// `DriftNode.status.policies[].unsupported`: names of features. Their form is asked for where the features are listed.
pub(crate) fn feature_names(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "array",
        "maxItems": limits::MAX_FEATURES,
        "x-kubernetes-list-type": "set",
        "items": {"type": "string", "maxLength": 64},
    })
}

/// `DriftNode.status.features[].name`: a word, not one of a closed list, so that a newer agent can tell more than an older
/// definition knows.
pub(crate) fn feature_name(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "string",
        "maxLength": 64,
        "x-kubernetes-validations": [rule(
            "self.matches('^[A-Za-z][A-Za-z0-9]*$')",
            "must be a word: write letters and digits without spaces, as in DriftedLibraries",
        )],
    })
}
