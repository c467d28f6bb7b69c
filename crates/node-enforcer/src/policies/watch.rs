//! Tells when policies may have changed.
//!
//! Not the file is watched but every folder on the way to it, links included: that sees a file replaced by a rename, a
//! mounted `ConfigMap` whose `..data` link is swapped, and a path that goes away and comes back.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ffi::{OsStr, OsString};
use std::fs;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Component, Path, PathBuf};

use nix::errno::Errno;
use nix::libc;
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify, WatchDescriptor};

use super::sources::is_policy_name;

/// As many links as the kernel follows.
const LINKS_MAX: usize = 40;
/// Folders that may be watched at once.
const FOLDERS_MAX: usize = 256;
/// A path that changes faster than it is looked up is reported, and looked up again with the next event.
const ATTEMPTS: usize = 4;

/// Why a path cannot be watched.
#[derive(Debug, thiserror::Error)]
pub enum WatchError {
    /// The system refused.
    #[error(
        "{path:?} cannot be watched: {source}; raise fs.inotify.max_user_instances and max_user_watches, or restart after edits"
    )]
    Inotify {
        /// The watched path, or the folder on the way.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
}

/// A watch on a file or folder of policies. Its descriptor becomes readable when something may have changed; then call
/// [`Watch::drain`]. The caller waits for edits to settle (some 100 ms) and loads again.
///
/// Begin to watch before the first load, so that no edit falls between. A lost event queue (overflow) counts as a change,
/// and every folder is looked up anew. Changes made by other hosts on a network filesystem are not seen.
#[derive(Debug)]
pub struct Watch {
    inotify: Inotify,
    path: PathBuf,
    folders: HashMap<WatchDescriptor, Interest>,
}

/// What matters in a folder.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Interest {
    /// These entries, or any.
    names: BTreeSet<OsString>,
    all: bool,
    /// Also what is written into a file, not only which files there are.
    contents: bool,
}

impl Watch {
    /// Begins to watch. The path need not exist yet.
    ///
    /// # Errors
    /// [`WatchError`], when the system has no watch left.
    pub fn new(path: &Path) -> Result<Self, WatchError> {
        let error = |source: io::Error| WatchError::Inotify { path: path.to_owned(), source };
        let inotify = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK).map_err(|e| error(e.into()))?;
        let path = std::path::absolute(path).map_err(error)?;
        let mut watch = Self { inotify, path, folders: HashMap::new() };
        watch.arm()?;
        Ok(watch)
    }

    /// Reads what has happened, never waiting, and looks the path up anew; true if the policies may have changed.
    ///
    /// # Errors
    /// [`WatchError`]: some of the folders are watched no more. What was loaded stays; call it again later.
    pub fn drain(&mut self) -> Result<bool, WatchError> {
        let mut changed = false;
        loop {
            let events = match self.inotify.read_events() {
                Ok(events) => events,
                Err(Errno::EAGAIN) => break,
                Err(Errno::EINTR) => continue,
                Err(error) => {
                    return Err(WatchError::Inotify { path: self.path.clone(), source: error.into() });
                }
            };
            changed |= events.iter().any(|event| {
                event.mask.contains(AddWatchFlags::IN_Q_OVERFLOW)
                    || self.folders.get(&event.wd).is_some_and(|folder| folder.concerns(event.name.as_deref()))
            });
        }
        if changed {
            self.arm()?;
        }
        Ok(changed)
    }

    /// Watches the folders that matter now, and no others.
    fn arm(&mut self) -> Result<(), WatchError> {
        let mut wanted = folders_of(&self.path);
        for _ in 0..ATTEMPTS {
            let mut armed: HashMap<WatchDescriptor, Interest> = HashMap::new();
            for (folder, interest) in &wanted {
                match self.inotify.add_watch(folder, interest.events()) {
                    Ok(descriptor) => armed.entry(descriptor).or_default().merge(interest),
                    Err(Errno::ENOENT | Errno::ENOTDIR | Errno::ELOOP | Errno::EACCES) => {}
                    Err(error) => {
                        return Err(WatchError::Inotify { path: folder.clone(), source: error.into() });
                    }
                }
            }
            for descriptor in self.folders.keys().filter(|descriptor| !armed.contains_key(descriptor)) {
                // It may be gone already.
                let _ = self.inotify.rm_watch(*descriptor);
            }
            self.folders = armed;
            // What changed before the watch was set left no event.
            let now = folders_of(&self.path);
            if now == wanted {
                break;
            }
            wanted = now;
        }
        Ok(())
    }
}

