//! The side of the API server, without a kernel part: rules in order, faults, floods. `examples/api.rs` plays the agent's loop.

use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use mooring_crd::access::Binary;
use mooring_crd::access::grants::GRANTS;
use mooring_e2e::cluster::{Cluster, Component};
use mooring_e2e::testing::eventually;
use serde_json::{Value, json};

use crate::played::{Loop, State, agent_of, count_of, event, node, nothing_denied, prevents};
use crate::rig::{condition, hand, hand_data, operator, start};

/// A policy with lists.
fn listing(name: &str) -> Value {
    let path = |kind: &str, number: usize| json!({"path": format!("/opt/{name}/{kind}-{number}")});
    json!({
        "scope": {"namespaceSelector": {"matchLabels": {"team": name}}},
        "detect": {
            "exceptions": (0..8).map(|number| path("excepted", number)).collect::<Vec<_>>(),
            "prohibitedBinaries": (0..8).map(|number| path("prohibited", number)).collect::<Vec<_>>(),
        },
        "actions": {"prevent": true},
    })
}

fn labelled_pod(name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": name, "labels": {"app": name, "tier": "backend", "pod-template-hash": "6f969cc5b5"}},
        "spec": {"nodeName": "node1", "containers": [{"name": "main", "image": "x"}]}})
}

#[test]
#[ignore = "starts a control plane: make test-agent"]
fn rules_events_and_faults() {
    let cluster = start();
    let (admin, operator) = (cluster.kubectl(), operator(&cluster));
    node(&admin, "node1");
    // Of an earlier Node of this name, as far as the agent can tell.
    let left =
        json!({"apiVersion": "mooring.dev/v1alpha1", "kind": "DriftNode", "metadata": {"name": "node1"}, "spec": {}});
    admin.apply(&left.to_string()).unwrap();
    let account = agent_of(&cluster, "node1");
    let state = State::new("rules");
    let mut agent = Loop::begin(&account, "node1", &state.0);
    // No rules, and then some; edits come in their order.
    thread::sleep(Duration::from_secs(2));
    assert_eq!(agent.given(), []);
    for revision in 1..=5 {
        hand(&operator, "node1", revision, &[("p", prevents())]);
    }
    agent.await_rules(5, "ConfigMap");
    assert!(agent.given().is_sorted());
    eventually("Ready", || condition(&admin, "node1", "Ready").is_some_and(|(status, ..)| status == "True"));
    let owners = admin.json(&["get", "driftnode", "node1"]).unwrap()["metadata"]["ownerReferences"].clone();
    assert_eq!(owners[0]["kind"], "Node", "{owners}");

    // What was damaged is refused and told of, and the last good set stays.
    let map = admin.json(&["get", "configmap", "node1", "-n", "mooring-nodes"]).unwrap();
    let mut data = map["data"].clone();
    data["policies.json"] = json!(data["policies.json"].as_str().unwrap().replace("\"revision\":5", "\"revision\":6"));
    hand_data(&operator, "node1", &data);
    eventually("the refusal", || {
        condition(&admin, "node1", "Degraded").is_some_and(|(status, reason, message)| {
            status == "True" && reason == "RulesRefused" && message.contains("edited by hand")
        })
    });
    assert_eq!(agent.given().last().unwrap().0, 5);
    hand(&operator, "node1", 7, &[("p", prevents())]);
    agent.await_rules(7, "ConfigMap");
    eventually("no longer degraded", || {
        condition(&admin, "node1", "Degraded").is_some_and(|(status, ..)| status == "False")
    });

    // Labels: of namespaces, and of this node's pods only.
    for (name, on) in [("mine", "node1"), ("other", "node2")] {
        let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": {"nodeName": on,
            "containers": [{"name": "main", "image": "x"}]}});
        eventually("the service account", || admin.apply(&pod.to_string()).is_ok());
    }
    let uid = |name: &str| admin.json(&["get", "pod", name]).unwrap()["metadata"]["uid"].as_str().unwrap().to_owned();
    eventually("the pod", || agent.heard_of("pods", &uid("mine")));
    assert!(!agent.heard_of("pods", &uid("other")) && agent.heard_of("namespaces", "default"));

    // Events are counted over lives and agents, and deleted ones come back.
    agent.tell(&event("default", "one", 1, "2026-01-01T00:00:00.000000Z"));
    agent.tell(&event("default", "one", 4, "2026-01-01T00:00:00.000000Z"));
    eventually("4 of the first life", || count_of(&admin, "one") == Some(4));
    agent.tell(&event("default", "one", 2, "2026-01-01T01:00:00.000000Z"));
    eventually("2 more of the second", || count_of(&admin, "one") == Some(6));
    // Whatever a workload calls its files and arguments, the API server takes the event.
    let hostile = event("default", "hostile", 1, "2026-01-01T00:00:00.000000Z")
        .replace("/tmp/x", &format!("/tmp/\\u001b[2J\\u202e\\n{}", "x".repeat(5000)))
        .replace(
            "\"pid\":1",
            "\"commandLine\":\"a\\u0000\\u0007\\r\",\"parent\":{\"name\":\"\\u009b\",\"pid\":1},\"pid\":1",
        );
    agent.tell(&hostile);
    eventually("the hostile event", || count_of(&admin, "hostile") == Some(1));
    admin.run(&["get", "driftevents", "-o", "yaml"]).unwrap();
    // One that retention took away does not come back at once, and then counts what came after it.
    agent.tell(&event("default", "trimmed", 5, "2026-01-01T00:00:00.000000Z"));
    eventually("5 before", || count_of(&admin, "trimmed") == Some(5));
    admin.run(&["delete", "driftevent", "trimmed"]).unwrap();
    for count in 6..=8 {
        agent.tell(&event("default", "trimmed", count, "2026-01-01T00:00:00.000000Z"));
        thread::sleep(Duration::from_secs(1));
        assert_eq!(count_of(&admin, "trimmed"), None);
    }
    agent.end();
    assert_eq!(count_of(&admin, "trimmed"), Some(3));
    let events = admin.json(&["get", "events.events.k8s.io"]).unwrap();
    let told = events["items"].as_array().unwrap().iter().find(|event| event["reason"] == "NewBinary").unwrap().clone();
    assert_eq!((&told["reportingInstance"], &told["regarding"]["name"]), (&json!("node1"), &json!("api")), "{told}");

    // Without an API server the next agent has the last good set at once; what happens is told when it is there again.
    nothing_denied(&cluster, 0);
    cluster.stop_component(Component::ApiServer);
    let mut agent = Loop::begin(&account, "node1", &state.0);
    agent.await_rules(7, "Disk");
    agent.tell(&event("default", "one", 3, "2026-01-01T02:00:00.000000Z"));
    thread::sleep(Duration::from_secs(5));
    cluster.start_component(Component::ApiServer).unwrap();
    cluster.await_api().unwrap();
    agent.await_rules(7, "ConfigMap");
    eventually("3 more of the second agent", || count_of(&admin, "one") == Some(9));
    let earlier = cluster.audit().unwrap().len();

    // Deleted by hand: told, and the last good set stays. The other way round it is followed again.
    operator.run(&["delete", "configmap", "node1", "-n", "mooring-nodes"]).unwrap();
    eventually("that it is missing", || {
        condition(&admin, "node1", "Degraded").is_some_and(|(_, _, message)| message.contains("there is no ConfigMap"))
    });
    hand(&operator, "node1", 8, &[("p", prevents())]);
    agent.await_rules(8, "ConfigMap");

    agent.end();

    // A node that is made anew under its name owns the object. Its agent's pod is a new one, with a token of its own: the old one's
    // ends with the Node that it was bound to.
    admin.run(&["delete", "node", "node1"]).unwrap();
    eventually("the object's end", || admin.run(&["get", "driftnode", "node1"]).is_err());
    node(&admin, "node1");
    hand(&operator, "node1", 9, &[("p", prevents())]);
    let agent = Loop::begin(&agent_of(&cluster, "node1"), "node1", &state.0);
    agent.await_rules(9, "ConfigMap");
    eventually("a DriftNode again", || {
        condition(&admin, "node1", "Ready").is_some_and(|(status, ..)| status == "True")
    });
    agent.end();
    nothing_denied(&cluster, earlier);
    every_right_is_used(&cluster);
}

