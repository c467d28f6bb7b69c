//! Follows what the agent may see of the API: its own node's rules and pods, and namespaces' metadata.

use std::time::Duration;

use futures::{StreamExt, TryStreamExt};
use k8s_openapi::api::core::v1::{ConfigMap, Namespace};
use kube::api::{WatchEvent, WatchParams};
use kube::core::PartialObjectMeta;
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client, ResourceExt};
use mooring_crd::access::NODES_NAMESPACE;
use mooring_policy::node_rules::asks_for_release;
use tokio::sync::watch;

use super::connection::{said, within};
use super::keep::STATE;
use super::mailbox::Mailbox;
use super::pace::Backoff;
use super::pod::WatchedPod;
use super::rules::{Accepted, accept, is_older};
use super::state::StateFolder;

/// Seconds after which the API server ends a watch.
const WATCH: u32 = 290;
/// How long nothing may come, not even a bookmark: then the other end may be gone without a word.
const SILENCE: Duration = Duration::from_mins(5);
/// A watch that ends at once is not begun again at once.
const PAUSE: Duration = Duration::from_millis(100);

const RULES: &str = "rules";
const CONFIG_MAP: &str = "ConfigMap";

/// Follows the node's `ConfigMap`, from a quorum read on. Never ends.
pub(super) async fn rules(
    client: &Client,
    mailbox: &Mailbox,
    folder: StateFolder,
    keeping: watch::Sender<Option<Accepted>>,
) {
    let api: Api<ConfigMap> = Api::namespaced(client.clone(), NODES_NAMESPACE);
    let mut follower = Follower { mailbox, folder, keeping, newest: String::new() };
    let mut backoff = Backoff::new(Duration::from_millis(500), Duration::from_secs(30), mailbox.node());
    loop {
        match follower.follow(&api, &mut backoff).await {
            Ok(()) => tokio::time::sleep(PAUSE).await,
            Err(error) => {
                mailbox.say("API server", Some(format!("the rules are not followed: {}", said(&error))));
                tokio::time::sleep(backoff.next()).await;
            }
        }
    }
}

struct Follower<'a> {
    mailbox: &'a Mailbox,
    folder: StateFolder,
    keeping: watch::Sender<Option<Accepted>>,
    /// The version that was seen last.
    newest: String,
}

