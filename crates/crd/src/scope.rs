//! Which containers a policy is for.
#![allow(clippy::doc_markdown)] // `kubectl explain` shows these comments as plain text.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{limits, rules};

/// Which containers the policy is for. All that is written must match; what is left out matches everything, so an
/// empty scope is every container of the cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Scope {
    /// Selects by the labels of the pod's namespace. The label kubernetes.io/metadata.name holds the namespace's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace_selector: Option<LabelSelector>,

    /// Selects by the labels of the pod. Whoever may label the pod may take it out of the scope.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod_selector: Option<LabelSelector>,

    /// Selects by the labels of the node that the pod runs on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node_selector: Option<LabelSelector>,

    /// Names of containers, as the pod's spec has them; init and ephemeral containers too. One of them must match.
    /// At most 64, each once.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "rules::container_names")]
    pub containers: Vec<String>,

    /// Image references, as the pod's spec has them, where `*` stands for any characters, slashes included. One of them
    /// must match the whole reference. At most 64, each once.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "rules::images")]
    pub images: Vec<String>,
}

/// A label selector with the semantics of Kubernetes: all labels and all expressions must match; an empty selector
/// matches everything.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-map-type" = "atomic"))]
pub struct LabelSelector {
    /// Labels that must be there with exactly these values. At most 32.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "rules::match_labels")]
    pub match_labels: BTreeMap<String, String>,

    /// Expressions that must all hold. At most 32.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("maxItems" = limits::MAX_SELECTOR_TERMS, "x-kubernetes-list-type" = "atomic"))]
    pub match_expressions: Vec<Requirement>,
}

/// One expression over a label.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = rules::requirement()))]
pub struct Requirement {
    /// The label's key.
    #[schemars(schema_with = "rules::label_key")]
    pub key: String,

    /// How the label's value is compared: In, NotIn, Exists or DoesNotExist. NotIn also holds where the label is absent.
    pub operator: Operator,

    /// The values to compare with: at least one for In and NotIn, none for Exists and DoesNotExist. At most 32, each once.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "rules::label_values")]
    pub values: Vec<String>,
}

/// How a requirement compares a label's value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum Operator {
    /// The label is there, with one of the values.
    In,
    /// The label is absent, or has none of the values.
    NotIn,
    /// The label is there.
    Exists,
    /// The label is absent.
    DoesNotExist,
}
