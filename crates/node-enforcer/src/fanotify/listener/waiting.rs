//! Executions that wait for a comparison, and what is compared next.

use std::fs::File;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use mooring_policy::{Class, Name};
use nix::sys::fanotify::FanotifyEvent;

use super::super::decide::name_of;
use super::super::wire::Tracked;
use super::super::work::{Job, Key};
use super::{Answer, Listener};

/// How long an exec may wait for a comparison. What takes longer is refused for now, and remembered when it is known.
pub(super) const COMPARE: Duration = Duration::from_millis(300);
/// Comparisons of one container that the workers have at a time, and those that are known of.
const ASKED_MAX: usize = 2;
const WAITING_MAX: usize = 64;

pub(super) struct Waiting {
    pub(super) events: Vec<FanotifyEvent>,
    /// Until when they may wait; None: there are none any more.
    pub(super) until: Option<Instant>,
    /// What they are answered if it takes too long.
    late: Answer,
    /// Whose file it is.
    cgroup: u64,
    /// What the workers have not been given yet.
    job: Option<Job>,
}

impl Listener {
    pub(super) fn examine(&mut self, event: FanotifyEvent, key: Key, container: &Arc<Tracked>, path: PathBuf) {
        let unknown = self.judge(container, &key.0, Class::ModifiedBinary, Name::Path(&name_of(&path)), None);
        let file = event.fd().and_then(|descriptor| descriptor.try_clone_to_owned().ok()).map(File::from);
        let cgroup = container.cgroup;
        let of_it = || self.waiting.values().filter(move |waiting| waiting.cgroup == cgroup);
        let (Some(file), true) = (file, of_it().count() < WAITING_MAX) else {
            return self.settle(event, key, unknown, false);
        };
        let job = Job { key: key.clone(), container: Arc::clone(container), file, path };
        // One container keeps no other waiting: what is more waits here.
        let is_turn = of_it().filter(|waiting| waiting.job.is_none()).count() < ASKED_MAX;
        let job = if is_turn { self.workers.ask(job) } else { Some(job) };
        let until = Some(Instant::now() + COMPARE);
        self.waiting.insert(key, Waiting { events: vec![event], until, late: unknown, cgroup, job });
    }

    /// A job of the container's is done: the next one.
    pub(super) fn examine_next(&mut self, cgroup: u64) {
        let of_it = self.waiting.values_mut().filter(|waiting| waiting.cgroup == cgroup && waiting.job.is_some());
        if let Some(waiting) = of_it.min_by_key(|waiting| waiting.until) {
            waiting.job = waiting.job.take().and_then(|job| self.workers.ask(job));
        }
    }

    /// Nothing waits longer than it may.
    pub(super) fn give_up_waiting(&mut self) {
        let now = Instant::now();
        let late = self.waiting.iter().filter(|(_, waiting)| waiting.until.is_some_and(|until| until <= now));
        let late: Vec<_> = late.map(|(key, _)| key.clone()).collect();
        for key in late {
            let Some(mut waiting) = self.waiting.remove(&key) else { continue };
            waiting.until = None;
            for event in std::mem::take(&mut waiting.events) {
                self.answer(&event, &waiting.late);
            }
            // What the workers have is remembered when it is known.
            if waiting.job.is_none() {
                self.waiting.insert(key, waiting);
            }
        }
    }
}
