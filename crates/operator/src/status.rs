//! What a policy's status says. Pure: the time of a change of condition comes as an argument.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use k8s_openapi::jiff::Timestamp;
use mooring_crd::limits::{MAX_MESSAGE, MAX_PROBLEM_NODES};
use mooring_crd::{
    Backend, ContainerCounts, ContainerDriftPolicyStatus, DriftNodeStatus, NodeCounts, NodeProblem, PolicyFigures,
    SelfTestResult,
};
use mooring_policy::limits::{MAX_PATHS, MAX_POLICIES};

use crate::content::NoRoom;
use crate::index::{Index, Node, Policy, PolicyKey, Wording};

/// Whether the policy could be compiled and has room on every node that it concerns.
pub const ACCEPTED: &str = "Accepted";
/// Whether every node that it concerns applies it.
pub const ENFORCING: &str = "Enforcing";
/// Whether a node cannot honour all of it.
pub const DEGRADED: &str = "Degraded";

/// How a node stands to a policy that concerns it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Standing {
    Degraded(String),
    Unattended(String),
    Pending(String),
    Enforcing,
}

/// Features that the policy asks for and nodes cannot do in full, with what happens instead: on how many nodes.
type Missing<'a> = BTreeMap<(&'a str, &'a str), usize>;

/// What happens on a node instead of what a feature is.
fn instead<'a>(node: &'a Node, feature: &str) -> &'a str {
    let feature = report(node).and_then(|report| report.features.iter().find(|it| it.name == feature));
    feature.and_then(|feature| feature.message.as_deref()).unwrap_or("see its DriftNode")
}

/// What the status of a policy is to be, given what it is.
#[must_use]
pub fn status(index: &Index, key: &PolicyKey, policy: &Policy, now: Timestamp) -> ContainerDriftPolicyStatus {
    let before = &policy.status;
    let name = &*key.1;
    let mut sums = Sums::default();
    let mut standings: Vec<(&str, Standing)> = Vec::new();
    let mut no_room: Vec<(&str, NoRoom)> = Vec::new();
    let mut kept = 0_usize;
    let mut missing = Missing::new();
    for (node_name, node) in index.nodes().iter().filter(|(_, node)| node.uid.is_some()) {
        let figures = figures(node, name);
        if let Some(figures) = figures {
            sums.add(figures);
        }
        if let Wording::Refused(_) = policy.wording {
            let holds =
                node.desired.as_ref().is_some_and(|content| content.of_policy(name, policy.uid.as_deref()).is_some());
            kept += usize::from(holds);
        }
        if node.has_policy(key) {
            if let Some((_, why)) = node.refused.iter().find(|(refused, _)| refused == key) {
                no_room.push((node_name, *why));
            }
            for feature in figures.iter().flat_map(|figures| &figures.unsupported) {
                *missing.entry((feature, instead(node, feature))).or_default() += 1;
            }
            standings.push((node_name, standing(node, policy, figures)));
        }
    }
    let counts = counts(&standings);
    let conditions = [accepted(policy, &no_room, kept), enforcing(policy, &counts), degraded(&counts, &missing)];
    ContainerDriftPolicyStatus {
        observed_generation: Some(policy.generation),
        revision: revision(index, key, policy),
        conditions: conditions.into_iter().map(|new| new.since(policy.generation, &before.conditions, now)).collect(),
        containers: Some(ContainerCounts {
            matched: sums.matched,
            protected: sums.protected,
            summary: Some(format!("{}/{}", sums.protected, sums.matched)),
        }),
        violations: Some(sums.violations),
        nodes: Some(counts),
    }
}

#[derive(Default)]
struct Sums {
    matched: i64,
    protected: i64,
    violations: i64,
}

impl Sums {
    fn add(&mut self, figures: &PolicyFigures) {
        self.matched = self.matched.saturating_add(figures.matched);
        self.protected = self.protected.saturating_add(figures.protected);
        self.violations = self.violations.saturating_add(figures.violations);
    }
}

fn report(node: &Node) -> Option<&DriftNodeStatus> {
    node.report.as_ref().and_then(|report| report.as_ref().ok())
}

fn figures<'a>(node: &'a Node, policy: &str) -> Option<&'a PolicyFigures> {
    report(node)?.policies.iter().find(|figures| figures.name == policy)
}

