//! Checks a value against a schema, and finds the words for what is wrong.

use std::collections::HashSet;

use serde_json::{Map, Value};

use super::Errors;
use super::cel_rules::{self, Outcome};
use super::schema::{Schema, Unique};
use super::wording::{article, distance, shown, type_name};

impl Schema {
    /// Checks a whole object; `apiVersion`, `kind` and `metadata` are not this schema's.
    pub(super) fn check(&self, object: &Value, errors: &mut Errors) {
        let Value::Object(fields) = object else {
            return;
        };
        for name in &self.required {
            if !fields.contains_key(name) {
                errors.add(name, "is missing: it is required");
            }
        }
        for (name, value) in fields {
            if matches!(name.as_str(), "apiVersion" | "kind" | "metadata") {
                continue;
            }
            match self.properties.get(name) {
                Some(schema) => schema.check_value(name, value, errors),
                None => self.unknown(name, name, errors),
            }
        }
    }

    fn check_value(&self, path: &str, value: &Value, errors: &mut Errors) {
        if errors.full() {
            return;
        }
        if !self.has_type(value) {
            let found = type_name(value);
            let expected = article(&self.kind);
            let hint = self.type_hint(value);
            return errors.add(path, format!("must be {expected}, not {found}: {hint}"));
        }
        let before = errors.0.len();
        match value {
            Value::Object(fields) => self.check_object(path, fields, errors),
            Value::Array(items) => self.check_array(path, items, errors),
            Value::String(text) => self.check_string(path, text, errors),
            Value::Number(number) => self.check_number(path, number, errors),
            Value::Null | Value::Bool(_) => {}
        }
        if !self.words.is_empty() && !self.words.contains(value) {
            let words: Vec<&str> = self.words.iter().filter_map(Value::as_str).collect();
            errors.add(path, format!("{} is not allowed here: write one of {}", shown(value), words.join(", ")));
        }
        // Rules assume what the schema says of the parts, as in the API server, which evaluates them last.
        if errors.0.len() == before {
            self.check_rules(path, value, errors);
        }
    }

    fn check_rules(&self, path: &str, value: &Value, errors: &mut Errors) {
        if self.rules.is_empty() {
            return;
        }
        let context = match cel_rules::context(self, value) {
            Ok(context) => context,
            Err(e) => return errors.add(path, format!("its rules cannot be evaluated: {e}")),
        };
        for rule in &self.rules {
            if let Outcome::Broken(message) = rule.evaluate(&context) {
                let message = match value {
                    Value::String(_) => format!("{} {message}", shown(value)),
                    _ => message,
                };
                errors.add(path, message);
            }
        }
    }

    fn check_object(&self, path: &str, fields: &Map<String, Value>, errors: &mut Errors) {
        for name in &self.required {
            if !fields.contains_key(name) {
                errors.add(&format!("{path}.{name}"), "is missing: it is required");
            }
        }
        if let Some(most) = self.max_properties
            && fields.len() as u64 > most
        {
            let found = fields.len();
            errors.add(path, format!("has {found} entries: at most {most} are allowed"));
        }
        for (name, value) in fields {
            if errors.full() {
                return;
            }
            if let Some(schema) = self.properties.get(name) {
                schema.check_value(&format!("{path}.{name}"), value, errors);
            } else if let Some(schema) = &self.additional {
                schema.check_value(&format!("{path}[{name}]"), value, errors);
            } else {
                self.unknown(&format!("{path}.{name}"), name, errors);
            }
        }
    }

