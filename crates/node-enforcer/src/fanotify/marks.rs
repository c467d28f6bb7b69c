//! One group for all containers, and what it is asked about.

use std::collections::{HashMap, HashSet};
use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, openat2};
use nix::sys::fanotify::{
    EventFFlags, Fanotify, FanotifyEvent, FanotifyResponse, InitFlags, MarkFlags, MaskFlags, Response,
};

use super::sys::Seen;
use super::wire::Tracked;
use crate::containers::{MountEntry, host_root_and_namespace, mounts_of};

/// What a mount of a container is to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Its root's superblock, or a part of it mounted elsewhere.
    Root,
    /// The declared volume of this number.
    Volume(usize),
    /// Neither.
    Foreign,
}

/// A mount of a container's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Mount {
    /// The container's cgroup.
    pub(super) cgroup: u64,
    /// Its superblock.
    pub(super) dev: u32,
    /// Which folder of it is mounted.
    pub(super) subtree: PathBuf,
    /// What it is.
    pub(super) kind: Kind,
}

/// Mounts that are looked at of one process: whoever has more waits no longer than others.
const MOUNTS_MAX: usize = 4096;
/// Mount namespaces of one container that are remembered; then it begins anew.
const NAMESPACES_MAX: usize = 256;
/// Filesystems of [`is_remote`] in one namespace that the others are compared with; beyond, none is looked at.
const REMOTE_MAX: usize = 64;

/// The mounts that a process sees.
#[derive(Debug, Default)]
pub(super) struct Mounts {
    seen: Vec<MountEntry>,
    /// Whether there are more than [`MOUNTS_MAX`].
    more: bool,
}

impl Mounts {
    /// Reads them. A process that is gone sees none.
    pub(super) fn of(pid: u32) -> Self {
        let Ok(mut mounts) = mounts_of(&PathBuf::from(format!("/proc/{pid}"))) else { return Self::default() };
        Self { seen: mounts.by_ref().take(MOUNTS_MAX).collect(), more: mounts.next().is_some() }
    }

    /// Where lie filesystems that may never answer.
    fn remote(&self) -> Vec<&[u8]> {
        let remote = self.seen.iter().filter(|mount| is_remote(&mount.fs_type));
        remote.map(|mount| mount.mount_point.as_os_str().as_bytes()).collect()
    }
}

/// Whether a filesystem of this type can keep whoever asks it waiting, so that not even SIGKILL ends the wait: the types of
/// [`crate::agent::REMOTE`].
fn is_remote(fs_type: &str) -> bool {
    ["fuse", "nfs"].iter().any(|begin| fs_type.starts_with(begin))
        || ["cifs", "smb3", "9p", "ceph", "afs"].contains(&fs_type)
}

/// Whether a place is one of these or below it.
fn is_behind(place: &Path, remote: &[&[u8]]) -> bool {
    let place = place.as_os_str().as_bytes();
    let is_below = |point: &&[u8]| {
        place.strip_prefix(*point).is_some_and(|rest| *point == b"/" || matches!(rest.first(), None | Some(b'/')))
    };
    remote.len() > REMOTE_MAX || remote.iter().any(is_below)
}

/// The group, with its marks.
#[derive(Debug)]
pub(super) struct Marks {
    group: Fanotify,
    /// Of the containers' mount namespaces, by the mount's id. One that is used again is written anew when it is marked, and without a
    /// mark nothing is asked about it.
    mounts: HashMap<u64, Mount>,
    /// Mount namespaces that were looked through, by container.
    namespaces: HashMap<u64, Vec<u64>>,
    /// What is not covered is told once.
    told: HashSet<(u64, String)>,
    host: u64,
}

const ASKED: MaskFlags = MaskFlags::FAN_OPEN_EXEC_PERM;

impl Marks {
    /// An empty group.
    ///
    /// # Errors
    /// Without `CAP_SYS_ADMIN`, or on a kernel without permission events.
    pub(super) fn new() -> io::Result<Self> {
        // An event is a descriptor. What cannot be opened for want of one is denied by the kernel.
        crate::descriptors::allow_most();
        let flags = InitFlags::FAN_CLASS_CONTENT
            | InitFlags::FAN_CLOEXEC
            | InitFlags::FAN_NONBLOCK
            | InitFlags::FAN_UNLIMITED_QUEUE
            | InitFlags::FAN_UNLIMITED_MARKS;
        // Without O_NONBLOCK the kernel waits here for whoever has a lease on the file (fcntl(2), F_SETLEASE), as the workload may: it
        // refuses that execution now.
        let opened =
            EventFFlags::O_RDONLY | EventFFlags::O_LARGEFILE | EventFFlags::O_CLOEXEC | EventFFlags::O_NONBLOCK;
        let group = Fanotify::init(flags, opened)?;
        let host = host_root_and_namespace().map_err(io::Error::other)?.1.into();
        Ok(Self { group, mounts: HashMap::new(), namespaces: HashMap::new(), told: HashSet::new(), host })
    }

