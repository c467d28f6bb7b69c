//! What a test on this machine's own kernel needs: runc, a container of the test's own, and an enforcer whose pins are the test's own.
//!
//! Nothing is installed, and no other container is touched: the policy is for the test's container by its name, what is unknown may do
//! everything, the pins are in a BPF file system of the test's own, which is gone with it.

use std::ffi::OsStr;
use std::fs::{self, File, Permissions};
use std::io::{BufRead, BufReader, Read};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use mooring_e2e::attacks::elf;
use mooring_e2e::testing::{policy, repository};
use mooring_e2e::vm::apt::{Index, Mirror};
use mooring_e2e::vm::cache::{self, Cache, Scratch};
use mooring_e2e::vm::root;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use serde_json::{Value, json};

/// Its runc needs no newer C library than any machine has that can build this.
const SUITE: &str = "bookworm";
const PACKAGES: [&str; 3] = ["runc", "libseccomp2", "busybox-static"];
/// What the dropped program prints, first of all.
const TOKEN: &str = "DROPPED-PROGRAM-RAN\n";
/// The applets that the image has.
const APPLETS: [&str; 12] = ["sh", "cp", "chmod", "sleep", "true", "cat", "mv", "ln", "mkdir", "touch", "rm", "seq"];
const WAIT: Duration = Duration::from_secs(20);

/// Folders, mounts, programs.
pub(crate) struct Rig {
    tools: PathBuf,
    scratch: Scratch,
    mounts: Vec<PathBuf>,
    /// runc's own.
    state: PathBuf,
}

fn tools() -> PathBuf {
    let cache = Cache::of_user();
    let target = cache.path(format!("native/{SUITE}-{}", PACKAGES.join("+")));
    let _lock = cache.lock("download").unwrap();
    if !cache::unchanged(&target) {
        let scratch = cache.scratch("native").unwrap();
        let index = Index::update(&cache, &Mirror::of_machine().unwrap(), &[SUITE]).unwrap();
        let tree = scratch.folder("tree").unwrap();
        index.unpack(&PACKAGES.map(str::to_owned), &scratch.path().join("deb"), &tree).unwrap();
        // What is published is files.
        let flat = scratch.folder("flat").unwrap();
        for file in ["usr/sbin/runc", "usr/lib/x86_64-linux-gnu/libseccomp.so.2", "bin/busybox"] {
            let file = tree.join(file);
            fs::copy(&file, flat.join(file.file_name().unwrap())).unwrap();
        }
        cache::publish(&flat, &target).unwrap();
    }
    target
}

impl Rig {
    pub(crate) fn new() -> Self {
        let scratch = Cache::of_user().scratch("native").unwrap();
        let state = scratch.folder("state").unwrap();
        let mut rig = Self { tools: tools(), scratch, mounts: Vec::new(), state };
        let pins = rig.folder("bpf");
        mount(Some("bpf"), &pins, Some("bpf"), MsFlags::empty(), None::<&str>).unwrap();
        rig.mounts.push(pins);
        rig.folder("policies");
        rig
    }

    /// With containers where runc has them by default, so that an enforcer finds those that were there before it.
    pub(crate) fn of_default_runc() -> Self {
        let mut rig = Self::new();
        rig.state = "/run/runc".into();
        rig
    }

    pub(crate) fn folder(&self, name: &str) -> PathBuf {
        self.scratch.folder(name).unwrap()
    }

    /// A command that finds what runc needs, or is runc.
    pub(crate) fn with_libraries(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new(program);
        command.env("LD_LIBRARY_PATH", &self.tools);
        command
    }

    pub(crate) fn runc_program(&self) -> PathBuf {
        self.tools.join("runc")
    }

    /// The guests' root image, as a folder.
    pub(crate) fn guest_root(&mut self) -> PathBuf {
        let image = root::ensure(&Cache::of_user(), &Mirror::of_machine, false).unwrap();
        let folder = self.folder("guest");
        let mounted = Command::new("mount").args(["-o", "loop,ro"]).args([&image, &folder]).output().unwrap();
        assert!(mounted.status.success(), "{mounted:?}");
        self.mounts.push(folder.clone());
        folder
    }

