//! What the tests here have in common: waiting, and what they look at in a cluster with Mooring in it.

use std::panic::{self, AssertUnwindSafe};
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::cluster::{Kubectl, RELEASE, Result};

/// How long anything may take on a machine that is busy with other things: only a test that fails waits for so long.
pub const LIMIT: Duration = Duration::from_mins(10);
/// Between two looks: each costs a process, and a guest that is asked more than that.
const PAUSE: Duration = Duration::from_millis(200);
/// The agents' pods.
const AGENTS: [&str; 4] = ["get", "pods", "--selector", "app.kubernetes.io/name=mooring-enforcer"];

/// A file or folder of the repository.
#[must_use]
pub fn repository(relative: &str) -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/..")).join(relative)
}

/// A policy.
#[must_use]
pub fn policy(name: &str, spec: Value) -> Value {
    let mut object =
        json!({"apiVersion": "mooring.dev/v1alpha1", "kind": "ContainerDriftPolicy", "metadata": {"name": name}});
    object["spec"] = spec;
    object
}

/// Looks until it is so.
///
/// # Panics
/// When it is not after [`LIMIT`].
#[track_caller]
pub fn eventually(what: &str, mut done: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !done() {
        assert!(begun.elapsed() < LIMIT, "{what} did not come about");
        thread::sleep(PAUSE);
    }
}

/// Runs a test, and has it explained when it fails.
pub fn explained(test: impl FnOnce(), explain: impl FnOnce()) {
    if let Err(failed) = panic::catch_unwind(AssertUnwindSafe(test)) {
        explain();
        panic::resume_unwind(failed);
    }
}

/// Prints what there is to be seen in a cluster with Mooring in it, and what kubectl is asked `more`.
pub fn show(kubectl: &Kubectl, more: &[&[&str]]) {
    let [_, namespace] = RELEASE;
    let common: [&[&str]; 4] = [
        &["get", "pods", "-A", "-o", "wide"],
        &["get", "driftevents", "-A", "-o", "wide"],
        &["get", "cdp,driftnodes", "-o", "yaml"],
        &["logs", "-n", namespace, "-l", "app.kubernetes.io/part-of=mooring", "--prefix", "--tail=50"],
    ];
    for ask in common.iter().chain(more) {
        eprintln!("{ask:?}\n{}", kubectl.run(ask).unwrap_or_else(|error| error.to_string()));
    }
}

/// Whether the kernel refuses what the script executes in a pod. A command that fails otherwise is no refusal.
#[must_use]
pub fn refused(kubectl: &Kubectl, namespace: &str, pod: &str, script: &str) -> bool {
    let run = kubectl.run(&["exec", pod, "--namespace", namespace, "--", "sh", "-c", script]);
    run.is_err_and(|error| error.to_string().contains("Operation not permitted"))
}

/// The agents' pods, those that are about to end, too.
///
/// # Errors
/// When the API server cannot be asked.
pub fn agents(kubectl: &Kubectl) -> Result<Vec<Value>> {
    let [_, namespace] = RELEASE;
    let pods = kubectl.json(&[&AGENTS[..], &["--namespace", namespace]].concat())?;
    Ok(pods["items"].as_array().cloned().unwrap_or_default())
}

/// A condition in an object's status, by its type.
#[must_use]
pub fn condition<'a>(object: &'a Value, kind: &str) -> Option<&'a Value> {
    object["status"]["conditions"].as_array()?.iter().find(|condition| condition["type"] == kind)
}

/// Whether an object has this condition, and it is true.
#[must_use]
pub fn is_true(object: &Value, kind: &str) -> bool {
    condition(object, kind).is_some_and(|condition| condition["status"] == "True")
}

/// Lets something replace the agent of the only node, and waits until there is one again: another, and Ready.
///
/// # Errors
/// When it fails, or the API server cannot be asked before.
///
/// # Panics
/// As [`eventually`].
#[track_caller]
pub fn replaces_agent<T>(kubectl: &Kubectl, replace: impl FnOnce() -> Result<T>) -> Result<()> {
    let uid = |pod: &Value| pod["metadata"]["uid"].clone();
    let before: Vec<Value> = agents(kubectl)?.iter().map(uid).collect();
    replace()?;
    eventually("one agent, and a new one", || {
        agents(kubectl)
            .is_ok_and(|pods| matches!(&pods[..], [pod] if is_true(pod, "Ready") && !before.contains(&uid(pod))))
    });
    Ok(())
}
