//! The rules of a policy, as files meet them.
#![allow(missing_docs, unreachable_pub, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod cases;

use std::collections::BTreeSet;

use cases::{good, with, without};
use mooring_crd::{
    DriftEvent, DriftEventBreaker, DriftNode, FieldError, Kind, NotificationChannel, policy_from_value, validate,
    validate_policy,
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};

fn errors(object: Value) -> Vec<FieldError> {
    policy_from_value(object).expect_err("it was accepted")
}

/// The kind that an object says it is.
fn kind_of(object: &Value) -> Kind {
    let word = object["kind"].as_str().unwrap_or_default();
    Kind::ALL.into_iter().find(|kind| kind.as_str() == word).unwrap_or(Kind::ContainerDriftPolicy)
}

fn round_trip<T: Serialize + DeserializeOwned>(object: &Value) {
    let mut filled = object.clone();
    validate(kind_of(object), &mut filled).unwrap();
    let typed: T = serde_json::from_value(filled.clone()).unwrap();
    assert_eq!(serde_json::to_value(&typed).unwrap(), filled);
    assert_eq!(&filled, object, "every field was written");
}

#[test]
fn objects_that_use_every_field_are_accepted_and_come_back() {
    round_trip::<DriftEvent>(&cases::event());
    round_trip::<DriftNode>(&cases::node());
    round_trip::<DriftEventBreaker>(&cases::breaker());
    for kind in ["Slack", "Webhook", "Email"] {
        round_trip::<NotificationChannel>(&cases::channel(kind));
    }
}

#[test]
fn a_policy_that_uses_every_field_is_accepted() {
    let policy = policy_from_value(good()).unwrap();
    assert_eq!(serde_json::to_value(&policy).unwrap(), good());
}

#[test]
fn each_mistake_is_refused_by_its_field_and_with_a_fix() {
    for case in cases::refused_everywhere().into_iter().chain(cases::refused_in_files()) {
        let kind = kind_of(&case.object);
        let found = validate(kind, &mut case.object.clone()).expect_err("it was accepted");
        let hit = |e: &FieldError| e.field == case.field && e.message.contains(case.message);
        assert!(
            found.len() == 1 && found.iter().all(hit),
            "expected {}: {}\nfound {found:#?}",
            case.field,
            case.message
        );
    }
}

#[test]
fn absent_fields_get_the_defaults_of_the_schema() {
    let mut object = with("/spec", json!({"detect": {"exceptions": [{"path": "/a"}]}, "actions": {"capture": {}}}));
    validate_policy(&mut object).unwrap();
    assert_eq!(
        object["spec"],
        json!({
            "enabled": true,
            "severity": "Medium",
            "scope": {},
            "detect": {
                "driftedBinaries": true,
                "driftedLibraries": true,
                "driftedScripts": false,
                "exceptions": [{"path": "/a"}],
            },
            "actions": {"prevent": false, "container": "None", "capture": {"secondsBefore": 10, "secondsAfter": 10}},
        })
    );
}

#[test]
fn an_empty_spec_is_the_default_spec() {
    let policy = policy_from_value(with("/spec", json!({}))).unwrap();
    assert_eq!(policy.spec, mooring_crd::ContainerDriftPolicySpec::default());
}

#[test]
fn null_is_a_default_where_there_is_one_and_a_mistake_elsewhere() {
    let policy = policy_from_value(with("/spec/enabled", json!(null))).unwrap();
    assert!(policy.spec.enabled);
    let found = errors(with("/spec/detect/volumeBinaries", json!(null)));
    assert_eq!(
        found[0].to_string(),
        "spec.detect.volumeBinaries: must be a boolean, not null: write a value, or leave the field out"
    );
}

#[test]
fn all_mistakes_are_listed_in_order() {
    let mut object = with("/spec/severity", json!("x"));
    object["spec"]["actions"]["prevent"] = json!("x");
    object["spec"]["detect"]["exceptions"][1]["path"] = json!("x/");
    object["metadata"]["namespace"] = json!("x");
    let fields: Vec<String> = errors(object).into_iter().map(|e| e.field).collect();
    assert_eq!(
        fields,
        ["metadata.namespace", "spec.actions.prevent", "spec.detect.exceptions[1].path", "spec.severity"]
    );
}

