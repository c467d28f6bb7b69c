//! The loop: kernel records, policy edits, signals, and what is due.

use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::ValueEnum;
use libbpf_rs::{RingBuffer, RingBufferBuilder};
use mooring_policy::{Class, NodeDefaults, RuleSet, SlotMask, Use, select};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};

use super::adopt::started;
use super::floods::{Counted, Floods};
use super::membership::{Surroundings, workload_of};
use super::output::{Format, print};
use super::proofs::Proofs;
use crate::check;
use crate::containers::{Container, Finder, FinderConfig};
use crate::kernel::pins::Pins;
use crate::kernel::{Kernel, KernelError, Lifecycle, LoadOptions, Members, Record, Tables};
use crate::policies::{self, LoadErrors, PolicySet, Watch, WatchError};
use crate::report::{Aggregator, Limits, Timestamp, Violation};

/// How often counts are taken out of the kernel while there are any.
const DRAIN: Duration = Duration::from_secs(1);
/// How often an event is told again while its count grows.
const REPEAT: Duration = Duration::from_secs(2);
/// How long an edit may still be going on before the folder is read.
const SETTLE: Duration = Duration::from_millis(100);
/// How long a bundle that is being written is read again.
const TRIES: u32 = 50;
/// Rule sets kept for records that were decided by an earlier one.
const GENERATIONS_MAX: usize = 4;
/// Reports that wait for their container to be resolved.
const WAITING_MAX: usize = 1024;

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
    /// The system refused something that the loop needs.
    #[error("{what}: {source}")]
    System {
        /// What was tried.
        what: &'static str,
        /// The system's answer.
        source: io::Error,
    },
}

fn system(what: &'static str) -> impl FnOnce(nix::Error) -> AgentError {
    move |error| AgentError::System { what, source: error.into() }
}

struct Known {
    container: Arc<Container>,
    started: u64,
}

struct Unresolved {
    cgroup: u64,
    path: String,
    maker: u32,
    tries: u32,
}

/// The running agent.
pub struct Agent {
    options: Options,
    kernel: Kernel,
    finder: Finder,
    policies: PolicySet,
    generations: VecDeque<(u64, Arc<RuleSet>)>,
    revision: u64,
    known: BTreeMap<u64, Known>,
    unresolved: Vec<Unresolved>,
    waiting: Vec<Counted>,
    aggregator: Aggregator,
    floods: Floods,
    proofs: Proofs,
    epoch: Instant,
    unprotected: u64,
}

type Queue<T> = Rc<RefCell<VecDeque<T>>>;

impl Agent {
    /// Loads the policies, the programs and the containers, and brings all of it into force.
    ///
    /// # Errors
    /// Whatever was in force before stays in force.
    pub fn start(options: Options) -> Result<Self, AgentError> {
        // Bad input is told first, whatever the kernel is.
        let policies = policies::load(&options.policies, NodeDefaults::default())?;
        check::prerequisites()?;
        let pins = Pins::open(&options.pin_dir)?;
        let kernel = Kernel::load(&LoadOptions { pins: Some(pins) })?;
        // Lines on standard output are no objects of an API server: only the agent's memory bounds them.
        let limits = Limits { per_container: 512, per_node: 2048, repeat: REPEAT, ..Limits::default() };
        let mut agent = Self {
            aggregator: Aggregator::new(options.node.clone(), limits),
            options,
            kernel,
            finder: Finder::new(FinderConfig::default()),
            policies,
            generations: VecDeque::new(),
            revision: 0,
            known: BTreeMap::new(),
            unresolved: Vec::new(),
            waiting: Vec::new(),
            floods: Floods::default(),
            proofs: Proofs::start()
                .map_err(|source| AgentError::System { what: "start the comparing thread", source })?,
            epoch: Instant::now(),
            unprotected: 0,
        };
        let found = agent.scan();
        agent.bring_into_force()?;
        for cgroup in found {
            agent.enter(cgroup);
            if let Some(known) = agent.known.get(&cgroup) {
                agent.proofs.adopt(&agent.kernel, &known.container)?;
            }
        }
        // Once more: what was made between the first look and the tables' coming into force.
        for cgroup in agent.scan() {
            agent.enter(cgroup);
        }
        agent.say_enforcing();
        Ok(agent)
    }

