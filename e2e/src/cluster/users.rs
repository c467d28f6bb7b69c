//! Who asks the API server: the administrator, any user by a certificate, any service account by a token.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::certificates::Authority;
use super::control::Cluster;
use super::error::Result;
use super::kubectl::Kubectl;
use crate::vm::{self, process};

impl Cluster {
    /// kubectl as the administrator, who may do everything.
    #[must_use]
    pub fn kubectl(&self) -> Kubectl {
        self.kubectl_with(self.home.kubeconfig("admin"))
    }

    /// kubectl as any user with any groups; what it may do is for RBAC to say. A kubelet is `system:node:NAME` in `system:nodes`.
    ///
    /// # Errors
    /// When no certificate can be made.
    pub fn kubectl_as(&self, user: &str, groups: &[&str]) -> Result<Kubectl> {
        let name = file_name(user, groups)?;
        let pair = self.authority().user(&name, user, groups)?;
        Ok(self.kubectl_with(self.write_kubeconfig(&name, &pair.credentials())?))
    }

    /// kubectl as a service account, by a token that holds for a day. With `node` it is bound to that Node, as the tokens of
    /// pods are that run there; admission sees the node's name in it.
    ///
    /// # Errors
    /// When the account or the node does not exist.
    pub fn kubectl_of_account(&self, namespace: &str, account: &str, node: Option<&str>) -> Result<Kubectl> {
        let mut ask = vec!["create", "token", account, "--namespace", namespace, "--duration=24h"];
        if let Some(node) = node {
            ask.extend(["--bound-object-kind=Node", "--bound-object-name", node]);
        }
        let token = self.kubectl().run(&ask)?;
        let name = file_name(account, &[namespace, node.unwrap_or_default()])?;
        Ok(self.kubectl_with(self.write_kubeconfig(&name, &json!({"token": token.trim()}))?))
    }

    fn kubectl_with(&self, kubeconfig: PathBuf) -> Kubectl {
        Kubectl { program: self.programs.kubernetes("kubectl"), kubeconfig, cache: self.home.path("kubectl-cache") }
    }

    pub(super) fn authority(&self) -> Authority {
        Authority::at(&self.home.path("pki"))
    }

    pub(super) fn write_kubeconfig(&self, name: &str, credentials: &Value) -> Result<PathBuf> {
        let path = self.home.kubeconfig(name);
        let text = kubeconfig(&self.server(), &self.home.pki("ca.crt"), credentials);
        fs::write(&path, text).map_err(vm::Error::io("write", &path))?;
        Ok(path)
    }
}

/// A kubeconfig for one user, as JSON, which is YAML. The paths in it are those of wherever it is used.
pub(super) fn kubeconfig(server: &str, authority: &Path, credentials: &Value) -> String {
    json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "mooring", "cluster": {"server": server, "certificate-authority": authority}}],
        "users": [{"name": "user", "user": credentials}],
        "contexts": [{"name": "mooring", "context": {"cluster": "mooring", "user": "user"}}],
        "current-context": "mooring",
    })
    .to_string()
}

/// What a user's files are called: readable, and another for each set of groups.
fn file_name(user: &str, groups: &[&str]) -> Result<String> {
    let letter = |letter: char| if letter.is_ascii_alphanumeric() { letter } else { '-' };
    let readable: String = user.chars().map(letter).collect();
    let digest = process::sha256(format!("{user} {groups:?}").as_bytes())?;
    Ok(format!("user-{readable}-{}", &digest[..8]))
}
