//! Writes to the API server: all that the operator makes, changes and deletes, the Lease apart.
//!
//! Every write of an object that exists carries the version that was read, every deletion the uid.

use std::collections::BTreeMap;
use std::time::Duration;

use k8s_openapi::api::core::v1::{ConfigMap, ObjectReference};
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta, OwnerReference};
use k8s_openapi::jiff::Timestamp;
use kube::api::{DeleteParams, PostParams, Preconditions};
use kube::core::{ApiResource, DynamicObject, TypeMeta};
use kube::{Api, Client};
use mooring_crd::access::{Binary, NODES_NAMESPACE};
use mooring_crd::{
    API_VERSION, BREAKER, ContainerDriftPolicy, ContainerDriftPolicyStatus, DriftEvent, DriftEventBreaker,
    DriftEventBreakerSpec, POLICY_KIND,
};
use mooring_policy::NodeRulesError;

use crate::index::Write;
use crate::objects::{BreakerObject, MANAGED_BY};
use crate::tell::Told;

/// How long a request may take.
const LIMIT: Duration = Duration::from_secs(15);

/// Why a write did not come about.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// The API server refused it, or could not be reached.
    #[error("{what}: {source}")]
    Refused {
        /// What was to be written.
        what: String,
        /// What was said against it.
        source: Box<kube::Error>,
    },
    /// No answer.
    #[error("{0}: no answer in {seconds} s", seconds = LIMIT.as_secs())]
    Late(String),
    /// The rules cannot be written down.
    #[error("the rules of node {0}: {1}")]
    Rules(String, NodeRulesError),
}

impl WriteError {
    /// Whether somebody else was first: what was read is old, and the watch will say what is there.
    #[must_use]
    pub fn is_conflict(&self) -> bool {
        self.code().is_some_and(|code| code == 409 || code == 404)
    }

    fn code(&self) -> Option<u16> {
        match self {
            Self::Refused { source, .. } => match &**source {
                kube::Error::Api(status) => Some(status.code),
                _ => None,
            },
            _ => None,
        }
    }

    /// What the API server said against it, where somebody has to do something about it: a quota, a webhook, a right that is missing.
    #[must_use]
    pub fn refusal(&self) -> Option<String> {
        match self.word() {
            "Denied" | "Refused" => Some(self.to_string()),
            _ => None,
        }
    }

    /// A word for metrics.
    #[must_use]
    pub fn word(&self) -> &'static str {
        match self.code() {
            Some(404 | 409) => "Conflict",
            Some(401 | 403) => "Denied",
            Some(_) => "Refused",
            None => "Unreachable",
        }
    }
}

async fn timely<T>(what: &str, request: impl Future<Output = kube::Result<T>>) -> Result<T, WriteError> {
    match tokio::time::timeout(LIMIT, request).await {
        Ok(Ok(done)) => Ok(done),
        Ok(Err(source)) => Err(WriteError::Refused { what: what.to_owned(), source: Box::new(source) }),
        Err(_) => Err(WriteError::Late(what.to_owned())),
    }
}

/// Writes to the API server.
#[derive(Clone)]
pub struct Writer {
    client: Client,
    /// This process, by name.
    me: String,
}

impl Writer {
    /// Writes as `me`.
    #[must_use]
    pub fn new(client: Client, me: String) -> Self {
        Self { client, me }
    }

    /// Writes a node's `ConfigMap`; what it is then, unless it is gone.
    ///
    /// # Errors
    /// When it does not come about.
    pub async fn config_map(&self, node: &str, write: Write) -> Result<Option<ConfigMap>, WriteError> {
        let api: Api<ConfigMap> = Api::namespaced(self.client.clone(), NODES_NAMESPACE);
        let what = format!("ConfigMap {NODES_NAMESPACE}/{node}");
        let params = PostParams::default();
        match write {
            Write::Create { owner, revision, content } => {
                let map = object(node, owner, None, &content, revision)?;
                timely(&what, api.create(&params, &map)).await.map(Some)
            }
            Write::Replace { owner, revision, content, resource_version } => {
                let map = object(node, owner, Some(resource_version), &content, revision)?;
                timely(&what, api.replace(node, &params, &map)).await.map(Some)
            }
            Write::Delete { uid, resource_version } => {
                let only = Preconditions { uid: Some(uid), resource_version: Some(resource_version) };
                timely(&what, api.delete(node, &DeleteParams::default().preconditions(only))).await.map(|_| None)
            }
        }
    }