    fn check_array(&self, path: &str, items: &[Value], errors: &mut Errors) {
        let count = items.len() as u64;
        if let Some(most) = self.max_items
            && count > most
        {
            // The rest may be anything, of any length: it is not looked at.
            return errors.add(path, format!("has {count} entries: at most {most} are allowed"));
        }
        if let Some(least) = self.min_items
            && count < least
        {
            errors.add(path, format!("has {count} entries: at least {least} are needed"));
        }
        if let Some(schema) = &self.items {
            for (index, item) in items.iter().enumerate() {
                schema.check_value(&format!("{path}[{index}]"), item, errors);
            }
        }
        let mut seen = HashSet::new();
        for (index, item) in items.iter().enumerate() {
            let key = match &self.unique {
                Unique::No => return,
                Unique::ByValue => item.to_string(),
                Unique::ByKeys(keys) => {
                    let values: Vec<&Value> = keys.iter().filter_map(|k| item.get(k)).collect();
                    if values.len() < keys.len() {
                        continue;
                    }
                    values.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
                }
            };
            if !seen.insert(key.clone()) {
                errors.add(&format!("{path}[{index}]"), format!("{key} is already in the list: remove one of them"));
            }
        }
    }

    fn check_string(&self, path: &str, text: &str, errors: &mut Errors) {
        let count = text.chars().count() as u64;
        if let Some(most) = self.max_length
            && count > most
        {
            errors.add(path, format!("has {count} characters: at most {most} are allowed"));
        }
        if let Some(least) = self.min_length
            && count < least
        {
            errors.add(path, format!("has {count} characters: at least {least} are needed"));
        }
        if let Some(pattern) = &self.pattern
            && !pattern.is_match(text)
        {
            errors.add(path, format!("must match {pattern}"));
        }
        if self.date_time && text.parse::<k8s_openapi::jiff::Timestamp>().is_err() {
            errors.add(path, "must be a time as RFC 3339 writes it, as in 2026-01-31T12:00:00Z");
        }
    }

    fn check_number(&self, path: &str, number: &serde_json::Number, errors: &mut Errors) {
        let range = match (self.minimum, self.maximum) {
            (Some(least), Some(most)) => format!("write a number from {least} to {most}"),
            (Some(least), None) => format!("write {least} or more"),
            (None, Some(most)) => format!("write {most} or less"),
            (None, None) => return,
        };
        // A whole number beyond 64 bits is beyond every bound of ours.
        let inside = number
            .as_i64()
            .is_some_and(|n| self.minimum.is_none_or(|least| n >= least) && self.maximum.is_none_or(|most| n <= most));
        if !inside {
            errors.add(path, format!("{number} is out of range: {range}"));
        }
    }

    fn has_type(&self, value: &Value) -> bool {
        match self.kind.as_str() {
            "object" => value.is_object(),
            "array" => value.is_array(),
            "string" => value.is_string(),
            "boolean" => value.is_boolean(),
            "integer" => value.is_i64() || value.is_u64(),
            "number" => value.is_number(),
            _ => true,
        }
    }

    fn type_hint(&self, value: &Value) -> String {
        match (self.kind.as_str(), value) {
            (_, Value::Null) => "write a value, or leave the field out".to_owned(),
            ("boolean", _) => "write true or false, without quotes".to_owned(),
            ("integer" | "number", _) => "write a whole number, without quotes".to_owned(),
            ("string", Value::Bool(_) | Value::Number(_)) => {
                format!("write it in quotes, as in \"{value}\"")
            }
            ("string", _) => "write one string".to_owned(),
            ("array", _) => "write a list, each entry on a line that begins with '- '".to_owned(),
            _ if self.properties.is_empty() => "write keys and values".to_owned(),
            _ => format!("write the fields {}", self.names()),
        }
    }

    fn names(&self) -> String {
        let names: Vec<&str> = self.properties.keys().map(String::as_str).collect();
        names.join(", ")
    }

    fn unknown(&self, path: &str, name: &str, errors: &mut Errors) {
        let near = self
            .properties
            .keys()
            .map(|known| (distance(&known.to_lowercase(), &name.to_lowercase()), known))
            .filter(|(distance, _)| *distance <= 3)
            .min();
        let fix = match near {
            Some((_, known)) => format!("did you mean {known}?"),
            None => format!("remove it; the fields here are {}", self.names()),
        };
        errors.add(path, format!("is not a field: {fix}"));
    }
}
