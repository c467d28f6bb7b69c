//! Bad objects, each refused with the expected words; good ones and every example accepted.

use std::fs;

use mooring_crd::Kind;
use mooring_e2e::testing::repository;
use serde_json::{Value, json};

use super::cases::{self, Case};
use super::{kubectl, refusal};

/// What the API server says of each object of a request, by the object's name.
fn said(arguments: &[&str], objects: &[Value]) -> Vec<String> {
    let input: Vec<String> = objects.iter().map(ToString::to_string).collect();
    let all = refusal(&kubectl(), arguments, &input.join("\n")).unwrap_or_default();
    let mut of = vec![String::new(); objects.len()];
    let mut current = None;
    for line in all.lines() {
        let named = |object: &Value| line.contains(&format!("\"{}\"", object["metadata"]["name"].as_str().unwrap()));
        current = objects.iter().position(named).or(current);
        if let Some(current) = current {
            of[current].push_str(line);
            of[current].push('\n');
        }
    }
    of
}

/// Whether the case is about a status that has a request of its own.
fn is_about_status(case: &Case) -> bool {
    case.field.starts_with("status") && case.object["kind"] != Kind::DriftEvent.as_str()
}

#[test]
#[ignore = "starts a Kubernetes API server: make test-api"]
fn bad_objects_are_refused_in_the_expected_words() {
    let mut cases = cases::refused_everywhere();
    assert!(cases.len() >= 60, "{}", cases.len());
    for (index, case) in cases.iter_mut().enumerate() {
        case.object["metadata"]["name"] = json!(format!("case-{index}"));
    }
    let (status, whole): (Vec<&Case>, Vec<&Case>) = cases.iter().partition(|case| is_about_status(case));
    let objects = |cases: &[&Case]| -> Vec<Value> { cases.iter().map(|case| case.object.clone()).collect() };
    let answers = said(&["create", "--dry-run=server", "-f", "-"], &objects(&whole));
    let mut wrong = compare(&whole, &answers);
    // Without their status, which a create drops, they are good.
    let bare = status.iter().map(|case| cases::without_in(case.object.clone(), "/status").to_string());
    let bare = bare.collect::<Vec<_>>().join("\n");
    kubectl().run_with(&["create", "-f", "-"], &bare).unwrap();
    let answers = said(&["replace", "--subresource=status", "--dry-run=server", "-f", "-"], &objects(&status));
    wrong.extend(compare(&status, &answers));
    kubectl().run_with(&["delete", "-f", "-"], &bare).unwrap();
    println!("{} bad objects", cases.len());
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), cases.len(), wrong.join("\n"));
}

fn compare(cases: &[&Case], answers: &[String]) -> Vec<String> {
    let mut wrong = Vec::new();
    for (case, answer) in cases.iter().zip(answers) {
        let expected = case.server_message();
        if std::env::var_os("MOORING_SHOW").is_some() {
            println!("{}: {}\n    {}", case.field, case.message, answer.trim());
        }
        // The API server names a map's entry with a dot where a bound is broken, and with brackets where a rule is.
        let is_named = answer.contains(case.field) || answer.contains(&case.field.replace("[x]", ".x"));
        if !is_named || !answer.contains(expected) {
            wrong.push(format!("{}: expected {expected:?}\n    {}", case.field, answer.trim()));
        }
    }
    wrong
}

#[test]
#[ignore = "starts a Kubernetes API server: make test-api"]
fn good_objects_and_all_examples_are_accepted() {
    let mut good = vec![cases::good(), cases::event(), cases::node()];
    good.extend(["Slack", "Webhook", "Email"].map(cases::channel));
    for mut object in good {
        object["metadata"]["name"] = json!("good");
        assert_eq!(kubectl().refusal(&object.to_string()).unwrap(), None, "{object}");
    }
    let examples: Vec<_> =
        fs::read_dir(repository("deploy/examples")).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert!(examples.len() >= 5, "{examples:?}");
    for example in examples {
        let text = fs::read_to_string(&example).unwrap();
        if example.extension().is_some_and(|extension| extension == "yaml") {
            assert_eq!(kubectl().refusal(&text).unwrap(), None, "{}", example.display());
        }
    }
}

#[test]
#[ignore = "starts a Kubernetes API server: make test-api"]
fn what_is_not_a_field_is_refused_and_defaults_are_filled_in() {
    let misspelt = cases::with("/spec/actions/preventing", json!(true));
    let answer = kubectl().refusal(&misspelt.to_string()).unwrap().unwrap();
    assert!(answer.contains("unknown field \"spec.actions.preventing\""), "{answer}");
    let bare = json!({
        "apiVersion": "mooring.dev/v1alpha1", "kind": "ContainerDriftPolicy", "metadata": {"name": "bare"}, "spec": {},
    });
    let arguments = ["create", "--dry-run=server", "-f", "-", "-o", "json"];
    let printed = kubectl().run_with(&arguments, &bare.to_string()).unwrap();
    let stored: Value = serde_json::from_str(&printed).unwrap();
    let mut ours = bare;
    mooring_crd::validate(Kind::ContainerDriftPolicy, &mut ours).unwrap();
    assert_eq!(stored["spec"], ours["spec"]);
}

#[test]
#[ignore = "starts a Kubernetes API server: make test-api"]
fn an_event_counts_up_and_stays_what_it_is_about() {
    let mut event = cases::event();
    event["metadata"]["name"] = json!("counted");
    let replace = |event: &Value| refusal(&kubectl(), &["replace", "-f", "-"], &event.to_string());
    kubectl().run_with(&["create", "-f", "-"], &event.to_string()).unwrap();
    event["status"]["count"] = json!(413);
    event["status"]["lastSeen"] = json!("2026-01-31T13:00:03.000001Z");
    event["spec"]["verdict"] = json!("Detected");
    assert_eq!(replace(&event), None);
    for (pointer, value, message) in [
        ("/spec/policy", json!("other"), "say which event this is"),
        ("/spec/reason", json!("Fileless"), "say which event this is"),
        ("/spec/node", json!("node2"), "say which event this is"),
        ("/spec/pod/name", json!("other"), "say which event this is"),
        ("/spec/pod/uid", json!("other"), "say which event this is"),
        ("/spec/container", json!("other"), "say which event this is"),
        ("/spec/path", json!("/other"), "say which event this is"),
        ("/status/count", json!(412), "count must not fall"),
    ] {
        let answer = replace(&cases::with_in(event.clone(), pointer, value)).unwrap_or_default();
        assert!(answer.contains(message), "{pointer}: {answer}");
    }
    kubectl().run(&["delete", "driftevent", "counted"]).unwrap();
}
