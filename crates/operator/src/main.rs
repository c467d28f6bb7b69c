//! `mooring-operator`.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use clap::Parser as _;
use kube::Client;
use mooring_operator::cli::{Cli, Command};
use mooring_operator::leader::{Candidate, Clock, Leadership};
use mooring_operator::metrics::Metrics;
use mooring_operator::release;
use mooring_operator::serve::{Served, serve};
use mooring_operator::term::{self, Setting};
use mooring_operator::unlisted::Unlisted;
use mooring_operator::write::Writer;
use mooring_policy::NodeDefaults;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tracing_subscriber::EnvFilter;

fn main() -> anyhow::Result<()> {
    let cli = Cli::parse();
    let filter = EnvFilter::try_from_default_env()
        .unwrap_or_else(|_| EnvFilter::new("info,kube_client=error,kube_runtime=error"));
    tracing_subscriber::fmt().json().flatten_event(true).with_env_filter(filter).with_target(false).init();
    // Plans, writes and the Lease are one task, so that one that is stuck does not lead for long; probes are answered beside it.
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .context("the runtime does not start")?;
    runtime.block_on(run(cli))
}

async fn run(cli: Cli) -> anyhow::Result<()> {
    let client = Client::try_default()
        .await
        .context("no way to the API server: run in a cluster, or set KUBECONFIG to a kubeconfig's path")?;
    if let Some(Command::Release { within }) = cli.command {
        return release(client, &cli, Duration::from_secs(within)).await;
    }
    let listener = TcpListener::bind(cli.listen).await.with_context(|| format!("cannot listen on {}", cli.listen))?;
    let me = format!("{}_{}", cli.name, unique().context("no random name")?);
    let duration = Duration::from_secs(cli.lease_seconds);
    let clock = Clock::start();
    let leadership = Leadership::new(clock);
    let metrics = Arc::new(Metrics::default());
    let unlisted = Arc::new(Unlisted::default());
    tracing::info!(me, version = env!("CARGO_PKG_VERSION"), listen = %cli.listen, "begins");

    let setting = Setting {
        client: client.clone(),
        writer: Writer::new(client.clone(), me.clone()),
        leadership: leadership.clone(),
        clock,
        unlisted: unlisted.clone(),
        metrics: metrics.clone(),
        defaults: NodeDefaults { volume_binaries: cli.volume_binaries },
        caps: cli.caps(),
        breaker: Duration::from_secs(cli.breaker_seconds),
    };
    let served = Served {
        metrics: metrics.clone(),
        leadership: leadership.clone(),
        unlisted: unlisted.clone(),
        clock,
        patience: duration * 2,
    };
    let mut candidate = Candidate::new(client, me, duration, leadership);
    let (leads, mut led) = watch::channel(None);
    let mut terminate = signal(SignalKind::terminate()).context("no signals")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("no signals")?;

    let terms = async {
        loop {
            let Ok(term) = led.wait_for(Option::is_some).await.map(|term| *term) else { return };
            metrics.leader.set(1);
            tokio::select! {
                // First, so that an old term does nothing in a new one.
                biased;
                _ = led.wait_for(|leads| *leads != term) => {}
                () = term::run(&setting) => {}
            }
            metrics.leader.set(0);
            metrics.breaker.set(0);
            unlisted.clear();
        }
    };
    let answers = tokio::spawn(serve(listener, served));
    tokio::select! {
        () = candidate.stand(&leads) => {}
        () = terms => {}
        answered = answers => {
            answered.context("the server ended")?.context("the server failed")?;
        }
        _ = terminate.recv() => tracing::info!("SIGTERM: the Lease is given back"),
        _ = interrupt.recv() => tracing::info!("SIGINT: the Lease is given back"),
    }
    match tokio::time::timeout(Duration::from_secs(5), candidate.release()).await {
        Ok(Ok(())) => tracing::info!("ends"),
        Ok(Err(error)) => tracing::warn!(%error, "ends; the Lease runs out by itself"),
        Err(_) => tracing::warn!("ends; the Lease runs out by itself"),
    }
    Ok(())
}

/// Once it is done, the operators have this long to be removed before one of them takes over.
const RELEASE_LEASE: Duration = Duration::from_mins(1);

async fn release(client: Client, cli: &Cli, within: Duration) -> anyhow::Result<()> {
    let me = format!("{}_{}", cli.name, unique().context("no random name")?);
    let mut candidate = Candidate::new(client.clone(), me, RELEASE_LEASE, Leadership::new(Clock::start()));
    let nodes = release::release(&client, &mut candidate, within).await?;
    println!("released: nothing is enforced any more on any of the {nodes} nodes");
    Ok(())
}

/// What no other process has.
fn unique() -> std::io::Result<String> {
    let text = std::fs::read_to_string("/proc/sys/kernel/random/uuid")?;
    Ok(text.trim().to_owned())
}
