//! Which policies are for a container.
#![allow(missing_docs, unreachable_pub, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::collections::BTreeMap;

use common::{labels, requirement, scope};
use mooring_crd::{LabelSelector, Scope};
use mooring_policy::select::{Labels, glob, in_scope};
use mooring_policy::{NodeDefaults, SlotMask, Workload, compile, select};
use proptest::option;
use proptest::prelude::*;
use serde_json::json;

/// What is known of a container, owned.
#[derive(Clone, Debug)]
struct Known {
    namespace_labels: Option<Labels>,
    pod_labels: Option<Labels>,
    node_labels: Option<Labels>,
    container: Option<String>,
    image: Option<String>,
}

impl Known {
    fn workload(&self) -> Workload<'_> {
        Workload {
            namespace: None,
            namespace_labels: self.namespace_labels.as_ref(),
            pod_labels: self.pod_labels.as_ref(),
            node_labels: self.node_labels.as_ref(),
            container: self.container.as_deref(),
            image: self.image.as_deref(),
        }
    }
}

fn known() -> impl Strategy<Value = Known> {
    let labels = || option::weighted(0.8, labels());
    let container = option::weighted(0.8, "(api|worker|other)");
    let image = option::weighted(0.8, "(r/app:1|r/a/b:2|s/app:1)");
    (labels(), labels(), labels(), container, image).prop_map(
        |(namespace_labels, pod_labels, node_labels, container, image)| Known {
            namespace_labels,
            pod_labels,
            node_labels,
            container,
            image,
        },
    )
}

/// `*` by trying every split.
fn naive_glob(pattern: &str, text: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == text,
        Some((before, after)) => {
            text.strip_prefix(before).is_some_and(|rest| (0..=rest.len()).any(|at| naive_glob(after, &rest[at..])))
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4000))]

    #[test]
    fn another_requirement_never_adds_a_match(scope in scope(), more in requirement(), which in 0..3, known in known()) {
        let mut narrower = scope.clone();
        let selector = match which {
            0 => &mut narrower.namespace_selector,
            1 => &mut narrower.pod_selector,
            _ => &mut narrower.node_selector,
        };
        selector.get_or_insert_default().match_expressions.push(more);
        prop_assert!(in_scope(&scope, &known.workload()) || !in_scope(&narrower, &known.workload()));
    }

    #[test]
    fn a_scope_of_two_parts_is_both_of_them(scope in scope(), known in known()) {
        let workload = known.workload();
        let parts = [
            Scope { namespace_selector: scope.namespace_selector.clone(), ..Scope::default() },
            Scope { pod_selector: scope.pod_selector.clone(), ..Scope::default() },
            Scope { node_selector: scope.node_selector.clone(), ..Scope::default() },
            Scope { containers: scope.containers.clone(), ..Scope::default() },
            Scope { images: scope.images.clone(), ..Scope::default() },
        ];
        prop_assert_eq!(in_scope(&scope, &workload), parts.iter().all(|part| in_scope(part, &workload)));
    }

    #[test]
    fn forgetting_something_never_sheds_a_policy(scope in scope(), known in known(), which in 0..5) {
        let mut less = known.clone();
        match which {
            0 => less.namespace_labels = None,
            1 => less.pod_labels = None,
            2 => less.node_labels = None,
            3 => less.container = None,
            _ => less.image = None,
        }
        prop_assert!(!in_scope(&scope, &known.workload()) || in_scope(&scope, &less.workload()));
    }

    #[test]
    fn a_requirement_and_its_opposite_split_all_labels(requirement in requirement(), labels in labels()) {
        use mooring_crd::Operator::{DoesNotExist, Exists, In, NotIn};
        let mut opposite = requirement.clone();
        opposite.operator = match requirement.operator {
            In => NotIn,
            NotIn => In,
            Exists => DoesNotExist,
            DoesNotExist => Exists,
        };
        let matches = |requirement| {
            let selector = LabelSelector { match_expressions: vec![requirement], ..LabelSelector::default() };
            let scope = Scope { pod_selector: Some(selector), ..Scope::default() };
            in_scope(&scope, &Workload { pod_labels: Some(&labels), ..Workload::default() })
        };
        prop_assert_ne!(matches(requirement), matches(opposite));
    }

    #[test]
    fn globs_match_as_the_naive_ones_do(pattern in "[ab*]{0,7}", text in "[ab]{0,9}") {
        prop_assert_eq!(glob(&pattern, &text), naive_glob(&pattern, &text));
    }
}

