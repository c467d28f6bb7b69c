//! A node: a guest with containerd and the kubelet, which joins the control plane on this machine.
//!
//! The guest has QEMU's user network: it reaches the control plane as 10.0.2.2, and two ports of this machine's loopback lead
//! to it, one to the kubelet (for `kubectl logs` and `exec`), one to a service that runs commands as root. The API server
//! takes a node's address from its Node object, so that is made here, as a cloud's controller would, before the kubelet joins.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::json;

use super::carried::{NEWER_RUNTIME, SYSTEMD};
use super::certificates::Pair;
use super::component::HOST_OF_GUESTS;
use super::control::{self, Cluster};
use super::daemon::{self, Daemon};
use super::disk;
use super::error::{Error, Result};
use super::users::kubeconfig;
use crate::vm::boot::{self, Job, Payload};
use crate::vm::kernels::{self, Cached, Kernel};
use crate::vm::machine::{Disk, Files, LSM_WITH_BPF, Machine};
use crate::vm::progress::say;
use crate::vm::{self, cache, process, root};

const NODE: &str = include_str!("../../guest-root/node.sh");
const EXEC: &str = include_str!("../../guest-root/exec.sh");
/// Where a guest's scripts and keys are.
const RUN: &str = "/run/mooring";
/// The port of the guest that runs commands.
const EXEC_PORT: u16 = 5001;
/// How long a guest may take to start its job, and how often it is booted (see `vm::run`).
const BOOT: Duration = Duration::from_mins(3);
const BOOTS: u32 = 3;
/// How long a node may take to become Ready on a machine that is busy with other things.
const READY: Duration = Duration::from_mins(8);

/// Who makes the cgroups of a node's pods.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum CgroupDriver {
    /// The kubelet and runc themselves.
    #[default]
    Cgroupfs,
    /// systemd, which is the guest's process 1 then.
    Systemd,
}

/// What a node is to be.
#[derive(Debug, Clone)]
pub struct NodeOptions {
    /// Its name.
    pub name: String,
    /// Its kernel.
    pub kernel: Kernel,
    /// Its memory in MiB.
    pub memory: u32,
    /// The kernel's LSM list; `None` leaves it as shipped.
    pub lsm: Option<String>,
    /// Its labels, besides those that the kubelet gives it.
    pub labels: BTreeMap<String, String>,
    /// Files that are carried in.
    pub payload: Vec<Payload>,
    /// Whether it has a newer containerd and runc than the guests' own.
    pub newer_runtime: bool,
    /// Who makes its pods' cgroups.
    pub cgroup_driver: CgroupDriver,
    /// Whether what it writes below `/var/lib` survives its being switched off; costs a copy of a disk.
    pub keeps_disk: bool,
}

impl NodeOptions {
    /// A node with `kernel` and BPF among its LSMs.
    #[must_use]
    pub fn new(name: &str, kernel: Kernel) -> Self {
        Self {
            name: name.to_owned(),
            kernel,
            memory: 2048,
            lsm: Some(LSM_WITH_BPF.to_owned()),
            labels: BTreeMap::new(),
            payload: Vec::new(),
            newer_runtime: false,
            cgroup_driver: CgroupDriver::default(),
            keeps_disk: false,
        }
    }
}

/// What is kept of a node, for other processes.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct State {
    name: String,
    labels: BTreeMap<String, String>,
    kubelet: u16,
    exec: u16,
    secret: String,
    qemu: Vec<String>,
}

/// A node of a cluster.
#[derive(Debug, Clone)]
pub struct Node {
    state: State,
    folder: PathBuf,
    record: PathBuf,
}

/// What a node is made of, in the cache.
#[derive(Debug)]
pub struct Parts {
    kernel: Cached,
    root: PathBuf,
    disk: PathBuf,
}

impl Cluster {
    /// Fetches and builds what nodes are made of, unless the cache has it. [`start_node`](Self::start_node) does this too.
    ///
    /// # Errors
    /// When something can be neither found nor built.
    pub fn prepare_node(&self, kernel: Kernel) -> Result<Parts> {
        let mirror = &|| self.mirror();
        let kernel = kernels::ensure(&self.cache, kernel, mirror)?;
        let root = root::ensure(&self.cache, mirror, false)?;
        let disk = disk::ensure(&self.cache, &self.programs, &kernel, &root, mirror)?;
        Ok(Parts { kernel, root, disk })
    }

