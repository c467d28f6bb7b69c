//! What people see: `kubectl get`, `kubectl explain`, field selectors.

use mooring_crd::{DriftEvent, Kind};
use mooring_e2e::testing::eventually;
use serde_json::{Value, json};

use super::{cases, kubectl};

/// Columns of a terminal that nobody made wider.
const WIDTH: usize = 120;

fn header(text: &str) -> Vec<&str> {
    text.lines().next().unwrap_or_default().split_whitespace().collect()
}

fn create_with_status(object: &Value) {
    kubectl().apply(&object.to_string()).unwrap();
    kubectl().run_with(&["replace", "--subresource=status", "-f", "-"], &object.to_string()).unwrap();
}

#[test]
#[ignore = "starts a Kubernetes API server: make test-api"]
fn what_a_person_needs_first_fits_a_terminal() {
    kubectl().run(&["create", "namespace", "payments"]).unwrap();
    let mut event = cases::event();
    event["metadata"]["namespace"] = json!("payments");
    event["spec"]["pod"]["name"] = json!("api-7c9d8b6f5c-x2x1l");
    kubectl().apply(&event.to_string()).unwrap();
    create_with_status(&cases::with_in(cases::node(), "/metadata/name", json!("ip-10-0-12-34.eu-west-1.example")));
    let mut policy = cases::good();
    policy["status"] = json!({
        "conditions": [{"type": "Enforcing", "status": "True", "reason": "AllNodes", "message": "", "lastTransitionTime": "2026-01-31T12:00:00Z"}],
        "nodes": {"targeted": 12, "enforcing": 12, "degraded": 0, "unattended": 0, "summary": "12/12"},
        "containers": {"matched": 96, "protected": 96, "summary": "96/96"},
        "violations": 412,
    });
    create_with_status(&policy);
    for kind in ["Slack", "Email"] {
        let name = json!(format!("channel-{}", kind.to_lowercase()));
        kubectl().apply(&cases::with_in(cases::channel(kind), "/metadata/name", name).to_string()).unwrap();
    }
    let get = |arguments: &[&str]| {
        let text = kubectl().run(&[&["get"], arguments].concat()).unwrap();
        println!("$ kubectl get {}\n{text}", arguments.join(" "));
        text
    };
    let events = get(&["driftevents", "-A"]);
    let expected = ["NAMESPACE", "NAME", "VERDICT", "REASON", "POD", "CONTAINER", "PATH", "COUNT", "LAST"];
    assert_eq!(header(&events), expected);
    let wide = get(&["de", "-A", "-o", "wide"]);
    assert_eq!(header(&wide), [&expected[..], &["POLICY", "SEVERITY", "NODE"]].concat());
    let policies = get(&["cdp"]);
    let expected = ["NAME", "SEVERITY", "PREVENT", "NODES", "CONTAINERS", "VIOLATIONS", "READY", "AGE"];
    assert_eq!(header(&policies), expected);
    let line = policies.lines().find(|line| line.starts_with("payments-immutable")).unwrap();
    let fields: Vec<&str> = line.split_whitespace().collect();
    assert_eq!(fields[1..7], ["High", "true", "12/12", "96/96", "412", "True"]);
    let nodes = get(&["dn"]);
    let expected = ["NAME", "READY", "BACKEND", "SELF-TEST", "CONTAINERS", "UNPROTECTED", "LOST", "REVISION", "AGE"];
    assert_eq!(header(&nodes), expected);
    let channels = get(&["nch"]);
    assert_eq!(header(&channels), ["NAME", "TYPE", "AGE"]);
    for text in [&events, &policies, &nodes, &channels] {
        let longest = text.lines().map(|line| line.trim_end().chars().count()).max().unwrap();
        assert!(longest <= WIDTH, "{longest} columns:\n{text}");
    }
    let all = get(&["mooring", "-A"]);
    for name in ["payments-immutable", "channel-slack", "6n6k556cmgryogzv3r26", "ip-10-0-12-34"] {
        assert!(all.contains(name), "{name} is not in the category");
    }
}