impl AsFd for Watch {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.inotify.as_fd()
    }
}

impl Interest {
    fn merge(&mut self, other: &Self) {
        self.names.extend(other.names.iter().cloned());
        self.all |= other.all;
        self.contents |= other.contents;
    }

    fn events(&self) -> AddWatchFlags {
        let entries = AddWatchFlags::IN_CREATE
            | AddWatchFlags::IN_DELETE
            | AddWatchFlags::IN_MOVE
            | AddWatchFlags::IN_ATTRIB
            | AddWatchFlags::IN_DELETE_SELF
            | AddWatchFlags::IN_MOVE_SELF
            | AddWatchFlags::IN_ONLYDIR
            // A folder that is reached by two ways (a bind mount) keeps the events of both.
            | AddWatchFlags::from_bits_retain(libc::IN_EXCL_UNLINK | libc::IN_MASK_ADD);
        let contents = AddWatchFlags::IN_MODIFY | AddWatchFlags::IN_CLOSE_WRITE;
        if self.contents { entries | contents } else { entries }
    }

    /// Whether an event of this entry matters; without a name it is the folder's own.
    fn concerns(&self, name: Option<&OsStr>) -> bool {
        name.is_none_or(|name| self.all || self.names.contains(name))
    }
}

/// The folders on the way to a path, as it leads now, with what matters in each.
fn folders_of(path: &Path) -> BTreeMap<PathBuf, Interest> {
    let mut folders = BTreeMap::new();
    let Some(end) = walk(path, &mut folders) else {
        return folders;
    };
    let whole = Interest { all: true, contents: true, ..Interest::default() };
    folders.entry(end.clone()).or_insert_with(Interest::default).merge(&whole);
    // Entries that are links lead elsewhere.
    for entry in fs::read_dir(&end).into_iter().flatten().flatten() {
        let is_link = entry.file_type().is_ok_and(|kind| kind.is_symlink());
        if is_link && is_policy_name(&entry.file_name()) {
            walk(&entry.path(), &mut folders);
        }
    }
    folders
}

/// Follows a path, noting every folder on the way; gives the folder that it ends at, if it is one.
fn walk(path: &Path, folders: &mut BTreeMap<PathBuf, Interest>) -> Option<PathBuf> {
    let mut here = PathBuf::from("/");
    let mut ahead: Vec<OsString> = names(path);
    let mut links = 0;
    while let Some(name) = ahead.pop() {
        if name == ".." {
            here.pop();
            continue;
        }
        if folders.len() < FOLDERS_MAX || folders.contains_key(&here) {
            let is_last = ahead.is_empty();
            let interest = Interest { names: [name.clone()].into(), all: false, contents: is_last };
            folders.entry(here.clone()).or_default().merge(&interest);
        }
        let next = here.join(&name);
        let kind = fs::symlink_metadata(&next).ok()?.file_type();
        if kind.is_symlink() {
            links += 1;
            let target = fs::read_link(&next).ok().filter(|_| links <= LINKS_MAX)?;
            if target.is_absolute() {
                here = PathBuf::from("/");
            }
            ahead.extend(names(&target));
        } else if kind.is_dir() {
            here = next;
        } else {
            return None;
        }
    }
    Some(here)
}

/// The names in a path, last first.
fn names(path: &Path) -> Vec<OsString> {
    let name = |component: Component<'_>| match component {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some("..".into()),
        Component::CurDir | Component::RootDir | Component::Prefix(_) => None,
    };
    path.components().rev().filter_map(name).collect()
}
