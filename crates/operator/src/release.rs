//! `mooring-operator release`: asks every node to take everything down, and waits until they have. For the moment before Mooring is
//! removed, while its operators and agents still run.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use k8s_openapi::api::core::v1::{ConfigMap, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::{ListParams, PostParams};
use kube::core::PartialObjectMeta;
use kube::{Api, Client, ResourceExt};
use mooring_crd::DriftNode;
use mooring_crd::access::{AGENT_LABEL, NODES_NAMESPACE, SYSTEM_NAMESPACE};
use mooring_policy::node_rules::{RELEASE_KEY, RELEASE_VALUE, asks_for_release};

use crate::leader::{Candidate, Leadership};
use crate::objects::{Change, MANAGED_BY};
use crate::write::labels;

/// `ConfigMap`s that are read at once: each may be a mebibyte.
const PAGE: u32 = 20;
/// How long no operator hands out rules after all nodes are released. Whoever uninstalls hears of it from the kubelet that this process runs
/// under, which took 79 s once on an overloaded node; an operator that was still there by then had every node enforce again.
const AFTERWARDS: Duration = Duration::from_mins(3);
/// How often it is looked who has not released yet.
const LOOK: Duration = Duration::from_secs(2);

/// Why not every node is known to be released.
#[derive(Debug, thiserror::Error)]
pub enum ReleaseError {
    /// The API server refused something.
    #[error("{what}: {source}; nothing more is released, and the operators go on as before")]
    Refused {
        /// What was tried.
        what: &'static str,
        /// What was said against it.
        source: kube::Error,
    },
    /// Another has taken the Lease.
    #[error("another process has taken the operators' Lease: the API server was away for long; begin again")]
    Lost,
    /// Some nodes have not said that they are released.
    #[error(
        "{} of the nodes did not say in time that they are released: {}. See why their agents do not run, or run `mooring-enforcer release` \
         on them or reboot them once Mooring is removed. Until then the operators go on as before",
        .0.len(), listed(.0)
    )]
    Late(BTreeMap<String, &'static str>),
}

fn listed(late: &BTreeMap<String, &'static str>) -> String {
    const SHOWN: usize = 50;
    let mut shown: Vec<String> = late.iter().take(SHOWN).map(|(node, why)| format!("{node} ({why})")).collect();
    if late.len() > SHOWN {
        shown.push(format!("and {} more", late.len() - SHOWN));
    }
    shown.join(", ")
}

fn refused(what: &'static str) -> impl FnOnce(kube::Error) -> ReleaseError {
    move |source| ReleaseError::Refused { what, source }
}

/// Takes the Lease, whoever has it, so that no operator hands out rules meanwhile; asks every node, and waits for all of them. Gives
/// their number.
///
/// The Lease is left held for [`AFTERWARDS`]: by then the operators are to be gone. After an error it is given back.
///
/// # Errors
/// When not every node is known to be released within `limit`.
pub async fn release(client: &Client, candidate: &mut Candidate, limit: Duration) -> Result<usize, ReleaseError> {
    let wait = candidate.take_over().await.map_err(refused("take the operators' Lease"))?;
    println!("the operators step back within {} s", wait.as_secs());
    let leadership = candidate.leadership();
    let (leads, _led) = tokio::sync::watch::channel(None);
    let done = tokio::select! {
        // Never ends: it renews the Lease.
        () = candidate.stand(&leads) => Ok(0),
        done = async {
            tokio::time::sleep(wait).await;
            ask_and_wait(client, &leadership, limit).await
        } => done,
    };
    let left = match done {
        Ok(_) => candidate.leave_held(AFTERWARDS).await,
        Err(_) => candidate.release().await,
    };
    if let Err(error) = left {
        println!("the Lease stays as it is, and runs out by itself: {error}");
    }
    done
}

/// What is asked about again and again.
struct Round<'a> {
    client: &'a Client,
    nodes: Api<DriftNode>,
    leadership: &'a Leadership,
    told: usize,
}

/// The nodes that have not released, and why that may be.
type Waiting = BTreeMap<String, &'static str>;

const READY: &str = "its agent is ready";

async fn ask_and_wait(client: &Client, leadership: &Leadership, limit: Duration) -> Result<usize, ReleaseError> {
    let mut round = Round { client, nodes: Api::all(client.clone()), leadership, told: usize::MAX };
    // Nobody is asked while somebody cannot answer: the others would enforce nothing meanwhile, and in vain.
    until(limit, async || {
        let waiting = round.waiting().await?;
        let silent: Waiting = waiting.into_iter().filter(|(_, why)| *why != READY).collect();
        if silent.is_empty() { Ok(0) } else { Err(ReleaseError::Late(silent)) }
    })
    .await?;
    until(limit, async || {
        let asked = round.ask().await?;
        let waiting = round.waiting().await?;
        if waiting.len() != std::mem::replace(&mut round.told, waiting.len()) {
            println!("{} of {asked} nodes are not released yet", waiting.len());
        }
        if waiting.is_empty() { Ok(asked) } else { Err(ReleaseError::Late(waiting)) }
    })
    .await
}