fn standing(node: &Node, policy: &Policy, figures: Option<&PolicyFigures>) -> Standing {
    if let (Some(refusal), Wording::Good(fragment)) = (&node.refusal, &policy.wording) {
        let content = node.observed.as_ref().and_then(|observed| observed.content.as_ref());
        if !content.is_some_and(|content| content.has(fragment)) {
            return Standing::Degraded(format!(
                "its rules cannot be written, and what it had stays in force: {refusal}"
            ));
        }
    }
    let report = match &node.report {
        None => {
            return Standing::Pending(
                "no agent has reported from this node: does the agents' DaemonSet run there?".into(),
            );
        }
        Some(Err(error)) => {
            return Standing::Degraded(format!(
                "its DriftNode cannot be read: {error}; delete it, the agent writes it again"
            ));
        }
        Some(Ok(report)) => report,
    };
    if let Some(owner) = node.observed.as_ref().and_then(|observed| observed.foreign.as_ref()) {
        return Standing::Degraded(format!("the ConfigMap of its name belongs to {owner}: delete that ConfigMap"));
    }
    if node.agents_ready == 0 {
        return Standing::Unattended(
            "its agent's pod is not ready: what it left in the kernel goes on until the node restarts, and nothing is told; look at the pod"
                .into(),
        );
    }
    if report.backend == Some(Backend::None) {
        let why = report.backend_reason.as_deref().unwrap_or("see its DriftNode");
        return Standing::Degraded(format!("nothing can be enforced there: {why}"));
    }
    if let Some(test) = report.self_test.as_ref().filter(|test| test.result == SelfTestResult::Failed) {
        let why = test.message.as_deref().unwrap_or("see its DriftNode");
        return Standing::Degraded(format!("its self-test failed: {why}"));
    }
    let applied = report.applied.as_ref();
    let content = applied.and_then(|applied| node.content_of(&applied.digest));
    let in_full = match (&policy.wording, content) {
        (Wording::Good(fragment), Some(content)) => content.has(fragment),
        _ => false,
    };
    if let Some(problem) = figures.and_then(|figures| figures.problem.clone()).filter(|_| in_full) {
        return Standing::Degraded(problem);
    }
    if let Some(figures) = figures.filter(|figures| in_full && !figures.unsupported.is_empty()) {
        let backend = report.backend.map_or("its backend", Backend::as_str);
        let what = figures.unsupported.iter().map(|feature| format!("{feature}: {}", instead(node, feature)));
        return Standing::Degraded(format!("not in full with {backend}: {}", what.collect::<Vec<_>>().join("; ")));
    }
    if in_full {
        return Standing::Enforcing;
    }
    let revision = node.observed.as_ref().map(|observed| observed.revision).unwrap_or_default();
    Standing::Pending(match applied {
        Some(applied) => format!("applies revision {} of its rules, not yet {revision}", applied.revision),
        None => format!("applies no rules yet; revision {revision} waits"),
    })
}

fn counts(standings: &[(&str, Standing)]) -> NodeCounts {
    let count = |what: fn(&Standing) -> bool| {
        i64::try_from(standings.iter().filter(|(_, standing)| what(standing)).count()).unwrap_or(i64::MAX)
    };
    let targeted = i64::try_from(standings.len()).unwrap_or(i64::MAX);
    let enforcing = count(|standing| matches!(standing, Standing::Enforcing));
    // The worst first; by name among equals.
    let rank = |standing: &Standing| match standing {
        Standing::Degraded(_) => 0,
        Standing::Unattended(_) => 1,
        Standing::Pending(_) => 2,
        Standing::Enforcing => 3,
    };
    let mut problems: Vec<_> = standings.iter().filter(|(_, standing)| rank(standing) < 3).collect();
    problems.sort_by_key(|(name, standing)| (rank(standing), *name));
    let problems = problems
        .into_iter()
        .take(usize::try_from(MAX_PROBLEM_NODES).unwrap_or(usize::MAX))
        .filter_map(|(node, standing)| match standing {
            Standing::Degraded(why) | Standing::Unattended(why) | Standing::Pending(why) => {
                Some(NodeProblem { node: (*node).to_owned(), message: cut(why) })
            }
            Standing::Enforcing => None,
        })
        .collect();
    NodeCounts {
        targeted,
        enforcing,
        degraded: count(|standing| matches!(standing, Standing::Degraded(_))),
        unattended: count(|standing| matches!(standing, Standing::Unattended(_))),
        problems,
        summary: Some(format!("{enforcing}/{targeted}")),
    }
}

/// The revision with which the present wording reached its nodes: it does not move with other policies' edits.
fn revision(index: &Index, key: &PolicyKey, policy: &Policy) -> Option<i64> {
    let before = &policy.status;
    if before.observed_generation == Some(policy.generation) && before.revision.is_some() {
        return before.revision;
    }
    let Wording::Good(fragment) = &policy.wording else { return None };
    let mut highest = None;
    for node in index.nodes().values().filter(|node| node.has_policy(key)) {
        let observed = node.observed.as_ref()?;
        if !observed.content.as_ref()?.has(fragment) {
            return None;
        }
        highest = highest.max(i64::try_from(observed.revision).ok());
    }
    highest
}

/// A condition on its way.
struct Said {
    kind: &'static str,
    status: &'static str,
    reason: &'static str,
    message: String,
}

impl Said {
    fn new(kind: &'static str, status: &'static str, reason: &'static str, message: impl Into<String>) -> Self {
        Self { kind, status, reason, message: message.into() }
    }

    fn since(self, generation: i64, before: &[Condition], now: Timestamp) -> Condition {
        let same = before.iter().find(|there| there.type_ == self.kind && there.status == self.status);
        Condition {
            type_: self.kind.to_owned(),
            status: self.status.to_owned(),
            reason: self.reason.to_owned(),
            message: cut(&self.message),
            observed_generation: Some(generation),
            last_transition_time: same.map_or(Time(whole_seconds(now)), |same| same.last_transition_time.clone()),
        }
    }
}

