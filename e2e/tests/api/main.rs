//! The API against a real API server: what it refuses and in which words, what it prints, and who may write what.
//!
//! One control plane serves all tests here; it ends with this process.
#![allow(missing_docs, unreachable_pub, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod admission;
#[path = "../../../crates/crd/tests/cases/mod.rs"]
mod cases;
mod chart;
mod printing;
mod refusals;
mod rights;

use std::io::Write as _;
use std::process::Stdio;
use std::sync::OnceLock;

use mooring_e2e::cluster::{Cluster, Kubectl, Options};

/// The control plane, with everything of `deploy/` that must be there before the binaries.
fn cluster() -> &'static Cluster {
    static CLUSTER: OnceLock<Result<Cluster, String>> = OnceLock::new();
    CLUSTER.get_or_init(|| prepared().map_err(|error| error.to_string())).as_ref().unwrap()
}

fn prepared() -> mooring_e2e::cluster::Result<Cluster> {
    let cluster = Cluster::start(Options::default())?;
    cluster.install_api()?;
    Ok(cluster)
}

fn kubectl() -> Kubectl {
    cluster().kubectl()
}

/// All that kubectl says against the request; None where it was taken.
fn refusal(kubectl: &Kubectl, arguments: &[&str], input: &str) -> Option<String> {
    let mut command = kubectl.command();
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    (!output.status.success()).then(|| String::from_utf8(output.stderr).unwrap())
}
