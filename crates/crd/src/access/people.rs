//! What people may do with the API: added to the roles `view` and `edit`, that every cluster has, and by these to `admin`.
//!
//! Whoever may edit workloads must not be able to lift what Mooring did to them: nobody but a cluster's administrator and the
//! operator deletes a `DriftEvent`, and nobody but the agents changes one. Policies and channels belong to the cluster, so `edit` in
//! one namespace gives nothing of them.

use std::fmt::Write as _;

use serde_json::{Value, json};

use super::labels;
use crate::definition::{GROUP, Kind};

/// A role of people.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Role {
    /// The cluster's role that it is added to.
    pub added_to: &'static str,
    /// The kinds that it is about.
    pub kinds: &'static [Kind],
    /// What may be done.
    pub verbs: &'static [&'static str],
    /// What for.
    pub why: &'static str,
}

/// The roles of people. `edit` has what `view` has.
pub const ROLES: [Role; 2] = [
    Role {
        added_to: "view",
        kinds: &Kind::ALL,
        verbs: &["get", "list", "watch"],
        why: "what happened, what is enforced, and where",
    },
    Role {
        added_to: "edit",
        kinds: &[Kind::ContainerDriftPolicy, Kind::NotificationChannel],
        verbs: &["create", "update", "patch", "delete", "deletecollection"],
        why: "for those who edit the whole cluster: both kinds are the cluster's",
    },
];

impl Role {
    fn name(&self) -> String {
        format!("mooring-{}", self.added_to)
    }
}

/// The roles as objects.
#[must_use]
pub fn objects() -> Vec<Value> {
    let object = |role: &Role| {
        let plurals: Vec<&str> = role.kinds.iter().map(|kind| kind.plural()).collect();
        let mut labels = labels();
        labels[format!("rbac.authorization.k8s.io/aggregate-to-{}", role.added_to)] = json!("true");
        json!({
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "ClusterRole",
            "metadata": {"name": role.name(), "labels": labels},
            "rules": [{"apiGroups": [GROUP], "resources": plurals, "verbs": role.verbs}],
        })
    };
    ROLES.iter().map(object).collect()
}

/// The same for people (Markdown).
pub(super) fn reference() -> String {
    let mut text = "\n## People\n\nAdded to the cluster's own roles, `people.yaml` of the chart's templates: nobody but the operator and a \
         cluster's administrator deletes a `DriftEvent`.\n\n| role | kinds | verbs | what for |\n|---|---|---|---|\n"
        .to_owned();
    for role in &ROLES {
        let kinds: Vec<&str> = role.kinds.iter().map(|kind| kind.as_str()).collect();
        // Writing to a String cannot fail.
        let _ =
            writeln!(text, "| `{}` | {} | {} | {} |", role.added_to, kinds.join(", "), role.verbs.join(", "), role.why);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn people_change_no_events_and_no_nodes() {
        for role in ROLES {
            let reads = role.verbs.iter().all(|verb| ["get", "list", "watch"].contains(verb));
            let theirs = [Kind::DriftEvent, Kind::DriftNode];
            assert!(reads || role.kinds.iter().all(|kind| !theirs.contains(kind)), "{role:?}");
        }
    }
}
