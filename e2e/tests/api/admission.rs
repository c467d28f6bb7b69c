//! Who may write what: the admission policies, asked as each of the binaries.

use std::fs;
use std::sync::Once;
use std::time::{Duration, Instant};

use mooring_e2e::cluster::Kubectl;
use serde_json::{Value, json};

use super::{cases, cluster, kubectl, refusal};

/// What is granted here besides, so that admission is asked and not RBAC.
const MORE_THAN_RBAC: &str = r#"
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: more-than-rbac}
rules:
- {apiGroups: [mooring.dev], resources: [driftnodes, driftevents], verbs: [update, delete, deletecollection, list]}
# kubectl reads before it patches.
- {apiGroups: [mooring.dev], resources: [driftnodes/status], verbs: [get, patch]}
- {apiGroups: [""], resources: [events], verbs: [create, update, patch]}
- {apiGroups: [events.k8s.io], resources: [events], verbs: [get]}
- {apiGroups: [""], resources: [configmaps], verbs: ["*"]}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: more-than-rbac}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: more-than-rbac}
subjects: [{apiGroup: rbac.authorization.k8s.io, kind: Group, name: "system:serviceaccounts:mooring-system"}]
"#;

fn grant_more_than_rbac() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| drop(kubectl().apply(MORE_THAN_RBAC).unwrap()));
}

const NOT_ITS_NODE: &str = "an agent may write only its own DriftNode";
const NOT_ITS_EVENT: &str = "an agent may write only DriftEvents whose spec.node is its own node";
const NOT_ITS_REPORT: &str = "an agent may write only Events that it reports itself";
const NOT_BOUND: &str = "an agent's token must be bound to its node";
const NOT_OPERATOR: &str = "only the operator writes ConfigMaps in mooring-nodes";

/// kubectl with a token instead of the administrator's certificate.
struct As {
    kubectl: Kubectl,
    kubeconfig: String,
}

impl As {
    fn administrator() -> Self {
        Self { kubectl: kubectl(), kubeconfig: kubectl().kubeconfig().to_str().unwrap().to_owned() }
    }

    fn token(name: &str, token: &str) -> Self {
        let text = fs::read_to_string(kubectl().kubeconfig()).unwrap();
        let mut config: Value = serde_json::from_str(&text).unwrap();
        config["users"][0]["user"] = json!({"token": token.trim()});
        let path = cluster().folder().join(format!("{name}.json"));
        fs::write(&path, config.to_string()).unwrap();
        Self { kubectl: kubectl(), kubeconfig: path.to_str().unwrap().to_owned() }
    }

    /// The agent of a node, by the token that its kubelet would mount.
    fn agent(node: &str) -> Self {
        let name = format!("agent-{node}");
        let objects = [
            json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": node}}),
            json!({
                "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": "mooring-system"},
                "spec": {"nodeName": node, "serviceAccountName": "mooring-enforcer", "containers": [{"name": "agent", "image": "agent"}]},
            }),
        ];
        kubectl().apply(&objects.map(|object| object.to_string()).join("\n")).unwrap();
        let bound = ["--bound-object-kind=Pod", "--bound-object-name", &name];
        Self::token(&name, &create_token(&[&["mooring-enforcer"], &bound[..]].concat()))
    }

    fn says(&self, arguments: &[&str], input: &str) -> Option<String> {
        refusal(&self.kubectl, &[&["--kubeconfig", &self.kubeconfig], arguments].concat(), input)
    }

    #[track_caller]
    fn may(&self, arguments: &[&str], input: &Value) {
        assert_eq!(self.says(arguments, &input.to_string()), None, "{arguments:?} {input}");
    }

    #[track_caller]
    fn may_not(&self, arguments: &[&str], input: &Value, why: &str) {
        let said = self.says(arguments, &input.to_string()).unwrap_or_default();
        assert!(said.contains(why) && said.contains("orbidden"), "{arguments:?} {input}: {said}");
    }
}

fn create_token(arguments: &[&str]) -> String {
    kubectl().run(&[&["create", "token", "-n", "mooring-system"], arguments].concat()).unwrap()
}

