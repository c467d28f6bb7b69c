//! The first process of a test container: runs the scripts that it reads, one JSON request and reply a line.
//!
//! One process for many cases: starting a container or a runtime's exec for each would cost half a second apiece.

use super::{Outcome, PayloadError, Tried};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};
use std::io::{self, BufRead, Read, Write};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

/// One script to run.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Request {
    /// Told back in the reply.
    pub(crate) id: u64,
    /// For `/bin/sh -c`.
    pub(crate) script: String,
    /// After this many milliseconds the script's process group is killed.
    pub(crate) timeout_ms: u64,
}

/// What became of it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Reply {
    /// The request's.
    pub(crate) id: u64,
    /// Exit status, or 128 and the signal; -1 when it never started or was killed after the time limit.
    pub(crate) status: i32,
    /// Standard output and error, in the order written.
    pub(crate) output: String,
}

/// Serves until standard input ends.
pub(super) fn serve() -> Outcome {
    let mut out = io::stdout();
    for line in io::stdin().lock().lines() {
        let line = line.tried("read a request")?;
        let request: Request =
            serde_json::from_str(&line).map_err(|error| PayloadError::Unexpected(format!("bad request: {error}")))?;
        let reply = answer(&request);
        let text =
            serde_json::to_string(&reply).map_err(|error| PayloadError::Unexpected(format!("reply: {error}")))?;
        writeln!(out, "{text}").tried("write the reply")?;
        out.flush().tried("flush the reply")?;
    }
    Ok(())
}

fn answer(request: &Request) -> Reply {
    let (status, output) = run(request).unwrap_or_else(|error| (-1, error.to_string()));
    Reply { id: request.id, status, output }
}

fn run(request: &Request) -> Result<(i32, String), PayloadError> {
    let (mut reader, writer) = io::pipe().tried("pipe")?;
    let other = writer.try_clone().tried("dup")?;
    let mut child = Command::new("/bin/sh")
        .args(["-c", &request.script])
        .env("PATH", "/bin:/usr/bin:/sbin:/usr/sbin")
        .stdin(Stdio::null())
        .stdout(writer)
        .stderr(other)
        .process_group(0)
        .spawn()
        .tried("execute /bin/sh")?;
    // The pipe ends when the last descendant closes it, so that what a detached child prints is seen too.
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        let _ = reader.read_to_end(&mut bytes);
        let _ = sender.send(bytes);
    });
    let limit = Duration::from_millis(request.timeout_ms);
    let Ok(bytes) = receiver.recv_timeout(limit) else {
        kill_group(&mut child);
        return Ok((-1, format!("still running after {limit:?}")));
    };
    let status = child.wait().tried("wait")?;
    let code =
        status.code().unwrap_or_else(|| 128 + std::os::unix::process::ExitStatusExt::signal(&status).unwrap_or(0));
    Ok((code, String::from_utf8_lossy(&bytes).into_owned()))
}

fn kill_group(child: &mut Child) {
    if let Ok(group) = i32::try_from(child.id()) {
        let _ = killpg(Pid::from_raw(group), Signal::SIGKILL);
    }
    let _ = child.wait();
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reply(script: &str, timeout_ms: u64) -> Reply {
        answer(&Request { id: 7, script: script.into(), timeout_ms })
    }

    #[test]
    fn status_and_both_streams_come_back() {
        let reply = reply("echo out; echo err >&2; exit 3", 5000);
        assert_eq!((reply.id, reply.status), (7, 3));
        assert_eq!(reply.output, "out\nerr\n");
    }

    #[test]
    fn what_a_detached_child_prints_is_seen() {
        assert_eq!(reply("(sleep 0.2; echo late) & exit 0", 5000).output, "late\n");
    }

    #[test]
    fn a_script_that_hangs_is_ended() {
        let reply = reply("sleep 60", 100);
        assert_eq!(reply.status, -1);
        assert!(reply.output.contains("still running"));
    }
}