    /// What became of the group is seen here.
    pub(super) fn descriptor(&self) -> impl AsFd {
        self.group.as_fd()
    }

    /// What is asked now; none when nothing is.
    ///
    /// # Errors
    /// The system's.
    pub(super) fn events(&self) -> io::Result<Vec<FanotifyEvent>> {
        match self.group.read_events() {
            Ok(events) => Ok(events),
            Err(error @ (Errno::EBADF | Errno::EFAULT | Errno::EINVAL)) => Err(error.into()),
            // Nothing is there, or one whose file cannot be opened, which the kernel has refused by itself.
            Err(_) => Ok(Vec::new()),
        }
    }

    /// Answers.
    pub(super) fn answer(&self, event: &FanotifyEvent, denied: bool) {
        let Some(descriptor) = event.fd() else { return };
        let response = if denied { Response::FAN_DENY } else { Response::FAN_ALLOW };
        // Whoever asked may have been killed meanwhile.
        let _ = self.group.write_response(FanotifyResponse::new(descriptor, response));
    }

    /// Asks about every execution of a file on a container's root.
    ///
    /// # Errors
    /// When the root is no longer the one that was described, or cannot be marked.
    pub(super) fn mark_root(&self, container: &Tracked) -> io::Result<()> {
        let root = File::from(nix::fcntl::open(
            &container.root,
            OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC,
            nix::sys::stat::Mode::empty(),
        )?);
        let seen = Seen::of(&root)?;
        // A folder of an overlay has the overlay's own number in every case.
        if (seen.dev, seen.ino) != (container.dev, container.ino) {
            return Err(io::Error::other("it is not the root that its runtime made"));
        }
        self.mark(&root, MarkFlags::FAN_MARK_FILESYSTEM)
    }

    /// As [`Marks::mark_root`], the other way round. What is gone has no marks.
    pub(super) fn unmark_root(&self, container: &Tracked) {
        let flags = MarkFlags::FAN_MARK_REMOVE | MarkFlags::FAN_MARK_FILESYSTEM;
        let is_same = || -> io::Result<bool> {
            let root = File::from(nix::fcntl::open(
                &container.root,
                OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC,
                nix::sys::stat::Mode::empty(),
            )?);
            Ok(Seen::of(&root)?.dev == container.dev)
        };
        if is_same().unwrap_or(false) {
            let _ = self.group.mark(flags, ASKED, nix::fcntl::AT_FDCWD, Some(&container.root));
        }
    }

    fn mark(&self, file: &File, flags: MarkFlags) -> io::Result<()> {
        let path = format!("/proc/self/fd/{}", file.as_raw_fd());
        Ok(self.group.mark(MarkFlags::FAN_MARK_ADD | flags, ASKED, nix::fcntl::AT_FDCWD, Some(path.as_str()))?)
    }

