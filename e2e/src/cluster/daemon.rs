//! The cluster's processes: started in the background, known by process id and start time, ended by these.

use std::fs::{self, File};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Sender};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::error::{Error, Result};
use crate::vm::{self, process};

/// How long a process may take to end by itself.
const GRACE: Duration = Duration::from_secs(15);
/// How often something that is waited for is looked at.
pub(crate) const LOOK: Duration = Duration::from_millis(100);

/// A process by its id and the time when it started, so that a reused id is no other's death.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Daemon {
    pid: i32,
    started: u64,
}

impl Daemon {
    /// The process that is recorded in `file`, if it still runs.
    pub(crate) fn recorded(file: &Path) -> Option<Self> {
        let text = fs::read_to_string(file).ok()?;
        let (pid, started) = text.trim().split_once(' ')?;
        let daemon = Self { pid: pid.parse().ok()?, started: started.parse().ok()? };
        daemon.runs().then_some(daemon)
    }

    fn record(child: &Child, file: &Path) -> Result<Self> {
        let pid = i32::try_from(child.id()).unwrap_or_default();
        // One that has ended at once leaves a zombie, which has a start time too.
        let started = stat(pid).map(|(_, started)| started).unwrap_or_default();
        fs::write(file, format!("{pid} {started}\n")).map_err(vm::Error::io("write", file))?;
        Ok(Self { pid, started })
    }

    /// Its process id.
    pub(crate) fn pid(self) -> i32 {
        self.pid
    }

    /// Whether it has not ended.
    pub(crate) fn runs(self) -> bool {
        stat(self.pid).is_some_and(|(state, started)| state != 'Z' && started == self.started)
    }

    /// Sends a signal, unless it has ended.
    pub(crate) fn signal(self, signal: Signal) {
        if self.runs() {
            // It may end in between, which is what most signals are for.
            let _ = kill(Pid::from_raw(self.pid), signal);
        }
    }

    /// Ends it: asks, waits, and then does not ask any more.
    pub(crate) fn end(self) {
        // A stopped one could not hear.
        self.signal(Signal::SIGCONT);
        self.signal(Signal::SIGTERM);
        if !wait(GRACE, || !self.runs()) {
            self.signal(Signal::SIGKILL);
            wait(GRACE, || !self.runs());
        }
    }
}

/// The state of a process, and its start time in ticks since boot.
fn stat(pid: i32) -> Option<(char, u64)> {
    stat_of(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

fn stat_of(line: &str) -> Option<(char, u64)> {
    // The name, in parentheses, may hold anything.
    let mut fields = line.rsplit_once(") ")?.1.split(' ');
    let state = fields.next()?.chars().next()?;
    Some((state, fields.nth(18)?.parse().ok()?))
}

/// Waits until `done`, at most `limit`; whether it came to that.
pub(crate) fn wait(limit: Duration, mut done: impl FnMut() -> bool) -> bool {
    let begun = Instant::now();
    while !done() {
        if begun.elapsed() > limit {
            return false;
        }
        thread::sleep(LOOK);
    }
    true
}

/// Starts processes, and says whether they may outlive this one.
#[derive(Debug)]
pub(crate) enum Starter {
    /// They go on when this process has ended.
    Free,
    /// They end with this process, however it ends.
    Bound(Keeper),
}

impl Starter {
    pub(crate) fn free() -> Self {
        Self::Free
    }

    pub(crate) fn bound() -> Self {
        Self::Bound(Keeper::start())
    }

    /// Starts `program` with its output in `log` (appended), recorded in `record`.
    pub(crate) fn start(&self, program: &Path, arguments: &[String], log: &Path, record: &Path) -> Result<Daemon> {
        let mut command = match self {
            // A session of its own: no terminal's end or interrupt is its own.
            Self::Free => process::tool("setsid"),
            Self::Bound(_) => process::tool("setpriv"),
        };
        if let Self::Bound(_) = self {
            command.args(["--pdeathsig", "KILL"]);
        }
        command.arg("--").arg(program).args(arguments).stdin(Stdio::null());
        let file = File::options().create(true).append(true).open(log).map_err(vm::Error::io("open", log))?;
        command.stdout(file.try_clone().map_err(vm::Error::io("duplicate", log))?).stderr(file);
        let child = match self {
            Self::Free => command.spawn().map_err(|source| process::not_started(&command, source))?,
            Self::Bound(keeper) => keeper.spawn(command)?,
        };
        let daemon = Daemon::record(&child, record)?;
        // Reaps it, whenever it ends.
        thread::spawn(move || {
            let mut child = child;
            child.wait().is_ok()
        });
        Ok(daemon)
    }
}

/// A thread that starts processes which are to die with this one: the kernel takes the end of the thread that started
/// a process for the parent's, so no test's own thread may.
#[derive(Debug)]
pub(crate) struct Keeper {
    work: Sender<(Command, Sender<std::result::Result<Child, vm::Error>>)>,
}

impl Keeper {
    fn start() -> Self {
        let (work, orders) = mpsc::channel::<(Command, Sender<std::result::Result<Child, vm::Error>>)>();
        thread::spawn(move || {
            for (mut command, answer) in orders {
                let child = command.spawn().map_err(|source| process::not_started(&command, source));
                if answer.send(child).is_err() {
                    break;
                }
            }
        });
        Self { work }
    }

    fn spawn(&self, command: Command) -> Result<Child> {
        let name = format!("{command:?}");
        let lost = || vm::Error::Start { command: name.clone(), source: std::io::ErrorKind::BrokenPipe.into() };
        let (answer, answers) = mpsc::channel();
        self.work.send((command, answer)).map_err(|_| lost())?;
        Ok(answers.recv().map_err(|_| lost())??)
    }
}

/// The last lines of a log, for an error.
pub(crate) fn tail(log: &Path) -> String {
    let bytes = fs::read(log).unwrap_or_default();
    vm::console::tail(&String::from_utf8_lossy(&bytes), 15)
}

/// The error for a process that ended by itself.
pub(crate) fn ended(name: &str, log: &Path) -> Error {
    Error::Ended { name: name.to_owned(), log: log.to_owned(), tail: tail(log) }
}

/// The error for what did not come about.
pub(crate) fn late(what: impl Into<String>, limit: Duration, log: &Path) -> Error {
    Error::Late { what: what.into(), seconds: limit.as_secs(), log: log.to_owned(), tail: tail(log) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn state_and_start_time_whatever_the_name() {
        let line = "12 (a) b (c) S 1 12 12 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 987654 1 2 3";
        assert_eq!(stat_of(line), Some(('S', 987_654)));
    }

    #[test]
    fn a_process_is_recorded_and_ended() {
        let folder = std::env::temp_dir().join(format!("mooring-daemon-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let record = folder.join("pid");
        for starter in [Starter::free(), Starter::bound()] {
            let arguments = ["-c".to_owned(), "echo begun; exec sleep 600".to_owned()];
            let daemon = starter.start(Path::new("/bin/sh"), &arguments, &folder.join("log"), &record).unwrap();
            assert!(daemon.runs());
            assert_eq!(Daemon::recorded(&record), Some(daemon));
            assert!(wait(GRACE, || tail(&folder.join("log")).contains("begun")));
            daemon.end();
            assert!(!daemon.runs());
            assert_eq!(Daemon::recorded(&record), None);
            fs::remove_file(folder.join("log")).unwrap();
        }
        // Another process with that id is not this one.
        fs::write(&record, format!("{} 1\n", std::process::id())).unwrap();
        assert_eq!(Daemon::recorded(&record), None);
        fs::remove_dir_all(&folder).unwrap();
    }
}
