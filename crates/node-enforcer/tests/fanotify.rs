//! The listener by itself, on this machine's own kernel: many containers in one group. Needs root.
#![allow(missing_docs, unsafe_code, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeMap;
use std::fs::{self, File, Permissions};
use std::io::{Read, Write};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use mooring_crd::policy_from_value;
use mooring_node_enforcer::containers::{Container, FileId, Root, Runtime, Volume, identity_of};
use mooring_node_enforcer::fanotify::{Heard, Link};
use mooring_policy::{NodeDefaults, RuleSet, compile};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};
use nix::sys::signal::{SigHandler, Signal, kill, signal};
use nix::sys::wait::waitpid;
use nix::unistd::{ForkResult, Pid, chroot, fork, pause};
use serde_json::json;

/// More than the groups that a user may have (`/proc/sys/fs/fanotify/max_user_groups`: 128).
const CONTAINERS: u64 = 200;

/// Unmounted and removed on drop.
struct Overlays(PathBuf);

impl Overlays {
    fn new(test: &str) -> Self {
        let folder = std::env::temp_dir().join(format!("mooring-fanotify-{test}-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        mount(Some("tmpfs"), &folder, Some("tmpfs"), MsFlags::empty(), None::<&str>).unwrap();
        Self(folder)
    }

    fn container(&self, number: u64) -> Container {
        let folder = self.0.join(number.to_string());
        let [lower, upper, work, root] = ["lower", "upper", "work", "root"].map(|name| folder.join(name));
        for folder in [&lower, &upper, &work, &root] {
            fs::create_dir_all(folder).unwrap();
        }
        fs::copy("/bin/true", lower.join("image")).unwrap();
        let options = format!("lowerdir={},upperdir={},workdir={}", lower.display(), upper.display(), work.display());
        mount(Some("overlay"), &root, Some("overlay"), MsFlags::empty(), Some(options.as_str())).unwrap();
        let id = identity_of(&root).unwrap();
        let name = format!("scratch-{number}");
        Container {
            id: name.clone(),
            runtime: Runtime::Other,
            namespace: "default".to_owned(),
            pod: name.clone(),
            pod_uid: None,
            name,
            sandbox: false,
            image: None,
            labels: BTreeMap::new(),
            labels_known: true,
            cgroup: String::new(),
            // No cgroup's, but that is only its name here.
            cgroup_id: number + 1,
            init_pid: None,
            root: Root {
                path: root,
                dev: id.dev,
                ino: id.ino,
                overlay: true,
                upper_dir: Some(upper),
                lower_dirs: vec![lower],
                user_xattrs: false,
            },
            volumes: Vec::new(),
        }
    }
}

impl Drop for Overlays {
    fn drop(&mut self) {
        for number in 0..CONTAINERS {
            let _ = umount2(&self.0.join(number.to_string()).join("root"), MntFlags::MNT_DETACH);
        }
        let _ = umount2(&self.0, MntFlags::MNT_DETACH);
        let _ = fs::remove_dir(&self.0);
    }
}

/// Ended on drop: nothing that it was asked about waits for it.
struct Ended(Option<Link>);

impl Ended {
    fn start(test: &str) -> Self {
        // No file is compared here, so nobody is told of proofs.
        let nobody = File::open("/dev/null").unwrap();
        let program = Path::new(env!("CARGO_BIN_EXE_mooring-enforcer"));
        let pins = format!("/mooring-fanotify-{test}-{}", std::process::id());
        Self(Some(Link::start(program, Path::new(&pins), nobody.as_fd()).unwrap()))
    }
}

impl Drop for Ended {
    fn drop(&mut self) {
        if let Some(link) = self.0.take() {
            link.end();
        }
    }
}

fn rules() -> RuleSet {
    let policy = json!({"apiVersion": mooring_crd::API_VERSION, "kind": mooring_crd::POLICY_KIND,
        "metadata": {"name": "scratch"}, "spec": {"actions": {"prevent": true}}});
    compile(&[policy_from_value(policy).unwrap()], NodeDefaults::default()).rules
}

fn runs(program: &Path) -> std::io::Result<bool> {
    Command::new(program).status().map(|status| status.success())
}

fn is_refused(ran: &std::io::Result<bool>) -> bool {
    ran.as_ref().is_err_and(|error| error.raw_os_error() == Some(nix::libc::EPERM))
}

/// Gives where.
fn drop_program(container: &Container) -> PathBuf {
    let dropped = container.root.path.join("dropped");
    fs::copy("/bin/true", &dropped).unwrap();
    fs::set_permissions(&dropped, Permissions::from_mode(0o755)).unwrap();
    dropped
}

#[test]
#[ignore = "needs root"]
fn a_lease_on_the_file_delays_nobody() {
    let overlays = Overlays::new("lease");
    let container = overlays.container(0);
    let mut ended = Ended::start("lease");
    let link = ended.0.as_mut().unwrap();
    link.rules(&rules(), 1, [(container.cgroup_id, 1)].into_iter());
    link.enter(&container, 1);
    link.is_told().unwrap();
    let decoy = drop_program(&container);
    let held = File::open(&decoy).unwrap();
    // SAFETY: no handler is set. Whoever breaks the lease has this signal sent, which would end the test.
    unsafe { signal(Signal::SIGIO, SigHandler::SigIgn) }.unwrap();
    // SAFETY: it takes three numbers.
    let leased = unsafe { nix::libc::fcntl(held.as_raw_fd(), nix::libc::F_SETLEASE, nix::libc::F_WRLCK) };
    assert_eq!(leased, 0, "{}", std::io::Error::last_os_error());
    for _ in 0..5 {
        let begun = Instant::now();
        let ran = runs(&decoy);
        assert!(is_refused(&ran), "{ran:?}");
        assert!(begun.elapsed() < Duration::from_millis(400), "{:?}", begun.elapsed());
    }
    let heard = link.turn();
    assert!(heard.is_empty() && link.ended() == 0, "{heard:?}");
    drop(held);
    assert!(runs(&container.root.path.join("image")).unwrap());
    assert!(is_refused(&runs(&decoy)));
}

/// A process in the container's root and in a mount namespace of its own, where a FUSE filesystem without a server is mounted on
/// `/fuse`. Killed on drop: then nobody waits for its answers any more.
struct Unanswered(Pid);

impl Unanswered {
    fn start(root: &Path) -> Self {
        let place = root.join("fuse");
        fs::create_dir(&place).unwrap();
        let (mut told, tell) = std::io::pipe().unwrap();
        // SAFETY: the child allocates next to nothing, and never returns.
        match unsafe { fork() }.unwrap() {
            ForkResult::Parent { child } => {
                drop(tell);
                let begun = Self(child);
                told.read_exact(&mut [0]).expect("FUSE cannot be mounted here");
                begun
            }
            ForkResult::Child => {
                let mounted = (|| -> std::io::Result<()> {
                    unshare(CloneFlags::CLONE_NEWNS)?;
                    mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>)?;
                    let server = File::options().read(true).write(true).open("/dev/fuse")?;
                    let options = format!("fd={},rootmode=40000,user_id=0,group_id=0", server.as_raw_fd());
                    mount(Some("fuse"), &place, Some("fuse"), MsFlags::empty(), Some(options.as_str()))?;
                    chroot(root)?;
                    std::mem::forget(server);
                    (&tell).write_all(b"1")
                })();
                drop(tell);
                while mounted.is_ok() {
                    pause();
                }
                std::process::abort()
            }
        }
    }
}

impl Drop for Unanswered {
    fn drop(&mut self) {
        let _ = kill(self.0, Signal::SIGKILL);
        let _ = waitpid(self.0, None);
    }
}

#[test]
#[ignore = "needs root"]
fn a_file_system_that_does_not_answer_is_not_asked() {
    let overlays = Overlays::new("fuse");
    let mut container = overlays.container(0);
    let unanswered = Unanswered::start(&container.root.path);
    container.init_pid = u32::try_from(unanswered.0.as_raw()).ok();
    container.volumes = vec![Volume {
        destination: "/fuse".to_owned(),
        kind: "hostPath".to_owned(),
        source: "/fuse".into(),
        file: Some(FileId { dev: 1, ino: 1 }),
    }];
    let mut ended = Ended::start("fuse");
    let link = ended.0.as_mut().unwrap();
    link.rules(&rules(), 1, [(container.cgroup_id, 1)].into_iter());
    link.enter(&container, 1);
    let said = link.is_told().unwrap_err().to_string();
    assert!(said.starts_with("/fuse: ") && said.contains("FUSE"), "it is not covered, and nobody says so: {said}");
    let dropped = drop_program(&container);
    assert!(runs(&container.root.path.join("image")).unwrap());
    assert!(is_refused(&runs(&dropped)));
    assert_eq!(link.ended(), 0);
}

#[test]
#[ignore = "needs root"]
fn more_containers_than_groups() {
    let overlays = Overlays::new("groups");
    let containers: Vec<_> = (0..CONTAINERS).map(|number| overlays.container(number)).collect();
    let mut ended = Ended::start("groups");
    let link = ended.0.as_mut().unwrap();
    let members = containers.iter().map(|container| (container.cgroup_id, 1));
    link.rules(&rules(), 1, members);
    for container in &containers {
        // The last one has no policy.
        link.enter(container, u64::from(container.cgroup_id != CONTAINERS));
        link.is_told().unwrap();
    }
    for container in &containers {
        let image = container.root.path.join("image");
        let dropped = drop_program(container);
        assert!(runs(&image).unwrap(), "{}", image.display());
        let ran = runs(&dropped);
        assert_eq!(is_refused(&ran), container.cgroup_id != CONTAINERS, "{}: {ran:?}", dropped.display());
    }
    let descriptors = fs::read_dir(format!("/proc/{}/fd", link.pid())).unwrap();
    let groups = descriptors.filter(|descriptor| {
        fs::read_link(descriptor.as_ref().unwrap().path()).is_ok_and(|path| path == Path::new("anon_inode:[fanotify]"))
    });
    assert_eq!(groups.count(), 1, "one group for all");
    // They are more than a socket holds at a time.
    let (mut denied, begun) = (0, Instant::now());
    while denied < CONTAINERS - 1 && begun.elapsed() < Duration::from_secs(5) {
        denied += link.turn().into_iter().map(|heard| u64::from(matches!(heard, Heard::Denied(..)))).sum::<u64>();
    }
    assert_eq!(denied, CONTAINERS - 1);
    link.leave(1);
    link.rules(&RuleSet::default(), 2, std::iter::empty());
    let dropped = containers[0].root.path.join("dropped");
    while runs(&dropped).is_err() {
        assert!(link.is_listening());
        link.turn();
    }
}
