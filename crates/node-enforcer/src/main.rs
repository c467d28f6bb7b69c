//! `mooring-enforcer`: see `mooring-enforcer --help`.

use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::thread;
use std::time::Duration;

use anyhow::{Context, bail};
use clap::{Args, Parser, Subcommand, ValueEnum};
use mooring_node_enforcer::agent::{
    Agent, AgentError, Ended, Files, Format, Options, Printer, Signals, Sink, Source, UnknownContainers,
};
use mooring_node_enforcer::canary;
use mooring_node_enforcer::check::{self, BackendChoice, child};
use mooring_node_enforcer::cluster;
use mooring_node_enforcer::config::{ConfigurationRefused, Configured};
use mooring_node_enforcer::containers::{Finder, FinderConfig};
use mooring_node_enforcer::explain::explain;
use mooring_node_enforcer::fanotify;
use mooring_node_enforcer::kernel::pins::{DEFAULT_PIN_DIR, Pins};
use mooring_node_enforcer::policies::{self, LoadErrors};
use mooring_node_enforcer::response;
use mooring_policy::NodeDefaults;
use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::Signal;

/// Exit status for input that was refused.
const BAD_INPUT: u8 = 2;

/// Keeps containers moored to the images they were started from.
#[derive(Parser)]
#[command(name = "mooring-enforcer", version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

/// Which cluster and which node.
#[derive(Args)]
struct Place {
    /// How to reach the API server; without it, as a pod does.
    #[arg(long, requires = "cluster")]
    kubeconfig: Option<PathBuf>,
    /// The node's name in the cluster.
    #[arg(long, env = "NODE_NAME", required_if_eq("cluster", "true"))]
    node: Option<String>,
    /// Where the last good rules are kept, to enforce from without an API server.
    #[arg(long, requires = "cluster", default_value = "/var/lib/mooring")]
    state_dir: PathBuf,
    /// A file that is there while this agent's rules are in force; see `ready`.
    #[arg(long, requires = "cluster", default_value = cluster::DEFAULT_READY_FILE)]
    ready_file: PathBuf,
}

/// How `check` and `explain` answer.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum AnswerFormat {
    /// For people.
    Text,
    /// One object.
    Json,
}

