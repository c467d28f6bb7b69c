//! A node: a guest with containerd and the kubelet, which joins the control plane on this machine.
//!
//! The guest has QEMU's user network: it reaches the control plane as 10.0.2.2, and two ports of this machine's loopback lead
//! to it, one to the kubelet (for `kubectl logs` and `exec`), one to a service that runs commands as root. The API server
//! takes a node's address from its Node object, so that is made here, as a cloud's controller would, before the kubelet joins.

use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::json;

use super::certificates::{Pair, kubeconfig};
use super::component::HOST_OF_GUESTS;
use super::control::{self, Cluster};
use super::daemon::{self, Daemon};
use super::disk;
use super::error::{Error, Result};
use crate::vm::apt::Mirror;
use crate::vm::boot::{self, Job, Payload};
use crate::vm::kernels::{self, Kernel};
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
/// How long a command on a node may be silent.
const SILENCE: Duration = Duration::from_mins(10);

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
    pub labels: Vec<(String, String)>,
    /// Files that are carried in.
    pub payload: Vec<Payload>,
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
            labels: Vec::new(),
            payload: Vec::new(),
        }
    }
}

/// What is kept of a node, for other processes.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct State {
    name: String,
    exec: u16,
    secret: String,
}

/// A node of a cluster.
#[derive(Debug, Clone)]
pub struct Node {
    state: State,
    folder: PathBuf,
    record: PathBuf,
}

/// How a command on a node ended, with both of its streams in one text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ended {
    /// Its exit status.
    pub code: u8,
    /// What it printed.
    pub output: String,
}

