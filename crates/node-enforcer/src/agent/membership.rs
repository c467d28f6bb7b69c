//! What is known of a container, for the scopes of policies.

use std::collections::BTreeMap;

use mooring_policy::Workload;

use crate::containers::Container;

/// Labels that stand for what a cluster would know: the namespace's and the node's.
#[derive(Debug, Clone)]
pub struct Surroundings {
    namespace: BTreeMap<String, String>,
    node: BTreeMap<String, String>,
}

impl Surroundings {
    /// Of a container on this node.
    #[must_use]
    pub fn of(container: &Container, node: &str) -> Self {
        let label = |key: &str, value: &str| BTreeMap::from([(key.to_owned(), value.to_owned())]);
        Self {
            namespace: label("kubernetes.io/metadata.name", &container.namespace),
            node: label("kubernetes.io/hostname", node),
        }
    }
}

/// What the runtime says of a container. What it does not say counts as matching.
#[must_use]
pub fn workload_of<'a>(container: &'a Container, around: &'a Surroundings) -> Workload<'a> {
    Workload {
        namespace: Some(&container.namespace),
        namespace_labels: Some(&around.namespace),
        pod_labels: container.labels_known.then_some(&container.labels),
        node_labels: Some(&around.node),
        container: Some(&container.name),
        image: container.image.as_deref(),
    }
}
