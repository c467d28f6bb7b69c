//! The conversation with a container's first process, `probe serve`.

use super::error::{During, HarnessError, Result, ensure};
use crate::attacks::payload::serve::{Reply, Request};
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::Duration;

/// A running container that takes scripts.
#[derive(Debug)]
pub(crate) struct Session {
    /// The command that started the container; with containerd it stays for as long as the container.
    starter: Child,
    requests: ChildStdin,
    replies: Receiver<String>,
    next: u64,
}

/// How long a script may take unless said otherwise.
const SCRIPT_LIMIT: Duration = Duration::from_mins(2);

impl Session {
    /// Starts the container by `command` and waits until its first process answers.
    pub(crate) fn open(command: &mut Command) -> Result<Session> {
        let log = tempfile_for_log()?;
        let mut starter = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(log.1)
            .spawn()
            .during(format!("start {command:?}"))?;
        let (Some(requests), Some(output)) = (starter.stdin.take(), starter.stdout.take()) else {
            return Err(HarnessError::Wrong("a piped stream is missing".into()));
        };
        let (sender, replies) = channel();
        thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(std::result::Result::ok) {
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        let mut session = Session { starter, requests, replies, next: 0 };
        let greeting = session.run(":").map_err(|error| {
            let said = std::fs::read_to_string(&log.0).unwrap_or_default();
            HarnessError::Wrong(format!("the container does not answer: {error}; {said}"))
        })?;
        ensure(greeting.status == 0, || format!("/bin/sh fails: {}", greeting.output))?;
        Ok(session)
    }

    /// Runs a script and returns how it ended.
    pub(crate) fn run(&mut self, script: &str) -> Result<Reply> {
        self.run_within(script, SCRIPT_LIMIT)
    }

    /// As [`Session::run`] with another time limit.
    pub(crate) fn run_within(&mut self, script: &str, limit: Duration) -> Result<Reply> {
        self.next += 1;
        let request = Request {
            id: self.next,
            script: script.to_owned(),
            timeout_ms: u64::try_from(limit.as_millis()).unwrap_or(u64::MAX),
        };
        let line = serde_json::to_string(&request)
            .map_err(|error| HarnessError::Wrong(format!("encode a request: {error}")))?;
        writeln!(self.requests, "{line}")
            .and_then(|()| self.requests.flush())
            .during("send a script to the container")?;
        loop {
            let line = self.replies.recv_timeout(limit + Duration::from_secs(10)).map_err(|error| {
                let what = match error {
                    RecvTimeoutError::Timeout => "the container's first process does not answer",
                    RecvTimeoutError::Disconnected => "the container's first process is gone",
                };
                HarnessError::Wrong(what.into())
            })?;
            // What the runtime prints on the same stream is not for us.
            if let Ok(reply) = serde_json::from_str::<Reply>(&line)
                && reply.id == request.id
            {
                return Ok(reply);
            }
        }
    }

    /// As [`Session::run`]; a status other than 0 is an error.
    pub(crate) fn must(&mut self, script: &str) -> Result<String> {
        let reply = self.run(script)?;
        ensure(reply.status == 0, || format!("status {} of `{script}`: {}", reply.status, reply.output))?;
        Ok(reply.output)
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        // Its container is removed by the runtime; this only reaps the starter.
        let _ = self.starter.kill();
        let _ = self.starter.wait();
    }
}

fn tempfile_for_log() -> Result<(std::path::PathBuf, std::fs::File)> {
    use super::error::OnFile;
    use std::sync::atomic::{AtomicU64, Ordering};
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let path = std::env::temp_dir().join(format!("session-{number}.log"));
    let file = std::fs::File::create(&path).on("create", &path)?;
    Ok((path, file))
}