    /// Writes a policy's status.
    ///
    /// # Errors
    /// When it does not come about.
    pub async fn status(
        &self,
        policy: &str,
        resource_version: String,
        status: &ContainerDriftPolicyStatus,
    ) -> Result<(), WriteError> {
        // Only the status counts, and the object may be one that cannot be read as a policy.
        let kind = ApiResource::erase::<ContainerDriftPolicy>(&());
        let api: Api<DynamicObject> = Api::all_with(self.client.clone(), &kind);
        let object = DynamicObject {
            types: Some(TypeMeta { api_version: API_VERSION.to_owned(), kind: POLICY_KIND.to_owned() }),
            metadata: ObjectMeta {
                name: Some(policy.to_owned()),
                resource_version: Some(resource_version),
                ..ObjectMeta::default()
            },
            data: serde_json::json!({"status": status}),
        };
        let what = format!("status of policy {policy}");
        timely(&what, api.replace_status(policy, &PostParams::default(), &object)).await.map(drop)
    }

    /// Deletes a `DriftEvent`, given its namespace, slash, name.
    ///
    /// # Errors
    /// When it does not come about.
    pub async fn delete_event(&self, key: &str, uid: String) -> Result<(), WriteError> {
        let (namespace, name) = key.split_once('/').unwrap_or_default();
        let api: Api<DriftEvent> = Api::namespaced(self.client.clone(), namespace);
        let only = Preconditions { uid: Some(uid), resource_version: None };
        let params = DeleteParams::default().preconditions(only);
        timely(&format!("DriftEvent {key}"), api.delete(name, &params)).await.map(drop)
    }

    /// Writes where agents may make no `DriftEvent`s, in place of what was there; what it is then.
    ///
    /// # Errors
    /// When it does not come about.
    pub async fn breaker(
        &self,
        there: Option<BreakerObject>,
        namespaces: Vec<String>,
    ) -> Result<BreakerObject, WriteError> {
        let api: Api<DriftEventBreaker> = Api::all(self.client.clone());
        let mut object = DriftEventBreaker::new(BREAKER, DriftEventBreakerSpec { namespaces });
        object.metadata.labels = Some(labels());
        let (what, params) = (format!("DriftEventBreaker {BREAKER}"), PostParams::default());
        let written = if let Some(there) = there {
            object.metadata.resource_version = there.resource_version;
            timely(&what, api.replace(BREAKER, &params, &object)).await
        } else {
            timely(&what, api.create(&params, &object)).await
        };
        written.map(BreakerObject::from)
    }

    /// Tells people something about an object.
    ///
    /// # Errors
    /// When it does not come about.
    pub async fn tell(&self, about: ObjectReference, notice: Told, now: Timestamp) -> Result<(), WriteError> {
        // Those of objects without a namespace belong into this one.
        let namespace = about.namespace.clone().unwrap_or_else(|| "default".to_owned());
        let event = Event {
            metadata: ObjectMeta {
                name: Some(format!("{}.{:x}", about.name.as_deref().unwrap_or_default(), now.as_nanosecond())),
                namespace: Some(namespace.clone()),
                ..ObjectMeta::default()
            },
            action: Some(notice.action.to_owned()),
            event_time: Some(MicroTime(now)),
            // Characters of a note, at most, by the API server's rules.
            note: Some(notice.note.chars().take(1000).collect()),
            reason: Some(notice.reason.to_owned()),
            regarding: Some(about),
            reporting_controller: Some(Binary::Operator.reporting_controller().to_owned()),
            reporting_instance: Some(self.me.chars().take(128).collect()),
            type_: Some(if notice.warning { "Warning" } else { "Normal" }.to_owned()),
            ..Event::default()
        };
        let api: Api<Event> = Api::namespaced(self.client.clone(), &namespace);
        timely("an Event", api.create(&PostParams::default(), &event)).await.map(drop)
    }
}

/// Those of every object that the operator makes.
pub(crate) fn labels() -> BTreeMap<String, String> {
    [("app.kubernetes.io/part-of", "mooring"), MANAGED_BY].map(|(key, value)| (key.to_owned(), value.to_owned())).into()
}

fn object(
    node: &str,
    owner: String,
    resource_version: Option<String>,
    content: &crate::content::Content,
    revision: u64,
) -> Result<ConfigMap, WriteError> {
    let rules = content.encode(revision).map_err(|error| WriteError::Rules(node.to_owned(), error))?;
    Ok(ConfigMap {
        metadata: ObjectMeta {
            name: Some(node.to_owned()),
            namespace: Some(NODES_NAMESPACE.to_owned()),
            resource_version,
            labels: Some(labels()),
            owner_references: Some(vec![OwnerReference {
                api_version: "v1".to_owned(),
                kind: "Node".to_owned(),
                name: node.to_owned(),
                uid: owner,
                ..OwnerReference::default()
            }]),
            ..ObjectMeta::default()
        },
        data: Some(rules.into_data()),
        ..ConfigMap::default()
    })
}
