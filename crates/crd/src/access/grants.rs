//! The table of rights, and the RBAC objects that are made of it.

use serde_json::{Value, json};

use super::{Binary, NODES_NAMESPACE, SYSTEM_NAMESPACE, labels};
use crate::definition::GROUP;

/// The name of the operator's Lease, in [`SYSTEM_NAMESPACE`].
pub const LEASE: &str = "mooring-operator";

/// Rights of one binary.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Grant {
    /// Whose.
    pub binary: Binary,
    /// In which namespace; None for the whole cluster.
    pub namespace: Option<&'static str>,
    /// The API group; empty for the core one.
    pub group: &'static str,
    /// The resource in the plural, with its subresource where it is about one.
    pub resource: &'static str,
    /// The one object that it is about; None for all.
    pub name: Option<&'static str>,
    /// What may be done.
    pub verbs: &'static [&'static str],
    /// What for.
    pub why: &'static str,
}

const CORE: &str = "";
const COORDINATION: &str = "coordination.k8s.io";
const EVENTS: &str = "events.k8s.io";

const fn cluster(
    binary: Binary,
    group: &'static str,
    resource: &'static str,
    verbs: &'static [&'static str],
    why: &'static str,
) -> Grant {
    Grant { binary, namespace: None, group, resource, name: None, verbs, why }
}

use Binary::{Enforcer, Operator};

/// All rights. A right that is not used is one too many.
#[rustfmt::skip] // A table: one grant a line.
pub const GRANTS: &[Grant] = &[
    cluster(Enforcer, CORE, "pods", &["list", "watch"], "labels and stop signals of its own node's pods, by a field selector"),
    cluster(Enforcer, CORE, "namespaces", &["list", "watch"], "labels of namespaces"),
    cluster(Enforcer, CORE, "nodes", &["get"], "the uid of its own Node, which owns its DriftNode"),
    Grant { namespace: Some(NODES_NAMESPACE), ..cluster(Enforcer, CORE, "configmaps", &["get", "watch"], "its own node's rules, by name") },
    cluster(Enforcer, GROUP, "driftnodes", &["get", "create", "patch"], "its own DriftNode (admission); patch gives it to a Node that was made anew"),
    cluster(Enforcer, GROUP, "driftnodes/status", &["update"], "its own DriftNode (admission)"),
    cluster(Enforcer, GROUP, "driftevents", &["get", "list", "create", "patch"], "what happened on its own node (admission); get adds to the count of an earlier life, list finds whether somebody resumes a paused container"),
    cluster(Enforcer, EVENTS, "events", &["create", "patch"], "what people should know, for its own node (admission)"),

    cluster(Operator, GROUP, "containerdriftpolicies", &["list", "watch"], "the policies"),
    cluster(Operator, GROUP, "containerdriftpolicies/status", &["update"], "what became of them"),
    cluster(Operator, CORE, "nodes", &["list", "watch"], "labels of nodes, and which there are"),
    Grant { namespace: Some(NODES_NAMESPACE), ..cluster(Operator, CORE, "configmaps", &["list", "watch", "create", "update", "delete"], "one ConfigMap for each node") },
    Grant { namespace: Some(SYSTEM_NAMESPACE), ..cluster(Operator, CORE, "pods", &["list", "watch"], "whether a node's agent is there") },
    cluster(Operator, GROUP, "driftnodes", &["list", "watch"], "what the nodes report"),
    cluster(Operator, GROUP, "driftevents", &["list", "watch", "delete"], "retention"),
    cluster(Operator, GROUP, "drifteventbreakers", &["list", "watch", "create", "update"], "where agents may make no DriftEvents for now"),
    Grant { namespace: Some(SYSTEM_NAMESPACE), ..cluster(Operator, COORDINATION, "leases", &["create"], "leader election; a name cannot be asked of what is not there yet") },
    Grant { namespace: Some(SYSTEM_NAMESPACE), name: Some(LEASE), ..cluster(Operator, COORDINATION, "leases", &["get", "update"], "leader election") },
    cluster(Operator, EVENTS, "events", &["create"], "what people should know of a policy"),
];

/// Service accounts, roles and bindings.
#[must_use]
pub fn objects() -> Vec<Value> {
    let mut objects = Vec::new();
    for binary in Binary::ALL {
        let name = binary.account();
        objects.push(json!({
            "apiVersion": "v1",
            "kind": "ServiceAccount",
            "metadata": {"name": name, "namespace": SYSTEM_NAMESPACE, "labels": labels()},
        }));
        for namespace in [None, Some(SYSTEM_NAMESPACE), Some(NODES_NAMESPACE)] {
            let rules: Vec<Value> =
                GRANTS.iter().filter(|g| g.binary == binary && g.namespace == namespace).map(rule).collect();
            if rules.is_empty() {
                continue;
            }
            let mut metadata = json!({"name": name, "labels": labels()});
            if let Some(namespace) = namespace {
                metadata["namespace"] = json!(namespace);
            }
            let (role, binding) =
                if namespace.is_some() { ("Role", "RoleBinding") } else { ("ClusterRole", "ClusterRoleBinding") };
            objects.push(json!({
                "apiVersion": "rbac.authorization.k8s.io/v1",
                "kind": role,
                "metadata": metadata,
                "rules": rules,
            }));
            objects.push(json!({
                "apiVersion": "rbac.authorization.k8s.io/v1",
                "kind": binding,
                "metadata": metadata,
                "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": role, "name": name},
                "subjects": [{"kind": "ServiceAccount", "name": name, "namespace": SYSTEM_NAMESPACE}],
            }));
        }
    }
    objects
}

fn rule(grant: &Grant) -> Value {
    let mut rule = json!({"apiGroups": [grant.group], "resources": [grant.resource], "verbs": grant.verbs});
    if let Some(name) = grant.name {
        rule["resourceNames"] = json!([name]);
    }
    rule
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grants(binary: Binary) -> impl Iterator<Item = &'static Grant> {
        GRANTS.iter().filter(move |grant| grant.binary == binary)
    }

    const READING: [&str; 3] = ["get", "list", "watch"];

    #[test]
    fn nobody_reads_secrets_or_has_more_than_single_verbs() {
        for grant in GRANTS {
            assert!(!["secrets", "pods/exec", "serviceaccounts/token", "*"].contains(&grant.resource), "{grant:?}");
            for verb in grant.verbs {
                let known = READING.contains(verb) || ["create", "update", "patch", "delete"].contains(verb);
                assert!(known, "{verb} in {grant:?}");
            }
            assert!(grant.why.len() > 8, "{grant:?}");
        }
    }

    #[test]
    fn an_agent_writes_only_what_admission_looks_at_and_deletes_nothing() {
        let watched = ["driftnodes", "driftnodes/status", "driftevents", "events"];
        for grant in grants(Enforcer) {
            let writes = grant.verbs.iter().any(|verb| !READING.contains(verb));
            assert!(!writes || watched.contains(&grant.resource), "{grant:?}");
            assert!(!grant.verbs.contains(&"delete"), "{grant:?}");
        }
        let manifest = serde_json::to_string(&crate::access::admission::objects()).unwrap();
        for resource in watched {
            assert!(manifest.contains(&format!("\"{resource}\"")), "{resource}");
        }
    }

    #[test]
    fn the_operator_writes_core_objects_in_our_namespaces_only() {
        for grant in grants(Operator).filter(|grant| grant.group == CORE || grant.group == COORDINATION) {
            let writes = grant.verbs.iter().any(|verb| !READING.contains(verb));
            assert!(!writes || grant.namespace.is_some(), "{grant:?}");
        }
    }
}