    fn runc(&self, arguments: &[&str]) -> Command {
        let mut command = self.with_libraries(self.runc_program());
        command.arg("--root").arg(&self.state).args(arguments).stdin(Stdio::null());
        command
    }

    /// A container that sleeps.
    pub(crate) fn container(&mut self, id: &str) -> Container {
        self.container_in(id, &["mount", "pid", "ipc", "uts"])
    }

    /// The same, with these namespaces of its own.
    pub(crate) fn container_in(&mut self, id: &str, namespaces: &[&str]) -> Container {
        let namespaces: Vec<Value> = namespaces.iter().map(|kind| json!({"type": kind})).collect();
        let bundle = self.folder(&format!("bundles/{id}"));
        let [lower, upper, work, root] = ["lower", "upper", "work", "rootfs"].map(|name| bundle.join(name));
        for folder in [&lower.join("bin"), &lower.join("proc"), &lower.join("dev"), &upper, &work, &root] {
            fs::create_dir_all(folder).unwrap();
        }
        let program = |path: &Path, bytes: &[u8]| {
            fs::write(path, bytes).unwrap();
            fs::set_permissions(path, Permissions::from_mode(0o755)).unwrap();
        };
        program(&lower.join("bin/busybox"), &fs::read(self.tools.join("busybox")).unwrap());
        for applet in APPLETS {
            symlink("busybox", lower.join("bin").join(applet)).unwrap();
        }
        program(&lower.join("bin/tiny"), &elf::program(TOKEN, ""));
        program(&lower.join("bin/other"), &elf::program("other\n", ""));
        program(&lower.join("bin/nothing"), &elf::program("", ""));
        program(
            &lower.join("bin/probe"),
            &fs::read(repository("target/x86_64-unknown-linux-gnu/debug/guest")).unwrap(),
        );
        for folder in ["vol", "data", "tmp"] {
            fs::create_dir(lower.join(folder)).unwrap();
        }
        let data = bundle.join("data");
        fs::create_dir(&data).unwrap();
        let options = format!("lowerdir={},upperdir={},workdir={}", lower.display(), upper.display(), work.display());
        mount(Some("overlay"), &root, Some("overlay"), MsFlags::empty(), Some(options.as_str())).unwrap();
        self.mounts.push(root);
        let config = json!({
            "ociVersion": "1.0.2",
            "process": {"args": ["/bin/sleep", "1000"], "cwd": "/", "user": {"uid": 0, "gid": 0}, "env": ["PATH=/bin"],
                "capabilities": {"bounding": ["CAP_FOWNER"], "effective": ["CAP_FOWNER"], "permitted": ["CAP_FOWNER"]}},
            "root": {"path": "rootfs"},
            "mounts": [{"destination": "/proc", "type": "proc", "source": "proc"},
                {"destination": "/dev", "type": "tmpfs", "source": "tmpfs"},
                {"destination": "/vol", "type": "tmpfs", "source": "tmpfs"},
                {"destination": "/data", "type": "bind", "source": data, "options": ["bind", "rw"]}],
            // In a folder of the test's own in each hierarchy.
            "linux": {"cgroupsPath": format!("/{}/{id}", cgroup_parent()), "namespaces": namespaces},
        });
        fs::write(bundle.join("config.json"), config.to_string()).unwrap();
        let log = bundle.join("log");
        let mut run = self.runc(&["run", "--detach", "--bundle"]);
        // Not to a pipe: the container would hold it open.
        let output = File::create(&log).unwrap();
        run.arg(&bundle).arg(id).stdout(output.try_clone().unwrap()).stderr(output);
        assert!(run.status().unwrap().success(), "{}", fs::read_to_string(&log).unwrap());
        let delete = self.runc(&["delete", "--force", id]);
        Container { id: id.to_owned(), exec: self.runc(&["exec", id]), delete }
    }

