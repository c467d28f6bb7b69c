//! `DriftEvent`s are kept within bounds.

use std::thread;
use std::time::{Duration, Instant};

use mooring_e2e::cluster::Kubectl;
use mooring_e2e::testing::eventually;
use serde_json::{Value, json};

use super::rig::Rig;

pub fn event(namespace: &str, name: &str) -> Value {
    json!({
        "apiVersion": "mooring.dev/v1alpha1", "kind": "DriftEvent", "metadata": {"name": name, "namespace": namespace},
        "spec": {
            "policy": "p", "severity": "High", "reason": "NewBinary", "verdict": "Denied", "node": "n1",
            "pod": {"name": "x"}, "container": "c", "containerID": "containerd://1", "path": format!("/tmp/{name}"),
            "process": {"pid": 1, "uid": 0, "commandLine": "/tmp/x", "parent": {"pid": 1, "name": "sh"}},
        },
        "status": {"count": 1, "firstSeen": "2026-01-31T12:00:00.000000Z", "lastSeen": "2026-01-31T12:00:00.000000Z"},
    })
}

fn namespaces(rig: &Rig, names: &[&str]) {
    for name in names {
        let object = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}});
        rig.kubectl.apply(&object.to_string()).unwrap();
    }
}

fn names(kubectl: &Kubectl, namespace: &str) -> Vec<String> {
    let printed = kubectl.run(&["get", "driftevents", "-n", namespace, "-o", "name"]).unwrap();
    printed.lines().map(str::to_owned).collect()
}

#[test]
#[ignore = "starts a control plane: make test-operator"]
fn a_flood_is_trimmed_and_hides_nothing_elsewhere() {
    let rig = Rig::begin();
    namespaces(&rig, &["flooded", "quiet"]);
    rig.kubectl.apply(&event("quiet", "matters").to_string()).unwrap();
    let operator = rig.operator("one", &["--events-per-namespace", "60", "--events-per-cluster", "40"]);
    eventually("the operator to lead", || operator.leads());
    let flood: Vec<String> = (0..300).map(|number| event("flooded", &format!("e{number:03}")).to_string()).collect();
    rig.kubectl.run_with(&["create", "-f", "-"], &flood.join("\n")).unwrap();
    eventually("the cap", || names(&rig.kubectl, "flooded").len() <= 39);
    thread::sleep(Duration::from_secs(3));
    // The latest are left, and what happened elsewhere.
    assert_eq!(names(&rig.kubectl, "flooded").len(), 39, "no further than to the cap");
    assert_eq!(names(&rig.kubectl, "quiet").len(), 1);
    let trimmed = |why: &str| operator.metric(&format!("mooring_operator_driftevents_trimmed_total{{what=\"{why}\"}}"));
    assert!(trimmed("NamespaceCap") + trimmed("ClusterCap") >= 261.0);
    assert_eq!(operator.end(), Some(0));
}

#[test]
#[ignore = "starts a control plane: make test-operator"]
fn an_event_goes_when_nothing_was_added_to_it_for_its_time() {
    let rig = Rig::begin();
    namespaces(&rig, &["quiet"]);
    let operator = rig.operator("one", &["--event-seconds", "20"]);
    eventually("the operator to lead", || operator.leads());
    let begun = Instant::now();
    for name in ["over", "goes-on"] {
        rig.kubectl.apply(&event("quiet", name).to_string()).unwrap();
    }
    let mut count = 1;
    let mut add_one = || {
        count += 1;
        let patch = json!({"status": {"count": count}}).to_string();
        rig.kubectl.run(&["patch", "driftevent", "goes-on", "-n", "quiet", "--type=merge", "-p", &patch]).unwrap();
        thread::sleep(Duration::from_secs(1));
    };
    eventually("the end of the one that is over", || {
        add_one();
        !names(&rig.kubectl, "quiet").contains(&"driftevent.mooring.dev/over".to_owned())
    });
    // The other is as old.
    for _ in 0..8 {
        add_one();
    }
    assert!(begun.elapsed() >= Duration::from_secs(19), "after {:?}", begun.elapsed());
    // What is counted is there for as long as it is counted, and no longer.
    eventually("the end of the other", || names(&rig.kubectl, "quiet").is_empty());
    let expired = "mooring_operator_driftevents_trimmed_total{what=\"Expired\"}";
    assert!((operator.metric(expired) - 2.0).abs() < 0.5, "{}", operator.metric(expired));
    assert_eq!(operator.end(), Some(0));
}

