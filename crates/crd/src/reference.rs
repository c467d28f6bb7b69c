//! The field reference (Markdown), made from the schema, so that it says what the API server enforces.

use std::fmt::Write as _;

use serde_json::{Map, Value};

use crate::definition::{API_VERSION, Kind};

/// The reference of a kind's fields, out of its definition.
#[must_use]
pub fn reference(kind: Kind, definition: &Value) -> String {
    let scope = if kind.is_namespaced() { "namespaced" } else { "cluster scoped" };
    let short = kind.short_name();
    let mut text = format!(
        "<!-- Generated from crates/crd by `make gen`: edit the types there. -->\n\n# {kind}\n\n\
         `apiVersion: {API_VERSION}`, {scope}, short name `{short}`. `kubectl explain {short} --recursive` shows the same.\n"
    );
    let schema = definition.pointer("/spec/versions/0/schema/openAPIV3Schema");
    if let Some(schema) = schema.and_then(Value::as_object) {
        let _ = write!(text, "\n{}\n", description(schema));
        for part in ["spec", "status"] {
            if let Some(inner) = property(schema, part) {
                let _ = write!(text, "\n## {part}\n\n{}\n", description(inner));
                table(part, inner, &mut text);
            }
        }
    }
    printed(definition, &mut text);
    text
}

/// What `kubectl get` prints, and by what it selects.
fn printed(definition: &Value, text: &mut String) {
    let list = |pointer: &str| definition.pointer(pointer).and_then(Value::as_array).into_iter().flatten();
    text.push_str("\n## kubectl get\n\n| column | what it is |\n|---|---|\n");
    for column in list("/spec/versions/0/additionalPrinterColumns") {
        let Some(column) = column.as_object() else {
            continue;
        };
        let wide = column.get("priority").is_some_and(|priority| *priority != 0);
        let wide = if wide { " (with `-o wide`)" } else { "" };
        let what = match (description(column), string(column, "jsonPath")) {
            ("", ".metadata.creationTimestamp") => "How long ago it was created",
            (what, _) => what,
        };
        let _ = writeln!(text, "| {} | {what}{wide} |", string(column, "name"));
    }
    let fields: Vec<String> = list("/spec/versions/0/selectableFields")
        .filter_map(|field| field.get("jsonPath")?.as_str())
        .map(|path| format!("`{}`", path.trim_start_matches('.')))
        .collect();
    if !fields.is_empty() {
        let _ = write!(text, "\n`--field-selector` takes {}.\n", fields.join(", "));
    }
}

/// The fields of one object as a table, then the tables of the objects below it.
fn table(path: &str, schema: &Map<String, Value>, text: &mut String) {
    let Some(properties) = schema.get("properties").and_then(Value::as_object) else {
        return;
    };
    text.push_str("\n| field | type | default | what it is |\n|---|---|---|---|\n");
    for (name, field) in properties {
        let Some(field) = field.as_object() else {
            continue;
        };
        let required = is_required(schema, name);
        let default = match field.get("default") {
            Some(Value::Object(_)) | None if required => "required".to_owned(),
            Some(Value::Object(_)) | None => String::new(),
            Some(value) => format!("`{}`", value.to_string().trim_matches('"')),
        };
        // An object's rules stand below its own table.
        let own = if field.contains_key("properties") { String::new() } else { rules(field) };
        let what = cell(&[description(field), &own, &item_rules(field)]);
        let _ = writeln!(text, "| `{name}` | {} | {default} | {what} |", kind(field));
    }
    if let Some(object_rules) = Some(rules(schema)).filter(|rules| !rules.is_empty()) {
        let _ = write!(text, "\nRules: {object_rules}\n");
    }
    for (name, field) in properties {
        let Some(field) = field.as_object() else {
            continue;
        };
        let (path, inner) = match field.get("items").and_then(Value::as_object) {
            Some(items) => (format!("{path}.{name}[]"), items),
            None => (format!("{path}.{name}"), field),
        };
        if inner.contains_key("properties") {
            let _ = write!(text, "\n### {path}\n\n{}\n", description(inner));
            table(&path, inner, text);
        }
    }
}

fn property<'a>(schema: &'a Map<String, Value>, name: &str) -> Option<&'a Map<String, Value>> {
    schema.get("properties")?.get(name)?.as_object()
}

fn description(schema: &Map<String, Value>) -> &str {
    string(schema, "description")
}

fn string<'a>(schema: &'a Map<String, Value>, key: &str) -> &'a str {
    schema.get(key).and_then(Value::as_str).unwrap_or_default()
}

fn is_required(schema: &Map<String, Value>, name: &str) -> bool {
    schema.get("required").and_then(Value::as_array).is_some_and(|names| names.iter().any(|n| n == name))
}

/// The type with its bounds, in words.
fn kind(field: &Map<String, Value>) -> String {
    if let Some(words) = field.get("enum").and_then(Value::as_array) {
        let words: Vec<String> = words.iter().filter_map(Value::as_str).map(|word| format!("`{word}`")).collect();
        return words.join(", ");
    }
    let most = |key: &str, unit: &str| field.get(key).map(|n| format!(", at most {n} {unit}")).unwrap_or_default();
    let inner = |key: &str| field.get(key).and_then(Value::as_object).map_or_else(|| "object".to_owned(), kind);
    match string(field, "type") {
        "array" => format!("list{} of {}", most("maxItems", "entries"), inner("items")),
        "object" if field.contains_key("additionalProperties") => {
            format!("map{} to {}", most("maxProperties", "entries"), inner("additionalProperties"))
        }
        "string" => format!("string{}", most("maxLength", "characters")),
        "integer" => match (field.get("minimum"), field.get("maximum")) {
            (Some(least), Some(most)) => format!("integer, {least} to {most}"),
            _ => "integer".to_owned(),
        },
        other => other.to_owned(),
    }
}

/// The messages of a schema's rules: they are written for the person who broke them.
fn rules(schema: &Map<String, Value>) -> String {
    let messages: Vec<String> = schema
        .get("x-kubernetes-validations")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .filter_map(|rule| rule.get("message")?.as_str())
        .map(|message| format!("{}.", sentence(message)))
        .collect();
    messages.join(" ")
}

fn item_rules(field: &Map<String, Value>) -> String {
    field
        .get("items")
        .and_then(Value::as_object)
        .filter(|items| !items.contains_key("properties"))
        .map(rules)
        .filter(|messages| !messages.is_empty())
        .map(|messages| format!("Each entry: {messages}"))
        .unwrap_or_default()
}

fn sentence(message: &str) -> String {
    let mut letters = message.chars();
    letters.next().map(|first| first.to_uppercase().chain(letters).collect()).unwrap_or_default()
}

/// Texts in one cell of a table.
fn cell(texts: &[&str]) -> String {
    let texts: Vec<&str> = texts.iter().copied().filter(|t| !t.is_empty()).collect();
    texts.join(" ").replace('|', "\\|").replace('\n', " ")
}