impl Cluster {
    /// Boots a node and returns once its init runs; [`await_ready`](Self::await_ready) waits for the rest.
    ///
    /// # Errors
    /// When what it is made of cannot be built, it does not boot, or the API server refuses its Node.
    pub fn start_node(&self, options: &NodeOptions, mirror: &dyn Fn() -> std::result::Result<Mirror, vm::Error>) -> Result<Node> {
        check_name(&options.name)?;
        let kernel = kernels::ensure(&self.cache, options.kernel, mirror)?;
        let root = root::ensure(&self.cache, mirror, false)?;
        let disk = disk::ensure(&self.cache, &self.programs, &kernel, &root, mirror)?;
        let number = self.nodes()?.len() + 1;
        let folder = self.home.path(&options.name);
        cache::make_folder(&folder)?;
        let [kubelet, exec] = control::free()?;
        let secret = process::sha256(format!("{:?}", std::time::SystemTime::now()).as_bytes())?;
        let state = State { name: options.name.clone(), exec, secret };
        let node = Node { state, record: self.home.path("pid").join(&options.name), folder };
        let job = self.job(&node, options, &kernel.node_modules()?, kubelet, number)?;
        boot::write_initrd(&node.folder.join("initrd"), &kernel)?;
        boot::write_job(&node.folder.join("job"), &job)?;
        self.register_node(&options.name, kubelet, &options.labels)?;
        let machine = Machine {
            memory: options.memory,
            lsm: options.lsm.clone(),
            detached: true,
            disks: vec![Disk { file: disk, kept: false }],
            forwards: vec![(kubelet, kubelet), (exec, EXEC_PORT)],
            ..Machine::default()
        };
        let files = Files { kernel: &kernel.image(), root: &root, folder: &node.folder };
        let arguments = machine.arguments(&files);
        let mut boots = 1;
        while let Err(error) = self.boot(&node, &arguments) {
            if boots == BOOTS {
                return Err(error);
            }
            // QEMU's emulation now and then loses a race with a booting kernel that patches its own code.
            say(format!("node {} did not boot ({error}); once more", options.name));
            boots += 1;
        }
        let path = node.folder.join("node.json");
        fs::write(&path, json!(node.state).to_string()).map_err(vm::Error::io("write", &path))?;
        Ok(node)
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
        let server = authority.server(&format!("{name}-server"), &["IP:127.0.0.1", "IP:10.0.2.15", &format!("DNS:{name}")])?;
        let client = authority.user(&format!("{name}-client"), &format!("system:node:{name}"), &["system:nodes"])?;
        let inside = |file: &str| PathBuf::from("/etc/kubernetes").join(file);
        let user = Pair { certificate: inside("client.crt"), key: inside("client.key") };
        let address = format!("https://{HOST_OF_GUESTS}:{}", self.api_port());
        let texts = [
            ("node.sh", RUN, NODE.to_owned()),
            ("exec", RUN, EXEC.to_owned()),
            ("secret", RUN, node.state.secret.clone()),
            ("kubeconfig", "/etc/kubernetes", kubeconfig(&address, &inside("ca.crt"), &user)),
        ];
        let mut payload = options.payload.clone();
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
        ];
        let command = vec!["bash".to_owned(), format!("{RUN}/node.sh")];
        Ok(Job { command, environment, payload, ..Job::default() })
    }

    /// Makes the Node that a guest's kubelet will find, with the address by which the API server reaches it. Also for a node
    /// that was deleted, once its kubelet is to have one again.
    ///
    /// # Errors
    /// When the API server refuses it.
    fn register_node(&self, name: &str, kubelet: u16, labels: &[(String, String)]) -> Result<()> {
        let labels: serde_json::Map<_, _> = labels.iter().map(|(key, value)| (key.clone(), json!(value))).collect();
        let node = json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name, "labels": labels}});
        let kubectl = self.kubectl();
        kubectl.run_with(&["create", "-f", "-"], &node.to_string())?;
        let status = json!({"status": {
            "addresses": [
                {"type": "InternalIP", "address": "10.0.2.15"},
                {"type": "ExternalIP", "address": "127.0.0.1"},
                {"type": "Hostname", "address": name},
            ],
            "daemonEndpoints": {"kubeletEndpoint": {"Port": kubelet}},
        }});
        kubectl.run(&["patch", "node", name, "--subresource=status", "--type=merge", "--patch", &status.to_string()])?;
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
            nodes.push(Node { record: self.home.path("pid").join(&state.name), state, folder });
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

    /// Switches it off, as if its plug were pulled. Its Node object stays.
    pub fn stop(&self) {
        if let Some(guest) = Daemon::recorded(&self.record) {
            guest.end();
        }
    }

    /// Runs a command as root on the node, outside of any container.
    ///
    /// # Errors
    /// When the node cannot be reached or breaks off; a command that fails is no error.
    pub fn exec(&self, command: &[&str]) -> Result<Ended> {
        self.exec_with(command, &mut std::io::empty(), &mut std::io::sink())
    }

    /// As [`exec`](Self::exec), and a command that fails is an error. Returns what it printed.
    ///
    /// # Errors
    /// [`Error::OnNode`], or as [`exec`](Self::exec).
    pub fn run(&self, command: &[&str]) -> Result<String> {
        self.succeeded(command, self.exec(command)?)
    }

    /// Imports an image from a tar file, an OCI archive or docker's; pods find it under the name in it.
    ///
    /// # Errors
    /// When the file cannot be read, or containerd refuses it.
    pub fn load(&self, image: &Path) -> Result<String> {
        let mut file = fs::File::open(image).map_err(vm::Error::io("read", image))?;
        let command = ["ctr", "--namespace", "k8s.io", "images", "import", "-"];
        self.succeeded(&command, self.exec_with(&command, &mut file, &mut std::io::sink())?)
    }

    fn succeeded(&self, command: &[&str], ended: Ended) -> Result<String> {
        if ended.code == 0 {
            return Ok(ended.output);
        }
        let Ended { code, output } = ended;
        Err(Error::OnNode { node: self.state.name.clone(), command: command.join(" "), code, output })
    }

    /// As [`exec`](Self::exec), with standard input, and what it prints is also passed on as it comes.
    ///
    /// # Errors
    /// As [`exec`](Self::exec).
    pub fn exec_with(&self, command: &[&str], input: &mut (dyn Read + Send), shown: &mut dyn Write) -> Result<Ended> {
        let words: Vec<String> = command.iter().map(|word| (*word).to_owned()).collect();
        let place = PathBuf::from(format!("node {}, 127.0.0.1:{}", self.state.name, self.state.exec));
        let io = |action| vm::Error::io(action, &place);
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, self.state.exec)).map_err(io("connect to"))?;
        stream.set_read_timeout(Some(SILENCE)).map_err(io("connect to"))?;
        let head = format!("{}\0{}\0", self.state.secret, boot::words(&words));
        stream.write_all(head.as_bytes()).map_err(io("write to"))?;
        let mut writer = stream.try_clone().map_err(io("connect to"))?;
        let mark = format!("\n{} exit ", self.state.secret);
        let output = std::thread::scope(|scope| {
            scope.spawn(move || {
                // A command that stops reading early says why itself.
                let _ = std::io::copy(input, &mut writer);
                let _ = writer.shutdown(Shutdown::Write);
            });
            read_answer(&mut stream, &mark, shown)
        })
        .map_err(io("read from"))?;
        let broken = || Error::BrokenOff {
            node: self.state.name.clone(),
            command: command.join(" "),
            output: String::from_utf8_lossy(&output).into_owned(),
        };
        let (output, code) = answer(&output, &mark).ok_or_else(broken)?;
        Ok(Ended { code, output: String::from_utf8_lossy(output).into_owned() })
    }
}

