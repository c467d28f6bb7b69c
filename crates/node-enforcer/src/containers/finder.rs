//! Finds containers by their cgroup.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use nix::fcntl::{OFlag, OpenHow, ResolveFlag, openat2};

use super::bundle::{Bundle, waiting_runtimes};
use super::places::Places;
use super::runtime_state::State;
use super::{Container, ContainerError, FileId, Hierarchy, cgroup_path, command_line, files, located, mounts_of};

/// A command line longer than this is no runtime's.
const CMDLINE_MAX: u64 = 64 << 10;

/// Where to look.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FinderConfig {
    /// The host's `/proc`: pids are those of its pid namespace.
    pub proc: PathBuf,
    /// The hierarchy by whose cgroups containers are known.
    pub cgroups: Hierarchy,
    /// Where the host's file tree begins, as this process sees it.
    pub host_root: PathBuf,
    /// The runtimes' folders, as the host names them.
    pub places: Places,
}

impl Default for FinderConfig {
    fn default() -> Self {
        Self {
            proc: "/proc".into(),
            // Where it cannot be found out nothing is loaded either, and that says why.
            cgroups: Hierarchy::of_host().unwrap_or_default(),
            host_root: "/".into(),
            places: Places::default(),
        }
    }
}

/// Finds containers by their cgroup. It keeps nothing: each question is answered from what is there now.
#[derive(Debug, Clone)]
pub struct Finder {
    config: FinderConfig,
}

impl Finder {
    /// A finder that looks in these places.
    #[must_use]
    pub fn new(config: FinderConfig) -> Self {
        Self { config }
    }

    /// The container whose cgroup this is: a path below the cgroup mount, with a leading `/`. `maker_pid` is the process that
    /// made the cgroup, if known: a runtime's own command line says most, and first.
    ///
    /// Costs a read of `/proc/<pid>/cmdline` and some `stat` calls for a cgroup that is no container's.
    ///
    /// # Errors
    /// [`ContainerError::Transient`] asks to try again; any other says that the container stays unknown, and why.
    pub fn resolve(&self, cgroup: &str, maker_pid: Option<u32>) -> Result<Option<Container>, ContainerError> {
        let mut failed = None;
        if let Some(bundle) = maker_pid.and_then(|pid| self.bundle_of_runtime(pid)) {
            match bundle.describe(&self.config, Some(cgroup)) {
                Ok(None) => {}
                Err(error) => failed = Some(error),
                found => return found,
            }
        }
        let ids = cgroup_path::candidate_ids(cgroup);
        for found in self.config.places.find(&self.config.host_root, &ids) {
            let bundle = Bundle::of_place(&found, &self.config);
            match bundle.and_then(|bundle| bundle.map_or(Ok(None), |b| b.describe(&self.config, Some(cgroup)))) {
                Ok(None) => {}
                Err(error) => failed = failed.or(Some(error)),
                found => return found,
            }
        }
        if let Some(error) = failed {
            return Err(error);
        }
        // systemd makes the scope while the runtime waits for it, and the runtime writes its state later.
        if maker_pid == Some(1) && is_foreign_scope(cgroup) {
            for bundle in waiting_runtimes(&self.config.proc).into_iter().filter_map(|pid| self.bundle_of_runtime(pid))
            {
                if let Some(container) = bundle.describe(&self.config, Some(cgroup))? {
                    return Ok(Some(container));
                }
            }
        }
        Ok(None)
    }

    /// All containers that have a cgroup now, and what could not be read. One container may be found in several places: the
    /// first description is kept.
    #[must_use]
    pub fn scan(&self) -> (Vec<Container>, Vec<ContainerError>) {
        let (mut containers, mut errors) = (Vec::new(), Vec::new());
        let mut seen = BTreeSet::new();
        for found in self.config.places.all(&self.config.host_root) {
            let bundle = Bundle::of_place(&found, &self.config);
            match bundle.and_then(|bundle| bundle.map_or(Ok(None), |b| b.describe(&self.config, None))) {
                Ok(Some(container)) => {
                    if seen.insert(container.cgroup_id) {
                        containers.push(container);
                    }
                }
                Ok(None) => {}
                Err(error) => errors.push(error),
            }
        }
        (containers, errors)
    }

