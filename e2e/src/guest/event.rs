//! The enforcer's events, as far as tests look at them.

use serde_json::Value;
use std::collections::BTreeMap;

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
    /// The `DriftEvent` that the line is about: lines of one name are states of one object.
    pub(crate) name: String,
    /// How often it has happened, as of this line.
    pub(crate) count: u64,
    /// The whole line, for messages.
    pub(crate) line: String,
}

impl Event {
    /// Reads a `DriftEvent`; the error says which field is missing.
    pub(crate) fn parse(line: &str) -> Result<Event, String> {
        let value: Value = serde_json::from_str(line).map_err(|error| format!("not JSON ({error}): {line}"))?;
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
            name: value
                .pointer("/metadata/name")
                .and_then(Value::as_str)
                .ok_or_else(|| format!("no metadata.name: {line}"))?
                .to_owned(),
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

/// How often all of `events` happened: objects are counted by their last state.
pub(crate) fn total<'a>(events: impl IntoIterator<Item = &'a Event>) -> u64 {
    let mut counts = BTreeMap::new();
    for event in events {
        let count = counts.entry(event.name.as_str()).or_insert(0);
        *count = event.count.max(*count);
    }
    counts.values().sum()
}

/// The field itself or one of the object's parts: where it stands is the API's matter, not the attacks'.
fn field<'a>(value: &'a Value, name: &str) -> Option<&'a Value> {
    value.get(name).or_else(|| ["spec", "status", "event"].iter().find_map(|part| value.get(part)?.get(name)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINE: &str = r#"{"kind":"DriftEvent","metadata":{"name":"e1"},"spec":{"container":"c","policy":"p","reason":"NewBinary","verdict":"Denied","path":"/x","process":{"pid":7,"uid":0}},"status":{"count":3}}"#;

    #[test]
    fn a_drift_event_is_read() {
        let event = Event::parse(LINE).unwrap();
        assert_eq!((event.pid, event.count), (7, 3));
        assert_eq!(event.reason, "NewBinary");
    }

    #[test]
    fn states_of_one_object_are_counted_once() {
        let of = |name: &str, count: &str| {
            let line = LINE.replace("e1", name).replace("\"count\":3", count);
            Event::parse(&line).unwrap()
        };
        let events = [of("a", "\"count\":3"), of("b", "\"count\":1"), of("a", "\"count\":7")];
        assert_eq!(total(&events), 8);
    }

    #[test]
    fn a_missing_field_is_named() {
        let error = Event::parse(&LINE.replace("verdict", "verdikt")).unwrap_err();
        assert!(error.contains("verdict"), "{error}");
        assert!(Event::parse("{}").is_err());
    }
}