    /// Boots a node and returns once its init runs; [`await_ready`](Self::await_ready) waits for the rest.
    ///
    /// # Errors
    /// When what it is made of cannot be built, it does not boot, or the API server refuses its Node.
    pub fn start_node(&self, options: &NodeOptions) -> Result<Node> {
        check_name(&options.name)?;
        let Parts { kernel, root, disk } = self.prepare_node(options.kernel)?;
        let number = self.nodes()?.len() + 1;
        let folder = self.home.path(&options.name);
        cache::make_folder(&folder)?;
        let [kubelet, exec] = control::free()?;
        let mut machine = Machine {
            memory: options.memory,
            lsm: options.lsm.clone(),
            detached: true,
            disks: vec![Disk { file: disk, kept: false }],
            forwards: vec![(kubelet, kubelet), (exec, EXEC_PORT)],
            ..Machine::default()
        };
        if options.keeps_disk {
            machine.disks = vec![Disk { file: copy_of(&machine.disks[0].file, &folder)?, kept: true }];
        }
        let files = Files { kernel: &kernel.image(), root: &root, folder: &folder };
        let qemu = machine.arguments(&files);
        let state = State {
            name: options.name.clone(),
            labels: options.labels.clone(),
            kubelet,
            exec,
            secret: secret()?,
            qemu,
        };
        let node = Node { state, record: self.home.path(control::RECORDS).join(&options.name), folder };
        let job = self.job(&node, options, &kernel.node_modules()?, kubelet, number)?;
        boot::write_initrd(&node.folder.join("initrd"), &kernel)?;
        boot::write_job(&node.folder.join("job"), &job)?;
        self.register_node(&node)?;
        self.switch_on(&node)?;
        let path = node.folder.join("node.json");
        fs::write(&path, json!(node.state).to_string()).map_err(vm::Error::io("write", &path))?;
        Ok(node)
    }

    /// Boots a node that was stopped or has ended. What it wrote below `/var/lib` is there again where its disk is kept; of the
    /// rest of its files nothing is.
    ///
    /// # Errors
    /// When it does not boot.
    pub fn switch_on(&self, node: &Node) -> Result<()> {
        let mut boots = 1;
        while let Err(error) = self.boot(node, &node.state.qemu) {
            if boots == BOOTS {
                return Err(error);
            }
            // QEMU's emulation now and then loses a race with a booting kernel that patches its own code.
            say(format!("node {} did not boot ({error}); once more", node.state.name));
            boots += 1;
        }
        Ok(())
    }

    fn boot(&self, node: &Node, arguments: &[String]) -> Result<()> {
        let (status, log) = (node.folder.join("status"), node.folder.join("qemu"));
        let _ = fs::remove_file(&status);
        let qemu = Path::new("qemu-system-x86_64");
        let daemon = self.starter.start(qemu, arguments, &log, &node.record)?;
        let started = || fs::read_to_string(&status).is_ok_and(|text| text.starts_with("started"));
        let came = daemon::wait(BOOT, || started() || !daemon.runs());
        if started() {
            return Ok(());
        }
        daemon.end();
        let name = format!("node {}", node.state.name);
        let said = if fs::metadata(&log).is_ok_and(|data| data.len() > 0) { log } else { node.folder.join("console") };
        Err(if came { daemon::ended(&name, &said) } else { daemon::late(format!("the boot of {name}"), BOOT, &said) })
    }

