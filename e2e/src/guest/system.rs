//! Commands with a time limit, waiting, and facts about the guest.

use super::error::{During, HarnessError, OnFile, Result};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::ffi::OsStr;
use std::io::Read;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// How a command ended, with both streams in one text.
#[derive(Debug, Clone)]
pub(crate) struct Ended {
    pub(crate) status: ExitStatus,
    pub(crate) output: String,
}

/// Runs a command to its end; after `limit` it is killed and that is the error.
pub(crate) fn run_within(command: &mut Command, limit: Duration) -> Result<Ended> {
    let shown = shown(command);
    // A file, not a pipe: what the command leaves running must not keep us waiting for the end of its output.
    let path = std::env::temp_dir().join(format!("command-{:?}.out", thread::current().id()));
    let file = std::fs::File::create(&path).on("create", &path)?;
    let other = file.try_clone().on("duplicate", &path)?;
    let mut child =
        command.stdin(Stdio::null()).stdout(file).stderr(other).spawn().during(format!("start `{shown}`"))?;
    let status = wait_within(&mut child, limit);
    let mut bytes = Vec::new();
    std::fs::File::open(&path).and_then(|mut file| file.read_to_end(&mut bytes)).on("read", &path)?;
    let output = String::from_utf8_lossy(&bytes).into_owned();
    match status {
        Some(status) => Ok(Ended { status, output }),
        None => Err(HarnessError::Timeout {
            what: format!("the end of `{shown}`"),
            seconds: limit.as_secs_f64(),
            detail: format!("; it printed: {output}"),
        }),
    }
}

/// As [`run_within`] two minutes, and a failure of the command is an error.
pub(crate) fn run(program: impl AsRef<OsStr>, arguments: &[&str]) -> Result<String> {
    let mut command = Command::new(program);
    command.args(arguments);
    let ended = run_within(&mut command, Duration::from_mins(2))?;
    if ended.status.success() {
        return Ok(ended.output);
    }
    Err(HarnessError::Command {
        command: shown(&command),
        status: ended.status.to_string(),
        output: ended.output.trim().to_owned(),
    })
}

fn shown(command: &Command) -> String {
    let mut words = vec![command.get_program().to_string_lossy().into_owned()];
    words.extend(command.get_args().map(|a| a.to_string_lossy().into_owned()));
    words.join(" ")
}

/// Waits for a child; kills it after `limit` and returns nothing.
pub(crate) fn wait_within(child: &mut Child, limit: Duration) -> Option<ExitStatus> {
    let status = poll(limit, || child.try_wait().ok().flatten());
    if status.is_none() {
        let _ = child.kill();
        let _ = child.wait();
    }
    status
}

/// Asks every few milliseconds until there is an answer or `limit` is over.
pub(crate) fn poll<T>(limit: Duration, mut ask: impl FnMut() -> Option<T>) -> Option<T> {
    let deadline = Instant::now() + limit;
    loop {
        if let Some(answer) = ask() {
            return Some(answer);
        }
        if Instant::now() >= deadline {
            return None;
        }
        thread::sleep(Duration::from_millis(5));
    }
}

/// Sends a signal to a child.
pub(crate) fn signal(child: &Child, signal: Signal) -> Result<()> {
    let pid = i32::try_from(child.id())
        .map_err(|_| HarnessError::Wrong(format!("process id {} is too large", child.id())))?;
    kill(Pid::from_raw(pid), signal).during(format!("send {signal} to {pid}"))
}

/// The running kernel as (major, minor).
pub(crate) fn kernel() -> Result<(u32, u32)> {
    let path = Path::new("/proc/sys/kernel/osrelease");
    let release = std::fs::read_to_string(path).on("read", path)?;
    parse_release(&release).ok_or_else(|| HarnessError::Wrong(format!("kernel release {release:?} is not M.N…")))
}

fn parse_release(release: &str) -> Option<(u32, u32)> {
    let mut parts = release.split(|c: char| !c.is_ascii_digit());
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

/// Whether `bpf` is in the kernel's list of active security modules.
pub(crate) fn bpf_lsm_is_active() -> Result<bool> {
    let path = Path::new("/sys/kernel/security/lsm");
    let list = std::fs::read_to_string(path).on("read", path)?;
    Ok(list.trim().split(',').any(|name| name == "bpf"))
}

/// Drops dentries and inodes, and with them whatever lives in memory only.
pub(crate) fn drop_caches() -> Result<()> {
    let path = Path::new("/proc/sys/vm/drop_caches");
    // Dirty inodes are not dropped.
    nix::unistd::sync();
    std::fs::write(path, "2").on("write", path)
}

/// The first of `candidates` in the usual folders that is an executable file.
pub(crate) fn find_program(names: &[&str]) -> Option<std::path::PathBuf> {
    let folders = ["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"];
    names.iter().find_map(|name| folders.iter().map(|folder| Path::new(folder).join(name)).find(|path| path.is_file()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases() {
        assert_eq!(parse_release("5.10.0-41-cloud-amd64\n"), Some((5, 10)));
        assert_eq!(parse_release("7.2-rc1"), Some((7, 2)));
        assert_eq!(parse_release("next"), None);
    }

    #[test]
    fn a_command_that_hangs_is_ended_and_its_output_shown() {
        let mut command = Command::new("sh");
        command.args(["-c", "echo before; exec sleep 60"]);
        let error = run_within(&mut command, Duration::from_millis(200)).unwrap_err();
        assert!(error.to_string().contains("before"), "{error}");
    }
}
