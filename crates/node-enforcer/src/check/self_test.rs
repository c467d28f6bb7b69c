//! Runs an image's program, a dropped copy of it, and the program again after a chmod, in a scratch overlay and a cgroup of its
//! own, under a policy that no other container has.

use std::fs;
use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use mooring_crd::{Backend, policy_from_value};
use mooring_policy::{NodeDefaults, RuleSet, compile};
use nix::mount::{MsFlags, mount};
use serde::{Deserialize, Serialize};

use super::backends::attachment;
use crate::containers::{Container, Hierarchy, Root, Runtime};
use crate::fanotify::Link;
use crate::kernel::pins::Pins;
use crate::kernel::{Kernel, KernelError, LoadOptions, Members, Tables};

/// Where the scratch container's overlay is made.
const SCRATCH: &str = "/run";
/// What their names begin with; the rest is the pid.
const PREFIX: &str = "mooring-self-test-";

/// What was seen.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
// Each is an observation of its own, and a key of `check -o json`.
#[allow(clippy::struct_excessive_bools)]
pub struct SelfTest {
    /// The image's own program ran.
    pub image_binary_runs: bool,
    /// Programs were not refused but killed, which counts where not one instruction of theirs ran.
    #[serde(default)]
    pub killed: bool,
    /// A copy of it, dropped in the container, was refused.
    pub dropped_binary_refused: bool,
    /// The image's program still ran after a chmod.
    pub metadata_change_allowed: bool,
    /// The image's program was refused after a write.
    pub modified_binary_refused: bool,
    /// A program that is open for writing could not be executed (`ETXTBSY`).
    pub writers_shut_out: bool,
}

impl SelfTest {
    /// Whether all went as the backend has it.
    #[must_use]
    pub fn passed(&self) -> bool {
        self.problems().next().is_none()
    }

    /// What makes enforcement weaker than it is elsewhere.
    pub fn weaknesses(&self) -> impl Iterator<Item = String> {
        let killed = "drifted programs are not refused but killed before their first instruction";
        let killed = self.killed.then(|| killed.to_owned());
        let open = "this kernel executes programs that are open for writing, so that one can be changed after it was judged: use Linux 6.12.2 or later, or one before 6.11";
        (!self.writers_shut_out).then(|| open.to_owned()).into_iter().chain(killed)
    }

    /// What did not go as it must.
    pub fn problems(&self) -> impl Iterator<Item = String> {
        [
            (self.image_binary_runs, "an image's own program was refused"),
            (self.dropped_binary_refused, "a dropped program ran"),
            (self.metadata_change_allowed || self.killed, "an image's program was refused after a chmod"),
            (self.modified_binary_refused, "an image's program ran after it was overwritten"),
        ]
        .into_iter()
        .filter(|(good, _)| !good)
        .map(|(_, problem)| format!("self-test: {problem}; this kernel is not supported, report it with its version"))
    }
}

/// Why the self-test could not be made.
#[derive(Debug, thiserror::Error)]
pub enum SelfTestError {
    /// The programs could not be loaded.
    #[error(transparent)]
    Kernel(#[from] KernelError),
    /// The scratch container could not be made.
    #[error("self-test: {what}: {source}; it needs writable cgroups below /sys/fs/cgroup and a writable /run")]
    Scratch {
        /// What was tried.
        what: &'static str,
        /// The system's answer.
        source: io::Error,
    },
}

fn scratch<T>(what: &'static str, result: io::Result<T>) -> Result<T, SelfTestError> {
    result.map_err(|source| SelfTestError::Scratch { what, source })
}

/// Removed when the test ends, however it ends.
struct Folders {
    cgroup: PathBuf,
    overlay: PathBuf,
}

impl Drop for Folders {
    fn drop(&mut self) {
        // What is left behind is empty, and another run makes its own.
        let _ = fs::remove_dir(&self.cgroup);
        let _ = fs::remove_dir(&self.overlay);
    }
}

/// Makes the test in a process of its own, whose memory ends with it, and which ends with this one.
///
/// # Errors
/// As [`self_test`].
pub fn self_test_apart(backend: Backend, pin_dir: &Path) -> Result<SelfTest, SelfTestError> {
    let mut command = Command::new("/proc/self/exe");
    command.args(["self-test", "--backend", backend.as_str()]).arg("--pin-dir").arg(pin_dir);
    let output = scratch("start the self-test", command.output())?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        return scratch("run the self-test", Err(io::Error::other(said)));
    }
    scratch("read the self-test's result", serde_json::from_slice(&output.stdout).map_err(io::Error::other))
}

/// What tests whose process was killed have left behind.
fn remove_leftovers(cgroups: &Path) {
    for parent in [cgroups, Path::new(SCRATCH)] {
        for entry in fs::read_dir(parent).into_iter().flatten().flatten() {
            let name = entry.file_name();
            let Some(pid) = name.to_str().and_then(|name| name.strip_prefix(PREFIX)) else { continue };
            if !Path::new("/proc").join(pid).exists() {
                // Not empty: a process of it is still ending. The next test tries again.
                let _ = fs::remove_dir(entry.path());
            }
        }
    }
}

/// Has the kernel load overlayfs, so that its type information is there when the programs are loaded.
pub fn load_overlay() {
    // Fails without layers, but by then the module is loaded.
    let _ = mount(None::<&str>, SCRATCH, Some("overlay"), MsFlags::empty(), None::<&str>);
}

