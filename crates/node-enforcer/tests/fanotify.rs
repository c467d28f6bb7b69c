//! The listener by itself, on this machine's own kernel: many containers in one group. Needs root.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeMap;
use std::fs::{self, File, Permissions};
use std::os::fd::AsFd;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use mooring_crd::policy_from_value;
use mooring_node_enforcer::containers::{Container, Root, Runtime, identity_of};
use mooring_node_enforcer::fanotify::{Heard, Link};
use mooring_policy::{NodeDefaults, RuleSet, compile};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use serde_json::json;

/// More than the groups that a user may have (`/proc/sys/fs/fanotify/max_user_groups`: 128).
const CONTAINERS: u64 = 200;

/// Unmounted and removed on drop.
struct Overlays(PathBuf);

impl Overlays {
    fn new() -> Self {
        let folder = std::env::temp_dir().join(format!("mooring-fanotify-{}", std::process::id()));
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

#[test]
#[ignore = "needs root"]
fn more_containers_than_groups() {
    let overlays = Overlays::new();
    let containers: Vec<_> = (0..CONTAINERS).map(|number| overlays.container(number)).collect();
    // No file is compared here, so nobody is told of proofs.
    let nobody = File::open("/dev/null").unwrap();
    let program = Path::new(env!("CARGO_BIN_EXE_mooring-enforcer"));
    let link = Link::start(program, Path::new(&format!("/mooring-fanotify-{}", std::process::id())), nobody.as_fd());
    let mut ended = Ended(Some(link.unwrap()));
    let link = ended.0.as_mut().unwrap();
    let members = containers.iter().map(|container| (container.cgroup_id, 1));
    link.rules(&rules(), 1, members);
    for container in &containers {
        // The last one has no policy.
        link.enter(container, u64::from(container.cgroup_id != CONTAINERS));
        link.is_told().unwrap();
    }
    for container in &containers {
        let [image, dropped] = ["image", "dropped"].map(|name| container.root.path.join(name));
        fs::copy("/bin/true", &dropped).unwrap();
        fs::set_permissions(&dropped, Permissions::from_mode(0o755)).unwrap();
        assert!(runs(&image).unwrap(), "{}", image.display());
        let ran = runs(&dropped);
        let is_refused = ran.as_ref().is_err_and(|error| error.raw_os_error() == Some(nix::libc::EPERM));
        assert_eq!(is_refused, container.cgroup_id != CONTAINERS, "{}: {ran:?}", dropped.display());
    }
    let descriptors = fs::read_dir(format!("/proc/{}/fd", link.pid())).unwrap();
    let groups = descriptors.filter(|descriptor| {
        fs::read_link(descriptor.as_ref().unwrap().path()).is_ok_and(|path| path == Path::new("anon_inode:[fanotify]"))
    });
    assert_eq!(groups.count(), 1, "one group for all");
    let denied = link.turn().into_iter().filter(|heard| matches!(heard, Heard::Denied(..))).count();
    assert_eq!(u64::try_from(denied).unwrap(), CONTAINERS - 1);
    link.leave(1);
    link.rules(&RuleSet::default(), 2, std::iter::empty());
    let dropped = containers[0].root.path.join("dropped");
    while runs(&dropped).is_err() {
        assert!(link.is_listening());
        link.turn();
    }
}