const CREATE: &[&str] = &["create", "-f", "-"];
const REPLACE: &[&str] = &["replace", "-f", "-"];

const LABEL: [&str; 2] = ["--type=merge", r#"--patch={"metadata":{"labels":{"a":"b"}}}"#];
const STATUS: [&str; 2] = ["--subresource=status", r#"--patch={"status":{"kernel":"6.12"}}"#];

fn patch_of<'a>(how: [&'a str; 2], node: &'a str) -> Vec<&'a str> {
    [&["patch", "driftnode", node, "--type=merge"], &how[..]].concat()
}

fn drift_node(name: &str) -> Value {
    cases::with_in(cases::node(), "/metadata/name", json!(name))
}

fn drift_event(name: &str, node: &str) -> Value {
    let event = cases::with_in(cases::event(), "/spec/node", json!(node));
    cases::with_in(event, "/metadata/name", json!(name))
}

fn event(name: &str, controller: &str, node: &str) -> Value {
    json!({
        "apiVersion": "events.k8s.io/v1", "kind": "Event", "metadata": {"name": name, "namespace": "default"},
        "eventTime": "2026-01-31T12:00:00.000000Z", "reportingController": controller, "reportingInstance": node,
        "action": "Refused", "reason": "DriftDenied", "type": "Warning", "note": "/tmp/x",
        "regarding": {"apiVersion": "v1", "kind": "Pod", "name": "x", "namespace": "default"},
    })
}

fn old_event(name: &str, component: &str, node: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Event", "metadata": {"name": name, "namespace": "default"},
        "eventTime": "2026-01-31T12:00:00.000000Z", "reportingComponent": component, "reportingInstance": node,
        "action": "Refused", "reason": "DriftDenied", "type": "Warning", "message": "/tmp/x",
        "involvedObject": {"apiVersion": "v1", "kind": "Pod", "name": "x", "namespace": "default"},
    })
}

fn config_map(name: &str, namespace: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "namespace": namespace}, "data": {"a": "b"},
    })
}

