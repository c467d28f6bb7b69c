//! From a policy to its nodes' `ConfigMap`s, and from what agents report to the policy's status.

use std::thread;
use std::time::Duration;

use mooring_e2e::cluster::Component;
use mooring_e2e::testing::eventually;
use serde_json::json;

use super::rig::Rig;

#[test]
#[ignore = "starts a control plane: make test-operator"]
fn a_policy_reaches_the_nodes_that_it_concerns_and_no_other() {
    let rig = Rig::begin();
    let operator = rig.operator("one", &[]);
    rig.node("general-1", json!({"pool": "general"}));
    rig.node("other-1", json!({"pool": "other"}));
    rig.policy("p", json!({"scope": {"nodeSelector": {"matchLabels": {"pool": "general"}}}}));
    let rules = rig.await_policies("general-1", &["p"]);
    assert!(!rules.policies[0].spec.actions.prevent);
    rig.await_policies("other-1", &[]);

    // An edit, with the next revision; the other node has nothing of it.
    let other = rig.map("other-1").unwrap();
    rig.policy(
        "p",
        json!({"scope": {"nodeSelector": {"matchLabels": {"pool": "general"}}}, "actions": {"prevent": true}}),
    );
    eventually("the edit", || rig.rules("general-1").is_some_and(|rules| rules.policies[0].spec.actions.prevent));
    assert_eq!(rig.rules("general-1").unwrap().revision, rules.revision + 1);
    assert_eq!(rig.map("other-1").unwrap(), other);
    let owner = rig.map("general-1").unwrap()["metadata"]["ownerReferences"][0].clone();
    let uid = rig.kubectl.run(&["get", "node", "general-1", "-o", "jsonpath={.metadata.uid}"]).unwrap();
    assert_eq!((owner["kind"].as_str(), owner["uid"].as_str()), (Some("Node"), Some(uid.as_str())));

    // Labels of nodes decide, then as now.
    rig.kubectl.run(&["label", "node", "other-1", "pool=general", "--overwrite"]).unwrap();
    rig.await_policies("other-1", &["p"]);
    rig.kubectl.run(&["label", "node", "general-1", "pool=other", "--overwrite"]).unwrap();
    rig.await_policies("general-1", &[]);

    rig.kubectl.run(&["delete", "node", "general-1"]).unwrap();
    eventually("the end of its ConfigMap", || rig.map("general-1").is_none());
    // Made again under the same name, it is another node, also where the old one's ConfigMap is still there.
    rig.node("general-1", json!({"pool": "general"}));
    rig.await_policies("general-1", &["p"]);
    rig.kubectl.run(&["delete", "node", "general-1", "--wait=false"]).unwrap();
    rig.node("general-1", json!({"pool": "general"}));
    let uid = rig.kubectl.run(&["get", "node", "general-1", "-o", "jsonpath={.metadata.uid}"]).unwrap();
    eventually("a ConfigMap of the new node", || {
        rig.map("general-1").is_some_and(|map| map["metadata"]["ownerReferences"][0]["uid"] == uid.as_str())
    });
    rig.await_policies("general-1", &["p"]);
    rig.kubectl.run(&["delete", "cdp", "p"]).unwrap();
    rig.await_policies("general-1", &[]);
    rig.await_policies("other-1", &[]);

    assert!(operator.get("/livez").starts_with("HTTP/1.1 200"), "{}", operator.get("/livez"));
    assert!(operator.get("/readyz").starts_with("HTTP/1.1 200"), "{}", operator.get("/readyz"));
    assert!(operator.get("/metrics").contains("mooring_operator_writes_total{object=\"ConfigMap\",result=\"Ok\"}"));
    assert_eq!(operator.end(), Some(0));
    let lease = rig.kubectl.json(&["get", "lease", "mooring-operator", "-n", "mooring-system"]).unwrap();
    assert_eq!(lease["spec"].get("holderIdentity"), None, "given back: {lease}");
}

