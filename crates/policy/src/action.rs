//! What is done to a container.

use mooring_crd::ContainerAction;

use crate::mask::SlotMask;
use crate::rules::RuleSet;

/// The strongest of these actions; `None` of none.
pub fn strongest(actions: impl IntoIterator<Item = ContainerAction>) -> ContainerAction {
    actions.into_iter().max().unwrap_or_default()
}

/// What the violated policies ask to do to the container: the strongest wins.
#[must_use]
pub fn container_action(rules: &RuleSet, violating: SlotMask) -> ContainerAction {
    strongest(violating.slots().filter_map(|slot| rules.policy(slot)).map(|policy| policy.spec.actions.container))
}
