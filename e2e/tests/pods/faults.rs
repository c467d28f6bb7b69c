//! What happens to a node in its life, under the oracle's eyes. `MOORING_SOAK=1`, as in `make soak`, has it take longer, and
//! has more of it.

use std::thread;
use std::time::{Duration, Instant};

use mooring_e2e::cluster::Component;
use serde_json::json;

use crate::manifests::{LIVES, TRIES, container, pod};
use crate::oracle::{Oracle, POLICIES, SPACE, prevents};
use crate::rig::{NODE, Rig, SYSTEM, eventually, rig, soaks};
use crate::upgrades::{self, newer_agent};

#[test]
#[ignore = "boots a guest: make test-pods"]
fn nothing_drifted_ever_runs_whatever_happens_to_the_node() {
    // Built before there is a guest that takes a processor.
    let newer = soaks().then(newer_agent);
    let rig = rig();
    rig.run(SPACE, || {
        let mut oracle = Oracle::begin(rig);
        if let Some(newer) = &newer {
            upgrades::all(rig, &mut oracle, newer);
        }
        oracle.during("the agent is killed (SIGKILL)", agent_is_killed);
        oracle.during("the agent's pod is deleted", agent_is_deleted);
        oracle.during("the agent is killed for want of memory", agent_has_no_memory);
        oracle.during("one of two policies is deleted and made again", policy_is_made_again);
        oracle.during("containerd is killed", containerd_is_killed);
        oracle.during("runc is replaced", runc_is_replaced);
        if soaks() {
            oracle.during("the kubelet is killed", kubelet_is_killed);
            oracle.during("kubectl rollout restart of the agent", agent_rolls);
            oracle.during("the operator is scaled to zero and back", operator_is_away);
        }
        // The longest come last.
        let seconds = if soaks() { 300 } else { 30 };
        let edits = format!("a policy is edited once a second for {seconds} s");
        oracle.during(&edits, |rig| policy_is_edited(rig, seconds));
        if soaks() {
            let outage = "the API server is away for 300 s, the agent killed then";
            oracle.during(outage, |rig| api_server_is_away(rig, Duration::from_mins(5)));
        }
        the_only_policy_is_made_again(rig, &mut oracle);
        oracle.end();
        rig.clear(SPACE);
    });
}

/// Which agent it is: its pod, and how often that was restarted.
pub fn life(rig: &Rig) -> (String, i64) {
    let pod = rig.agent();
    let restarts = pod["status"]["containerStatuses"][0]["restartCount"].as_i64().unwrap_or_default();
    (pod["metadata"]["uid"].as_str().unwrap_or_default().to_owned(), restarts)
}

pub fn await_next_agent(rig: &Rig, before: &(String, i64)) {
    eventually("the next agent, Ready", || {
        let conditions = rig.agent()["status"]["conditions"].as_array().cloned().unwrap_or_default();
        let is_ready = conditions.iter().any(|one| one["type"] == "Ready" && one["status"] == "True");
        is_ready && life(rig) != *before
    });
}

/// The process id on the node of the agent's container. What the API server has of a container may be of the one before for a while.
pub fn process(rig: &Rig) -> String {
    let mut process = None;
    eventually("a process of the agent's container", || {
        let pod = rig.agent();
        let id = pod["status"]["containerStatuses"][0]["containerID"].as_str().unwrap_or_default();
        let id = id.trim_start_matches("containerd://");
        let tasks = rig.on_node("ctr -n k8s.io tasks ls");
        let task =
            tasks.lines().find(|line| !id.is_empty() && line.starts_with(id) && line.trim_end().ends_with("RUNNING"));
        process = task.and_then(|line| line.split_whitespace().nth(1)).map(str::to_owned);
        process.is_some()
    });
    process.unwrap()
}

fn agent_is_killed(rig: &Rig) {
    let before = life(rig);
    rig.on_node(&format!("kill -KILL {}", process(rig)));
    await_next_agent(rig, &before);
}

