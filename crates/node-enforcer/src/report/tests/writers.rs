use std::fmt;

use mooring_crd::DriftEvent;
use proptest::prelude::*;
use serde_json::Value;

use super::{rules, violation};
use crate::report::{Quoted, events_of, is_unsafe, write_escaped, write_json, write_text, write_yaml};

const NASTY: &str = "/tmp/a b\n\u{1b}[2J\u{9b}31m\u{202e}\"x\\ é\u{e0041}\u{7f}";

fn event(path: &[u8]) -> DriftEvent {
    events_of(&violation(path), &rules(), "node1").remove(0).1
}

fn text(event: &DriftEvent) -> String {
    let mut out = Vec::new();
    write_text(&mut out, event).unwrap();
    String::from_utf8(out).unwrap()
}

fn json(value: &impl serde::Serialize) -> String {
    let mut out = Vec::new();
    write_json(&mut out, value).unwrap();
    String::from_utf8(out).unwrap()
}

fn yaml(value: &impl serde::Serialize) -> String {
    let mut out = Vec::new();
    write_yaml(&mut out, value).unwrap();
    String::from_utf8(out).unwrap()
}

struct Escaped<'a>(&'a [u8]);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_escaped(f, self.0)
    }
}

#[test]
fn a_line_for_people_says_what_happened() {
    assert_eq!(
        text(&event(b"/tmp/x")),
        "2026-01-02T03:04:05Z Denied NewBinary /tmp/x payments/api-x/api policy=a-detects severity=Low count=1 pid=7 uid=1000 \
         command=\"/tmp/x -o pool\" parent=sh(6) image=registry.example.com/api:1 runbook=https://example.com/a\n"
    );
    assert!(text(&event(b"")).contains(" NewBinary (unknown path) payments/"));
}

#[test]
fn nothing_in_a_line_can_pass_for_something_else() {
    let line = text(&event(NASTY.as_bytes()));
    assert!(line.contains(r#" "/tmp/a b\n\u{1b}[2J\u{9b}31m\u{202e}\"x\\ é\u{e0041}\u{7f}" "#), "{line}");
    assert_eq!(line.matches('\n').count(), 1);
    // A path that looks like the rest of the line stays within its quotes.
    let forged = text(&event(b"/x policy=none"));
    assert!(forged.contains(r#" "/x policy=none" payments/"#), "{forged}");
    assert_eq!(Quoted(b"").to_string(), "\"\"");
    assert_eq!(Quoted(b"/a\xff\xfe").to_string(), r#""/a\xff\xfe""#);
}

#[test]
fn json_is_one_line_and_reads_back_as_it_was() {
    let event = event(NASTY.as_bytes());
    let line = json(&event);
    assert!(line.ends_with("}\n") && !line.trim_end_matches('\n').contains(is_unsafe), "{line:?}");
    let back: DriftEvent = serde_json::from_str(&line).unwrap();
    assert_eq!(back.spec, event.spec);
    assert_eq!(back.spec.path, NASTY);
    assert!(line.contains("\\u202e") && line.contains("\\u009b") && line.contains("\\udb40\\udc41"), "{line}");
}

#[test]
fn yaml_reads_as_kubectl_would_show_it() {
    let shown = yaml(&event(b"/tmp/x"));
    assert!(shown.starts_with("apiVersion: mooring.dev/v1alpha1\nkind: DriftEvent\nmetadata:\n  name: "), "{shown}");
    assert!(
        shown.contains("\n  path: /tmp/x\n") && shown.contains("\n  process:\n    commandLine: \"/tmp/x -o pool\"\n"),
        "{shown}"
    );
    let back: DriftEvent = serde_saphyr::from_str(&shown).unwrap();
    assert_eq!(back, event(b"/tmp/x"));
}

#[test]
fn text_that_yaml_takes_for_something_else_is_quoted() {
    let words =
        ["true", "No", "null", "~", "", "1e3", "0x1f", "- a", "a: b", "#", "y", "2026-01-01", ".inf", "*a", "[]"];
    let value = serde_json::json!({ "words": words, "empty": [], "nothing": {} });
    assert_eq!(serde_saphyr::from_str::<Value>(&yaml(&value)).unwrap(), value);
    for word in words {
        assert!(yaml(&serde_json::json!({ "k": word })).starts_with("k: \""), "{word}");
    }
}

fn any_json() -> impl Strategy<Value = Value> {
    let text = prop_oneof!["\\PC{0,12}", any::<String>(), "[a-z0-9:.~-]{0,5}", Just(NASTY.to_owned())];
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i32>().prop_map(Value::from),
        text.prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 24, 4, |inner| {
        let key = prop_oneof!["[a-zA-Z]{1,8}", any::<String>()];
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            proptest::collection::btree_map(key, inner, 0..4).prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn whatever_is_written_reads_back(value in any_json()) {
        let line = json(&value);
        prop_assert!(!line.trim_end_matches('\n').contains(is_unsafe));
        prop_assert_eq!(&serde_json::from_str::<Value>(&line).unwrap(), &value);
        let document = yaml(&value);
        prop_assert!(!document.replace('\n', "").contains(is_unsafe));
        prop_assert_eq!(&serde_saphyr::from_str::<Value>(&document).unwrap(), &value, "{}", document);
    }

    #[test]
    fn no_bytes_reach_a_terminal_unescaped(bytes in proptest::collection::vec(any::<u8>(), 0..100)) {
        prop_assert!(!Escaped(&bytes).to_string().contains(is_unsafe));
        let quoted = Quoted(&bytes).to_string();
        prop_assert!(!quoted.contains(is_unsafe));
        // Bare text is exactly the bytes; quoted text ends only at its own last quote.
        if quoted.starts_with('"') {
            let inner = quoted.strip_prefix('"').unwrap().strip_suffix('"').unwrap();
            let mut escaped = false;
            for c in inner.chars() {
                prop_assert!(escaped || c != '"');
                escaped = c == '\\' && !escaped;
            }
            prop_assert!(!escaped);
        } else {
            prop_assert_eq!(quoted.as_bytes(), &bytes);
        }
    }

    #[test]
    fn lines_of_any_event_are_one_line(path in proptest::collection::vec(any::<u8>(), 0..100)) {
        let line = text(&event(&path));
        prop_assert_eq!(line.chars().filter(|c| is_unsafe(*c)).count(), 1, "{}", line);
    }
}
