//! `DriftEvent`s are kept within bounds.

use mooring_e2e::cluster::Kubectl;
use serde_json::{Value, json};

use super::rig::{Rig, eventually};

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

fn names(kubectl: &Kubectl, namespace: &str) -> Vec<String> {
    let printed = kubectl.run(&["get", "driftevents", "-n", namespace, "-o", "name"]).unwrap();
    printed.lines().map(str::to_owned).collect()
}

#[test]
#[ignore = "starts a control plane: make test-operator"]
fn a_flood_is_trimmed_and_hides_nothing_elsewhere() {
    let rig = Rig::begin();
    for namespace in ["flooded", "quiet"] {
        let object = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}});
        rig.kubectl.apply(&object.to_string()).unwrap();
    }
    rig.kubectl.apply(&event("quiet", "matters").to_string()).unwrap();
    let operator = rig.operator("one", &["--events-per-namespace", "60", "--events-per-cluster", "40"]);
    eventually("the operator to lead", || operator.leads());
    let flood: Vec<String> = (0..300).map(|number| event("flooded", &format!("e{number:03}")).to_string()).collect();
    rig.kubectl.run_with(&["create", "-f", "-"], &flood.join("\n")).unwrap();
    eventually("the cap", || names(&rig.kubectl, "flooded").len() <= 39);
    std::thread::sleep(std::time::Duration::from_secs(3));
    // The latest are left, and what happened elsewhere.
    assert_eq!(names(&rig.kubectl, "flooded").len(), 39, "no further than to the cap");
    assert_eq!(names(&rig.kubectl, "quiet").len(), 1);
    let trimmed = |why: &str| operator.metric(&format!("mooring_operator_driftevents_trimmed_total{{what=\"{why}\"}}"));
    assert!(trimmed("NamespaceCap") + trimmed("ClusterCap") >= 261.0);
    assert_eq!(operator.end(), Some(0));
}
