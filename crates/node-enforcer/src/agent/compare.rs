//! Compares copied-up files with the image's, off the exec path.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, channel, sync_channel};
use std::thread;

use nix::fcntl::{OFlag, OpenHow, ResolveFlag, openat2};
use nix::sys::statfs::fstatfs;

use crate::containers::{Container, FileId, identity_of};

/// Larger files stay what they are: modified.
const BYTES_MAX: u64 = 256 << 20;
/// Comparisons that wait; more are asked for again by the next exec after a write.
const WAITING_MAX: usize = 1024;
/// File systems whose reads can hang or lie: FUSE, NFS, CIFS, SMB2, 9p, Ceph, AFS (include/uapi/linux/magic.h).
const REMOTE: [i64; 7] = [0x6573_5546, 0x6969, 0xff53_4d42, 0xfe53_4d42, 0x0102_1997, 0x00c3_6400, 0x5346_414f];

/// Two open files that are to be compared.
pub(super) struct Pair {
    /// The file in the container's root.
    pub file: File,
    /// The image's.
    pub lower: File,
}

/// What came of it; the file is still open, so its inode is the one that was compared.
pub(super) struct Compared {
    /// The file in the container's root.
    pub file: File,
    /// Whether every byte is the same.
    pub equal: bool,
}

/// One thread that reads.
pub(super) struct Comparer {
    pairs: SyncSender<Pair>,
    results: Receiver<Compared>,
}

impl Comparer {
    /// Starts the thread.
    ///
    /// # Errors
    /// When the system has no room for a thread.
    pub(super) fn start() -> io::Result<Self> {
        let (pairs, waiting) = sync_channel::<Pair>(WAITING_MAX);
        let (done, results) = channel();
        thread::Builder::new().name("compare".into()).stack_size(128 << 10).spawn(move || {
            for pair in waiting {
                let equal = same_content(&pair.file, &pair.lower).unwrap_or(false);
                if done.send(Compared { file: pair.file, equal }).is_err() {
                    return;
                }
            }
        })?;
        Ok(Self { pairs, results })
    }

    /// False: too many wait already.
    #[must_use]
    pub(super) fn compare(&self, pair: Pair) -> bool {
        !matches!(self.pairs.try_send(pair), Err(TrySendError::Full(_) | TrySendError::Disconnected(_)))
    }

    /// What has been compared since the last call.
    pub(super) fn finished(&self) -> impl Iterator<Item = Compared> {
        self.results.try_iter()
    }
}

/// Opens a path below a folder as a process inside would see it, following no link.
fn open_in(root: &Path, path: &Path) -> io::Result<File> {
    let top = File::open(root)?;
    let how = OpenHow::new()
        .flags(OFlag::O_RDONLY | OFlag::O_CLOEXEC | OFlag::O_NONBLOCK | OFlag::O_NOCTTY)
        .resolve(ResolveFlag::RESOLVE_IN_ROOT | ResolveFlag::RESOLVE_NO_SYMLINKS | ResolveFlag::RESOLVE_NO_MAGICLINKS);
    Ok(File::from(openat2(&top, path, how)?))
}

/// The file at `path` in the container's root, and the image's file at `lower_path` in its topmost layer that has one.
///
/// # Errors
/// When either cannot be opened, is no regular file, is too large, or lies on a file system that cannot be trusted to answer.
pub(super) fn open_pair(container: &Container, path: &Path, lower_path: &Path) -> io::Result<(Pair, FileId)> {
    let file = open_in(&container.root.path, path)?;
    let (lower, place) = open_lower(container, lower_path)?;
    let (ours, theirs) = (file.metadata()?, lower.metadata()?);
    if !ours.is_file() || !theirs.is_file() || ours.len() > BYTES_MAX {
        return Err(io::Error::other("no regular file, or too large to compare"));
    }
    if REMOTE.contains(&fstatfs(&lower)?.filesystem_type().0) {
        return Err(io::Error::other("the image lies on a network or FUSE file system"));
    }
    let identity = identity_of(&place).map_err(io::Error::other)?;
    Ok((Pair { file, lower }, identity))
}

fn open_lower(container: &Container, path: &Path) -> io::Result<(File, PathBuf)> {
    let relative = path.strip_prefix("/").unwrap_or(path);
    for layer in &container.root.lower_dirs {
        if let Ok(file) = open_in(layer, path) {
            return Ok((file, layer.join(relative)));
        }
    }
    Err(io::Error::from(io::ErrorKind::NotFound))
}

fn same_content(mut one: &File, mut other: &File) -> io::Result<bool> {
    if one.metadata()?.len() != other.metadata()?.len() {
        return Ok(false);
    }
    let (mut ours, mut theirs) = (vec![0_u8; 64 << 10], vec![0_u8; 64 << 10]);
    loop {
        let length = one.read(&mut ours)?;
        if length == 0 {
            return Ok(other.read(&mut theirs)? == 0);
        }
        other.read_exact(&mut theirs[..length])?;
        if ours[..length] != theirs[..length] {
            return Ok(false);
        }
    }
}