fn agent_is_deleted(rig: &Rig) {
    let before = life(rig);
    let name = rig.agent()["metadata"]["name"].as_str().unwrap().to_owned();
    rig.admin.run(&["delete", "pod", &name, "-n", SYSTEM, "--wait"]).unwrap();
    await_next_agent(rig, &before);
}

/// Its cgroup is given less than it has.
fn agent_has_no_memory(rig: &Rig) {
    let before = life(rig);
    let script = format!(
        "cgroup=$(cut -d: -f3 /proc/{}/cgroup) && echo 1M >/sys/fs/cgroup$cgroup/memory.max || true",
        process(rig)
    );
    rig.on_node(&script);
    await_next_agent(rig, &before);
    let ended = rig.agent()["status"]["containerStatuses"][0]["lastState"]["terminated"]["reason"].clone();
    assert_eq!(ended, "OOMKilled");
}

fn agent_rolls(rig: &Rig) {
    let before = life(rig);
    rig.admin.run(&["rollout", "restart", "daemonset", "mooring-enforcer", "-n", SYSTEM]).unwrap();
    await_next_agent(rig, &before);
    rig.admin.run(&["rollout", "status", "daemonset", "mooring-enforcer", "-n", SYSTEM, "--timeout=300s"]).unwrap();
}

/// The revision of the rules that are in force.
fn revision(rig: &Rig) -> i64 {
    rig.admin.json(&["get", "driftnode", NODE]).unwrap()["status"]["applied"]["revision"].as_i64().unwrap()
}

fn policy_is_edited(rig: &Rig, seconds: u32) {
    let before = revision(rig);
    for number in 0..seconds {
        let begun = Instant::now();
        let lists = json!({"exceptions": [{"path": format!("/opt/{number}")}], "prohibitedBinaries": [{"path": format!("/usr/bin/no-{number}")}]});
        let severity = if number % 2 == 0 { "Low" } else { "High" };
        let patch = json!({"spec": {"severity": severity, "detect": lists}}).to_string();
        rig.admin.run(&["patch", "cdp", POLICIES[0], "--type=merge", "--patch", &patch]).unwrap();
        thread::sleep(Duration::from_secs(1).saturating_sub(begun.elapsed()));
    }
    rig.await_enforced(POLICIES[0]);
    assert!(revision(rig) > before + i64::from(seconds) / 5, "{before} {}", revision(rig));
}

fn has_policy(rig: &Rig, name: &str) -> bool {
    let node = rig.admin.json(&["get", "driftnode", NODE]).unwrap();
    node["status"]["policies"].as_array().is_some_and(|all| all.iter().any(|policy| policy["name"] == name))
}

/// The other is in force all the time.
fn policy_is_made_again(rig: &Rig) {
    rig.admin.run(&["delete", "cdp", POLICIES[0]]).unwrap();
    eventually("that the node is without it", || !has_policy(rig, POLICIES[0]));
    rig.admin.apply(&prevents(POLICIES[0]).to_string()).unwrap();
    rig.await_enforced(POLICIES[0]);
}

/// Nobody asked for protection while there is no policy: what is dropped may run from its deletion until the new one's status says that it
/// is enforced, and no longer. It is also seen here that the oracle sees what runs.
fn the_only_policy_is_made_again(rig: &Rig, oracle: &mut Oracle<'_>) {
    let (before, begun) = (oracle.read(), Instant::now());
    for policy in POLICIES {
        rig.admin.run(&["delete", "cdp", policy]).unwrap();
    }
    eventually("that the dropped program runs", || oracle.read().ran > before.ran);
    rig.admin.apply(&prevents(POLICIES[0]).to_string()).unwrap();
    rig.await_enforced(POLICIES[0]);
    oracle.row("the only policy is deleted and made again: until enforced", before, begun.elapsed(), true);
    oracle.during("... from then on", |_| {});
}

