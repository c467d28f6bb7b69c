//! What is done to one container, step by step.

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use mooring_crd::{ActionResult, ContainerAction, ContainerActionOutcome};
use mooring_policy::{Response, is_due};

use super::cgroup::{Cgroup, CgroupError};
use super::memory::Memory;
use super::stop_signal::StopSignal;
use super::{Told, outcome};
use crate::containers::{Container, Hierarchy};

/// From the stop signal to SIGKILL.
const GRACE: Duration = Duration::from_secs(10);
/// So long the agent's loop waits for an action's effect: nearly always it comes within.
const AT_ONCE: Duration = Duration::from_millis(60);
const LOOK_AT_ONCE: Duration = Duration::from_millis(1);
/// How often it is looked afterwards, for as long as something is likely to happen soon, and then.
const LOOK: Duration = Duration::from_millis(20);
const LOOK_SELDOM: Duration = Duration::from_secs(1);
/// After so long a process that does not end is told of: the kernel cannot end one that waits without being interruptible.
const STUCK: Duration = Duration::from_secs(30);

/// A container that is acted on, or may be.
#[derive(Debug)]
pub(super) struct Life {
    pub(super) container: Arc<Container>,
    cgroup: Cgroup,
    memory: Memory,
    /// Nothing is left to be done: all processes have ended.
    is_over: bool,
    /// As it is told.
    outcome: ContainerActionOutcome,
    /// When the action began, for how long it took. Not the memory's: that is written after.
    begun: Duration,
    looked: Duration,
    told: Vec<Told>,
}

impl Life {
    pub(super) fn open(cgroups: &Hierarchy, container: &Arc<Container>) -> Result<Self, CgroupError> {
        let cgroup = Cgroup::open(cgroups, &container.cgroup, container.cgroup_id)?;
        let memory = Memory::of(&cgroup).unwrap_or_else(|error| {
            eprintln!("container {}: what was done to it before is not known: {error}", container.id);
            Memory::Nothing
        });
        let (action, begun) = match memory {
            Memory::Nothing => (ContainerAction::None, Duration::ZERO),
            Memory::Paused { begun, .. } => (ContainerAction::Pause, begun),
            Memory::Stopping { begun, .. } | Memory::Killed { begun, by_stop: Some(_) } => {
                (ContainerAction::Stop, begun)
            }
            Memory::Killed { begun, by_stop: None } => (ContainerAction::Kill, begun),
        };
        // What an earlier agent has brought to its end is told.
        let is_over = matches!(memory, Memory::Stopping { .. } | Memory::Killed { .. }) && !cgroup.is_populated()?;
        let said = match memory {
            Memory::Paused { .. } => outcome(action, ActionResult::Done, "paused".to_owned(), None),
            _ if is_over => outcome(action, ActionResult::Done, "every process has ended".to_owned(), None),
            _ => outcome(action, ActionResult::UnderWay, "begun by an earlier agent".to_owned(), None),
        };
        Ok(Self {
            container: Arc::clone(container),
            cgroup,
            memory,
            is_over,
            outcome: said,
            begun,
            looked: Duration::ZERO,
            told: Vec::new(),
        })
    }

    pub(super) fn is_touched(&self) -> bool {
        self.memory != Memory::Nothing
    }

    pub(super) fn is_paused(&self) -> bool {
        matches!(self.memory, Memory::Paused { .. })
    }

    pub(super) fn is_due(&self, action: ContainerAction) -> bool {
        is_due(action, self.memory.done())
    }

    pub(super) fn outcome(&self) -> ContainerActionOutcome {
        self.outcome.clone()
    }

    pub(super) fn take_told(&mut self) -> Vec<Told> {
        std::mem::take(&mut self.told)
    }

