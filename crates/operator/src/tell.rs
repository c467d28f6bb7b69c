//! What people are told in Kubernetes Events. Pure.

use k8s_openapi::api::core::v1::ObjectReference;
use mooring_crd::{API_VERSION, BREAKER, ContainerDriftPolicyStatus, Kind, POLICY_KIND};

use crate::index::{Notice, Policy, PolicyKey};
use crate::status::{ACCEPTED, DEGRADED, ENFORCING, condition};

/// What people are told in a Kubernetes Event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Told {
    /// Whether something is wrong.
    pub warning: bool,
    /// Why, in a word.
    pub reason: &'static str,
    /// What the operator did or saw.
    pub action: &'static str,
    /// The same for people.
    pub note: String,
}

pub(crate) fn reference(key: &PolicyKey, policy: &Policy) -> ObjectReference {
    ObjectReference {
        api_version: Some(API_VERSION.to_owned()),
        kind: Some(POLICY_KIND.to_owned()),
        name: Some(key.1.to_string()),
        uid: policy.uid.clone(),
        ..ObjectReference::default()
    }
}

/// What a person should know of a change of a policy's status.
pub(crate) fn changes(before: &ContainerDriftPolicyStatus, now: &ContainerDriftPolicyStatus) -> Vec<Told> {
    let reasons: [(&str, &str, bool, &'static str, &'static str); 4] = [
        (ACCEPTED, "True", false, "Accepted", "Compile"),
        (ACCEPTED, "False", true, "Refused", "Compile"),
        (ENFORCING, "True", false, "InForce", "Apply"),
        (DEGRADED, "True", true, "Degraded", "Apply"),
    ];
    let state = |status: &ContainerDriftPolicyStatus, kind: &str| {
        condition(status, kind).map(|condition| condition.status.clone())
    };
    let edited = before.observed_generation != now.observed_generation;
    let mut told = Vec::new();
    for (kind, word, warning, reason, action) in reasons {
        let Some(condition) = condition(now, kind).filter(|condition| condition.status == word) else { continue };
        let changed = state(before, kind).as_deref() != Some(word);
        // An edit is taken anew; that all is well again after a node was away is no news.
        let news = match kind {
            ACCEPTED => changed || edited,
            _ => changed,
        };
        if news {
            told.push(Told { warning, reason, action, note: condition.message.clone() });
        }
    }
    told
}

/// What a person should know of a breaker that was closed in some namespaces and now in others.
pub(crate) fn about_breaker(uid: Option<String>, before: &[String], now: &[String]) -> (ObjectReference, Vec<Told>) {
    let about = ObjectReference {
        api_version: Some(API_VERSION.to_owned()),
        kind: Some(Kind::DriftEventBreaker.as_str().to_owned()),
        name: Some(BREAKER.to_owned()),
        uid,
        ..ObjectReference::default()
    };
    let more = |all: &[String], than: &[String]| -> Vec<String> {
        all.iter().filter(|name| !than.contains(name)).cloned().collect()
    };
    let (opened, closed) = (more(now, before), more(before, now));
    let mut told = Vec::new();
    if !opened.is_empty() {
        told.push(Told {
            warning: true,
            reason: "BreakerOpen",
            action: "Retention",
            note: format!(
                "more DriftEvents come than the caps allow: agents make none for now in {}. Violations are counted in the \
                 DriftNodes and policies, and enforcement goes on",
                opened.join(", ")
            ),
        });
    }
    if !closed.is_empty() {
        let note = format!("agents make DriftEvents again in {}", closed.join(", "));
        told.push(Told { warning: false, reason: "BreakerClosed", action: "Retention", note });
    }
    (about, told)
}

/// What a person should know of a node's `ConfigMap`.
pub(crate) fn about_map(notice: &Notice) -> (&String, Told) {
    match notice {
            Notice::Edited(node) => (node, Told {
                warning: true,
                reason: "EditedByHand",
                action: "Repair",
                note: "it was edited by somebody else than the operator, and is written again: edit the ContainerDriftPolicy instead".to_owned(),
            }),
            Notice::Deleted(node) => (node, Told {
                warning: true,
                reason: "DeletedByHand",
                action: "Repair",
                note: "it was deleted while its node is there, and is written again".to_owned(),
            }),
            Notice::Foreign(node, to) => (node, Told {
                warning: true,
                reason: "NotOurs",
                action: "Leave",
                note: format!("it belongs to {to} and is not overwritten: the node of its name gets no rules until it is deleted"),
            }),
        }
}
