//! Mooring in a cluster: what `deploy/` holds, and builds of its programs as images.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::control::Cluster;
use super::daemon;
use super::error::Result;
use super::image::{Image, write_image};
use super::node::Node;
use crate::vm::boot::Payload;
use crate::vm::cache::Cache;
use crate::vm::progress::Step;

/// What is applied, of this checkout.
const DEPLOY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy");
/// What must be there before the programs.
const API: [&str; 4] = ["crds", "manifests/00-namespaces.yaml", "manifests/rbac.yaml", "manifests/admission.yaml"];
/// What runs the programs, by their names in `rollout`.
const PROGRAMS: [(&str, &str); 2] = [
    ("daemonset/mooring-enforcer", "manifests/enforcer.yaml"),
    ("deployment/mooring-operator", "manifests/operator.yaml"),
];
/// Where they run.
const NAMESPACE: &str = "mooring-system";
/// How long anything may take on a machine that is busy with other things.
const LIMIT: Duration = Duration::from_mins(5);

/// The programs that are put into a cluster, each a static binary.
#[derive(Debug)]
pub struct Binaries {
    /// The agent.
    pub enforcer: PathBuf,
    /// The operator.
    pub operator: PathBuf,
}

impl Cluster {
    /// Applies the resource definitions, namespaces, roles and admission policies, and waits until they are in force.
    ///
    /// # Errors
    /// When the API server refuses one of them, or it does not come into force.
    pub fn install_api(&self) -> Result<()> {
        let kubectl = self.kubectl();
        let mut apply = vec!["apply".to_owned()];
        apply.extend(API.iter().map(|part| format!("--filename={DEPLOY}/{part}")));
        kubectl.run(&apply.iter().map(String::as_str).collect::<Vec<_>>())?;
        kubectl.run(&["wait", "--for=condition=Established", "crd", "--all", "--timeout=300s"])?;
        // Admission policies come into force a moment after they were taken: then not even the administrator may write this.
        let anyone = ["create", "configmap", "anyone", "--namespace=mooring-nodes", "--dry-run=server"];
        if daemon::wait(LIMIT, || kubectl.run(&anyone).is_err()) {
            return Ok(());
        }
        Err(daemon::late("admission that is in force", LIMIT, &self.log("kube-apiserver")))
    }

    /// Puts Mooring into the cluster, or newer builds of it, and waits until each node enforces. Its nodes need not be Ready yet.
    ///
    /// # Errors
    /// When something is refused, or does not come to run.
    pub fn install(&self, binaries: &Binaries) -> Result<()> {
        let (kubectl, nodes) = (self.kubectl(), self.nodes()?);
        let step = Step::begin("Mooring: resource definitions, roles, admission policies");
        self.install_api()?;
        step.done();
        for node in &nodes {
            let step = Step::begin(format!("{}: images of the agent and the operator", node.name()));
            node.await_runtime()?;
            node.load_program("enforcer", &binaries.enforcer)?;
            node.load_program("operator", &binaries.operator)?;
            step.done();
        }
        let step = Step::begin("Mooring: starting the agent on each node, and the operator");
        for (name, manifest) in PROGRAMS {
            let ours = ["get", name, "--namespace", NAMESPACE, "--ignore-not-found", "--output=name"];
            let present = !kubectl.run(&ours)?.is_empty();
            kubectl.run(&["apply", "--filename", &format!("{DEPLOY}/{manifest}")])?;
            // The image's name is the same for every build.
            if present {
                kubectl.run(&["rollout", "restart", name, "--namespace", NAMESPACE])?;
            }
        }
        for node in &nodes {
            self.await_ready(node)?;
        }
        for (name, _) in PROGRAMS {
            kubectl.run(&["rollout", "status", name, "--namespace", NAMESPACE, "--timeout=300s"])?;
        }
        // An agent's pod is Ready before its rules are in force.
        for node in &nodes {
            let object = format!("driftnode/{}", node.name());
            for condition in ["create", "condition=Ready"] {
                kubectl.run(&["wait", &object, &format!("--for={condition}"), "--timeout=300s"])?;
            }
        }
        step.done();
        Ok(())
    }
}

impl Node {
    /// Gives the node one of Mooring's programs, as the image that the manifests name: `enforcer` or `operator`.
    ///
    /// # Errors
    /// When the program cannot be read, or containerd refuses the image.
    pub fn load_program(&self, name: &str, program: &Path) -> Result<()> {
        let scratch = Cache::of_user().scratch("program")?;
        let tar = scratch.path().join("image.tar");
        let inside = format!("/mooring-{name}");
        let entrypoint = [inside.clone()];
        let image =
            Image { name: &format!("docker.io/mooring/{name}:dev"), entrypoint: &entrypoint, ..Image::default() };
        write_image(&tar, &image, &[Payload { file: program.to_owned(), path: inside }])?;
        self.load(&tar).map(drop)
    }

    /// Waits until it takes images, which it does before it is Ready.
    fn await_runtime(&self) -> Result<()> {
        // It makes its socket when it is ready; the guest itself looks, since each command here costs it more.
        let look = "until [ -S /run/containerd/containerd.sock ]; do busybox usleep 200000; done";
        let answers = || self.run(&["timeout", "60", "bash", "-c", look]).is_ok();
        if daemon::wait(LIMIT, || !self.runs() || answers()) && self.runs() {
            return Ok(());
        }
        Err(daemon::late(format!("containerd on {}", self.name()), LIMIT, &self.containerd_log()))
    }
}