    /// Begins an action that is due, and waits a moment for its effect.
    pub(super) fn begin(&mut self, asked: Response, stop_signal: StopSignal, now: Duration) {
        let action = asked.action;
        self.begun = now;
        self.is_over = false;
        let begun = match action {
            ContainerAction::None => return,
            ContainerAction::Kill => self.kill(None, now),
            ContainerAction::Stop => self.stop(stop_signal, now),
            ContainerAction::Pause => self.pause(now, asked.pause),
        };
        match begun {
            Ok(()) => {}
            Err(CgroupError::Gone) => self.ended(now),
            Err(error) => {
                // Tried again at the next violation.
                self.undo(now);
                self.say(action, ActionResult::Failed, error.to_string(), None, Some("ContainerActionFailed"));
            }
        }
    }

    /// After a failure nothing stays frozen that is not known to be.
    fn undo(&mut self, now: Duration) {
        let is_frozen = !matches!(self.cgroup.freeze(false), Ok(()) | Err(CgroupError::Gone));
        self.remember(if is_frozen { Memory::Paused { begun: now, until: now } } else { Memory::Nothing });
    }

    fn remember(&mut self, memory: Memory) {
        self.memory = memory;
        if let Err(error) = memory.keep(&self.cgroup)
            && self.cgroup.is_populated().is_ok()
        {
            eprintln!(
                "container {}: what is done to it is remembered as long as this agent runs only: {error}",
                self.container.id
            );
        }
    }

    /// After this signal, where it is by Stop.
    fn kill(&mut self, by_stop: Option<StopSignal>, now: Duration) -> Result<(), CgroupError> {
        let waited = Instant::now();
        let before = self.memory;
        // First: where it takes freezing, and the agent is ended meanwhile, the next one goes on with it.
        self.remember(Memory::Killed { begun: self.begun, by_stop });
        let mut is_complete = self.cgroup.kill().inspect_err(|_| self.memory = before)?;
        loop {
            if !self.cgroup.is_populated()? {
                // Whoever looks at the cgroup later finds it as it was.
                let _ = self.cgroup.freeze(false);
                self.all_dead(now + waited.elapsed());
                return Ok(());
            }
            if waited.elapsed() >= AT_ONCE {
                let said = "SIGKILL was sent to every process".to_owned();
                self.say(killing(by_stop), ActionResult::UnderWay, said, None, None);
                return Ok(());
            }
            thread::sleep(LOOK_AT_ONCE);
            if !is_complete {
                is_complete = self.cgroup.kill()?;
            }
        }
    }

    fn stop(&mut self, signal: StopSignal, now: Duration) -> Result<(), CgroupError> {
        if self.is_paused() {
            // A signal reaches nobody who is frozen.
            self.cgroup.freeze(false)?;
        }
        self.remember(Memory::Stopping { begun: now, until: now + GRACE, signal });
        let Some(pid) = first_process(&self.cgroup, self.container.init_pid)? else {
            return self.kill(Some(signal), now);
        };
        let sent = match self.cgroup.signal(pid, signal.signal()) {
            Ok(true) => format!("{signal} was sent to process {pid}"),
            Ok(false) => format!("process {pid} had ended before {signal} was sent"),
            Err(CgroupError::Gone) => return Err(CgroupError::Gone),
            // It ends all the same, later.
            Err(error) => format!("{signal} could not be sent to process {pid} ({error})"),
        };
        let said = format!("{sent}; what is left after {} s is killed", GRACE.as_secs());
        self.say(ContainerAction::Stop, ActionResult::UnderWay, said, None, None);
        Ok(())
    }

    fn pause(&mut self, now: Duration, pause: Duration) -> Result<(), CgroupError> {
        let waited = Instant::now();
        let before = self.memory;
        // First: when the agent is ended in between, the next one knows that it is to go on.
        self.remember(Memory::Paused { begun: now, until: now + pause });
        self.cgroup.freeze(true).inspect_err(|_| self.memory = before)?;
        while !self.cgroup.is_frozen()? && waited.elapsed() < AT_ONCE {
            thread::sleep(LOOK_AT_ONCE);
        }
        let until = format!("until somebody resumes it, {} s at most", pause.as_secs());
        if self.cgroup.is_frozen()? {
            let said = format!("every process is paused {until}");
            self.say(ContainerAction::Pause, ActionResult::Done, said, Some(waited.elapsed()), Some("ContainerPaused"));
        } else {
            let said = format!("is being paused {until}");
            self.say(ContainerAction::Pause, ActionResult::UnderWay, said, None, Some("ContainerPaused"));
        }
        Ok(())
    }

