//! The agent's side of the API server, played by `examples/api.rs`, and what it is asked and given.

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use mooring_e2e::cluster::{Cluster, Kubectl};
use mooring_e2e::testing::eventually;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

use crate::rig::built;

/// The program that plays the agent's loop. It is killed when the value is dropped.
pub struct Loop {
    child: Child,
    input: ChildStdin,
    said: Arc<Mutex<Vec<Value>>>,
    log: Arc<Mutex<String>>,
}

impl Loop {
    pub fn begin(kubectl: &Kubectl, node: &str, state: &Path) -> Self {
        Self::begin_with(kubectl.kubeconfig(), node, state, &[])
    }

    /// With something before it that runs it.
    pub fn begin_with(kubeconfig: &Path, node: &str, state: &Path, before: &[&str]) -> Self {
        let program = built("examples/api", "cargo build -p mooring-node-enforcer --example api");
        let run = [before, &["setpriv", "--pdeathsig", "KILL", "--"]].concat();
        let mut child = Command::new(run[0])
            .args(&run[1..])
            .arg(program)
            .args(["--node", node, "--kubeconfig"])
            .arg(kubeconfig)
            .arg("--state-dir")
            .arg(state)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let input = child.stdin.take().unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        let said: Arc<Mutex<Vec<Value>>> = Arc::default();
        thread::spawn({
            let said = Arc::clone(&said);
            move || {
                for line in output.lines().map_while(Result::ok) {
                    said.lock().unwrap().push(serde_json::from_str(&line).unwrap());
                }
            }
        });
        let errors = BufReader::new(child.stderr.take().unwrap());
        let log: Arc<Mutex<String>> = Arc::default();
        thread::spawn({
            let (log, node) = (Arc::clone(&log), node.to_owned());
            move || {
                for line in errors.lines().map_while(Result::ok) {
                    eprintln!("{node}: {line}");
                    log.lock().unwrap().push_str(&(line + "\n"));
                }
            }
        });
        Self { child, input, said, log }
    }

    /// What it has written to its log.
    pub fn log(&self) -> String {
        self.log.lock().unwrap().clone()
    }

    /// What it sees at a path.
    pub fn sees(&self, path: &Path) -> PathBuf {
        PathBuf::from(format!("/proc/{}/root{}", self.child.id(), path.display()))
    }

    /// SIGSTOP and SIGCONT freeze and thaw it.
    pub fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.child.id().try_into().unwrap()), signal).unwrap();
    }

    pub fn tell(&mut self, line: &str) {
        writeln!(self.input, "{line}").unwrap();
    }

    /// The revisions that it was given, each with its source, in their order.
    pub fn given(&self) -> Vec<(u64, String)> {
        let said = self.said.lock().unwrap();
        let rules = said.iter().map(|line| &line["rules"]).filter(|rules| rules.is_object());
        rules.map(|rules| (rules["revision"].as_u64().unwrap(), rules["source"].as_str().unwrap().to_owned())).collect()
    }

    #[track_caller]
    pub fn await_rules(&self, revision: u64, source: &str) {
        eventually(&format!("revision {revision} from {source}"), || {
            self.given().last().is_some_and(|(last, from)| *last == revision && from == source)
        });
    }

    pub fn heard_of(&self, what: &str, name: &str) -> bool {
        self.times_heard_of(what, name) > 0
    }

    pub fn times_heard_of(&self, what: &str, name: &str) -> usize {
        let said = self.said.lock().unwrap();
        said.iter().filter(|line| line[what].as_array().is_some_and(|names| names.contains(&json!(name)))).count()
    }

    /// KiB that belong to no file.
    pub fn memory(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap();
        line.trim().trim_end_matches(" kB").parse().unwrap()
    }

    pub fn end(mut self) {
        self.tell("end");
        let begun = Instant::now();
        assert!(self.child.wait().unwrap().success());
        assert!(begun.elapsed() < Duration::from_mins(1));
    }
}

impl Drop for Loop {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub struct State(pub PathBuf);

impl State {
    pub fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("mooring-agent-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        Self(path)
    }
}

impl Drop for State {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

pub fn node(kubectl: &Kubectl, name: &str) {
    let node = json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}});
    kubectl.apply(&node.to_string()).unwrap();
}

pub fn agent_of(cluster: &Cluster, node: &str) -> Kubectl {
    cluster.kubectl_of_account("mooring-system", "mooring-enforcer", Some(node)).unwrap()
}

pub fn prevents() -> Value {
    json!({"actions": {"prevent": true}})
}

pub fn event(namespace: &str, name: &str, count: i64, first: &str) -> String {
    let event = json!({
        "apiVersion": "mooring.dev/v1alpha1", "kind": "DriftEvent", "metadata": {"name": name, "namespace": namespace},
        "spec": {
            "policy": "p", "severity": "High", "reason": "NewBinary", "verdict": "Denied", "node": "node1",
            "pod": {"name": "api"}, "container": "main", "containerID": "c", "path": "/tmp/x", "process": {"pid": 1, "uid": 0},
        },
        "status": {"count": count, "firstSeen": first, "lastSeen": "2026-01-02T00:00:00.000000Z"},
    });
    format!("event {event}")
}

pub fn count_of(kubectl: &Kubectl, name: &str) -> Option<i64> {
    kubectl.json(&["get", "driftevent", name]).ok()?["status"]["count"].as_i64()
}

/// Of the requests after the first `earlier` ones. An API server that starts denies everything until it has read the roles, so that
/// the ones meanwhile do not count.
pub fn nothing_denied(cluster: &Cluster, earlier: usize) {
    let later = cluster.audit().unwrap().into_iter().skip(earlier);
    let mine = later.filter(|request| request.user.ends_with(":mooring-enforcer"));
    let denied: Vec<_> = mine
        .filter(mooring_e2e::cluster::Request::denied)
        .map(|request| (request.verb, request.resource, request.reason))
        .collect();
    assert!(denied.is_empty(), "{denied:?}");
}
