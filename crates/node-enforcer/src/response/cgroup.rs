//! A container's cgroup, for what is done to all of its processes (the kernel's Documentation/admin-guide/cgroup-v2.rst).
//!
//! It is held by a descriptor of its folder and known by its inode number, which is the cgroup's id: a folder that is made again under
//! the same path is another cgroup, and is never hit. Cgroups that the container has made below its own belong to it.
//!
//! Of a v1 hierarchy there is only `cgroup.procs`: what is frozen is the cgroup with the same path in the freezer's hierarchy
//! (Documentation/admin-guide/cgroup-v1/freezer-subsystem.rst), what is killed is each process by itself, and what counts is whether there is one.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{OFlag, open, openat};
use nix::sys::stat::Mode;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use crate::containers::Hierarchy;

/// Cgroups below one another that are looked through, each with a descriptor.
const DEPTH_MAX: usize = 200;
/// Where runtimes look for v1's freezer.
const FREEZER: &str = "/sys/fs/cgroup/freezer";
/// What a thread needs to see that its process executes.
const MOMENT: std::time::Duration = std::time::Duration::from_millis(2);
/// Bytes of one of a cgroup's files: a list of processes is as long as the kernel's pids allow.
const FILE_MAX: u64 = 64 << 20;

/// Why something could not be done to a cgroup.
#[derive(Debug, thiserror::Error)]
pub enum CgroupError {
    /// The container has ended.
    #[error("the container's cgroup is gone")]
    Gone,
    /// Without it nothing can be paused.
    #[error(
        "cgroup v1 has no {} to freeze it by: mount the freezer's hierarchy there and start the agent again, or have the node use cgroup v2",
        path.display()
    )]
    NoFreezer {
        /// The cgroup that is missing.
        path: PathBuf,
    },
    /// The system's answer.
    #[error("{what} of cgroup {path}: {source}")]
    System {
        /// What was tried.
        what: &'static str,
        /// The cgroup, below the mount.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
}

/// See the module.
#[derive(Debug)]
pub struct Cgroup {
    folder: File,
    path: PathBuf,
    /// Of a v1 hierarchy: which one.
    version_1: Option<Hierarchy>,
}

impl Cgroup {
    /// Opens a cgroup by its path below the hierarchy's mount, if it is the one with this id.
    ///
    /// # Errors
    /// [`CgroupError::Gone`] where it is another one or none.
    pub fn open(hierarchy: &Hierarchy, path: &str, id: u64) -> Result<Self, CgroupError> {
        let below = path.trim_start_matches('/');
        let path = PathBuf::from(path);
        let failed = |source| CgroupError::System { what: "open the folder", path: path.clone(), source };
        // Every process of the machine is in the root.
        if below.is_empty() {
            return Err(failed(Errno::EINVAL.into()));
        }
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let folder = match open(&hierarchy.mount.join(below), flags, Mode::empty()) {
            Ok(folder) => File::from(folder),
            Err(Errno::ENOENT | Errno::ENODEV) => return Err(CgroupError::Gone),
            Err(error) => return Err(failed(error.into())),
        };
        if folder.metadata().map_err(failed)?.ino() != id {
            return Err(CgroupError::Gone);
        }
        let version_1 = hierarchy.controller.is_some().then(|| hierarchy.clone());
        Ok(Self { folder, path, version_1 })
    }

    /// The folder, for its extended attributes.
    pub(super) fn folder(&self) -> &File {
        &self.folder
    }

    /// Whether a process is in it or below.
    ///
    /// # Errors
    /// When it cannot be asked.
    pub fn is_populated(&self) -> Result<bool, CgroupError> {
        if self.version_1.is_none() {
            return self.event("populated ");
        }
        // Where that is gone, so is the cgroup.
        self.read("cgroup.procs")?;
        Ok(!self.processes()?.is_empty())
    }

