//! The parts of an object that the API server checks without our schema: what it is, and its metadata.

use serde_json::{Map, Value};

use super::Errors;
use super::wording::{shown, type_name};
use crate::definition::{API_VERSION, Kind};
use crate::limits;

/// Fields that Kubernetes' `ObjectMeta` has, apart from those checked below: what `kubectl get -o yaml` prints can be
/// used as a file.
const METADATA_FIELDS: [&str; 13] = [
    "annotations",
    "creationTimestamp",
    "deletionGracePeriodSeconds",
    "deletionTimestamp",
    "finalizers",
    "generateName",
    "generation",
    "labels",
    "managedFields",
    "ownerReferences",
    "resourceVersion",
    "selfLink",
    "uid",
];

/// Checks `apiVersion` and `kind`.
pub(super) fn check_type(kind: Kind, object: &Map<String, Value>, errors: &mut Errors) {
    for (field, expected) in [("apiVersion", API_VERSION), ("kind", kind.as_str())] {
        match object.get(field) {
            Some(Value::String(found)) if found == expected => {}
            Some(found) => errors.add(field, format!("is {}: write {field}: {expected}", shown(found))),
            None => errors.add(field, format!("is missing: write {field}: {expected}")),
        }
    }
}

/// Checks `metadata`.
pub(super) fn check_metadata(kind: Kind, metadata: Option<&Value>, errors: &mut Errors) {
    let metadata = match metadata {
        Some(Value::Object(metadata)) => metadata,
        Some(other) => {
            let found = type_name(other);
            return errors.add("metadata", format!("must be an object, not {found}: write metadata: {{name: NAME}}"));
        }
        None => return errors.add("metadata", "is missing: write metadata: {name: NAME}"),
    };
    match metadata.get("name") {
        Some(Value::String(name)) if is_subdomain(name) => {}
        Some(name) => errors.add(
            "metadata.name",
            format!(
                "{} is not a name: write at most 253 lower-case letters, digits, '-' and '.', beginning and ending with a letter or digit, as in payments-immutable",
                shown(name)
            ),
        ),
        None => errors.add("metadata.name", "is missing: write a name, as in payments-immutable"),
    }
    for (field, value) in metadata {
        let path = format!("metadata.{field}");
        match field.as_str() {
            "name" => {}
            "namespace" if kind.is_namespaced() => {
                if !value.as_str().is_some_and(|name| is_subdomain(name) && name.len() <= 63 && !name.contains('.')) {
                    errors.add(&path, format!("{} is not a namespace: write its name, as in payments", shown(value)));
                }
            }
            "namespace" => {
                let mut message = format!("must be left out: a {kind} is for the whole cluster");
                if kind == Kind::ContainerDriftPolicy {
                    message.push_str("; choose namespaces with spec.scope.namespaceSelector");
                }
                errors.add(&path, message);
            }
            "labels" | "annotations" => check_strings(&path, value, errors),
            known if METADATA_FIELDS.contains(&known) => {}
            _ => errors.add(&path, "is not a field of metadata: remove it, or correct its spelling"),
        }
    }
}

/// `labels` and `annotations` map strings to strings.
fn check_strings(path: &str, value: &Value, errors: &mut Errors) {
    let Value::Object(map) = value else {
        let found = type_name(value);
        return errors.add(path, format!("must be a map of strings, not {found}"));
    };
    for (key, value) in map {
        if !value.is_string() {
            let found = type_name(value);
            errors.add(&format!("{path}[{key}]"), format!("must be a string, not {found}: write it in quotes"));
        }
    }
}

/// Whether this is an RFC 1123 subdomain, as Kubernetes asks of most names.
fn is_subdomain(name: &str) -> bool {
    let label = |label: &str| {
        let alphanumeric = |b: &u8| b.is_ascii_lowercase() || b.is_ascii_digit();
        let bytes = label.as_bytes();
        bytes.first().is_some_and(alphanumeric)
            && bytes.last().is_some_and(alphanumeric)
            && bytes.iter().all(|b| alphanumeric(b) || *b == b'-')
    };
    u64::try_from(name.len()).is_ok_and(|n| n <= limits::MAX_OBJECT_NAME) && name.split('.').all(label)
}
