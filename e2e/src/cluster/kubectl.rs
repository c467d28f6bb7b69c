//! Kubernetes' own kubectl, as one user.

use std::path::PathBuf;
use std::process::Command;

use serde_json::Value;

use super::error::{Error, Result};
use crate::vm::{self, process};

/// kubectl with a user's kubeconfig.
#[derive(Debug, Clone)]
pub struct Kubectl {
    pub(crate) program: PathBuf,
    pub(crate) kubeconfig: PathBuf,
    pub(crate) cache: PathBuf,
}

impl Kubectl {
    /// The user's kubeconfig.
    #[must_use]
    pub fn kubeconfig(&self) -> &std::path::Path {
        &self.kubeconfig
    }

    /// kubectl itself, to be given arguments.
    #[must_use]
    pub fn command(&self) -> Command {
        let mut command = process::tool(&self.program.to_string_lossy());
        command.arg("--kubeconfig").arg(&self.kubeconfig);
        // Nothing from or in the home folder of whoever runs the tests.
        command.env("KUBECACHEDIR", &self.cache).env("KUBERC", "off").env_remove("KUBECONFIG");
        command
    }

    /// Runs kubectl and returns what it printed.
    ///
    /// # Errors
    /// [`vm::Error::Failed`] with kubectl's own words when the API server refuses, among others.
    pub fn run(&self, arguments: &[&str]) -> Result<String> {
        Ok(String::from_utf8_lossy(&process::output(self.command().args(arguments))?).into_owned())
    }

    /// As [`run`](Self::run), with `input` on standard input: `run_with(&["apply", "-f", "-"], …)`.
    ///
    /// # Errors
    /// As [`run`](Self::run).
    pub fn run_with(&self, arguments: &[&str], input: &str) -> Result<String> {
        let printed = process::output_with_input(self.command().args(arguments), input.as_bytes())?;
        Ok(String::from_utf8_lossy(&printed).into_owned())
    }

    /// Runs kubectl with `-o json` and returns the object.
    ///
    /// # Errors
    /// As [`run`](Self::run), and when what it printed is no JSON.
    pub fn json(&self, arguments: &[&str]) -> Result<Value> {
        let printed = process::output(self.command().args(arguments).args(["-o", "json"]))?;
        serde_json::from_slice(&printed).map_err(|source| Error::Format { path: self.program.clone(), source })
    }

    /// Applies manifests, YAML or JSON.
    ///
    /// # Errors
    /// As [`run`](Self::run).
    pub fn apply(&self, manifests: &str) -> Result<String> {
        self.run_with(&["apply", "-f", "-"], manifests)
    }

    /// What the API server says against these manifests; `None` when it takes them. Nothing is stored.
    ///
    /// # Errors
    /// As [`run`](Self::run), when kubectl fails otherwise.
    pub fn refusal(&self, manifests: &str) -> Result<Option<String>> {
        match self.run_with(&["create", "--dry-run=server", "-f", "-"], manifests) {
            Ok(_) => Ok(None),
            Err(Error::Rig(vm::Error::Failed { stderr, .. })) => Ok(Some(stderr)),
            Err(error) => Err(error),
        }
    }
}
