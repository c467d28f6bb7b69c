//! What a control plane is made of, and how each part is started. Pure, so that it can be tested.

use std::path::{Path, PathBuf};

/// A process of the control plane.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
pub enum Component {
    /// The database.
    Etcd,
    /// kube-apiserver.
    ApiServer,
    /// kube-controller-manager.
    ControllerManager,
    /// kube-scheduler.
    Scheduler,
    /// kwok, which plays nodes and their pods.
    Kwok,
}

impl Component {
    /// All of them, in the order in which they are started.
    pub const ALL: [Self; 5] = [Self::Etcd, Self::ApiServer, Self::ControllerManager, Self::Scheduler, Self::Kwok];

    /// What its log and its process are called.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Etcd => "etcd",
            Self::ApiServer => "kube-apiserver",
            Self::ControllerManager => "kube-controller-manager",
            Self::Scheduler => "kube-scheduler",
            Self::Kwok => "kwok",
        }
    }
}

/// Where the control plane listens on 127.0.0.1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(crate) struct Ports {
    pub(crate) etcd: u16,
    pub(crate) api: u16,
}

/// The files and folders of a cluster.
#[derive(Debug, Clone)]
pub(crate) struct Home(pub(crate) PathBuf);

impl Home {
    pub(crate) fn path(&self, part: &str) -> PathBuf {
        self.0.join(part)
    }

    pub(crate) fn log(&self, name: &str) -> PathBuf {
        self.0.join("log").join(name)
    }

    pub(crate) fn pki(&self, file: &str) -> PathBuf {
        self.0.join("pki").join(file)
    }

    pub(crate) fn audit(&self) -> PathBuf {
        self.path("audit.log")
    }

    pub(crate) fn kubeconfig(&self, name: &str) -> PathBuf {
        self.0.join("kubeconfig").join(name)
    }
}

/// The address that a guest's user network gives the host.
pub(crate) const HOST_OF_GUESTS: &str = "10.0.2.2";
/// The `kubernetes` service's address.
pub(crate) const SERVICE: &str = "10.96.0.1";

/// What goes to the audit log: no one's reads and writes are left out, and of what Mooring writes also the contents.
pub(crate) const AUDIT_POLICY: &str = "\
apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules:
- level: RequestResponse
  verbs: [create, update, patch, delete, deletecollection]
  resources:
  - group: mooring.dev
  - group: ''
    resources: [configmaps, events]
- level: Metadata
";

/// The arguments of `component`. kwok's configuration is `kwok`.
pub(crate) fn arguments(component: Component, home: &Home, ports: Ports, kwok: &Path) -> Vec<String> {
    let option = |name: &str, value: &Path| format!("--{name}={}", value.display());
    let kubeconfig = |component: Component| option("kubeconfig", &home.kubeconfig(component.name()));
    let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
    match component {
        Component::Etcd => {
            let client = format!("http://127.0.0.1:{}", ports.etcd);
            // Nobody is to be its peer, and what it holds need not outlive the machine.
            let mut all = words(&["--unsafe-no-fsync", "--log-level=warn", "--listen-peer-urls=http://127.0.0.1:0"]);
            all.push(option("data-dir", &home.path("etcd")));
            all.push(format!("--listen-client-urls={client}"));
            all.push(format!("--advertise-client-urls={client}"));
            all
        }
        Component::ApiServer => {
            let mut all = words(&[
                "--bind-address=127.0.0.1",
                "--authorization-mode=Node,RBAC",
                "--enable-admission-plugins=NodeRestriction",
                "--allow-privileged=true",
                "--service-cluster-ip-range=10.96.0.0/16",
                "--service-account-issuer=https://kubernetes.default.svc",
                // Kubelets are reached through a port of this machine (see node.rs).
                "--kubelet-preferred-address-types=ExternalIP",
                "--profiling=false",
            ]);
            all.push(format!("--secure-port={}", ports.api));
            all.push(format!("--advertise-address={HOST_OF_GUESTS}"));
            all.push(format!("--etcd-servers=http://127.0.0.1:{}", ports.etcd));
            for (name, file) in [
                ("client-ca-file", "ca.crt"),
                ("tls-cert-file", "kube-apiserver.crt"),
                ("tls-private-key-file", "kube-apiserver.key"),
                ("kubelet-certificate-authority", "ca.crt"),
                ("kubelet-client-certificate", "kubelet-client.crt"),
                ("kubelet-client-key", "kubelet-client.key"),
                ("service-account-key-file", "service-accounts.pub"),
                ("service-account-signing-key-file", "service-accounts.key"),
            ] {
                all.push(option(name, &home.pki(file)));
            }
            all.push(option("audit-policy-file", &home.path("audit-policy.yaml")));
            all.push(option("audit-log-path", &home.audit()));
            // In MB: it is read as one file.
            all.push("--audit-log-maxsize=100000".to_owned());
            all
        }
        Component::ControllerManager => {
            // A machine that is busy with other things must not look like a dead node.
            let mut all = words(&["--leader-elect=false", "--secure-port=0", "--node-monitor-grace-period=2m"]);
            all.push("--use-service-account-credentials=true".to_owned());
            all.push(kubeconfig(component));
            all.push(option("root-ca-file", &home.pki("ca.crt")));
            all.push(option("service-account-private-key-file", &home.pki("service-accounts.key")));
            all
        }
        Component::Scheduler => {
            let mut all = words(&["--leader-elect=false", "--secure-port=0"]);
            all.push(kubeconfig(component));
            all
        }
        Component::Kwok => {
            let mut all = words(&["--manage-all-nodes=false", "--node-ip=10.0.0.1", "--server-address=", "--v=0"]);
            all.push(format!("--manage-nodes-with-annotation-selector={KWOK_KEY}=fake"));
            all.push(kubeconfig(component));
            all.push(option("config", kwok));
            all
        }
    }
}

/// The annotation by which kwok knows its nodes (value `fake`), also their label, and the key of the taint that keeps pods
/// which do not tolerate it off them.
pub const KWOK_KEY: &str = "kwok.x-k8s.io/node";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_listens_beyond_loopback() {
        let home = Home("/c".into());
        let ports = Ports { etcd: 1001, api: 1002 };
        for component in Component::ALL {
            for word in arguments(component, &home, ports, Path::new("/k")) {
                for (option, allowed) in [
                    ("--bind-address=", "127.0.0.1"),
                    ("--listen-client-urls=", "http://127.0.0.1:1001"),
                    ("--listen-peer-urls=", "http://127.0.0.1:0"),
                ] {
                    assert!(word.strip_prefix(option).is_none_or(|value| value == allowed), "{word}");
                }
            }
        }
        let api = arguments(Component::ApiServer, &home, ports, Path::new("/k"));
        for word in
            ["--authorization-mode=Node,RBAC", "--enable-admission-plugins=NodeRestriction", "--secure-port=1002"]
        {
            assert!(api.iter().any(|there| there == word), "{word}: {api:?}");
        }
    }
}