    /// Runs until SIGTERM or SIGINT. The pins stay.
    ///
    /// # Errors
    /// When the loop itself cannot go on.
    pub fn run(mut self) -> Result<(), AgentError> {
        let mut signals = SigSet::empty();
        signals.add(Signal::SIGTERM);
        signals.add(Signal::SIGINT);
        signals.thread_block().map_err(system("block signals"))?;
        let signal_fd = SignalFd::with_flags(&signals, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)
            .map_err(system("open a signalfd"))?;
        let mut watch = Watch::new(&self.options.policies)?;
        let records: Queue<Record> = Queue::default();
        let lifecycle: Queue<Lifecycle> = Queue::default();
        let ring = rings(&self.kernel, &records, &lifecycle)?;
        let (mut edited, mut drained) = (None::<Instant>, Instant::now());
        loop {
            let stop = self.wait(&watch, &signal_fd, edited.is_some())?;
            drop(ring.consume());
            let happened: Vec<_> = lifecycle.borrow_mut().drain(..).collect();
            for event in happened {
                self.follow(event)?;
            }
            self.resolve_again();
            let reported: Vec<_> = records.borrow_mut().drain(..).collect();
            for record in reported {
                let counted = self.floods.reported(record);
                self.tell(counted);
            }
            if stop || (self.floods.is_pending() && drained.elapsed() >= DRAIN) {
                self.drain()?;
                drained = Instant::now();
            }
            self.proofs.finish(&self.kernel)?;
            let due = self.aggregator.due(self.epoch.elapsed());
            self.print(&due);
            if stop {
                let last = self.aggregator.flush(self.epoch.elapsed());
                self.print(&last);
                return Ok(());
            }
            if watch.drain()? {
                edited = Some(Instant::now());
            }
            if edited.is_some_and(|edited| edited.elapsed() >= SETTLE) {
                edited = None;
                self.reload()?;
            }
        }
    }

    fn wait(&self, watch: &Watch, signals: &SignalFd, edited: bool) -> Result<bool, AgentError> {
        let busy = edited || !self.unresolved.is_empty();
        let due = self.floods.is_pending() || self.aggregator.next_due().is_some();
        let timeout: u16 = if busy {
            20
        } else if due {
            200
        } else {
            5000
        };
        let maps = &self.kernel.skeleton().maps;
        let mut polled = [watch.as_fd(), signals.as_fd(), maps.violations.as_fd(), maps.lifecycle.as_fd()]
            .map(|descriptor| PollFd::new(descriptor, PollFlags::POLLIN));
        match poll(&mut polled, PollTimeout::from(timeout)) {
            Ok(_) | Err(nix::errno::Errno::EINTR) => {}
            Err(error) => return Err(system("wait for events")(error)),
        }
        Ok(signals.read_signal().map_err(system("read signals"))?.is_some())
    }

    /// Adds containers that are not known yet; gives their cgroups.
    fn scan(&mut self) -> Vec<u64> {
        let (containers, errors) = self.finder.scan();
        for error in errors {
            eprintln!("container not resolved: {error}");
        }
        let mut found = Vec::new();
        for container in containers {
            let cgroup = container.cgroup_id;
            if !self.known.contains_key(&cgroup) {
                self.learn(container);
                found.push(cgroup);
            }
        }
        found
    }

    fn learn(&mut self, mut container: Container) {
        if let Some(pid) = container.init_pid {
            // What stays unknown is a foreign mount until it is known.
            drop(self.finder.resolve_tmpfs(&mut container, pid));
        }
        let started = started(&container);
        if !container.root.overlay {
            eprintln!(
                "container {}: its root is no overlay; files are judged by their change time against its start",
                container.id
            );
        }
        self.known.insert(container.cgroup_id, Known { container: Arc::new(container), started });
    }

