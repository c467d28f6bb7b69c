use mooring_crd::policy_from_value;
use mooring_policy::{NodeDefaults, RuleSet, compile};
use serde_json::{Value, json};

use super::*;
use crate::agent::UnknownContainers;
use crate::report::tests::container;

fn labels(pairs: &[(&str, &str)]) -> Labels {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

fn pod(pairs: &[(&str, &str)]) -> PodFacts {
    PodFacts {
        namespace: "payments".to_owned(),
        name: "api-x".to_owned(),
        labels: labels(pairs),
        ..PodFacts::default()
    }
}

fn rules(scope: &Value) -> RuleSet {
    let policy = json!({"apiVersion": "mooring.dev/v1alpha1", "kind": "ContainerDriftPolicy", "metadata": {"name": "p"},
        "spec": {"scope": scope}});
    compile(&[policy_from_value(policy).unwrap()], NodeDefaults::default()).rules
}

/// Whether a policy with this scope is for the test's container (pod u-1, api-x in payments).
fn applies(directory: &Directory, scope: &Value) -> bool {
    let container = container("c1");
    !directory
        .surroundings(&container, "node1")
        .member(&rules(scope), &container, UnknownContainers::DenyDrift)
        .is_empty()
}

fn by_pod() -> Value {
    json!({"podSelector": {"matchLabels": {"app": "api"}}})
}

fn by_namespace() -> Value {
    json!({"namespaceSelector": {"matchLabels": {"team": "payments"}}})
}

#[test]
fn what_is_not_known_matches() {
    let mut directory = Directory::default();
    assert!(applies(&directory, &by_pod()) && applies(&directory, &by_namespace()));
    directory.namespace("payments", labels(&[("team", "other")]));
    directory.pod("u-1".to_owned(), pod(&[("app", "web")]));
    assert!(!applies(&directory, &by_pod()) && !applies(&directory, &by_namespace()));
    directory.namespace("payments", labels(&[("team", "payments")]));
    assert!(applies(&directory, &by_namespace()));
    directory.namespace_gone("payments");
    directory.namespace("payments", labels(&[]));
    assert!(!applies(&directory, &by_namespace()));
}

/// Which of a policy that prevents and one that does not are for the test's container, where unknown pods are allowed.
fn allowed(directory: &Directory, scope: &Value) -> [bool; 2] {
    [true, false].map(|prevent| {
        let policy = json!({"apiVersion": "mooring.dev/v1alpha1", "kind": "ContainerDriftPolicy", "metadata": {"name": "p"},
            "spec": {"scope": scope, "actions": {"prevent": prevent}}});
        let rules = compile(&[policy_from_value(policy).unwrap()], NodeDefaults::default()).rules;
        let container = container("c1");
        let around = directory.surroundings(&container, "node1");
        !around.member(&rules, &container, UnknownContainers::Allow).is_empty()
    })
}

#[test]
fn where_unknown_pods_are_allowed_only_what_may_not_be_for_one_is_left_out() {
    let mut directory = Directory::default();
    directory.namespace("payments", labels(&[("team", "payments")]));
    let nobodys = json!({"podSelector": {"matchLabels": {"app": "api"}}, "containers": ["nobodys"]});
    assert_eq!(allowed(&directory, &by_pod()), [false, true]);
    assert_eq!(allowed(&directory, &by_namespace()), [true, true]);
    assert_eq!(allowed(&directory, &json!({})), [true, true]);
    assert_eq!(allowed(&directory, &nobodys), [false, false]);
    directory.pod("u-1".to_owned(), pod(&[("app", "api")]));
    assert_eq!(allowed(&directory, &by_pod()), [true, true]);
    directory.pod("u-1".to_owned(), pod(&[("app", "web")]));
    // Labels that it had first count on.
    assert_eq!(allowed(&directory, &by_pod()), [true, true]);
}

#[test]
fn no_pod_makes_itself_unknown() {
    let mut directory = Directory::default();
    directory.namespace("payments", labels(&[]));
    directory.pod("u-1".to_owned(), pod(&[("app", "web"), ("long", &"x".repeat(LABELS_MAX))]));
    assert_eq!(allowed(&directory, &by_pod()), [true, true]);
}

#[test]
fn a_namespace_is_known_by_its_name_without_that_label() {
    let mut directory = Directory::default();
    directory.namespace("payments", labels(&[("kubernetes.io/metadata.name", "payments")]));
    let named = |name: &str| json!({"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": name}}});
    assert!(applies(&directory, &named("payments")) && !applies(&directory, &named("other")));
}