    pub(crate) fn policy(&self, name: &str, spec: Value) {
        let path = self.folder("policies").join(format!("{name}.json"));
        fs::write(path, policy(name, spec).to_string()).unwrap();
    }

    pub(crate) fn pins(&self) -> PathBuf {
        self.scratch.path().join("bpf/mooring")
    }

    /// The enforcer with these arguments, in force.
    pub(crate) fn enforcer(&self, arguments: &[&str]) -> Enforcer {
        let mut child = Command::new(binary())
            .args(["run", "-o", "json", "--unknown-containers", "Allow", "--policies"])
            .arg(self.folder("policies"))
            .arg("--pin-dir")
            .arg(self.pins())
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let [events, log] = [Heard::default(), Heard::default()];
        listen(child.stdout.take().unwrap(), &events);
        listen(child.stderr.take().unwrap(), &log);
        let enforcer = Enforcer { child, events, log };
        wait_for("enforcement", || enforcer.said("enforcing: ").is_some());
        enforcer
    }

    /// What `check` says of this machine.
    pub(crate) fn check(&self) -> Value {
        let output =
            Command::new(binary()).args(["check", "-o", "json", "--pin-dir"]).arg(self.pins()).output().unwrap();
        serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"))
    }

    /// The listeners that were started with this rig's pins and have not ended by themselves.
    pub(crate) fn listeners(&self) -> Vec<i32> {
        let pins = self.pins();
        let name: Vec<_> = pins.iter().filter_map(|part| part.to_str()).filter(|part| *part != "/").collect();
        let folder = Path::new("/run/mooring/fanotify").join(name.join("-"));
        let entries = fs::read_dir(folder).into_iter().flatten().flatten();
        let processes = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        processes.filter(|pid| process(*pid).is_some()).collect()
    }

    /// What the container sees as `/data`.
    pub(crate) fn data(&self, id: &str) -> PathBuf {
        self.scratch.path().join("bundles").join(id).join("data")
    }

    /// An enforcer that prevents drift in one of two containers by this backend. In both `/dropped` was dropped; it runs in the other.
    pub(crate) fn protecting(&mut self, backend: &str) -> (Enforcer, Container) {
        let other = self.container("mooring-native-other");
        self.policy("native", json!({"scope": {"containers": ["mooring-native-after"]}, "actions": {"prevent": true}}));
        let enforcer = self.enforcer(&["--backend", backend]);
        assert!(enforcer.said("enforcing: ").unwrap().contains(&format!("backend={backend}")));
        let after = self.container("mooring-native-after");
        for container in [&after, &other] {
            assert!(ran(&container.execute(&["/bin/tiny"])), "the image's own program does not run");
            let copied = container.run("cp /bin/tiny /dropped; cp /bin/other /bin/swapped; /bin/true");
            assert!(copied.status.success(), "{copied:?}");
        }
        assert!(ran(&other.execute(&["/dropped"])), "a container that the policy is not for is disturbed");
        (enforcer, after)
    }

    pub(crate) fn release(&self) {
        let ended = Command::new(binary()).args(["release", "--pin-dir"]).arg(self.pins()).output().unwrap();
        assert!(ended.status.success(), "{ended:?}");
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        // A listener of Fanotify outlives its agent.
        let _ = Command::new(binary()).args(["release", "--pin-dir"]).arg(self.pins()).output();
        // Pins go with their file system, and programs with their pins: whatever failed, nothing stays in force.
        for place in self.mounts.iter().rev() {
            if let Err(error) = umount2(place, MntFlags::MNT_DETACH) {
                eprintln!("{}: {error}", place.display());
            }
        }
        for hierarchy in fs::read_dir("/sys/fs/cgroup").into_iter().flatten().flatten() {
            // Where it was made; empty, since its containers are deleted. The other one is the attack suites'.
            for parent in [&*cgroup_parent(), "mooring-e2e"] {
                let _ = fs::remove_dir(hierarchy.path().join(parent));
            }
        }
    }
}

