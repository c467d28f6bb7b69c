//! `DriftEventBreaker`: in which namespaces agents may make no `DriftEvent`s for now. The admission policy reads it.
#![allow(clippy::doc_markdown)] // `kubectl explain` shows these comments as plain text.

use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::rules;

/// Where DriftEvents come faster than retention's caps allow.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "mooring.dev",
    version = "v1alpha1",
    kind = "DriftEventBreaker",
    plural = "drifteventbreakers",
    shortname = "deb",
    category = "mooring",
    derive = "PartialEq",
    doc = "Where agents may make no DriftEvents for now, because as many were trimmed there as the caps allow, and again. The \
           operator writes it: one object, named mooring, made when it first opens. What is refused is counted in the \
           DriftNodes, and enforcement goes on as ever.",
    printcolumn(
        name = "NAMESPACES",
        type_ = "string",
        json_path = ".spec.namespaces",
        description = "Where agents make none for now"
    ),
    printcolumn(name = "AGE", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
pub struct DriftEventBreakerSpec {
    /// The namespaces in which agents make no DriftEvents for now; a single '*' where it is every one. Empty while all are told.
    /// At most 256.
    #[serde(default)]
    #[schemars(schema_with = "rules::breaker_namespaces")]
    pub namespaces: Vec<String>,
}

/// The name of the one object.
pub const BREAKER: &str = "mooring";
/// What stands for every namespace.
pub const EVERY_NAMESPACE: &str = "*";
