//! What the agent's loop and the thread that talks to the API server leave for each other. Both sides keep only the newest of what is
//! the same, so neither can fill up however long the other is away, and no lock is held while anyone waits.

use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use mooring_crd::DriftEvent;
use nix::sys::eventfd::{EfdFlags, EventFd};
use tokio::sync::{Notify, watch};

use super::directory::Directory;
use crate::agent::{Changes, Facts, Rules, Sink, Source, Surroundings};
use crate::containers::Container;
use crate::report::Limits;
use crate::response::Told;

/// Events that wait to be written: more than can be live at once, since those of containers that are gone wait, too.
const WAITING_MAX: usize = 512;

/// A `DriftEvent`'s namespace and name.
pub(super) type EventName = (String, String);

/// Violations that no object tells.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Untold {
    /// For want of room, or because the API server did not take them.
    pub(super) lost: u64,
    /// Because more come than there may be: the breaker is open.
    pub(super) suppressed: u64,
}

/// For the agent's loop.
#[derive(Debug)]
struct Incoming {
    rules: Option<Rules>,
    release: bool,
    directory: Directory,
    resumed: BTreeSet<String>,
}

/// For the API server.
#[derive(Debug, Default)]
pub(super) struct Outgoing {
    pub(super) events: BTreeMap<EventName, DriftEvent>,
    /// Violations that found no room here.
    pub(super) lost: u64,
    /// What has become of containers, and whether the events that say so are among those above.
    pub(super) acted: Vec<(Told, bool)>,
}

/// Both sides.
#[derive(Debug)]
pub(super) struct Mailbox {
    node: String,
    incoming: Mutex<Incoming>,
    bell: EventFd,
    outgoing: Mutex<Outgoing>,
    /// Rung for new events.
    pub(super) written: Notify,
    facts: watch::Sender<Facts>,
    untold: watch::Sender<Untold>,
    ends: watch::Sender<bool>,
    /// The containers that are paused.
    paused: watch::Sender<Vec<Arc<Container>>>,
    /// What is wrong on the API server's side, by what it is about.
    problems: watch::Sender<BTreeMap<&'static str, String>>,
}

/// What was written before a panic is as good as what is written at any other time: there is nothing half done.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Mailbox {
    pub(super) fn new(node: String, directory: Directory) -> std::io::Result<Self> {
        Ok(Self {
            node,
            incoming: Mutex::new(Incoming { rules: None, release: false, directory, resumed: BTreeSet::new() }),
            bell: EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)?,
            outgoing: Mutex::default(),
            written: Notify::new(),
            facts: watch::Sender::default(),
            untold: watch::Sender::default(),
            ends: watch::Sender::default(),
            paused: watch::Sender::default(),
            problems: watch::Sender::default(),
        })
    }

    pub(super) fn node(&self) -> &str {
        &self.node
    }

    /// The newest rules, for the loop.
    pub(super) fn give_rules(&self, rules: Rules) {
        let mut incoming = lock(&self.incoming);
        incoming.rules = Some(rules);
        incoming.release = false;
        drop(incoming);
        self.ring();
    }

    /// The loop is to take everything down, until there are rules again.
    pub(super) fn release(&self) {
        let mut incoming = lock(&self.incoming);
        incoming.rules = None;
        incoming.release = true;
        drop(incoming);
        self.ring();
    }

    /// Changes what is known of pods and namespaces; the loop hears of it.
    pub(super) fn directory<T>(&self, change: impl FnOnce(&mut Directory) -> T) -> T {
        let given = change(&mut lock(&self.incoming).directory);
        self.ring();
        given
    }

    /// What is known of pods and namespaces, when it has changed since `version`.
    pub(super) fn directory_since<T>(&self, version: u64, look: impl FnOnce(&Directory) -> T) -> Option<(u64, T)> {
        let incoming = lock(&self.incoming);
        let now = incoming.directory.version();
        (now != version).then(|| (now, look(&incoming.directory)))
    }

    fn ring(&self) {
        // It is full only when it has been rung.
        let _ = self.bell.write(1);
    }

    /// All events that wait, and how many violations found no room since.
    pub(super) fn take_events(&self) -> Outgoing {
        std::mem::take(&mut lock(&self.outgoing))
    }

    /// The node's state, as the loop tells it.
    pub(super) fn facts(&self) -> watch::Receiver<Facts> {
        self.facts.subscribe()
    }

    pub(super) fn tell(&self, facts: Facts) {
        self.facts.send_replace(facts);
    }

    /// How many violations no object tells so far.
    pub(super) fn leave_untold(&self, untold: Untold) {
        self.untold.send_replace(untold);
    }

    pub(super) fn untold(&self) -> watch::Receiver<Untold> {
        self.untold.subscribe()
    }

    /// Says that all is well with something, or what is wrong. What is new is logged.
    pub(super) fn say(&self, about: &'static str, problem: Option<String>) {
        self.problems.send_if_modified(|problems| {
            if problems.get(about) == problem.as_ref() {
                return false;
            }
            if let Some(problem) = problem {
                eprintln!("{about}: {problem}");
                problems.insert(about, problem);
            } else {
                eprintln!("{about}: well again");
                problems.remove(about);
            }
            true
        });
    }

    pub(super) fn paused(&self) -> watch::Receiver<Vec<Arc<Container>>> {
        self.paused.subscribe()
    }

    /// Somebody asks for the end of a container's pause.
    pub(super) fn resume(&self, container_id: String) {
        lock(&self.incoming).resumed.insert(container_id);
        self.ring();
    }

    pub(super) fn problems(&self) -> watch::Receiver<BTreeMap<&'static str, String>> {
        self.problems.subscribe()
    }

    pub(super) fn end(&self) {
        self.ends.send_replace(true);
    }

    /// When the agent ends.
    pub(super) async fn ended(&self) {
        // The sender lives as long as this.
        let _ = self.ends.subscribe().wait_for(|ends| *ends).await;
    }
}

