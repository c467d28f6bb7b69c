//! Faults: of the control plane, of other operators, of people, of what is stored.

use std::thread;
use std::time::{Duration, Instant};

use mooring_e2e::cluster::Component;
use mooring_e2e::testing::{LIMIT, eventually, policy, repository};
use nix::sys::signal::Signal;
use serde_json::{Value, json};

use super::rig::{Operator, Rig};

#[test]
#[ignore = "starts a control plane: make test-operator"]
fn an_api_server_or_database_that_was_away_is_caught_up_with() {
    let rig = Rig::begin();
    rig.node("n1", json!({}));
    // Away at the start.
    rig.cluster.stop_component(Component::ApiServer);
    let operator = rig.operator("one", &[]);
    thread::sleep(Duration::from_secs(2));
    rig.cluster.start_component(Component::ApiServer).unwrap();
    rig.cluster.await_api().unwrap();
    rig.policy("p", json!({}));
    rig.await_policies("n1", &["p"]);

    let lists = || {
        let kinds = ["policies", "nodes", "configmaps", "driftnodes", "agents", "driftevents"];
        let of = |kind| operator.metric(&format!("mooring_operator_lists_total{{what=\"{kind}\"}}"));
        kinds.map(of).into_iter().sum::<f64>()
    };
    // Away while it runs: what it watched from is older than what the new one remembers, and what happened is found out.
    let listed = lists();
    operator.signal(Signal::SIGSTOP);
    rig.policy("q", json!({}));
    rig.kubectl.run(&["delete", "cdp", "p"]).unwrap();
    rig.cluster.stop_component(Component::ApiServer);
    rig.cluster.start_component(Component::ApiServer).unwrap();
    rig.cluster.await_api().unwrap();
    for number in 0..3 {
        rig.node(&format!("later-{number}"), json!({}));
    }
    operator.signal(Signal::SIGCONT);
    rig.await_policies("n1", &["q"]);
    rig.await_policies("later-2", &["q"]);
    // What its watches go on from is expired (410), or this is another term: listed anew, either way.
    assert!(lists() > listed + 0.5, "{listed} lists as before");

    rig.cluster.stop_component(Component::Etcd);
    thread::sleep(Duration::from_secs(5));
    rig.cluster.start_component(Component::Etcd).unwrap();
    rig.cluster.await_api().unwrap();
    eventually("an edit after the database was away", || {
        rig.kubectl.apply(&policy("r", json!({})).to_string()).is_ok()
    });
    rig.await_policies("n1", &["q", "r"]);
    eventually("readiness", || operator.get("/readyz").starts_with("HTTP/1.1 200"));
    assert!(operator.metric("mooring_operator_watch_failures_total{what=\"policies\"}") > 0.0, "no watch failed");
    assert_eq!(operator.end(), Some(0));
}

/// Seconds of the outage; `make soak` has it last ten minutes.
const OUTAGE: &str = "MOORING_OUTAGE_SECONDS";

#[test]
#[ignore = "starts a control plane: make test-operator"]
fn an_edit_survives_an_api_server_that_goes_amid_its_writes() {
    let rig = Rig::begin();
    let operator = rig.operator("one", &[]);
    for number in 0..40 {
        rig.node(&format!("n{number}"), json!({}));
    }
    rig.policy("p", json!({"description": "before"}));
    let all_have = |word: &str| {
        let has = |node: String| rig.rules(&node)?.policies.first()?.spec.description.clone();
        (0..40).all(|number| has(format!("n{number}")).as_deref() == Some(word))
    };
    eventually("the policy on every node", || all_have("before"));
    rig.policy("p", json!({"description": "after"}));
    eventually("the first writes", || operator.log().matches("its ConfigMap is replaced").count() > 2);
    rig.cluster.signal_component(Component::ApiServer, Signal::SIGKILL);
    let outage = std::env::var(OUTAGE).ok().and_then(|seconds| seconds.parse().ok()).unwrap_or(15);
    thread::sleep(Duration::from_secs(outage));
    eventually("that it is not ready", || operator.get("/readyz").starts_with("HTTP/1.1 503"));
    assert!(operator.get("/livez").starts_with("HTTP/1.1 200"), "it would be restarted for what is not its fault");
    assert!(!operator.leads(), "nobody renewed its Lease");
    rig.cluster.start_component(Component::ApiServer).unwrap();
    rig.cluster.await_api().unwrap();
    let back = Instant::now();
    eventually("the edit on every node", || all_have("after"));
    eventually("readiness", || operator.get("/readyz").starts_with("HTTP/1.1 200"));
    println!("after an outage of {outage} s all is as it should be within {:.1} s", back.elapsed().as_secs_f64());
    assert_eq!(operator.end(), Some(0));
}

