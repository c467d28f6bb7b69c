//! The generated definition: structural, bounded, documented.
#![allow(missing_docs, unreachable_pub, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use mooring_crd::{DriftEvent, Kind};
use serde_json::Value;

/// Calls `visit` with each schema of each kind, and its path.
fn every(visit: &mut impl FnMut(&str, &Value)) {
    for kind in Kind::ALL {
        each(kind.as_str(), &kind.schema().unwrap(), visit);
    }
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
    every(&mut |path, schema| {
        assert!(schema["type"].is_string(), "{path} has no type");
        if !path.ends_with("[]") {
            let text = schema["description"].as_str().unwrap_or_default();
            assert!(text.len() > 15, "{path} is not described");
            assert!(!text.contains('\n'), "{path} is wrapped");
        }
    });
}

#[test]
fn everything_is_bounded() {
    every(&mut |path, schema| {
        let bound = match schema["type"].as_str().unwrap() {
            "array" => "maxItems",
            "string" if schema["format"] == "date-time" => return,
            "string" if schema["enum"].is_null() => "maxLength",
            "integer" if path.contains(".spec") => "maximum",
            "object" if !schema["additionalProperties"].is_null() => "maxProperties",
            _ => return,
        };
        assert!(schema[bound].is_u64(), "{path} has no {bound}");
    });
}

#[test]
fn every_format_is_one_that_the_api_server_knows() {
    every(&mut |path, schema| {
        if let Some(format) = schema["format"].as_str() {
            assert!(["int32", "int64", "date-time"].contains(&format), "{path}: {format}");
        }
    });
}

#[test]
fn every_rule_says_what_to_write() {
    let mut rules = 0;
    every(&mut |path, schema| {
        for rule in schema["x-kubernetes-validations"].as_array().into_iter().flatten() {
            let message = rule["message"].as_str().unwrap_or_default();
            assert!(message.contains(": "), "{path}: {message:?} says no fix");
            rules += 1;
        }
    });
    assert!(rules >= 20, "{rules}");
}

fn columns(kind: Kind, wide: bool) -> Vec<String> {
    kind.definition().unwrap()["spec"]["versions"][0]["additionalPrinterColumns"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|column| (column["priority"] == 1) == wide)
        .map(|column| column["name"].as_str().unwrap().to_owned())
        .collect()
}

#[test]
fn the_columns_are_those_of_kubectl_get() {
    let policy = ["SEVERITY", "PREVENT", "NODES", "CONTAINERS", "VIOLATIONS", "READY", "AGE"];
    assert_eq!(columns(Kind::ContainerDriftPolicy, false), policy);
    assert_eq!(columns(Kind::DriftEvent, false), ["VERDICT", "REASON", "POD", "CONTAINER", "PATH", "COUNT", "LAST"]);
    assert_eq!(columns(Kind::DriftEvent, true), ["POLICY", "SEVERITY", "NODE"]);
    let node = ["READY", "BACKEND", "SELF-TEST", "CONTAINERS", "UNPROTECTED", "LOST", "REVISION", "AGE"];
    assert_eq!(columns(Kind::DriftNode, false), node);
    assert_eq!(columns(Kind::DriftEventBreaker, false), ["NAMESPACES", "AGE"]);
    assert_eq!(columns(Kind::NotificationChannel, false), ["TYPE", "AGE"]);
}

#[test]
fn every_column_and_selectable_field_is_in_the_schema() {
    for kind in Kind::ALL {
        let definition = kind.definition().unwrap();
        let version = &definition["spec"]["versions"][0];
        let schema = kind.schema().unwrap();
        let fields = ["additionalPrinterColumns", "selectableFields"].map(|list| version[list].as_array());
        for path in fields.into_iter().flatten().flatten().map(|field| field["jsonPath"].as_str().unwrap()) {
            if path.starts_with(".metadata") {
                continue;
            }
            // A condition's, as in .status.conditions[?(@.type=="Ready")].status.
            let (path, _) = path.split_once('[').unwrap_or((path, ""));
            let at = path.split('.').skip(1).fold(&schema, |schema, name| &schema["properties"][name]);
            assert!(at.is_object(), "{kind} has no {path}");
        }
    }
}

#[test]
fn the_names_are_those_of_the_definition() {
    for kind in Kind::ALL {
        let definition = kind.definition().unwrap();
        let names = &definition["spec"]["names"];
        assert_eq!(names["kind"], kind.as_str());
        assert_eq!(names["plural"], kind.plural());
        assert_eq!(names["shortNames"], serde_json::json!([kind.short_name()]));
        assert_eq!(names["categories"], serde_json::json!(["mooring"]));
        assert_eq!(definition["spec"]["scope"], if kind.is_namespaced() { "Namespaced" } else { "Cluster" });
    }
}

#[test]
fn an_event_is_written_at_once() {
    let definition = Kind::DriftEvent.definition().unwrap();
    assert!(definition["spec"]["versions"][0]["subresources"].is_null());
    assert_eq!(Kind::DriftEvent.schema().unwrap()["required"], serde_json::json!(["spec", "status"]));
    for kind in [Kind::ContainerDriftPolicy, Kind::DriftNode] {
        let definition = kind.definition().unwrap();
        assert!(definition["spec"]["versions"][0]["subresources"]["status"].is_object());
    }
}

#[test]
fn the_limits_in_the_rules_are_the_constants() {
    let text = Kind::ContainerDriftPolicy.definition().unwrap().to_string();
    assert!(text.contains(&format!("size(bytes(self)) <= {}", mooring_crd::limits::MAX_PATH_BYTES)));
    assert!(text.contains(&format!("size(key) <= {}", mooring_crd::limits::MAX_LABEL_KEY)));
}

mod cases;

#[test]
fn an_event_is_one_line_of_json() {
    let typed: DriftEvent = serde_json::from_value(cases::event()).unwrap();
    assert!(!serde_json::to_string(&typed).unwrap().contains('\n'));
}
