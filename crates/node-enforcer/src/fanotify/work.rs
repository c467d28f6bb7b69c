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
/// What waits; more is refused at once.
const WAITING_MAX: usize = 1024;

/// An opened file: what the system says of it, and the path that the kernel gives.
pub(super) type Key = (Seen, PathBuf);

/// What is to be done.
pub(super) enum Job {
    /// Whether a container's layers can be looked at without waiting for another machine.
    Admit(Arc<Tracked>),
    /// Compare a file of its upper folder, with this path; open as the overlay has it.
    Examine(Key, Arc<Tracked>, File, PathBuf),
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
        let wake = Arc::new(EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)?);
        for _ in 0..THREADS {
            let (waiting, sender, wake) = (Arc::clone(&waiting), sender.clone(), Arc::clone(&wake));
            let prover = Arc::clone(&prover);
            let thread = thread::Builder::new().name("examine".to_owned()).stack_size(256 << 10);
            thread.spawn(move || work(&prover, &waiting, &sender, &wake))?;
        }
        Ok(Self { jobs, done, wake })
    }

    /// False: too much waits already.
    pub(super) fn ask(&self, job: Job) -> bool {
        !matches!(self.jobs.try_send(job), Err(TrySendError::Full(_) | TrySendError::Disconnected(_)))
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

fn work(prover: &Prover, jobs: &Mutex<Receiver<Job>>, done: &Sender<Done>, wake: &EventFd) {
    loop {
        let job = jobs.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let result = match job {
            Err(_) => return,
            Ok(Job::Admit(container)) => {
                let problem = obstacle(&container);
                Done::Admitted(container, problem)
            }
            Ok(Job::Examine(key, container, file, path)) => {
                let examined = examine(prover, &container, &key.0, &file, &path);
                Done::Examined(key, container, path, examined)
            }
        };
        if done.send(result).is_err() {
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