#[test]
#[ignore = "starts a control plane: make test-operator"]
fn what_is_edited_or_deleted_by_hand_is_repaired_and_told() {
    let rig = Rig::begin();
    let operator = rig.operator("one", &[]);
    rig.node("n1", json!({}));
    rig.policy("p", json!({}));
    rig.await_policies("n1", &["p"]);
    // Admission would not let even an administrator.
    rig.kubectl.run(&["delete", "validatingadmissionpolicybinding", "mooring-node-rules"]).unwrap();
    let patch = json!({"data": {"policies.json": "{\"revision\":999,\"policies\":[]}"}}).to_string();
    eventually("an edit by hand", || {
        rig.kubectl.run(&["patch", "configmap", "n1", "-n", "mooring-nodes", "--type=merge", "-p", &patch]).is_ok()
    });
    eventually("the Event of the edit", || rig.told("ConfigMap", "n1").contains(&"EditedByHand".to_owned()));
    rig.await_policies("n1", &["p"]);
    rig.kubectl.run(&["delete", "configmap", "n1", "-n", "mooring-nodes"]).unwrap();
    eventually("the Event of the deletion", || rig.told("ConfigMap", "n1").contains(&"DeletedByHand".to_owned()));
    rig.await_policies("n1", &["p"]);

    // One that belongs to something else is left alone, until it is gone.
    let theirs = json!({
        "apiVersion": "v1", "kind": "ConfigMap", "data": {"theirs": "yes"},
        "metadata": {"name": "n2", "namespace": "mooring-nodes", "ownerReferences": [
            {"apiVersion": "v1", "kind": "Namespace", "name": "default", "uid": rig.kubectl.json(&["get", "ns", "default"]).unwrap()["metadata"]["uid"]},
        ]},
    });
    rig.kubectl.apply(&theirs.to_string()).unwrap();
    rig.node("n2", json!({}));
    eventually("the Event of the stranger", || rig.told("ConfigMap", "n2").contains(&"NotOurs".to_owned()));
    assert_eq!(rig.map("n2").unwrap()["data"], json!({"theirs": "yes"}));
    rig.kubectl.run(&["delete", "configmap", "n2", "-n", "mooring-nodes"]).unwrap();
    rig.await_policies("n2", &["p"]);
    rig.kubectl
        .run(&["apply", "-f", repository("deploy/helm/mooring/templates/admission.yaml").to_str().unwrap()])
        .unwrap();
    assert_eq!(operator.end(), Some(0));
}

/// So many that a leader can be frozen while some have yet to be written.
const FROZEN_NODES: usize = 60;