    /// Looks through the mount namespace that `pid` is in, once, if it is one of the container's: where the root is the container's. Marks
    /// what else is mounted there, gives what could not be marked and matters. None: there was nothing to do.
    pub(super) fn survey(&mut self, container: &Tracked, pid: u32, mounts: &Mounts) -> Option<Vec<String>> {
        let namespace = namespace_of(&format!("/proc/{pid}/ns/mnt")).ok()?;
        let surveyed = self.namespaces.entry(container.cgroup).or_default();
        if namespace == self.host || surveyed.contains(&namespace) {
            return None;
        }
        // Who has another root does not see all of it.
        let is_root = |mount: &MountEntry| mount.dev == container.dev && mount.root == Path::new("/");
        if !mounts.seen.iter().any(|mount| mount.mount_point == Path::new("/") && is_root(mount)) {
            return None;
        }
        let flags = OFlag::O_PATH | OFlag::O_CLOEXEC;
        let root = nix::fcntl::open(format!("/proc/{pid}/root").as_str(), flags, nix::sys::stat::Mode::empty()).ok()?;
        if surveyed.len() >= NAMESPACES_MAX {
            surveyed.clear();
            self.mounts.retain(|_, mount| mount.cgroup != container.cgroup);
        }
        surveyed.push(namespace);
        let remote = mounts.remote();
        let mut problems = Vec::new();
        if mounts.more {
            problems.push(format!("of more than {MOUNTS_MAX} mounts the others are not looked at"));
        }
        for mount in &mounts.seen {
            let marked = if mount.dev == container.dev {
                Ok(Kind::Root)
            } else if is_behind(&mount.mount_point, &remote) {
                // Without asking it anything.
                Err(io::Error::other("it lies on, or below, a FUSE or network file system, which may not answer"))
            } else {
                self.mark_mount(container, &root, mount)
            };
            match marked {
                Ok(kind) => {
                    let MountEntry { id, dev, ref root, .. } = *mount;
                    self.mounts.insert(id, Mount { cgroup: container.cgroup, dev, subtree: root.clone(), kind });
                }
                Err(error) if container.volumes.iter().any(|volume| Path::new(&volume.0) == mount.mount_point) => {
                    problems.push(format!("{}: {error}", mount.mount_point.display()));
                }
                // procfs and its like cannot all be marked, and what is under another mount cannot be reached.
                Err(_) => {}
            }
        }
        problems.retain(|problem| self.told.insert((container.cgroup, problem.clone())));
        Some(problems)
    }

    /// Its volumes are known better than before.
    pub(super) fn survey_again(&mut self, cgroup: u64) {
        self.namespaces.remove(&cgroup);
    }

    fn mark_mount(&self, container: &Tracked, root: &OwnedFd, mount: &MountEntry) -> io::Result<Kind> {
        let how = OpenHow::new().flags(OFlag::O_PATH | OFlag::O_CLOEXEC).resolve(
            ResolveFlag::RESOLVE_IN_ROOT | ResolveFlag::RESOLVE_NO_SYMLINKS | ResolveFlag::RESOLVE_NO_MAGICLINKS,
        );
        let place = File::from(openat2(root, &mount.mount_point, how)?);
        let seen = Seen::of(&place)?;
        if seen.mount != mount.id {
            return Err(io::Error::other("something else is mounted over it"));
        }
        self.mark(&place, MarkFlags::FAN_MARK_MOUNT)?;
        let volume = container.volumes.iter().position(|(_, dev, ino)| (*dev, *ino) == (mount.dev, seen.ino));
        Ok(volume.map_or(Kind::Foreign, Kind::Volume))
    }

    /// The mount that a file was opened on: as the process sees it now, or, where it does not (a chroot), as it was when its namespace was
    /// looked through.
    pub(super) fn mount_of(&self, mounts: &Mounts, file: &Seen) -> Option<Mount> {
        let remembered = self.mounts.get(&file.mount);
        let Some(now) = mounts.seen.iter().find(|mount| mount.id == file.mount) else {
            // A number that is used again, as for a mount that nobody sees, is another superblock's.
            return remembered.filter(|mount| mount.dev == file.dev).cloned();
        };
        match remembered {
            Some(mount) if (mount.dev, &mount.subtree) == (now.dev, &now.root) => Some(mount.clone()),
            // Not ours: the superblock says whose it is.
            _ => Some(Mount { cgroup: 0, dev: now.dev, subtree: now.root.clone(), kind: Kind::Root }),
        }
    }

    /// A container is gone, and its mounts with it.
    pub(super) fn forget(&mut self, cgroup: u64) {
        self.mounts.retain(|_, mount| mount.cgroup != cgroup);
        self.namespaces.remove(&cgroup);
        self.told.retain(|(of, _)| *of != cgroup);
    }
}

fn namespace_of(path: &str) -> io::Result<u64> {
    use std::os::unix::fs::MetadataExt;
    Ok(fs::metadata(path)?.ino())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_lies_behind_a_remote_filesystem_is_never_asked() {
        for (fs_type, remote) in
            [("fuse.sshfs", true), ("fuseblk", true), ("nfs4", true), ("9p", true), ("ext4", false)]
        {
            assert_eq!(is_remote(fs_type), remote, "{fs_type}");
        }
        let behind = |place: &str, remote: &[&[u8]]| is_behind(Path::new(place), remote);
        assert!(behind("/data", &[b"/other", b"/data"]) && behind("/data/x", &[b"/data"]) && behind("/x", &[b"/"]));
        assert!(!behind("/database", &[b"/data"]) && !behind("/", &[b"/data"]) && !behind("/x", &[]));
        assert!(behind("/x", &[&b"/y"[..]; REMOTE_MAX + 1]));
    }
}
