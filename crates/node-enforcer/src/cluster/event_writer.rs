//! Writes `DriftEvents`, and Kubernetes Events on their pods.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use k8s_openapi::api::events::v1::Event;
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, Client};
use mooring_crd::DriftEvent;
use mooring_crd::access::admission::BREAKER_POLICY;
use serde_json::json;

use super::connection::{said, within};
use super::desk::{Desk, Job, Outcome};
use super::mailbox::{EventName, Mailbox};
use super::objects::{name_of, pod_event, series};
use super::outcomes;

/// How long it sleeps while nothing waits: somebody rings.
const IDLE: Duration = Duration::from_hours(1);

const EVENTS: &str = "events";
/// Where the breaker is open.
pub(super) const BREAKER: &str = "DriftEvents";

/// Writes until the agent ends, and then once more what may be written at once.
pub(super) async fn write(client: &Client, mailbox: &Mailbox) {
    let begun = Instant::now();
    let mut desk = Desk::new(mailbox.node());
    let mut told = desk.untold();
    let mut outcomes = VecDeque::new();
    loop {
        let waited = desk.next_due(begun.elapsed()).map_or(IDLE, |due| due.saturating_sub(begun.elapsed()));
        let waited = if outcomes.is_empty() { waited } else { waited.min(outcomes::AGAIN) };
        let rung = async { tokio::time::timeout(waited, mailbox.written.notified()).await.is_ok() };
        let ended = mailbox.ended();
        tokio::pin!(rung, ended);
        let ends = matches!(futures::future::select(ended, rung).await, futures::future::Either::Left(_));
        let outgoing = mailbox.take_events();
        desk.add_lost(outgoing.lost);
        for (name, event) in outgoing.events {
            desk.take(name, event);
        }
        if ends {
            desk.end();
        }
        outcomes.extend(outgoing.acted);
        while let Some((name, job)) = desk.next(begun.elapsed()) {
            let outcome = perform(client, mailbox, &job).await;
            let is_written = outcome == Outcome::Done;
            desk.done(&name, &job, outcome, begun.elapsed());
            if is_written {
                tell_pod(client, &mut desk, &job, begun.elapsed()).await;
            }
        }
        outcomes::write(client, mailbox, &mut outcomes, ends).await;
        if desk.untold() != std::mem::replace(&mut told, desk.untold()) {
            mailbox.leave_untold(desk.untold());
        }
        mailbox.say(BREAKER, open_in(&desk, begun.elapsed()));
        if ends {
            return;
        }
    }
}

/// Names at most a few.
fn open_in(desk: &Desk, now: Duration) -> Option<String> {
    let open: Vec<&str> = desk.open(now).collect();
    let more = if open.len() > 8 { ", …" } else { "" };
    let names = open.iter().take(8).copied().collect::<Vec<_>>().join(", ");
    (!open.is_empty()).then(|| {
        format!(
            "more come than the caps allow in {names}{more}: for now they are only counted, here and in the policies' figures"
        )
    })
}

async fn perform(client: &Client, mailbox: &Mailbox, job: &Job) -> Outcome {
    let (Job::Create(event) | Job::Update(event)) = job;
    let (namespace, name) = names(event);
    let api: Api<DriftEvent> = Api::namespaced(client.clone(), &namespace);
    let written = match job {
        Job::Create(event) => match within(api.create(&PostParams::default(), event)).await {
            Err(kube::Error::Api(status)) if status.is_already_exists() => {
                return match within(api.get_opt(&name)).await {
                    Ok(Some(there)) => exists(&there, event),
                    Ok(None) => Outcome::Gone,
                    Err(error) => judge(mailbox, &error, (namespace, name)),
                };
            }
            Err(kube::Error::Api(status)) if status.code == 403 && status.message.contains(BREAKER_POLICY) => {
                return Outcome::BreakerOpen;
            }
            written => written,
        },
        Job::Update(event) => {
            // What it is about cannot change, except for the verdict.
            let patch = json!({"spec": {"verdict": event.spec.verdict}, "status": event.status});
            match within(api.patch(&name, &PatchParams::default(), &Patch::Merge(&patch))).await {
                Err(kube::Error::Api(status)) if status.is_not_found() => return Outcome::Gone,
                written => written,
            }
        }
    };
    match written {
        Ok(_) => {
            mailbox.say(EVENTS, None);
            Outcome::Done
        }
        Err(error) => judge(mailbox, &error, (namespace, name)),
    }
}

fn exists(there: &DriftEvent, own: &DriftEvent) -> Outcome {
    // One without a status was made by hand: it counts nothing.
    let first_seen = there.status.as_ref().or(own.status.as_ref()).map(|status| status.first_seen.clone());
    let count = there.status.as_ref().map_or(0, |status| status.count);
    first_seen.map_or(Outcome::Refused, |first_seen| Outcome::Exists { count, first_seen })
}

fn judge(mailbox: &Mailbox, error: &kube::Error, (namespace, name): EventName) -> Outcome {
    let outcome = match error {
        kube::Error::Api(status) => match status.code {
            400 | 413 | 422 => Outcome::Refused,
            // A namespace that is going away, or roles or definitions that are not there yet.
            403 | 404 | 409 => Outcome::NotNow,
            _ => Outcome::Away,
        },
        _ => Outcome::Away,
    };
    let problem = match outcome {
        Outcome::Away => format!("not written: {}", said(error)),
        _ => format!("DriftEvent {namespace}/{name} was not taken: {}", said(error)),
    };
    mailbox.say(EVENTS, Some(problem));
    outcome
}

fn names(event: &DriftEvent) -> EventName {
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    (text(&event.metadata.namespace), text(&event.metadata.name))
}

/// The Event on the pod is for people who look there: one that is not taken is not tried again before the next count.
async fn tell_pod(client: &Client, desk: &mut Desk, job: &Job, now: Duration) {
    let (Job::Create(event) | Job::Update(event)) = job;
    let Some(status) = &event.status else { return };
    let api: Api<Event> = Api::namespaced(client.clone(), &names(event).0);
    if status.count > 1 {
        if matches!(job, Job::Update(_)) && !desk.may_update(now) {
            return;
        }
        let patch = json!({"series": series(status.count, &status.last_seen)});
        match within(api.patch(&name_of(event), &PatchParams::default(), &Patch::Merge(&patch))).await {
            Err(kube::Error::Api(status)) if status.is_not_found() => {}
            _ => return,
        }
    }
    // An Event's life is an hour or so.
    let _ = within(api.create(&PostParams::default(), &pod_event(event))).await;
}
