//! Who may do what with the API: the roles of both binaries, from one table, and what admission holds them to besides.
//!
//! A role is all that RBAC knows: it cannot tell one node's agent from another's. Admission can, by the node that is bound
//! into the agent's token.

pub mod admission;
pub mod grants;
pub mod people;

use std::fmt::Write as _;

use serde_json::{Value, json};

/// The namespace of the operator and the agents, and of the chart's release.
pub const SYSTEM_NAMESPACE: &str = "mooring-system";
/// The namespace of the nodes' `ConfigMap`s, and of nothing else.
pub const NODES_NAMESPACE: &str = "mooring-nodes";

/// The label of the agents' pods, by which the operator finds them in [`SYSTEM_NAMESPACE`].
pub const AGENT_LABEL: (&str, &str) = ("app.kubernetes.io/name", "mooring-enforcer");

/// A program that talks to the API server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Binary {
    /// The agent on each node.
    Enforcer,
    /// The operator.
    Operator,
}

impl Binary {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Enforcer, Self::Operator];

    /// The name of its service account, in [`SYSTEM_NAMESPACE`], and of its roles.
    #[must_use]
    pub const fn account(self) -> &'static str {
        match self {
            Self::Enforcer => "mooring-enforcer",
            Self::Operator => "mooring-operator",
        }
    }

    /// The user that its token stands for.
    #[must_use]
    pub fn user(self) -> String {
        format!("system:serviceaccount:{SYSTEM_NAMESPACE}:{}", self.account())
    }

    /// What it writes as `reportingController` of a Kubernetes Event. Admission holds the agent to it, and to its node's name
    /// as `reportingInstance`.
    #[must_use]
    pub const fn reporting_controller(self) -> &'static str {
        match self {
            Self::Enforcer => "mooring.dev/enforcer",
            Self::Operator => "mooring.dev/operator",
        }
    }
}

/// A template of the chart, `deploy/helm/mooring/templates`: its file's name and its objects, none of which has a value to be filled in.
#[derive(Clone, Debug, PartialEq)]
pub struct Manifest {
    /// The file's name.
    pub file: &'static str,
    /// The value without which they are left out.
    pub condition: Option<&'static str>,
    /// Its objects.
    pub objects: Vec<Value>,
}

/// Everything that has to be there before the binaries, the definitions of the kinds apart.
#[must_use]
pub fn manifests() -> Vec<Manifest> {
    vec![
        Manifest { file: "namespace.yaml", condition: None, objects: vec![nodes_namespace()] },
        Manifest { file: "admission.yaml", condition: None, objects: admission::objects() },
        Manifest { file: "people.yaml", condition: Some("roles.aggregate"), objects: people::objects() },
        Manifest { file: "rbac.yaml", condition: None, objects: grants::objects() },
    ]
}

/// The other namespace is the release's, which Helm makes.
fn nodes_namespace() -> Value {
    let mut labels = labels();
    // Nothing at all runs beside the ConfigMaps.
    labels["pod-security.kubernetes.io/enforce"] = json!("restricted");
    json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NODES_NAMESPACE, "labels": labels}})
}

/// The labels of every object.
fn labels() -> Value {
    json!({"app.kubernetes.io/part-of": "mooring"})
}

/// What each binary may do and what for (Markdown).
#[must_use]
pub fn reference() -> String {
    let mut text = "<!-- Generated from crates/crd by `make gen`: edit src/access there. -->\n\n# Rights\n\n\
         What the binaries may do with the API server, and nothing else: `rbac.yaml` of the chart's templates. Where it says \
         (admission), `admission.yaml` there holds an agent to its own node, by the node that is bound into its \
         token; and in `mooring-nodes` only the operator writes ConfigMaps.\n"
        .to_owned();
    for binary in Binary::ALL {
        // Writing to a String cannot fail.
        let _ =
            write!(text, "\n## {}\n\n| resource | where | verbs | what for |\n|---|---|---|---|\n", binary.account());
        for grant in grants::GRANTS.iter().filter(|grant| grant.binary == binary) {
            let group = if grant.group.is_empty() { String::new() } else { format!(".{}", grant.group) };
            let name = grant.name.map(|name| format!(" `{name}`")).unwrap_or_default();
            let place = grant.namespace.map_or("cluster".to_owned(), |namespace| format!("`{namespace}`"));
            let verbs = grant.verbs.join(", ");
            let (resource, subresource) = grant.resource.split_once('/').unwrap_or((grant.resource, ""));
            let slash = if subresource.is_empty() { "" } else { "/" };
            let what = format!("{resource}{group}{slash}{subresource}{name}");
            let _ = writeln!(text, "| {what} | {place} | {verbs} | {} |", grant.why);
        }
    }
    text.push_str(&people::reference());
    text
}
