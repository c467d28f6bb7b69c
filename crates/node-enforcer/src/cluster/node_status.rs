//! A `DriftNode`'s status, from what the agent's loop and the API server's side know. Pure.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use mooring_crd::{
    Backend, DriftNodeStatus, Feature, FeatureSupport, NodeContainers, NodeEvents, PolicyFigures, RulesSource,
    SelfTest, SelfTestResult, limits,
};

use mooring_policy::shortcoming;

use super::event_writer::BREAKER;
use super::mailbox::Untold;
use crate::agent::Facts;

/// What is the same as long as the agent runs.
#[derive(Debug, Clone, Default)]
pub(super) struct Fixed {
    /// The agent's version.
    pub(super) version: String,
    /// The kernel's release.
    pub(super) kernel: String,
}

/// The status that is to be written; `before` is the one that is there, whose conditions keep their times.
pub(super) fn status_of(
    fixed: &Fixed,
    facts: &Facts,
    problems: &BTreeMap<&'static str, String>,
    untold: Untold,
    before: Option<&DriftNodeStatus>,
    now: &Time,
) -> DriftNodeStatus {
    let number = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
    let works = facts.self_test.as_ref().is_some_and(|test| test.result != SelfTestResult::Failed) && facts.enforcing;
    let all_problems = problems_of(facts, problems);
    let conditions = [ready(facts, &all_problems), degraded(facts, &all_problems), reporting(problems)];
    DriftNodeStatus {
        agent_version: Some(cut(&fixed.version, limits::MAX_VERSION)),
        kernel: Some(cut(&fixed.kernel, limits::MAX_VERSION)),
        backend: Some(facts.backend.filter(|_| works).unwrap_or(Backend::None)),
        backend_reason: if works {
            facts.backend_reason.as_deref().map(|reason| cut(reason, limits::MAX_MESSAGE))
        } else {
            Some(backend_reason(facts))
        },
        self_test: facts.self_test.as_ref().map(|test| SelfTest {
            message: test.message.as_deref().map(|message| cut(message, limits::MAX_MESSAGE)),
            ..test.clone()
        }),
        applied: facts.applied.clone(),
        containers: Some(NodeContainers {
            seen: number(facts.seen),
            matched: number(facts.matched),
            protected: number(facts.protected),
            unprotectable: number(facts.matched.saturating_sub(facts.protected)),
            summary: Some(format!("{}/{}", facts.protected, facts.matched)),
        }),
        events: Some(NodeEvents {
            lost: number(facts.lost.saturating_add(untold.lost)),
            suppressed: number(facts.suppressed.saturating_add(untold.suppressed)),
        }),
        features: features(facts.backend.filter(|_| works)),
        policies: facts
            .policies
            .iter()
            .take(usize::try_from(limits::MAX_NODE_POLICIES).unwrap_or(usize::MAX))
            .map(|policy| PolicyFigures {
                name: policy.name.clone(),
                matched: number(policy.matched),
                protected: number(policy.protected),
                violations: number(policy.violations),
                unsupported: policy.unsupported.iter().map(|feature| feature.as_str().to_owned()).collect(),
                problem: policy.problem.as_deref().map(|problem| cut(problem, limits::MAX_MESSAGE)),
            })
            .collect(),
        released: facts.released,
        conditions: conditions
            .into_iter()
            .map(|condition| condition.at(before.map_or(&[], |before| before.conditions.as_slice()), now))
            .collect(),
    }
}

fn backend_reason(facts: &Facts) -> String {
    if facts.released {
        return "released at the operator's request".to_owned();
    }
    cut(&facts.problems.join("; "), limits::MAX_MESSAGE)
}

/// Whether the rules in force or the state of the node are others, not only its figures: that is told at once.
pub(super) fn is_urgent(before: &DriftNodeStatus, after: &DriftNodeStatus) -> bool {
    let conditions = |status: &DriftNodeStatus| -> Vec<(String, String)> {
        status.conditions.iter().map(|condition| (condition.status.clone(), condition.reason.clone())).collect()
    };
    before.applied != after.applied
        || before.released != after.released
        || before.backend != after.backend
        || before.self_test != after.self_test
        || conditions(before) != conditions(after)
}

struct Answer {
    kind: &'static str,
    holds: bool,
    reason: &'static str,
    message: String,
}

impl Answer {
    fn at(self, before: &[Condition], now: &Time) -> Condition {
        let status = if self.holds { "True" } else { "False" };
        let same = before.iter().find(|condition| condition.type_ == self.kind && condition.status == status);
        Condition {
            type_: self.kind.to_owned(),
            status: status.to_owned(),
            reason: self.reason.to_owned(),
            message: cut(&self.message, 4096),
            last_transition_time: same.map_or_else(|| now.clone(), |same| same.last_transition_time.clone()),
            observed_generation: None,
        }
    }
}

