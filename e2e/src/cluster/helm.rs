//! Helm, and the chart of this checkout.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::control::Cluster;
use super::error::Result;
use super::programs;
use crate::vm::process;

/// The chart.
pub const CHART: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy/helm/mooring");
/// The release's name and, by no choice of whoever installs it, its namespace.
pub const RELEASE: [&str; 2] = ["mooring", "mooring-system"];

/// Until what the chart starts is Ready.
const WAIT: [&str; 2] = ["--wait", "--timeout=15m"];

/// Helm with a user's kubeconfig.
#[derive(Debug, Clone)]
pub struct Helm {
    program: PathBuf,
    kubeconfig: PathBuf,
    home: PathBuf,
}

/// Which Helm.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    /// The one that people start with today.
    Four,
    /// The one that many still have.
    Three,
}

impl Cluster {
    /// Helm as the administrator, from the cache or built now.
    ///
    /// # Errors
    /// When it cannot be built.
    pub fn helm(&self, version: Version) -> Result<Helm> {
        let program = programs::helm(&self.cache, version)?;
        Ok(Helm { program, kubeconfig: self.home.kubeconfig("admin"), home: self.home.path("helm") })
    }

    /// Defines the kinds of Prometheus' operator that the chart's options use.
    ///
    /// # Errors
    /// When they cannot be fetched, or the API server refuses them.
    pub fn define_monitoring(&self) -> Result<()> {
        let folder = programs::monitoring(&self.cache)?;
        let kubectl = self.kubectl();
        // They are too large for an annotation.
        kubectl.run(&["apply", "--server-side", "--filename", &folder.to_string_lossy()])?;
        kubectl.run(&["wait", "--for=condition=Established", "crd", "--all", "--timeout=300s"]).map(drop)
    }
}

impl Helm {
    /// The folder that it is in.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.program.parent().unwrap_or(&self.program)
    }

    /// Helm itself, to be given arguments.
    #[must_use]
    pub fn command(&self) -> Command {
        let mut command = process::tool(&self.program.to_string_lossy());
        command.env("KUBECONFIG", &self.kubeconfig);
        // Nothing from or in the home folder of whoever runs the tests.
        for folder in ["HELM_CACHE_HOME", "HELM_CONFIG_HOME", "HELM_DATA_HOME"] {
            command.env(folder, &self.home);
        }
        command
    }

    /// Runs Helm and returns what it printed.
    ///
    /// # Errors
    /// [`Failed`](crate::vm::Error::Failed) with Helm's own words, among others.
    pub fn run(&self, arguments: &[&str]) -> Result<String> {
        Ok(String::from_utf8_lossy(&process::output(self.command().args(arguments))?).into_owned())
    }

    /// Installs the chart as a user does, with these arguments (`--set`, …), and waits until it runs; what it prints is `NOTES.txt`, too.
    ///
    /// # Errors
    /// As [`run`](Self::run).
    pub fn install(&self, arguments: &[&str]) -> Result<String> {
        let [release, namespace] = RELEASE;
        let install = ["install", release, CHART, "--namespace", namespace, "--create-namespace"];
        self.run(&[&install[..], &WAIT, arguments].concat())
    }

    /// Upgrades the release to the chart with these arguments, and waits until it runs.
    ///
    /// # Errors
    /// As [`run`](Self::run).
    pub fn upgrade(&self, arguments: &[&str]) -> Result<String> {
        let [release, namespace] = RELEASE;
        let upgrade = ["upgrade", release, CHART, "--namespace", namespace];
        self.run(&[&upgrade[..], &WAIT, arguments].concat())
    }

    /// Takes the release back to what it was before the last upgrade, and waits until that runs.
    ///
    /// # Errors
    /// As [`run`](Self::run).
    pub fn rollback(&self) -> Result<String> {
        let [release, namespace] = RELEASE;
        self.run(&[&["rollback", release, "--namespace", namespace][..], &WAIT].concat())
    }

    /// What the chart comes to with these arguments, without any cluster: `--set`, `--show-only`, …
    ///
    /// # Errors
    /// As [`run`](Self::run).
    pub fn template(&self, arguments: &[&str]) -> Result<String> {
        let [name, namespace] = RELEASE;
        let mut all = vec!["template", name, CHART, "--namespace", namespace];
        all.extend(arguments);
        self.run(&all)
    }
}
