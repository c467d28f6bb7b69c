//! What is known of a container besides what its runtime says: for the scopes of policies, and for Stop.

use std::collections::BTreeMap;

use clap::ValueEnum;
use mooring_policy::{RuleSet, SlotMask, Workload, select};

use crate::containers::Container;
use crate::response::StopSignal;

/// Labels by their keys.
pub type Labels = BTreeMap<String, String>;

/// What a container may do until it is known which policies are for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "PascalCase")]
pub enum UnknownContainers {
    /// Every policy that prevents, and may or may not be for it, is left out until that is known; the others detect.
    Allow,
    /// Every policy that may be for it applies until that is known.
    DenyDrift,
}

/// What is round a container. Labels that are `None` are not known yet, and count as matching.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Surroundings {
    /// The namespace's.
    pub namespace: Option<Labels>,
    /// The pod's.
    pub pod: PodLabels,
    /// The node's; unknown where the rules were chosen for the node already.
    pub node: Option<Labels>,
    /// What its pod says, where that is known.
    pub stop_signal: StopSignal,
}

/// The labels of a container's pod.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum PodLabels {
    /// There is no pod: the runtime's own labels count.
    OfRuntime,
    /// Its pod is not known yet.
    #[default]
    Unknown,
    /// Its pod has too many to be kept, and will not be known better.
    Overlong,
    /// As the pod has them now, and as it had them when it was first seen, where that is something else: a policy that was for a
    /// pod stays so. A workload whose token may write its own pod must not rid itself of a refusal.
    Known {
        /// Now.
        now: Labels,
        /// At first.
        first: Option<Labels>,
    },
}

impl Surroundings {
    /// Of a container without a cluster: labels that stand for what one would know.
    #[must_use]
    pub fn of(container: &Container, node: &str) -> Self {
        let label = |key: &str, value: &str| BTreeMap::from([(key.to_owned(), value.to_owned())]);
        Self {
            namespace: Some(label("kubernetes.io/metadata.name", &container.namespace)),
            pod: PodLabels::OfRuntime,
            node: Some(label("kubernetes.io/hostname", node)),
            stop_signal: StopSignal::default(),
        }
    }

    /// The slots of the policies that are for this container, and of those that may be, as far as `unknown` has them apply.
    #[must_use]
    pub fn member(&self, rules: &RuleSet, container: &Container, unknown: UnknownContainers) -> SlotMask {
        let member = self.possible(rules, container);
        if unknown == UnknownContainers::DenyDrift || self.pod != PodLabels::Unknown {
            return member;
        }
        // Of policies that do not ask for the pod's labels it is known whether they are for it.
        let asking = rules.policies().iter().filter(|policy| policy.spec.scope.pod_selector.is_some());
        let asking: SlotMask = asking.map(|policy| policy.slot).collect();
        SlotMask::from_bits(member.bits() & !(asking.bits() & rules.prevents().bits()))
    }

    /// Of the policies that apply to a container those that are for it, and not only may be: what is done to a container cannot be taken back.
    #[must_use]
    pub fn certain(&self, rules: &RuleSet, container: &Container, member: SlotMask) -> SlotMask {
        let pod_is_known = match self.pod {
            PodLabels::OfRuntime => container.labels_known,
            PodLabels::Unknown | PodLabels::Overlong => false,
            PodLabels::Known { .. } => true,
        };
        let guessed = rules.policies().iter().filter(|policy| {
            let scope = &policy.spec.scope;
            (self.namespace.is_none() && scope.namespace_selector.is_some())
                || (!pod_is_known && scope.pod_selector.is_some())
                || (container.image.is_none() && !scope.images.is_empty())
        });
        let guessed: SlotMask = guessed.map(|policy| policy.slot).collect();
        member & !guessed
    }

    /// What is not known matches.
    fn possible(&self, rules: &RuleSet, container: &Container) -> SlotMask {
        let with = |pod_labels| {
            let workload = Workload {
                namespace: Some(&container.namespace),
                namespace_labels: self.namespace.as_ref(),
                pod_labels,
                node_labels: self.node.as_ref(),
                container: Some(&container.name),
                image: container.image.as_deref(),
            };
            select(rules, &workload)
        };
        match &self.pod {
            // What the runtime does not say counts as matching.
            PodLabels::OfRuntime => with(container.labels_known.then_some(&container.labels)),
            PodLabels::Unknown | PodLabels::Overlong => with(None),
            PodLabels::Known { now, first } => {
                let member = with(Some(now));
                first.as_ref().map_or(member, |first| member | with(Some(first)))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use mooring_crd::ContainerDriftPolicy;
    use mooring_policy::{NodeDefaults, compile};
    use serde_json::json;

    use super::*;
    use crate::report::tests::container;

    #[test]
    fn what_is_only_guessed_is_not_certain() {
        let policy = |name: &str, scope: serde_json::Value| {
            ContainerDriftPolicy::new(name, serde_json::from_value(json!({"scope": scope})).unwrap())
        };
        let policies = [
            policy("a", json!({})),
            policy("b", json!({"podSelector": {"matchLabels": {"app": "x"}}})),
            policy("c", json!({"namespaceSelector": {"matchLabels": {"team": "x"}}})),
            policy("d", json!({"images": ["registry.example.com/*"]})),
        ];
        let rules = compile(&policies, NodeDefaults::default()).rules;
        let all = SlotMask::from_bits(0b1111);
        let around = |namespace: Option<Labels>, pod| Surroundings { namespace, pod, ..Surroundings::default() };
        let known = || PodLabels::Known { now: Labels::new(), first: None };
        let of = |labels_known, image: Option<&str>| Container {
            labels_known,
            image: image.map(str::to_owned),
            ..container("c")
        };
        let described = of(true, Some("registry.example.com/a"));
        for (around, container, certain) in [
            (around(Some(Labels::new()), known()), &described, 0b1111),
            (around(Some(Labels::new()), PodLabels::Unknown), &described, 0b1101),
            (around(None, known()), &described, 0b1011),
            (around(None, PodLabels::Overlong), &described, 0b1001),
            (around(Some(Labels::new()), PodLabels::OfRuntime), &described, 0b1111),
            (around(Some(Labels::new()), PodLabels::OfRuntime), &of(false, Some("a")), 0b1101),
            (around(Some(Labels::new()), known()), &of(true, None), 0b0111),
        ] {
            assert_eq!(around.certain(&rules, container, all).bits(), certain, "{around:?} {container:?}");
        }
    }
}