#[test]
#[ignore = "starts a Kubernetes API server: make test-api"]
fn events_are_found_by_what_they_are_about() {
    kubectl().run(&["create", "namespace", "selected"]).unwrap();
    let mut event = cases::event();
    event["metadata"]["namespace"] = json!("selected");
    kubectl().apply(&event.to_string()).unwrap();
    let found = |selector: &str| {
        kubectl()
            .run(&["get", "de", "-n", "selected", "-o", "name", "--field-selector", selector])
            .unwrap()
            .lines()
            .count()
    };
    let all = "spec.policy=payments-immutable,spec.severity=High,spec.reason=NewBinary,spec.verdict=Denied,spec.node=node1,\
               spec.pod.name=api-7c9-x2x1l,spec.pod.uid=u-1,spec.container=api";
    assert_eq!(found(all), 1);
    for one in all.split(',') {
        let (field, _) = one.split_once('=').unwrap();
        assert_eq!(found(&format!("{field}=other")), 0, "{field}");
    }
}

#[test]
#[ignore = "starts a Kubernetes API server: make test-api"]
fn no_name_hides_an_event() {
    kubectl().run(&["create", "namespace", "hostile"]).unwrap();
    let mut event = cases::event();
    event["metadata"]["namespace"] = json!("hostile");
    // Short: another test measures how wide the list is.
    event["spec"]["path"] = json!("/\u{9b}");
    event["spec"]["invokedAs"] = json!("/a\n\u{1b}[2J\u{7f}\u{202e}\u{ffff}x");
    let mut event: DriftEvent = serde_json::from_value(event).unwrap();
    event.fit_for_api_server();
    kubectl().apply(&serde_json::to_string(&event).unwrap()).unwrap();
    let wide = kubectl().run(&["get", "de", "-n", "hostile", "-o", "wide"]).unwrap();
    assert!(wide.contains(r" /\u{9b} "), "{wide}");
    let yaml = kubectl().run(&["get", "de", "-n", "hostile", "-o", "yaml"]).unwrap();
    assert!(yaml.contains(r"/a\n\u{1b}[2J\u{7f}\u{202e}\u{ffff}x"), "{yaml}");
}

#[test]
#[ignore = "starts a Kubernetes API server: make test-api"]
fn explain_knows_every_field() {
    let published = kubectl().run(&["get", "--raw", "/openapi/v3/apis/mooring.dev/v1alpha1"]).unwrap();
    let published: Value = serde_json::from_str(&published).unwrap();
    for kind in Kind::ALL {
        let schema = &published["components"]["schemas"][format!("dev.mooring.v1alpha1.{kind}")];
        let mut fields = 0;
        compare(kind.as_str(), &kind.schema().unwrap(), schema, &mut fields);
        println!("{kind}: {fields} fields");
        // Short names are known some time after the kind is.
        eventually("its short name", || kubectl().run(&["explain", kind.short_name()]).is_ok());
        let explained = kubectl().run(&["explain", kind.short_name(), "--recursive"]).unwrap();
        assert!(explained.contains(&format!("KIND:       {kind}")), "{explained}");
    }
    let explained = kubectl().run(&["explain", "cdp.spec.detect.exceptions.path"]).unwrap();
    // As it is wrapped.
    let words = explained.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(words.contains("choose one that the workload itself cannot write"), "{explained}");
}

/// Every field of ours is published, with our words.
fn compare(path: &str, ours: &Value, theirs: &Value, fields: &mut usize) {
    for (name, inner) in ours["properties"].as_object().into_iter().flatten() {
        *fields += 1;
        let path = format!("{path}.{name}");
        let published = &theirs["properties"][name];
        // The API server's own words stand for these.
        if !matches!(name.as_str(), "apiVersion" | "kind" | "metadata") {
            assert_eq!(inner["description"], published["description"], "{path}");
        }
        compare(&path, inner, published, fields);
        if inner["items"].is_object() {
            compare(&path, &inner["items"], &published["items"], fields);
        }
    }
}
