//! What the operator keeps of the API server's objects. Everything else of them is dropped at the watch.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{ConfigMap, Node, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::jiff::Timestamp;
use kube::core::{DeserializeGuard, DynamicObject, PartialObjectMeta};
use mooring_crd::{
    ContainerDriftPolicySpec, ContainerDriftPolicyStatus, DriftEvent, DriftEventBreaker, DriftNode, DriftNodeStatus,
};
use mooring_policy::select::Labels;

/// The label of every object that the operator makes.
pub const MANAGED_BY: (&str, &str) = ("app.kubernetes.io/managed-by", "mooring-operator");

/// A kind of object that is watched.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// `ContainerDriftPolicy`.
    Policy,
    /// Nodes, their metadata only.
    Node,
    /// `ConfigMap`s of the nodes' namespace.
    ConfigMap,
    /// `DriftNode`.
    Report,
    /// Pods of the agents.
    Agent,
    /// `DriftEvent`s, their metadata only.
    Event,
    /// `DriftEventBreaker`.
    Breaker,
}

impl Kind {
    /// Every kind.
    pub const ALL: [Self; 7] =
        [Self::Policy, Self::Node, Self::ConfigMap, Self::Report, Self::Agent, Self::Event, Self::Breaker];

    /// What it is called in the log and in metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Policy => "policies",
            Self::Node => "nodes",
            Self::ConfigMap => "configmaps",
            Self::Report => "driftnodes",
            Self::Agent => "agents",
            Self::Event => "driftevents",
            Self::Breaker => "drifteventbreakers",
        }
    }
}

/// An object as it is now, by its kind.
#[derive(Clone, Debug)]
pub enum Change {
    /// A policy.
    Policy(Box<PolicyObject>),
    /// A node.
    Node {
        /// Its uid.
        uid: String,
        /// Its labels.
        labels: Labels,
    },
    /// A `ConfigMap`.
    ConfigMap(Box<ConfigMapObject>),
    /// What a node's agent reports; text where it cannot be read.
    Report(Box<Result<DriftNodeStatus, String>>),
    /// An agent's pod.
    Agent {
        /// The node that it is bound to; empty before.
        node: String,
        /// Whether it is ready.
        ready: bool,
    },
    /// A `DriftEvent`.
    Event(EventObject),
    /// A `DriftEventBreaker`.
    Breaker(BreakerObject),
}

/// A policy.
#[derive(Clone, Debug)]
pub struct PolicyObject {
    /// Its uid.
    pub uid: Option<String>,
    /// When it was made.
    pub created: Option<Timestamp>,
    /// Its generation.
    pub generation: i64,
    /// Its version.
    pub resource_version: String,
    /// What it says, or why that cannot be read.
    pub spec: Result<Box<ContainerDriftPolicySpec>, String>,
    /// Its status.
    pub status: ContainerDriftPolicyStatus,
}

/// A `ConfigMap`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ConfigMapObject {
    /// Its uid.
    pub uid: String,
    /// Its version.
    pub resource_version: String,
    /// The uid of the Node of its name that owns it.
    pub owner: Option<String>,
    /// Another owner.
    pub foreign: Option<String>,
    /// Whether it has the operator's label.
    pub labelled: bool,
    /// Its data.
    pub data: BTreeMap<String, String>,
}

/// A `DriftEvent`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventObject {
    /// Its uid.
    pub uid: String,
    /// When it was written last.
    pub written: Timestamp,
}

/// A `DriftEventBreaker`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BreakerObject {
    /// Its uid.
    pub uid: Option<String>,
    /// The version that a write must carry.
    pub resource_version: Option<String>,
    /// Where agents may make no events.
    pub namespaces: Vec<String>,
}

fn created(metadata: &ObjectMeta) -> Option<Timestamp> {
    metadata.creation_timestamp.as_ref().map(|time| time.0)
}

