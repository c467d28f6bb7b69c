use super::*;
use crate::objects::{Change, ConfigMapObject, PolicyObject};
use mooring_crd::{AppliedRules, ContainerDriftPolicySpec, FeatureSupport, RulesSource};
use mooring_policy::NodeDefaults;

fn policy(name: &str, generation: i64, status: ContainerDriftPolicyStatus) -> Change {
    let spec = ContainerDriftPolicySpec { description: Some(generation.to_string()), ..Default::default() };
    Change::Policy(Box::new(PolicyObject {
        uid: Some(name.to_owned()),
        created: Some(Timestamp::UNIX_EPOCH),
        generation,
        resource_version: "1".to_owned(),
        spec: Ok(Box::new(spec)),
        status,
    }))
}

/// The operator writes what is due for `n`, and its agent, if it keeps up, says so.
fn go_on(index: &mut Index, agent: bool) {
    index.plan();
    let node = &index.nodes()["n"];
    let content = node.desired.clone().unwrap();
    let revision = node.observed.as_ref().map_or(1, |observed| observed.revision + 1);
    let rules = content.encode(revision).unwrap();
    let applied = AppliedRules {
        revision: i64::try_from(revision).unwrap(),
        digest: rules.digest.clone(),
        resource_version: None,
        source: RulesSource::ConfigMap,
    };
    let map = ConfigMapObject {
        uid: "m".to_owned(),
        resource_version: revision.to_string(),
        owner: Some("u".to_owned()),
        labelled: true,
        data: rules.into_data(),
        ..ConfigMapObject::default()
    };
    index.apply("n", Change::ConfigMap(Box::new(map)));
    if agent {
        let report = DriftNodeStatus { applied: Some(applied), ..DriftNodeStatus::default() };
        index.apply("n", Change::Report(Box::new(Ok(report))));
    }
}

fn of(index: &Index, name: &str, second: i64) -> ContainerDriftPolicyStatus {
    let (key, policy) = index.policy(name).unwrap();
    status(index, key, policy, Timestamp::from_second(second).unwrap())
}

#[test]
fn another_policys_edit_moves_nothing_and_its_own_does() {
    let mut index = Index::new(NodeDefaults::default());
    index.apply("n", Change::Node { uid: "u".to_owned(), labels: [].into() });
    index.apply("pod", Change::Agent { node: "n".to_owned(), ready: true });
    for name in ["p", "q"] {
        index.apply(name, policy(name, 1, ContainerDriftPolicyStatus::default()));
    }
    go_on(&mut index, true);
    let before = of(&index, "p", 1);
    assert_eq!(condition(&before, ENFORCING).unwrap().status, "True");
    index.apply("p", policy("p", 1, before.clone()));
    assert_eq!(of(&index, "p", 2), before, "the same, later");
    index.apply("q", policy("q", 2, ContainerDriftPolicyStatus::default()));
    go_on(&mut index, false);
    assert_eq!(of(&index, "p", 3), before, "its agent is one behind, with the same wording of p");
    assert_eq!(condition(&of(&index, "q", 3), ENFORCING).unwrap().reason, "SomeNodes");
    index.apply("p", policy("p", 2, before.clone()));
    go_on(&mut index, false);
    let pending = of(&index, "p", 4);
    let problem = &pending.nodes.as_ref().unwrap().problems[0].message;
    assert!(problem.contains("applies revision 1") && problem.contains("not yet 3"), "{problem}");
    let enforcing = condition(&pending, ENFORCING).unwrap();
    assert_eq!((enforcing.status.as_str(), enforcing.last_transition_time.0.as_second()), ("False", 4));
    assert_eq!(condition(&pending, ACCEPTED).unwrap().last_transition_time.0.as_second(), 1);
    go_on(&mut index, true);
    index.apply("pod", Change::Agent { node: "n".to_owned(), ready: false });
    assert_eq!(of(&index, "p", 5).nodes.unwrap().unattended, 1);
}

#[test]
fn a_map_that_is_refused_is_told_of_those_policies_only_that_wait_for_it() {
    let mut index = Index::new(NodeDefaults::default());
    index.apply("n", Change::Node { uid: "u".to_owned(), labels: [].into() });
    index.apply("pod", Change::Agent { node: "n".to_owned(), ready: true });
    index.apply("p", policy("p", 1, ContainerDriftPolicyStatus::default()));
    go_on(&mut index, true);
    index.apply("q", policy("q", 1, ContainerDriftPolicyStatus::default()));
    index.plan();
    index.take_dirty_policies();
    index.not_written("n", Some("exceeded quota".to_owned()));
    assert_eq!(index.take_dirty_policies().len(), 2);
    assert_eq!(condition(&of(&index, "p", 1), ENFORCING).unwrap().status, "True");
    let waits = of(&index, "q", 1);
    assert_eq!(condition(&waits, DEGRADED).unwrap().reason, "NodesCannot");
    assert!(waits.nodes.unwrap().problems[0].message.contains("exceeded quota"));
    index.not_written("n", None);
    go_on(&mut index, true);
    assert_eq!(condition(&of(&index, "q", 2), DEGRADED).unwrap().status, "False");
}

#[test]
fn what_a_nodes_backend_cannot_do_is_told_by_feature_reason_and_number_of_nodes() {
    let mut index = Index::new(NodeDefaults::default());
    index.apply("n", Change::Node { uid: "u".to_owned(), labels: [].into() });
    index.apply("pod", Change::Agent { node: "n".to_owned(), ready: true });
    index.apply("p", policy("p", 1, ContainerDriftPolicyStatus::default()));
    go_on(&mut index, true);
    assert_eq!(condition(&of(&index, "p", 1), DEGRADED).unwrap().status, "False");
    let mut report = index.nodes()["n"].report.clone().unwrap().unwrap();
    let killed = "it is killed";
    report.backend = Some(Backend::Kill);
    report.features =
        vec![FeatureSupport { name: "Prevent".to_owned(), supported: false, message: Some(killed.to_owned()) }];
    report.policies = vec![PolicyFigures {
        name: "p".to_owned(),
        unsupported: vec!["Prevent".to_owned()],
        ..PolicyFigures::default()
    }];
    index.apply("n", Change::Report(Box::new(Ok(report))));
    let status = of(&index, "p", 2);
    let degraded = condition(&status, DEGRADED).unwrap();
    assert_eq!((degraded.status.as_str(), degraded.reason.as_str()), ("True", "FeaturesMissing"));
    assert!(degraded.message.contains("Prevent on 1 nodes: it is killed"), "{}", degraded.message);
    let problem = &status.nodes.unwrap().problems[0].message;
    assert!(problem.contains("Kill") && problem.contains(killed), "{problem}");
}

#[test]
fn long_texts_are_cut_to_what_the_api_takes() {
    assert_eq!(cut_to("äöü", 3), "äöü");
    assert_eq!(cut_to("äöüß", 3), "äö…");
}
