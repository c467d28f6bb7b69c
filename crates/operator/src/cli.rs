//! The command line.
#![allow(clippy::doc_markdown)] // `--help` shows these comments as plain text.

use std::net::SocketAddr;
use std::time::Duration;

use clap::{Parser, Subcommand};

use crate::retention::Caps;

/// Turns ContainerDriftPolicies into one ConfigMap for each node, says in their status what became of them, and keeps DriftEvents
/// within bounds.
#[derive(Debug, Parser)]
#[command(name = "mooring-operator", version)]
pub struct Cli {
    /// What to do instead.
    #[command(subcommand)]
    pub command: Option<Command>,

    /// Where /livez, /readyz and /metrics are answered.
    #[arg(long, default_value = "127.0.0.1:8080", value_name = "ADDRESS:PORT")]
    pub listen: SocketAddr,

    /// The name that the Lease and Events show for this process; a part that no other has is added.
    #[arg(long, env = "POD_NAME", default_value = "mooring-operator", value_name = "NAME")]
    pub name: String,

    /// Seconds after which another operator takes over from one that is gone.
    #[arg(long, default_value_t = 15, value_parser = clap::value_parser!(u64).range(3..=300), value_name = "SECONDS")]
    pub lease_seconds: u64,

    /// What detect.volumeBinaries is for policies that leave it unset.
    #[arg(long)]
    pub volume_binaries: bool,

    /// Seconds that a DriftEvent stays after it was counted last; a week unless said otherwise.
    #[arg(long, default_value_t = 604_800, value_parser = clap::value_parser!(u64).range(10..=31_536_000), value_name = "SECONDS")]
    pub event_seconds: u64,

    /// DriftEvents in one namespace, at most.
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..=100_000), value_name = "NUMBER")]
    pub events_per_namespace: u32,

    /// DriftEvents in the cluster, at most.
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..=1_000_000), value_name = "NUMBER")]
    pub events_per_cluster: u32,

    /// Seconds for which agents make no DriftEvents in a namespace at first, once as many were trimmed there within five minutes
    /// as its cap allows (or in the cluster, as its cap); twice as long each time that it comes again soon.
    #[arg(long, default_value_t = 600, value_parser = clap::value_parser!(u64).range(10..=21_600), value_name = "SECONDS")]
    pub breaker_seconds: u64,
}

/// Something else than to run.
#[derive(Clone, Debug, Subcommand)]
pub enum Command {
    /// Asks every node to take everything down and waits until all have; exit status 0 only then. For the moment before Mooring is
    /// removed. The operators stand still meanwhile, and go on as before if it fails.
    Release {
        /// Seconds after which the nodes that did not are listed.
        #[arg(long, default_value_t = 120, value_parser = clap::value_parser!(u64).range(1..=3600), value_name = "SECONDS")]
        within: u64,
    },
}

impl Cli {
    /// How many events there may be.
    #[must_use]
    pub fn caps(&self) -> Caps {
        Caps {
            time_to_live: Duration::from_secs(self.event_seconds),
            namespace: self.events_per_namespace as usize,
            cluster: self.events_per_cluster as usize,
        }
    }
}
