//! The operator where somebody sets the clock: in a guest, whose clock is its own.

use std::path::Path;
use std::thread;
use std::time::Duration;

use mooring_e2e::cluster::{Cluster, NodeOptions, Options};
use mooring_e2e::testing::{eventually, policy};
use mooring_e2e::vm::boot::Payload;
use serde_json::{Value, json};

use super::retention::event;
use super::rig::program;

/// Longer than an operator takes to look which events have expired.
const LOOKED: Duration = Duration::from_secs(12);

#[test]
#[ignore = "boots a guest: make test-operator"]
fn a_clock_that_jumps_makes_nothing_expire_and_nobody_else_lead() {
    let cluster = Cluster::start(Options::default()).unwrap();
    cluster.install_api().unwrap();
    let admin = cluster.kubectl();
    let account = cluster.kubectl_of_account("mooring-system", "mooring-operator", None).unwrap();
    let mut options = NodeOptions::new("node1", "6.12".parse().unwrap());
    options.payload = vec![Payload { file: program(), path: "/usr/local/bin/mooring-operator".to_owned() }];
    let guest = cluster.start_node(&options).unwrap();

    eventually("an answer of the guest", || guest.exec(&["true"]).is_ok_and(|ended| ended.code == 0));

    // The guest's own way to the API server, with the operator's token.
    let mut way: Value = serde_json::from_str(&guest.run(&["cat", "/etc/kubernetes/kubeconfig"]).unwrap()).unwrap();
    let its: Value = serde_json::from_str(&std::fs::read_to_string(Path::new(account.kubeconfig())).unwrap()).unwrap();
    way["users"] = its["users"].clone();
    let begin = format!(
        "cat >/run/kubeconfig <<'END'\n{way}\nEND\nKUBECONFIG=/run/kubeconfig mooring-operator --name guest >/run/operator.log 2>&1 </dev/null &"
    );
    guest.run(&["sh", "-c", &begin]).unwrap();
    let lease =
        || admin.json(&["get", "lease", "mooring-operator", "-n", "mooring-system"]).map(|it| it["spec"].clone());
    eventually("a leader", || lease().is_ok_and(|lease| lease["holderIdentity"].is_string()));
    let first = lease().unwrap();
    admin.apply(&json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "quiet"}}).to_string()).unwrap();
    admin.apply(&event("quiet", "kept").to_string()).unwrap();
    admin.apply(&policy("p", json!({})).to_string()).unwrap();
    let handed = || {
        admin.run(&["get", "configmap", "node1", "-n", "mooring-nodes", "-o", "jsonpath={.data}"]).unwrap_or_default()
    };
    eventually("the policy on its node", || handed().contains("\\\"name\\\":\\\"p\\\""));

    // A DriftEvent lives for a week.
    for jump in ["+8 days", "-16 days", "+8 days"] {
        let now = guest.run(&["date", "-s", jump]).unwrap();
        thread::sleep(LOOKED);
        let kept = admin.run(&["get", "driftevents", "-n", "quiet", "-o", "name"]).unwrap();
        assert_eq!(kept.trim(), "driftevent.mooring.dev/kept", "{jump}: {now}");
        let (lease, renewed) = (lease().unwrap(), |lease: &Value| lease["renewTime"].clone());
        assert_eq!(lease["holderIdentity"], first["holderIdentity"], "{jump}");
        assert_eq!(lease["leaseTransitions"], first["leaseTransitions"], "{jump}");
        assert_ne!(renewed(&lease), renewed(&first), "{jump}: it leads on");
    }
    // It works on.
    admin.run(&["delete", "cdp", "p"]).unwrap();
    eventually("the policy's end on its node", || !handed().contains("\\\"name\\\":\\\"p\\\""));
    let log = guest.run(&["cat", "/run/operator.log"]).unwrap();
    assert_eq!(log.matches("\"leader\":true").count(), 1, "{log}");
}