    fn member_of(&self, container: &Container) -> u64 {
        let around = Surroundings::of(container, &self.options.node);
        select(&self.policies.rules, &workload_of(container, &around)).bits()
    }

    /// Beyond the tables' room a container is unprotected, and said to be.
    fn enter(&mut self, cgroup: u64) {
        let Some(known) = self.known.get(&cgroup) else { return };
        let member = self.member_of(&known.container);
        if let Err(error) = self.kernel.enter(&known.container, member, known.started) {
            self.unprotected += 1;
            eprintln!("container {} is unprotected ({} so far): {error}", known.container.id, self.unprotected);
        }
    }

    fn unknown_member(&self) -> u64 {
        let every: SlotMask = self.policies.rules.policies().iter().map(|policy| policy.slot).collect();
        match self.options.unknown_containers {
            UnknownContainers::DenyDrift => every.bits(),
            UnknownContainers::Allow => every.bits() & !self.policies.rules.prevents().bits(),
        }
    }

    fn bring_into_force(&mut self) -> Result<(), KernelError> {
        let generation = (u64::from(self.kernel.instance()) << 32) | (self.revision + 1);
        let tables = Tables::encode(&self.policies.rules, generation, self.unknown_member());
        let mut members: Members =
            self.known.iter().map(|(cgroup, known)| (*cgroup, self.member_of(&known.container))).collect();
        // Cgroups that turned out to be no containers stay out.
        for cgroup in self.kernel.entered() {
            members.entry(cgroup).or_insert(0);
        }
        for unresolved in &self.unresolved {
            members.remove(&unresolved.cgroup);
        }
        self.kernel.enforce(&tables, &members)?;
        self.revision += 1;
        self.generations.push_back((generation, Arc::new(self.policies.rules.clone())));
        if self.generations.len() > GENERATIONS_MAX {
            self.generations.pop_front();
        }
        Ok(())
    }

    fn say_enforcing(&self) {
        eprintln!(
            "enforcing: backend=BpfLsm revision={} policies={} containers={}",
            self.revision,
            self.policies.rules.policies().len(),
            self.known.len()
        );
    }

    fn reload(&mut self) -> Result<(), AgentError> {
        match policies::load(&self.options.policies, NodeDefaults::default()) {
            Ok(loaded) if loaded == self.policies => {}
            Ok(loaded) => {
                self.policies = loaded;
                self.bring_into_force()?;
                self.say_enforcing();
            }
            Err(errors) => {
                let errors = errors.to_string().replace('\n', "; ");
                eprintln!("policies refused: {errors}; the last good set (revision {}) stays in force", self.revision);
            }
        }
        Ok(())
    }

    fn follow(&mut self, event: Lifecycle) -> Result<(), AgentError> {
        match event {
            Lifecycle::CgroupMade { cgroup, path, maker } => {
                self.resolve(Unresolved { cgroup, path, maker, tries: 0 });
            }
            Lifecycle::CgroupReleased { cgroup } => {
                if let Some(known) = self.known.remove(&cgroup) {
                    self.kernel.forget(&known.container);
                    let last = self.aggregator.forget(&known.container.id, self.epoch.elapsed());
                    self.print(&last);
                }
            }
            Lifecycle::UnknownContainer { cgroup, .. } => {
                let waits = self.unresolved.iter().any(|unresolved| unresolved.cgroup == cgroup);
                if !self.known.contains_key(&cgroup) && !waits {
                    for found in self.scan() {
                        self.enter(found);
                    }
                    if !self.known.contains_key(&cgroup) {
                        eprintln!(
                            "cgroup {cgroup} runs programs on an overlay of its own, but no runtime knows it: not covered"
                        );
                        self.kernel.set_member(cgroup, 0)?;
                    }
                }
            }
            Lifecycle::Prove(request) => {
                if let Some(known) = self.known.get(&request.cgroup) {
                    self.proofs.asked(&self.kernel, &known.container, &request)?;
                }
            }
        }
        Ok(())
    }

