//! The generated definition: structural, bounded, documented.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use mooring_crd::{DriftEvent, policy_definition};
use serde_json::Value;

fn schema() -> Value {
    policy_definition().unwrap()["spec"]["versions"][0]["schema"]["openAPIV3Schema"].clone()
}

/// Calls `visit` with each schema below `schema`, and its path.
fn each(path: &str, schema: &Value, visit: &mut impl FnMut(&str, &Value)) {
    visit(path, schema);
    for (name, inner) in schema["properties"].as_object().into_iter().flatten() {
        each(&format!("{path}.{name}"), inner, visit);
    }
    for key in ["items", "additionalProperties"] {
        if schema[key].is_object() {
            each(&format!("{path}[]"), &schema[key], visit);
        }
    }
}

#[test]
fn every_field_has_a_type_and_every_named_one_a_description() {
    each("", &schema(), &mut |path, schema| {
        assert!(schema["type"].is_string(), "{path} has no type");
        if !path.ends_with("[]") {
            let text = schema["description"].as_str().unwrap_or_default();
            assert!(text.len() > 15, "{path} is not described");
            assert!(!text.contains('\n'), "{path} is wrapped");
        }
    });
}

#[test]
fn everything_under_spec_is_bounded() {
    each("spec", &schema()["properties"]["spec"], &mut |path, schema| {
        let bound = match schema["type"].as_str().unwrap() {
            "array" => "maxItems",
            "string" if schema["enum"].is_null() => "maxLength",
            "integer" => "maximum",
            "object" if !schema["additionalProperties"].is_null() => "maxProperties",
            _ => return,
        };
        assert!(schema[bound].is_u64(), "{path} has no {bound}");
    });
}

#[test]
fn every_format_is_one_that_the_api_server_knows() {
    each("", &schema(), &mut |path, schema| {
        if let Some(format) = schema["format"].as_str() {
            assert!(["int32", "int64", "date-time"].contains(&format), "{path}: {format}");
        }
    });
}

#[test]
fn every_rule_says_what_to_write() {
    let mut rules = 0;
    each("", &schema(), &mut |path, schema| {
        for rule in schema["x-kubernetes-validations"].as_array().into_iter().flatten() {
            let message = rule["message"].as_str().unwrap_or_default();
            assert!(message.contains(": "), "{path}: {message:?} says no fix");
            rules += 1;
        }
    });
    assert!(rules >= 20, "{rules}");
}

#[test]
fn the_columns_are_those_of_kubectl_get_cdp() {
    let definition = policy_definition().unwrap();
    let columns: Vec<&str> = definition["spec"]["versions"][0]["additionalPrinterColumns"]
        .as_array()
        .unwrap()
        .iter()
        .map(|column| column["name"].as_str().unwrap())
        .collect();
    assert_eq!(columns, ["SEVERITY", "PREVENT", "NODES", "CONTAINERS", "VIOLATIONS", "READY", "AGE"]);
    assert_eq!(definition["spec"]["names"]["shortNames"][0], "cdp");
    assert_eq!(definition["spec"]["names"]["categories"][0], "mooring");
    assert_eq!(definition["spec"]["scope"], "Cluster");
}

#[test]
fn the_limits_in_the_rules_are_the_constants() {
    let text = policy_definition().unwrap().to_string();
    assert!(text.contains(&format!("size(bytes(self)) <= {}", mooring_crd::limits::MAX_PATH_BYTES)));
    assert!(text.contains(&format!("size(key) <= {}", mooring_crd::limits::MAX_LABEL_KEY)));
}

#[test]
fn an_event_is_one_line_of_json_and_comes_back() {
    let event = serde_json::json!({
        "apiVersion": "mooring.dev/v1alpha1",
        "kind": "DriftEvent",
        "metadata": {"name": "api-7c9-x2x1l.1", "namespace": "payments"},
        "spec": {
            "policy": "payments-immutable", "severity": "High", "reason": "NewBinary", "verdict": "Denied",
            "node": "node1", "pod": {"name": "api-7c9-x2x1l", "uid": "u"}, "container": "api", "containerID": "c",
            "image": "registry.example.com/payments/api:1", "path": "/tmp/xmrig", "invokedAs": "./xmrig",
            "process": {"pid": 7, "uid": 0, "commandLine": "./xmrig -o", "parent": {"pid": 1, "name": "sh"}},
            "runbookURL": "https://runbooks.example.com/drift",
        },
        "status": {"count": 412, "firstSeen": "2026-01-31T12:00:00.000000Z", "lastSeen": "2026-01-31T12:00:03.000001Z"},
    });
    let typed: DriftEvent = serde_json::from_value(event.clone()).unwrap();
    assert_eq!(serde_json::to_value(&typed).unwrap(), event);
    assert!(!serde_json::to_string(&typed).unwrap().contains('\n'));
}
