//! Watches that say the same again, that say what is no longer so, and that cannot go on from where they were.

use mooring_e2e::cluster::{Cluster, Component, Kubectl};
use mooring_e2e::testing::eventually;
use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::faults::kept;
use crate::played::{Loop, State, agent_of, node, prevents};
use crate::relay::Relay;
use crate::rig::{hand, operator, start};

#[test]
#[ignore = "starts a control plane: make test-agent"]
fn watches_repeat_themselves_and_expire() {
    let cluster = start();
    let (admin, operator) = (cluster.kubectl(), operator(&cluster));
    node(&admin, "node1");
    hand(&operator, "node1", 1, &[("p", prevents())]);
    let (state, folder) = (State::new("watches"), State::new("relay"));
    let relay = Relay::before(&agent_of(&cluster, "node1"), &folder.0);
    let agent = Loop::begin_with(relay.kubeconfig(), "node1", &state.0, &[]);
    agent.await_rules(1, "ConfigMap");
    expired(&cluster, &relay, &agent);
    relay.repeat();
    repeated(&admin, &operator, &relay, &agent);
    eventually("the rules on the disk", || kept(&state.0) == Some(10));
    agent.end();
}

fn version(admin: &Kubectl) -> String {
    let map: Value = admin.json(&["get", "configmap", "node1", "-n", "mooring-nodes"]).unwrap();
    map["metadata"]["resourceVersion"].as_str().unwrap().to_owned()
}

/// The watch of the `ConfigMap` ends while the agent sleeps, and cannot go on from where it was: it is read anew.
fn expired(cluster: &Cluster, relay: &Relay, agent: &Loop) {
    let (admin, operator) = (cluster.kubectl(), operator(cluster));
    let old = version(&admin);
    hand(&operator, "node1", 2, &[("p", prevents())]);
    // One that has just started remembers nothing.
    cluster.stop_component(Component::ApiServer);
    cluster.start_component(Component::ApiServer).unwrap();
    cluster.await_api().unwrap();
    hand(&operator, "node1", 3, &[("p", prevents())]);
    agent.await_rules(3, "ConfigMap");
    agent.signal(Signal::SIGSTOP);
    relay.expire(&old);
    hand(&operator, "node1", 4, &[("p", prevents())]);
    hand(&operator, "node1", 5, &[("p", prevents())]);
    agent.signal(Signal::SIGCONT);
    agent.await_rules(5, "ConfigMap");
    let told = relay.told();
    let told: Vec<&str> = told.iter().map(String::as_str).collect();
    assert!(matches!(told[..3], ["watch", error, "read"] if error.contains("\"code\":410")), "{told:?}");
    // It follows again, and was never given an older one.
    hand(&operator, "node1", 6, &[("p", prevents())]);
    agent.await_rules(6, "ConfigMap");
    assert!(agent.given().is_sorted(), "{:?}", agent.given());
}

/// Each change comes again, and after it all before it, the oldest last.
fn repeated(admin: &Kubectl, operator: &Kubectl, relay: &Relay, agent: &Loop) {
    for revision in 7..=10 {
        hand(operator, "node1", revision, &[("p", prevents())]);
        agent.await_rules(revision, "ConfigMap");
    }
    let uid = |name: &str| {
        let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": {"nodeName": "node1",
            "containers": [{"name": "main", "image": "x"}]}});
        eventually("the service account", || admin.apply(&pod.to_string()).is_ok());
        admin.json(&["get", "pod", name]).unwrap()["metadata"]["uid"].as_str().unwrap().to_owned()
    };
    let pods = [uid("first"), uid("second")];
    eventually("the pods", || pods.iter().all(|pod| agent.heard_of("pods", pod)));
    // What was said again is no news. The second came after the first had come again.
    assert_eq!(agent.times_heard_of("pods", &pods[0]), 1);
    assert!(relay.outdated() >= 3, "{}", relay.outdated());
    assert!(agent.given().is_sorted(), "{:?}", agent.given());
}