/// An event that an agent of this node may make.
fn of_node(namespace: &str, name: &str, node: &str) -> String {
    let mut event = event(namespace, name);
    event["spec"]["node"] = json!(node);
    event.to_string()
}

#[test]
#[ignore = "starts a control plane: make test-operator"]
fn a_flood_beyond_the_caps_is_refused_for_a_while_and_only_where_it_is() {
    let rig = Rig::begin();
    namespaces(&rig, &["flooded", "quiet"]);
    rig.node("n1", json!({}));
    let agent = rig.cluster.kubectl_of_account("mooring-system", "mooring-enforcer", Some("n1")).unwrap();
    let arguments = ["--events-per-namespace", "100", "--breaker-seconds", "30"];
    let operator = rig.operator("one", &arguments);
    eventually("the operator to lead", || operator.leads());
    let breaker =
        || rig.kubectl.json(&["get", "drifteventbreaker", "mooring"]).ok().map(|it| it["spec"]["namespaces"].clone());
    let mut so_far = 0;
    let mut make = |namespace: &str, count: usize| {
        let flood: Vec<String> =
            (0..count).map(|number| of_node(namespace, &format!("e{}", so_far + number), "n1")).collect();
        so_far += count;
        agent.run_with(&["create", "-f", "-"], &flood.join("\n")).map_err(|error| error.to_string())
    };
    // As many again as there may be are no reason for it.
    make("flooded", 190).unwrap();
    eventually("the cap", || names(&rig.kubectl, "flooded").len() == 100);
    thread::sleep(Duration::from_secs(5));
    assert_eq!(breaker(), None);
    assert_eq!(rig.told("DriftEventBreaker", "mooring"), [""; 0]);
    // Twice as many are.
    make("flooded", 60).unwrap();
    eventually("the breaker", || breaker() == Some(json!(["flooded"])));
    eventually("the refusal of an agent's event", || {
        make("flooded", 1).is_err_and(|why| why.contains("mooring-driftevents-breaker") && why.contains("counted only"))
    });
    make("quiet", 1).unwrap();
    // What is there is counted on, and people are not agents.
    let name = names(&rig.kubectl, "flooded").pop().unwrap();
    let patch = json!({"status": {"count": 9}}).to_string();
    agent.run(&["patch", &name, "-n", "flooded", "--type=merge", "-p", &patch]).unwrap();
    rig.kubectl.apply(&event("flooded", "by-hand").to_string()).unwrap();
    eventually("the Event", || rig.told("DriftEventBreaker", "mooring") == ["BreakerOpen"]);
    assert!((operator.metric("mooring_operator_driftevents_breaker_open ") - 1.0).abs() < 0.5);
    let printed = rig.kubectl.run(&["get", "deb"]).unwrap();
    assert!(printed.contains(r#"["flooded"]"#), "{printed}");
    // Another operator goes on with it; what is edited by hand is repaired.
    assert_eq!(operator.end(), Some(0));
    let operator = rig.operator("two", &arguments);
    eventually("the other to lead", || operator.leads());
    let patch = json!({"spec": {"namespaces": []}}).to_string();
    rig.kubectl.run(&["patch", "deb", "mooring", "--type=merge", "-p", &patch]).unwrap();
    let edited = Instant::now();
    eventually("the repair", || breaker() == Some(json!(["flooded"])));
    assert!(edited.elapsed() < Duration::from_secs(25), "closed again by another flood, not repaired");
    // It ends by itself.
    eventually("its end", || breaker() == Some(json!([])));
    eventually("an agent's event", || make("flooded", 1).is_ok());
    eventually("the Event", || rig.told("DriftEventBreaker", "mooring").contains(&"BreakerClosed".to_owned()));
    assert!(rig.denied().is_empty());
    assert_eq!(operator.end(), Some(0));
}
