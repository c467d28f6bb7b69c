//! The loop: kernel records, policy edits, signals, and what is due.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io;
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::rc::Rc;
use std::time::{Duration, Instant};

use libbpf_rs::{RingBuffer, RingBufferBuilder};
use mooring_crd::{Backend, SelfTest};
use mooring_policy::RuleSet;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

mod configure;
mod containers;
mod force;

use super::facts::Facts;
use super::links::PathNumbers;
use super::listener::Listener;
use super::membership::UnknownContainers;
use super::proofs::Proofs;
use super::release::stay_released;
use super::reporter::Reporter;
use super::room::Shortage;
use super::roster::Roster;
use super::signals::Signals;
use super::sink::Sink;
use super::source::{Rules, Source};
use super::start::{First, Loaded, first_rules, load_best};
use crate::check::{self, BackendChoice};
use crate::config::Configured;
use crate::containers::FinderConfig;
use crate::kernel::pins::Pins;
use crate::kernel::{Kernel, KernelError, Lifecycle, Record};
use crate::policies::{LoadErrors, WatchError};
use crate::response::{Responder, since_start};

/// How long the loop sleeps, in milliseconds: while something is half done, while counts are due, and at most.
const SLEEP_BUSY: u16 = 20;
const SLEEP_DUE: u16 = 200;
const SLEEP_IDLE: u16 = 1000;
/// How often it is looked whether an agent of another wire version has left something in force.
const LEFT_BEHIND: Duration = Duration::from_secs(30);
/// How often it is looked whether the node's state has changed.
const STATE: Duration = Duration::from_secs(1);

/// How the agent runs.
#[derive(Debug, Clone)]
pub struct Options {
    /// Where links and maps are pinned.
    pub pin_dir: PathBuf,
    /// See [`UnknownContainers`].
    pub unknown_containers: UnknownContainers,
    /// See [`BackendChoice`].
    pub backend: BackendChoice,
    /// The node's name in events.
    pub node: String,
}

