//! What may take long, in threads of its own: whoever answers never waits for a disk.

use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, Sender, SyncSender, TrySendError, channel, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use nix::sys::eventfd::{EfdFlags, EventFd};
use nix::sys::statfs::statfs;

use super::decide::{Examined, examine};
use super::prove::Prover;
use super::sys::Seen;
use super::wire::Tracked;
use crate::agent::REMOTE;

/// One that hangs leaves another.
const THREADS: usize = 2;
/// What waits; more waits for the listener.
const WAITING_MAX: usize = 1024;

/// An opened file: what the system says of it, and the path that the kernel gives.
pub(super) type Key = (Seen, PathBuf);

/// A file of a container's upper folder is to be compared.
#[derive(Debug)]
pub(super) struct Job {
    /// Which.
    pub(super) key: Key,
    /// Whose.
    pub(super) container: Arc<Tracked>,
    /// Open as the overlay has it.
    pub(super) file: File,
    /// Its path in the upper folder.
    pub(super) path: PathBuf,
}

/// What was done.
pub(super) enum Done {
    /// None: they can.
    Admitted(Arc<Tracked>, Option<String>),
    /// Compared.
    Examined(Key, Arc<Tracked>, PathBuf, Examined),
}

/// The threads.
pub(super) struct Workers {
    jobs: SyncSender<Job>,
    /// As many as there are containers at most.
    admissions: Sender<Arc<Tracked>>,
    done: Receiver<Done>,
    wake: Arc<EventFd>,
}

impl Workers {
    /// Starts them.
    ///
    /// # Errors
    /// The system's.
    pub(super) fn start(prover: Prover) -> io::Result<Self> {
        let prover = Arc::new(prover);
        let (jobs, waiting) = sync_channel(WAITING_MAX);
        let (sender, done) = channel();
        let waiting = Arc::new(Mutex::new(waiting));
        let (admissions, coming) = channel::<Arc<Tracked>>();
        let coming = Arc::new(Mutex::new(coming));
        let wake = Arc::new(EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)?);
        for _ in 0..THREADS {
            let (waiting, sender, wake) = (Arc::clone(&waiting), sender.clone(), Arc::clone(&wake));
            let prover = Arc::clone(&prover);
            let thread = thread::Builder::new().name("examine".to_owned()).stack_size(256 << 10);
            let (then, end) = (sender.clone(), Arc::clone(&wake));
            thread.spawn(move || {
                work(&waiting, &sender, &wake, |Job { key, container, file, path }| {
                    let examined = examine(&prover, &container, &key.0, &file, &path);
                    Done::Examined(key, container, path, examined)
                });
            })?;
            // Whoever has much to compare does not keep a new container waiting.
            let coming = Arc::clone(&coming);
            let thread = thread::Builder::new().name("admit".to_owned()).stack_size(64 << 10);
            thread.spawn(move || {
                work(&coming, &then, &end, |container| {
                    let problem = obstacle(&container);
                    Done::Admitted(container, problem)
                });
            })?;
        }
        Ok(Self { jobs, admissions, done, wake })
    }

    /// Gives it back where too much waits already.
    pub(super) fn ask(&self, job: Job) -> Option<Job> {
        self.jobs.try_send(job).err().map(|(TrySendError::Full(job) | TrySendError::Disconnected(job))| job)
    }

    /// Has it looked at whether a container's layers can be asked without waiting for another machine.
    pub(super) fn admit(&self, container: Arc<Tracked>) {
        // Whoever takes them ends with this process only.
        let _ = self.admissions.send(container);
    }

    /// Readable when something was done.
    pub(super) fn descriptor(&self) -> impl AsFd {
        self.wake.as_fd()
    }

    /// What was done since.
    pub(super) fn done(&self) -> impl Iterator<Item = Done> {
        let _ = self.wake.read();
        self.done.try_iter()
    }
}

fn work<T>(jobs: &Mutex<Receiver<T>>, done: &Sender<Done>, wake: &EventFd, body: impl Fn(T) -> Done) {
    loop {
        let job = jobs.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(job) = job else { return };
        if done.send(body(job)).is_err() {
            return;
        }
        let _ = wake.write(1);
    }
}

fn obstacle(container: &Tracked) -> Option<String> {
    if !container.overlay {
        return Some("its root is no overlay".to_owned());
    }
    container.lower.iter().chain(&container.upper).find_map(|layer| match statfs(layer) {
        Ok(said) if REMOTE.contains(&said.filesystem_type().0) => {
            Some(format!("{} lies on a network or FUSE file system", layer.display()))
        }
        Ok(_) => None,
        Err(error) => Some(format!("{}: {error}", layer.display())),
    })
}