/// A pod that is started now runs, and is protected.
pub fn new_pod_is_protected(rig: &Rig, name: &str) {
    let more = json!({"command": ["sh", "-c", format!("{TRIES}{LIVES}")]});
    rig.admin.apply(&pod(SPACE, name, &[container("main", "/tmp/d", &more)], &json!({})).to_string()).unwrap();
    eventually("a new pod", || rig.admin.run(&["logs", "-n", SPACE, name]).is_ok_and(|log| log.contains("DRIFT")));
    let log = rig.admin.run(&["logs", "-n", SPACE, name]).unwrap();
    assert!(log.contains("DRIFT REFUSED") && !log.contains("DRIFT RAN") && !log.contains("DISTURBED"), "{log}");
    assert_eq!(rig.admin.run(&["exec", "-n", SPACE, name, "--", "/bin/busybox", "echo", "fine"]).unwrap(), "fine\n");
    rig.admin.run(&["delete", "pod", name, "-n", SPACE, "--wait"]).unwrap();
}

/// Ends a service of the node, which is started again as an init system would.
fn kill_service(rig: &Rig, name: &str) {
    let pid = || rig.on_node(&format!("busybox pidof {name} || true"));
    let before = pid();
    rig.on_node(&format!("kill -KILL {before}"));
    eventually(name, || {
        let now = pid();
        !now.trim().is_empty() && now != before
    });
}

fn kubelet_is_killed(rig: &Rig) {
    kill_service(rig, "kubelet");
    new_pod_is_protected(rig, "after-kubelet");
}

fn containerd_is_killed(rig: &Rig) {
    kill_service(rig, "containerd");
    new_pod_is_protected(rig, "after-containerd");
}

/// By another file with the same content, as an upgrade does it.
fn runc_is_replaced(rig: &Rig) {
    let script = "runc=$(command -v runc) && ls -i $runc && cp -p $runc $runc.new && mv $runc.new $runc && ls -i $runc";
    let inodes = rig.on_node(script);
    let inodes: Vec<&str> = inodes.split_whitespace().step_by(2).collect();
    assert!(inodes.len() == 2 && inodes[0] != inodes[1], "{inodes:?}");
    new_pod_is_protected(rig, "after-runc");
}

fn operator_is_away(rig: &Rig) {
    let scale = |replicas: &str| {
        rig.admin
            .run(&["scale", "deployment", "mooring-operator", "-n", SYSTEM, &format!("--replicas={replicas}")])
            .unwrap();
    };
    scale("0");
    let operators = ["get", "pods", "-n", SYSTEM, "-l", "app.kubernetes.io/name=mooring-operator", "-o", "name"];
    eventually("the end of the operator", || rig.admin.run(&operators).is_ok_and(|names| names.is_empty()));
    let patch = json!({"spec": {"severity": "Medium"}}).to_string();
    rig.admin.run(&["patch", "cdp", POLICIES[0], "--type=merge", "--patch", &patch]).unwrap();
    new_pod_is_protected(rig, "without-operator");
    agent_is_deleted(rig);
    scale("2");
    rig.admin.run(&["rollout", "status", "deployment", "mooring-operator", "-n", SYSTEM, "--timeout=300s"]).unwrap();
    rig.await_enforced(POLICIES[0]);
}

/// The agent that begins meanwhile has its rules from the disk.
fn api_server_is_away(rig: &Rig, time: Duration) {
    let (before, pid) = (life(rig), process(rig));
    rig.cluster.stop_component(Component::ApiServer);
    let begun = Instant::now();
    rig.on_node(&format!("kill -KILL {pid}"));
    thread::sleep(time.saturating_sub(begun.elapsed()));
    rig.cluster.start_component(Component::ApiServer).unwrap();
    rig.cluster.await_api().unwrap();
    await_next_agent(rig, &before);
}