    /// Whether the container still has its cgroup.
    #[must_use]
    pub fn is_there(&self, container: &Container) -> bool {
        self.config.cgroup_id(&container.cgroup) == Some(container.cgroup_id)
    }

    /// Fills in the volumes that exist only in the container's own mount namespace (a declared tmpfs), as the process `pid`
    /// sees them; gives the number still unknown.
    ///
    /// Ask as early as the container has a process of its own, before its program runs: later a privileged container may have
    /// mounted something else there. The first mount at a destination counts, so what is put over it does not.
    ///
    /// # Errors
    /// [`ContainerError::Unreadable`] if the mount table of `pid` cannot be read.
    pub fn resolve_tmpfs(&self, container: &mut Container, pid: u32) -> Result<usize, ContainerError> {
        if container.volumes.iter().all(|volume| volume.file.is_some()) {
            return Ok(0);
        }
        let process = self.config.proc.join(pid.to_string());
        let mounts: Vec<_> = mounts_of(&process)?
            .filter(|mount| container.volumes.iter().any(|v| Path::new(&v.destination) == mount.mount_point))
            .collect();
        for volume in container.volumes.iter_mut().filter(|volume| volume.file.is_none()) {
            let first = mounts.iter().find(|m| m.mount_point == Path::new(&volume.destination));
            volume.file = first.filter(|mount| mount.fs_type == volume.kind).and_then(|mount| {
                let root = open_inside(&process, &volume.destination)?;
                let (mount_id, ino) = located::identify(&root).ok()?;
                (mount_id == mount.id).then_some(FileId { dev: mount.dev, ino })
            });
        }
        Ok(container.volumes.iter().filter(|volume| volume.file.is_none()).count())
    }

    /// The bundle that the runtime `pid` is creating, if it is one.
    fn bundle_of_runtime(&self, pid: u32) -> Option<Bundle> {
        let process = self.config.proc.join(pid.to_string());
        let cmdline = files::read(&process.join("cmdline"), CMDLINE_MAX).ok()??;
        let command = command_line::parse(&cmdline)?;
        if !cgroup_path::is_id(&command.id) {
            return None;
        }
        let cwd = || fs::read_link(process.join("cwd")).ok();
        let is_absolute = command.bundle.as_ref().is_some_and(|bundle| bundle.is_absolute());
        let (folder, config) = command_line::config_file(&command, if is_absolute { None } else { cwd() }.as_deref())?;
        Some(Bundle::at(command.id, folder, config, command.runtime, State::default()))
    }
}

/// A scope that systemd may have made for a runtime: not one of those that it makes for people and their programs.
pub(super) fn is_foreign_scope(cgroup: &str) -> bool {
    let leaf = cgroup_path::leaf(cgroup);
    leaf.strip_suffix(".scope").is_some()
        && !["init.scope", "session-", "run-", "app-", "user-"].iter().any(|own| leaf.starts_with(own))
}

/// Opens a path inside a process's root without following any link that the container could have placed.
fn open_inside(process: &Path, destination: &str) -> Option<File> {
    let flags = OFlag::O_PATH | OFlag::O_CLOEXEC;
    let root: OwnedFd = nix::fcntl::open(&process.join("root"), flags, nix::sys::stat::Mode::empty()).ok()?;
    let how = OpenHow::new()
        .flags(flags)
        .resolve(ResolveFlag::RESOLVE_IN_ROOT | ResolveFlag::RESOLVE_NO_SYMLINKS | ResolveFlag::RESOLVE_NO_MAGICLINKS);
    openat2(&root, destination, how).ok().map(File::from)
}