#[test]
#[ignore = "starts a control plane: make test-operator"]
fn of_two_operators_one_leads_and_a_frozen_one_rolls_nothing_back() {
    let rig = Rig::begin();
    for number in 0..FROZEN_NODES {
        rig.node(&format!("n{number}"), json!({}));
    }
    let first = rig.operator("first", &[]);
    eventually("the first to lead", || first.leads());
    let second = rig.operator("second", &[]);
    rig.policy("p", json!({"description": "0"}));
    // One request for all of them: it must be quicker than what it looks at.
    let of = |wording: &str| {
        let list = rig.kubectl.json(&["get", "configmaps", "-n", "mooring-nodes"]).unwrap();
        let is_it = |map: &&Value| {
            let text = map["data"]["policies.json"].as_str().unwrap_or("{}");
            let rules: Value = serde_json::from_str(text).unwrap();
            rules["policies"][0]["spec"]["description"] == wording
        };
        list["items"].as_array().unwrap().iter().filter(is_it).count()
    };
    eventually("the policy on every node", || of("0") == FROZEN_NODES);
    thread::sleep(Duration::from_secs(4));
    assert!(first.leads() && !second.leads());

    let mut leader = (&first, "first");
    let mut other = (&second, "second");
    for round in 1..=3 {
        // Frozen amid its writes of an edit that the other then finds.
        let written = || leader.0.log().matches("its ConfigMap is replaced").count();
        let mut tries = 0;
        let due = loop {
            let before = written();
            rig.policy("p", json!({"description": format!("{round}.{tries}")}));
            let asked = Instant::now();
            while written() == before && asked.elapsed() < LIMIT {
                thread::sleep(Duration::from_millis(2));
            }
            leader.0.signal(Signal::SIGSTOP);
            let due = FROZEN_NODES - of(&format!("{round}.{tries}"));
            if due > 0 || tries == 9 {
                break due;
            }
            // It was done already: another edit.
            leader.0.signal(Signal::SIGCONT);
            tries += 1;
        };
        assert!(due > 0, "nothing was left to write when it was frozen");
        println!("frozen with {due} of {FROZEN_NODES} ConfigMaps to write");
        eventually(&format!("{} to lead", other.1), || other.0.leads());
        rig.policy("p", json!({"description": format!("{round}.x")}));
        let latest = format!("{round}.x");
        eventually("the edit on every node", || of(&latest) == FROZEN_NODES);
        leader.0.signal(Signal::SIGCONT);
        eventually("the thawed one to step back", || !leader.0.leads());
        thread::sleep(Duration::from_secs(2));
        assert_eq!(of(&latest), FROZEN_NODES, "an old view has won");
        (leader, other) = (other, leader);
    }
    // Of each ConfigMap, all that was ever stored: the revision only grew, and no earlier wording came back.
    let mut stored: std::collections::BTreeMap<String, Vec<(u64, u64, String)>> = std::collections::BTreeMap::new();
    for one in rig.cluster.audit().unwrap() {
        let response = &one.event["responseObject"];
        if one.resource != "configmaps" || one.namespace != "mooring-nodes" || !one.writes() || one.code >= 300 {
            continue;
        }
        let Some(text) = response["data"]["policies.json"].as_str() else { continue };
        let rules: Value = serde_json::from_str(text).unwrap();
        let version = response["metadata"]["resourceVersion"].as_str().unwrap().parse().unwrap();
        let uid = response["metadata"]["uid"].as_str().unwrap().to_owned();
        let wording = rules["policies"][0]["spec"]["description"].as_str().unwrap_or_default().to_owned();
        stored.entry(uid).or_default().push((version, rules["revision"].as_u64().unwrap_or_default(), wording));
    }
    let mut seen = 0;
    for mut writes in stored.into_values() {
        writes.sort();
        if !writes.iter().any(|(_, _, wording)| wording == "3.x") {
            continue;
        }
        seen += 1;
        assert!(writes.is_sorted_by(|a, b| a.1 < b.1), "{writes:?}");
        assert!(writes.is_sorted_by(|a, b| a.2 <= b.2), "{writes:?}");
    }
    assert_eq!(seen, FROZEN_NODES);

    // The one that ends gives the lease back, and the other need not wait for it.
    let (ending, staying): (Operator, Operator) = if first.leads() { (first, second) } else { (second, first) };
    assert_eq!(ending.end(), Some(0));
    eventually("the other to lead", || staying.leads());
    assert_eq!(staying.end(), Some(0));
}