    /// Whether every process in it and below is frozen. On v1 a thread that executes waits for its process's others, and for ever where these are
    /// frozen already: then all go on for a moment, and are frozen again.
    ///
    /// # Errors
    /// When it cannot be asked.
    pub fn is_frozen(&self) -> Result<bool, CgroupError> {
        let Some(version_1) = &self.version_1 else { return self.event("frozen ") };
        let folder = self.freezer(version_1)?;
        let state = || self.read_of(&folder, "freezer.state");
        if state()?.trim() == "FREEZING" {
            self.write(&folder, "freezer.state", "THAWED")?;
            std::thread::sleep(MOMENT);
            self.write(&folder, "freezer.state", "FROZEN")?;
        }
        Ok(state()?.trim() == "FROZEN")
    }

    fn event(&self, key: &str) -> Result<bool, CgroupError> {
        let events = self.read("cgroup.events")?;
        Ok(events.lines().any(|line| line.strip_prefix(key) == Some("1")))
    }

    /// Whether it was asked to be frozen, and not to go on since.
    ///
    /// # Errors
    /// When it cannot be asked.
    pub fn is_asked_to_freeze(&self) -> Result<bool, CgroupError> {
        let said = match &self.version_1 {
            None => self.read("cgroup.freeze")?,
            Some(version_1) => self.read_of(&self.freezer(version_1)?, "freezer.self_freezing")?,
        };
        Ok(said.trim() == "1")
    }

