//! OCI bundles: an overlay of the test image and a config.json.

use super::error::{During, OnFile, Result};
use super::runtime::{DELETED, KEPT, Shape, Upper};
use super::system::run;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::stat::{Mode, SFlag, mknod};
use serde_json::{Value, json};
use std::fs;
use std::path::{Path, PathBuf};

/// Every capability that the attacks use, with its number (include/uapi/linux/capability.h): an attacker with all of them must not get past either.
const CAPABILITIES: [(&str, u32); 18] = [
    ("CAP_CHOWN", 0),
    ("CAP_DAC_OVERRIDE", 1),
    ("CAP_DAC_READ_SEARCH", 2),
    ("CAP_FOWNER", 3),
    ("CAP_FSETID", 4),
    ("CAP_KILL", 5),
    ("CAP_SETGID", 6),
    ("CAP_SETUID", 7),
    ("CAP_SETPCAP", 8),
    ("CAP_NET_BIND_SERVICE", 10),
    ("CAP_NET_ADMIN", 12),
    ("CAP_NET_RAW", 13),
    ("CAP_SYS_CHROOT", 18),
    ("CAP_SYS_PTRACE", 19),
    ("CAP_SYS_ADMIN", 21),
    ("CAP_SYS_RESOURCE", 24),
    ("CAP_MKNOD", 27),
    ("CAP_SETFCAP", 31),
];

/// Those of them that there are to give.
fn capabilities() -> Vec<&'static str> {
    let status = fs::read_to_string("/proc/thread-self/status").unwrap_or_default();
    let bounding = status.lines().find_map(|line| line.strip_prefix("CapBnd:"));
    let bounding = bounding.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(u64::MAX);
    CAPABILITIES.into_iter().filter(|(_, number)| bounding >> number & 1 == 1).map(|(name, _)| name).collect()
}

/// The container's folder on the host, with its mounted root. Unmounted on drop.
#[derive(Debug)]
pub(crate) struct Bundle {
    pub(crate) dir: PathBuf,
    tmpfs: bool,
}

impl Bundle {
    /// Makes the bundle `work/bundles/ID` over `lower`; the volumes lie in `volumes`.
    pub(crate) fn make(
        work: &Path,
        lower: &Path,
        volumes: &Volumes,
        id: &str,
        shape: Shape,
        arguments: &[&str],
    ) -> Result<Bundle> {
        let bundle = Bundle { tmpfs: shape == Shape::Overlay(Upper::Tmpfs), dir: work.join("bundles").join(id) };
        let root = bundle.dir.join("rootfs");
        fs::create_dir_all(&root).on("create", &root)?;
        if shape == Shape::Plain {
            run("cp", &["-a", &format!("{}/.", lower.display()), &root.to_string_lossy()])?;
        } else {
            bundle.mount_overlay(lower, id, shape == Shape::Layered)?;
        }
        if shape.root_user() != 0 {
            // Where that user makes files; the image's stay the host's root's.
            for folder in ["", "drop", "tmp", "run"] {
                let path = root.join(folder);
                std::os::unix::fs::chown(&path, Some(shape.root_user()), Some(shape.root_user())).on("chown", &path)?;
            }
        }
        let config = bundle.dir.join("config.json");
        fs::write(&config, configuration(id, arguments, volumes, shape).to_string()).on("write", &config)?;
        Ok(bundle)
    }

    fn mount_overlay(&self, lower: &Path, id: &str, layered: bool) -> Result<()> {
        let (layers, root) = (self.dir.join("layers"), self.dir.join("rootfs"));
        fs::create_dir_all(&layers).on("create", &layers)?;
        if self.tmpfs {
            mount(Some("none"), &layers, Some("tmpfs"), MsFlags::empty(), None::<&str>)
                .during("mount a tmpfs for the upper layer")?;
        }
        for folder in [&layers.join("upper"), &layers.join("work")] {
            fs::create_dir_all(folder).on("create", folder)?;
        }
        let (mut below, mut more) = (lower.display().to_string(), "");
        if layered {
            let top = layers.join("top");
            let of = |path: &str| top.join(path.trim_start_matches('/'));
            fs::create_dir_all(of("/fix")).on("create", of("/fix"))?;
            fs::copy(lower.join(DELETED.trim_start_matches('/')), of(KEPT)).on("write", of(KEPT))?;
            mknod(&of(DELETED), SFlag::S_IFCHR, Mode::empty(), 0).during("make a whiteout")?;
            below = format!("{}:{below}", top.display());
            more = ",redirect_dir=on";
        }
        let layers = layers.display();
        let options = format!("lowerdir={below},upperdir={layers}/upper,workdir={layers}/work{more}");
        mount(Some("overlay"), &root, Some("overlay"), MsFlags::empty(), Some(options.as_str()))
            .during(format!("mount the overlay of {id}"))
    }
}

