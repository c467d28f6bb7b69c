//! The roles: exactly what the table says, as the API server understands it.

use std::collections::BTreeSet;

use mooring_crd::access::grants::{GRANTS, Grant};
use mooring_crd::access::{Binary, NODES_NAMESPACE, SYSTEM_NAMESPACE};
use serde_json::{Value, json};

use super::kubectl;

type Right = (String, String, String, String);

/// What the API server lets a binary do in a namespace.
fn granted(binary: Binary, namespace: &str) -> BTreeSet<Right> {
    let review = json!({
        "apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectRulesReview", "spec": {"namespace": namespace},
    });
    // Without the groups of a service account: another test gives them more.
    let arguments = [
        "create",
        "--as",
        &binary.user(),
        "--as-group=system:authenticated",
        "--validate=false",
        "-f",
        "-",
        "-o",
        "json",
    ];
    let answer = kubectl().run_with(&arguments, &review.to_string()).unwrap();
    let answer: Value = serde_json::from_str(&answer).unwrap();
    assert_eq!(answer["status"]["incomplete"], false);
    let mut rights = BTreeSet::new();
    let words = |list: &Value| -> Vec<String> {
        list.as_array().into_iter().flatten().map(|word| word.as_str().unwrap().to_owned()).collect()
    };
    for rule in answer["status"]["resourceRules"].as_array().unwrap() {
        let mut names = words(&rule["resourceNames"]);
        if names.is_empty() {
            names.push(String::new());
        }
        for group in words(&rule["apiGroups"]) {
            // What everybody may ask about himself.
            if ["authentication.k8s.io", "authorization.k8s.io"].contains(&group.as_str()) {
                continue;
            }
            for resource in words(&rule["resources"]) {
                for verb in words(&rule["verbs"]) {
                    for name in &names {
                        rights.insert((group.clone(), resource.clone(), name.clone(), verb.clone()));
                    }
                }
            }
        }
    }
    rights
}

fn rights_of(grant: &Grant) -> impl Iterator<Item = Right> {
    let name = grant.name.unwrap_or_default();
    grant.verbs.iter().map(move |verb| (grant.group.into(), grant.resource.into(), name.into(), (*verb).into()))
}

#[test]
#[ignore = "starts a Kubernetes API server: make api"]
fn the_roles_are_the_table_and_no_more() {
    for binary in Binary::ALL {
        for namespace in ["default", SYSTEM_NAMESPACE, NODES_NAMESPACE] {
            let applies = |grant: &&Grant| grant.binary == binary && grant.namespace.is_none_or(|its| its == namespace);
            let expected: BTreeSet<Right> = GRANTS.iter().filter(applies).flat_map(rights_of).collect();
            assert_eq!(granted(binary, namespace), expected, "{binary:?} in {namespace}");
        }
    }
}