    /// Freezes all of its processes, and those that come; or lets them go on. Returns before all are frozen.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn freeze(&self, freeze: bool) -> Result<(), CgroupError> {
        let Some(version_1) = &self.version_1 else {
            return self.write(&self.folder, "cgroup.freeze", if freeze { "1" } else { "0" });
        };
        match self.freezer(version_1) {
            Ok(folder) => self.write(&folder, "freezer.state", if freeze { "FROZEN" } else { "THAWED" }),
            // Nothing was ever frozen.
            Err(CgroupError::NoFreezer { .. }) if !freeze => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// The cgroup with the same path in the freezer's hierarchy. It is not held: a runtime makes a container's cgroups one after the other.
    fn freezer(&self, version_1: &Hierarchy) -> Result<File, CgroupError> {
        let below = self.path.strip_prefix("/").unwrap_or(&self.path);
        let path = version_1.freezer.as_deref().unwrap_or(Path::new(FREEZER)).join(below);
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let opened = open(&path, flags, Mode::empty()).map(File::from);
        // While the path is still this container's, so is what it leads to there.
        let its = self.folder.metadata().ok().map(|folder| folder.ino());
        if std::fs::symlink_metadata(version_1.mount.join(below)).ok().map(|folder| folder.ino()) != its {
            return Err(CgroupError::Gone);
        }
        match opened {
            Err(Errno::ENOENT) => Err(CgroupError::NoFreezer { path }),
            opened => opened.map_err(|error| self.failed("open the freezer's folder")(error.into())),
        }
    }

    /// SIGKILL to every process in it and below, those that are being forked, too. False where that is to be done again until it is empty: before
    /// Linux 5.14 and on v1, which have no `cgroup.kill`, one can be missed.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn kill(&self) -> Result<bool, CgroupError> {
        if self.version_1.is_some() {
            self.read("cgroup.procs")?;
            return self.kill_each().map(|()| false);
        }
        match self.write(&self.folder, "cgroup.kill", "1") {
            Err(CgroupError::System { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                self.kill_each().map(|()| false)
            }
            written => written.map(|()| true),
        }
    }

    /// Frozen processes fork no more, so what is listed then is all of them but those that were just being made, which are frozen, too.
    fn kill_each(&self) -> Result<(), CgroupError> {
        match self.freeze(true) {
            // Without a freezer one that is forked meanwhile is found the next time.
            Ok(()) | Err(CgroupError::NoFreezer { .. }) => {}
            Err(error) => return Err(error),
        }
        let killed = self.signal_each(Signal::KILL);
        // Whatever came of it: a killed process of a frozen cgroup ends, and others must not stay frozen.
        self.freeze(false)?;
        killed
    }

    fn signal_each(&self, signal: Signal) -> Result<(), CgroupError> {
        let mut failed = None;
        for pid in self.processes()? {
            match self.signal(pid, signal) {
                Ok(_) => {}
                Err(error) => failed = Some(error),
            }
        }
        failed.map_or(Ok(()), Err)
    }

    /// Sends a signal to a process if it is in this cgroup; false where it is not (any more).
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn signal(&self, pid: u32, signal: Signal) -> Result<bool, CgroupError> {
        let Some(number) = i32::try_from(pid).ok().and_then(Pid::from_raw) else { return Ok(false) };
        let failed = |source: rustix::io::Errno| CgroupError::System {
            what: "signal a process",
            path: self.path.clone(),
            source: source.into(),
        };
        let held = match pidfd_open(number, PidfdFlags::empty()) {
            Ok(held) => held,
            Err(rustix::io::Errno::SRCH) => return Ok(false),
            Err(error) => return Err(failed(error)),
        };
        // Asked after it is held: if the number is another process's by now, the one that is held has ended, and gets no signal.
        if !self.has(pid)? {
            return Ok(false);
        }
        match pidfd_send_signal(&held, signal) {
            Ok(()) => Ok(true),
            Err(rustix::io::Errno::SRCH) => Ok(false),
            Err(error) => Err(failed(error)),
        }
    }

    /// Whether a process is in it or below, by what the kernel says of the process.
    fn has(&self, pid: u32) -> Result<bool, CgroupError> {
        let Ok(said) = std::fs::read_to_string(format!("/proc/{pid}/cgroup")) else { return Ok(false) };
        let its = match &self.version_1 {
            None => said.lines().find_map(|line| line.strip_prefix("0::")),
            Some(version_1) => version_1.path_in(&said),
        };
        let its = its.map(Path::new);
        if let Some(its) = its {
            return Ok(its.starts_with(&self.path));
        }
        Ok(self.processes()?.contains(&pid))
    }

    /// The processes in it and below, as the host numbers them.
    ///
    /// # Errors
    /// When they cannot be listed.
    pub fn processes(&self) -> Result<Vec<u32>, CgroupError> {
        let mut found = Vec::new();
        let walked = walk(self.folder.as_fd(), 0, &mut |folder| {
            let listed = match read_at(folder, "cgroup.procs") {
                Ok(listed) => listed,
                // Of a threaded cgroup the processes are listed by its domain above; one that is being removed has none.
                Err(error) if is_gone(&error) || error.raw_os_error() == Some(nix::libc::EOPNOTSUPP) => return Ok(()),
                Err(error) => return Err(error),
            };
            found.extend(listed.lines().filter_map(|line| line.parse::<u32>().ok()).filter(|pid| *pid != 0));
            Ok(())
        });
        walked.map_err(self.failed("list the processes"))?;
        Ok(found)
    }

    fn read(&self, name: &'static str) -> Result<String, CgroupError> {
        self.read_of(&self.folder, name)
    }

    fn read_of(&self, folder: &File, name: &'static str) -> Result<String, CgroupError> {
        read_at(folder.as_fd(), name).map_err(self.failed(name))
    }

    fn write(&self, folder: &File, name: &'static str, text: &str) -> Result<(), CgroupError> {
        let flags = OFlag::O_WRONLY | OFlag::O_CLOEXEC;
        let opened = openat(folder, name, flags, Mode::empty()).map(File::from).map_err(io::Error::from);
        opened.and_then(|mut file| file.write_all(text.as_bytes())).map_err(self.failed(name))
    }

    /// Every cgroup has `cgroup.procs`: where that is gone, so is the cgroup.
    fn failed(&self, what: &'static str) -> impl Fn(io::Error) -> CgroupError {
        move |source| {
            let gone = is_gone(&source)
                && openat(&self.folder, "cgroup.procs", OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty()).is_err();
            if gone { CgroupError::Gone } else { CgroupError::System { what, path: self.path.clone(), source } }
        }
    }
}

fn is_gone(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(nix::libc::ENOENT | nix::libc::ENODEV))
}