#[test]
#[ignore = "starts a control plane: make test-operator"]
fn a_set_beyond_a_mebibyte_is_refused_and_the_last_good_one_stays() {
    let rig = Rig::begin();
    let operator = rig.operator("one", &[]);
    rig.node("n1", json!({}));
    // 60 KiB each, in images, which no other limit of a node counts.
    let large = |name: &str, letter: &str| {
        let images: Vec<String> = (0..64).map(|n| format!("{n:02}{}", letter.repeat(630))).collect();
        rig.policy(name, json!({"description": letter, "scope": {"images": images}}));
    };
    for number in 10..34 {
        large(&format!("large-{number}"), "a");
    }
    rig.policy("small", json!({}));
    let mut fitting = 0;
    eventually("as many as fit, and the small one", || {
        let rules = rig.rules("n1").unwrap_or_default();
        fitting = rules.policies.iter().filter(|policy| policy.name.starts_with("large")).count();
        fitting > 20 && rules.policies.iter().any(|policy| policy.name == "small")
    });
    assert!(fitting < 26, "{fitting}");
    let all = rig.kubectl.json(&["get", "cdp"]).unwrap();
    assert_eq!(all["items"].as_array().unwrap().len(), 25);
    // One more that has no room, and one in force that grows beyond it.
    large("large-98", "b");
    large("large-99", "b");
    let mut why = rig.await_condition("large-99", "Accepted", "False", "TooLarge");
    assert!(why.contains("1 MiB") && why.contains("n1"), "{why}");
    let paths: Vec<Value> = (0..200).map(|n| json!({"path": format!("/{n}/{}", "c".repeat(240))})).collect();
    rig.policy("small", json!({"description": "grown", "detect": {"prohibitedBinaries": paths}}));
    why = rig.await_condition("small", "Accepted", "False", "TooLarge");
    assert!(why.contains("stays in force"), "{why}");
    let rules = rig.rules("n1").unwrap();
    let small = rules.policies.iter().find(|policy| policy.name == "small").unwrap();
    assert_eq!(small.spec.description, None, "the last good one");
    assert!(rules.policies.iter().any(|policy| policy.name == "large-10"));
    // With room, it is taken.
    rig.kubectl.run(&["delete", "cdp", "large-10", "large-98", "large-99", "large-11"]).unwrap();
    rig.await_condition("small", "Accepted", "True", "Accepted");
    assert_eq!(operator.end(), Some(0));
}

#[test]
#[ignore = "starts a control plane: make test-operator"]
fn objects_that_are_stored_and_cannot_be_read_stop_nothing() {
    let rig = Rig::begin();
    // As they would be after the definition was tightened: stored while it asked for nothing.
    let kinds = ["containerdriftpolicies", "driftnodes"].map(|plural| format!("{plural}.mooring.dev"));
    let definitions: Vec<Value> = kinds.iter().map(|name| rig.kubectl.json(&["get", "crd", name]).unwrap()).collect();
    let put = |definition: &Value, schema: Value| {
        let patch =
            json!([{"op": "replace", "path": "/spec/versions/0/schema/openAPIV3Schema", "value": schema}]).to_string();
        let name = definition["metadata"]["name"].as_str().unwrap();
        rig.kubectl.run(&["patch", "crd", name, "--type=json", "-p", &patch]).unwrap();
    };
    let anything = json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true,
        "properties": {"spec": {"type": "object", "x-kubernetes-preserve-unknown-fields": true,
            "properties": {"enabled": {"type": "boolean"}, "severity": {"type": "string"},
                "actions": {"type": "object", "x-kubernetes-preserve-unknown-fields": true, "properties": {"prevent": {"type": "boolean"}}}}},
            "status": {"type": "object", "x-kubernetes-preserve-unknown-fields": true,
                "properties": {"backend": {"type": "string"}, "released": {"type": "boolean"}}}}});
    for definition in &definitions {
        put(definition, anything.clone());
    }
    let broken = json!({"enabled": true, "severity": "High", "actions": {"prevent": true}, "scope": ["everything"]});
    eventually("a definition that asks for nothing", || {
        rig.kubectl.apply(&policy("broken", broken.clone()).to_string()).is_ok()
    });
    let node =
        json!({"apiVersion": "mooring.dev/v1alpha1", "kind": "DriftNode", "metadata": {"name": "n1"}, "spec": {}});
    rig.kubectl.apply(&node.to_string()).unwrap();
    let status = json!({"status": {"backend": "Magic"}}).to_string();
    rig.kubectl.run(&["patch", "driftnode", "n1", "--subresource=status", "--type=merge", "-p", &status]).unwrap();
    for definition in &definitions {
        put(definition, definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"].clone());
    }

    let operator = rig.operator("one", &[]);
    rig.node("n1", json!({}));
    rig.policy("good", json!({}));
    rig.await_policies("n1", &["good"]);
    rig.await_condition("good", "Accepted", "True", "Accepted");
    rig.await_condition("good", "Degraded", "True", "NodesCannot");
    let problems = rig.kubectl.json(&["get", "cdp", "good"]).unwrap()["status"]["nodes"]["problems"].clone();
    assert!(problems[0]["message"].as_str().unwrap().contains("cannot be read"), "{problems}");
    // The API server may or may not take a status beside such a spec; if not, the log says so.
    eventually("what becomes of it", || {
        let told =
            rig.kubectl.json(&["get", "cdp", "broken"]).unwrap()["status"]["conditions"][0]["reason"] == "Refused";
        told || operator.log().contains("status of policy broken")
    });
    rig.kubectl.run(&["delete", "cdp", "broken"]).unwrap();
    assert_eq!(operator.end(), Some(0));
}

