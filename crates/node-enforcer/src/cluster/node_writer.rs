//! Writes the node's `DriftNode`.

use std::time::{Duration, Instant};

use futures::future::{Either, select};
use k8s_openapi::api::core::v1::Node;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{OwnerReference, Time};
use k8s_openapi::jiff::Timestamp;
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, Client, ResourceExt};
use mooring_crd::{DriftNode, DriftNodeSpec, DriftNodeStatus};
use serde_json::json;

use super::connection::{said, within};
use super::mailbox::Mailbox;
use super::node_status::{Fixed, is_urgent, status_of};
use super::pace::{Backoff, Bucket};

/// Figures are written at most so often.
const FIGURES: Duration = Duration::from_secs(30);
/// Changes come in groups: what else changes in this time is in the same write.
const GATHER: Duration = Duration::from_millis(300);

const DRIFT_NODE: &str = "DriftNode";

/// How often it is looked whether the object is there, which anybody may delete.
const LOOK: Duration = Duration::from_mins(5);

/// Writes what changes until the agent ends, and then what is left.
pub(super) async fn write(client: &Client, mailbox: &Mailbox) {
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let fixed = Fixed { version: env!("CARGO_PKG_VERSION").to_owned(), kernel: kernel.trim().to_owned() };
    let mut writer = Writer { client, name: mailbox.node(), there: None };
    let (mut facts, mut problems, mut untold) = (mailbox.facts(), mailbox.problems(), mailbox.untold());
    let begun = Instant::now();
    let mut urgent = Bucket::new(Duration::from_secs(5), 5);
    let mut figures = Bucket::new(FIGURES, 1);
    let mut backoff = Backoff::new(Duration::from_secs(1), Duration::from_mins(1), mailbox.node());
    // Nothing is told before the agent's loop has said something.
    let said_something = async { facts.changed().await.is_ok() };
    if let Either::Right(_) = select(Box::pin(said_something), Box::pin(mailbox.ended())).await
        && mailbox.facts().borrow().is_empty()
    {
        return;
    }
    loop {
        let ends = tokio::time::timeout(GATHER, mailbox.ended()).await.is_ok();
        let before = writer.status();
        let now = Time(Timestamp::now());
        let next = status_of(
            &fixed,
            &facts.borrow_and_update(),
            &problems.borrow_and_update(),
            *untold.borrow_and_update(),
            before,
            &now,
        );
        let is_urgent = before.is_none_or(|before| is_urgent(before, &next));
        let has_changed = before != Some(&next);
        let bucket = if is_urgent { &mut urgent } else { &mut figures };
        let (mut due, mut failed) = (None, None);
        if has_changed && (ends || bucket.take(begun.elapsed())) {
            match writer.write(next).await {
                Ok(()) => {
                    mailbox.say(DRIFT_NODE, None);
                    backoff.reset();
                }
                Err(error) => {
                    mailbox.say(DRIFT_NODE, Some(format!("not written: {}", said(&error))));
                    writer.there = None;
                    failed = Some(backoff.next());
                }
            }
        } else if has_changed {
            due = Some(bucket.ready(begun.elapsed()).saturating_sub(begun.elapsed()));
        }
        if ends {
            return;
        }
        let woken = async {
            if let Some(wait) = failed {
                // While the API server is in trouble, changes are no news.
                return tokio::time::sleep(wait).await;
            }
            let either = select(Box::pin(facts.changed()), Box::pin(problems.changed()));
            let changed = select(either, Box::pin(untold.changed()));
            match due {
                Some(due) => drop(tokio::time::timeout(due, changed).await),
                None if tokio::time::timeout(LOOK, changed).await.is_err() => writer.there = None,
                None => {}
            }
        };
        select(Box::pin(woken), Box::pin(mailbox.ended())).await;
    }
}

struct Writer<'a> {
    client: &'a Client,
    name: &'a str,
    /// As it was read or written last.
    there: Option<DriftNode>,
}

impl Writer<'_> {
    fn status(&self) -> Option<&DriftNodeStatus> {
        self.there.as_ref()?.status.as_ref()
    }

    async fn write(&mut self, mut status: DriftNodeStatus) -> Result<(), kube::Error> {
        let api: Api<DriftNode> = Api::all(self.client.clone());
        let mut node = if let Some(there) = self.there.take() {
            there
        } else {
            let found = self.find(&api).await?;
            // An earlier agent's conditions hold on.
            keep_times(&mut status, found.status.as_ref());
            found
        };
        if node.status.as_ref() == Some(&status) {
            self.there = Some(node);
            return Ok(());
        }
        node.status = Some(status);
        // With the version that was read: what somebody else wrote meanwhile is read first.
        self.there = Some(within(api.replace_status(self.name, &PostParams::default(), &node)).await?);
        Ok(())
    }

    /// The object, made or given to the Node that has its name now.
    async fn find(&self, api: &Api<DriftNode>) -> Result<DriftNode, kube::Error> {
        let nodes: Api<Node> = Api::all(self.client.clone());
        let owner = OwnerReference {
            api_version: "v1".to_owned(),
            kind: "Node".to_owned(),
            name: self.name.to_owned(),
            uid: within(nodes.get(self.name)).await?.uid().unwrap_or_default(),
            ..OwnerReference::default()
        };
        let Some(there) = within(api.get_opt(self.name)).await? else {
            let mut node = DriftNode::new(self.name, DriftNodeSpec::default());
            node.metadata.owner_references = Some(vec![owner]);
            return within(api.create(&PostParams::default(), &node)).await;
        };
        if there.owner_references() == std::slice::from_ref(&owner) {
            return Ok(there);
        }
        // The Node was made anew under its name: with the old one's object it would be collected.
        let patch = json!({"metadata": {"ownerReferences": [owner]}});
        within(api.patch(self.name, &PatchParams::default(), &Patch::Merge(&patch))).await
    }
}

fn keep_times(status: &mut DriftNodeStatus, before: Option<&DriftNodeStatus>) {
    for condition in &mut status.conditions {
        let same = before.and_then(|before| {
            before.conditions.iter().find(|old| old.type_ == condition.type_ && old.status == condition.status)
        });
        if let Some(same) = same {
            condition.last_transition_time = same.last_transition_time.clone();
        }
    }
}
