//! The kinds, and their `CustomResourceDefinition`s as the API server gets them.

use std::fmt;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::CustomResourceExt;
use serde_json::{Map, Value, json};

use crate::{
    breaker::DriftEventBreaker, channel::NotificationChannel, event::DriftEvent, node::DriftNode,
    policy::ContainerDriftPolicy,
};

/// The API group.
pub const GROUP: &str = "mooring.dev";
/// The version of the API.
pub const VERSION: &str = "v1alpha1";
/// Group and version as objects write it.
pub const API_VERSION: &str = "mooring.dev/v1alpha1";
/// The kind of a policy.
pub const POLICY_KIND: &str = "ContainerDriftPolicy";

/// A kind of the API.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// What must not run where, and what is done about it.
    ContainerDriftPolicy,
    /// What ran or was refused.
    DriftEvent,
    /// Where agents may make no `DriftEvent`s for now.
    DriftEventBreaker,
    /// What a node can do and does.
    DriftNode,
    /// Where notifications go.
    NotificationChannel,
}

impl Kind {
    /// Every kind.
    pub const ALL: [Self; 5] = [
        Self::ContainerDriftPolicy,
        Self::DriftEvent,
        Self::DriftEventBreaker,
        Self::DriftNode,
        Self::NotificationChannel,
    ];

    /// The word in an object's `kind`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ContainerDriftPolicy => POLICY_KIND,
            Self::DriftEvent => "DriftEvent",
            Self::DriftEventBreaker => "DriftEventBreaker",
            Self::DriftNode => "DriftNode",
            Self::NotificationChannel => "NotificationChannel",
        }
    }

    /// The word in a request's path and in a role.
    #[must_use]
    pub const fn plural(self) -> &'static str {
        match self {
            Self::ContainerDriftPolicy => "containerdriftpolicies",
            Self::DriftEvent => "driftevents",
            Self::DriftEventBreaker => "drifteventbreakers",
            Self::DriftNode => "driftnodes",
            Self::NotificationChannel => "notificationchannels",
        }
    }

    /// The short word that `kubectl` takes as well.
    #[must_use]
    pub const fn short_name(self) -> &'static str {
        match self {
            Self::ContainerDriftPolicy => "cdp",
            Self::DriftEvent => "de",
            Self::DriftEventBreaker => "deb",
            Self::DriftNode => "dn",
            Self::NotificationChannel => "nch",
        }
    }

    /// Whether objects are in a namespace.
    #[must_use]
    pub const fn is_namespaced(self) -> bool {
        matches!(self, Self::DriftEvent)
    }

    fn derived(self) -> CustomResourceDefinition {
        match self {
            Self::ContainerDriftPolicy => ContainerDriftPolicy::crd(),
            Self::DriftEvent => DriftEvent::crd(),
            Self::DriftEventBreaker => DriftEventBreaker::crd(),
            Self::DriftNode => DriftNode::crd(),
            Self::NotificationChannel => NotificationChannel::crd(),
        }
    }

    /// The `CustomResourceDefinition`, in the shape of its file.
    ///
    /// # Errors
    /// Only where the types themselves cannot be written as JSON, which a test rules out.
    pub fn definition(self) -> Result<Value, serde_json::Error> {
        let mut definition = serde_json::to_value(self.derived())?;
        for version in definition.pointer_mut("/spec/versions").and_then(Value::as_array_mut).into_iter().flatten() {
            if self == Self::DriftEvent {
                written_at_once(version);
            }
            if let Some(schema) = version.pointer_mut("/schema/openAPIV3Schema") {
                tidy(schema);
            }
        }
        Ok(definition)
    }

    /// The schema out of the definition: the one that [`crate::validate`] enforces.
    ///
    /// # Errors
    /// As [`Kind::definition`].
    pub fn schema(self) -> Result<Value, serde_json::Error> {
        let mut definition = self.definition()?;
        Ok(definition.pointer_mut("/spec/versions/0/schema/openAPIV3Schema").map(Value::take).unwrap_or_default())
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// Makes `status` a part like any other, and a required one. The derive adds a subresource wherever there is a status; an
/// event would then take two writes, and be without its count between them.
fn written_at_once(version: &mut Value) {
    if let Some(version) = version.as_object_mut() {
        version.remove("subresources");
    }
    if let Some(schema) = version.pointer_mut("/schema/openAPIV3Schema").and_then(Value::as_object_mut) {
        schema.insert("required".to_owned(), json!(["spec", "status"]));
    }
}

/// Formats that the API server knows; it warns about every other one at each apply.
const KNOWN_FORMATS: [&str; 3] = ["int32", "int64", "date-time"];

/// Removes what the derive adds and Kubernetes needs not, in every schema below this one.
fn tidy(schema: &mut Value) {
    let Some(object) = schema.as_object_mut() else {
        return;
    };
    // An absent field is the only way to leave something out: `null` beside it would be a second one, which CEL rules
    // would have to tell apart.
    object.remove("nullable");
    if let Some(format) = object.get("format").and_then(Value::as_str)
        && !KNOWN_FORMATS.contains(&format)
    {
        object.remove("format");
    }
    // Whole numbers come as floats from bounds that are given as such.
    for bound in ["minimum", "maximum"] {
        whole(object, bound);
    }
    if let Some(Value::String(text)) = object.get_mut("description") {
        *text = unwrap_lines(text);
    }
    if let Some(Value::Object(properties)) = object.get_mut("properties") {
        properties.values_mut().for_each(tidy);
    }
    for key in ["items", "additionalProperties"] {
        if let Some(inner) = object.get_mut(key) {
            tidy(inner);
        }
    }
}

/// Writes `5.0` as `5`.
#[allow(clippy::cast_possible_truncation)] // Bounds are small; the comparison below leaves any other as it is.
fn whole(object: &mut Map<String, Value>, key: &str) {
    if let Some(number) = object.get(key).and_then(Value::as_f64)
        && number.abs() < 9e15
        && number.fract() == 0.0
    {
        object.insert(key.to_owned(), Value::from(number as i64));
    }
}

/// Joins the lines of a doc comment, which end where the source's lines end; paragraphs stay.
fn unwrap_lines(text: &str) -> String {
    text.split("\n\n")
        .map(|paragraph| paragraph.split_whitespace().collect::<Vec<_>>().join(" "))
        .collect::<Vec<_>>()
        .join("\n\n")
}
