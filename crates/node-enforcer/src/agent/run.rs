//! The loop: kernel records, policy edits, signals, and what is due.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::ValueEnum;
use libbpf_rs::{RingBuffer, RingBufferBuilder};
use mooring_bpf::wire::MAX_CONTAINERS;
use mooring_policy::{NodeDefaults, RuleSet, SlotMask};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};

use super::output::Format;
use super::proofs::Proofs;
use super::reporter::Reporter;
use super::room::{Shortage, members_with_room};
use super::roster::Roster;
use crate::check;
use crate::kernel::pins::Pins;
use crate::kernel::{Kernel, KernelError, Lifecycle, LoadOptions, Record, Tables};
use crate::policies::{self, LoadErrors, PolicySet, Watch, WatchError};

/// How long nothing must happen in the folder before it is read, and how long that is waited for.
const SETTLE: Duration = Duration::from_millis(100);
const SETTLE_MOST: Duration = Duration::from_millis(500);
/// How long the loop sleeps, in milliseconds: while something is half done, while counts are due, and at most.
const SLEEP_BUSY: u16 = 20;
const SLEEP_DUE: u16 = 200;
const SLEEP_IDLE: u16 = 1000;

/// What a container that is not resolved yet may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "PascalCase")]
pub enum UnknownContainers {
    /// Every policy that prevents is left out until the container is known; the others detect.
    Allow,
    /// Every policy applies until the container is known.
    DenyDrift,
}

/// How the agent runs.
#[derive(Debug, Clone)]
pub struct Options {
    /// File or folder of policies.
    pub policies: PathBuf,
    /// Where links and maps are pinned.
    pub pin_dir: PathBuf,
    /// How events are printed.
    pub format: Format,
    /// See [`UnknownContainers`].
    pub unknown_containers: UnknownContainers,
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

fn system<E: Into<io::Error>>(what: &'static str) -> impl FnOnce(E) -> AgentError {
    move |error| AgentError::System { what, source: error.into() }
}

/// The running agent.
pub struct Agent {
    options: Options,
    signals: SignalFd,
    watch: Watch,
    kernel: Kernel,
    policies: PolicySet,
    /// The policies' rules, and what their prohibited paths lead to.
    rules: RuleSet,
    revision: u64,
    roster: Roster,
    reporter: Reporter,
    proofs: Proofs,
    shortage: Shortage,
}

type Queue<T> = Rc<RefCell<VecDeque<T>>>;

impl Agent {
    /// Loads the policies, the programs and the containers, and brings all of it into force.
    ///
    /// # Errors
    /// Whatever was in force before stays in force.
    pub fn start(options: Options) -> Result<Self, AgentError> {
        // Before any thread is made, so that none is ended by them.
        let signals = block_signals().map_err(system("block signals"))?;
        // Before the policies are read, so that no edit is missed; bad input is told first, whatever the kernel is.
        let watch = Watch::new(&options.policies);
        let policies = policies::load(&options.policies, NodeDefaults::default())?;
        check::prerequisites()?;
        check::load_overlay();
        let pins = Pins::open(&options.pin_dir)?;
        let _alone = pins.start_alone()?;
        let mut kernel = Kernel::load(&LoadOptions { pins: Some(pins), comparison: false })?;
        if let Err(error) = pass_self_test(&mut kernel, &options.pin_dir) {
            if let Err(left) = kernel.withdraw() {
                eprintln!("programs that failed the self-test could not be taken down: {left}");
            }
            return Err(error);
        }
        let mut agent = Self {
            signals,
            watch: watch?,
            kernel,
            rules: policies.rules.clone(),
            policies,
            revision: 0,
            roster: Roster::new(),
            reporter: Reporter::new(options.node.clone(), options.format),
            proofs: Proofs::start().map_err(system("start the comparing thread"))?,
            options,
            shortage: Shortage::none(),
        };
        let found = agent.roster.scan();
        agent.bring_into_force()?;
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
        agent.say_enforcing();
        Ok(agent)
    }