impl From<DynamicObject> for Change {
    fn from(policy: DynamicObject) -> Self {
        let DynamicObject { metadata, mut data, .. } = policy;
        let spec = serde_json::from_value(data["spec"].take()).map_err(|error| format!("spec: {error}"));
        Self::Policy(Box::new(PolicyObject {
            created: created(&metadata),
            uid: metadata.uid,
            generation: metadata.generation.unwrap_or_default(),
            resource_version: metadata.resource_version.unwrap_or_default(),
            spec: spec.map(Box::new),
            // What this operator wrote can be read; what cannot is overwritten.
            status: serde_json::from_value(data["status"].take()).unwrap_or_default(),
        }))
    }
}

impl From<PartialObjectMeta<Node>> for Change {
    fn from(node: PartialObjectMeta<Node>) -> Self {
        Self::Node { uid: node.metadata.uid.unwrap_or_default(), labels: node.metadata.labels.unwrap_or_default() }
    }
}

impl From<ConfigMap> for Change {
    fn from(map: ConfigMap) -> Self {
        let metadata = map.metadata;
        let name = metadata.name.unwrap_or_default();
        let (mut owner, mut foreign) = (None, None);
        for reference in metadata.owner_references.into_iter().flatten() {
            if reference.kind == "Node" && reference.api_version == "v1" && reference.name == name {
                owner = Some(reference.uid);
            } else {
                foreign = Some(format!("{} {}", reference.kind, reference.name));
            }
        }
        let labelled =
            metadata.labels.is_some_and(|labels| labels.get(MANAGED_BY.0).is_some_and(|by| by == MANAGED_BY.1));
        Self::ConfigMap(Box::new(ConfigMapObject {
            uid: metadata.uid.unwrap_or_default(),
            resource_version: metadata.resource_version.unwrap_or_default(),
            owner,
            foreign,
            labelled,
            data: map.data.unwrap_or_default(),
        }))
    }
}

impl From<DeserializeGuard<DriftNode>> for Change {
    fn from(DeserializeGuard(object): DeserializeGuard<DriftNode>) -> Self {
        let report = match object {
            Ok(node) => Ok(node.status.unwrap_or_default()),
            Err(invalid) => Err(invalid.error),
        };
        Self::Report(Box::new(report))
    }
}

impl From<Pod> for Change {
    fn from(pod: Pod) -> Self {
        let conditions = pod.status.and_then(|status| status.conditions).unwrap_or_default();
        let ready = conditions.iter().any(|condition| condition.type_ == "Ready" && condition.status == "True");
        let ready = ready && pod.metadata.deletion_timestamp.is_none();
        Self::Agent { node: pod.spec.and_then(|spec| spec.node_name).unwrap_or_default(), ready }
    }
}

impl From<PartialObjectMeta<DriftEvent>> for Change {
    fn from(event: PartialObjectMeta<DriftEvent>) -> Self {
        let metadata = event.metadata;
        // Who counts writes: the last time of any manager's is that of the last count.
        let managed =
            metadata.managed_fields.iter().flatten().filter_map(|fields| fields.time.as_ref()).map(|time| time.0);
        let written = managed.chain(created(&metadata)).max().unwrap_or(Timestamp::UNIX_EPOCH);
        Self::Event(EventObject { uid: metadata.uid.unwrap_or_default(), written })
    }
}

impl From<DriftEventBreaker> for BreakerObject {
    fn from(breaker: DriftEventBreaker) -> Self {
        let DriftEventBreaker { metadata, spec } = breaker;
        Self { uid: metadata.uid, resource_version: metadata.resource_version, namespaces: spec.namespaces }
    }
}

impl From<DeserializeGuard<DriftEventBreaker>> for Change {
    fn from(DeserializeGuard(object): DeserializeGuard<DriftEventBreaker>) -> Self {
        Self::Breaker(object.map_or_else(
            // What cannot be read is overwritten.
            |invalid| BreakerObject {
                uid: invalid.metadata.uid,
                resource_version: invalid.metadata.resource_version,
                namespaces: Vec::new(),
            },
            BreakerObject::from,
        ))
    }
}
