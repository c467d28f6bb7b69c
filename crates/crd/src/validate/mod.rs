//! Checks an object from a file as the API server checks one from `kubectl apply`.
//!
//! Both use the same schema: what is refused, by which bound, and with which words is written in the types of this
//! crate and nowhere else. Files are held to more in one respect: unknown fields are errors (the API server drops them
//! silently unless asked), because a misspelt `prevent` must not look like a policy.

mod cel_rules;
mod check;
mod metadata;
mod schema;
mod wording;

use std::fmt;
use std::sync::OnceLock;

use serde_json::Value;

use crate::definition::{API_VERSION, Kind};
use crate::policy::ContainerDriftPolicy;

/// One thing that is wrong with an object.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct FieldError {
    /// The field's full path, as in `spec.detect.exceptions[2].path`; empty for the object as a whole.
    pub field: String,
    /// What is wrong with it, and what to write instead.
    pub message: String,
}

impl FieldError {
    /// An error of the field at this path.
    pub fn new(field: impl Into<String>, message: impl Into<String>) -> Self {
        Self { field: field.into(), message: message.into() }
    }
}

impl fmt::Display for FieldError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.field.is_empty() { f.write_str(&self.message) } else { write!(f, "{}: {}", self.field, self.message) }
    }
}

impl std::error::Error for FieldError {}

/// At most this many errors are listed for one object: a file of a million mistakes must not become a report of a
/// million lines.
const MAX_ERRORS: usize = 64;

/// Collects errors, up to a bound.
#[derive(Default)]
struct Errors(Vec<FieldError>);

impl Errors {
    fn add(&mut self, field: &str, message: impl Into<String>) {
        if self.0.len() < MAX_ERRORS {
            self.0.push(FieldError::new(field, message));
        }
    }

    fn full(&self) -> bool {
        self.0.len() >= MAX_ERRORS
    }
}

/// The schema of a kind with its CEL rules compiled, made at first use.
fn compiled_schema(kind: Kind) -> &'static Result<schema::Schema, FieldError> {
    static SCHEMAS: [OnceLock<Result<schema::Schema, FieldError>>; Kind::ALL.len()] =
        [const { OnceLock::new() }; Kind::ALL.len()];
    let broken =
        |what: &str, e: &dyn fmt::Display| FieldError::new("", format!("the built-in schema cannot be {what}: {e}"));
    SCHEMAS[kind as usize].get_or_init(|| {
        let value = kind.schema().map_err(|e| broken("written", &e))?;
        schema::Schema::compile(&value).map_err(|e| broken("used", &e))
    })
}

/// Checks an object that should be of this kind, and fills in the defaults as the API server would. Rules that compare with an
/// older state of the object are the API server's alone.
///
/// # Errors
/// Everything that is wrong with it (up to 64 errors), in the order of the fields' paths.
pub fn validate(kind: Kind, object: &mut Value) -> Result<(), Vec<FieldError>> {
    let schema = compiled_schema(kind).as_ref().map_err(|e| vec![e.clone()])?;
    let Some(map) = object.as_object() else {
        return Err(vec![FieldError::new(
            "",
            format!(
                "must be an object, not {}: write a {kind}, beginning with apiVersion: {API_VERSION}",
                wording::type_name(object)
            ),
        )]);
    };
    let mut errors = Errors::default();
    metadata::check_type(kind, map, &mut errors);
    if !errors.0.is_empty() {
        // Another kind of object: its fields are not ours to judge.
        return Err(errors.0);
    }
    metadata::check_metadata(kind, map.get("metadata"), &mut errors);
    schema.apply_defaults(object);
    schema.check(object, &mut errors);
    if errors.0.is_empty() {
        return Ok(());
    }
    errors.0.sort();
    errors.0.dedup();
    Err(errors.0)
}

/// Checks an object that should be a `ContainerDriftPolicy`: [`validate`] for policies.
///
/// # Errors
/// As [`validate`].
pub fn validate_policy(object: &mut Value) -> Result<(), Vec<FieldError>> {
    validate(Kind::ContainerDriftPolicy, object)
}

/// Reads a `ContainerDriftPolicy` from an object of a file: [`validate_policy`], then the typed form.
///
/// # Errors
/// As [`validate_policy`].
pub fn policy_from_value(mut object: Value) -> Result<ContainerDriftPolicy, Vec<FieldError>> {
    validate_policy(&mut object)?;
    serde_json::from_value(object).map_err(|e| vec![FieldError::new("", format!("cannot be read: {e}"))])
}