fn read_at(folder: BorrowedFd<'_>, name: &str) -> io::Result<String> {
    let file = File::from(openat(folder, name, OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty())?);
    let mut text = String::new();
    file.take(FILE_MAX).read_to_string(&mut text)?;
    Ok(text)
}

fn walk(
    folder: BorrowedFd<'_>,
    depth: usize,
    visit: &mut dyn FnMut(BorrowedFd<'_>) -> io::Result<()>,
) -> io::Result<()> {
    visit(folder)?;
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let again: OwnedFd = openat(folder, ".", flags, Mode::empty())?;
    let mut listed = nix::dir::Dir::from_fd(again)?;
    for entry in listed.iter() {
        let entry = entry?;
        let name = entry.file_name();
        if entry.file_type() != Some(nix::dir::Type::Directory) || name == c"." || name == c".." {
            continue;
        }
        if depth >= DEPTH_MAX {
            return Err(io::Error::other("the container has made too many cgroups below one another"));
        }
        match openat(folder, name, flags, Mode::empty()) {
            Ok(below) => walk(below.as_fd(), depth + 1, visit)?,
            Err(Errno::ENOENT | Errno::ENODEV | Errno::ENOTDIR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::containers::scratch::Scratch;

    fn at(scratch: &Scratch) -> Hierarchy {
        Hierarchy { mount: scratch.path().into(), ..Hierarchy::default() }
    }

    fn folder(scratch: &Scratch) -> u64 {
        let folder = scratch.path().join("pod/c");
        fs::create_dir_all(&folder).unwrap();
        for (file, text) in
            [("cgroup.procs", "7\n0\n8\n"), ("cgroup.events", "populated 1\nfrozen 0\n"), ("cgroup.freeze", "0\n")]
        {
            fs::write(folder.join(file), text).unwrap();
        }
        fs::metadata(&folder).unwrap().ino()
    }

    #[test]
    fn a_cgroup_with_another_id_is_not_opened() {
        let scratch = Scratch::new();
        let id = folder(&scratch);
        assert!(Cgroup::open(&at(&scratch), "/pod/c", id).unwrap().is_populated().unwrap());
        for (path, id) in [("/pod/c", id + 1), ("/pod/d", id)] {
            assert!(matches!(Cgroup::open(&at(&scratch), path, id), Err(CgroupError::Gone)), "{path} {id}");
        }
        assert!(matches!(Cgroup::open(&at(&scratch), "/", 1), Err(CgroupError::System { .. })), "the root");
    }

    #[test]
    fn what_is_made_again_under_the_path_is_not_touched() {
        let scratch = Scratch::new();
        let held = Cgroup::open(&at(&scratch), "/pod/c", folder(&scratch)).unwrap();
        fs::remove_dir_all(scratch.path().join("pod/c")).unwrap();
        folder(&scratch);
        for done in [held.freeze(true), held.kill().map(drop), held.is_populated().map(drop)] {
            assert!(matches!(done, Err(CgroupError::Gone)), "{done:?}");
        }
        assert_eq!(fs::read_to_string(scratch.path().join("pod/c/cgroup.freeze")).unwrap(), "0\n");
        assert!(!scratch.path().join("pod/c/cgroup.kill").exists());
    }

    #[test]
    fn processes_below_count_and_those_that_cannot_be_seen_do_not() {
        let scratch = Scratch::new();
        let held = Cgroup::open(&at(&scratch), "/pod/c", folder(&scratch)).unwrap();
        let below = scratch.path().join("pod/c/a/b");
        fs::create_dir_all(&below).unwrap();
        fs::write(below.join("cgroup.procs"), "9\n").unwrap();
        assert_eq!(held.processes().unwrap(), [7, 8, 9]);
    }
}
