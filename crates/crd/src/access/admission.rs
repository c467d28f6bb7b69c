//! What an API server asks of a write besides RBAC, as `ValidatingAdmissionPolicy` objects.
//!
//! A policy fails closed: what cannot be evaluated is denied. It holds for whoever has the binaries' accounts, with the node
//! that the API server itself binds into the token of a pod.

use serde_json::{Value, json};

use super::{Binary, NODES_NAMESPACE, labels};
use crate::breaker::{BREAKER, EVERY_NAMESPACE};
use crate::definition::{API_VERSION, GROUP, Kind, VERSION};

/// Accounts of Kubernetes itself that delete what belongs to a node or a namespace that is gone.
const CLEANERS: [&str; 3] = [
    "system:serviceaccount:kube-system:generic-garbage-collector",
    "system:serviceaccount:kube-system:namespace-controller",
    // Where the controller manager runs without an account for each controller.
    "system:kube-controller-manager",
];
/// Kubernetes puts this `ConfigMap` into every namespace.
const ROOT_CERTIFICATE: &str = "kube-root-ca.crt";
/// Accounts of Kubernetes itself that do so.
const PUBLISHERS: [&str; 2] =
    ["system:serviceaccount:kube-system:root-ca-cert-publisher", "system:kube-controller-manager"];

/// The policy that refuses `DriftEvent`s while the breaker is open, by which an agent knows the refusal.
pub const BREAKER_POLICY: &str = "mooring-driftevents-breaker";

/// The node that is bound into the token, or nothing.
const TOKEN_NODE: &str = "has(request.userInfo.extra) && 'authentication.kubernetes.io/node-name' in request.userInfo.extra && size(request.userInfo.extra['authentication.kubernetes.io/node-name']) == 1 ? request.userInfo.extra['authentication.kubernetes.io/node-name'][0] : ''";

/// The policies, each with its binding.
#[must_use]
pub fn objects() -> Vec<Value> {
    [
        own_node(
            "driftnodes",
            GROUP,
            VERSION,
            &["driftnodes", "driftnodes/status"],
            "X.metadata.name == variables.tokenNode",
            "its own DriftNode, which has its node's name",
        ),
        own_node(
            "driftevents",
            GROUP,
            VERSION,
            &["driftevents"],
            "X.spec.node == variables.tokenNode",
            "DriftEvents whose spec.node is its own node",
        ),
        own_node(
            "events",
            "events.k8s.io",
            "v1",
            &["events"],
            &reports_for_itself(),
            "Events that it reports itself: reportingController must be its name and reportingInstance its node's",
        ),
        node_rules(),
        breaker(),
    ]
    .into_iter()
    .flat_map(|policy| {
        let binding = binding(&policy);
        [policy, binding]
    })
    .collect()
}

fn reports_for_itself() -> String {
    format!(
        "has(X.reportingController) && X.reportingController == '{}' && has(X.reportingInstance) && X.reportingInstance == variables.tokenNode",
        Binary::Enforcer.reporting_controller()
    )
}

/// An agent writes `resources` only where `holds` (with X for the object) is true of the object before and after.
fn own_node(name: &str, group: &str, version: &str, resources: &[&str], holds: &str, what: &str) -> Value {
    let user = Binary::Enforcer.user();
    let message = format!("an agent may write only {what}");
    let of = |object: &str| format!("{object} == null || ({})", holds.replace("X.", &format!("{object}.")));
    let deny =
        |expression: &str, message: &str| json!({"expression": expression, "message": message, "reason": "Forbidden"});
    json!({
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "ValidatingAdmissionPolicy",
        "metadata": {"name": format!("mooring-enforcer-{name}"), "labels": labels()},
        "spec": {
            "failurePolicy": "Fail",
            "matchConstraints": {
                // An Event that is written by its older API is judged as the newer one.
                "matchPolicy": "Equivalent",
                "resourceRules": [{
                    "apiGroups": [group],
                    "apiVersions": [version],
                    "operations": ["CREATE", "UPDATE", "DELETE"],
                    "resources": resources,
                }],
            },
            "matchConditions": [{"name": "by-an-agent", "expression": format!("request.userInfo.username == '{user}'")}],
            "variables": [{"name": "tokenNode", "expression": TOKEN_NODE}],
            "validations": [
                deny("variables.tokenNode != ''", "an agent's token must be bound to its node: use the token that the kubelet mounts into the agent's pod"),
                // Null where it is deleted.
                deny(&of("object"), &message),
                // Null where it is created.
                deny(&of("oldObject"), &message),
            ],
        },
    })
}