pub(crate) fn cgroup_parent() -> String {
    format!("mooring-native-{}", std::process::id())
}

pub(crate) fn binary() -> PathBuf {
    let built = repository("target/x86_64-unknown-linux-gnu/release/mooring-enforcer");
    std::env::var_os("MOORING_ENFORCER").map_or(built, PathBuf::from)
}

/// Whether the program that was dropped, or is the image's own, has run.
pub(crate) fn ran(output: &Output) -> bool {
    String::from_utf8_lossy(&output.stdout).contains(TOKEN)
}

/// The enforcer's binary, once, with these arguments.
pub(crate) fn enforcer_said(arguments: &[&str]) -> Output {
    Command::new(binary()).args(arguments).output().unwrap()
}

/// The command line of a process that has not ended.
pub(crate) fn process(pid: i32) -> Option<String> {
    let line = fs::read(format!("/proc/{pid}/cmdline")).ok().filter(|line| !line.is_empty())?;
    Some(String::from_utf8_lossy(&line).replace('\0', " "))
}

/// Deleted on drop.
pub(crate) struct Container {
    id: String,
    exec: Command,
    delete: Command,
}

impl Container {
    /// Runs a script in it.
    pub(crate) fn run(&self, script: &str) -> Output {
        self.execute(&["/bin/sh", "-c", script])
    }

    /// Has the runtime execute a program in it.
    pub(crate) fn execute(&self, command: &[&str]) -> Output {
        self.command(command).output().unwrap()
    }

    /// The same, to be started.
    pub(crate) fn command(&self, command: &[&str]) -> Command {
        let mut exec = Command::new(self.exec.get_program());
        exec.args(self.exec.get_args()).args(command).stdin(Stdio::null());
        for (name, value) in self.exec.get_envs() {
            exec.env(name, value.unwrap_or_default());
        }
        exec
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        let deleted = self.delete.output();
        if !deleted.as_ref().is_ok_and(|it| it.status.success()) {
            eprintln!("container {}: {deleted:?}", self.id);
        }
    }
}

type Heard = Arc<Mutex<Vec<String>>>;

fn listen(stream: impl Read + Send + 'static, heard: &Heard) {
    let heard = Arc::clone(heard);
    thread::spawn(move || {
        for line in BufReader::new(stream).lines().map_while(Result::ok) {
            heard.lock().unwrap().push(line);
        }
    });
}

/// Killed on drop; what it pinned stays until the rig is gone.
pub(crate) struct Enforcer {
    child: Child,
    events: Heard,
    log: Heard,
}

impl Enforcer {
    /// The first line of its log that begins so.
    pub(crate) fn said(&self, beginning: &str) -> Option<String> {
        self.log.lock().unwrap().iter().find(|line| line.starts_with(beginning)).cloned()
    }

    /// Its process.
    pub(crate) fn pid(&self) -> i32 {
        self.child.id().try_into().unwrap()
    }

    /// The first line of its log that begins so, after so many.
    pub(crate) fn said_after(&self, mark: usize, beginning: &str) -> Option<String> {
        self.log.lock().unwrap().iter().skip(mark).find(|line| line.starts_with(beginning)).cloned()
    }

    /// Lines of its log so far.
    pub(crate) fn mark(&self) -> usize {
        self.log.lock().unwrap().len()
    }

    /// The events so far.
    pub(crate) fn events(&self) -> Vec<Value> {
        self.events.lock().unwrap().iter().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// Waits for the event of a file.
    pub(crate) fn event_of(&self, path: &str) -> Value {
        let find = || self.events().into_iter().find(|event| event["spec"]["path"] == path);
        wait_for(&format!("the event of {path}"), || find().is_some());
        find().unwrap()
    }
}

impl Drop for Enforcer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[track_caller]
pub(crate) fn wait_for(what: &str, mut done: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !done() {
        assert!(begun.elapsed() < WAIT, "{what} did not come about");
        thread::sleep(Duration::from_millis(100));
    }
}
