//! The `CustomResourceDefinition`, as the API server gets it.

use kube::CustomResourceExt;
use serde_json::{Map, Value};

use crate::policy::ContainerDriftPolicy;

/// The API group.
pub const GROUP: &str = "mooring.dev";
/// The version of the API.
pub const VERSION: &str = "v1alpha1";
/// Group and version as objects write it.
pub const API_VERSION: &str = "mooring.dev/v1alpha1";
/// The kind of a policy.
pub const POLICY_KIND: &str = "ContainerDriftPolicy";

/// Formats that the API server knows; it warns about every other one at each apply.
const KNOWN_FORMATS: [&str; 3] = ["int32", "int64", "date-time"];

/// The `CustomResourceDefinition` of `ContainerDriftPolicy`, in the shape of its file.
///
/// # Errors
/// Only where the types themselves cannot be written as JSON, which a test rules out.
pub fn policy_definition() -> Result<Value, serde_json::Error> {
    let mut definition = serde_json::to_value(ContainerDriftPolicy::crd())?;
    if let Some(versions) = definition.pointer_mut("/spec/versions").and_then(Value::as_array_mut) {
        for version in versions {
            if let Some(schema) = version.pointer_mut("/schema/openAPIV3Schema") {
                tidy(schema);
            }
        }
    }
    Ok(definition)
}

/// The schema of `ContainerDriftPolicy` out of its definition: the one that [`crate::validate`] enforces.
///
/// # Errors
/// As [`policy_definition`].
pub fn policy_schema() -> Result<Value, serde_json::Error> {
    let mut definition = policy_definition()?;
    Ok(definition.pointer_mut("/spec/versions/0/schema/openAPIV3Schema").map(Value::take).unwrap_or_default())
}

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
