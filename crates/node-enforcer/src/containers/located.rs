//! Which file a path is for the kernel, and on which mount.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nix::libc;

use super::{ContainerError, FileId, MountEntry, mounts_of};

/// A path, found.
#[derive(Debug)]
pub(super) struct Located {
    pub(super) file: FileId,
    pub(super) mount: MountEntry,
    /// Whether the path is the mount's own root.
    pub(super) is_mount_root: bool,
}

// Always of this thread (/proc/thread-self): in a cluster it sees other mounts than the process does.

/// A path that is held open without being read: its mount cannot go away, nor its id be used again.
struct Held {
    file: File,
    ino: u64,
    mount_id: u64,
}

/// Finds each path; None for one that cannot be opened. One pass over the mount table, whatever the number of paths.
///
/// The mount's superblock is asked, not `st_dev`: btrfs gives a subvolume's files a device number of their own.
pub(super) fn locate(paths: &[PathBuf]) -> Result<Vec<Option<Located>>, ContainerError> {
    let held: Vec<Option<Held>> = paths.iter().map(|path| hold(path).ok()).collect();
    let wanted: std::collections::BTreeSet<u64> = held.iter().flatten().map(|held| held.mount_id).collect();
    let mounts: BTreeMap<u64, MountEntry> = mounts_of(Path::new("/proc/thread-self"))?
        .filter(|mount| wanted.contains(&mount.id))
        .map(|mount| (mount.id, mount))
        .collect();
    Ok(held
        .iter()
        .map(|held| {
            let held = held.as_ref()?;
            let mount = mounts.get(&held.mount_id)?.clone();
            let is_mount_root = fs::read_link(own_descriptor("fd", &held.file)).is_ok_and(|p| p == mount.mount_point);
            Some(Located { file: FileId { dev: mount.dev, ino: held.ino }, mount, is_mount_root })
        })
        .collect())
}

/// Which file a path is for the kernel.
///
/// # Errors
/// When it cannot be opened, or its mount is not in the mount table.
pub fn identity_of(path: &Path) -> Result<FileId, ContainerError> {
    let found = locate(&[path.to_path_buf()])?.pop().flatten();
    found.map(|located| located.file).ok_or_else(|| ContainerError::Unreadable {
        path: path.to_path_buf(),
        source: io::Error::other("it cannot be opened, or is on no mount of this process"),
    })
}

/// The mount id and inode number of an open file.
pub(super) fn identify(file: &File) -> io::Result<(u64, u64)> {
    let ino = file.metadata()?.ino();
    let description = fs::read_to_string(own_descriptor("fdinfo", file))?;
    let mount_id = description
        .lines()
        .find_map(|line| line.strip_prefix("mnt_id:"))
        .and_then(|id| id.trim().parse().ok())
        .ok_or_else(|| io::Error::other("fdinfo has no mnt_id"))?;
    Ok((mount_id, ino))
}

fn own_descriptor(folder: &str, file: &File) -> PathBuf {
    PathBuf::from(format!("/proc/thread-self/{folder}/{}", file.as_raw_fd()))
}

fn hold(path: &Path) -> io::Result<Held> {
    let file = OpenOptions::new().read(true).custom_flags(libc::O_PATH).open(path)?;
    let (mount_id, ino) = identify(&file)?;
    Ok(Held { file, ino, mount_id })
}

/// The host's root folder and the number of its mount namespace: those of PID 1. Where a security module guards PID 1's, those of this
/// thread, if it is in the mount namespace of the kernel's own threads.
///
/// # Errors
/// When they cannot be asked.
pub fn host_root_and_namespace() -> Result<(FileId, u32), ContainerError> {
    let of_init = || Ok((identity_of(Path::new("/proc/1/root"))?, namespace_number(Path::new("/proc/1/ns/mnt"))?));
    of_init().or_else(|error| {
        // PID 2 is kthreadd; a process of that id in another pid namespace is no kernel thread, whose command line is empty.
        let kernel = namespace_number(Path::new("/proc/2/ns/mnt"))?;
        let is_kernel = fs::read("/proc/2/cmdline").is_ok_and(|line| line.is_empty());
        let own = namespace_number(Path::new("/proc/thread-self/ns/mnt"))?;
        if is_kernel && kernel == own { Ok((identity_of(Path::new("/"))?, own)) } else { Err(error) }
    })
}

/// The number of a namespace, as the kernel knows it: the inode of its file in `/proc/<pid>/ns`.
fn namespace_number(path: &Path) -> Result<u32, ContainerError> {
    let number = fs::metadata(path).map(|metadata| metadata.ino());
    let number = number.and_then(|ino| u32::try_from(ino).map_err(io::Error::other));
    number.map_err(|source| ContainerError::Unreadable { path: path.to_path_buf(), source })
}