    /// What the guest is given: scripts, certificates, modules, and what the caller adds.
    fn job(&self, node: &Node, options: &NodeOptions, modules: &[PathBuf], kubelet: u16, number: usize) -> Result<Job> {
        let name = &node.state.name;
        let authority = self.authority();
        let server =
            authority.server(&format!("{name}-server"), &["IP:127.0.0.1", "IP:10.0.2.15", &format!("DNS:{name}")])?;
        let client = authority.user(&format!("{name}-client"), &format!("system:node:{name}"), &["system:nodes"])?;
        let inside = |file: &str| PathBuf::from("/etc/kubernetes").join(file);
        let user = Pair { certificate: inside("client.crt"), key: inside("client.key") };
        let address = format!("https://{HOST_OF_GUESTS}:{}", self.api_port());
        let texts = [
            ("node.sh", RUN, NODE.to_owned()),
            ("exec", RUN, EXEC.to_owned()),
            ("secret", RUN, node.state.secret.clone()),
            ("kubeconfig", "/etc/kubernetes", kubeconfig(&address, &inside("ca.crt"), &user.credentials())),
        ];
        let mut payload = options.payload.clone();
        if options.newer_runtime {
            payload.extend(NEWER_RUNTIME.ensure(&self.cache, &|| self.mirror())?);
        }
        let systemd = options.cgroup_driver == CgroupDriver::Systemd;
        if systemd {
            payload.extend(SYSTEMD.ensure(&self.cache, &|| self.mirror())?);
        }
        for (file, folder, text) in texts {
            let path = node.folder.join(file);
            fs::write(&path, text).map_err(vm::Error::io("write", &path))?;
            let mode = std::os::unix::fs::PermissionsExt::from_mode(0o700);
            fs::set_permissions(&path, mode).map_err(vm::Error::io("set the mode of", &path))?;
            payload.push(Payload { file: path, path: format!("{folder}/{file}") });
        }
        for (file, name) in [
            (&authority.file("ca.crt"), "ca.crt"),
            (&server.certificate, "server.crt"),
            (&server.key, "server.key"),
            (&client.certificate, "client.crt"),
            (&client.key, "client.key"),
        ] {
            payload.push(Payload { file: file.clone(), path: format!("/etc/kubernetes/{name}") });
        }
        for module in modules {
            let name = module.file_name().unwrap_or_default().to_string_lossy();
            payload.push(Payload { file: module.clone(), path: format!("{RUN}/node-modules/{name}") });
        }
        let environment = vec![
            format!("NODE={name}"),
            format!("KUBELET_PORT={kubelet}"),
            format!("API_PORT={}", self.api_port()),
            format!("POD_SUBNET=10.244.{number}.0/24"),
            format!("CGROUP_DRIVER={}", if systemd { "systemd" } else { "cgroupfs" }),
        ];
        let command = vec!["bash".to_owned(), format!("{RUN}/node.sh")];
        Ok(Job { command, environment, payload, systemd, ..Job::default() })
    }

    /// Makes the Node that a guest's kubelet will find, with the address by which the API server reaches it. A test calls it to
    /// make a Node again that it has deleted: no kubelet does so while it runs.
    ///
    /// # Errors
    /// When the API server refuses it.
    pub fn register_node(&self, node: &Node) -> Result<()> {
        let State { name, kubelet, labels, .. } = &node.state;
        let object = json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name, "labels": labels}});
        let kubectl = self.kubectl();
        kubectl.run_with(&["create", "-f", "-"], &object.to_string())?;
        let status = json!({"status": {
            "addresses": [
                {"type": "InternalIP", "address": "10.0.2.15"},
                {"type": "ExternalIP", "address": "127.0.0.1"},
                {"type": "Hostname", "address": name},
            ],
            "daemonEndpoints": {"kubeletEndpoint": {"Port": kubelet}},
        }});
        let patch = status.to_string();
        kubectl.run(&["patch", "node", name, "--subresource=status", "--type=merge", "--patch", &patch])?;
        Ok(())
    }

    /// Waits until a node is Ready.
    ///
    /// # Errors
    /// When its guest ends or it takes too long; the kubelet's last words are in the error.
    pub fn await_ready(&self, node: &Node) -> Result<()> {
        let mut tries = 0;
        let limit = READY.as_secs() / 10;
        let name = format!("node/{}", node.state.name);
        // In pieces, so that a guest that ended is noticed.
        while self.kubectl().run(&["wait", "--for=condition=Ready", &name, "--timeout=10s"]).is_err() {
            tries += 1;
            if !node.runs() {
                return Err(daemon::ended(&format!("node {}", node.state.name), &node.folder.join("console")));
            }
            if tries > limit {
                return Err(daemon::late(format!("Ready of {name}"), READY, &node.kubelet_log()));
            }
        }
        Ok(())
    }

    /// The nodes that have been started and not removed.
    ///
    /// # Errors
    /// When the cluster's folder cannot be read.
    pub fn nodes(&self) -> Result<Vec<Node>> {
        let mut nodes = Vec::new();
        for entry in fs::read_dir(&self.home.0).map_err(vm::Error::io("read", &self.home.0))? {
            let folder = entry.map_err(vm::Error::io("read", &self.home.0))?.path();
            let path = folder.join("node.json");
            let Ok(text) = fs::read_to_string(&path) else {
                continue;
            };
            let state: State = serde_json::from_str(&text).map_err(|source| Error::Format { path, source })?;
            nodes.push(Node { record: self.home.path(control::RECORDS).join(&state.name), state, folder });
        }
        nodes.sort_by(|one, other| one.state.name.cmp(&other.state.name));
        Ok(nodes)
    }

    /// A node by its name.
    ///
    /// # Errors
    /// [`Error::NoNode`].
    pub fn node(&self, name: &str) -> Result<Node> {
        let nodes = self.nodes()?;
        let names: Vec<&str> = nodes.iter().map(Node::name).collect();
        let absent = Error::NoNode { name: name.to_owned(), nodes: names.join(", ") };
        nodes.into_iter().find(|node| node.state.name == name).ok_or(absent)
    }
}

