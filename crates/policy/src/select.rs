//! Which policies are for a container.

use std::collections::BTreeMap;

use mooring_crd::{LabelSelector, Operator, Requirement, Scope};

use crate::mask::SlotMask;
use crate::rules::RuleSet;

/// The label that the API server puts on every namespace, with its name.
const NAMESPACE_NAME_LABEL: &str = "kubernetes.io/metadata.name";

/// Labels by their keys.
pub type Labels = BTreeMap<String, String>;

/// What is known of a container. `None` is "not known yet" and counts as matching: what is not known must not shed a
/// policy. A pod that is known to have no labels has an empty map.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Workload<'a> {
    /// The namespace's name. It answers for the label `kubernetes.io/metadata.name`, whatever the labels say.
    pub namespace: Option<&'a str>,
    /// The namespace's labels.
    pub namespace_labels: Option<&'a Labels>,
    /// The pod's labels.
    pub pod_labels: Option<&'a Labels>,
    /// The node's labels.
    pub node_labels: Option<&'a Labels>,
    /// The container's name in the pod.
    pub container: Option<&'a str>,
    /// The image reference as the pod's spec has it.
    pub image: Option<&'a str>,
}

/// The slots of the policies whose scope matches.
#[must_use]
pub fn select(rules: &RuleSet, workload: &Workload<'_>) -> SlotMask {
    rules.policies().iter().filter(|policy| in_scope(&policy.spec.scope, workload)).map(|policy| policy.slot).collect()
}

/// Whether a scope matches: all of its parts that are written must.
#[must_use]
pub fn in_scope(scope: &Scope, workload: &Workload<'_>) -> bool {
    let namespace = |selector: &LabelSelector| {
        workload.namespace_labels.is_none_or(|labels| {
            matches_selector(selector, |key| match workload.namespace {
                Some(name) if key == NAMESPACE_NAME_LABEL => Some(name),
                _ => labels.get(key).map(String::as_str),
            })
        })
    };
    scope.namespace_selector.as_ref().is_none_or(namespace)
        && labels_match(scope.pod_selector.as_ref(), workload.pod_labels)
        && labels_match(scope.node_selector.as_ref(), workload.node_labels)
        && (scope.containers.is_empty()
            || workload.container.is_none_or(|name| scope.containers.iter().any(|wanted| wanted == name)))
        && (scope.images.is_empty()
            || workload.image.is_none_or(|image| scope.images.iter().any(|pattern| glob(pattern, image))))
}

fn labels_match(selector: Option<&LabelSelector>, labels: Option<&Labels>) -> bool {
    match (selector, labels) {
        (Some(selector), Some(labels)) => matches_selector(selector, |key| labels.get(key).map(String::as_str)),
        _ => true,
    }
}

/// Kubernetes' semantics: every label and every expression must hold; an empty selector matches everything.
fn matches_selector<'a>(selector: &LabelSelector, label: impl Fn(&str) -> Option<&'a str>) -> bool {
    selector.match_labels.iter().all(|(key, value)| label(key) == Some(value))
        && selector.match_expressions.iter().all(|requirement| holds(requirement, label(&requirement.key)))
}

fn holds(requirement: &Requirement, value: Option<&str>) -> bool {
    let among = || value.is_some_and(|v| requirement.values.iter().any(|wanted| wanted == v));
    match requirement.operator {
        Operator::In => among(),
        Operator::NotIn => !among(),
        Operator::Exists => value.is_some(),
        Operator::DoesNotExist => value.is_none(),
    }
}

/// Whether `text` is what `pattern` says, where `*` stands for any bytes, `/` included. Every other byte stands for
/// itself. Takes at most pattern times text steps, whatever the pattern.
#[must_use]
pub fn glob(pattern: &str, text: &str) -> bool {
    let (pattern, text) = (pattern.as_bytes(), text.as_bytes());
    let (mut p, mut t) = (0, 0);
    // The last `*`, and how far it reaches so far: only this one ever needs to reach further.
    let mut star = None;
    while t < text.len() {
        if pattern.get(p) == Some(&b'*') {
            star = Some((p, t));
            p += 1;
        } else if pattern.get(p) == Some(&text[t]) {
            p += 1;
            t += 1;
        } else if let Some((at, reach)) = star {
            star = Some((at, reach + 1));
            p = at + 1;
            t = reach + 1;
        } else {
            return false;
        }
    }
    pattern[p..].iter().all(|b| *b == b'*')
}