fn every_right_is_used(cluster: &Cluster) {
    let requests = cluster.audit().unwrap();
    for grant in GRANTS.iter().filter(|grant| grant.binary == Binary::Enforcer) {
        for verb in grant.verbs {
            // While a container is paused, which no container here can be: tests/pods/responses.rs.
            if (*verb, grant.resource) == ("list", "driftevents") {
                continue;
            }
            let is_it = |request: &mooring_e2e::cluster::Request| {
                // What was refused was of no use.
                request.user.ends_with(":mooring-enforcer")
                    && (200..300).contains(&request.code)
                    && (&request.verb, request.group.as_str(), request.resource.as_str())
                        == (&(*verb).to_owned(), grant.group, grant.resource)
            };
            assert!(requests.iter().any(is_it), "{verb} {} is granted and was never used", grant.resource);
        }
    }
}

#[test]
#[ignore = "starts a control plane: make test-agent"]
fn where_the_breaker_is_open_violations_are_counted_and_the_driftnode_says_so() {
    let cluster = start();
    let (admin, operator) = (cluster.kubectl(), operator(&cluster));
    node(&admin, "node1");
    admin.run(&["create", "namespace", "flooded"]).unwrap();
    hand(&operator, "node1", 1, &[("p", prevents())]);
    let state = State::new("breaker");
    let mut agent = Loop::begin(&agent_of(&cluster, "node1"), "node1", &state.0);
    agent.await_rules(1, "ConfigMap");
    eventually("all is told", || condition(&admin, "node1", "Reporting").is_some_and(|(status, ..)| status == "True"));
    let breaker = |namespaces: &[&str]| {
        let object = json!({"apiVersion": "mooring.dev/v1alpha1", "kind": "DriftEventBreaker",
            "metadata": {"name": "mooring"}, "spec": {"namespaces": namespaces}});
        admin.apply(&object.to_string()).unwrap();
    };
    let is_there = |namespace: &str, name: &str| admin.run(&["get", "driftevent", name, "-n", namespace]).is_ok();
    let first = "2026-01-01T00:00:00.000000Z";
    breaker(&["flooded"]);
    // The API server heard of it when an agent's event is refused.
    let account = agent_of(&cluster, "node1");
    let mut probes = 0;
    eventually("the breaker at the API server", || {
        probes += 1;
        let probe = event("flooded", &format!("probe-{probes}"), 1, first);
        account.run_with(&["create", "-f", "-"], probe.strip_prefix("event ").unwrap()).is_err()
    });
    agent.tell(&event("flooded", "one", 7, first));
    agent.tell(&event("default", "elsewhere", 2, first));
    eventually("what the DriftNode says", || {
        condition(&admin, "node1", "Reporting").is_some_and(|(status, reason, message)| {
            status == "False" && reason == "BreakerOpen" && message.contains("flooded")
        })
    });
    let suppressed = || admin.json(&["get", "driftnode", "node1"]).unwrap()["status"]["events"]["suppressed"].as_i64();
    eventually("what was only counted", || suppressed() == Some(7));
    eventually("what happens elsewhere", || count_of(&admin, "elsewhere") == Some(2));
    assert!(!is_there("flooded", "one"));
    assert!(condition(&admin, "node1", "Ready").is_some_and(|(status, ..)| status == "True"), "enforcement goes on");
    // It ends: what comes after it is told, and what was counted is not told again.
    breaker(&[]);
    let mut count = 7;
    eventually("an event again", || {
        count += 1;
        agent.tell(&event("flooded", "one", count, first));
        is_there("flooded", "one")
    });
    agent.tell(&event("flooded", "one", count + 1, first));
    agent.end();
    let told = admin.json(&["get", "driftevent", "one", "-n", "flooded"]).unwrap()["status"]["count"].as_i64().unwrap();
    let node = admin.json(&["get", "driftnode", "node1"]).unwrap();
    assert_eq!(told + suppressed().unwrap(), count + 1, "{node}");
    let (status, ..) = condition(&admin, "node1", "Reporting").unwrap();
    assert_eq!(status, "True");
}