#[test]
#[ignore = "starts a control plane: make test-operator"]
fn the_status_says_what_the_nodes_do() {
    let rig = Rig::begin();
    let operator = rig.operator("one", &[]);
    rig.policy("p", json!({}));
    assert!(rig.await_condition("p", "Enforcing", "Unknown", "NoNodes").contains("nodeSelector"));
    rig.node("n1", json!({}));
    rig.node("n2", json!({}));
    rig.await_condition("p", "Accepted", "True", "Accepted");
    rig.await_condition("p", "Enforcing", "False", "SomeNodes");
    rig.await_policies("n1", &["p"]);
    rig.await_policies("n2", &["p"]);
    let figures =
        |violations: i64| json!({"policies": [{"name": "p", "matched": 3, "protected": 2, "violations": violations}]});
    for node in ["n1", "n2"] {
        rig.agent(node, true);
        rig.report(node, figures(5));
    }
    rig.await_condition("p", "Enforcing", "True", "AllNodes");
    eventually("the figures", || {
        let line = rig.kubectl.run(&["get", "cdp", "p", "--no-headers"]).unwrap();
        line.split_whitespace().eq([
            "p",
            "Medium",
            "false",
            "2/2",
            "4/6",
            "10",
            "True",
            line.split_whitespace().last().unwrap(),
        ])
    });
    let status = rig.kubectl.json(&["get", "cdp", "p"]).unwrap()["status"].clone();
    assert_eq!(
        status["nodes"],
        json!({"targeted": 2, "enforcing": 2, "degraded": 0, "unattended": 0, "summary": "2/2"})
    );
    assert_eq!(status["observedGeneration"], 1);
    assert!(status["revision"].as_i64().unwrap() > 0, "{status}");
    eventually("the Event", || rig.told("ContainerDriftPolicy", "p").contains(&"InForce".to_owned()));
    assert!(rig.told("ContainerDriftPolicy", "p").contains(&"Accepted".to_owned()));

    // Another policy's edit moves the nodes' revision, and this one's status not at all.
    let before = rig.kubectl.json(&["get", "cdp", "p"]).unwrap();
    rig.policy("q", json!({}));
    rig.await_policies("n1", &["p", "q"]);
    rig.await_condition("q", "Enforcing", "False", "SomeNodes");
    assert_eq!(rig.kubectl.json(&["get", "cdp", "p"]).unwrap(), before);
    rig.kubectl.run(&["delete", "cdp", "q"]).unwrap();
    rig.await_policies("n1", &["p"]);
    rig.await_policies("n2", &["p"]);
    rig.report("n1", figures(5));
    rig.report("n2", figures(5));

    rig.agent("n2", false);
    rig.await_condition("p", "Enforcing", "False", "SomeNodes");
    eventually("the unattended node", || {
        let status = rig.kubectl.json(&["get", "cdp", "p"]).unwrap()["status"].clone();
        status["nodes"]["unattended"] == 1 && status["nodes"]["problems"][0]["node"] == "n2"
    });
    rig.agent("n2", true);
    let problem =
        json!({"policies": [{"name": "p", "matched": 3, "protected": 0, "violations": 5, "problem": "no overlay"}]});
    rig.report("n2", problem);
    rig.await_condition("p", "Degraded", "True", "NodesCannot");
    let status = rig.kubectl.json(&["get", "cdp", "p"]).unwrap()["status"].clone();
    assert_eq!(status["nodes"]["problems"], json!([{"node": "n2", "message": "no overlay"}]));

    // Off is off.
    rig.policy("p", json!({"enabled": false}));
    rig.await_policies("n1", &[]);
    rig.await_condition("p", "Enforcing", "False", "Disabled");
    rig.await_condition("p", "Accepted", "True", "Disabled");
    assert_eq!(operator.end(), Some(0));
}