#[test]
fn a_pod_cannot_rid_itself_of_a_policy_and_can_gain_one() {
    let mut directory = Directory::default();
    directory.pod("u-1".to_owned(), pod(&[("app", "api")]));
    directory.pod("u-1".to_owned(), pod(&[("app", "web")]));
    assert!(applies(&directory, &by_pod()));
    let web = json!({"podSelector": {"matchLabels": {"app": "web"}}});
    assert!(applies(&directory, &web));
    // What was kept says the same after a reboot.
    let (kept, _) = directory.to_be_kept();
    let mut after = Directory::default();
    for (uid, facts) in kept {
        after.pod(uid, facts);
    }
    after.pod("u-1".to_owned(), pod(&[("app", "web")]));
    assert!(applies(&after, &by_pod()) && applies(&after, &web));
    // Back to what it was: nothing of the labels in between is left.
    after.pod("u-1".to_owned(), pod(&[("app", "api")]));
    assert!(applies(&after, &by_pod()) && !applies(&after, &web));
}

#[test]
fn a_pod_whose_object_is_gone_is_known_while_it_has_containers() {
    let mut directory = Directory::default();
    directory.pod("u-1".to_owned(), pod(&[("app", "web")]));
    directory.take_changed();
    directory.pods_begin();
    directory.pods_complete();
    assert!(!applies(&directory, &by_pod()));
    assert!(directory.take_changed().0.contains("u-1"));
    directory.without_containers("u-1");
    assert!(applies(&directory, &by_pod()), "it is forgotten");
    // One that is there is not forgotten because it has no container yet.
    directory.pod("u-1".to_owned(), pod(&[("app", "web")]));
    directory.without_containers("u-1");
    assert!(!applies(&directory, &by_pod()));
}

#[test]
fn a_static_pod_is_known_by_its_hash_and_nobody_elses() {
    let mut directory = Directory::default();
    let mirror = PodFacts { static_uid: Some("u-1".to_owned()), ..pod(&[("app", "web")]) };
    directory.pod("mirror".to_owned(), mirror.clone());
    assert!(!applies(&directory, &by_pod()));
    assert_eq!(directory.take_changed().0, ["u-1".to_owned()].into());
    // Whoever makes a pod may say that it is one's mirror.
    let said = PodFacts { name: "another".to_owned(), ..mirror.clone() };
    directory.pod("pretender".to_owned(), said);
    assert!(!applies(&directory, &by_pod()), "it is known still");
    // The mirror is made anew while its containers stay; nothing of the one before is kept when they go.
    directory.pod_gone("mirror");
    directory.pod("mirror-2".to_owned(), mirror.clone());
    assert!(!applies(&directory, &by_pod()));
    directory.pod_gone("mirror-2");
    directory.without_containers("u-1");
    assert_eq!(directory.to_be_kept().0.keys().collect::<Vec<_>>(), ["pretender"]);
    let mut other = Directory::default();
    other.pod("mirror".to_owned(), PodFacts { name: "another".to_owned(), ..mirror });
    assert!(applies(&other, &by_pod()), "it is not known");
}

#[test]
fn labels_that_are_too_long_to_be_kept_lift_nothing() {
    let mut directory = Directory::default();
    directory.pod("u-1".to_owned(), pod(&[("app", "web")]));
    assert!(!applies(&directory, &by_pod()));
    let long = "x".repeat(9000);
    directory.take_changed();
    directory.pod("u-1".to_owned(), pod(&[("app", "web"), ("long", &long)]));
    assert!(applies(&directory, &by_pod()), "it is on the side of every policy");
    assert_eq!(directory.take_changed().0, ["u-1".to_owned()].into());
    // And stays there: what it had meanwhile is not known.
    directory.pod("u-1".to_owned(), pod(&[("app", "web")]));
    assert!(applies(&directory, &by_pod()));
    assert!(directory.to_be_kept().0.values().all(|facts| facts.overlong));
    directory.namespace("payments", labels(&[("long", &long)]));
    assert!(directory.to_be_kept().1.is_empty());
}