/// The agent's source of rules in a cluster.
#[derive(Debug)]
pub struct ClusterSource(pub(super) Arc<Mailbox>);

impl Source for ClusterSource {
    fn descriptor(&self) -> BorrowedFd<'_> {
        self.0.bell.as_fd()
    }

    fn changes(&mut self) -> Changes {
        // Nobody has rung: nothing to wait for, and the same is looked at.
        let _ = self.0.bell.read();
        let mut incoming = lock(&self.0.incoming);
        let rules = incoming.rules.take();
        let (pods, namespaces) = incoming.directory.take_changed();
        let resumed = std::mem::take(&mut incoming.resumed);
        Changes { rules, release: incoming.release, refused: None, pods, namespaces, resumed }
    }

    fn surroundings(&self, container: &Container) -> Surroundings {
        lock(&self.0.incoming).directory.surroundings(container, &self.0.node)
    }

    fn without_containers(&mut self, pods: &[&str]) {
        let mut incoming = lock(&self.0.incoming);
        for pod in pods {
            incoming.directory.without_containers(pod);
        }
    }
}

/// The agent's sink in a cluster.
#[derive(Debug)]
pub struct ClusterSink(pub(super) Arc<Mailbox>);

impl Sink for ClusterSink {
    fn limits(&self) -> Limits {
        Limits::default()
    }

    fn take(&mut self, events: Vec<DriftEvent>) {
        if events.is_empty() {
            return;
        }
        let mut outgoing = lock(&self.0.outgoing);
        for mut event in events {
            // A workload chose some of its texts: one that the API server refused would be lost.
            event.fit_for_api_server();
            let name =
                (event.metadata.namespace.clone().unwrap_or_default(), event.metadata.name.clone().unwrap_or_default());
            if outgoing.events.len() >= WAITING_MAX && !outgoing.events.contains_key(&name) {
                let count = event.status.as_ref().map_or(1, |status| status.count);
                outgoing.lost = outgoing.lost.saturating_add(u64::try_from(count).unwrap_or(1));
                continue;
            }
            outgoing.events.insert(name, event);
        }
        drop(outgoing);
        self.0.written.notify_one();
    }

    fn state(&mut self, facts: &Facts) {
        self.0.tell(facts.clone());
    }

    fn acted(&mut self, told: &Told, is_told: bool) {
        let mut outgoing = lock(&self.0.outgoing);
        // The newest count; a container has few outcomes in its life, a node few containers that have any.
        if outgoing.acted.len() >= WAITING_MAX {
            outgoing.acted.remove(0);
        }
        outgoing.acted.push((told.clone(), is_told));
        drop(outgoing);
        self.0.written.notify_one();
    }

    fn paused(&mut self, paused: Vec<Arc<Container>>) {
        self.0.paused.send_replace(paused);
    }
}