#[test]
#[ignore = "starts a control plane: make test-operator"]
fn what_is_refused_stops_no_other_and_what_was_good_stays() {
    let rig = Rig::begin();
    let operator = rig.operator("one", &[]);
    rig.node("n1", json!({}));
    rig.policy("bad", json!({"detect": {"driftedScripts": true}}));
    rig.policy("good", json!({}));
    rig.await_policies("n1", &["good"]);
    let why = rig.await_condition("bad", "Accepted", "False", "Refused");
    assert!(why.contains("spec.detect.driftedScripts"), "{why}");
    eventually("the Event", || rig.told("ContainerDriftPolicy", "bad").contains(&"Refused".to_owned()));

    // An edit that cannot be compiled: the wording before it stays in force, and so it is after a new start.
    rig.policy("good", json!({"actions": {"prevent": true, "capture": {}}}));
    let why = rig.await_condition("good", "Accepted", "False", "Refused");
    assert!(why.contains("spec.actions.capture") && why.contains("stays in force on 1 nodes"), "{why}");
    assert!(!rig.await_policies("n1", &["good"]).policies[0].spec.actions.prevent);
    drop(operator);
    let again = rig.operator("two", &[]);
    rig.node("n2", json!({}));
    rig.await_policies("n2", &[]);
    assert!(!rig.await_policies("n1", &["good"]).policies[0].spec.actions.prevent);
    rig.policy("good", json!({"actions": {"prevent": true}}));
    eventually("the repaired policy", || rig.rules("n1").is_some_and(|rules| rules.policies[0].spec.actions.prevent));
    rig.await_condition("good", "Accepted", "True", "Accepted");
    assert_eq!(again.end(), Some(0));
}

#[test]
#[ignore = "starts a control plane: make test-operator"]
fn an_idle_operator_writes_nothing_and_is_denied_nothing() {
    let rig = Rig::begin();
    let operator = rig.operator("one", &[]);
    rig.node("n1", json!({}));
    rig.node("n2", json!({}));
    rig.policy("p", json!({}));
    for node in ["n1", "n2"] {
        rig.await_policies(node, &["p"]);
        rig.agent(node, true);
        rig.report(node, json!({}));
    }
    rig.await_condition("p", "Enforcing", "True", "AllNodes");
    // It would find out within the minute that no kubelet stands behind these nodes, and say so of their agents' pods.
    rig.cluster.stop_component(Component::ControllerManager);
    thread::sleep(Duration::from_secs(3));
    let maps = || rig.kubectl.json(&["get", "configmaps", "-n", "mooring-nodes"]).unwrap()["items"].clone();
    let there = maps();
    let user = "system:serviceaccount:mooring-system:mooring-operator";
    let writes = || {
        let requests = rig.cluster.audit().unwrap();
        requests.into_iter().filter(|one| one.user == user && one.writes() && one.resource != "leases").count()
    };
    let before = writes();
    // A pod that comes, moves and goes, and a node's heartbeat, change nothing of what nodes are to have.
    rig.kubectl.run(&["create", "serviceaccount", "idle"]).unwrap();
    for node in ["n1", "n2"] {
        let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "x"}, "spec": {
            "nodeName": node, "serviceAccountName": "idle", "containers": [{"name": "c", "image": "i"}]}});
        rig.kubectl.apply(&pod.to_string()).unwrap();
        rig.kubectl.run(&["label", "pod", "x", "a=b"]).unwrap();
        rig.kubectl.run(&["delete", "pod", "x", "--force"]).unwrap();
    }
    rig.kubectl.run(&["annotate", "node", "n1", "beat=1"]).unwrap();
    thread::sleep(Duration::from_mins(1));
    let written = writes() - before;
    rig.cluster.start_component(Component::ControllerManager).unwrap();
    assert_eq!(written, 0);
    assert_eq!(maps(), there);
    assert!(before > 0, "the audit log knows the operator by another name");
    assert_eq!(operator.end(), Some(0));
    let denied = rig.denied();
    assert!(denied.is_empty(), "{denied:?}");
}