    /// Goes on with what has begun.
    pub(super) fn turn(&mut self, now: Duration) {
        if self.is_over || self.next_due(now).is_none_or(|due| due > now) {
            return;
        }
        self.looked = now;
        let gone_on = match self.memory {
            Memory::Nothing => Ok(()),
            Memory::Paused { until, .. } => self.look_at_pause(until, now),
            Memory::Stopping { until, signal, .. } => self.look_at_grace(until, signal, now),
            Memory::Killed { by_stop, .. } => self.look_at_rest(by_stop, now),
        };
        match gone_on {
            Ok(()) => {}
            Err(CgroupError::Gone) => self.ended(now),
            Err(error) => eprintln!("container {}: {error}", self.container.id),
        }
    }

    fn look_at_pause(&mut self, until: Duration, now: Duration) -> Result<(), CgroupError> {
        if Memory::of(&self.cgroup).is_ok_and(|kept| kept == Memory::Nothing) {
            self.resumed("by mooring-enforcer resume", now);
        } else if !self.cgroup.is_asked_to_freeze()? {
            self.resumed("by somebody else", now);
        } else if !self.cgroup.is_populated()? {
            self.ended(now);
        } else if now >= until {
            self.resume("when the time was over", now);
        } else if self.outcome.result == ActionResult::UnderWay && self.cgroup.is_frozen()? {
            let took = Some(now.saturating_sub(self.begun));
            let left = until.saturating_sub(now).as_secs();
            let said = format!("every process is paused until somebody resumes it, {left} s more at most");
            self.say(ContainerAction::Pause, ActionResult::Done, said, took, None);
        }
        Ok(())
    }

    fn look_at_grace(&mut self, until: Duration, signal: StopSignal, now: Duration) -> Result<(), CgroupError> {
        if !self.cgroup.is_populated()? {
            self.all_dead(now);
            Ok(())
        } else if now >= until {
            self.kill(Some(signal), now)
        } else {
            Ok(())
        }
    }

    fn look_at_rest(&mut self, by_stop: Option<StopSignal>, now: Duration) -> Result<(), CgroupError> {
        if !self.cgroup.is_populated()? {
            self.all_dead(now);
            return Ok(());
        }
        self.cgroup.kill()?;
        if now.saturating_sub(self.begun) > STUCK + GRACE && self.outcome.result == ActionResult::UnderWay {
            let left = self.cgroup.processes()?.len();
            let said = format!(
                "{left} processes do not end: the kernel waits for something in each; see their stacks in /proc"
            );
            self.say(killing(by_stop), ActionResult::Failed, said, None, Some("ContainerActionFailed"));
        }
        Ok(())
    }

    /// Ends a pause.
    pub(super) fn resume(&mut self, how: &str, now: Duration) {
        if !self.is_paused() {
            return;
        }
        match self.cgroup.freeze(false) {
            Ok(()) => self.resumed(how, now),
            Err(CgroupError::Gone) => self.ended(now),
            // Tried again at the next turn where the time is over; whoever asks sees it in the log.
            Err(error) => eprintln!("container {}: it is not resumed: {error}", self.container.id),
        }
    }

    fn resumed(&mut self, how: &str, now: Duration) {
        self.remember(Memory::Nothing);
        let paused = now.saturating_sub(self.begun).as_secs();
        let took = self.outcome.duration_milliseconds;
        let said = format!("was paused for {paused} s and resumed {how}");
        self.say(ContainerAction::Pause, ActionResult::Done, said, None, Some("ContainerResumed"));
        self.outcome.duration_milliseconds = took;
        if let Some(told) = self.told.last_mut() {
            told.outcome.duration_milliseconds = took;
        }
    }