/// Reads to the mark and the status after it, or to the end. Passes on what cannot be the beginning of the mark.
fn read_answer(stream: &mut TcpStream, mark: &str, shown: &mut dyn Write) -> std::io::Result<Vec<u8>> {
    let (mut output, mut passed) = (Vec::new(), 0);
    let mut buffer = [0; 16 * 1024];
    loop {
        let count = stream.read(&mut buffer)?;
        output.extend_from_slice(&buffer[..count]);
        let found = answer(&output, mark);
        let safe = found.map_or(output.len().saturating_sub(mark.len() + 4).max(passed), |(output, _)| output.len());
        shown.write_all(&output[passed..safe])?;
        passed = safe;
        // What the command left running may hold the connection open.
        if count == 0 || found.is_some() {
            shown.flush()?;
            return Ok(output);
        }
    }
}

/// A command's output and exit status, once both are there.
fn answer<'a>(bytes: &'a [u8], mark: &str) -> Option<(&'a [u8], u8)> {
    let from = bytes.len().saturating_sub(mark.len() + 4);
    let at = from + bytes[from..].windows(mark.len()).position(|window| window == mark.as_bytes())?;
    let code = std::str::from_utf8(&bytes[at + mark.len()..]).ok()?.strip_suffix('\n')?.parse().ok()?;
    Some((&bytes[..at], code))
}

fn check_name(name: &str) -> Result<()> {
    let letters = name.chars().all(|letter| letter.is_ascii_lowercase() || letter.is_ascii_digit() || letter == '-');
    // The names of the other parts of a cluster's folder.
    let taken = ["log", "pid", "kubeconfig", "pki", "etcd", "kubectl-cache", "kube-apiserver", "kube-scheduler", "kwok"];
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
    fn an_answer_ends_with_the_mark_and_a_status() {
        let mark = "\nS exit ";
        assert_eq!(answer(b"a\nb\n\nS exit 7\n", mark), Some((b"a\nb\n".as_slice(), 7)));
        assert_eq!(answer(b"\nS exit 255\n", mark), Some((b"".as_slice(), 255)));
        for other in [&b"a\nS exit 7"[..], b"a\nS exit \n", b"a", b"", b"\nS exit 7\nmore\n"] {
            assert_eq!(answer(other, mark), None, "{}", String::from_utf8_lossy(other));
        }
    }

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
