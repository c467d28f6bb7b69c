//! What is done to a container.

use mooring_crd::ContainerAction;

/// The strongest of these actions; `None` of none.
pub fn strongest(actions: impl IntoIterator<Item = ContainerAction>) -> ContainerAction {
    actions.into_iter().max().unwrap_or_default()
}
