//! Which agents run on this node, for one that another has taken over from: a rollout starts the new one beside the old one, and
//! the kubelet would start an old one that ended again, which would take over in turn.
//!
//! Whoever runs holds a shared lock on a file in the state folder, which is the node's. The kernel gives it back however a process ends.
//! Only root reads the file: whoever can open one can lock it.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::thread;
use std::time::Duration;

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::agent::Signals;

/// In the state folder.
const FILE: &str = ".present";
/// How often, and after how long each time, one that begins tries to be seen.
const TRIES: u32 = 50;
const PAUSE: Duration = Duration::from_millis(100);
/// How often it is looked, in milliseconds.
const LOOK: u16 = 2000;

/// This agent's presence, until it is dropped.
#[derive(Debug)]
pub struct Presence(Flock<File>);

impl Presence {
    /// # Errors
    /// When the state folder cannot be made or locked.
    pub fn begin(state_dir: &Path) -> io::Result<Self> {
        fs::create_dir_all(state_dir)?;
        let mut file =
            OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(state_dir.join(FILE))?;
        for _ in 0..TRIES {
            file = match Flock::lock(file, FlockArg::LockSharedNonblock) {
                Ok(lock) => return Ok(Self(lock)),
                // One that stands by has it for a moment.
                Err((file, Errno::EWOULDBLOCK | Errno::EINTR)) => file,
                Err((_, error)) => return Err(error.into()),
            };
            thread::sleep(PAUSE);
        }
        Err(Errno::EWOULDBLOCK.into())
    }

    /// Waits, for this agent no longer counts, until a signal asks to end (true) or no other agent is there (false).
    ///
    /// # Errors
    /// When the system refuses.
    pub fn stand_by(self, signals: &Signals) -> io::Result<bool> {
        let mut file = self.0.unlock().map_err(|(_, error)| io::Error::from(error))?;
        loop {
            let mut polled = [PollFd::new(signals.as_fd(), PollFlags::POLLIN)];
            match poll(&mut polled, PollTimeout::from(LOOK)) {
                Ok(_) | Err(Errno::EINTR) => {}
                Err(error) => return Err(error.into()),
            }
            if signals.asked_to_end()? {
                return Ok(true);
            }
            // Held for a moment only, by one that ends right after: whoever begins meanwhile waits for it.
            file = match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
                Ok(_) => return Ok(false),
                Err((file, Errno::EWOULDBLOCK)) => file,
                Err((_, error)) => return Err(error.into()),
            };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::containers::scratch::Scratch;

    #[test]
    fn whoever_stands_by_does_so_until_nobody_else_is_there() {
        let scratch = Scratch::new();
        let folder = scratch.path().join("made/by/it");
        let (old, new) = (Presence::begin(&folder).unwrap(), Presence::begin(&folder).unwrap());
        let (ended, has_ended) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            let signals = Signals::block().unwrap();
            ended.send(old.stand_by(&signals).unwrap()).unwrap();
        });
        let twice = std::time::Duration::from_millis(u64::from(LOOK) * 2 + 500);
        assert!(has_ended.recv_timeout(twice).is_err(), "the new one is there");
        drop(new);
        assert!(!has_ended.recv().unwrap());
    }
}
