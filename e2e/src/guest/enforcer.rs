//! The enforcer under test, as a process.

use super::error::{During, HarnessError, OnFile, Result, ensure};
use super::event::Event;
use super::system::{Ended, poll, run_within, signal, wait_within};
use nix::sys::signal::Signal;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread;
use std::time::Duration;

/// The default place of its pins.
pub(crate) const PINS: &str = "/sys/fs/bpf/mooring";
/// The backend that every enforcer of this run uses, unless its test names another; None: the best one.
static BACKEND: OnceLock<String> = OnceLock::new();

/// Has every enforcer of this run use this backend.
pub fn use_backend(name: String) {
    // Asked once, before the first one starts.
    let _ = BACKEND.set(name);
}

/// Whether what drifted is killed in this run, not refused.
pub(crate) fn kills() -> bool {
    BACKEND.get().is_some_and(|name| name == "Kill")
}

/// Whether whoever refuses in this run is asked by fanotify, which does not see everything: the rest is killed.
pub(crate) fn is_asked() -> bool {
    BACKEND.get().is_some_and(|name| name == "Fanotify")
}

/// How long it may take to start, here where every instruction is emulated.
const START: Duration = Duration::from_secs(90);

#[derive(Debug, Default)]
struct Heard {
    events: Vec<Event>,
    malformed: Vec<String>,
    log: Vec<String>,
}

/// A running enforcer. Killed on drop; what it pinned stays until [`release`].
#[derive(Debug)]
pub(crate) struct Enforcer {
    child: Child,
    heard: Arc<Mutex<Heard>>,
}

impl Enforcer {
    /// Starts it with the policies of a file or folder and waits until enforcement is in force.
    pub(crate) fn start(binary: &Path, policies: &Path) -> Result<Enforcer> {
        Enforcer::start_with(binary, policies, &[])
    }

    /// As [`Enforcer::start`], with more arguments.
    pub(crate) fn start_with(binary: &Path, policies: &Path, arguments: &[&str]) -> Result<Enforcer> {
        let enforcer = Enforcer::launch_with(binary, policies, arguments)?;
        enforcer.wait_for_log(0, "enforcing: ", START)?;
        Ok(enforcer)
    }

    /// Starts it and does not wait.
    pub(crate) fn launch(binary: &Path, policies: &Path) -> Result<Enforcer> {
        Enforcer::launch_with(binary, policies, &[])
    }

    fn launch_with(binary: &Path, policies: &Path, arguments: &[&str]) -> Result<Enforcer> {
        let backend = BACKEND.get().filter(|_| !arguments.contains(&"--backend"));
        let mut child = Command::new(binary)
            .arg("run")
            .arg("--policies")
            .arg(policies)
            .args(["-o", "json"])
            .args(backend.into_iter().flat_map(|backend| ["--backend", backend]))
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .during(format!("start {}", binary.display()))?;
        let heard = Arc::new(Mutex::new(Heard::default()));
        let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
        if let Some(stdout) = stdout {
            listen(stdout, Arc::clone(&heard), |heard, line| match Event::parse(&line) {
                Ok(event) => heard.events.push(event),
                Err(why) => heard.malformed.push(why),
            });
        }
        if let Some(stderr) = stderr {
            listen(stderr, Arc::clone(&heard), |heard, line| {
                heard.log.push(line);
            });
        }
        Ok(Enforcer { child, heard })
    }

    fn heard(&self) -> MutexGuard<'_, Heard> {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many events have come so far: a mark for [`Enforcer::events_since`].
    pub(crate) fn mark(&self) -> usize {
        self.heard().events.len()
    }

    /// The events after a mark.
    pub(crate) fn events_since(&self, mark: usize) -> Vec<Event> {
        self.heard().events.get(mark..).unwrap_or_default().to_vec()
    }

    /// Waits for an event after `mark`; on failure the error lists what came instead.
    pub(crate) fn wait_for_event(
        &self,
        mark: usize,
        limit: Duration,
        what: &str,
        wanted: impl Fn(&Event) -> bool,
    ) -> Result<Event> {
        let found = poll(limit, || self.heard().events.iter().skip(mark).find(|e| wanted(e)).cloned());
        found.ok_or_else(|| {
            let seen: Vec<String> = self.events_since(mark).into_iter().map(|e| e.line).collect();
            HarnessError::Timeout {
                what: format!("the event {what}"),
                seconds: limit.as_secs_f64(),
                detail: format!("; events seen: [{}]{}", seen.join(", "), self.malformed()),
            }
        })
    }

