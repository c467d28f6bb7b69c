//! Mooring in a cluster: the chart of this checkout, and images as `make images` builds them.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::control::Cluster;
use super::daemon;
use super::error::{Error, Result};
use super::helm::{CHART, RELEASE, Version};
use super::image::{Image, write_image};
use super::node::Node;
use crate::vm::boot::Payload;
use crate::vm::cache::Cache;
use crate::vm::progress::Step;
use crate::vm::{self, process};

/// What of the chart must be there before the programs.
const API: [&str; 5] = ["namespace", "crds", "rbac", "people", "admission"];
/// What runs the programs, by their names in `rollout`, and the value that is written on their pods.
const PROGRAMS: [(&str, &str); 2] =
    [("daemonset/mooring-enforcer", "agent"), ("deployment/mooring-operator", "operator")];
/// How long anything may take on a machine that is busy with other things.
const LIMIT: Duration = Duration::from_mins(5);

/// The images that are put into a cluster, each an OCI archive with the name that the chart gives it.
#[derive(Debug)]
pub struct Images {
    /// The agent's.
    pub enforcer: PathBuf,
    /// The operator's.
    pub operator: PathBuf,
}

impl Images {
    /// What `make images` left in a folder, for this machine's processor.
    ///
    /// # Errors
    /// [`Error::NoImage`] when one of them is not there.
    pub fn in_folder(folder: &Path) -> Result<Self> {
        let image = |name: &str| {
            let path = folder.join(format!("mooring-{name}-amd64.tar"));
            if path.exists() { Ok(path) } else { Err(Error::NoImage(path)) }
        };
        Ok(Self { enforcer: image("enforcer")?, operator: image("operator")? })
    }

    /// What `make images` built in this checkout.
    ///
    /// # Errors
    /// As [`in_folder`](Self::in_folder).
    pub fn built() -> Result<Self> {
        Self::in_folder(Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../target/images")))
    }
}

impl Cluster {
    /// Applies what the chart has besides the programs, and waits until it is in force.
    ///
    /// # Errors
    /// When the API server refuses some of it, or it does not come into force.
    pub fn install_api(&self) -> Result<()> {
        let kubectl = self.kubectl();
        let only: Vec<String> = API.iter().map(|part| format!("--show-only=templates/{part}.yaml")).collect();
        let only: Vec<&str> = only.iter().map(String::as_str).collect();
        let [_, namespace] = RELEASE;
        kubectl.run(&["create", "namespace", namespace])?;
        kubectl.apply(&self.helm(Version::Four)?.template(&only)?)?;
        kubectl.run(&["wait", "--for=condition=Established", "crd", "--all", "--timeout=300s"])?;
        self.await_admission()
    }

    /// Admission policies come into force a moment after they were taken.
    fn await_admission(&self) -> Result<()> {
        let kubectl = self.kubectl();
        // Then not even the administrator may write this.
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
    pub fn install(&self, images: &Images) -> Result<()> {
        let (kubectl, helm, nodes) = (self.kubectl(), self.helm(Version::Four)?, self.nodes()?);
        for node in &nodes {
            let step = Step::begin(format!("{}: images of the agent and the operator", node.name()));
            node.load(&images.enforcer)?;
            node.load(&images.operator)?;
            step.done();
        }
        let step = Step::begin("Mooring: the chart, and an agent on each node");
        let [release, namespace] = RELEASE;
        let mut upgrade = vec!["upgrade".to_owned(), "--install".to_owned(), release.to_owned(), CHART.to_owned()];
        upgrade.extend(["--namespace".to_owned(), namespace.to_owned(), "--create-namespace".to_owned()]);
        for ((_, values), image) in PROGRAMS.iter().zip([&images.enforcer, &images.operator]) {
            let content = fs::read(image).map_err(vm::Error::io("read", image))?;
            // An image's name is the same for every build: what its pods carry is not.
            upgrade.push(format!("--set-string={values}.podAnnotations.build={}", process::sha256(&content)?));
        }
        helm.run(&upgrade.iter().map(String::as_str).collect::<Vec<_>>())?;
        for node in &nodes {
            self.await_ready(node)?;
        }
        for (name, _) in PROGRAMS {
            kubectl.run(&["rollout", "status", name, "--namespace", namespace, "--timeout=300s"])?;
        }
        // An agent's pod is Ready when its rules are in force; its DriftNode says so a moment later.
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
    /// Gives the node one of Mooring's programs, `enforcer` or `operator`, as the image that the chart names: what is tested need not
    /// have been made an image first.
    ///
    /// # Errors
    /// When the program cannot be read, or containerd refuses the image.
    pub fn load_program(&self, name: &str, program: &Path) -> Result<()> {
        self.load_program_as(name, env!("CARGO_PKG_VERSION"), program)
    }

    /// As [`load_program`](Self::load_program), with a tag of its own.
    ///
    /// # Errors
    /// The same.
    pub fn load_program_as(&self, name: &str, tag: &str, program: &Path) -> Result<()> {
        let scratch = Cache::of_user().scratch("program")?;
        let tar = scratch.path().join("image.tar");
        let inside = format!("/mooring-{name}");
        let entrypoint = [inside.clone()];
        let image =
            Image { name: &format!("docker.io/mooring/{name}:{tag}"), entrypoint: &entrypoint, ..Image::default() };
        write_image(&tar, &image, &[Payload { file: program.to_owned(), path: inside }])?;
        self.load(&tar).map(drop)
    }

    /// Waits until it takes images, which it does before it is Ready.
    pub(super) fn await_runtime(&self) -> Result<()> {
        // It makes its socket when it is ready; the guest itself looks, since each command here costs it more.
        let look = "until [ -S /run/containerd/containerd.sock ]; do busybox usleep 200000; done";
        let answers = || self.run(&["timeout", "60", "bash", "-c", look]).is_ok();
        if daemon::wait(LIMIT, || !self.runs() || answers()) && self.runs() {
            return Ok(());
        }
        Err(daemon::late(format!("containerd on {}", self.name()), LIMIT, &self.containerd_log()))
    }
}
