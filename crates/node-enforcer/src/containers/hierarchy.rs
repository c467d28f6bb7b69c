//! By which cgroups containers are known: those of the unified hierarchy, or of one v1 hierarchy where that has no containers.

use std::io;
use std::path::{Path, PathBuf};

use super::{ContainerError, MountEntry, files, mounts_of};

/// Where runtimes look: the file system that is mounted here decides for them, too, which version they use.
const USUAL: &str = "/sys/fs/cgroup";
/// Controllers of v1 whose hierarchies every runtime makes a container's cgroup in, likeliest first.
const CONTROLLERS: [&str; 4] = ["pids", "memory", "devices", "cpu"];

/// A cgroup hierarchy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hierarchy {
    /// Where it is mounted.
    pub mount: PathBuf,
    /// Of a v1 hierarchy its number and one of its controllers, as `/proc/PID/cgroup` has them.
    pub controller: Option<(u32, String)>,
    /// Beside one of v1: where that is mounted which can freeze its cgroups. Runtimes give a container the same path in all of them.
    pub freezer: Option<PathBuf>,
}

impl Default for Hierarchy {
    fn default() -> Self {
        Self { mount: USUAL.into(), controller: None, freezer: None }
    }
}

impl Hierarchy {
    /// The one that this host's runtimes use, as this thread sees its mounts.
    ///
    /// # Errors
    /// When none is mounted, or what is cannot be read.
    pub fn of_host() -> Result<Self, ContainerError> {
        let process = Path::new("/proc/1/cgroup");
        let table = files::read(process, files::SMALL_LIMIT)?.unwrap_or_default();
        let mounts: Vec<_> =
            mounts_of(Path::new("/proc/thread-self"))?.filter(|it| it.fs_type.starts_with("cgroup")).collect();
        Self::choose(&String::from_utf8_lossy(&table), &mounts).ok_or_else(|| ContainerError::Unreadable {
            path: USUAL.into(),
            source: io::Error::other(
                "no cgroup hierarchy is mounted there: mount one, or mount the host's into the agent's container",
            ),
        })
    }

    /// From a process's `/proc/PID/cgroup`, and what is mounted.
    pub(super) fn choose(table: &str, mounts: &[MountEntry]) -> Option<Self> {
        let unified = || mounts.iter().filter(|it| it.fs_type == "cgroup2");
        let version_2 = |it: &MountEntry| Self { mount: it.mount_point.clone(), controller: None, freezer: None };
        if let Some(usual) = unified().find(|it| it.mount_point == Path::new(USUAL)) {
            return Some(version_2(usual));
        }
        let mount_with = |controller: &str| {
            let mut of_v1 = mounts.iter().filter(|it| it.fs_type == "cgroup");
            of_v1.find(|it| it.has_option(controller)).map(|it| it.mount_point.clone())
        };
        let version_1 = CONTROLLERS.into_iter().find_map(|controller| {
            let number = line_of(table, controller)?.0;
            Some(Self {
                mount: mount_with(controller)?,
                controller: Some((number, controller.to_owned())),
                freezer: mount_with("freezer"),
            })
        });
        version_1.or_else(|| unified().next().map(version_2))
    }

    /// The path of a process in it, from its `/proc/PID/cgroup`.
    #[must_use]
    pub fn path_in<'a>(&self, table: &'a str) -> Option<&'a str> {
        let controller = self.controller.as_ref().map_or("", |(_, name)| name.as_str());
        line_of(table, controller).map(|(_, path)| path)
    }
}

/// Number and path of the hierarchy that has this controller; that of the unified one is empty.
fn line_of<'a>(table: &'a str, controller: &str) -> Option<(u32, &'a str)> {
    table.lines().find_map(|line| {
        let mut fields = line.splitn(3, ':');
        let (number, controllers, path) = (fields.next()?, fields.next()?, fields.next()?);
        controllers.split(',').any(|it| it == controller).then_some(())?;
        Some((number.parse().ok()?, path))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mounts(lines: &[&str]) -> Vec<MountEntry> {
        lines.iter().map(|line| MountEntry::parse(line.as_bytes()).unwrap()).collect()
    }

    const HYBRID: &str = "9:name=systemd:/\n8:pids:/a\n4:cpu,cpuacct:/b\n3:memory:/c\n0::/d\n";
    const SYSTEMD: &str = "31 30 0:26 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,name=systemd";
    const PIDS: &str = "36 30 0:31 / /sys/fs/cgroup/pids rw - cgroup cgroup rw,pids";
    const MEMORY: &str = "37 30 0:32 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory";
    const FREEZER: &str = "39 30 0:34 / /sys/fs/cgroup/freezer rw - cgroup cgroup rw,freezer";
    const CPU: &str = "38 30 0:33 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct";
    const UNIFIED: &str = "40 30 0:35 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw";

    #[test]
    fn the_unified_one_where_runtimes_use_it() {
        let usual = "30 1 0:25 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw";
        assert_eq!(Hierarchy::choose("0::/", &mounts(&[usual])), Some(Hierarchy::default()));
        let elsewhere = Hierarchy::choose("0::/", &mounts(&[UNIFIED])).unwrap();
        assert_eq!((elsewhere.mount.to_str().unwrap(), elsewhere.controller), ("/sys/fs/cgroup/unified", None));
        assert_eq!(Hierarchy::choose("0::/", &[]), None);
    }

    #[test]
    fn a_controllers_beside_an_empty_unified_one() {
        let chosen = |lines: &[&str]| Hierarchy::choose(HYBRID, &mounts(lines)).unwrap();
        let pids = chosen(&[SYSTEMD, MEMORY, PIDS, FREEZER, UNIFIED]);
        assert_eq!(pids.freezer.as_deref(), Some(Path::new("/sys/fs/cgroup/freezer")));
        assert_eq!(chosen(&[PIDS, UNIFIED]).freezer, None);
        assert_eq!(pids.mount, Path::new("/sys/fs/cgroup/pids"));
        assert_eq!(pids.controller, Some((8, "pids".to_owned())));
        assert_eq!(pids.path_in(HYBRID), Some("/a"));
        assert_eq!(chosen(&[SYSTEMD, MEMORY, UNIFIED]).controller, Some((3, "memory".to_owned())));
        let cpu = chosen(&[SYSTEMD, CPU]);
        assert_eq!((cpu.mount.as_path(), cpu.path_in(HYBRID)), (Path::new("/sys/fs/cgroup/cpu,cpuacct"), Some("/b")));
        assert_eq!(Hierarchy::default().path_in(HYBRID), Some("/d"));
    }
}