impl Node {
    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.state.name
    }

    /// Whether its guest runs.
    #[must_use]
    pub fn runs(&self) -> bool {
        Daemon::recorded(&self.record).is_some()
    }

    /// The process id of its guest, if it runs.
    #[must_use]
    pub fn process(&self) -> Option<i32> {
        Daemon::recorded(&self.record).map(Daemon::pid)
    }

    /// The file with its kubelet's log.
    #[must_use]
    pub fn kubelet_log(&self) -> PathBuf {
        self.folder.join("stdout")
    }

    /// The file with its containerd's log.
    #[must_use]
    pub fn containerd_log(&self) -> PathBuf {
        self.folder.join("stderr")
    }

    /// Where its commands are served, and the secret for it.
    pub(super) fn exec_service(&self) -> (u16, &str) {
        (self.state.exec, &self.state.secret)
    }

    /// Switches it off, as if its plug were pulled. Its Node object stays.
    pub fn stop(&self) {
        if let Some(guest) = Daemon::recorded(&self.record) {
            guest.end();
        }
    }
}

/// A node's own copy of the disk, as sparse as the disk is.
fn copy_of(disk: &Path, folder: &Path) -> Result<PathBuf> {
    let copy = folder.join("disk");
    process::output(process::tool("cp").args(["--sparse=always", "--reflink=auto"]).arg(disk).arg(&copy))?;
    Ok(copy)
}

/// Something that other users of this machine do not know.
fn secret() -> Result<String> {
    let source = Path::new("/dev/urandom");
    let mut bytes = [0; 16];
    let read = fs::File::open(source).and_then(|mut file| std::io::Read::read_exact(&mut file, &mut bytes));
    read.map_err(vm::Error::io("read", source))?;
    Ok(format!("{:032x}", u128::from_ne_bytes(bytes)))
}

fn check_name(name: &str) -> Result<()> {
    let letters = name.chars().all(|letter| letter.is_ascii_lowercase() || letter.is_ascii_digit() || letter == '-');
    // The names of the other parts of a cluster's folder.
    let taken =
        ["log", "pid", "kubeconfig", "pki", "etcd", "kubectl-cache", "kube-apiserver", "kube-scheduler", "kwok"];
    let edges = name.starts_with('-') || name.ends_with('-');
    if letters && !edges && !name.is_empty() && name.len() <= 40 && !taken.contains(&name) {
        return Ok(());
    }
    Err(Error::NodeName(name.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_nodes() {
        for good in ["node1", "a-b", "7"] {
            check_name(good).unwrap();
        }
        for bad in ["", "Node", "a/b", "a.b", "-a", "etcd", "pki", &"a".repeat(41)] {
            assert!(check_name(bad).is_err(), "{bad}");
        }
    }
}