impl Drop for Bundle {
    fn drop(&mut self) {
        let _ = umount2(&self.dir.join("rootfs"), MntFlags::MNT_DETACH);
        if self.tmpfs {
            let _ = umount2(&self.dir.join("layers"), MntFlags::MNT_DETACH);
        }
    }
}

/// The host's folder and file that become the volumes of one container.
#[derive(Debug, Clone)]
pub(crate) struct Volumes {
    pub(crate) folder: PathBuf,
    pub(crate) file: PathBuf,
}

impl Volumes {
    /// Makes them for container `id`; the file is `program`.
    pub(crate) fn make(work: &Path, id: &str, program: &Path) -> Result<Volumes> {
        let folder = work.join("volumes").join(id);
        fs::create_dir_all(&folder).on("create", &folder)?;
        let file = work.join("volumes").join(format!("{id}.file"));
        fs::copy(program, &file).on("write", &file)?;
        Ok(Volumes { folder, file })
    }
}

fn configuration(id: &str, arguments: &[&str], volumes: &Volumes, shape: Shape) -> Value {
    let mount = |destination: &str, kind: &str, source: &str, options: &[&str]| json!({"destination": destination, "type": kind, "source": source, "options": options});
    let mut written = json!({
        "ociVersion": "1.0.2",
        "hostname": id,
        "process": {
            "terminal": false,
            "user": {"uid": 0, "gid": 0},
            "args": arguments,
            "env": ["PATH=/bin:/usr/bin:/sbin:/usr/sbin"],
            "cwd": "/",
            "capabilities": {
                "bounding": capabilities(), "effective": capabilities(),
                "permitted": capabilities(),
            },
            "rlimits": [{"type": "RLIMIT_NOFILE", "hard": 1024, "soft": 1024}],
        },
        "root": {"path": "rootfs", "readonly": false},
        "mounts": [
            mount("/proc", "proc", "proc", &[]),
            mount("/dev", "tmpfs", "tmpfs", &["nosuid", "strictatime", "mode=755", "size=65536k"]),
            mount("/dev/pts", "devpts", "devpts", &["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"]),
            mount("/dev/shm", "tmpfs", "shm", &["nosuid", "nodev", "mode=1777", "size=65536k"]),
            mount("/run", "tmpfs", "tmpfs", &["nosuid", "nodev", "mode=755", "size=65536k"]),
            mount("/sys", "sysfs", "sysfs", &["nosuid", "noexec", "nodev", "ro"]),
            mount("/sys/fs/cgroup", "cgroup", "cgroup", &["nosuid", "noexec", "nodev", "relatime", "rw"]),
            mount("/vol", "bind", &volumes.folder.to_string_lossy(), &["rbind", "rw"]),
            mount("/volfile", "bind", &volumes.file.to_string_lossy(), &["bind", "rw"]),
        ],
        "linux": {
            "cgroupsPath": format!("/mooring-e2e/{id}"),
            "namespaces": [
                {"type": "pid"}, {"type": "ipc"}, {"type": "uts"}, {"type": "mount"}, {"type": "cgroup"}, {"type": "network"},
            ],
        },
    });
    let more = |field: &mut Value, entry: Value| field.as_array_mut().map_or((), |list| list.push(entry));
    match shape {
        Shape::HostRoot => more(&mut written["mounts"], mount("/host", "bind", "/", &["rbind", "rw"])),
        Shape::UserNamespace => {
            more(&mut written["linux"]["namespaces"], json!({"type": "user"}));
            let map = json!([{"containerID": 0, "hostID": shape.root_user(), "size": 65536}]);
            written["linux"]["uidMappings"] = map.clone();
            written["linux"]["gidMappings"] = map;
        }
        Shape::HostProcesses => {
            if let Some(namespaces) = written["linux"]["namespaces"].as_array_mut() {
                namespaces.retain(|namespace| namespace["type"] != "pid");
            }
        }
        Shape::Overlay(_) | Shape::Layered | Shape::Plain => {}
    }
    written
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_volumes_are_in_the_configuration() {
        let volumes = Volumes { folder: "/w/volumes/a".into(), file: "/w/volumes/a.file".into() };
        let text = configuration("a", &["/usr/bin/probe", "serve"], &volumes, Shape::Plain).to_string();
        assert!(text.contains("/w/volumes/a.file") && text.contains("\"/mooring-e2e/a\""));
    }
}