/// Tries until it is done, or fails with what it failed with last. An API server that stumbles is asked again.
async fn until(
    limit: Duration,
    mut attempt: impl AsyncFnMut() -> Result<usize, ReleaseError>,
) -> Result<usize, ReleaseError> {
    let end = tokio::time::Instant::now() + limit;
    loop {
        match attempt().await {
            Ok(done) => return Ok(done),
            Err(error @ ReleaseError::Lost) => return Err(error),
            Err(error) if tokio::time::Instant::now() >= end => return Err(error),
            Err(ReleaseError::Refused { what, source }) => println!("{what}: {source}; it is tried again"),
            Err(ReleaseError::Late(_)) => {}
        }
        tokio::time::sleep(LOOK).await;
    }
}

impl Round<'_> {
    /// Asks every node that was not asked yet: those that have rules, and those that have an agent which may have some on its disk.
    /// Whatever somebody else was first with is asked again the next time.
    async fn ask(&self) -> Result<usize, ReleaseError> {
        let maps: Api<ConfigMap> = Api::namespaced(self.client.clone(), NODES_NAMESPACE);
        let mut asked = BTreeSet::new();
        let mut page = ListParams::default().limit(PAGE);
        loop {
            let list = maps.list(&page).await.map_err(refused("list the nodes' ConfigMaps"))?;
            for mut map in list.items {
                let is_ours = map.labels().get(MANAGED_BY.0).is_some_and(|by| by == MANAGED_BY.1);
                if !is_ours {
                    continue;
                }
                asked.insert(map.name_any());
                if !map.data.as_ref().is_some_and(asks_for_release) {
                    let data = map.data.get_or_insert_default();
                    data.insert(RELEASE_KEY.to_owned(), RELEASE_VALUE.to_owned());
                    let name = map.name_any();
                    if !self.leadership.holds() {
                        return Err(ReleaseError::Lost);
                    }
                    unless_another_was_first(maps.replace(&name, &PostParams::default(), &map).await)?;
                }
            }
            page.continue_token = list.metadata.continue_.filter(|token| !token.is_empty());
            if page.continue_token.is_none() {
                break;
            }
        }
        for node in
            self.nodes.list_metadata(&ListParams::default()).await.map_err(refused("list the DriftNodes"))?.items
        {
            if asked.insert(node.name_any()) {
                unless_another_was_first(maps.create(&PostParams::default(), &only_release(node)).await)?;
            }
        }
        Ok(asked.len())
    }

    /// Every node with a `DriftNode` or an agent, but those that say that they are released.
    async fn waiting(&self) -> Result<Waiting, ReleaseError> {
        let names = async |params: ListParams| {
            let list = self.nodes.list_metadata(&params).await.map_err(refused("list the DriftNodes"))?;
            Ok::<BTreeSet<String>, ReleaseError>(list.items.iter().map(ResourceExt::name_any).collect())
        };
        let all = names(ListParams::default()).await?;
        let released = names(ListParams::default().fields("status.released=true")).await?;
        let agents = nodes_with_agents(self.client).await?;
        let why = |node: &String| if agents.get(node) == Some(&true) { READY } else { "no agent is ready" };
        let waiting = all.iter().chain(agents.keys()).filter(|node| !released.contains(*node));
        Ok(waiting.map(|node| (node.clone(), why(node))).collect())
    }
}

fn only_release(node: PartialObjectMeta<DriftNode>) -> ConfigMap {
    ConfigMap {
        metadata: ObjectMeta {
            name: node.metadata.name,
            namespace: Some(NODES_NAMESPACE.to_owned()),
            labels: Some(labels()),
            owner_references: node.metadata.owner_references,
            ..ObjectMeta::default()
        },
        data: Some([(RELEASE_KEY.to_owned(), RELEASE_VALUE.to_owned())].into()),
        ..ConfigMap::default()
    }
}

fn unless_another_was_first<T>(done: kube::Result<T>) -> Result<(), ReleaseError> {
    match done {
        Err(kube::Error::Api(status)) if status.code == 409 || status.code == 404 => Ok(()),
        other => other.map(drop).map_err(refused("write a node's ConfigMap")),
    }
}

/// The nodes that an agent is bound to, and whether it is ready.
async fn nodes_with_agents(client: &Client) -> Result<BTreeMap<String, bool>, ReleaseError> {
    let pods: Api<Pod> = Api::namespaced(client.clone(), SYSTEM_NAMESPACE);
    let agents = ListParams::default().labels(&format!("{}={}", AGENT_LABEL.0, AGENT_LABEL.1));
    let mut nodes = BTreeMap::new();
    for pod in pods.list(&agents).await.map_err(refused("list the agents' pods"))?.items {
        if let Change::Agent { node, ready } = Change::from(pod)
            && !node.is_empty()
        {
            *nodes.entry(node).or_default() |= ready;
        }
    }
    Ok(nodes)
}
