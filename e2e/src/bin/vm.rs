//! `vm`: boots a guest with a kernel of the test matrix and runs one command in it.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use mooring_e2e::vm::apt::Mirror;
use mooring_e2e::vm::boot::{Job, Payload};
use mooring_e2e::vm::cache::Cache;
use mooring_e2e::vm::kernels::{self, KERNELS, Kernel};
use mooring_e2e::vm::machine::{LSM_WITH_BPF, Machine};
use mooring_e2e::vm::progress::say;
use mooring_e2e::vm::run::{self, Guest};
use mooring_e2e::vm::{Error, process, root};

/// Exit statuses of `vm` itself, as other tools that run commands have them.
const TIMED_OUT: u8 = 124;
const FAILED: u8 = 125;

/// Boots a guest with a kernel of the test matrix and runs one command in it.
#[derive(Debug, Parser)]
#[command(
    version,
    after_help = "The exit status of `vm run` is the command's; 124: out of time; 125: the guest or the rig failed."
)]
struct Cli {
    /// Debian's mirror, instead of the one in this machine's apt sources.
    #[arg(long, global = true, value_name = "URL")]
    mirror: Option<String>,
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Fetches kernels into the cache, all of them unless some are named.
    Kernels {
        /// Which.
        kernels: Vec<Kernel>,
    },
    /// Builds the guests' root image into the cache.
    Root,
    /// Boots a guest, runs a command in it, and exits with the command's exit status.
    Run {
        #[command(flatten)]
        hardware: Hardware,
        /// Seconds from power-on to exit status.
        #[arg(long, default_value_t = 300, value_name = "SECONDS")]
        timeout: u64,
        /// Count instructions: one processor, and one guest nanosecond is one instruction.
        #[arg(long)]
        icount: bool,
        /// Bring what the command leaves in the guest's /out here.
        #[arg(long, value_name = "DIR")]
        out: Option<PathBuf>,
        /// Keep the kernel's console.
        #[arg(long, value_name = "FILE")]
        console: Option<PathBuf>,
        /// The command and its arguments.
        #[arg(last = true, required = true)]
        command: Vec<String>,
    },
    /// Boots a guest with a shell on this terminal; leaving the shell ends it.
    Shell {
        #[command(flatten)]
        hardware: Hardware,
    },
}

#[derive(Debug, Args)]
struct Hardware {
    /// The kernel.
    #[arg(long)]
    kernel: Kernel,
    /// More words for the kernel's command line.
    #[arg(long, default_value = "", value_name = "WORDS", allow_hyphen_values = true)]
    append: String,
    /// The kernel's LSM list; `default` leaves it as shipped.
    #[arg(long, default_value = LSM_WITH_BPF)]
    lsm: String,
    /// Memory in MiB.
    #[arg(long, default_value_t = 2048)]
    memory: u32,
    /// A file or folder to carry in; may be repeated.
    #[arg(long, value_name = "FILE:PATH")]
    payload: Vec<Payload>,
    /// A variable of the command's environment; may be repeated.
    #[arg(long = "env", value_name = "NAME=VALUE")]
    environment: Vec<String>,
}

impl Hardware {
    fn machine(&self) -> Machine {
        let lsm = (self.lsm != "default").then(|| self.lsm.clone());
        Machine { memory: self.memory, lsm, append: self.append.clone(), ..Machine::default() }
    }
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    match act(&cli) {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            eprintln!("vm: {error:#}");
            let timed_out = matches!(error.downcast_ref(), Some(Error::Timeout { .. }));
            ExitCode::from(if timed_out { TIMED_OUT } else { FAILED })
        }
    }
}

fn act(cli: &Cli) -> anyhow::Result<u8> {
    let cache = Cache::of_user();
    let mirror = || cli.mirror.as_deref().map_or_else(Mirror::of_machine, |url| Ok(Mirror::at(url)));
    match &cli.action {
        Action::Kernels { kernels } => {
            let wanted = if kernels.is_empty() { &KERNELS[..] } else { kernels };
            for kernel in wanted {
                let cached = kernels::ensure(&cache, *kernel, &mirror)?;
                say(format!("kernel {}: {}", kernel.name, cached.release));
            }
            Ok(0)
        }
        Action::Root => {
            say(format!("root image: {}", root::ensure(&cache, &mirror, true)?.display()));
            Ok(0)
        }
        Action::Run { hardware, timeout, icount, out, console, command } => {
            let machine = Machine { icount: *icount, ..hardware.machine() };
            let job = Job { command: command.clone(), out: out.is_some(), ..job(hardware) };
            let guest = Guest {
                kernel: &kernels::ensure(&cache, hardware.kernel, &mirror)?,
                root: &root::ensure(&cache, &mirror, false)?,
                machine,
                job,
                timeout: Duration::from_secs(*timeout),
                out: out.clone(),
                console: console.clone(),
            };
            let ended = run::run(&cache, &guest)?;
            say(format!(
                "kernel {}: {}, booted in {:.1} s, exit status {} after {:.1} s",
                hardware.kernel.name,
                guest.kernel.release,
                ended.booted.as_secs_f64(),
                ended.code,
                ended.ran.as_secs_f64()
            ));
            Ok(ended.code)
        }
        Action::Shell { hardware } => shell(&cache, &mirror, hardware),
    }
}

fn job(hardware: &Hardware) -> Job {
    Job { payload: hardware.payload.clone(), environment: hardware.environment.clone(), ..Job::default() }
}

fn shell(cache: &Cache, mirror: &dyn Fn() -> Result<Mirror, Error>, hardware: &Hardware) -> anyhow::Result<u8> {
    let mut job = job(hardware);
    job.command = vec!["bash".to_owned(), "--login".to_owned()];
    job.environment.push(format!("TERM={}", std::env::var("TERM").unwrap_or_else(|_| "vt100".to_owned())));
    job.shell = Some(process::terminal_size().unwrap_or((24, 80)));
    let guest = Guest {
        kernel: &kernels::ensure(cache, hardware.kernel, mirror)?,
        root: &root::ensure(cache, mirror, false)?,
        machine: Machine { terminal: true, ..hardware.machine() },
        job,
        timeout: Duration::from_hours(24),
        out: None,
        console: None,
    };
    say(format!("kernel {}: {}; leave the shell to end the guest", hardware.kernel.name, guest.kernel.release));
    Ok(run::run(cache, &guest)?.code)
}
