//! One group for all containers, and what it is asked about.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, openat2};
use nix::sys::fanotify::{
    EventFFlags, Fanotify, FanotifyEvent, FanotifyResponse, InitFlags, MarkFlags, MaskFlags, Response,
};
use nix::sys::resource::{Resource, getrlimit, setrlimit};

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

/// The group, with its marks.
#[derive(Debug)]
pub(super) struct Marks {
    group: Fanotify,
    /// Of the containers' mount namespaces, by the mount's id. One that is used again is written anew when it is marked, and without a
    /// mark nothing is asked about it.
    mounts: HashMap<u64, Mount>,
    /// Mount namespaces that were looked through, by container.
    namespaces: HashMap<u64, Vec<u64>>,
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
        if let Ok((_, most)) = getrlimit(Resource::RLIMIT_NOFILE) {
            let _ = setrlimit(Resource::RLIMIT_NOFILE, most, most);
        }
        let flags = InitFlags::FAN_CLASS_CONTENT
            | InitFlags::FAN_CLOEXEC
            | InitFlags::FAN_NONBLOCK
            | InitFlags::FAN_UNLIMITED_QUEUE
            | InitFlags::FAN_UNLIMITED_MARKS;
        // Without O_NONBLOCK the kernel waits here for whoever has a lease on the file (fcntl(2), F_SETLEASE), as the workload may: it
        // refuses that execution now.
        let opened = EventFFlags::O_RDONLY | EventFFlags::O_LARGEFILE | EventFFlags::O_CLOEXEC | EventFFlags::O_NONBLOCK;
        let group = Fanotify::init(flags, opened)?;
        let host = host_root_and_namespace().map_err(io::Error::other)?.1.into();
        Ok(Self { group, mounts: HashMap::new(), namespaces: HashMap::new(), host })
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
    /// what else is mounted there, gives the declared volumes that could not be marked. None: there was nothing to do.
    pub(super) fn survey(&mut self, container: &Tracked, pid: u32) -> Option<Vec<String>> {
        let namespace = namespace_of(&format!("/proc/{pid}/ns/mnt")).ok()?;
        let surveyed = self.namespaces.entry(container.cgroup).or_default();
        if namespace == self.host || surveyed.contains(&namespace) {
            return None;
        }
        let process = PathBuf::from(format!("/proc/{pid}"));
        let mounts: Vec<MountEntry> = mounts_of(&process).ok()?.collect();
        // Who has another root does not see all of it.
        let is_root = |mount: &MountEntry| mount.dev == container.dev && mount.root == Path::new("/");
        if !mounts.iter().any(|mount| mount.mount_point == Path::new("/") && is_root(mount)) {
            return None;
        }
        surveyed.push(namespace);
        let mut problems = Vec::new();
        for mount in mounts {
            let marked =
                if mount.dev == container.dev { Ok(Kind::Root) } else { self.mark_mount(container, &process, &mount) };
            match marked {
                Ok(kind) => {
                    let MountEntry { id, dev, root, .. } = mount;
                    self.mounts.insert(id, Mount { cgroup: container.cgroup, dev, subtree: root, kind });
                }
                Err(error) if container.volumes.iter().any(|volume| Path::new(&volume.0) == mount.mount_point) => {
                    problems.push(format!("{}: {error}", mount.mount_point.display()));
                }
                // procfs and its like cannot all be marked, and what is under another mount cannot be reached.
                Err(_) => {}
            }
        }
        Some(problems)
    }

    /// Its volumes are known better than before.
    pub(super) fn survey_again(&mut self, cgroup: u64) {
        self.namespaces.remove(&cgroup);
    }

    fn mark_mount(&self, container: &Tracked, process: &Path, mount: &MountEntry) -> io::Result<Kind> {
        let flags = OFlag::O_PATH | OFlag::O_CLOEXEC;
        let root = nix::fcntl::open(&process.join("root"), flags, nix::sys::stat::Mode::empty())?;
        let how = OpenHow::new().flags(flags).resolve(
            ResolveFlag::RESOLVE_IN_ROOT | ResolveFlag::RESOLVE_NO_SYMLINKS | ResolveFlag::RESOLVE_NO_MAGICLINKS,
        );
        let place = File::from(openat2(&root, &mount.mount_point, how)?);
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
    pub(super) fn mount_of(&self, pid: u32, id: u64) -> Option<Mount> {
        let remembered = self.mounts.get(&id);
        let process = PathBuf::from(format!("/proc/{pid}"));
        let now = mounts_of(&process).ok().and_then(|mut mounts| mounts.find(|mount| mount.id == id));
        let Some(now) = now else { return remembered.cloned() };
        match remembered {
            Some(mount) if (mount.dev, &mount.subtree) == (now.dev, &now.root) => Some(mount.clone()),
            // Not ours: the superblock says whose it is.
            _ => Some(Mount { cgroup: 0, dev: now.dev, subtree: now.root, kind: Kind::Root }),
        }
    }

    /// A container is gone, and its mounts with it.
    pub(super) fn forget(&mut self, cgroup: u64) {
        self.mounts.retain(|_, mount| mount.cgroup != cgroup);
        self.namespaces.remove(&cgroup);
    }
}

fn namespace_of(path: &str) -> io::Result<u64> {
    use std::os::unix::fs::MetadataExt;
    Ok(fs::metadata(path)?.ino())
}
