//! What is done to containers, whichever version of cgroups this machine's runtimes use.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};

use crate::rig::{Container, Enforcer, Rig, cgroup_parent, enforcer_said, wait_for};

/// With cgroup v1 in each hierarchy.
fn cgroup(id: &str) -> PathBuf {
    let tops = ["/sys/fs/cgroup/pids", "/sys/fs/cgroup"];
    let mut folders = tops.iter().map(|top| Path::new(top).join(cgroup_parent()).join(id));
    folders.find(|folder| folder.is_dir()).unwrap()
}

fn processes(folder: &Path) -> Vec<String> {
    let listed = fs::read_to_string(folder.join("cgroup.procs")).unwrap_or_default();
    listed.lines().map(str::to_owned).collect()
}

/// Runs a dropped program, by a process that may not live to tell.
fn violate(container: &Container, name: &str) -> Child {
    let copied = container.run(&format!("cp /bin/tiny /{name}"));
    assert!(copied.status.success(), "{copied:?}");
    let mut run = container.command(&[&format!("/{name}")]);
    run.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}

fn awaited(enforcer: &Enforcer, id: &str, path: &str, result: &str, said: &str) -> Value {
    let find = || {
        let mut events = enforcer.events().into_iter();
        let event = events.rfind(|event| event["spec"]["path"] == path && event["spec"]["container"] == id)?;
        let action = event["status"]["containerAction"].clone();
        let is_it = action["result"] == result && action["outcome"].as_str()?.contains(said);
        is_it.then_some(action)
    };
    wait_for(&format!("{result} {said:?} of {path} among {:?}", enforcer.events()), || find().is_some());
    find().unwrap()
}

fn acting(rig: &Rig, id: &str, action: &str) -> Enforcer {
    rig.policy("native", json!({"scope": {"containers": [id]}, "actions": {"container": action}}));
    rig.enforcer(&["--backend", "Kill"])
}

#[test]
#[ignore = "needs root, and packages from Debian's archive"]
fn a_container_that_forks_is_killed_with_all_that_it_has() {
    let id = "mooring-native-killed";
    let mut rig = Rig::new();
    let enforcer = acting(&rig, id, "Kill");
    // In the host's pid namespace: the end of a namespace's first process would be that of all.
    let (container, other) = (rig.container_in(id, &["mount", "ipc", "uts"]), rig.container("mooring-native-other"));
    let folder = cgroup(id);
    // One is in a cgroup below.
    let below = folder.join("below");
    fs::create_dir(&below).unwrap();
    fs::write(below.join("cgroup.procs"), processes(&folder).first().unwrap()).unwrap();
    // Of the last ones each lives only until it has started the next.
    let forking = "for n in 1 2; do (while :; do (:); done) > /dev/null 2>&1 < /dev/null & done; \
                   for n in $(seq 300); do sleep 1000 > /dev/null 2>&1 < /dev/null & done; \
                   echo '/bin/sh /data/next &' > /data/next; \
                   for n in 1 2 3 4; do /bin/sh /data/next > /dev/null 2>&1 < /dev/null & done; :";
    assert!(container.run(forking).status.success());
    assert!(processes(&folder).len() > 300 && processes(&below).len() == 1);

    let mut violating = [violate(&container, "dropped"), violate(&other, "dropped")];
    awaited(&enforcer, id, "/dropped", "Done", "every process was killed");
    let left = [processes(&folder), processes(&below)].concat();
    assert!(left.is_empty(), "{left:?} live on");
    let frozen = fs::read_to_string(folder.to_string_lossy().replacen("/pids/", "/freezer/", 1) + "/freezer.state");
    assert_eq!(frozen.unwrap_or("THAWED\n".into()), "THAWED\n");
    assert!(!processes(&cgroup("mooring-native-other")).is_empty(), "the other one was killed, too");
    for child in &mut violating {
        child.wait().unwrap();
    }
}

#[test]
#[ignore = "needs root, and packages from Debian's archive"]
fn a_container_is_asked_to_end_and_killed_after_its_grace() {
    let id = "mooring-native-stopped";
    let mut rig = Rig::new();
    let enforcer = acting(&rig, id, "Stop");
    let container = rig.container(id);
    let mut violating = violate(&container, "dropped");
    awaited(&enforcer, id, "/dropped", "UnderWay", "SIGTERM was sent to process");
    thread::sleep(Duration::from_secs(6));
    assert!(!processes(&cgroup(id)).is_empty(), "it has no ten seconds");
    awaited(&enforcer, id, "/dropped", "Done", "what had not ended after SIGTERM was killed");
    assert!(processes(&cgroup(id)).is_empty());
    violating.wait().unwrap();
}

#[test]
#[ignore = "needs root, and packages from Debian's archive"]
fn a_container_is_paused_until_it_is_resumed_or_mooring_is_removed() {
    let id = "mooring-native-paused";
    let mut rig = Rig::of_default_runc();
    let enforcer = acting(&rig, id, "Pause");
    let container = rig.container(id);
    let counting = "(while :; do echo >> /data/count; sleep 0.05; done) > /dev/null 2>&1 < /dev/null & :";
    assert!(container.run(counting).status.success());
    let count = || fs::metadata(rig.data(id).join("count")).map_or(0, |file| file.len());
    let goes_on = || {
        let before = count();
        wait_for("its going on", || count() > before);
    };
    let stands_still = || {
        let before = count();
        thread::sleep(Duration::from_millis(700));
        assert_eq!(count(), before, "it goes on");
    };
    goes_on();
    let mut violating = violate(&container, "dropped");
    awaited(&enforcer, id, "/dropped", "Done", "every process is paused until somebody resumes it");
    stands_still();
    let resumed = enforcer_said(&["resume", id]);
    assert!(resumed.status.success(), "{resumed:?}");
    goes_on();
    awaited(&enforcer, id, "/dropped", "Done", "resumed by mooring-enforcer resume");
    violating.wait().unwrap();

    // With Mooring's end it goes on, though the agent that paused it is dead.
    let mut violating = violate(&container, "again");
    awaited(&enforcer, id, "/again", "Done", "every process is paused until somebody resumes it");
    drop(enforcer);
    stands_still();
    rig.release();
    goes_on();
    violating.wait().unwrap();
}
