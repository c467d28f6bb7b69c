//! Runs one guest from power-on to its command's exit status.

use std::fs::{self, File};
use std::io::{self, BufRead as _, BufReader, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use super::boot::{self, Job};
use super::cache::{self, Cache};
use super::kernels::Cached;
use super::machine::{Files, Machine, PORTS};
use super::progress::say;
use super::{Error, console, process};

/// How often a guest that says nothing is looked after.
const LOOK: Duration = Duration::from_millis(50);
/// How many lines of the console an error carries.
const CONSOLE_LINES: usize = 40;

/// A guest to be run.
#[derive(Debug)]
pub struct Guest<'a> {
    /// Its kernel.
    pub kernel: &'a Cached,
    /// Its root image.
    pub root: &'a Path,
    /// Its hardware.
    pub machine: Machine,
    /// Its job.
    pub job: Job,
    /// How long it may take from power-on to exit status.
    pub timeout: Duration,
    /// Where `/out` is brought.
    pub out: Option<PathBuf>,
    /// Where the console is kept, besides being quoted in errors.
    pub console: Option<PathBuf>,
}

/// How a guest's command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ended {
    /// The command's exit status; 128 and the signal's number where one ended it.
    pub code: u8,
    /// From power-on to the start of the command.
    pub booted: Duration,
    /// From the start of the command to its exit status.
    pub ran: Duration,
}

/// What a guest says on its status port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Said {
    Started,
    Exit(u8),
}

fn said(line: &str) -> Option<Said> {
    match line.trim().split_once(' ') {
        None if line.trim() == "started" => Some(Said::Started),
        Some(("exit", code)) => code.parse().ok().map(Said::Exit),
        _ => None,
    }
}

/// How often a guest is booted that does not come to start its command.
const BOOTS: u32 = 3;
/// How long that may take, on a machine that is busy with other things.
const BOOT: Duration = Duration::from_mins(3);

/// A process that does not outlive this value.
#[derive(Debug)]
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        // Both fail only when it has ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Boots the guest, passes its command's output on as it comes, and returns how the command ended.
///
/// # Errors
/// [`Error::Guest`] and [`Error::Timeout`] when the guest never told an exit status: it panicked, hung or ended.
pub fn run(cache: &Cache, guest: &Guest) -> Result<Ended, Error> {
    let scratch = cache.scratch("guest")?;
    let folder = scratch.path();
    boot::write_initrd(&folder.join("initrd"), guest.kernel)?;
    boot::write_job(&folder.join("job"), &guest.job)?;
    let mut listeners = Vec::new();
    for port in PORTS {
        let path = folder.join(format!("{port}.socket"));
        listeners.push(UnixListener::bind(&path).map_err(Error::io("listen on", &path))?);
    }
    let mut boots = 0;
    let ended = loop {
        boots += 1;
        let mut started = None;
        match supervise(guest, folder, &listeners, &mut started) {
            // QEMU's emulation now and then loses a race with a booting kernel that patches its own code.
            Err(error) if started.is_none() && boots < BOOTS => {
                say(format!("kernel {} did not boot ({error}); once more", guest.kernel.kernel.name));
            }
            ended => break ended,
        }
    };
    if let Some(kept) = &guest.console {
        fs::copy(folder.join("console"), kept).map_err(Error::io("write the console to", kept))?;
    }
    ended
}

fn supervise(
    guest: &Guest,
    folder: &Path,
    listeners: &[UnixListener],
    started: &mut Option<Duration>,
) -> Result<Ended, Error> {
    let begun = Instant::now();
    let mut qemu = Killed(start(guest, folder)?);
    let mut streams = Vec::new();
    for listener in listeners {
        streams.push(accept(listener, &mut qemu.0, begun, guest, folder)?);
    }
    let out = streams.pop();
    let [status, stdout, stderr] =
        <[UnixStream; 3]>::try_from(streams).map_err(|_| broken(guest, folder, "lost a port"))?;
    let unpacking = match (&guest.out, out) {
        (Some(target), Some(stream)) => Some((unpack(target, stream)?, target)),
        _ => None,
    };
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        for line in BufReader::new(status).lines().map_while(Result::ok) {
            if said(&line).is_some_and(|said| sender.send(said).is_err()) {
                break;
            }
        }
    });
    let pumps = [thread::spawn(move || pump(stdout, io::stdout())), thread::spawn(move || pump(stderr, io::stderr()))];
    let code = loop {
        match receiver.recv_timeout(LOOK) {
            Ok(Said::Started) => *started = Some(begun.elapsed()),
            Ok(Said::Exit(code)) => break Ok(code),
            // The status port closes with QEMU.
            Err(RecvTimeoutError::Disconnected) => break Err(dead(guest, folder)),
            Err(RecvTimeoutError::Timeout)
                if begun.elapsed() > guest.timeout || (started.is_none() && begun.elapsed() > BOOT) =>
            {
                break Err(late(guest, folder, *started));
            }
            Err(RecvTimeoutError::Timeout) => {}
        }
    };
    let took = begun.elapsed();
    // All that the command wrote is on this side by now, and nothing in the guest is worth an orderly end.
    drop(qemu);
    for pump in pumps {
        let _ = pump.join();
    }
    let code = code?;
    if let Some((mut tar, target)) = unpacking {
        let status = tar.wait().map_err(Error::io("wait for tar in", target))?;
        if !status.success() {
            return Err(Error::io("unpack what came back to", target)(io::Error::other(status.to_string())));
        }
    }
    if let Some(alarm) = console::alarm(&console_of(folder)) {
        say(format!("kernel {} said: {alarm}", guest.kernel.kernel.name));
    }
    let booted = started.unwrap_or(took);
    Ok(Ended { code, booted, ran: took.saturating_sub(booted) })
}