    /// Runs until SIGTERM or SIGINT, or until another instance takes over. The pins stay.
    ///
    /// # Errors
    /// When the loop itself cannot go on.
    pub fn run(mut self) -> Result<(), AgentError> {
        let records: Queue<Record> = Queue::default();
        let lifecycle: Queue<Lifecycle> = Queue::default();
        let ring = rings(&self.kernel, &records, &lifecycle)?;
        // The first and the last change since the folder was read.
        let mut edited = None::<(Instant, Instant)>;
        loop {
            let ends = self.wait(edited.is_some())?;
            // The ring buffers have one reader: whoever is in force.
            if !self.kernel.is_in_force()? {
                eprintln!("ending: another enforcer has taken over, or enforcement was released");
                return Ok(());
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
            self.try_what_found_no_room();
            self.proofs.turn(&self.kernel)?;
            self.reporter.turn(&self.kernel, &self.roster, ends)?;
            if ends {
                return Ok(());
            }
            match self.watch.drain() {
                Ok(true) => {
                    let now = Instant::now();
                    edited = Some((edited.map_or(now, |(first, _)| first), now));
                }
                Ok(false) => {}
                Err(error) => eprintln!("{error}; the policies in force stay"),
            }
            if edited.is_some_and(|(first, last)| last.elapsed() >= SETTLE || first.elapsed() >= SETTLE_MOST) {
                edited = None;
                self.reload();
            }
        }
    }

    /// True: a signal asks to end.
    fn wait(&self, edited: bool) -> Result<bool, AgentError> {
        let timeout = if edited || self.roster.is_incomplete() {
            SLEEP_BUSY
        } else if self.reporter.is_pending() {
            SLEEP_DUE
        } else {
            SLEEP_IDLE
        };
        let maps = &self.kernel.skeleton().maps;
        let mut polled = [self.watch.as_fd(), self.signals.as_fd(), maps.violations.as_fd(), maps.lifecycle.as_fd()]
            .map(|descriptor| PollFd::new(descriptor, PollFlags::POLLIN));
        match poll(&mut polled, PollTimeout::from(timeout)) {
            Ok(_) | Err(nix::errno::Errno::EINTR) => {}
            Err(error) => return Err(system("wait for events")(error)),
        }
        Ok(self.signals.read_signal().map_err(system("read signals"))?.is_some())
    }

    /// Beyond the tables' room a container is unprotected, and said to be.
    fn enter(&mut self, cgroup: u64) {
        let Some(known) = self.roster.get_mut(cgroup) else { return };
        let member = known.member(&self.rules, &self.options.node);
        for (path, target) in known.targets(&self.rules, member) {
            let (alias, error) = match self.rules.prohibit_alias(&path, &target) {
                Ok(None) => continue,
                Ok(Some((alias, masks))) => match self.kernel.set_path(&alias, masks) {
                    Ok(()) => continue,
                    Err(error) => (alias, error.to_string()),
                },
                Err(error) => (error.alias.clone(), error.to_string()),
            };
            if self.shortage.alias_left_out(alias.as_str()) {
                eprintln!("{path} is not prohibited by its link's name in container {}: {error}", known.container.id);
            }
        }
        match self.kernel.enter(&known.container, member.bits(), known.started) {
            Ok(()) => {
                if self.shortage.no_longer(cgroup) {
                    eprintln!("container {} is protected: there is room for it now", known.container.id);
                }
            }
            Err(error) => {
                if self.shortage.left_out(cgroup) {
                    let (id, number) = (&known.container.id, self.shortage.unprotected());
                    eprintln!(
                        "container {id} is unprotected, as {number} now are: a node has room for {MAX_CONTAINERS} containers ({error})"
                    );
                }
            }
        }
    }

    /// A container that was there before it was looked for: what it has copied up by now nobody saw.
    fn adopt(&mut self, cgroup: u64) {
        self.enter(cgroup);
        if let Some(known) = self.roster.get(cgroup) {
            self.proofs.adopt(&known.container);
        }
    }

    /// Containers and aliases that found the tables full, in case something else is gone.
    fn try_what_found_no_room(&mut self) {
        for cgroup in self.shortage.due() {
            // The programs tell only of the end of those that they know.
            if self.roster.is_gone(cgroup) {
                self.released(cgroup);
                continue;
            }
            self.enter(cgroup);
        }
        if self.shortage.may_cover_more()
            && let Err(error) = self.bring_into_force()
        {
            eprintln!("what found no room stays left out: {error}");
        }
    }

    fn released(&mut self, cgroup: u64) {
        self.shortage.no_longer(cgroup);
        if let Some(known) = self.roster.released(cgroup) {
            self.shortage.released();
            self.kernel.forget(&known.container);
            self.reporter.forget(&known.container);
        }
    }

    fn resolved(&mut self, cgroup: u64) {
        self.enter(cgroup);
        self.reporter.resolved(&self.roster);
    }

    fn unknown_member(&self, rules: &RuleSet) -> u64 {
        let every: SlotMask = rules.policies().iter().map(|policy| policy.slot).collect();
        match self.options.unknown_containers {
            UnknownContainers::DenyDrift => every.bits(),
            UnknownContainers::Allow => every.bits() & !rules.prevents().bits(),
        }
    }

    fn bring_into_force(&mut self) -> Result<(), KernelError> {
        let generation = (u64::from(self.kernel.instance()) << 32) | (self.revision + 1);
        let mut rules = self.policies.rules.clone();
        let mut left_out = BTreeSet::new();
        for known in self.roster.all_mut() {
            let member = known.member(&rules, &self.options.node);
            for (path, target) in known.targets(&rules, member) {
                let Err(error) = rules.prohibit_alias(&path, &target) else { continue };
                if self.shortage.alias_left_out(error.alias.as_str()) {
                    let id = &known.container.id;
                    eprintln!("{path} is not prohibited by its link's name in container {id}: {error}");
                }
                left_out.insert(error.alias.as_str().to_owned());
            }
        }
        let tables = Tables::encode(&rules, generation, self.unknown_member(&rules));
        let mut masks: BTreeMap<u64, u64> = self
            .roster
            .all()
            .map(|(cgroup, known)| (cgroup, known.member(&rules, &self.options.node).bits()))
            .collect();
        // Cgroups that turned out to be no containers stay out; whatever else nobody can describe now is unknown, and judged so.
        let entered = self.kernel.entered();
        for cgroup in &entered {
            if !masks.contains_key(cgroup) && self.kernel.member(*cgroup).unwrap_or_default() == Some(0) {
                masks.insert(*cgroup, 0);
            }
        }
        self.kernel.enforce(&tables, &members_with_room(&entered, masks))?;
        self.rules = rules;
        self.shortage.aliases_left_out(left_out);
        self.revision += 1;
        self.reporter.rules_in_force(generation, Arc::new(self.rules.clone()));
        Ok(())
    }

    fn say_enforcing(&self) {
        eprintln!(
            "enforcing: backend=BpfLsm revision={} policies={} containers={} unprotected={}",
            self.revision,
            self.rules.policies().len(),
            self.roster.all().len(),
            self.shortage.unprotected()
        );
    }

    fn reload(&mut self) {
        match policies::load(&self.options.policies, NodeDefaults::default()) {
            Ok(loaded) if loaded == self.policies => {}
            Ok(loaded) => {
                let before = std::mem::replace(&mut self.policies, loaded);
                match self.bring_into_force() {
                    Ok(()) => self.say_enforcing(),
                    Err(error) => {
                        self.policies = before;
                        self.say_refused(&error.to_string());
                    }
                }
            }
            Err(errors) => self.say_refused(&errors.to_string()),
        }
    }

    fn say_refused(&self, why: &str) {
        eprintln!("policies refused: {why}; the last good set (revision {}) stays in force", self.revision);
    }

    fn follow(&mut self, event: Lifecycle) {
        match event {
            Lifecycle::CgroupMade { cgroup, path, maker } => {
                if let Some(found) = self.roster.made(cgroup, path, maker) {
                    self.resolved(found);
                }
            }
            Lifecycle::CgroupReleased { cgroup } => self.released(cgroup),
            Lifecycle::UnknownContainer { cgroup } => {
                if self.roster.get(cgroup).is_none() && !self.roster.is_unresolved(cgroup) {
                    for found in self.roster.scan() {
                        self.adopt(found);
                    }
                    self.reporter.resolved(&self.roster);
                    if self.roster.get(cgroup).is_none() {
                        eprintln!(
                            "cgroup {cgroup} runs programs on an overlay of its own, but no runtime knows it: not covered"
                        );
                        // A full table is no reason to end.
                        match self.kernel.set_member(cgroup, 0) {
                            Ok(()) => self.reporter.not_a_container(cgroup),
                            Err(error) => eprintln!("cgroup {cgroup} is judged as an unknown container: {error}"),
                        }
                    }
                }
            }
            Lifecycle::Prove(request) => {
                if let Some(known) = self.roster.get(request.cgroup) {
                    self.proofs.asked(&known.container, &request);
                }
            }
        }
    }
}

fn block_signals() -> nix::Result<SignalFd> {
    let mut signals = SigSet::empty();
    signals.add(Signal::SIGTERM);
    signals.add(Signal::SIGINT);
    signals.thread_block()?;
    SignalFd::with_flags(&signals, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)
}

/// A kernel whose layout is read wrongly must not look protected. A test that cannot be made says nothing of the kernel.
fn pass_self_test(kernel: &mut Kernel, pin_dir: &Path) -> Result<(), AgentError> {
    // What is in force must not be interrupted: then the test has programs of its own, though loading them takes a second.
    let tested =
        if kernel.is_first() { check::self_test_with(kernel, pin_dir) } else { check::self_test_apart(pin_dir) };
    match tested {
        Ok(result) if result.passed() => Ok(()),
        Ok(result) => Err(AgentError::SelfTest { problems: result.problems().collect::<Vec<_>>().join("; ") }),
        Err(error) => {
            eprintln!("going on without a self-test: {error}");
            Ok(())
        }
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
