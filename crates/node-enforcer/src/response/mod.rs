//! What is done to a container whose policies ask for it: Kill, Stop, Pause.
//!
//! It works on the container's cgroup, not through a runtime's socket, which the agent does not have. [`Responder`] is told of
//! violations, asked again by the agent's loop as time goes on, and tells what has become of each container. Time is an argument: that since the
//! machine's start, which goes on while no agent is there.

mod cgroup;
mod life;
mod memory;
mod protect;
mod resume;
mod stop_signal;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use mooring_crd::{ActionResult, ContainerAction, ContainerActionOutcome, Switch};
use mooring_policy::{Response, Switches};
use nix::time::{ClockId, clock_gettime};

pub use cgroup::{Cgroup, CgroupError};
pub use memory::Memory;
pub use protect::{ProtectedPod, is_static};
pub use resume::{ResumeError, resume, resume_all};
pub use stop_signal::{StopSignal, UnknownSignal};

use crate::containers::{Container, Hierarchy};
use crate::descriptors;
use life::Life;

/// The time since the machine's start, its sleep included.
#[must_use]
pub fn since_start() -> Duration {
    // Every Linux since 2.6.39 has this clock.
    clock_gettime(ClockId::CLOCK_BOOTTIME).map_or(Duration::ZERO, Duration::from)
}

/// What has become of a container since it was told last.
#[derive(Debug, Clone)]
pub struct Told {
    /// Which one.
    pub container: Arc<Container>,
    /// For its events.
    pub outcome: ContainerActionOutcome,
    /// For people who look at its pod: one word; nothing where it is no news.
    pub reason: Option<&'static str>,
}

/// What the responder makes of a violation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// For its events.
    pub outcome: ContainerActionOutcome,
    /// The field of the configuration that held the action back.
    pub by: Option<Switch>,
}

/// Does what policies ask for, once in each container's life.
#[derive(Debug)]
pub struct Responder {
    cgroups: Hierarchy,
    switches: Switches,
    protected: Vec<ProtectedPod>,
    lives: BTreeMap<u64, Life>,
    told: Vec<Told>,
}

impl Answer {
    /// Of a container of which it is not known, or not yet, whether the policies that ask for an action are for it.
    #[must_use]
    pub fn not_yet(action: ContainerAction) -> Self {
        let why = "held back: it was not known whether the policy is for this pod".to_owned();
        Self { outcome: outcome(action, ActionResult::HeldBack, why, None), by: None }
    }
}

impl Responder {
    /// A responder to containers that are known by their cgroups in this hierarchy. It holds a descriptor of each that may be acted on, so the process is allowed
    /// as many as it may have.
    #[must_use]
    pub fn new(cgroups: Hierarchy) -> Self {
        // Beyond the limit a cgroup is opened when there is something to do.
        descriptors::allow_most();
        Self { cgroups, switches: Switches::default(), protected: Vec::new(), lives: BTreeMap::new(), told: Vec::new() }
    }

    /// What holds it back from now on. What has begun goes on.
    pub fn configure(&mut self, switches: Switches, protected: Vec<ProtectedPod>) {
        self.switches = switches;
        self.protected = protected;
    }

    /// A container is known, and policies that are for it may act on it (`acts`): its cgroup is held from now on. What an earlier agent has
    /// begun goes on.
    pub fn entered(&mut self, container: &Arc<Container>, acts: bool) {
        if let Some(life) = self.lives.get_mut(&container.cgroup_id) {
            life.container = Arc::clone(container);
            return;
        }
        match Life::open(&self.cgroups, container) {
            Ok(life) if acts || life.is_touched() => {
                self.lives.insert(container.cgroup_id, life);
            }
            // Another try is made when there is something to do.
            Ok(_) | Err(CgroupError::Gone) => {}
            Err(error) if acts => eprintln!("container {}: {error}", container.id),
            Err(_) => {}
        }
    }