fn start(guest: &Guest, folder: &Path) -> Result<Child, Error> {
    let files = Files { kernel: &guest.kernel.image(), root: guest.root, folder };
    let errors = folder.join("qemu.stderr");
    // Whatever ends this process, a guest must not outlive it.
    let mut command: Command = process::tool("setpriv");
    command.args(["--pdeathsig", "KILL", "--", "qemu-system-x86_64"]).args(guest.machine.arguments(&files));
    if !guest.machine.terminal {
        command.stdin(Stdio::null()).stdout(Stdio::null());
    }
    command.stderr(File::create(&errors).map_err(Error::io("create", &errors))?);
    command.spawn().map_err(|source| process::not_started(&command, source))
}

/// Waits for QEMU to connect to a port, which it does at once unless it fails.
fn accept(
    listener: &UnixListener,
    qemu: &mut Child,
    begun: Instant,
    guest: &Guest,
    folder: &Path,
) -> Result<UnixStream, Error> {
    listener.set_nonblocking(true).map_err(Error::io("listen in", folder))?;
    loop {
        match listener.accept() {
            Ok((stream, _)) => {
                stream.set_nonblocking(false).map_err(Error::io("listen in", folder))?;
                return Ok(stream);
            }
            Err(error) if error.kind() != io::ErrorKind::WouldBlock => {
                return Err(Error::io("listen in", folder)(error));
            }
            Err(_) => {}
        }
        if matches!(qemu.try_wait(), Ok(Some(_))) {
            return Err(dead(guest, folder));
        }
        if begun.elapsed() > guest.timeout {
            return Err(late(guest, folder, None));
        }
        thread::sleep(Duration::from_millis(2));
    }
}

fn pump(mut from: impl Read, mut to: impl Write) {
    let mut buffer = [0; 16 * 1024];
    loop {
        match from.read(&mut buffer) {
            Ok(0) => return,
            // Nobody reading the output any more is no reason to stop the guest.
            Ok(count) => drop(to.write_all(&buffer[..count]).and_then(|()| to.flush())),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => return,
        }
    }
}

fn unpack(target: &Path, stream: UnixStream) -> Result<Child, Error> {
    cache::make_folder(target)?;
    let mut tar = process::tool("tar");
    tar.args(["--extract", "--no-same-owner", "--directory"]).arg(target).stdin(Stdio::from(OwnedFd::from(stream)));
    tar.spawn().map_err(|source| process::not_started(&tar, source))
}

fn console_of(folder: &Path) -> String {
    let bytes = fs::read(folder.join("console")).unwrap_or_default();
    String::from_utf8_lossy(&bytes).into_owned()
}

fn dead(guest: &Guest, folder: &Path) -> Error {
    let console = console_of(folder);
    let errors = fs::read_to_string(folder.join("qemu.stderr")).unwrap_or_default();
    let what = match console::alarm(&console) {
        Some(alarm) => format!("the guest ended without an exit status: {alarm}"),
        None if errors.trim().is_empty() => "the guest ended without an exit status".to_owned(),
        None => format!("QEMU ended: {}", errors.trim()),
    };
    broken(guest, folder, &what)
}

fn broken(guest: &Guest, folder: &Path, what: &str) -> Error {
    let console = console::tail(&console_of(folder), CONSOLE_LINES);
    Error::Guest { kernel: guest.kernel.kernel.name.to_owned(), what: what.to_owned(), console }
}

fn late(guest: &Guest, folder: &Path, started: Option<Duration>) -> Error {
    let console = console_of(folder);
    let progress = match started {
        Some(after) => format!("its command started after {:.1} s and did not end", after.as_secs_f64()),
        None => "it never came to start its command".to_owned(),
    };
    let what = match console::alarm(&console) {
        Some(alarm) => format!("{progress}; {alarm}"),
        None => progress,
    };
    Error::Timeout {
        kernel: guest.kernel.kernel.name.to_owned(),
        seconds: guest.timeout.as_secs(),
        what,
        console: console::tail(&console, CONSOLE_LINES),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn status_lines() {
        assert_eq!(said("started\n"), Some(Said::Started));
        assert_eq!(said("exit 137"), Some(Said::Exit(137)));
        for nonsense in ["", "exit", "exit x", "exit 256", "started 1"] {
            assert_eq!(said(nonsense), None, "{nonsense}");
        }
    }

    #[test]
    fn output_is_passed_on_whole() {
        let mut target = Vec::new();
        let data = vec![7_u8; 100_000];
        pump(data.as_slice(), &mut target);
        assert_eq!(target, data);
    }
}