#[derive(Subcommand)]
enum Command {
    /// Brings policies into force and tells of each violation, until SIGTERM. Enforcement goes on afterwards; see `release`.
    Run {
        /// A file, or a folder of *.yaml, *.yml and *.json files. Edits come into force at once; events are printed.
        #[arg(long, required_unless_present = "cluster", conflicts_with = "cluster")]
        policies: Option<PathBuf>,
        /// How events are printed; text on a terminal, else json.
        #[arg(short, long, conflicts_with = "cluster")]
        output: Option<Format>,
        /// Take the rules from the API server, and tell it what happens on this node.
        #[arg(long)]
        cluster: bool,
        #[command(flatten)]
        place: Place,
        /// Where programs and tables outlive the agent.
        #[arg(long, default_value = DEFAULT_PIN_DIR)]
        pin_dir: PathBuf,
        /// What a container may do until it is known which policies are for it.
        #[arg(long, value_enum, default_value = "DenyDrift")]
        unknown_containers: UnknownContainers,
        /// How executions are refused.
        #[arg(long, value_enum, default_value = "Auto")]
        backend: BackendChoice,
        /// What the agent must not do, whatever policies ask for: docs/reference/agent-configuration.md. Edits come into force at once.
        #[arg(long, value_name = "FILE")]
        config: Option<PathBuf>,
    },
    /// Ends the pause of a container that a policy has paused. It needs no agent.
    Resume {
        /// The container's name, or the beginning of its id.
        container: String,
    },
    /// Says what this kernel can do, from a self-test that runs a drifted file; exit status 0 only when it was refused.
    Check {
        /// How the answer is printed.
        #[arg(short, long, value_enum, default_value = "text")]
        output: AnswerFormat,
        /// As for `run`.
        #[arg(long, default_value = DEFAULT_PIN_DIR)]
        pin_dir: PathBuf,
    },
    /// Says whether the rules of the agent in this container are in force: exit status 0 only when they are. For its pod's readiness probe.
    Ready {
        /// As for `run --cluster`.
        #[arg(long, default_value = cluster::DEFAULT_READY_FILE)]
        ready_file: PathBuf,
        /// As for `run`.
        #[arg(long, default_value = DEFAULT_PIN_DIR)]
        pin_dir: PathBuf,
    },
    /// Says which policies apply to a container, or to all of them, and what each does.
    Explain {
        /// A container's name or id; all when left out.
        container: Option<String>,
        /// As for `run`.
        #[arg(long)]
        policies: PathBuf,
        /// How the answer is printed.
        #[arg(short, long, value_enum, default_value = "text")]
        output: AnswerFormat,
    },
    /// Drops a copy of itself into its container and must be refused it; exit status 0 only when it was. `helm test` runs it.
    Canary {
        /// Where the copy is dropped.
        #[arg(long, default_value = "/dropped-by-the-canary", value_name = "FILE")]
        target: PathBuf,
        /// How long it may take until it is refused.
        #[arg(long, default_value_t = 120, value_name = "SECONDS")]
        seconds: u64,
    },
    /// Takes every program and table down, and ends every pause: nothing is enforced any more.
    Release {
        /// As for `run`: the host's path, in a container, too.
        #[arg(long, default_value = DEFAULT_PIN_DIR)]
        pin_dir: PathBuf,
    },
    #[command(hide = true)]
    SelfTest {
        #[arg(long)]
        backend: BackendChoice,
        #[arg(long)]
        pin_dir: PathBuf,
    },
    #[command(hide = true)]
    FanotifyListener { folder: PathBuf },
    #[command(hide = true)]
    FanotifyGuard,
    #[command(hide = true)]
    SelfTestChild {
        cgroup: PathBuf,
        folder: PathBuf,
        #[arg(long)]
        killed: bool,
    },
}

fn main() -> ExitCode {
    match execute(Arguments::parse().command) {
        Ok(status) => status,
        Err(error) => {
            eprintln!("mooring-enforcer: {error:#}");
            let refused = error.is::<LoadErrors>()
                || error.is::<ConfigurationRefused>()
                || matches!(error.downcast_ref(), Some(AgentError::Policies(_)));
            ExitCode::from(if refused { BAD_INPUT } else { 1 })
        }
    }
}