    /// A container's policies are violated, and ask for this together; where it is to be stopped, by this signal. None: for nothing.
    pub fn violated(
        &mut self,
        container: &Arc<Container>,
        asked: Response,
        stop_signal: StopSignal,
        now: Duration,
    ) -> Option<Answer> {
        let action = asked.action;
        if action == ContainerAction::None {
            return None;
        }
        if let Some((by, why)) = self.held_back(container) {
            // What was done before the switch was turned on is told on.
            if let Some(life) = self.lives.get(&container.cgroup_id).filter(|life| !life.is_due(action)) {
                return Some(Answer { outcome: life.outcome(), by: None });
            }
            return Some(Answer { outcome: outcome(action, ActionResult::HeldBack, why, None), by });
        }
        let id = container.cgroup_id;
        if !self.lives.contains_key(&id) {
            match Life::open(&self.cgroups, container) {
                Ok(life) => drop(self.lives.insert(id, life)),
                Err(CgroupError::Gone) => {
                    let gone = "the container had ended before".to_owned();
                    return Some(Answer { outcome: outcome(action, ActionResult::Done, gone, None), by: None });
                }
                Err(error) => {
                    let failed = outcome(action, ActionResult::Failed, error.to_string(), None);
                    return Some(Answer { outcome: failed, by: None });
                }
            }
        }
        let life = self.lives.get_mut(&id)?;
        if life.is_due(action) {
            life.begin(asked, stop_signal, now);
            self.told.extend(life.take_told());
        }
        Some(Answer { outcome: life.outcome(), by: None })
    }

    /// The switch or the rule that keeps a container from being acted on, and how it is said.
    fn held_back(&self, container: &Container) -> Option<(Option<Switch>, String)> {
        if let Some(switch) = self.switches.holds_back_container_actions() {
            return Some((Some(switch), format!("held back: {switch} is on in the agent's configuration")));
        }
        if protect::is_own(container) {
            return Some((None, "held back: the agent runs in this container".to_owned()));
        }
        let protected = self.protected.iter().any(|pods| pods.covers(container));
        protected.then(|| {
            let switch = Switch::ProtectedPods;
            (Some(switch), format!("held back: {switch} in the agent's configuration has this pod"))
        })
    }

    /// Goes on with what has begun.
    pub fn turn(&mut self, now: Duration) {
        for life in self.lives.values_mut() {
            life.turn(now);
            self.told.extend(life.take_told());
        }
    }

    /// Ends a container's pause: somebody asks for it.
    pub fn resume(&mut self, container_id: &str, now: Duration) {
        for life in self.lives.values_mut().filter(|life| life.container.id == container_id) {
            life.resume("by an annotation on its DriftEvent", now);
            self.told.extend(life.take_told());
        }
    }

    /// A container's cgroup is gone.
    pub fn released(&mut self, cgroup: u64, now: Duration) {
        if let Some(mut life) = self.lives.remove(&cgroup) {
            life.ended(now);
            self.told.extend(life.take_told());
        }
    }

    /// Mooring is being removed: nothing stays paused.
    pub fn release(&mut self, now: Duration) {
        for life in self.lives.values_mut() {
            life.resume("because Mooring is being removed", now);
            self.told.extend(life.take_told());
        }
    }

    /// What has become of containers since this was asked last.
    pub fn take_told(&mut self) -> Vec<Told> {
        std::mem::take(&mut self.told)
    }

    /// When [`Responder::turn`] has something to do next.
    #[must_use]
    pub fn next_due(&self, now: Duration) -> Option<Duration> {
        self.lives.values().filter_map(|life| life.next_due(now)).min()
    }

    /// The containers that are paused.
    pub fn paused(&self) -> impl Iterator<Item = &Arc<Container>> {
        self.lives.values().filter(|life| life.is_paused()).map(|life| &life.container)
    }
}

