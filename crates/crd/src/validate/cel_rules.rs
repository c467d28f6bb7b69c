//! CEL rules of the schema, compiled once and evaluated on values.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};

use cel::extractors::This;
use cel::{Context, Env, ExecutionError, Program, Value as CelValue};
use k8s_openapi::jiff::Timestamp;
use serde_json::Value;

use super::schema::Schema;

/// One `x-kubernetes-validations` entry.
pub(super) struct Rule {
    program: Program,
    message: String,
    /// It compares with the object's older state: the API server evaluates it on updates only, and files have none.
    is_transition: bool,
}

/// What became of one rule.
pub(super) enum Outcome {
    Holds,
    /// Broken, or not computable, which the API server treats as broken: with the words for the person.
    Broken(String),
}

impl Rule {
    /// Compiles an entry.
    ///
    /// # Errors
    /// What is wrong with the entry. A test compiles them all.
    pub(super) fn compile(entry: &Value) -> Result<Self, String> {
        let source = entry.get("rule").and_then(Value::as_str).ok_or("a rule without an expression")?;
        let message = entry
            .get("message")
            .and_then(Value::as_str)
            .ok_or_else(|| format!("a rule without a message: {source}"))?;
        let program = Program::compile(source).map_err(|e| format!("{source}: {e}"))?;
        Ok(Self { program, message: message.to_owned(), is_transition: source.contains("oldSelf") })
    }

    /// Evaluates the rule on `self`.
    pub(super) fn evaluate(&self, context: &Context<'_, '_>) -> Outcome {
        if self.is_transition {
            return Outcome::Holds;
        }
        match self.program.execute(context) {
            Ok(CelValue::Bool(true)) => Outcome::Holds,
            Ok(CelValue::Bool(false)) => Outcome::Broken(self.message.clone()),
            Ok(other) => Outcome::Broken(format!("{} (the rule gave {other:?})", self.message)),
            Err(e) => Outcome::Broken(format!("{} (the rule failed: {e})", self.message)),
        }
    }
}

/// The functions and variables of a rule: the standard library, `matches`, and `self`.
pub(super) fn context(schema: &Schema, value: &Value) -> Result<Context<'static, 'static>, String> {
    static STANDARD: OnceLock<Arc<Env>> = OnceLock::new();
    let standard = STANDARD.get_or_init(|| Arc::new(Env::stdlib()));
    let mut context = Context::with_env(Arc::clone(standard));
    context.add_function("matches", matches).map_err(|e| e.to_string())?;
    context.add_variable_from_value("self", to_cel(Some(schema), value));
    Ok(context)
}

/// `matches`, by an engine that runs in linear time. Expressions are the schema's own, so compiling them anew for each
/// call is a cost only where a list is long; they are kept for the thread.
#[allow(clippy::needless_pass_by_value)] // The signature is the CEL library's.
fn matches(This(text): This<Arc<String>>, expression: Arc<String>) -> Result<bool, ExecutionError> {
    thread_local! {
        static COMPILED: std::cell::RefCell<HashMap<String, regex_lite::Regex>> = std::cell::RefCell::default();
    }
    COMPILED.with_borrow_mut(|compiled| {
        if let Some(regex) = compiled.get(expression.as_str()) {
            return Ok(regex.is_match(&text));
        }
        let regex = regex_lite::Regex::new(&expression).map_err(|e| ExecutionError::function_error("matches", e))?;
        let matched = regex.is_match(&text);
        compiled.insert(expression.as_str().to_owned(), regex);
        Ok(matched)
    })
}

/// The value as CEL sees it. Times compare as the API server compares them; here they are numbers.
fn to_cel(schema: Option<&Schema>, value: &Value) -> CelValue {
    match value {
        Value::Null => CelValue::Null,
        Value::Bool(b) => CelValue::Bool(*b),
        Value::Number(n) => {
            n.as_i64().map_or_else(|| n.as_f64().map_or(CelValue::Null, CelValue::Float), CelValue::Int)
        }
        Value::String(s) => {
            let time = schema.filter(|schema| schema.date_time).and_then(|_| s.parse::<Timestamp>().ok());
            match time {
                Some(time) => CelValue::Int(time.as_microsecond()),
                None => CelValue::String(Arc::new(s.clone())),
            }
        }
        Value::Array(items) => {
            let inner = schema.and_then(|schema| schema.items.as_deref());
            CelValue::List(Arc::new(items.iter().map(|item| to_cel(inner, item)).collect()))
        }
        Value::Object(fields) => fields
            .iter()
            .map(|(key, value)| {
                let inner = schema.and_then(|s| s.properties.get(key).or(s.additional.as_deref()));
                (key.clone(), to_cel(inner, value))
            })
            .collect::<HashMap<String, CelValue>>()
            .into(),
    }
}