#[test]
#[ignore = "starts a control plane: make test-operator"]
fn a_map_that_is_refused_and_a_kind_that_cannot_be_listed_are_told() {
    let rig = Rig::begin();
    let refuses = json!({
        "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicy", "metadata": {"name": "quota"},
        "spec": {
            "failurePolicy": "Fail",
            "matchConstraints": {"resourceRules": [{
                "apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE", "UPDATE"], "resources": ["configmaps"],
            }]},
            "validations": [{"expression": "request.name != 'n1' && object.metadata.name != 'n1'", "message": "no more than this"}],
        },
    });
    let binding = json!({
        "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicyBinding", "metadata": {"name": "quota"},
        "spec": {"policyName": "quota", "validationActions": ["Deny"]},
    });
    rig.kubectl.apply(&refuses.to_string()).unwrap();
    rig.kubectl.apply(&binding.to_string()).unwrap();
    eventually("the refusal", || {
        rig.kubectl
            .run(&["create", "configmap", "n1", "--dry-run=server"])
            .is_err_and(|why| why.to_string().contains("no more"))
    });
    let operator = rig.operator("one", &[]);
    rig.node("n1", json!({}));
    rig.node("n2", json!({}));
    rig.policy("p", json!({}));
    rig.await_policies("n2", &["p"]);
    rig.await_condition("p", "Degraded", "True", "NodesCannot");
    let problems = || rig.kubectl.json(&["get", "cdp", "p"]).unwrap()["status"]["nodes"]["problems"].clone();
    let first = problems()[0].clone();
    let message = first["message"].as_str().unwrap();
    assert!(
        first["node"] == "n1" && message.contains("cannot be written") && message.contains("no more than this"),
        "{first}"
    );
    rig.kubectl.run(&["delete", "validatingadmissionpolicybinding", "quota"]).unwrap();
    rig.await_policies("n1", &["p"]);
    rig.await_condition("p", "Degraded", "False", "AsAsked");
    rig.kubectl.run(&["delete", "validatingadmissionpolicy", "quota"]).unwrap();
    eventually("readiness", || operator.get("/readyz").starts_with("HTTP/1.1 200"));
    assert_eq!(operator.end(), Some(0));

    let role = rig.kubectl.json(&["get", "clusterrole", "mooring-operator"]).unwrap();
    let mut less = role.clone();
    less["rules"].as_array_mut().unwrap().retain(|rule| rule["resources"] != json!(["driftevents"]));
    rig.kubectl.run_with(&["replace", "-f", "-"], &less.to_string()).unwrap();
    eventually("the right's end", || rig.operator_kubectl().run(&["get", "driftevents", "-A"]).is_err());
    let operator = rig.operator("two", &[]);
    eventually("that it is not ready", || {
        let answer = operator.get("/readyz");
        answer.starts_with("HTTP/1.1 503")
            && answer.contains("driftevents cannot be listed")
            && answer.contains("forbidden")
    });
    assert!(operator.leads() && operator.get("/livez").starts_with("HTTP/1.1 200"));
    rig.node("n3", json!({}));
    rig.await_policies("n3", &["p"]);
    rig.kubectl.run(&["apply", "-f", repository("deploy/helm/mooring/templates/rbac.yaml").to_str().unwrap()]).unwrap();
    eventually("readiness", || operator.get("/readyz").starts_with("HTTP/1.1 200"));
    assert_eq!(operator.end(), Some(0));
}