fn outcome(
    action: ContainerAction,
    result: ActionResult,
    outcome: String,
    took: Option<Duration>,
) -> ContainerActionOutcome {
    let milliseconds = |took: Duration| i64::try_from(took.as_millis()).unwrap_or(i64::MAX);
    ContainerActionOutcome { action, result, outcome, duration_milliseconds: took.map(milliseconds) }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::MetadataExt;

    use super::*;
    use crate::containers::scratch::Scratch;
    use crate::report::tests::container;

    const PAUSE: Response = Response { action: ContainerAction::Pause, pause: Duration::from_mins(1) };

    fn rig(scratch: &Scratch, cgroups: Hierarchy) -> (Responder, Arc<Container>) {
        scratch.write("cgroup/pod/c/cgroup.procs", "");
        let cgroup_id = fs::metadata(scratch.at("cgroup/pod/c")).unwrap().ino();
        let container = Container { cgroup: "/pod/c".to_owned(), cgroup_id, ..container("c") };
        (Responder::new(Hierarchy { mount: scratch.at("cgroup"), ..cgroups }), Arc::new(container))
    }

    fn pause(responder: &mut Responder, container: &Arc<Container>) -> ContainerActionOutcome {
        responder.violated(container, PAUSE, StopSignal::default(), Duration::from_secs(1)).unwrap().outcome
    }

    #[test]
    fn a_pause_that_fails_leaves_nothing_frozen_that_is_not_known_to_be() {
        let scratch = Scratch::new();
        let (mut responder, container) = rig(&scratch, Hierarchy::default());
        let freeze = scratch.write("cgroup/pod/c/cgroup.freeze", "0");
        // Without cgroup.events nobody can say whether it is frozen.
        assert_eq!(pause(&mut responder, &container).result, ActionResult::Failed);
        assert_eq!(fs::read_to_string(&freeze).unwrap(), "0");
        assert_eq!(responder.paused().count(), 0);
        // It is tried again; what cannot be let go on is known, and is let go on when it can be.
        fs::remove_file(&freeze).unwrap();
        assert_eq!(pause(&mut responder, &container).result, ActionResult::Failed);
        assert_eq!(responder.paused().count(), 1);
        fs::write(&freeze, "1").unwrap();
        scratch.write("cgroup/pod/c/cgroup.events", "populated 1\nfrozen 1\n");
        responder.turn(Duration::from_secs(2));
        assert_eq!((fs::read_to_string(&freeze).unwrap().as_str(), responder.paused().count()), ("0", 0));
    }

    #[test]
    fn version_1_pauses_by_its_freezer_where_it_has_one() {
        let scratch = Scratch::new();
        let controller = Some((8, "pids".to_owned()));
        let (mut responder, container) =
            rig(&scratch, Hierarchy { controller, freezer: Some(scratch.at("freezer")), ..Hierarchy::default() });
        let failed = pause(&mut responder, &container);
        assert_eq!(failed.result, ActionResult::Failed);
        assert!(failed.outcome.contains("freezer/pod/c to freeze it by: mount the freezer's hierarchy"), "{failed:?}");
        assert_eq!(responder.paused().count(), 0);
        let state = scratch.write("freezer/pod/c/freezer.state", "THAWED");
        assert_eq!(pause(&mut responder, &container).result, ActionResult::Done);
        assert_eq!(fs::read_to_string(&state).unwrap(), "FROZEN");
        responder.resume("c", Duration::from_secs(2));
        assert_eq!((fs::read_to_string(&state).unwrap().as_str(), responder.paused().count()), ("THAWED", 0));
    }

    /// What the responder tells of a Stop whose only process ends when it is to.
    fn stopped(scratch: &Scratch, signal: StopSignal, ends: bool) -> Vec<String> {
        let (mut responder, container) = rig(scratch, Hierarchy::default());
        // A process that is elsewhere gets no signal.
        scratch.write("cgroup/pod/c/cgroup.procs", format!("{}\n", std::process::id()));
        scratch.write("cgroup/pod/c/cgroup.events", "populated 1\n");
        scratch.write("cgroup/pod/c/cgroup.kill", "");
        let stop = Response { action: ContainerAction::Stop, ..Response::default() };
        let begun = responder.violated(&container, stop, signal, Duration::from_secs(1)).unwrap().outcome;
        assert_eq!((begun.action, begun.result), (ContainerAction::Stop, ActionResult::UnderWay));
        if !ends {
            responder.turn(Duration::from_secs(11));
        }
        scratch.write("cgroup/pod/c/cgroup.events", "populated 0\n");
        responder.turn(Duration::from_secs(12));
        responder.take_told().into_iter().map(|told| told.outcome.outcome).collect()
    }

    #[test]
    fn a_stop_says_which_signal_it_is() {
        // It is in no such cgroup.
        let pid = std::process::id();
        for name in ["SIGTERM", "SIGUSR1", "SIGRTMIN+3"] {
            let told = stopped(&Scratch::new(), name.parse().unwrap(), true);
            let sent = format!("process {pid} had ended before {name} was sent; what is left after 10 s is killed");
            assert_eq!(told, [sent.as_str(), &format!("every process ended after {name}")]);
            let told = stopped(&Scratch::new(), name.parse().unwrap(), false);
            let killed = format!("what had not ended after {name} was killed");
            assert_eq!(told, [sent.as_str(), "SIGKILL was sent to every process", &killed]);
        }
    }
}