/// What the API server keeps of a time.
fn whole_seconds(time: Timestamp) -> Timestamp {
    Timestamp::from_second(time.as_second()).unwrap_or(time)
}

fn accepted(policy: &Policy, no_room: &[(&str, NoRoom)], kept: usize) -> Said {
    match &policy.wording {
        Wording::Refused(why) => {
            let kept = if kept == 0 {
                String::new()
            } else {
                format!(" The wording that was accepted last stays in force on {kept} nodes.")
            };
            Said::new(ACCEPTED, "False", "Refused", format!("{}{kept}", cut_to(why, 900)))
        }
        Wording::Disabled => Said::new(ACCEPTED, "True", "Disabled", "it is in order, and spec.enabled is false"),
        Wording::Good(_) => match no_room.first() {
            None => Said::new(ACCEPTED, "True", "Accepted", "it is in order"),
            Some((_, why)) => {
                let names: Vec<&str> = no_room.iter().map(|(name, _)| *name).take(3).collect();
                let more = if no_room.len() > names.len() { ", …" } else { "" };
                let message = format!(
                    "{} Refused on {} nodes ({}{more}); what they had of it before stays in force.",
                    explain(*why),
                    no_room.len(),
                    names.join(", ")
                );
                Said::new(ACCEPTED, "False", reason(*why), message)
            }
        },
    }
}

const fn reason(why: NoRoom) -> &'static str {
    match why {
        NoRoom::Slots => "BeyondSlots",
        NoRoom::Bytes => "TooLarge",
        NoRoom::Paths => "TooManyPaths",
    }
}

fn explain(why: NoRoom) -> String {
    match why {
        NoRoom::Slots => format!(
            "A node applies {MAX_POLICIES} policies and has as many already: delete or disable one, merge some, or narrow their nodeSelector."
        ),
        NoRoom::Bytes => "With it the node's rules would be more than the 1 MiB of a ConfigMap: shorten its lists and selectors, or narrow its nodeSelector.".to_owned(),
        NoRoom::Paths => format!(
            "With it the node's lists would hold more than {MAX_PATHS} distinct paths: shorten its lists, or narrow its nodeSelector."
        ),
    }
}

fn enforcing(policy: &Policy, counts: &NodeCounts) -> Said {
    let say = |status, reason, message: &str| Said::new(ENFORCING, status, reason, message);
    match &policy.wording {
        Wording::Refused(_) => say("False", "Refused", "it is refused: see Accepted"),
        Wording::Disabled => say("False", "Disabled", "spec.enabled is false"),
        Wording::Good(_) if counts.targeted == 0 => {
            say("Unknown", "NoNodes", "no node has the labels that spec.scope.nodeSelector asks for")
        }
        Wording::Good(_) if counts.enforcing == counts.targeted => {
            say("True", "AllNodes", "every node that it concerns applies it")
        }
        Wording::Good(_) => {
            let rest = counts.targeted - counts.enforcing;
            say(
                "False",
                "SomeNodes",
                &format!("{rest} of {} nodes do not apply it in full: see status.nodes.problems", counts.targeted),
            )
        }
    }
}

fn degraded(counts: &NodeCounts, missing: &Missing<'_>) -> Said {
    if counts.degraded == 0 {
        return Said::new(DEGRADED, "False", "AsAsked", "no node says that it cannot honour it");
    }
    let all =
        format!("{} of {} nodes cannot honour all of it: see status.nodes.problems", counts.degraded, counts.targeted);
    let each = missing.iter().map(|((feature, instead), nodes)| format!("{feature} on {nodes} nodes: {instead}"));
    let message = [all].into_iter().chain(each).collect::<Vec<_>>().join("; ");
    let reason = if missing.is_empty() { "NodesCannot" } else { "FeaturesMissing" };
    Said::new(DEGRADED, "True", reason, message)
}

fn cut(text: &str) -> String {
    cut_to(text, usize::try_from(MAX_MESSAGE).unwrap_or(usize::MAX))
}

/// The first characters, and an ellipsis where that is not all.
fn cut_to(text: &str, most: usize) -> String {
    match text.char_indices().nth(most) {
        None => text.to_owned(),
        Some(_) => text.chars().take(most.saturating_sub(1)).chain(['…']).collect(),
    }
}

/// Whether two states of a status differ in figures only, which move all the time.
#[must_use]
pub fn only_figures_differ(one: &ContainerDriftPolicyStatus, two: &ContainerDriftPolicyStatus) -> bool {
    let without = |status: &ContainerDriftPolicyStatus| ContainerDriftPolicyStatus {
        containers: None,
        violations: None,
        ..status.clone()
    };
    without(one) == without(two)
}

/// The status word of a condition.
#[must_use]
pub fn condition<'a>(status: &'a ContainerDriftPolicyStatus, kind: &str) -> Option<&'a Condition> {
    status.conditions.iter().find(|condition| condition.type_ == kind)
}

#[cfg(test)]
mod tests;
