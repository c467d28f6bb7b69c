//! An object as YAML, as `kubectl get -o yaml` would show it.

use std::fmt::Write as _;
use std::io;

use serde::Serialize;
use serde_json::Value;

use mooring_crd::text::is_unsafe;

/// Writes an object as one YAML document. Text that is anything but a plain word is written in double quotes, with everything
/// unsafe escaped.
///
/// # Errors
/// Those of the writer, and an object that is no JSON (of which the API has none).
pub fn write_yaml(out: &mut impl io::Write, object: &impl Serialize) -> io::Result<()> {
    let mut text = String::new();
    write_value(&mut text, &serde_json::to_value(object)?, 0);
    out.write_all(text.trim_start_matches('\n').as_bytes())
}

/// Writes a value behind its key or dash, up to the end of its last line.
fn write_value(text: &mut String, value: &Value, indent: usize) {
    match value {
        Value::Object(fields) if !fields.is_empty() => {
            text.push('\n');
            for (key, value) in fields {
                text.extend(std::iter::repeat_n(' ', indent));
                write_text(text, key);
                text.push(':');
                write_value(text, value, indent + 2);
            }
        }
        Value::Array(items) if !items.is_empty() => {
            text.push('\n');
            for item in items {
                text.extend(std::iter::repeat_n(' ', indent));
                text.push('-');
                write_value(text, item, indent + 2);
            }
        }
        scalar => {
            text.push(' ');
            match scalar {
                Value::String(string) => write_text(text, string),
                // Empty lists and objects are the same in JSON.
                other => text.push_str(&other.to_string()),
            }
            text.push('\n');
        }
    }
}

fn write_text(text: &mut String, string: &str) {
    if is_plain(string) {
        text.push_str(string);
        return;
    }
    text.push('"');
    for c in string.chars() {
        match c {
            '"' | '\\' => text.extend(['\\', c]),
            '\n' => text.push_str("\\n"),
            '\t' => text.push_str("\\t"),
            c if is_unsafe(c) => {
                // Writing to a String cannot fail.
                let _ = write!(text, "\\U{:08x}", u32::from(c));
            }
            c => text.push(c),
        }
    }
    text.push('"');
}

/// Whether a text can stand without quotes for every parser of YAML 1.1 and 1.2.
fn is_plain(string: &str) -> bool {
    let begins = |c: char| c.is_ascii_alphabetic() || c == '/';
    let goes_on = |c: char| c.is_ascii_alphanumeric() || matches!(c, '/' | '.' | '_' | '-' | '@');
    let is_word = matches!(
        string.to_ascii_lowercase().as_str(),
        "y" | "n" | "yes" | "no" | "on" | "off" | "true" | "false" | "null"
    );
    string.starts_with(begins) && string.chars().all(goes_on) && !is_word
}