#[test]
fn only_what_changes_is_told_of() {
    let mut directory = Directory::default();
    directory.namespace("a", labels(&[("x", "y")]));
    directory.pod("u-1".to_owned(), pod(&[("app", "api")]));
    assert_eq!(directory.take_changed(), (["u-1".to_owned()].into(), ["a".to_owned()].into()));
    let version = directory.version();
    directory.namespaces_begin();
    directory.namespace("a", labels(&[("x", "y")]));
    directory.namespaces_complete();
    directory.pod("u-1".to_owned(), pod(&[("app", "api")]));
    assert_eq!(directory.take_changed(), Default::default());
    assert_eq!(directory.version(), version);
}

/// What every node must hold and do on a large cluster, beside the machine's other work: bounds that only a change of kind breaks.
#[test]
fn a_pod_among_500_in_10_000_namespaces_is_resolved_at_once() {
    let mut directory = Directory::default();
    for number in 0..10_000 {
        directory.namespace(&format!("namespace-{number}"), labels(&[("team", "a"), ("tier", &format!("{number}"))]));
    }
    for number in 0..500 {
        directory.pod(format!("uid-{number}"), pod(&[("app", "api"), ("number", &format!("{number}"))]));
    }
    directory.namespace("payments", labels(&[("team", "payments")]));
    directory.pod("u-1".to_owned(), pod(&[("app", "api")]));
    let (container, rules) = (container("c1"), rules(&by_namespace()));
    let begun = std::time::Instant::now();
    for _ in 0..1000 {
        assert!(
            !directory
                .surroundings(&container, "node1")
                .member(&rules, &container, UnknownContainers::DenyDrift)
                .is_empty()
        );
    }
    let each = begun.elapsed() / 1000;
    println!("one pod resolved in {each:?}");
    assert!(each < std::time::Duration::from_millis(1));
}

#[test]
fn a_container_is_stopped_as_its_pod_says() {
    let signal = |directory: &Directory, name: &str| {
        let container = Container { name: name.to_owned(), ..container("c1") };
        directory.surroundings(&container, "node1").stop_signal.to_string()
    };
    let mut directory = Directory::default();
    assert_eq!(signal(&directory, "app"), "SIGTERM");
    directory.pod("u-1".to_owned(), pod(&[]));
    directory.take_changed();
    assert_eq!(signal(&directory, "app"), "SIGTERM");
    // As after an upgrade, from a state file without it.
    let stop_signals = BTreeMap::from([("app".to_owned(), "SIGUSR1".parse().unwrap())]);
    directory.pod("u-1".to_owned(), PodFacts { stop_signals, ..pod(&[]) });
    assert_eq!(directory.take_changed().0, BTreeSet::from(["u-1".to_owned()]));
    assert_eq!((signal(&directory, "app").as_str(), signal(&directory, "other").as_str()), ("SIGUSR1", "SIGTERM"));
    let nobodys = Container { name: "app".to_owned(), pod_uid: None, ..container("c1") };
    assert_eq!(directory.surroundings(&nobodys, "node1").stop_signal.to_string(), "SIGTERM");
}

#[test]
fn stop_signals_are_kept_where_there_are_any() {
    let old = r#"{"namespace":"payments","name":"api-x","labels":{}}"#;
    let read: PodFacts = serde_json::from_str(old).unwrap();
    assert_eq!((&read, serde_json::to_string(&read).unwrap().as_str()), (&pod(&[]), old));
    let stop_signals = BTreeMap::from([("app".to_owned(), "SIGRTMIN+3".parse().unwrap())]);
    let facts = PodFacts { stop_signals, ..read };
    let kept = serde_json::to_value(&facts).unwrap();
    assert_eq!(kept["stopSignals"], json!({"app": "SIGRTMIN+3"}));
    assert_eq!(serde_json::from_value::<PodFacts>(kept).unwrap(), facts);
}
