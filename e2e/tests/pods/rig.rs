//! One cluster with one node and Mooring in it, for all tests here.

use std::path::Path;
use std::sync::OnceLock;

use mooring_e2e::cluster::{
    CgroupDriver, Cluster, Component, HelmVersion, Images, Kubectl, Node, NodeOptions, Options,
};
use mooring_e2e::testing::{agents, eventually, explained, is_true, replaces_agent, show};
use serde_json::Value;

pub const NODE: &str = "node1";
pub const SYSTEM: &str = "mooring-system";

/// Whether there is time for what takes long.
pub fn soaks() -> bool {
    std::env::var_os("MOORING_SOAK").is_some()
}

pub struct Rig {
    pub cluster: Cluster,
    pub node: Node,
    pub admin: Kubectl,
}

/// The cluster, brought up by the first that asks; it ends with this process. `MOORING_CLUSTER=target/cluster` takes the one that
/// `make cluster-up cluster-install` made, which is quicker for whoever writes a test.
pub fn rig() -> &'static Rig {
    static RIG: OnceLock<Rig> = OnceLock::new();
    RIG.get_or_init(|| {
        let Some(folder) = std::env::var_os("MOORING_CLUSTER") else { return Rig::start(false) };
        let cluster = Cluster::open(Path::new(&folder)).unwrap();
        let (node, admin) = (cluster.node(NODE).unwrap(), cluster.kubectl());
        Rig { cluster, node, admin }
    })
}

/// What `MOORING_CGROUP_DRIVER` says; cgroupfs unless it says something.
fn cgroup_driver() -> CgroupDriver {
    match std::env::var("MOORING_CGROUP_DRIVER").as_deref() {
        Err(_) | Ok("cgroupfs") => CgroupDriver::Cgroupfs,
        Ok("systemd") => CgroupDriver::Systemd,
        Ok(other) => panic!("MOORING_CGROUP_DRIVER is cgroupfs or systemd, not {other}"),
    }
}

/// What `MOORING_LSM` says: `default` is the kernel's own list; with BPF in it unless it says something.
fn with_lsm_list(options: NodeOptions) -> NodeOptions {
    match std::env::var("MOORING_LSM").as_deref() {
        Err(_) => options,
        Ok("default") => NodeOptions { lsm: None, ..options },
        Ok(list) => NodeOptions { lsm: Some(list.to_owned()), ..options },
    }
}

/// What `MOORING_BACKEND` says; the best one of the node unless it says something.
pub fn backend() -> String {
    std::env::var("MOORING_BACKEND").unwrap_or_else(|_| "Auto".to_owned())
}

impl Rig {
    /// A cluster with Mooring in it, whose node may keep what is on its disk.
    pub fn start(keeps_disk: bool) -> Self {
        // Off unless it is asked for in Kubernetes 1.36, where the API server takes stop signals out of what it is given.
        let gate = (Component::ApiServer, "--feature-gates=ContainerStopSignals=true".to_owned());
        let cluster = Cluster::start(Options { arguments: vec![gate], ..Options::default() }).unwrap();
        let kernel = std::env::var("MOORING_KERNEL").unwrap_or_else(|_| "6.12".to_owned());
        let options = with_lsm_list(NodeOptions {
            memory: 3072,
            newer_runtime: true,
            cgroup_driver: cgroup_driver(),
            keeps_disk,
            ..NodeOptions::new(NODE, kernel.parse().unwrap())
        });
        let node = cluster.start_node(&options).unwrap();
        cluster.install(&Images::built().unwrap()).unwrap();
        let admin = cluster.kubectl();
        if backend() != "Auto" {
            let value = format!("--set-string=agent.backend={}", backend());
            let helm = cluster.helm(HelmVersion::Four).unwrap();
            replaces_agent(&admin, || helm.upgrade(&["--reuse-values", &value])).unwrap();
            eventually("the backend", || {
                admin.json(&["get", "driftnode", NODE]).is_ok_and(|node| node["status"]["backend"] == backend())
            });
        }
        Self { cluster, node, admin }
    }

    /// Runs a test, and tells what there was when it fails.
    pub fn run(&self, namespace: &str, test: impl FnOnce()) {
        explained(test, || show(&self.admin, &[&["get", "events", "-n", namespace, "--sort-by=.lastTimestamp"]]));
    }

    /// Runs a script as root on the node.
    #[track_caller]
    pub fn on_node(&self, script: &str) -> String {
        self.node.run(&["bash", "-c", script]).unwrap()
    }

    /// A namespace, and a policy for it that is in force before there is any pod.
    pub fn protect(&self, namespace: &str, policies: &[Value]) {
        let space = serde_json::json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace, "labels": {"team": namespace}}});
        self.admin.apply(&space.to_string()).unwrap();
        for policy in policies {
            self.admin.apply(&policy.to_string()).unwrap();
            self.await_enforced(policy["metadata"]["name"].as_str().unwrap());
        }
        eventually("the service account", || {
            self.admin.run(&["get", "serviceaccount", "default", "-n", namespace]).is_ok()
        });
    }

    /// Takes a namespace's pods and all policies away, for what comes next.
    pub fn clear(&self, namespace: &str) {
        self.admin.run(&["delete", "cdp", "--all"]).unwrap();
        self.admin.run(&["delete", "namespace", namespace, "--wait=false"]).unwrap();
        self.admin.run(&["delete", "pods", "--all", "-n", namespace, "--wait"]).unwrap();
    }

    /// Waits until the newest wording of a policy is in force.
    #[track_caller]
    pub fn await_enforced(&self, policy: &str) {
        eventually(&format!("{policy} in force"), || {
            let Ok(object) = self.admin.json(&["get", "cdp", policy]) else { return false };
            let generation = &object["metadata"]["generation"];
            &object["status"]["observedGeneration"] == generation && is_true(&object, "Enforcing")
        });
    }

    /// The agent's pod.
    pub fn agent(&self) -> Value {
        let lives = |pod: &Value| pod["metadata"]["deletionTimestamp"].is_null();
        agents(&self.admin).unwrap().into_iter().find(lives).unwrap_or_default()
    }
}
