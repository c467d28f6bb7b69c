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
const PINS: &str = "/sys/fs/bpf/mooring";

/// What every enforcer of this run is told, unless its test says otherwise.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct Settings {
    /// The enforcer's backend; the best one when left out.
    #[arg(long)]
    backend: Option<String>,
    /// Where its programs and tables are pinned; its default place when left out.
    #[arg(long, value_name = "DIR")]
    pin_dir: Option<String>,
    /// What a container may do until it is known which policies are for it; the enforcer's default when left out.
    #[arg(long, value_name = "VALUE")]
    unknown_containers: Option<String>,
}

static SETTINGS: OnceLock<Settings> = OnceLock::new();

/// Has every enforcer of this run be told this.
pub fn use_settings(settings: Settings) {
    // Asked once, before the first one starts.
    let _ = SETTINGS.set(settings);
}

impl Settings {
    fn backend() -> Option<&'static str> {
        SETTINGS.get()?.backend.as_deref()
    }

    /// The options of its command `name` that `given` does not say otherwise.
    fn options(name: &str, given: &[&str]) -> Vec<&'static str> {
        let Some(settings) = SETTINGS.get() else {
            return Vec::new();
        };
        let (runs, pins) = (name == "run", ["run", "check", "ready", "release"].contains(&name));
        let options = [
            ("--backend", settings.backend.as_deref().filter(|_| runs)),
            ("--unknown-containers", settings.unknown_containers.as_deref().filter(|_| runs)),
            ("--pin-dir", settings.pin_dir.as_deref().filter(|_| pins)),
        ];
        let wanted = options.into_iter().filter(|(option, _)| !given.contains(option));
        wanted.filter_map(|(option, value)| Some([option, value?])).flatten().collect()
    }
}

/// The place of its pins in this run.
pub(crate) fn pins() -> &'static Path {
    Path::new(SETTINGS.get().and_then(|settings| settings.pin_dir.as_deref()).unwrap_or(PINS))
}

/// Whether what drifted is killed in this run, not refused.
pub(crate) fn kills() -> bool {
    Settings::backend() == Some("Kill")
}

/// Whether whoever refuses in this run is asked by fanotify, which does not see everything: the rest is killed.
pub(crate) fn is_asked() -> bool {
    Settings::backend() == Some("Fanotify")
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
        let mut child = Command::new(binary)
            .arg("run")
            .arg("--policies")
            .arg(policies)
            .args(["-o", "json"])
            .args(Settings::options("run", arguments))
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
const COMMAND: Duration = Duration::from_mins(1);

/// Runs another of its commands to the end.
pub(crate) fn command(binary: &Path, arguments: &[&str]) -> Result<Ended> {
    let settings = Settings::options(arguments.first().unwrap_or(&""), arguments);
    run_within(Command::new(binary).args(arguments).args(settings), COMMAND)
}

/// `release`: takes everything down.
pub(crate) fn release(binary: &Path) -> Result<()> {
    let ended = command(binary, &["release"])?;
    ensure(ended.status.success(), || format!("release ended with {}: {}", ended.status, ended.output))
}