#[test]
#[ignore = "starts a control plane: make test-agent"]
fn a_flood_stays_within_its_bounds_and_a_quiet_agent_writes_nothing() {
    let cluster = start();
    let (admin, operator) = (cluster.kubectl(), operator(&cluster));
    let state = State::new("flood");
    // A state folder that takes nothing: told, and nothing else depends on it.
    fs::write(&state.0, "a file").unwrap();
    node(&admin, "node1");
    hand(&operator, "node1", 1, &[("p", prevents())]);
    let mut agent = Loop::begin(&agent_of(&cluster, "node1"), "node1", &state.0);
    agent.await_rules(1, "ConfigMap");
    eventually("what is wrong with the state folder", || {
        condition(&admin, "node1", "Degraded").is_some_and(|(_, reason, _)| reason == "StateNotKept")
    });
    // 64 policies and 250 pods: what the process holds by itself, its program's pages apart (this is no release build).
    let names: Vec<String> = (0..64).map(|number| format!("policy-{number}")).collect();
    let full: Vec<(&str, Value)> = names.iter().map(|name| (name.as_str(), listing(name))).collect();
    hand(&operator, "node1", 2, &full);
    agent.await_rules(2, "ConfigMap");
    let pods: Vec<Value> = (0..250).map(|number| labelled_pod(&format!("pod-{number}"))).collect();
    let list = json!({"apiVersion": "v1", "kind": "List", "items": pods}).to_string();
    eventually("250 pods", || admin.apply(&list).is_ok());
    let held = agent.memory();
    println!("with 250 pods and 64 policies: {held} KiB of its own");
    assert!(held < 25 * 1024, "{held}");

    let begun = Instant::now();
    agent.tell("flood node1 default 100000");
    eventually("the exact counts", || {
        let events = admin.json(&["get", "driftevents"]).unwrap();
        let counts = events["items"].as_array().unwrap().iter().map(|event| event["status"]["count"].as_i64().unwrap());
        counts.filter(|count| *count == 100_000).count() == 10
    });
    let writes = |cluster: &Cluster| {
        let all = cluster.audit().unwrap().into_iter();
        all.filter(|request| request.user.ends_with(":mooring-enforcer") && request.writes()).count()
    };
    let written = writes(&cluster);
    println!("1,000,000 events in {:?}: {written} writes", begun.elapsed());
    assert!(written < 80, "{written}");
    // Idle: not one write in a minute.
    thread::sleep(Duration::from_secs(35));
    let before = writes(&cluster);
    thread::sleep(Duration::from_mins(1));
    assert_eq!(writes(&cluster), before);
    agent.end();
    nothing_denied(&cluster, 0);
}