    fn resolve(&mut self, mut unresolved: Unresolved) {
        if self.known.contains_key(&unresolved.cgroup) {
            return;
        }
        let maker = (unresolved.maker != 0).then_some(unresolved.maker);
        match self.finder.resolve(&unresolved.path, maker) {
            Ok(Some(container)) => {
                let cgroup = container.cgroup_id;
                self.learn(container);
                self.enter(cgroup);
                for counted in std::mem::take(&mut self.waiting) {
                    self.tell(counted);
                }
            }
            Ok(None) => {}
            Err(error) if error.is_transient() && unresolved.tries < TRIES => {
                unresolved.tries += 1;
                self.unresolved.push(unresolved);
            }
            Err(error) => eprintln!("container not resolved: {error}"),
        }
    }

    fn resolve_again(&mut self) {
        for unresolved in std::mem::take(&mut self.unresolved) {
            self.resolve(unresolved);
        }
    }

    fn drain(&mut self) -> Result<(), AgentError> {
        let (counted, _without_details) = self.floods.drain(&self.kernel)?;
        for counted in counted {
            self.tell(counted);
        }
        Ok(())
    }

    fn tell(&mut self, counted: Counted) {
        let Some(known) = self.known.get(&counted.record.key.container) else {
            if self.waiting.len() < WAITING_MAX {
                self.waiting.push(counted);
            }
            return;
        };
        let key = counted.record.key;
        let rules = self
            .generations
            .iter()
            .find(|(generation, _)| *generation == key.generation)
            .or(self.generations.back())
            .map(|(_, rules)| Arc::clone(rules));
        let (Some(rules), Some(violation)) = (rules, violation_of(&known.container, counted)) else { return };
        let events = self.aggregator.record(&violation, &rules, self.epoch.elapsed());
        self.print(&events);
    }

    /// A closed standard output must not end enforcement.
    fn print(&self, events: &[mooring_crd::DriftEvent]) {
        if let Err(error) = print(events, self.options.format) {
            eprintln!("{} events could not be printed: {error}", events.len());
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
    let failed = |step: &'static str| move |source| KernelError::Bpf { step: step.into(), source };
    builder
        .add(&maps.violations, move |bytes| {
            records.borrow_mut().extend(Record::decode(bytes));
            0
        })
        .map_err(failed("read the violations"))?;
    builder
        .add(&maps.lifecycle, move |bytes| {
            lifecycle.borrow_mut().extend(Lifecycle::decode(bytes));
            0
        })
        .map_err(failed("read what happens to cgroups"))?;
    builder.build().map_err(failed("read the ring buffers"))
}

fn violation_of(container: &Arc<Container>, counted: Counted) -> Option<Violation> {
    let record = counted.record;
    let now = Timestamp::now();
    let mut argv = Vec::new();
    for argument in &record.arguments {
        argv.extend_from_slice(argument.as_encoded_bytes());
        argv.push(0);
    }
    Some(Violation {
        container: Arc::clone(container),
        first_seen: now,
        last_seen: now,
        count: counted.count,
        drift: SlotMask::from_bits(record.key.drift),
        prohibited: SlotMask::from_bits(record.key.prohibited),
        denied: SlotMask::from_bits(record.denied),
        class: *Class::ALL.get(usize::from(record.key.class))?,
        usage: *Use::ALL.get(usize::from(record.key.usage))?,
        path: record.path,
        lower_path: record.lower_path.unwrap_or_default(),
        invoked: record.invoked.unwrap_or_default(),
        pid: record.pid,
        parent_pid: record.parent_pid,
        uid: record.uid,
        comm: record.comm,
        parent_comm: record.parent_comm,
        argv,
    })
}
