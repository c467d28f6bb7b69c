//! Compares copied-up files with the image's, off the exec path.

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::DirEntryExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, channel, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use nix::fcntl::{OFlag, OpenHow, ResolveFlag, openat2};
use nix::sys::statfs::statfs;

use super::layers;
use crate::containers::{Container, FileId, identity_of};

/// Larger files stay what they are: modified.
const BYTES_MAX: u64 = 256 << 20;
/// A comparison that takes longer is given up: the file stays what it is.
const TIME_MAX: Duration = Duration::from_secs(10);
/// Files that wait; more are asked for again by the next exec after a write.
const WAITING_MAX: usize = 1024;
/// Entries of the image's layers that are looked through for one file.
const ENTRIES_MAX: usize = 500_000;
/// File systems whose reads can hang or lie: FUSE, NFS, CIFS, SMB2, 9p, Ceph, AFS (include/uapi/linux/magic.h).
pub(crate) const REMOTE: [i64; 7] =
    [0x6573_5546, 0x6969, 0xff53_4d42, 0xfe53_4d42, 0x0102_1997, 0x00c3_6400, 0x5346_414f];

/// Two files that are to be compared.
pub(super) struct Wanted {
    /// Whose they are.
    pub(super) container: Arc<Container>,
    /// The path in its root.
    pub(super) path: PathBuf,
    /// The path in the image's layers, as far as it is known.
    pub(super) lower_path: PathBuf,
    /// The image's file, where the kernel knows it.
    pub(super) lower: Option<FileId>,
}

/// The same, open.
pub(super) struct Pair {
    /// The file in the container's root.
    pub(super) file: File,
    /// The image's.
    lower: File,
    /// Which one that is.
    pub(super) lower_id: FileId,
}

/// What the thread is asked to do.
pub(super) enum Task {
    /// Find and open two files.
    Open(Wanted),
    /// Compare them.
    Compare(Pair),
}

/// What it has done.
pub(super) enum Done {
    /// The files are open.
    Opened(Pair),
    /// They are equal in every byte, or not; the file is still open, so its inode is the one that was compared.
    Compared {
        /// The file in the container's root.
        file: File,
        /// Whether they are.
        equal: bool,
    },
}

/// One thread that opens and reads: what hangs there holds nothing else up.
pub(super) struct Comparer {
    tasks: SyncSender<Task>,
    done: Receiver<Done>,
}

impl Comparer {
    /// Starts the thread.
    ///
    /// # Errors
    /// When the system has no room for a thread.
    pub(super) fn start() -> io::Result<Self> {
        let (tasks, waiting) = sync_channel::<Task>(WAITING_MAX);
        let (sender, done) = channel();
        thread::Builder::new().name("compare".into()).stack_size(128 << 10).spawn(move || {
            for task in waiting {
                let result = match task {
                    // What cannot be opened stays what it is.
                    Task::Open(wanted) => open_pair(&wanted).ok().map(Done::Opened),
                    Task::Compare(pair) => {
                        let equal = same_content(&pair.file, &pair.lower).unwrap_or(false);
                        Some(Done::Compared { file: pair.file, equal })
                    }
                };
                if result.is_some_and(|result| sender.send(result).is_err()) {
                    return;
                }
            }
        })?;
        Ok(Self { tasks, done })
    }

    /// False: too many wait already.
    #[must_use]
    pub(super) fn ask(&self, task: Task) -> bool {
        !matches!(self.tasks.try_send(task), Err(TrySendError::Full(_) | TrySendError::Disconnected(_)))
    }

    /// What has been done since the last call.
    pub(super) fn done(&self) -> impl Iterator<Item = Done> {
        self.done.try_iter()
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

/// The file in the container's root, and the image's.
///
/// # Errors
/// When either cannot be opened, is no regular file, is too large, or lies on a file system that cannot be trusted to answer.
fn open_pair(wanted: &Wanted) -> io::Result<Pair> {
    // Before anything there is opened, which could hang.
    let root = &wanted.container.root;
    for layer in root.lower_dirs.iter().chain(&root.upper_dir) {
        if REMOTE.contains(&statfs(layer).map_err(io::Error::from)?.filesystem_type().0) {
            return Err(io::Error::other("a layer lies on a network or FUSE file system"));
        }
    }
    let file = open_in(&root.path, &wanted.path)?;
    let (lower, lower_id) = open_lower(wanted)?;
    let (ours, theirs) = (file.metadata()?, lower.metadata()?);
    if !ours.is_file() || !theirs.is_file() || ours.len() > BYTES_MAX {
        return Err(io::Error::other("no regular file, or too large to compare"));
    }
    Ok(Pair { file, lower, lower_id })
}

/// By its path in the image; a renamed file whose image path overlayfs has forgotten, by its number.
fn open_lower(wanted: &Wanted) -> io::Result<(File, FileId)> {
    let layers = &wanted.container.root.lower_dirs;
    let is_it = |id: &FileId| wanted.lower.is_none_or(|lower| lower == *id);
    let identify = |place: &Path| identity_of(place).map_err(io::Error::other);
    if let Some(place) = layers::file_in(layers, &wanted.lower_path) {
        let id = identify(&place)?;
        if is_it(&id) {
            return Ok((open_in(Path::new("/"), &place)?, id));
        }
    }
    let number = wanted.lower.ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))?.ino;
    let mut entries = ENTRIES_MAX;
    for layer in layers {
        let Some(path) = find_by_number(layer, number, &mut entries) else { continue };
        let (file, id) = (open_in(layer, path.strip_prefix(layer).unwrap_or(&path))?, identify(&path)?);
        if is_it(&id) {
            return Ok((file, id));
        }
    }
    Err(io::Error::from(io::ErrorKind::NotFound))
}

pub(crate) fn find_by_number(layer: &Path, number: u64, entries: &mut usize) -> Option<PathBuf> {
    let mut folders = vec![layer.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            *entries = entries.checked_sub(1)?;
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                folders.push(entry.path());
            } else if entry.ino() == number {
                return Some(entry.path());
            }
        }
    }
    None
}

pub(crate) fn same_content(mut one: &File, mut other: &File) -> io::Result<bool> {
    if one.metadata()?.len() != other.metadata()?.len() {
        return Ok(false);
    }
    let begun = Instant::now();
    let (mut ours, mut theirs) = (vec![0_u8; 64 << 10], vec![0_u8; 64 << 10]);
    loop {
        if begun.elapsed() > TIME_MAX {
            return Err(io::Error::from(io::ErrorKind::TimedOut));
        }
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