    fn malformed(&self) -> String {
        let heard = self.heard();
        heard.malformed.first().map_or_else(String::new, |why| format!("; malformed: {why}"))
    }

    /// Fails if a line of its standard output was not a good event.
    pub(crate) fn all_well_formed(&self) -> Result<()> {
        let text = self.malformed();
        ensure(text.is_empty(), || text)
    }

    /// How many log lines have come so far.
    pub(crate) fn log_mark(&self) -> usize {
        self.heard().log.len()
    }

    /// Waits for a log line after `mark` that begins with `prefix`, and returns it.
    pub(crate) fn wait_for_log(&self, mark: usize, prefix: &str, limit: Duration) -> Result<String> {
        let find = || self.heard().log.iter().skip(mark).find(|line| line.starts_with(prefix)).cloned();
        poll(limit, find).ok_or_else(|| HarnessError::Timeout {
            what: format!("a log line that begins with {prefix:?}"),
            seconds: limit.as_secs_f64(),
            detail: format!("; the log: {}", self.heard().log.join(" / ")),
        })
    }

    /// A line of its status in KiB: `VmRSS` for what it has resident, `VmHWM` for the most that it ever had.
    pub(crate) fn memory_kib(&self, line: &str) -> Result<u64> {
        let path = PathBuf::from(format!("/proc/{}/status", self.child.id()));
        let status = std::fs::read_to_string(&path).on("read", &path)?;
        let value = status.lines().find_map(|said| said.strip_prefix(line)?.strip_prefix(':'));
        value
            .and_then(|value| value.trim().strip_suffix(" kB")?.trim().parse().ok())
            .ok_or_else(|| HarnessError::Wrong(format!("no {line} in its status")))
    }

    /// Its process.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends it a signal.
    pub(crate) fn signal(&self, what: Signal) -> Result<()> {
        signal(&self.child, what)
    }

    /// SIGSTOP: it neither resolves nor reports until [`Enforcer::thaw`].
    pub(crate) fn freeze(&self) -> Result<()> {
        signal(&self.child, Signal::SIGSTOP)
    }

    /// SIGCONT.
    pub(crate) fn thaw(&self) -> Result<()> {
        signal(&self.child, Signal::SIGCONT)
    }

    /// SIGTERM; returns its exit status.
    pub(crate) fn terminate(mut self) -> Result<ExitStatus> {
        self.signal(Signal::SIGTERM)?;
        let limit = Duration::from_secs(10);
        wait_within(&mut self.child, limit).ok_or_else(|| HarnessError::Timeout {
            what: "the enforcer's end after SIGTERM".into(),
            seconds: limit.as_secs_f64(),
            detail: String::new(),
        })
    }

    /// SIGKILL.
    pub(crate) fn kill(mut self) -> Result<()> {
        self.child.kill().during("kill the enforcer")?;
        self.child.wait().during("wait for the enforcer").map(drop)
    }
}

impl Drop for Enforcer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn listen(
    stream: impl Read + Send + 'static,
    heard: Arc<Mutex<Heard>>,
    take: impl Fn(&mut Heard, String) + Send + 'static,
) {
    thread::spawn(move || {
        for line in BufReader::new(stream).lines().map_while(std::result::Result::ok) {
            take(&mut heard.lock().unwrap_or_else(PoisonError::into_inner), line);
        }
    });
}

/// How long a command may take that is not meant to stay: one that wrongly does must not use up the suite's time.
const COMMAND: Duration = Duration::from_secs(20);

/// Runs another of its commands to the end.
pub(crate) fn command(binary: &Path, arguments: &[&str]) -> Result<Ended> {
    run_within(Command::new(binary).args(arguments), COMMAND)
}

/// `release`: takes everything down.
pub(crate) fn release(binary: &Path) -> Result<()> {
    let ended = command(binary, &["release"])?;
    ensure(ended.status.success(), || format!("release ended with {}: {}", ended.status, ended.output))
}
