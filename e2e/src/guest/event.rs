//! The enforcer's events, as far as tests look at them.

use serde_json::Value;

/// One line of the enforcer's standard output.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Event {
    pub(crate) container: String,
    pub(crate) policy: String,
    pub(crate) reason: String,
    pub(crate) verdict: String,
    pub(crate) path: String,
    pub(crate) pid: i64,
    pub(crate) uid: i64,
    /// How many executions or mappings this line stands for.
    pub(crate) count: u64,
    /// The whole line, for messages.
    pub(crate) line: String,
}

impl Event {
    /// Reads a `DriftEvent`; the error says which field is missing.
    pub(crate) fn parse(line: &str) -> Result<Event, String> {
        let value: Value =
            serde_json::from_str(line).map_err(|error| format!("not JSON ({error}): {line}"))?;
        if value.get("kind").and_then(Value::as_str) != Some("DriftEvent") {
            return Err(format!("kind is not DriftEvent: {line}"));
        }
        let text = |name: &str| {
            field(&value, name)
                .and_then(Value::as_str)
                .map(str::to_owned)
                .ok_or_else(|| format!("no text field {name:?}: {line}"))
        };
        let process = |name: &str| {
            field(&value, "process")
                .and_then(|process| process.get(name))
                .and_then(Value::as_i64)
                .ok_or_else(|| format!("no number process.{name}: {line}"))
        };
        Ok(Event {
            container: text("container")?,
            policy: text("policy")?,
            reason: text("reason")?,
            verdict: text("verdict")?,
            path: text("path")?,
            pid: process("pid")?,
            uid: process("uid")?,
            count: field(&value, "count")
                .and_then(Value::as_u64)
                .ok_or_else(|| format!("no number \"count\": {line}"))?,
            line: line.to_owned(),
        })
    }
}

/// The field itself or one of the object's parts: where it stands is the API's matter, not the attacks'.
fn field<'a>(value: &'a Value, name: &str) -> Option<&'a Value> {
    value.get(name).or_else(|| {
        ["spec", "status", "event"]
            .iter()
            .find_map(|part| value.get(part)?.get(name))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINE: &str = r#"{"kind":"DriftEvent","spec":{"container":"c","policy":"p","reason":"NewBinary","verdict":"Denied","path":"/x","count":3,"process":{"pid":7,"uid":0}}}"#;

    #[test]
    fn a_drift_event_is_read() {
        let event = Event::parse(LINE).unwrap();
        assert_eq!((event.pid, event.count), (7, 3));
        assert_eq!(event.reason, "NewBinary");
    }

    #[test]
    fn a_missing_field_is_named() {
        let error = Event::parse(&LINE.replace("verdict", "verdikt")).unwrap_err();
        assert!(error.contains("verdict"), "{error}");
        assert!(Event::parse("{}").is_err());
    }
}