fn execute(command: Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::Run { policies: Some(policies), output, pin_dir, unknown_containers, backend, config, .. } => {
            let by_default = if std::io::stdout().is_terminal() { Format::Text } else { Format::Json };
            let format = output.unwrap_or(by_default);
            let node = node()?;
            let source = Files::open(policies, node.clone())?;
            let configured = config.as_deref().map_or_else(|| Ok(Configured::default()), Configured::begin)?;
            let options = Options { pin_dir, unknown_containers, backend, node };
            let signals = Signals::block().context("block signals")?;
            run(options, configured, signals, Box::new(source), Box::new(Printer { format }))?;
        }
        Command::Run { place, pin_dir, unknown_containers, backend, config, .. } => {
            // Before the agent's thread leaves the container, in which the file is.
            let configured = config.as_deref().map_or_else(Configured::default, Configured::begin_whatever);
            run_in_cluster(place, pin_dir, unknown_containers, backend, configured)?;
        }
        Command::Resume { container } => {
            // Where the host's first process does not let itself be looked at, this may be the host all the same.
            cluster::host::enter().unwrap_or_else(|error| eprintln!("going on where this runs: {error}"));
            println!("resumed: {}", response::resume(&container)?);
        }
        Command::Check { output, pin_dir } => return print_check(output, &pin_dir),
        Command::Ready { ready_file, pin_dir } => require_readiness(&ready_file, &pin_dir)?,
        Command::Explain { container, policies, output } => {
            print_explanations(container.as_deref(), &policies, output)?;
        }
        Command::Canary { target, seconds } => println!("{}", canary::sing(&target, Duration::from_secs(seconds))?),
        Command::Release { pin_dir } => {
            // Cgroups, runtimes' state and the listeners' folder are the host's, as the pins are.
            match cluster::host::enter() {
                // Its first process does not let itself be looked at, but here are pins.
                Err(error) if pin_dir.exists() => eprintln!("going on where this runs: {error}"),
                entered => entered?,
            }
            if !pin_dir.exists() {
                eprintln!("{}: nothing is pinned there on the host", pin_dir.display());
            }
            // First: an agent that is in force would start another listener.
            let released = Pins::release(&pin_dir);
            fanotify::release(&pin_dir);
            // Nobody would end their pauses.
            let resumed = response::resume_all();
            released?;
            resumed?;
        }
        Command::SelfTest { backend, pin_dir } => {
            set_pdeathsig(Signal::SIGKILL).context("self-test")?;
            let backend = backend.backends().next().context("self-test: no backend")?;
            serde_json::to_writer(std::io::stdout(), &check::self_test(backend, &pin_dir)?)?;
        }
        Command::FanotifyListener { folder } => fanotify::listen(&folder).context("Fanotify listener")?,
        Command::FanotifyGuard => fanotify::guard().context("guard of the Fanotify listener")?,
        Command::SelfTestChild { cgroup, folder, killed } => {
            child::run(&cgroup, &folder, killed).context("self-test")?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn run(
    options: Options,
    configured: Configured,
    signals: Signals,
    source: Box<dyn Source>,
    sink: Box<dyn Sink>,
) -> Result<Ended, AgentError> {
    match Agent::start(options, configured, signals, source, sink)? {
        Some(agent) => agent.run(),
        None => Ok(Ended::Asked),
    }
}

fn run_in_cluster(
    place: Place,
    pin_dir: PathBuf,
    unknown_containers: UnknownContainers,
    backend: BackendChoice,
    configured: Configured,
) -> anyhow::Result<()> {
    let Some(node) = place.node.filter(|name| !name.is_empty()) else {
        bail!("the node's name is not known: give --node, or set NODE_NAME from spec.nodeName in the pod");
    };
    // Before any thread is made, so that none is ended by them.
    let signals = Signals::block().context("block signals")?;
    let presence = cluster::Presence::begin(&place.state_dir);
    if let Err(error) = &presence {
        let folder = place.state_dir.display();
        eprintln!(
            "{folder}: {error}: a rollout may start this agent again for nothing; give it a folder there that it can write"
        );
    }
    let there = cluster::Options {
        kubeconfig: place.kubeconfig,
        node: node.clone(),
        state_dir: place.state_dir,
        ready_file: place.ready_file,
    };
    let (source, sink, connection) = cluster::connect(there)?;
    let options = Options { pin_dir: pin_dir.clone(), unknown_containers, backend, node };
    // In a thread of its own: the first one stays in the container, because that is where `kubectl exec` and probes come to.
    let looped = thread::Builder::new().name("agent".to_owned()).spawn(move || -> anyhow::Result<Ended> {
        cluster::host::enter()?;
        Ok(run(options, configured, signals, Box::new(source), Box::new(sink))?)
    });
    let ended =
        looped.context("start the agent's thread")?.join().unwrap_or_else(|_| bail!("the agent's thread ended early"));
    if let Err(error) = &ended {
        let self_test_failed = matches!(error.downcast_ref(), Some(AgentError::SelfTest { .. }));
        connection.tell_failure(&format!("{error:#}"), self_test_failed);
    }
    connection.end();
    if let (Ended::Relieved(signals), Ok(presence)) = (ended?, presence)
        && is_enforced(pin_dir)?
    {
        eprintln!("standing by until this pod is deleted, or no other agent is here");
        if !presence.stand_by(&signals).context("stand by")? {
            bail!("the agent that had taken over is gone");
        }
    }
    Ok(())
}

/// Whether anything is in force, looked at from the host's file tree: this thread stays where it is.
fn is_enforced(pin_dir: PathBuf) -> anyhow::Result<bool> {
    let looked = thread::spawn(move || cluster::host::enter().map(|()| Pins::is_enforced(&pin_dir)));
    Ok(looked.join().unwrap_or(Ok(false))?)
}

/// The file is the agent's word, the pins are the kernel's.
fn require_readiness(ready_file: &Path, pin_dir: &Path) -> anyhow::Result<()> {
    if !ready_file.exists() {
        bail!("not ready: no rules of this agent are in force; its log and the node's DriftNode say why");
    }
    cluster::host::enter()?;
    if !Pins::is_enforced(pin_dir) {
        bail!(
            "not ready: nothing is in force in the kernel ({}); delete the agent's pod, so that it starts anew",
            pin_dir.display()
        );
    }
    Ok(())
}

fn node() -> anyhow::Result<String> {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").context("read the host's name")?;
    Ok(name.trim().to_owned())
}

fn print_check(output: AnswerFormat, pin_dir: &Path) -> anyhow::Result<ExitCode> {
    let answer = check::check(pin_dir);
    let mut out = std::io::stdout().lock();
    if output == AnswerFormat::Text {
        writeln!(out, "kernel:      {}", answer.kernel)?;
        writeln!(out, "lsm:         {}", answer.lsm.as_deref().unwrap_or("unknown"))?;
        writeln!(out, "backend:     {}", answer.backend.as_deref().unwrap_or("none"))?;
        writeln!(out, "prevention:  {}", answer.prevention_in_words())?;
        for problem in &answer.problems {
            writeln!(out, "problem:     {problem}")?;
        }
        for backend in &answer.backends {
            let answer =
                backend.reason.as_ref().map_or_else(|| "usable".to_owned(), |reason| format!("not usable: {reason}"));
            writeln!(out, "  {:<10} {answer}", backend.name)?;
        }
        for feature in &answer.features {
            writeln!(out, "feature:     {}: {}", feature.name, if feature.available { "yes" } else { "no" })?;
        }
        for missing in &answer.unsupported {
            writeln!(out, "not in full: {}: {}", missing.feature, missing.instead)?;
        }
        for warning in &answer.warnings {
            writeln!(out, "warning:     {warning}")?;
        }
    } else {
        serde_json::to_writer(&mut out, &answer)?;
        writeln!(out)?;
    }
    Ok(if answer.prevention { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn print_explanations(wanted: Option<&str>, policies: &Path, output: AnswerFormat) -> anyhow::Result<()> {
    let loaded = policies::load(policies, NodeDefaults::default())?;
    let node = node()?;
    let (containers, errors) = Finder::new(FinderConfig::default()).scan();
    for error in errors {
        eprintln!("container not resolved: {error}");
    }
    let explanations: Vec<_> = containers
        .iter()
        .filter(|container| wanted.is_none_or(|wanted| container.name == wanted || container.id.starts_with(wanted)))
        .map(|container| explain(&loaded.rules, container, &node))
        .collect();
    if let (Some(wanted), true) = (wanted, explanations.is_empty()) {
        bail!("no container is called {wanted}, and no container's id begins so; leave the name out to see all");
    }
    let mut out = std::io::stdout().lock();
    if output == AnswerFormat::Text {
        for explanation in explanations {
            write!(out, "{explanation}")?;
        }
    } else {
        serde_json::to_writer(&mut out, &explanations)?;
        writeln!(out)?;
    }
    Ok(())
}
