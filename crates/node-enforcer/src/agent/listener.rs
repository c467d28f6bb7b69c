//! The backend `Fanotify`, as the loop has it: its listener, and what becomes of it.

use std::io;
use std::os::fd::BorrowedFd;
use std::path::Path;
use std::time::{Duration, Instant};

use mooring_policy::RuleSet;

use super::run::{Agent, AgentError, system};
use crate::containers::Container;
use crate::fanotify::{self, Heard, Link};
use crate::kernel::Kernel;

/// How long it is told of a listener that ended.
const TOLD: Duration = Duration::from_mins(10);

/// A listener, and what was last said of it.
pub(super) struct Listener {
    link: Link,
    generation: u64,
    ended: Option<Instant>,
}

impl Listener {
    /// Starts one.
    ///
    /// # Errors
    /// When it does not begin.
    pub(super) fn start(kernel: &Kernel, pin_dir: &Path) -> Result<Self, AgentError> {
        let link = Link::start(Path::new("/proc/self/exe"), pin_dir, kernel.prover());
        let link = link.map_err(system::<io::Error>("start the Fanotify listener"))?;
        Ok(Self { link, generation: 0, ended: None })
    }

    pub(super) fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        self.link.descriptor()
    }

    /// Whether it has to be looked after soon.
    pub(super) fn is_busy(&self) -> bool {
        self.link.is_pending() || !self.link.is_listening()
    }

    pub(super) fn enter(&mut self, container: &Container, member: u64) {
        self.link.enter(container, member);
    }

    pub(super) fn leave(&mut self, cgroup: u64) {
        self.link.leave(cgroup);
    }

    pub(super) fn rules(&mut self, rules: &RuleSet, generation: u64, members: impl IntoIterator<Item = (u64, u64)>) {
        self.generation = generation;
        self.link.rules(rules, generation, members.into_iter());
    }

    pub(super) fn end(self) {
        self.link.end();
    }

    /// What is wrong with it, or was a moment ago.
    pub(super) fn problem(&self) -> Option<String> {
        let beneath = "while there is none, drifted programs are killed, not refused";
        if !self.link.is_listening() {
            return Some(format!("there is no Fanotify listener, and one is started: {beneath}"));
        }
        self.ended.filter(|when| when.elapsed() < TOLD).map(|_| {
            format!("the Fanotify listener had to be started anew, {} times so far: {beneath}; look at the agent's log, and whether the node has processor time for it", self.link.ended())
        })
    }
}

impl Agent {
    /// Those of earlier agents, when this one knows what they knew; what they had not told is told now.
    pub(super) fn end_other_listeners(&mut self) {
        match &self.listener {
            Some(listener) => {
                let told = listener.link.end_others();
                self.heard(told);
            }
            None => fanotify::release(&self.options.pin_dir),
        }
    }

    /// What it has refused, and whether it still listens.
    pub(super) fn hear_listener(&mut self) {
        let heard = self.listener.as_mut().map(|listener| listener.link.turn());
        self.heard(heard.unwrap_or_default());
    }

    fn heard(&mut self, heard: Vec<Heard>) {
        for heard in heard {
            match heard {
                Heard::Denied(record, count) => self.reporter.refused(*record, count, &self.roster),
                Heard::Lost(count) => self.reporter.lost_elsewhere(count),
                Heard::Uncovered(cgroup, problem) => {
                    let id = self.roster.get(cgroup).map_or("?", |known| &known.container.id);
                    eprintln!("container {id}: drifted programs are killed, not refused: {problem}");
                }
                Heard::Ended(how) => {
                    eprintln!(
                        "the Fanotify listener ended ({how}); another one is started, until then drifted programs are killed, not refused"
                    );
                    self.tell_listener_everything();
                }
            }
        }
    }

    fn tell_listener_everything(&mut self) {
        let Some(listener) = &mut self.listener else { return };
        listener.ended = Some(Instant::now());
        let members = self.roster.all().map(|(cgroup, known)| (cgroup, known.member.bits()));
        listener.link.rules(&self.rules, listener.generation, members);
        for (_, known) in self.roster.all() {
            listener.enter(&known.container, known.member.bits());
        }
    }
}
