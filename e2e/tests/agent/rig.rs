//! The cluster, and what the tests make and look at.

use std::path::PathBuf;

use mooring_e2e::cluster::{Cluster, Kubectl, Options};
use mooring_e2e::testing::{self, eventually};
use mooring_policy::{NodeDefaults, NodePolicy, NodePolicyEntry, NodeRules};
use serde_json::{Value, json};

/// What `made_by` builds beside these tests, by its path from their profile's folder.
pub fn built(path: &str, made_by: &str) -> PathBuf {
    let exe = std::env::current_exe().unwrap();
    let path = exe.ancestors().nth(2).unwrap().join(path);
    assert!(path.exists(), "{} is missing: {made_by}", path.display());
    path
}

/// The release build, which is what runs in pods.
pub fn enforcer() -> PathBuf {
    built("../release/mooring-enforcer", "make build")
}

/// A control plane with everything in it that is there before the binaries.
pub fn start() -> Cluster {
    let cluster = Cluster::start(Options::default()).unwrap();
    cluster.install_api().unwrap();
    cluster
}

/// Whoever writes the nodes' rules.
pub fn operator(cluster: &Cluster) -> Kubectl {
    cluster.kubectl_of_account("mooring-system", "mooring-operator", None).unwrap()
}

/// Hands a node rules, as the operator does.
pub fn hand(operator: &Kubectl, node: &str, revision: u64, policies: &[(&str, Value)]) {
    let policies = policies.iter().map(|(name, spec)| NodePolicyEntry {
        name: (*name).to_owned(),
        uid: None,
        spec: serde_json::from_value(spec.clone()).unwrap(),
    });
    let policy = NodePolicy { revision, defaults: NodeDefaults::default(), policies: policies.collect() };
    hand_data(operator, node, &json!(NodeRules::encode(&policy).unwrap().into_data()));
}

/// Hands a node whatever it is.
pub fn hand_data(operator: &Kubectl, node: &str, data: &Value) {
    let map = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": node, "namespace": "mooring-nodes"}, "data": data});
    let map = map.to_string();
    // Fresh roles and a loaded API server may refuse at first.
    eventually("the node's ConfigMap", || {
        ["replace", "create"].iter().any(|verb| operator.run_with(&[verb, "-f", "-"], &map).is_ok())
    });
}

/// A condition of a `DriftNode`: status, reason and message.
pub fn condition(kubectl: &Kubectl, node: &str, kind: &str) -> Option<(String, String, String)> {
    let object = kubectl.json(&["get", "driftnode", node]).ok()?;
    let found = testing::condition(&object, kind)?;
    let text = |field: &str| found[field].as_str().unwrap_or_default().to_owned();
    Some((text("status"), text("reason"), text("message")))
}