/// Each with a word for programs. What only delays reports or the next reboot is no reason to call enforcement degraded, and is
/// told all the same.
fn problems_of(facts: &Facts, problems: &BTreeMap<&'static str, String>) -> Vec<(&'static str, String)> {
    let mut all = Vec::new();
    if facts.self_test.as_ref().is_some_and(|test| test.result == SelfTestResult::Failed) {
        all.push(("SelfTestFailed", facts.problems.join("; ")));
    } else if !facts.problems.is_empty() {
        let word = if facts.enforcing { "RulesNotInForce" } else { "NotEnforcing" };
        all.push((word, facts.problems.join("; ")));
    }
    if let Some(problem) = problems.get("ConfigMap") {
        all.push(("NoConfigMap", problem.clone()));
    }
    if let Some(problem) = problems.get("rules") {
        all.push(("RulesRefused", problem.clone()));
    }
    let refused: Vec<&str> = facts.policies.iter().filter_map(|policy| policy.problem.as_deref()).collect();
    if !refused.is_empty() {
        all.push(("PoliciesRefused", refused.join("; ")));
    }
    let unsupported: BTreeSet<Feature> = facts.policies.iter().flat_map(|policy| policy.unsupported.clone()).collect();
    if let Some(backend) = facts.backend.filter(|_| !unsupported.is_empty()) {
        let what = unsupported.into_iter().filter_map(|feature| {
            shortcoming(backend, feature).map(|instead| format!("{}: {instead}", feature.as_str()))
        });
        all.push((
            "FeaturesMissing",
            format!(
                "{} cannot do all that the policies ask for: {}",
                backend.as_str(),
                what.collect::<Vec<_>>().join("; ")
            ),
        ));
    }
    let unprotected = facts.matched.saturating_sub(facts.protected);
    if unprotected > 0 {
        all.push((
            "ContainersUnprotected",
            format!(
                "{unprotected} containers are unprotected: the kernel's tables are full; run fewer containers here"
            ),
        ));
    }
    if let Some(problem) = problems.get("state folder") {
        all.push(("StateNotKept", format!("after a reboot this node would wait for the API server: {problem}")));
    }
    all
}

fn ready(facts: &Facts, problems: &[(&'static str, String)]) -> Answer {
    let answer = |holds, reason, message| Answer { kind: "Ready", holds, reason, message };
    if facts.released {
        return answer(false, "Released", "everything was taken down at the operator's request".to_owned());
    }
    match (problems.first(), &facts.applied) {
        (Some((reason, message)), _) => answer(false, reason, message.clone()),
        (None, None) => {
            answer(false, "NoRules", "no rules have reached this node: see whether the operator runs".to_owned())
        }
        (None, Some(applied)) => {
            let from = if applied.source == RulesSource::Disk { " from disk" } else { "" };
            answer(true, "Enforcing", format!("revision {} is in force{from}", applied.revision))
        }
    }
}

fn degraded(facts: &Facts, problems: &[(&'static str, String)]) -> Answer {
    let answer = |holds, reason, message| Answer { kind: "Degraded", holds, reason, message };
    match problems.first() {
        Some((reason, _)) => {
            let messages: Vec<&str> = problems.iter().map(|(_, message)| message.as_str()).collect();
            answer(true, reason, messages.join("; "))
        }
        None if facts.applied.is_none() => answer(false, "NoRules", "there is nothing to honour yet".to_owned()),
        None => answer(false, "AllHonoured", "all that the rules ask for is done".to_owned()),
    }
}

fn reporting(problems: &BTreeMap<&'static str, String>) -> Answer {
    let answer = |holds, reason, message| Answer { kind: "Reporting", holds, reason, message };
    match problems.get(BREAKER) {
        Some(problem) => answer(false, "BreakerOpen", problem.clone()),
        None => answer(true, "AsAsked", "DriftEvents are made within the limits of a node".to_owned()),
    }
}

/// Of the backend that is in force.
fn features(backend: Option<Backend>) -> Vec<FeatureSupport> {
    [
        (Feature::Prevent, true),
        (Feature::DriftedBinaries, true),
        (Feature::VolumeBinaries, true),
        (Feature::DriftedLibraries, true),
        (Feature::DriftedScripts, false),
        (Feature::ProhibitedBinaries, true),
        (Feature::MetadataCopyUps, true),
        (Feature::ContainerActions, false),
        (Feature::Capture, false),
    ]
    .map(|(feature, exists)| {
        let missing = match (exists, backend) {
            (false, _) => Some("not in this version"),
            (true, None) => Some("nothing is enforced here: see backendReason"),
            (true, Some(backend)) => shortcoming(backend, feature),
        };
        FeatureSupport {
            name: feature.as_str().to_owned(),
            supported: missing.is_none(),
            message: missing.map(str::to_owned),
        }
    })
    .into()
}

/// Cut at a character.
fn cut(text: &str, most: u64) -> String {
    text.chars().take(usize::try_from(most).unwrap_or(usize::MAX)).collect()
}

#[cfg(test)]
mod tests;
