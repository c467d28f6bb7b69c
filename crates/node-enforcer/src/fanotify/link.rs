//! The agent's side: starts listeners, tells them what is in force, hears what they refused.

use std::fs;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use mooring_policy::RuleSet;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::listener::COMMAND;
use super::wire::{Inbox, Order, Outbox, Report, Tracked, encode};
use crate::containers::Container;
use crate::kernel::Record;

/// Where listeners are found by later agents; below it a folder for each pin folder.
const PLACE: &str = "/run/mooring/fanotify";
/// How long a listener may take to begin, and to end.
const BEGIN: Duration = Duration::from_secs(20);
const END: Duration = Duration::from_secs(3);
/// One that ends sooner than this after its beginning is started again no sooner than this.
const AGAIN: Duration = Duration::from_secs(2);
/// How long the end of one that was killed is waited for.
const BURY: Duration = Duration::from_millis(500);

/// What has come from the listener.
#[derive(Debug)]
pub enum Heard {
    /// A program was refused, so many times.
    Denied(Box<Record>, u64),
    /// A container is not covered, or not all of it: its programs are killed, not refused.
    Uncovered(u64, String),
    /// The listener ended. Another one is started, and must be told everything.
    Ended(String),
    /// So many refusals could not be told, in all, by this listener.
    Lost(u64),
}

/// A listener.
#[derive(Debug)]
pub struct Link {
    program: PathBuf,
    folder: PathBuf,
    prover: OwnedFd,
    child: Child,
    socket: UnixStream,
    inbox: Inbox,
    outbox: Outbox,
    begun: Instant,
    ready: bool,
    /// It has ended, and the next one is not due yet.
    down: bool,
    ended: u64,
}

/// Where the listeners of the agents with this pin folder are found.
fn folder_of(pin_dir: &Path) -> PathBuf {
    let name: Vec<_> = pin_dir.iter().filter_map(|part| part.to_str()).filter(|part| *part != "/").collect();
    Path::new(PLACE).join(name.join("-"))
}

fn spawn(program: &Path, folder: &Path, prover: BorrowedFd<'_>) -> io::Result<(Child, UnixStream)> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    let (ours, theirs) = UnixStream::pair()?;
    ours.set_nonblocking(true)?;
    let child = Command::new(program)
        .arg(COMMAND)
        .arg(folder)
        .stdin(OwnedFd::from(theirs))
        .stdout(prover.try_clone_to_owned()?)
        // A terminal's Ctrl-C is for the agent.
        .process_group(0)
        .spawn()?;
    Ok((child, ours))
}

impl Link {
    /// Starts a listener that is asked about nothing yet, and waits until it listens. `program` is this program, `prover` what
    /// [`crate::kernel::Kernel::prover`] gives.
    ///
    /// # Errors
    /// When it does not begin: without `CAP_SYS_ADMIN`, or on a kernel without permission events.
    pub fn start(program: &Path, pin_dir: &Path, prover: BorrowedFd<'_>) -> io::Result<Self> {
        let folder = folder_of(pin_dir);
        let (child, socket) = spawn(program, &folder, prover)?;
        let mut link = Self {
            program: program.to_owned(),
            folder,
            prover: prover.try_clone_to_owned()?,
            child,
            socket,
            inbox: Inbox::default(),
            outbox: Outbox::default(),
            begun: Instant::now(),
            ready: false,
            down: false,
            ended: 0,
        };
        while !link.ready {
            let left = BEGIN.saturating_sub(link.begun.elapsed());
            let mut polled = [PollFd::new(link.socket.as_fd(), PollFlags::POLLIN)];
            poll(&mut polled, PollTimeout::from(u16::try_from(left.as_millis()).unwrap_or(u16::MAX)))?;
            let goes_on = link.inbox.fill(&mut link.socket)?;
            link.ready = matches!(link.inbox.take()?, Some(Report::Ready));
            if !link.ready && (!goes_on || left.is_zero()) {
                let _ = link.child.kill();
                let status = link.child.wait()?;
                return Err(io::Error::other(format!("the listener did not begin ({status}); its log says why")));
            }
        }
        Ok(link)
    }

