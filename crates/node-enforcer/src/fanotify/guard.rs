//! The guard: a process that ends the listener when it no longer answers, so that no program waits for it.
//!
//! A permission group lives as long as its descriptor, so the listener's end lets everything go on that waits. The guard has no
//! such descriptor, opens nothing and executes nothing: there is nothing that it could wait for.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::beat::{Beats, Watch, Whose};
use super::sys;

/// The hidden subcommand.
pub(super) const COMMAND: &str = "fanotify-guard";
/// How often each looks at the other, in milliseconds.
const LOOK: u16 = 100;
/// A listener that has not moved between so many looks is ended: well below the second that an exec may wait.
const LISTENER_STILL: u32 = 5;
/// A guard that has not is replaced.
const GUARD_STILL: u32 = 10;
/// How long a guard may take to begin.
const BEGIN: Duration = Duration::from_secs(10);

/// Watches the listener until it ends, or ends it. Its standard input are the counters, its standard output a pidfd of the listener.
///
/// # Errors
/// When it was not started by a listener. It has then ended it, where it could.
pub fn run() -> io::Result<()> {
    let beats = Beats::of(File::from(io::stdin().as_fd().try_clone_to_owned()?));
    let listener = io::stdout().as_fd().try_clone_to_owned()?;
    sys::hurry();
    sys::stay_in_memory();
    let watched = watch(&beats, &listener);
    if let Err(error) = &watched {
        // What cannot be watched must not be waited for.
        sys::kill(&listener)?;
        let _ = writeln!(io::stderr(), "the Fanotify listener is ended: it could not be watched: {error}");
    }
    watched
}

fn watch(beats: &Beats, listener: &OwnedFd) -> io::Result<()> {
    let mut watch = Watch::new(Whose::Listener);
    for count in 1_u64.. {
        beats.beat(Whose::Guard, count)?;
        let mut polled = [PollFd::new(listener.as_fd(), PollFlags::POLLIN)];
        match poll(&mut polled, PollTimeout::from(LOOK)) {
            // A pidfd is readable when its process has ended.
            Ok(ended) if ended > 0 => return Ok(()),
            Ok(_) | Err(nix::errno::Errno::EINTR) => {}
            Err(error) => return Err(error.into()),
        }
        if watch.look(beats)? >= LISTENER_STILL {
            sys::kill(listener)?;
            // Afterwards: standard error may be a pipe that nobody reads.
            let _ = writeln!(
                io::stderr(),
                "the Fanotify listener did not answer for {} ms and is ended by its guard: until there is a new one, programs are killed, not refused",
                LISTENER_STILL * u32::from(LOOK)
            );
            return Ok(());
        }
    }
    Ok(())
}

/// Starts a guard of this process, and another whenever one ends or hangs; returns when the first one watches. Where none can be had the
/// process ends: nothing would let programs go on.
///
/// # Errors
/// When there is no guard to begin with.
pub(super) fn keep(beats: Arc<Beats>) -> io::Result<()> {
    let mut guard = start(&beats)?;
    // In a thread of its own: the guard's own exec may be asked of the listener.
    thread::Builder::new().name("guard".to_owned()).stack_size(64 << 10).spawn(move || {
        loop {
            let ended = supervise(&beats, &mut guard);
            // Said afterwards, whatever becomes of it: standard error may be a pipe that nobody reads.
            let mut log = io::stderr();
            match start(&beats) {
                Ok(new) => {
                    guard = new;
                    let _ =
                        writeln!(log, "the guard of the Fanotify listener was gone ({ended}); there is another one");
                }
                Err(error) => {
                    let _ = writeln!(log, "the Fanotify listener ends: it has no guard: {error}");
                    std::process::exit(1);
                }
            }
        }
    })?;
    Ok(())
}

fn start(beats: &Beats) -> io::Result<Child> {
    beats.beat(Whose::Guard, 0)?;
    let mut command = Command::new("/proc/self/exe");
    command.arg(COMMAND).stdin(beats.share()?).stdout(Stdio::from(sys::own_pidfd()?));
    let mut guard = command.spawn()?;
    let begun = Instant::now();
    while beats.read(Whose::Guard)? == 0 {
        if begun.elapsed() > BEGIN || guard.try_wait()?.is_some() {
            let _ = guard.kill();
            let _ = guard.wait();
            return Err(io::Error::other("it does not begin"));
        }
        thread::sleep(Duration::from_millis(5));
    }
    Ok(guard)
}

/// Returns when it has ended, of itself or because it no longer moved, with how.
fn supervise(beats: &Beats, guard: &mut Child) -> String {
    let mut watch = Watch::new(Whose::Guard);
    loop {
        match guard.try_wait() {
            Ok(Some(status)) => return status.to_string(),
            Ok(None) => {}
            Err(error) => return error.to_string(),
        }
        if watch.look(beats).is_ok_and(|still| still >= GUARD_STILL) {
            let _ = guard.kill();
            let _ = guard.wait();
            return "it did not move".to_owned();
        }
        thread::sleep(Duration::from_millis(LOOK.into()));
    }
}
