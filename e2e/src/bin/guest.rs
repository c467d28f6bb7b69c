//! `guest`: runs the attack suites inside a booted guest, as root; with its places told, on any machine. Under the name `probe` it is the attacker's tool in the test containers.

use clap::{Parser, Subcommand};
use mooring_e2e::attacks::payload;
use mooring_e2e::guest::{Bench, Context, Places, Report, RuntimeKind, Settings, bench, list, run, use_settings};
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Attack suites against the enforcer, with real containers. Run it inside a guest, as root.
#[derive(Debug, Parser)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Prints every suite and its tests.
    List,
    /// Runs suites or tests: one line each, exit status 0 only if at least one passed and none failed.
    Run {
        /// `all`, a suite, or the beginning of a test's full name (`matrix/new-binary`).
        #[arg(required = true)]
        names: Vec<String>,
        /// The container runtime.
        #[arg(long, value_enum, default_value = "runc")]
        runtime: RuntimeKind,
        /// The enforcer's binary; only the suite `control` does without.
        #[arg(long)]
        enforcer: Option<PathBuf>,
        #[command(flatten)]
        settings: Settings,
        #[command(flatten)]
        places: Places,
    },
    /// Measures what the enforcer costs and writes the numbers.
    Bench {
        /// What.
        #[arg(value_enum)]
        what: Bench,
        /// The enforcer's binary.
        #[arg(long)]
        enforcer: PathBuf,
        /// A static program that ends at once.
        #[arg(long)]
        program: PathBuf,
        /// Also count what each of the programs costs.
        #[arg(long)]
        by_program: bool,
        /// Where the numbers go.
        #[arg(long)]
        out: PathBuf,
    },
}

fn main() -> ExitCode {
    let words: Vec<OsString> = std::env::args_os().collect();
    if payload::is_probe(words.first()) {
        return ExitCode::from(payload::main(words.get(1..).unwrap_or_default()));
    }
    match Arguments::parse().command {
        Command::List => {
            list();
            ExitCode::SUCCESS
        }
        Command::Run { names, runtime, enforcer, settings, places } => {
            use_settings(settings);
            ended(suites(&names, runtime, &places, enforcer))
        }
        Command::Bench { what, enforcer, program, by_program, out } => {
            ended(measure(what, enforcer, &program, by_program, &out))
        }
    }
}

fn ended(result: anyhow::Result<bool>) -> ExitCode {
    match result {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("guest: {error:#}");
            ExitCode::from(2)
        }
    }
}

fn measure(what: Bench, enforcer: PathBuf, program: &Path, by_program: bool, out: &Path) -> anyhow::Result<bool> {
    // crun: what starts 50 containers soonest.
    let context = Context::new(RuntimeKind::Crun, &Places::default(), Some(enforcer))?;
    bench(what, &context, program, by_program, out)?;
    Ok(true)
}

fn suites(names: &[String], runtime: RuntimeKind, places: &Places, enforcer: Option<PathBuf>) -> anyhow::Result<bool> {
    let context = Context::new(runtime, places, enforcer)?;
    let mut report = Report::default();
    run(&context, names, &mut report);
    Ok(report.finish())
}