/// Why the agent ended.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    /// The first set of policies was refused.
    #[error(transparent)]
    Policies(#[from] LoadErrors),
    /// The policies cannot be watched.
    #[error(transparent)]
    Watch(#[from] WatchError),
    /// The kernel part failed.
    #[error(transparent)]
    Kernel(#[from] KernelError),
    /// Nothing that this version has refuses an execution on this kernel.
    #[error("no backend can be used: {problems}")]
    NoBackend {
        /// What is in the way of each.
        problems: String,
    },
    /// This kernel does not refuse what it must, or refuses what it must not.
    #[error("{problems}")]
    SelfTest {
        /// What went wrong.
        problems: String,
    },
    /// The system refused something that the loop needs.
    #[error("{what}: {source}")]
    System {
        /// What was tried.
        what: &'static str,
        /// The system's answer.
        source: io::Error,
    },
}

pub(super) fn system<E: Into<io::Error>>(what: &'static str) -> impl FnOnce(E) -> AgentError {
    move |error| AgentError::System { what, source: error.into() }
}

/// How an agent ended.
#[derive(Debug)]
pub enum Ended {
    /// By a signal.
    Asked,
    /// It is no longer in force: another one has taken over, or enforcement was released.
    Relieved(Signals),
}

/// The running agent.
pub struct Agent {
    pub(super) options: Options,
    signals: Signals,
    source: Box<dyn Source>,
    pins: Pins,
    kernel: Kernel,
    /// As the source gave them.
    given: Rules,
    /// The same rules, and what their prohibited paths lead to.
    pub(super) rules: RuleSet,
    revision: u64,
    pub(super) roster: Roster,
    path_numbers: PathNumbers,
    pub(super) reporter: Reporter,
    proofs: Proofs,
    /// With the backend `Fanotify`.
    pub(super) listener: Option<Listener>,
    shortage: Shortage,
    configured: Configured,
    self_test: SelfTest,
    backend: Backend,
    /// Why no better one is used.
    backend_reason: Option<String>,
    /// Why the newest rules are not in force.
    failure: Option<String>,
    /// These rules, and since when they are not.
    again: Option<(Rules, Instant)>,
    told: Option<(Facts, Instant)>,
    looked_for_others: Instant,
}

type Queue<T> = Rc<RefCell<VecDeque<T>>>;

impl Agent {
    /// Loads the programs and the containers, and brings the source's rules into force. None: it was asked to end, or to enforce
    /// nothing, before there were any, and has done so.
    ///
    /// # Errors
    /// Whatever was in force before stays in force.
    pub fn start(
        options: Options,
        configured: Configured,
        signals: Signals,
        mut source: Box<dyn Source>,
        mut sink: Box<dyn Sink>,
    ) -> Result<Option<Self>, AgentError> {
        check::prerequisites()?;
        check::load_overlay();
        let pins = Pins::open(&options.pin_dir)?;
        let (first, _alone) = match first_rules(source.as_mut(), &signals, &pins, &options.pin_dir)? {
            First::Enforce(rules, alone) => (*rules, alone),
            First::Release => {
                stay_released(source.as_mut(), sink.as_mut(), &signals, &options.pin_dir)?;
                return Ok(None);
            }
            First::End => return Ok(None),
        };
        let Loaded { kernel, backend, reason, self_test } = load_best(options.backend, &pins, &options.pin_dir)?;
        let kills = kernel.kills();
        // Before anything is in force, and before an earlier agent's is ended.
        let listener = match backend {
            Backend::Fanotify => Some(Listener::start(&kernel, &options.pin_dir)?),
            _ => None,
        };
        let mut agent = Self {
            listener,
            signals,
            source,
            pins,
            kernel,
            given: Rules::default(),
            rules: RuleSet::default(),
            revision: 0,
            roster: Roster::new(),
            path_numbers: PathNumbers::default(),
            reporter: Reporter::new(options.node.clone(), sink, kills, Responder::new(FinderConfig::default().cgroups)),
            configured,
            proofs: Proofs::start(kills).map_err(system("start the comparing thread"))?,
            options,
            shortage: Shortage::none(),
            self_test,
            backend,
            backend_reason: reason,
            failure: None,
            again: None,
            told: None,
            looked_for_others: Instant::now(),
        };
        agent.configure();
        // The self-test takes a while.
        let first = agent.source.changes().rules.unwrap_or(first);
        let found = agent.roster.scan();
        agent.bring_into_force(first)?;
        for cgroup in found {
            agent.adopt(cgroup);
        }
        // Once more: what was made between the first look and the tables' coming into force.
        for cgroup in agent.roster.scan() {
            agent.adopt(cgroup);
        }
        if let Err(error) = agent.kernel.retire_other_versions() {
            eprintln!("what another version of the agent has in force stays so, beside this one: {error}");
        }
        agent.end_other_listeners();
        agent.say_enforcing();
        Ok(Some(agent))
    }

    /// Runs until SIGTERM or SIGINT, or until another instance takes over. The pins stay.
    ///
    /// # Errors
    /// When the loop itself cannot go on.
    pub fn run(mut self) -> Result<Ended, AgentError> {
        let records: Queue<Record> = Queue::default();
        let lifecycle: Queue<Lifecycle> = Queue::default();
        let ring = rings(&self.kernel, &records, &lifecycle)?;
        let mut lost = self.kernel.counters()?.lost_lifecycle;
        loop {
            let ends = self.wait()?;
            // The ring buffers have one reader: whoever is in force.
            if !self.kernel.is_in_force()? {
                eprintln!("ending: another enforcer has taken over, or enforcement was released");
                return Ok(Ended::Relieved(self.signals));
            }
            drop(ring.consume());
            let happened: Vec<_> = lifecycle.borrow_mut().drain(..).collect();
            for event in happened {
                self.follow(event);
            }
            for cgroup in self.roster.look_again() {
                self.resolved(cgroup);
            }
            let reported: Vec<_> = records.borrow_mut().drain(..).collect();
            for record in reported {
                self.reporter.reported(record, &self.roster);
            }
            self.reporter.respond();
            self.try_what_found_no_room();
            self.take_down_what_was_left();
            self.look_after_losses(&mut lost)?;
            self.proofs.turn(&self.kernel)?;
            self.hear_listener();
            self.reporter.turn(&self.kernel, &self.roster, ends)?;
            if !ends {
                self.try_again();
                self.look_at_configuration();
                let changes = self.source.changes();
                if changes.release {
                    drop(ring);
                    return self.release();
                }
                self.take_in(changes);
            }
            self.tell_state(ends);
            if ends {
                return Ok(Ended::Asked);
            }
        }
    }

    fn release(mut self) -> Result<Ended, AgentError> {
        self.reporter.responder().release(since_start());
        self.reporter.respond();
        self.reporter.turn(&self.kernel, &self.roster, true)?;
        let Self { options, signals, mut source, reporter, kernel, listener, .. } = self;
        if let Some(listener) = listener {
            listener.end();
        }
        let mut sink = reporter.into_sink();
        // Unpinned links last as long as somebody holds them.
        drop(kernel);
        stay_released(source.as_mut(), sink.as_mut(), &signals, &options.pin_dir)?;
        Ok(Ended::Asked)
    }

    /// True: a signal asks to end.
    fn wait(&self) -> Result<bool, AgentError> {
        let is_busy = self.listener.as_ref().is_some_and(Listener::is_busy);
        let timeout = if self.source.is_settling() || is_busy {
            SLEEP_BUSY
        } else if self.reporter.is_pending() {
            SLEEP_DUE
        } else {
            SLEEP_IDLE
        };
        let look = self.roster.next_look().map(|due| due.saturating_duration_since(Instant::now()));
        let look = look.and_then(|pause| u16::try_from(pause.as_millis() + 1).ok());
        let timeout = timeout.min(look.unwrap_or(timeout));
        let timeout = self.reporter.next_response().map_or(timeout, |pause| pause.min(timeout));
        let maps = &self.kernel.skeleton().maps;
        let mut polled =
            [self.source.descriptor(), self.signals.as_fd(), maps.violations.as_fd(), maps.lifecycle.as_fd()]
                .into_iter()
                .chain(self.listener.as_ref().and_then(Listener::descriptor))
                .map(|descriptor| PollFd::new(descriptor, PollFlags::POLLIN))
                .collect::<Vec<_>>();
        match poll(&mut polled, PollTimeout::from(timeout)) {
            Ok(_) | Err(nix::errno::Errno::EINTR) => {}
            Err(error) => return Err(system("wait for events")(error)),
        }
        self.signals.asked_to_end().map_err(system("read signals"))
    }

    /// An agent of another wire version may have ended amid its takeover and not come back, as where a rollout was taken back: what it had
    /// brought into force would go on deciding, by rules that nobody changes, about containers that nobody tells it of.
    fn take_down_what_was_left(&mut self) {
        if self.looked_for_others.elapsed() < LEFT_BEHIND {
            return;
        }
        self.looked_for_others = Instant::now();
        if !self.pins.is_another_enforced() {
            return;
        }
        // Whoever has the lock is taking over, and takes this one's down.
        let taken_down = self.pins.start_alone_now().and_then(|alone| match alone {
            Some(_alone) if self.kernel.is_in_force()? => self.kernel.retire_other_versions().map(|()| true),
            _ => Ok(false),
        });
        match taken_down {
            Ok(true) => eprintln!("what an agent of another version had left in force is taken down"),
            Ok(false) => {}
            Err(error) => {
                eprintln!("what an agent of another version has left in force stays so, beside this one: {error}");
            }
        }
    }

    /// Tells the sink what has changed, when it is time to look.
    fn tell_state(&mut self, ends: bool) {
        let told = self.told.as_ref();
        let is_new = told.is_none_or(|(facts, _)| facts.applied != self.given.stamp);
        if !(ends || is_new || told.is_some_and(|(_, when)| when.elapsed() >= STATE)) {
            return;
        }
        let mut facts = Facts {
            enforcing: true,
            applied: self.given.stamp.clone(),
            backend: Some(self.backend),
            backend_reason: self.backend_reason.clone(),
            self_test: Some(self.self_test.clone()),
            problems: self.failure.clone().into_iter().collect(),
            configuration: self.configured.refused.clone(),
            ..Facts::default()
        };
        let containers = self.roster.all().filter(|(_, known)| !known.container.sandbox);
        let counted = containers.map(|(cgroup, known)| (known.member, self.shortage.has_room(cgroup)));
        facts.count(&self.rules, counted);
        facts.add_switches(self.configured.in_force.switches, &self.rules);
        self.reporter.add_to(&mut facts);
        facts.problems.extend(self.listener.as_ref().and_then(Listener::problem));
        facts.add_refused(&self.given.refused);
        if told.is_none_or(|(told, _)| *told != facts) {
            self.reporter.tell_state(&facts);
        }
        self.told = Some((facts, Instant::now()));
    }
}

fn rings(
    kernel: &Kernel,
    records: &Queue<Record>,
    lifecycle: &Queue<Lifecycle>,
) -> Result<RingBuffer<'static>, KernelError> {
    let (records, lifecycle) = (Rc::clone(records), Rc::clone(lifecycle));
    let maps = &kernel.skeleton().maps;
    let mut builder = RingBufferBuilder::new();
    builder
        .add(&maps.violations, move |bytes| {
            records.borrow_mut().extend(Record::decode(bytes));
            0
        })
        .map_err(KernelError::bpf("read the violations"))?;
    builder
        .add(&maps.lifecycle, move |bytes| {
            lifecycle.borrow_mut().extend(Lifecycle::decode(bytes));
            0
        })
        .map_err(KernelError::bpf("read what happens to cgroups"))?;
    builder.build().map_err(KernelError::bpf("read the ring buffers"))
}