fn scoped(scope: serde_json::Value) -> Scope {
    serde_json::from_value(scope).unwrap()
}

fn map(labels: &[(&str, &str)]) -> Labels {
    labels.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
}

#[test]
fn operators_are_those_of_kubernetes() {
    let (absent, one, other) = (map(&[]), map(&[("app", "x")]), map(&[("app", "y")]));
    let table = [
        (json!({"key": "app", "operator": "In", "values": ["x"]}), [false, true, false]),
        (json!({"key": "app", "operator": "NotIn", "values": ["x"]}), [true, false, true]),
        (json!({"key": "app", "operator": "Exists"}), [false, true, true]),
        (json!({"key": "app", "operator": "DoesNotExist"}), [true, false, false]),
    ];
    for (expression, expected) in table {
        let scope = scoped(json!({"podSelector": {"matchExpressions": [expression]}}));
        let found = [&absent, &one, &other]
            .map(|labels| in_scope(&scope, &Workload { pod_labels: Some(labels), ..Workload::default() }));
        assert_eq!(found, expected, "{expression}");
    }
}

#[test]
fn what_is_unknown_matches_and_what_is_known_to_be_empty_does_not() {
    let scope = scoped(json!({
        "namespaceSelector": {"matchLabels": {"a": "x"}}, "podSelector": {"matchLabels": {"a": "x"}},
        "nodeSelector": {"matchLabels": {"a": "x"}}, "containers": ["api"], "images": ["r/*"],
    }));
    assert!(in_scope(&scope, &Workload::default()));
    let none = BTreeMap::new();
    for workload in [
        Workload { namespace_labels: Some(&none), ..Workload::default() },
        Workload { pod_labels: Some(&none), ..Workload::default() },
        Workload { node_labels: Some(&none), ..Workload::default() },
        Workload { container: Some("other"), ..Workload::default() },
        Workload { image: Some("s/app"), ..Workload::default() },
    ] {
        assert!(!in_scope(&scope, &workload), "{workload:?}");
    }
}

#[test]
fn the_namespace_answers_for_its_name_label() {
    let scope = scoped(json!({"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "pay"}}}));
    let forged = map(&[("kubernetes.io/metadata.name", "pay")]);
    let workload = |namespace| Workload { namespace, namespace_labels: Some(&forged), ..Workload::default() };
    assert!(in_scope(&scope, &workload(Some("pay"))));
    assert!(!in_scope(&scope, &workload(Some("other"))));
    assert!(in_scope(&scope, &workload(None)));
}

#[test]
fn a_star_spans_slashes_and_the_whole_reference_must_match() {
    assert!(glob("registry.example.com/payments/*", "registry.example.com/payments/a/b:1@sha256:00"));
    assert!(!glob("payments/*", "registry.example.com/payments/a"));
    assert!(!glob("a.b", "axb"));
    // A naive matcher takes years for this one.
    assert!(!glob(&"*a".repeat(40), &"a".repeat(39)));
    assert!(glob("", "") && !glob("", "a") && glob("*", ""));
}

#[test]
fn select_gives_the_slots_whose_scope_matches() {
    let specs = [json!({}), json!({"containers": ["api"]}), json!({"containers": ["worker"]})];
    let policies: Vec<_> = specs
        .into_iter()
        .enumerate()
        .map(|(index, scope)| {
            let spec = serde_json::from_value(json!({ "scope": scope })).unwrap();
            common::policy(&format!("p{index}"), None, spec)
        })
        .collect();
    let rules = compile(&policies, NodeDefaults::default()).rules;
    let slots = |container| select(&rules, &Workload { container, ..Workload::default() });
    assert_eq!(slots(Some("worker")), SlotMask::from_bits(0b101));
    assert_eq!(slots(Some("api")), SlotMask::from_bits(0b011));
    assert_eq!(slots(None), SlotMask::from_bits(0b111));
}
