//! `cluster`: a real Kubernetes cluster on this machine, with guests as nodes, for tests and the daily loop.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use mooring_e2e::cluster::{Cluster, Options};
use mooring_e2e::vm::Error;
use mooring_e2e::vm::apt::Mirror;

/// A real Kubernetes cluster on this machine, with guests as nodes.
#[derive(Debug, Parser)]
#[command(version)]
struct Cli {
    /// The cluster's folder.
    #[arg(long, global = true, default_value = "target/cluster", value_name = "DIR")]
    dir: PathBuf,
    /// Debian's mirror, instead of the one in this machine's apt sources.
    #[arg(long, global = true, value_name = "URL")]
    mirror: Option<String>,
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Starts a cluster and leaves it running.
    Up,
    /// Ends the cluster and removes its folder.
    Down,
}

fn main() -> ExitCode {
    match act(&Cli::parse()) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("cluster: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn act(cli: &Cli) -> anyhow::Result<ExitCode> {
    let mirror = || -> Result<Mirror, Error> {
        cli.mirror.as_deref().map_or_else(Mirror::of_machine, |url| Ok(Mirror::at(url)))
    };
    match &cli.action {
        Action::Up => {
            let cluster = Cluster::up(&cli.dir, Options::default(), &mirror)?;
            println!("{}", cluster.kubectl().kubeconfig().display());
        }
        Action::Down => Cluster::down(&cli.dir)?,
    }
    Ok(ExitCode::SUCCESS)
}
