//! The operator's rights: enough, and not one that it does not use.

use std::collections::BTreeSet;
use std::thread;
use std::time::Duration;

use mooring_crd::access::Binary;
use mooring_crd::access::grants::{GRANTS, Grant};
use mooring_e2e::cluster::{Component, Request};
use mooring_e2e::testing::eventually;
use serde_json::json;

use super::retention::event;
use super::rig::Rig;

fn uses(request: &Request, grant: &Grant, verb: &str) -> bool {
    request.verb == verb
        && request.group == grant.group
        && request.resource == grant.resource
        && grant.namespace.is_none_or(|namespace| request.namespace == namespace)
        && grant.name.is_none_or(|name| request.name == name)
        && request.code < 300
}

#[test]
#[ignore = "starts a control plane: make test-operator"]
fn every_right_is_used_and_none_is_missing() {
    let rig = Rig::begin();
    let operator = rig.operator("one", &["--events-per-namespace", "1", "--breaker-seconds", "10"]);
    rig.node("n1", json!({}));
    rig.policy("p", json!({}));
    rig.await_policies("n1", &["p"]);
    rig.policy("p", json!({"actions": {"prevent": true}}));
    eventually("the edit", || rig.rules("n1").is_some_and(|rules| rules.policies[0].spec.actions.prevent));
    // Enough for the breaker to open, which closes again while this goes on.
    let flood: Vec<String> = (0..120).map(|number| event("default", &format!("e{number}")).to_string()).collect();
    rig.kubectl.run_with(&["create", "-f", "-"], &flood.join("\n")).unwrap();
    eventually("the Event", || rig.told("ContainerDriftPolicy", "p").contains(&"Accepted".to_owned()));
    // A node that goes takes its ConfigMap with it, whether or not the garbage collector is there.
    rig.cluster.stop_component(Component::ControllerManager);
    rig.kubectl.run(&["delete", "node", "n1"]).unwrap();
    eventually("its end", || rig.map("n1").is_none());
    rig.cluster.start_component(Component::ControllerManager).unwrap();
    let all: BTreeSet<(usize, &str)> = GRANTS
        .iter()
        .enumerate()
        .filter(|(_, grant)| grant.binary == Binary::Operator)
        .flat_map(|(number, grant)| grant.verbs.iter().map(move |verb| (number, *verb)))
        .collect();
    let user = Binary::Operator.user();
    let mut unused = all.clone();
    // What it asks for is in the log a moment after the answer.
    for _ in 0..50 {
        let requests = rig.cluster.audit().unwrap();
        let by_it: Vec<_> = requests.iter().filter(|request| request.user == user).collect();
        unused.retain(|(number, verb)| !by_it.iter().any(|request| uses(request, &GRANTS[*number], verb)));
        let denied = rig.denied();
        assert!(denied.is_empty(), "{denied:?}");
        if unused.is_empty() {
            break;
        }
        thread::sleep(Duration::from_millis(500));
    }
    let unused: Vec<_> = unused.iter().map(|(number, verb)| format!("{verb} {:?}", GRANTS[*number])).collect();
    assert!(unused.is_empty(), "granted and never used: {unused:#?}");
    assert_eq!(operator.end(), Some(0));
}