impl Follower<'_> {
    /// One quorum read, and what comes after it. Ends when it has to be read again.
    async fn follow(&mut self, api: &Api<ConfigMap>, backoff: &mut Backoff) -> Result<(), kube::Error> {
        let name = self.mailbox.node();
        let read = within(api.get_opt(name)).await?;
        backoff.reset();
        self.mailbox.say("API server", None);
        let is_there = read.is_some();
        self.newest = read.as_ref().and_then(ResourceExt::resource_version).unwrap_or_default();
        match read {
            Some(map) => self.offer(map),
            None => self.missing(),
        }
        let params = WatchParams::default().fields(&format!("metadata.name={name}")).timeout(WATCH);
        loop {
            let mut events = Box::pin(within(api.watch(&params, &self.newest)).await?);
            // No word for long is an end, too.
            while let Some(event) = tokio::time::timeout(SILENCE, events.try_next()).await.unwrap_or(Ok(None))? {
                match event {
                    // What a watch begins with is not as new as what a read gives.
                    WatchEvent::Added(_) | WatchEvent::Modified(_) if !is_there => return Ok(()),
                    WatchEvent::Added(map) | WatchEvent::Modified(map) => {
                        let version = map.resource_version().unwrap_or_default();
                        if !is_older(&version, &self.newest) {
                            self.newest = version;
                            self.offer(map);
                        }
                    }
                    WatchEvent::Bookmark(bookmark) => self.newest = bookmark.metadata.resource_version,
                    // Read again, whatever it was: gone, or too old to go on from.
                    WatchEvent::Deleted(_) | WatchEvent::Error(_) => return Ok(()),
                }
            }
            if !is_there {
                return Ok(());
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    fn offer(&self, map: ConfigMap) {
        self.mailbox.say(CONFIG_MAP, None);
        let version = map.resource_version();
        let data = map.data.unwrap_or_default();
        if asks_for_release(&data) {
            return self.release();
        }
        match accept(&data, version.as_deref()) {
            Ok(accepted) => {
                self.folder.remember();
                self.mailbox.say(RULES, None);
                self.mailbox.give_rules(accepted.rules.clone());
                self.keeping.send_replace(Some(accepted));
            }
            Err(error) => {
                self.mailbox.say(RULES, Some(format!("refused: {error}; the last good ones stay in force")));
            }
        }
    }

    /// The disk first: an agent that ends amid it must not find there what it is to forget.
    fn release(&self) {
        eprintln!("the operator asks to take everything down, before Mooring is removed");
        self.mailbox.say(STATE, self.folder.forget().err().map(|error| error.to_string()));
        self.mailbox.release();
    }

    fn missing(&self) {
        let problem = format!(
            "there is no ConfigMap {NODES_NAMESPACE}/{}: the operator writes it; see whether it runs. The last good rules stay in force",
            self.mailbox.node()
        );
        self.mailbox.say(CONFIG_MAP, Some(problem));
    }
}

/// Follows this node's pods. Never ends.
pub(super) async fn pods(client: &Client, mailbox: &Mailbox) {
    let api: Api<WatchedPod> = Api::all(client.clone());
    // A page is read as a whole, and tenants write their pods as large as the API server takes them.
    let config = watcher::Config::default().fields(&format!("spec.nodeName={}", mailbox.node())).page_size(20);
    let mut events = Box::pin(watcher(api, config).default_backoff());
    while let Some(event) = events.next().await {
        match event {
            Ok(watcher::Event::Init) => mailbox.directory(super::Directory::pods_begin),
            Ok(watcher::Event::InitApply(pod) | watcher::Event::Apply(pod)) => {
                let Some(uid) = pod.uid() else { continue };
                mailbox.directory(|directory| directory.pod(uid, pod.into()));
            }
            Ok(watcher::Event::Delete(pod)) => {
                let Some(uid) = pod.uid() else { continue };
                mailbox.directory(|directory| directory.pod_gone(&uid));
            }
            Ok(watcher::Event::InitDone) => {
                mailbox.directory(super::Directory::pods_complete);
                mailbox.say("pods", None);
            }
            Err(error) => mailbox.say("pods", Some(format!("not followed: {}", watch_error(&error)))),
        }
    }
}

/// Follows the labels of namespaces. Never ends.
pub(super) async fn namespaces(client: &Client, mailbox: &Mailbox) {
    let api: Api<PartialObjectMeta<Namespace>> = Api::all(client.clone());
    let mut events = Box::pin(watcher(api, watcher::Config::default()).default_backoff());
    while let Some(event) = events.next().await {
        match event {
            Ok(watcher::Event::Init) => mailbox.directory(super::Directory::namespaces_begin),
            Ok(watcher::Event::InitApply(mut namespace) | watcher::Event::Apply(mut namespace)) => {
                let labels = std::mem::take(namespace.labels_mut());
                mailbox.directory(|directory| directory.namespace(&namespace.name_any(), labels));
            }
            Ok(watcher::Event::Delete(namespace)) => {
                mailbox.directory(|directory| directory.namespace_gone(&namespace.name_any()));
            }
            Ok(watcher::Event::InitDone) => {
                mailbox.directory(super::Directory::namespaces_complete);
                mailbox.say("namespaces", None);
            }
            Err(error) => mailbox.say("namespaces", Some(format!("not followed: {}", watch_error(&error)))),
        }
    }
}

fn watch_error(error: &watcher::Error) -> String {
    use watcher::Error::{InitialListFailed, WatchFailed, WatchStartFailed};
    match error {
        InitialListFailed(error) | WatchStartFailed(error) | WatchFailed(error) => said(error),
        other => other.to_string(),
    }
}