#[test]
#[ignore = "starts a Kubernetes API server: make test-api"]
fn an_agent_writes_only_for_its_own_node() {
    grant_more_than_rbac();
    let (agent, other) = (As::agent("node-a"), As::agent("node-b"));
    let unbound = As::token("unbound", &create_token(&["mooring-enforcer"]));
    let none = Value::Null;

    agent.may(CREATE, &drift_node("node-a"));
    agent.may(&patch_of(LABEL, "node-a"), &none);
    agent.may(&patch_of(STATUS, "node-a"), &none);
    other.may(CREATE, &drift_node("node-b"));
    let dry = ["create", "--dry-run=server", "-f", "-"];
    agent.may_not(CREATE, &drift_node("node-c"), NOT_ITS_NODE);
    agent.may_not(&dry, &drift_node("node-c"), NOT_ITS_NODE);
    agent.may_not(&patch_of(LABEL, "node-b"), &none, NOT_ITS_NODE);
    agent.may_not(&patch_of(STATUS, "node-b"), &none, NOT_ITS_NODE);
    agent.may_not(&["delete", "driftnode", "node-b"], &none, NOT_ITS_NODE);
    agent.may_not(&["delete", "--raw", "/apis/mooring.dev/v1alpha1/driftnodes"], &none, NOT_ITS_NODE);
    kubectl().run(&["get", "driftnode", "node-b"]).unwrap();
    unbound.may_not(CREATE, &drift_node("node-c"), NOT_BOUND);

    agent.may(CREATE, &drift_event("mine", "node-a"));
    agent.may(REPLACE, &cases::with_in(drift_event("mine", "node-a"), "/status/count", json!(500)));
    other.may(CREATE, &drift_event("theirs", "node-b"));
    agent.may_not(CREATE, &drift_event("forged", "node-b"), NOT_ITS_EVENT);
    agent.may_not(&dry, &drift_event("forged", "node-b"), NOT_ITS_EVENT);
    let more = cases::with_in(drift_event("theirs", "node-b"), "/status/count", json!(500));
    agent.may_not(REPLACE, &more, NOT_ITS_EVENT);
    // Taken over, and given away: the kind's own rule comes first.
    for (name, node) in [("theirs", "node-a"), ("mine", "node-b")] {
        let said = agent.says(REPLACE, &drift_event(name, node).to_string()).unwrap_or_default();
        assert!(said.contains("say which event this is"), "{name}: {said}");
    }
    agent.may_not(&["delete", "driftevent", "theirs"], &none, NOT_ITS_EVENT);
    unbound.may_not(CREATE, &drift_event("unbound", "node-a"), NOT_BOUND);

    agent.may(CREATE, &event("mine.1", "mooring.dev/enforcer", "node-a"));
    agent.may_not(CREATE, &event("forged.1", "mooring.dev/enforcer", "node-b"), NOT_ITS_REPORT);
    agent.may_not(CREATE, &event("forged.2", "mooring.dev/operator", "node-a"), NOT_ITS_REPORT);
    agent.may(CREATE, &old_event("mine.2", "mooring.dev/enforcer", "node-a"));
    agent.may_not(CREATE, &old_event("forged.3", "mooring.dev/enforcer", "node-b"), NOT_ITS_REPORT);
    agent.may_not(CREATE, &old_event("forged.4", "kubelet", "node-a"), NOT_ITS_REPORT);
    other.may(CREATE, &event("theirs.1", "mooring.dev/enforcer", "node-b"));
    let patch =
        ["patch", "events.events.k8s.io", "theirs.1", "--type=merge", "-p", r#"{"metadata":{"labels":{"a":"b"}}}"#];
    agent.may_not(&patch, &none, NOT_ITS_REPORT);
    unbound.may_not(CREATE, &event("unbound.1", "mooring.dev/enforcer", "node-a"), NOT_BOUND);
}

#[test]
#[ignore = "starts a Kubernetes API server: make test-api"]
fn only_the_operator_writes_the_nodes_rules() {
    grant_more_than_rbac();
    let operator = As::token("operator", &create_token(&["mooring-operator"]));
    let agent = As::agent("node-d");
    let none = Value::Null;
    let of = |name| config_map(name, "mooring-nodes");
    operator.may(CREATE, &of("node-d"));
    operator.may(REPLACE, &of("node-d"));
    for (who, name) in [(&agent, "an-agent"), (&As::administrator(), "an-administrator")] {
        who.may_not(CREATE, &of("node-e"), NOT_OPERATOR);
        who.may_not(REPLACE, &of("node-d"), NOT_OPERATOR);
        who.may_not(&["delete", "configmap", "node-d", "-n", "mooring-nodes"], &none, NOT_OPERATOR);
        who.may_not(&["delete", "--raw", "/api/v1/namespaces/mooring-nodes/configmaps"], &none, NOT_OPERATOR);
        who.may(CREATE, &config_map(name, "default"));
    }
    operator.may(&["delete", "configmap", "node-d", "-n", "mooring-nodes"], &none);

    // Kubernetes' own: its certificate is there, and what belonged to a node goes with it.
    kubectl().run(&["get", "configmap", "kube-root-ca.crt", "-n", "mooring-nodes"]).unwrap();
    let uid = kubectl().run(&["get", "node", "node-d", "-o", "jsonpath={.metadata.uid}"]).unwrap();
    let owner = json!([{"apiVersion": "v1", "kind": "Node", "name": "node-d", "uid": uid}]);
    operator.may(CREATE, &cases::with_in(of("node-d"), "/metadata/ownerReferences", owner));
    kubectl().run(&["delete", "pod", "agent-node-d", "-n", "mooring-system", "--force"]).unwrap();
    kubectl().run(&["delete", "node", "node-d"]).unwrap();
    let begin = Instant::now();
    while kubectl().run(&["get", "configmap", "node-d", "-n", "mooring-nodes"]).is_ok() {
        assert!(begin.elapsed() < Duration::from_mins(2), "the garbage collector does not remove it");
        std::thread::sleep(Duration::from_millis(500));
    }
}