/// Only the operator writes the nodes' `ConfigMap`s: the agents believe what is there.
fn node_rules() -> Value {
    let operator = Binary::Operator.user();
    let list = |users: &[&str]| users.iter().map(|user| format!("'{user}'")).collect::<Vec<_>>().join(", ");
    let (cleaners, publishers) = (list(&CLEANERS), list(&PUBLISHERS));
    json!({
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "ValidatingAdmissionPolicy",
        "metadata": {"name": "mooring-node-rules", "labels": labels()},
        "spec": {
            "failurePolicy": "Fail",
            "matchConstraints": {
                "matchPolicy": "Equivalent",
                "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": NODES_NAMESPACE}},
                "resourceRules": [{
                    "apiGroups": [""],
                    "apiVersions": ["v1"],
                    "operations": ["CREATE", "UPDATE", "DELETE"],
                    "resources": ["configmaps"],
                }],
            },
            "validations": [{
                "expression": format!("request.userInfo.username == '{operator}' || (request.operation == 'DELETE' && request.userInfo.username in [{cleaners}]) || (request.name == '{ROOT_CERTIFICATE}' && request.userInfo.username in [{publishers}])"),
                "message": format!("only the operator writes ConfigMaps in {NODES_NAMESPACE}: edit the ContainerDriftPolicy, the nodes' rules follow"),
                "reason": "Forbidden",
            }],
        },
    })
}

/// Where the breaker is open an agent makes no `DriftEvent`s. It confines nobody, it sheds load: where it cannot be asked they are
/// made. Its parameter is of a kind of its own, since the API server keeps all objects of a parameter's kind in memory.
fn breaker() -> Value {
    let user = Binary::Enforcer.user();
    json!({
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "ValidatingAdmissionPolicy",
        "metadata": {"name": BREAKER_POLICY, "labels": labels()},
        "spec": {
            "failurePolicy": "Ignore",
            "paramKind": {"apiVersion": API_VERSION, "kind": Kind::DriftEventBreaker.as_str()},
            "matchConstraints": {
                "matchPolicy": "Equivalent",
                "resourceRules": [{
                    "apiGroups": [GROUP],
                    "apiVersions": [VERSION],
                    "operations": ["CREATE"],
                    "resources": [Kind::DriftEvent.plural()],
                }],
            },
            "matchConditions": [{"name": "by-an-agent", "expression": format!("request.userInfo.username == '{user}'")}],
            "validations": [{
                "expression": format!("!params.spec.namespaces.exists(open, open == request.namespace || open == '{EVERY_NAMESPACE}')"),
                "message": "more DriftEvents come here than the caps allow: for now they are counted only, in the DriftNodes (kubectl get drifteventbreaker)",
                "reason": "Forbidden",
            }],
        },
    })
}

fn binding(policy: &Value) -> Value {
    let name = &policy["metadata"]["name"];
    let mut spec = json!({"policyName": name, "validationActions": ["Deny"]});
    if policy["spec"]["paramKind"].is_object() {
        // Made when it first opens.
        spec["paramRef"] = json!({"name": BREAKER, "parameterNotFoundAction": "Allow"});
    }
    json!({
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "ValidatingAdmissionPolicyBinding",
        "metadata": {"name": name, "labels": labels()},
        "spec": spec,
    })
}