    /// Readable when there is something to hear; None while there is no listener.
    #[must_use]
    pub fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        (!self.down).then(|| self.socket.as_fd())
    }

    /// Whether something waits to be sent.
    #[must_use]
    pub fn is_pending(&self) -> bool {
        self.outbox.len() > 0
    }

    /// Whether it listens.
    #[must_use]
    pub fn is_listening(&self) -> bool {
        self.ready
    }

    /// How many listeners of this agent have ended.
    #[must_use]
    pub fn ended(&self) -> u64 {
        self.ended
    }

    /// The listener's process.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// These rules are in force, and these slots are each container's.
    pub fn rules(&mut self, rules: &RuleSet, generation: u64, members: impl Iterator<Item = (u64, u64)>) {
        self.order(&Order::rules(rules, generation, members.collect()));
    }

    /// A container is there, or is described anew.
    pub fn enter(&mut self, container: &Container, member: u64) {
        self.order(&Order::Enter(Tracked::of(container, member)));
    }

    /// Has it end with this process, however that ends: it is for a test, and no other agent is to find it.
    pub fn ends_with_agent(&mut self) {
        self.order(&Order::EndWithAgent);
    }

    /// It is gone.
    pub fn leave(&mut self, cgroup: u64) {
        self.order(&Order::Leave(cgroup));
    }

    /// Waits until it has marked what it was told of last; for a test.
    ///
    /// # Errors
    /// When it could not.
    pub fn is_told(&mut self) -> io::Result<()> {
        let begun = Instant::now();
        while begun.elapsed() < BEGIN {
            let _ = self.outbox.flush(&mut self.socket);
            let mut polled = [PollFd::new(self.socket.as_fd(), PollFlags::POLLIN)];
            poll(&mut polled, PollTimeout::from(100_u16))?;
            let goes_on = self.inbox.fill(&mut self.socket)?;
            match self.inbox.take()? {
                Some(Report::Entered { problem: None, .. }) => return Ok(()),
                Some(Report::Entered { problem: Some(problem), .. }) => return Err(io::Error::other(problem)),
                _ if !goes_on => break,
                _ => {}
            }
        }
        Err(io::Error::other("the listener does not answer"))
    }

    fn order(&mut self, order: &Order) {
        match encode(order) {
            Ok(message) => self.outbox.push(message),
            Err(error) => eprintln!("the Fanotify listener cannot be told of {order:?}: {error}"),
        }
        // What is left is sent with the next turn.
        let _ = self.outbox.flush(&mut self.socket);
    }

    /// Sends what waits and hears what has come. Starts another listener where one has ended.
    pub fn turn(&mut self) -> Vec<Heard> {
        let mut heard = Vec::new();
        let sent = self.outbox.flush(&mut self.socket);
        let goes_on = sent.is_ok() & self.inbox.fill(&mut self.socket).unwrap_or(false);
        let malformed = take_in(&mut self.inbox, &mut heard, &mut self.ready).is_err();
        if goes_on && !malformed {
            return heard;
        }
        self.ready = false;
        self.down = self.begun.elapsed() < AGAIN && self.ended > 0;
        if self.down {
            return heard;
        }
        let how = self.bury();
        self.ended += 1;
        match spawn(&self.program, &self.folder, self.prover.as_fd()) {
            Ok((child, socket)) => {
                self.child = child;
                self.socket = socket;
                self.inbox = Inbox::default();
                self.outbox = Outbox::default();
            }
            Err(error) => eprintln!("no Fanotify listener can be started: {error}"),
        }
        self.begun = Instant::now();
        heard.push(Heard::Ended(how));
        heard
    }

    fn bury(&mut self) -> String {
        // Whoever does not speak to the agent any more must not answer either.
        let _ = self.child.kill();
        let begun = Instant::now();
        while begun.elapsed() < BURY {
            match self.child.try_wait() {
                Ok(Some(status)) => return status.to_string(),
                Ok(None) => std::thread::sleep(Duration::from_millis(5)),
                Err(error) => return error.to_string(),
            }
        }
        // Somebody traces it. Nobody waits for it any more: it has no descriptor left.
        "it is not known how".to_owned()
    }

    /// Ends the listeners of earlier agents, and gives what they had not told. To be called when this one knows everything.
    #[must_use]
    pub fn end_others(&self) -> Vec<Heard> {
        let own = self.child.id();
        end_listeners(&self.folder, |pid| pid != own)
    }

    /// Ends it.
    pub fn end(mut self) {
        self.order(&Order::End);
        let begun = Instant::now();
        while begun.elapsed() < END {
            if matches!(self.child.try_wait(), Ok(Some(_)) | Err(_)) {
                return;
            }
            let _ = self.outbox.flush(&mut self.socket);
            std::thread::sleep(Duration::from_millis(5));
        }
        self.bury();
    }
}

/// Ends every listener of the agents with this pin folder: nothing is enforced any more.
pub fn release(pin_dir: &Path) {
    end_listeners(&folder_of(pin_dir), |_| true);
    let _ = fs::remove_dir(folder_of(pin_dir));
}

fn take_in(inbox: &mut Inbox, heard: &mut Vec<Heard>, ready: &mut bool) -> io::Result<()> {
    while let Some(report) = inbox.take()? {
        match report {
            Report::Ready => *ready = true,
            Report::Entered { problem: None, .. } => {}
            Report::Entered { cgroup, problem: Some(problem) } => heard.push(Heard::Uncovered(cgroup, problem)),
            Report::Denied(denied, count) => heard.push(Heard::Denied(Box::new(denied.into()), count)),
            Report::Said(what) => eprintln!("{what}"),
            Report::Lost(count) => heard.push(Heard::Lost(count)),
        }
    }
    Ok(())
}

fn end_listeners(folder: &Path, which: impl Fn(u32) -> bool) -> Vec<Heard> {
    let mut heard = Vec::new();
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()).filter(|pid| which(*pid)) else {
            continue;
        };
        let place = entry.path();
        let Ok(socket) = UnixStream::connect(&place) else {
            // It is gone: whoever is there answers the connection.
            let _ = fs::remove_file(&place);
            continue;
        };
        if let Err(error) = end(socket, &mut heard) {
            eprintln!("the Fanotify listener {pid} of an earlier agent does not end by itself and is killed: {error}");
            if let Ok(pid) = i32::try_from(pid) {
                let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
            }
            let _ = fs::remove_file(&place);
        }
    }
    heard
}

fn end(mut socket: UnixStream, heard: &mut Vec<Heard>) -> io::Result<()> {
    socket.set_read_timeout(Some(END))?;
    socket.set_write_timeout(Some(END))?;
    socket.write_all(&encode(&Order::End)?)?;
    let mut rest = Vec::new();
    socket.read_to_end(&mut rest)?;
    take_in(&mut Inbox::of(rest), heard, &mut false)
}
