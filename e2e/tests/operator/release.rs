//! Every node takes everything down before Mooring is removed, or somebody hears which did not.

use std::process::Output;
use std::thread;

use mooring_e2e::testing::eventually;
use serde_json::json;

use super::rig::Rig;

impl Rig {
    /// Whether a node is asked to take everything down.
    fn is_asked(&self, node: &str) -> bool {
        self.map(node).is_some_and(|map| map["data"]["release"] == "true")
    }

    fn release(&self, within: &str) -> Output {
        self.command().args(["release", "--within", within]).output().unwrap()
    }
}

#[test]
#[ignore = "starts a control plane: make test-operator"]
fn a_release_waits_for_every_node_and_names_those_that_do_not_answer() {
    let rig = Rig::begin();
    let operator = rig.operator("one", &[]);
    rig.policy("p", json!({}));
    for node in ["n1", "n2"] {
        rig.node(node, json!({}));
        rig.await_policies(node, &["p"]);
        rig.report(node, json!({}));
    }
    rig.agent("n1", true);

    let output = rig.release("1");
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("1 of the nodes") && said.contains("n2 (no agent is ready)"), "{said}");
    let asked = |rig: &Rig| rig.is_asked("n1") || rig.is_asked("n2");
    assert!(!asked(&rig), "nobody is asked in vain");
    rig.agent("n2", true);
    let output = rig.release("1");
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("n1 (its agent is ready), n2 (its agent is ready)"), "{said}");
    // Given up, it is taken back: the nodes go on enforcing.
    eventually("an operator that leads again", || operator.leads());
    eventually("the requests taken back", || !rig.is_asked("n1") && !rig.is_asked("n2"));
    rig.await_policies("n1", &["p"]);

    // A node that has no rules of its own may still enforce those on its disk.
    let object =
        json!({"apiVersion": "mooring.dev/v1alpha1", "kind": "DriftNode", "metadata": {"name": "n3"}, "spec": {}});
    rig.kubectl.apply(&object.to_string()).unwrap();
    rig.agent("n3", true);
    let output = thread::scope(|scope| {
        let released = scope.spawn(|| rig.release("120"));
        eventually("every node asked", || ["n1", "n2", "n3"].iter().all(|node| rig.is_asked(node)));
        for node in ["n1", "n2", "n3"] {
            assert!(!released.is_finished(), "{node} has not answered yet");
            let patch = json!({"status": {"released": true}}).to_string();
            let arguments = ["patch", "driftnode", node, "--subresource=status", "--type=merge", "-p", &patch];
            rig.kubectl.run(&arguments).unwrap();
        }
        released.join().unwrap()
    });
    let said = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(0), "{said}");
    assert!(said.contains("on any of the 3 nodes"), "{said}");
    // Whoever uninstalls may hear of it a minute later.
    let lease = rig.kubectl.json(&["get", "lease", "mooring-operator", "-n", "mooring-system"]).unwrap();
    assert_eq!(lease["spec"]["leaseDurationSeconds"], 180, "{lease}");
    // A policy that changes now changes nothing: the operators are as good as removed.
    rig.policy("p", json!({"severity": "High"}));
    thread::sleep(std::time::Duration::from_secs(10));
    assert!(!operator.leads());
    assert!(rig.is_asked("n1") && rig.is_asked("n2"));
    assert_eq!(rig.denied().len(), 0, "{:?}", rig.denied());
}
