//! `bench`: compares what guests measured with the bounds, and writes `docs/benchmarks.md`. Used by `make bench`.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Parser;
use mooring_e2e::bench::{Numbers, document, judge, judge_agent, judge_native, judge_operator, judge_responses, table};

/// Prints how the bounds are kept. Exit status 1 when one is missed, 2 when something was not measured.
#[derive(Debug, Parser)]
struct Arguments {
    /// What was counted on the kernel that the bounds are for.
    #[arg(long)]
    instructions: PathBuf,
    /// What was counted on another kernel; may be repeated.
    #[arg(long)]
    other: Vec<PathBuf>,
    /// What was counted where `bpf` is not among the LSMs, on the same kernel.
    #[arg(long)]
    fmod_ret: PathBuf,
    /// Memory and time.
    #[arg(long)]
    footprint: PathBuf,
    /// How long it took to kill containers; by both clocks.
    #[arg(long)]
    responses: Vec<PathBuf>,
    /// What an exec took on this machine's own kernel.
    #[arg(long)]
    native: PathBuf,
    /// What the operator was measured to need; may be repeated.
    #[arg(long)]
    operator: Vec<PathBuf>,
    /// What agents in a cluster were measured to do; may be repeated.
    #[arg(long)]
    agent: Vec<PathBuf>,
    /// The enforcer's binary.
    #[arg(long)]
    binary: PathBuf,
    /// Where the document goes.
    #[arg(long)]
    out: PathBuf,
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("bench: {error:#}");
            ExitCode::from(2)
        }
    }
}

fn run(arguments: &Arguments) -> anyhow::Result<bool> {
    let mut instructions = Numbers::read(&arguments.instructions)?;
    let fmod_ret = Numbers::read(&arguments.fmod_ret)?.numbers;
    instructions.numbers.extend(fmod_ret.into_iter().map(|(name, number)| (format!("fmod-ret {name}"), number)));
    let others: Vec<Numbers> = arguments.other.iter().map(|path| Numbers::read(path)).collect::<Result<_, _>>()?;
    let mut footprint = Numbers::read(&arguments.footprint)?;
    footprint.numbers.insert("binary-bytes".into(), size(&arguments.binary)?);
    let mut judged = judge(&instructions, &footprint)?;
    judged.extend(judge_responses(&all(&arguments.responses)?)?);
    judged.extend(judge_native(&Numbers::read(&arguments.native)?)?);
    judged.extend(judge_operator(&all(&arguments.operator)?)?);
    judged.extend(judge_agent(&all(&arguments.agent)?)?);
    std::fs::write(&arguments.out, document(&judged, &instructions, &others)?)?;
    print!("{}", table(&judged));
    let missed = judged.iter().filter(|line| line.kept == Some(false)).count();
    println!("{} bounds kept, {missed} missed", judged.iter().filter(|line| line.kept == Some(true)).count());
    Ok(missed == 0)
}

fn all(files: &[PathBuf]) -> anyhow::Result<Numbers> {
    let mut all = Numbers::default();
    for path in files {
        all.numbers.extend(Numbers::read(path)?.numbers);
    }
    Ok(all)
}

fn size(binary: &Path) -> anyhow::Result<f64> {
    // Far below 2^53.
    #[allow(clippy::cast_precision_loss)]
    Ok(std::fs::metadata(binary)?.len() as f64)
}