    /// The cgroup is gone, or empty.
    pub(super) fn ended(&mut self, now: Duration) {
        if self.is_over {
            return;
        }
        match self.memory {
            Memory::Nothing => {}
            Memory::Paused { .. } => {
                self.is_over = true;
                let said = "was paused, and has been ended since".to_owned();
                self.say(ContainerAction::Pause, ActionResult::Done, said, None, None);
                self.memory = Memory::Nothing;
            }
            Memory::Stopping { .. } | Memory::Killed { .. } => self.all_dead(now),
        }
    }

    fn all_dead(&mut self, now: Duration) {
        self.is_over = true;
        let took = now.saturating_sub(self.begun);
        let (action, said, reason) = match self.memory {
            Memory::Killed { by_stop: None, .. } | Memory::Nothing | Memory::Paused { .. } => {
                (ContainerAction::Kill, "every process was killed".to_owned(), "ContainerKilled")
            }
            Memory::Killed { by_stop: Some(signal), .. } => {
                let said = format!("what had not ended after {signal} was killed");
                (ContainerAction::Stop, said, "ContainerStopped")
            }
            Memory::Stopping { signal, .. } => {
                (ContainerAction::Stop, format!("every process ended after {signal}"), "ContainerStopped")
            }
        };
        self.say(action, ActionResult::Done, said, Some(took), Some(reason));
    }

    fn say(
        &mut self,
        action: ContainerAction,
        result: ActionResult,
        said: String,
        took: Option<Duration>,
        reason: Option<&'static str>,
    ) {
        eprintln!("container {} ({}): {action} {result}: {said}", self.container.id, self.container.name);
        self.outcome = outcome(action, result, said, took);
        self.told.push(Told { container: Arc::clone(&self.container), outcome: self.outcome.clone(), reason });
    }

    /// When [`Life::turn`] has something to do next.
    pub(super) fn next_due(&self, now: Duration) -> Option<Duration> {
        if self.is_over {
            return None;
        }
        let soon = |since: Duration| {
            let pause = if now.saturating_sub(since) < STUCK + GRACE { LOOK } else { LOOK_SELDOM };
            self.looked + pause
        };
        match self.memory {
            Memory::Nothing => None,
            Memory::Paused { until, .. } if self.outcome.result == ActionResult::Done => {
                Some(until.min(self.looked + LOOK_SELDOM).max(self.looked + LOOK))
            }
            Memory::Paused { begun, .. } | Memory::Stopping { begun, .. } | Memory::Killed { begun, .. } => {
                Some(soon(begun))
            }
        }
    }
}

fn killing(by_stop: Option<StopSignal>) -> ContainerAction {
    if by_stop.is_some() { ContainerAction::Stop } else { ContainerAction::Kill }
}

/// The container's first process: the runtime's word, or the one that is process 1 of its namespace, or one that none of the others has
/// started.
fn first_process(cgroup: &Cgroup, said: Option<u32>) -> Result<Option<u32>, CgroupError> {
    let all = cgroup.processes()?;
    if let Some(pid) = said.filter(|pid| all.contains(pid)) {
        return Ok(Some(pid));
    }
    let status = |pid: u32, key: &str| {
        let text = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        let line = text.lines().find_map(|line| line.strip_prefix(key)).unwrap_or_default();
        line.split_whitespace().last().and_then(|word| word.parse::<u32>().ok())
    };
    let is_first = |pid: &&u32| status(**pid, "NSpid:") == Some(1);
    let is_from_outside = |pid: &&u32| status(**pid, "PPid:").is_some_and(|parent| !all.contains(&parent));
    Ok(all.iter().find(is_first).or_else(|| all.iter().find(is_from_outside)).copied())
}