/// Makes the test with programs of its own. `pin_dir` is where an agent that may be in force has its pins.
///
/// # Errors
/// When it could not be made, which says nothing about prevention.
pub fn self_test(backend: Backend, pin_dir: &Path) -> Result<SelfTest, SelfTestError> {
    load_overlay();
    let options = LoadOptions { pins: None, comparison: false, attachment: attachment(backend)? };
    self_test_with(&mut Kernel::load(&options)?, backend, pin_dir)
}

/// Makes the test with programs that are loaded and, so far, decide nothing. Afterwards they decide by the test's own tables, in
/// which there is no other container.
///
/// # Errors
/// When it could not be made, which says nothing about prevention.
pub fn self_test_with(kernel: &mut Kernel, backend: Backend, pin_dir: &Path) -> Result<SelfTest, SelfTestError> {
    let beneath = try_once(kernel, None, pin_dir)?;
    if backend != Backend::Fanotify || !beneath.passed() {
        return Ok(beneath);
    }
    // A folder of its own: this listener is no agent's.
    let link = Link::start(Path::new("/proc/self/exe"), &pin_dir.join(PREFIX), kernel.prover());
    let mut link = scratch("start a Fanotify listener", link)?;
    link.ends_with_agent();
    let tested = try_once(kernel, Some(&mut link), pin_dir);
    link.end();
    tested
}

fn try_once(kernel: &mut Kernel, listener: Option<&mut Link>, pin_dir: &Path) -> Result<SelfTest, SelfTestError> {
    let cgroups = Hierarchy::of_host().map_err(KernelError::from)?.mount;
    remove_leftovers(&cgroups);
    let name = format!("{PREFIX}{}", std::process::id());
    let folders = Folders { cgroup: cgroups.join(&name), overlay: Path::new(SCRATCH).join(&name) };
    scratch("make a folder", fs::create_dir_all(&folders.overlay))?;
    scratch("make a cgroup", fs::create_dir_all(&folders.cgroup))?;
    Pins::never_a_container(pin_dir, scratch("find the cgroup", fs::metadata(&folders.cgroup))?.ino())?;
    let mut child = scratch(
        "start the scratch container",
        Command::new("/proc/self/exe")
            .args(["self-test-child".as_ref(), folders.cgroup.as_os_str(), folders.overlay.as_os_str()])
            .args((kernel.kills() && listener.is_none()).then_some("--killed"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn(),
    )?;
    let result = converse(kernel, listener, &folders, &mut child);
    let _ = child.kill();
    let _ = child.wait();
    result
}

fn converse(
    kernel: &mut Kernel,
    listener: Option<&mut Link>,
    folders: &Folders,
    child: &mut std::process::Child,
) -> Result<SelfTest, SelfTestError> {
    let gone = || io::Error::other("the scratch container ended early");
    let (Some(stdin), Some(stdout)) = (child.stdin.take(), child.stdout.take()) else {
        return scratch("talk to the scratch container", Err(gone()));
    };
    let mut lines = BufReader::new(stdout).lines();
    let mut next = || scratch("hear from the scratch container", lines.next().unwrap_or_else(|| Err(gone())));
    let (root, layers): ((u32, u64), u32) =
        scratch("read the scratch root", serde_json::from_str(&next()?).map_err(io::Error::other))?;
    let cgroup = scratch("find the cgroup", fs::metadata(&folders.cgroup))?.ino();
    let rules = rules();
    // Of what generation 0 refuses nobody is told.
    kernel.enforce(&Tables::encode(&rules, 0, 0), &Members::new())?;
    let mut container = container(cgroup, root);
    kernel.enter(&container, 1, 0)?;
    if let Some(listener) = listener {
        // The layers are in its mount namespace only.
        let process = Path::new("/proc").join(child.id().to_string());
        let layers = process.join("fd").join(layers.to_string());
        container.root.path = process.join("root");
        container.root.upper_dir = Some(layers.join("upper"));
        container.root.lower_dirs = vec![layers.join("lower")];
        listener.rules(&rules, 0, [(cgroup, 1)].into_iter());
        listener.enter(&container, 1);
        scratch("have the listener ask", listener.is_told())?;
    }
    let mut stdin = stdin;
    scratch("talk to the scratch container", writeln!(stdin, "go"))?;
    scratch("read its result", serde_json::from_str(&next()?).map_err(io::Error::other))
}

fn rules() -> RuleSet {
    let policy = serde_json::json!({
        "apiVersion": mooring_crd::API_VERSION,
        "kind": mooring_crd::POLICY_KIND,
        "metadata": {"name": "self-test"},
        "spec": {"actions": {"prevent": true}},
    });
    let policies: Vec<_> = policy_from_value(policy).into_iter().collect();
    compile(&policies, NodeDefaults::default()).rules
}

fn container(cgroup: u64, (dev, ino): (u32, u64)) -> Container {
    let name = "self-test".to_owned();
    Container {
        id: name.clone(),
        runtime: Runtime::Other,
        namespace: name.clone(),
        pod: name.clone(),
        pod_uid: None,
        name,
        sandbox: false,
        image: None,
        labels: std::collections::BTreeMap::new(),
        labels_known: true,
        cgroup: String::new(),
        cgroup_id: cgroup,
        init_pid: None,
        root: Root {
            path: "/".into(),
            dev,
            ino,
            overlay: true,
            upper_dir: None,
            lower_dirs: Vec::new(),
            user_xattrs: false,
        },
        volumes: Vec::new(),
    }
}
