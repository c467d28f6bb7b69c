//! containerd, started by the harness and driven by `ctr`.

use super::HarnessError;
use super::bundle::Volumes;
use super::error::{During, OnFile, Result, ensure};
use super::image::Image;
use super::runtime::{Runtime, Shape, Upper};
use super::session::Session;
use super::system::{Ended, poll, run_within, signal, wait_within};
use nix::sys::signal::Signal;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

const REFERENCE: &str = "docker.io/library/mooring-attacks:test";
const LIMIT: Duration = Duration::from_secs(90);

/// A containerd of our own, with its own root, state and socket. Ended on drop.
#[derive(Debug)]
pub(crate) struct Containerd {
    daemon: Child,
    socket: String,
    work: PathBuf,
    image: Image,
    next: AtomicU64,
}

impl Containerd {
    /// Starts the daemon and imports the image.
    pub(crate) fn start(work: &Path, image: &Image) -> Result<Containerd> {
        let dir = work.join("containerd");
        fs::create_dir_all(&dir).on("create", &dir)?;
        let config = dir.join("config.toml");
        let text = "version = 2\ndisabled_plugins = [\"io.containerd.grpc.v1.cri\"]\n";
        fs::write(&config, text).on("write", &config)?;
        let log_path = dir.join("log");
        let log = File::create(&log_path).on("create", &log_path)?;
        let socket = dir.join("socket").to_string_lossy().into_owned();
        let daemon = Command::new("containerd")
            .arg("--config")
            .arg(&config)
            .arg("--root")
            .arg(dir.join("root"))
            .arg("--state")
            .arg("/run/mooring-e2e-containerd")
            .args(["--address", &socket, "--log-level", "warn"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .during("start containerd")?;
        let containerd =
            Containerd { daemon, socket, work: work.to_owned(), image: image.clone(), next: AtomicU64::new(0) };
        let limit = Duration::from_mins(1);
        poll(limit, || containerd.must(&["version"]).ok()).ok_or_else(|| HarnessError::Timeout {
            what: "an answer of containerd".into(),
            seconds: limit.as_secs_f64(),
            detail: format!("; its log: {}", fs::read_to_string(&log_path).unwrap_or_default()),
        })?;
        let archive = image.archive(work, REFERENCE)?;
        containerd
            .must(&["images", "import", "--no-unpack=false", &archive.to_string_lossy()])
            .or_else(|_| containerd.must(&["images", "import", &archive.to_string_lossy()]))?;
        fs::remove_file(&archive).on("remove", &archive)?;
        Ok(containerd)
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new("ctr");
        command.args(["--address", &self.socket]).args(arguments);
        command
    }

    fn must(&self, arguments: &[&str]) -> Result<String> {
        let mut command = self.command(arguments);
        let ended = run_within(&mut command, LIMIT)?;
        ensure(ended.status.success(), || format!("{command:?} ended with {}: {}", ended.status, ended.output))?;
        Ok(ended.output)
    }

    fn run_command(&self, id: &str, detach: bool, arguments: &[&str]) -> Result<Command> {
        let volumes = Volumes::make(&self.work, id, &self.image.path("/fix/tiny"))?;
        let bind = |source: &Path, destination: &str| {
            format!("type=bind,src={},dst={destination},options=rbind:rw", source.display())
        };
        let mut command = self.command(&["run", "--privileged"]);
        command.args(["--mount", &bind(&volumes.folder, "/vol")]);
        command.args(["--mount", &bind(&volumes.file, "/volfile")]);
        if detach {
            command.arg("--detach");
        }
        command.args([REFERENCE, id]).args(arguments);
        Ok(command)
    }
}

impl Runtime for Containerd {
    fn uppers(&self) -> &'static [Upper] {
        // Its snapshots are where its root is.
        &[Upper::Ext4]
    }

    fn start(&self, id: &str, shape: Shape) -> Result<Session> {
        ensure(matches!(shape, Shape::Overlay(_)), || format!("ctr makes no container of the shape {shape:?}"))?;
        Session::open(&mut self.run_command(id, false, &["/usr/bin/probe", "serve"])?)
    }

    fn start_command(&self, id: &str, arguments: &[&str]) -> Result<()> {
        let mut command = self.run_command(id, true, arguments)?;
        let ended = run_within(&mut command, LIMIT)?;
        ensure(ended.status.success(), || format!("{command:?} ended with {}: {}", ended.status, ended.output))
    }

    fn exec(&self, id: &str, arguments: &[&str]) -> Result<Ended> {
        let exec_id = format!("exec-{}", self.next.fetch_add(1, Ordering::Relaxed));
        let mut command = self.command(&["tasks", "exec", "--exec-id", &exec_id, id]);
        run_within(command.args(arguments), LIMIT)
    }

    fn kill(&self, id: &str) -> Result<()> {
        self.must(&["tasks", "kill", "--signal", "SIGKILL", id]).map(drop)
    }

    fn remove(&self, id: &str) -> Result<()> {
        let _ = run_within(&mut self.command(&["tasks", "kill", "--signal", "SIGKILL", id]), LIMIT)?;
        // The command that started it deletes the task; a detached one's is deleted here.
        let _ = run_within(&mut self.command(&["tasks", "delete", "--force", id]), LIMIT)?;
        let deleted = poll(Duration::from_secs(20), || self.must(&["containers", "delete", id]).ok());
        deleted.map(drop).ok_or_else(|| HarnessError::Timeout {
            what: format!("the end of container {id}"),
            seconds: 20.0,
            detail: String::new(),
        })
    }
}

impl Drop for Containerd {
    fn drop(&mut self) {
        let _ = signal(&self.daemon, Signal::SIGTERM);
        let _ = wait_within(&mut self.daemon, Duration::from_secs(10));
    }
}
