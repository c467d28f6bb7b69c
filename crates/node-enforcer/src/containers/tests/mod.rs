mod engines;
mod formats;
mod hostile;
mod real_runtime;
mod trees;

use std::fs;
use std::path::PathBuf;

use serde_json::{Value, json};

use super::scratch::Scratch;
use super::{Finder, FinderConfig, Hierarchy, Places};

/// Where containerd keeps its bundles.
pub(super) const TASKS: &str = "/run/containerd/io.containerd.runtime.v2.task";

/// A host whose whole file tree, `/proc` and cgroups included, is a scratch folder.
pub(super) struct Host {
    pub(super) tree: Scratch,
    pub(super) finder: Finder,
}

impl Host {
    pub(super) fn new() -> Self {
        Self::of(None)
    }

    /// One whose runtimes use v1, and this hierarchy of it.
    pub(super) fn of(controller: Option<(u32, String)>) -> Self {
        let tree = Scratch::new();
        let finder = Finder::new(FinderConfig {
            proc: tree.folder("proc"),
            cgroups: Hierarchy { mount: tree.folder("sys/fs/cgroup"), controller, freezer: None },
            host_root: tree.path().to_owned(),
            places: Places::default(),
        });
        Self { tree, finder }
    }

    pub(super) fn cgroup(&self, path: &str) -> u64 {
        use std::os::unix::fs::MetadataExt;
        fs::metadata(self.tree.folder(&format!("sys/fs/cgroup{path}"))).unwrap().ino()
    }

    pub(super) fn process(&self, pid: u32, command: &[&str], cwd: &str) {
        let folder = format!("proc/{pid}");
        let cmdline = format!("{}\0", command.join("\0"));
        self.tree.write(&format!("{folder}/cmdline"), cmdline);
        let name = command[0].rsplit('/').next().unwrap();
        self.tree.write(&format!("{folder}/comm"), format!("{name}\n"));
        // Field 22, the start time, is 4711; the name holds what a parser may trip over.
        let zeros = "0 ".repeat(18);
        self.tree.write(&format!("{folder}/stat"), format!("{pid} ({name}) x) S {zeros}4711 0 0\n"));
        std::os::unix::fs::symlink(cwd, self.tree.at(&format!("{folder}/cwd"))).unwrap();
    }

    /// A bundle with a root filesystem.
    pub(super) fn bundle(&self, folder: &str, config: &Value) -> PathBuf {
        self.tree.folder(&format!("{folder}/rootfs"));
        self.tree.write(&format!("{folder}/config.json"), config.to_string());
        self.tree.at(folder)
    }
}

/// What runtimes write for every container: the default mounts and a cgroup path.
pub(super) fn spec(cgroups_path: &str) -> Value {
    json!({
        "ociVersion": "1.1.0",
        "process": {"args": ["/app"], "env": ["PATH=/bin"], "cwd": "/", "user": {"uid": 0, "gid": 0}},
        "root": {"path": "rootfs", "readonly": true},
        "hostname": "h",
        "mounts": [
            {"destination": "/proc", "type": "proc", "source": "proc"},
            {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "mode=755"]},
            {"destination": "/dev/pts", "type": "devpts", "source": "devpts", "options": ["newinstance"]},
            {"destination": "/dev/mqueue", "type": "mqueue", "source": "mqueue"},
            {"destination": "/sys", "type": "sysfs", "source": "sysfs"},
            {"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup"}
        ],
        "annotations": {},
        "linux": {"cgroupsPath": cgroups_path, "namespaces": [{"type": "mount"}]}
    })
}

pub(super) fn with(mut spec: Value, mounts: &[Value], annotations: &[(&str, &str)]) -> Value {
    spec["mounts"].as_array_mut().unwrap().extend_from_slice(mounts);
    for (key, value) in annotations {
        spec["annotations"][*key] = json!(value);
    }
    spec
}
