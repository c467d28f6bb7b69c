//! The watches: what the API server says, as changes of the index.

use std::fmt::Debug;
use std::time::Duration;

use futures::{Stream, StreamExt as _};
use k8s_openapi::api::core::v1::{ConfigMap, Node, Pod};
use kube::core::{ApiResource, DeserializeGuard, DynamicObject, PartialObjectMeta};
use kube::runtime::WatchStreamExt as _;
use kube::runtime::utils::Backoff;
use kube::runtime::watcher::{self, Config, Event, watcher};
use kube::{Api, Client, Resource, ResourceExt as _};
use mooring_crd::access::{AGENT_LABEL, NODES_NAMESPACE, SYSTEM_NAMESPACE};
use mooring_crd::{ContainerDriftPolicy, DriftEvent, DriftEventBreaker, DriftNode};
use serde::de::DeserializeOwned;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::objects::{Change, Kind};

/// Objects in one page of a list: what is held of it at a time.
const PAGE: u32 = 250;
/// The same for `ConfigMap`s, each of which may have 1 MiB.
const PAGE_OF_MAPS: u32 = 20;
/// The API server ends a watch after this many seconds, so that a connection that died in silence is noticed.
const WATCH_SECONDS: u32 = 240;

/// Something that a watch says.
#[derive(Debug)]
pub enum Said {
    /// A list begins: the objects from here to its end are all that there are.
    Begin,
    /// An object of the list, or one that changed.
    Apply(String, Change),
    /// An object is gone.
    Delete(String),
    /// The list ends.
    Done,
    /// The watch failed; it is taken up again.
    Failed {
        /// Why.
        error: String,
        /// Whether it was to be listed, so that what there is is not known.
        listing: bool,
    },
}

/// Watches everything, until the set is dropped.
#[must_use]
pub fn watch_all(client: &Client, to: &mpsc::Sender<(Kind, Said)>) -> JoinSet<()> {
    let mut tasks = JoinSet::new();
    let all = Config::default().page_size(PAGE).timeout(WATCH_SECONDS);
    // One that cannot be read as a policy has a status that can.
    let kind = ApiResource::erase::<ContainerDriftPolicy>(&());
    let policies: Api<DynamicObject> = Api::all_with(client.clone(), &kind);
    tasks.spawn(forward(Kind::Policy, watcher(policies, all.clone()), to.clone()));
    let nodes: Api<PartialObjectMeta<Node>> = Api::all(client.clone());
    tasks.spawn(forward(Kind::Node, watcher(nodes, all.clone()), to.clone()));
    let maps: Api<ConfigMap> = Api::namespaced(client.clone(), NODES_NAMESPACE);
    // Kubernetes puts this one into every namespace.
    let ours = all.clone().page_size(PAGE_OF_MAPS).fields("metadata.name!=kube-root-ca.crt");
    tasks.spawn(forward(Kind::ConfigMap, watcher(maps, ours), to.clone()));
    let reports: Api<DeserializeGuard<DriftNode>> = Api::all(client.clone());
    tasks.spawn(forward(Kind::Report, watcher(reports, all.clone()), to.clone()));
    let pods: Api<Pod> = Api::namespaced(client.clone(), SYSTEM_NAMESPACE);
    let agents = all.clone().labels(&format!("{}={}", AGENT_LABEL.0, AGENT_LABEL.1));
    tasks.spawn(forward(Kind::Agent, watcher(pods, agents), to.clone()));
    let events: Api<PartialObjectMeta<DriftEvent>> = Api::all(client.clone());
    tasks.spawn(forward(Kind::Event, watcher(events, all.clone()), to.clone()));
    let breakers: Api<DeserializeGuard<DriftEventBreaker>> = Api::all(client.clone());
    tasks.spawn(forward(Kind::Breaker, watcher(breakers, all), to.clone()));
    tasks
}

async fn forward<K>(
    kind: Kind,
    stream: impl Stream<Item = watcher::Result<Event<K>>> + Send,
    to: mpsc::Sender<(Kind, Said)>,
) where
    K: Resource + Clone + Debug + DeserializeOwned + Send + 'static,
    Change: From<K>,
{
    let mut stream = Box::pin(stream.backoff(Pauses::default()));
    while let Some(event) = stream.next().await {
        let said = match event {
            Ok(Event::Init) => Said::Begin,
            Ok(Event::InitApply(object) | Event::Apply(object)) => {
                Said::Apply(key(kind, &object), Change::from(object))
            }
            Ok(Event::InitDone) => Said::Done,
            Ok(Event::Delete(object)) => Said::Delete(key(kind, &object)),
            Err(error) => Said::Failed {
                listing: matches!(error, watcher::Error::InitialListFailed(_)),
                error: error.to_string(),
            },
        };
        if to.send((kind, said)).await.is_err() {
            return;
        }
    }
}

fn key(kind: Kind, object: &impl Resource) -> String {
    match object.namespace() {
        // The others are of one namespace.
        Some(namespace) if kind == Kind::Event => format!("{namespace}/{}", object.name_any()),
        _ => object.name_any(),
    }
}

/// How long a watch that failed waits: longer each time, and never so long that an API server that is back is left alone.
#[derive(Debug, Default)]
struct Pauses {
    failures: u32,
}

impl Iterator for Pauses {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        let pause = Duration::from_millis(250) * 2_u32.pow(self.failures.min(4));
        self.failures += 1;
        Some(pause)
    }
}

impl Backoff for Pauses {
    fn reset(&mut self) {
        self.failures = 0;
    }
}
