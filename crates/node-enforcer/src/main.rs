//! `mooring-enforcer`: see `mooring-enforcer --help`.

use std::io::{IsTerminal, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, bail};
use clap::{Parser, Subcommand, ValueEnum};
use mooring_node_enforcer::agent::{Agent, AgentError, Format, Options, UnknownContainers};
use mooring_node_enforcer::check::{self, child};
use mooring_node_enforcer::containers::{Finder, FinderConfig};
use mooring_node_enforcer::explain::explain;
use mooring_node_enforcer::kernel::pins::{DEFAULT_PIN_DIR, Pins};
use mooring_node_enforcer::policies::{self, LoadErrors};
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
    /// Brings policies into force and prints an event for each violation, until SIGTERM. Enforcement goes on afterwards; see `release`.
    Run {
        /// A file, or a folder of *.yaml, *.yml and *.json files. Edits come into force at once.
        #[arg(long)]
        policies: PathBuf,
        /// How events are printed; text on a terminal, else json.
        #[arg(short, long)]
        output: Option<Format>,
        /// Where programs and tables outlive the agent.
        #[arg(long, default_value = DEFAULT_PIN_DIR)]
        pin_dir: PathBuf,
        /// What a container may do until it is known which policies are for it.
        #[arg(long, value_enum, default_value = "DenyDrift")]
        unknown_containers: UnknownContainers,
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
    /// Takes every program and table down: nothing is enforced any more.
    Release {
        /// As for `run`.
        #[arg(long, default_value = DEFAULT_PIN_DIR)]
        pin_dir: PathBuf,
    },
    #[command(hide = true)]
    SelfTest {
        #[arg(long)]
        pin_dir: PathBuf,
    },
    #[command(hide = true)]
    SelfTestChild { cgroup: PathBuf, folder: PathBuf },
}

fn main() -> ExitCode {
    match execute(Arguments::parse().command) {
        Ok(status) => status,
        Err(error) => {
            eprintln!("mooring-enforcer: {error:#}");
            let refused = error.is::<LoadErrors>() || matches!(error.downcast_ref(), Some(AgentError::Policies(_)));
            ExitCode::from(if refused { BAD_INPUT } else { 1 })
        }
    }
}

fn execute(command: Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::Run { policies, output, pin_dir, unknown_containers } => {
            let by_default = if std::io::stdout().is_terminal() { Format::Text } else { Format::Json };
            let format = output.unwrap_or(by_default);
            let options = Options { policies, pin_dir, format, unknown_containers, node: node()? };
            Agent::start(options)?.run()?;
        }
        Command::Check { output, pin_dir } => return print_check(output, &pin_dir),
        Command::Explain { container, policies, output } => {
            print_explanations(container.as_deref(), &policies, output)?;
        }
        Command::Release { pin_dir } => Pins::release(&pin_dir)?,
        Command::SelfTest { pin_dir } => {
            set_pdeathsig(Signal::SIGKILL).context("self-test")?;
            serde_json::to_writer(std::io::stdout(), &check::self_test(&pin_dir)?)?;
        }
        Command::SelfTestChild { cgroup, folder } => child::run(&cgroup, &folder).context("self-test")?,
    }
    Ok(ExitCode::SUCCESS)
}

fn node() -> anyhow::Result<String> {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").context("read the host's name")?;
    Ok(name.trim().to_owned())
}

fn print_check(output: AnswerFormat, pin_dir: &std::path::Path) -> anyhow::Result<ExitCode> {
    let answer = check::check(pin_dir);
    let mut out = std::io::stdout().lock();
    if output == AnswerFormat::Text {
        writeln!(out, "kernel:      {}", answer.kernel)?;
        writeln!(out, "lsm:         {}", answer.lsm.as_deref().unwrap_or("unknown"))?;
        writeln!(out, "backend:     {}", answer.backend.as_deref().unwrap_or("none"))?;
        writeln!(out, "prevention:  {}", if answer.prevention { "works" } else { "does not work" })?;
        for backend in &answer.backends {
            let answer =
                backend.reason.as_ref().map_or_else(|| "usable".to_owned(), |reason| format!("not usable: {reason}"));
            writeln!(out, "  {:<10} {answer}", backend.name)?;
        }
        for feature in &answer.features {
            writeln!(out, "feature:     {}: {}", feature.name, if feature.available { "yes" } else { "no" })?;
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

fn print_explanations(wanted: Option<&str>, policies: &std::path::Path, output: AnswerFormat) -> anyhow::Result<()> {
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