#[test]
fn a_million_mistakes_are_not_a_million_lines() {
    let many: serde_json::Map<String, Value> = (0..100_000).map(|i| (format!("field{i}"), json!(1))).collect();
    assert_eq!(errors(with("/spec", many.into())).len(), 64);
}

#[test]
fn another_kind_is_refused_without_judging_its_fields() {
    let found = errors(json!({"apiVersion": "v1", "kind": "Pod", "spec": {"containers": []}}));
    assert_eq!(found.len(), 2, "{found:?}");
    for object in [json!(null), json!([]), json!("x"), json!(1)] {
        assert!(errors(object)[0].message.contains("write a ContainerDriftPolicy, beginning with apiVersion"));
    }
}

#[test]
fn what_kubectl_prints_is_accepted() {
    let mut object = with(
        "/status",
        json!({
            "observedGeneration": 3,
            "conditions": [{"type": "Enforcing", "status": "True", "reason": "AllNodes", "message": "", "lastTransitionTime": "2026-01-31T12:00:00Z"}],
            "nodes": {"targeted": 12, "enforcing": 12, "degraded": 0, "summary": "12/12"},
        }),
    );
    let server = json!({"uid": "1", "resourceVersion": "2", "generation": 3, "creationTimestamp": "2026-01-31T12:00:00Z", "managedFields": []});
    object["metadata"].as_object_mut().unwrap().extend(server.as_object().unwrap().clone());
    policy_from_value(object).unwrap();
}

#[test]
fn typed_reading_never_fails_after_validation_of_metadata() {
    let found = errors(with("/metadata/creationTimestamp", json!("yesterday")));
    assert!(found[0].message.contains("cannot be read"), "{found:?}");
}

#[test]
fn bounds_themselves_are_allowed() {
    let longest = format!("/{}", "x".repeat(254));
    let memfd = format!("memfd:{}", "x".repeat(249));
    policy_from_value(with("/spec/detect/exceptions", json!([{"path": longest}, {"path": memfd}, {"path": "/a"}])))
        .unwrap();
    let most: Value = (0..256).map(|i| json!({"path": format!("/bin/{i}")})).collect();
    policy_from_value(with("/spec/detect/exceptions", most)).unwrap();
    policy_from_value(with("/metadata/name", json!("a".repeat(253)))).unwrap();
    policy_from_value(without("/spec/scope/nodeSelector")).unwrap();
}

#[test]
fn what_is_missing_is_listed_in_its_place() {
    let found = errors(with("/spec/scope/podSelector/matchExpressions", json!([{"key": ""}])));
    let fields: Vec<&str> = found.iter().map(|e| e.field.rsplit_once('.').unwrap().1).collect();
    assert_eq!(fields, ["key", "operator"]);
}

#[test]
fn every_example_of_the_repository_is_accepted() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy/examples");
    let mut seen = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "yaml") {
            let text = std::fs::read_to_string(&path).unwrap();
            let mut object: Value = serde_saphyr::from_str(&text).unwrap();
            assert_eq!(validate(kind_of(&object), &mut object), Ok(()), "{}", path.display());
            seen += 1;
        }
    }
    assert!(seen >= 10, "{seen}");
}

/// The messages of a schema's rules, those apart that compare with an older state: files have none.
fn messages(schema: &Value, found: &mut BTreeSet<String>) {
    match schema {
        Value::Object(fields) => {
            if let (Some(rule), Some(message)) = (fields.get("rule"), fields.get("message"))
                && !rule.as_str().unwrap_or_default().contains("oldSelf")
            {
                found.insert(message.as_str().unwrap_or_default().to_owned());
            }
            fields.values().for_each(|inner| messages(inner, found));
        }
        Value::Array(items) => items.iter().for_each(|inner| messages(inner, found)),
        _ => {}
    }
}

#[test]
fn every_rule_is_broken_by_a_bad_object() {
    let mut rules = BTreeSet::new();
    for kind in Kind::ALL {
        messages(&kind.schema().unwrap(), &mut rules);
    }
    assert!(rules.len() > 30, "{}", rules.len());
    for mut case in cases::refused_everywhere() {
        let kind = kind_of(&case.object);
        for error in validate(kind, &mut case.object).unwrap_err() {
            rules.retain(|message| !error.message.contains(message.as_str()));
        }
    }
    assert!(rules.is_empty(), "no bad object breaks: {rules:#?}");
}
