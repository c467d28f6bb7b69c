//! What has become of containers that were acted on: Events on their pods, and `DriftEvents` that an earlier agent wrote; and whether somebody
//! asks for the end of a pause.

use std::collections::VecDeque;
use std::time::Duration;

use futures::future::{Either, select};
use k8s_openapi::api::events::v1::Event;
use kube::api::{ListParams, Patch, PatchParams, PostParams};
use kube::{Api, Client, ResourceExt};
use mooring_crd::{DriftEvent, RESUME_ANNOTATION};
use serde_json::{Value, json};

use super::connection::{said, within};
use super::mailbox::Mailbox;
use super::objects::outcome_event;
use crate::containers::Container;
use crate::response::Told;

/// How often what could not be told is tried again.
pub(super) const AGAIN: Duration = Duration::from_secs(5);
/// How often it is looked whether somebody asks for the end of a pause, while anything is paused.
const LOOK: Duration = Duration::from_secs(5);
/// Outcomes that wait while the API server is away.
const WAITING_MAX: usize = 512;

const ACTIONS: &str = "container actions";

/// Writes what waits, in its order; what the API server is not there for stays.
pub(super) async fn write(client: &Client, mailbox: &Mailbox, waiting: &mut VecDeque<(Told, bool)>, ends: bool) {
    while waiting.len() > WAITING_MAX {
        waiting.pop_front();
    }
    while let Some((told, is_told)) = waiting.front() {
        match tell(client, mailbox, told, *is_told).await {
            Ok(()) => mailbox.say(ACTIONS, None),
            Err(error) => {
                mailbox.say(ACTIONS, Some(format!("not told of: {}", said(&error))));
                // A refusal is for good: a namespace that is gone, say.
                let is_refused = matches!(&error, kube::Error::Api(status) if (400..500).contains(&status.code));
                if !is_refused || ends {
                    return;
                }
            }
        }
        waiting.pop_front();
    }
}

async fn tell(client: &Client, mailbox: &Mailbox, told: &Told, is_told: bool) -> Result<(), kube::Error> {
    let namespace = &told.container.namespace;
    if !is_told {
        for event in events_of(client, mailbox, &told.container).await? {
            if event.status.as_ref().is_none_or(|status| status.container_action.is_none()) {
                continue;
            }
            let api: Api<DriftEvent> = Api::namespaced(client.clone(), namespace);
            change(&api, &event, &json!({"status": {"containerAction": told.outcome}})).await?;
        }
    }
    let Some(reason) = told.reason else { return Ok(()) };
    let api: Api<Event> = Api::namespaced(client.clone(), namespace);
    match within(api.create(&PostParams::default(), &outcome_event(told, reason, mailbox.node()))).await {
        Err(kube::Error::Api(status)) if status.is_already_exists() => Ok(()),
        written => written.map(drop),
    }
}

/// The `DriftEvents` of a container, whoever wrote them.
async fn events_of(client: &Client, mailbox: &Mailbox, container: &Container) -> Result<Vec<DriftEvent>, kube::Error> {
    let api: Api<DriftEvent> = Api::namespaced(client.clone(), &container.namespace);
    let fields =
        format!("spec.node={},spec.pod.name={},spec.container={}", mailbox.node(), container.pod, container.name);
    let mut found = within(api.list(&ListParams::default().fields(&fields))).await?.items;
    found.retain(|event| event.spec.container_id == container.id);
    Ok(found)
}

async fn change(api: &Api<DriftEvent>, event: &DriftEvent, patch: &Value) -> Result<(), kube::Error> {
    within(api.patch(&event.name_any(), &PatchParams::default(), &Patch::Merge(patch))).await.map(drop)
}

/// Looks whether somebody asks for the end of a pause, while anything is paused. Never ends.
pub(super) async fn look_for_resumes(client: &Client, mailbox: &Mailbox) {
    let mut paused = mailbox.paused();
    loop {
        let now = paused.borrow_and_update().clone();
        if now.is_empty() {
            // The sender lives as long as the mailbox.
            let _ = paused.changed().await;
            continue;
        }
        for container in now {
            match take_request(client, mailbox, &container).await {
                Ok(true) => mailbox.resume(container.id.clone()),
                Ok(false) => {}
                Err(error) => {
                    mailbox.say(ACTIONS, Some(format!("{RESUME_ANNOTATION} is not looked for: {}", said(&error))));
                }
            }
        }
        let pause = Box::pin(tokio::time::sleep(LOOK));
        if let Either::Right(_) = select(Box::pin(paused.changed()), pause).await {}
    }
}

/// Takes the annotation away before the container goes on: it ends one pause, not those that may follow.
async fn take_request(client: &Client, mailbox: &Mailbox, container: &Container) -> Result<bool, kube::Error> {
    let api: Api<DriftEvent> = Api::namespaced(client.clone(), &container.namespace);
    let mut is_asked = false;
    for event in events_of(client, mailbox, container).await? {
        if event.annotations().contains_key(RESUME_ANNOTATION) {
            change(&api, &event, &json!({"metadata": {"annotations": {RESUME_ANNOTATION: null}}})).await?;
            is_asked = true;
        }
    }
    Ok(is_asked)
}
