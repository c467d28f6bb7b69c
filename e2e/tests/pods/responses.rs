//! What is done to containers that a kubelet runs, and what the agent's switches hold back.

use mooring_e2e::cluster::HelmVersion;
use mooring_e2e::testing::{condition, eventually};
use serde_json::{Value, json};

use crate::faults::{await_next_agent, life, process};
use crate::manifests::{BUSYBOX, pod};
use crate::rig::{NODE, Rig, rig};

const SPACE: &str = "responses";

/// Lives until it is told to go, and runs a dropped program whenever `/work/go` is there. It counts on meanwhile.
const WAITS: &str = "cp /bin/busybox /tmp/dropped; while :; do if [ -e /work/go ]; then rm /work/go; /tmp/dropped true; fi; \
     echo >>/work/count; sleep 0.2; done";

fn acting(name: &str, pod: &str, actions: &Value) -> Value {
    let scope = json!({
        "namespaceSelector": {"matchLabels": {"team": SPACE}}, "podSelector": {"matchLabels": {"app": pod}},
    });
    mooring_e2e::testing::policy(name, json!({"severity": "High", "scope": scope, "actions": actions}))
}

fn container(script: &str, user: i64) -> Value {
    json!({
        "name": "main", "image": BUSYBOX, "command": ["sh", "-c", script], "volumeMounts": [{"name": "work", "mountPath": "/work"}],
        "securityContext": {"runAsUser": user},
    })
}

fn start(rig: &Rig, name: &str, script: &str, user: i64) {
    start_container(rig, name, &container(script, user));
}

fn start_container(rig: &Rig, name: &str, container: &Value) {
    // Without the system's name the API server takes no stop signal.
    let spec =
        json!({"restartPolicy": "Never", "os": {"name": "linux"}, "volumes": [{"name": "work", "emptyDir": {}}]});
    rig.admin.apply(&pod(SPACE, name, std::slice::from_ref(container), &spec).to_string()).unwrap();
    rig.admin.run(&["wait", "--for=condition=Ready", "pod", name, "-n", SPACE, "--timeout=600s"]).unwrap();
}

fn exec(rig: &Rig, pod: &str, script: &str) -> String {
    rig.admin.run(&["exec", pod, "-n", SPACE, "--", "sh", "-c", script]).unwrap()
}

/// The pod's `DriftEvents` that say what was done.
fn events(rig: &Rig, pod: &str) -> Vec<Value> {
    let all = rig.admin.json(&["get", "driftevents", "-n", SPACE]).unwrap();
    let all = all["items"].as_array().unwrap().clone();
    let its = |event: &Value| event["spec"]["pod"]["name"] == pod && event["status"]["containerAction"].is_object();
    all.into_iter().filter(its).collect()
}

/// Waits for an outcome that says so; gives the event.
#[track_caller]
fn awaited(rig: &Rig, pod: &str, result: &str, said: &str) -> Value {
    let mut found = None;
    eventually(&format!("{pod}: {result}, {said:?}"), || {
        found = events(rig, pod).into_iter().find(|event| {
            let done = &event["status"]["containerAction"];
            done["result"] == result && done["outcome"].as_str().is_some_and(|text| text.contains(said))
        });
        found.is_some()
    });
    found.unwrap()
}

#[track_caller]
fn told_on_pod(rig: &Rig, pod: &str, reason: &str) {
    eventually(&format!("an Event {reason} on {pod}"), || {
        let events = rig.admin.json(&["get", "events.v1.events.k8s.io", "-n", SPACE]).unwrap();
        events["items"]
            .as_array()
            .unwrap()
            .iter()
            .any(|event| event["reason"] == reason && event["regarding"]["name"] == pod)
    });
}

fn exit_code(rig: &Rig, name: &str) -> i64 {
    let mut code = None;
    eventually(&format!("the kubelet's word of {name}'s end"), || {
        let pod = rig.admin.json(&["get", "pod", name, "-n", SPACE]).unwrap();
        code = pod["status"]["containerStatuses"][0]["state"]["terminated"]["exitCode"].as_i64();
        code.is_some()
    });
    code.unwrap()
}

fn count(rig: &Rig, uid: &str) -> String {
    rig.on_node(&format!("wc -l </var/lib/kubelet/pods/{uid}/volumes/kubernetes.io~empty-dir/work/count"))
}

fn go(rig: &Rig, uid: &str) {
    rig.on_node(&format!("touch /var/lib/kubelet/pods/{uid}/volumes/kubernetes.io~empty-dir/work/go"));
}

fn uid(rig: &Rig, pod: &str) -> String {
    let pod = rig.admin.json(&["get", "pod", pod, "-n", SPACE]).unwrap();
    pod["metadata"]["uid"].as_str().unwrap().to_owned()
}

#[track_caller]
fn goes_on(rig: &Rig, uid: &str) {
    let before = count(rig, uid);
    eventually("it goes on", || count(rig, uid) != before);
}

#[track_caller]
fn stands_still(rig: &Rig, uid: &str) {
    let before = count(rig, uid);
    std::thread::sleep(std::time::Duration::from_secs(2));
    assert_eq!(before, count(rig, uid), "it goes on");
}

#[test]
#[ignore = "boots a guest: make test-pods"]
fn containers_are_acted_on() {
    let rig = rig();
    rig.run(SPACE, || {
        rig.protect(
            SPACE,
            &[
                acting("pauses", "paused", &json!({"container": "Pause", "pauseTimeout": "2h"})),
                acting("stops", "stopped", &json!({"container": "Stop"})),
                acting("signals", "signalled", &json!({"container": "Stop"})),
                acting("kills", "killed", &json!({"container": "Kill"})),
                acting("held", "held", &json!({"container": "Kill", "prevent": true})),
            ],
        );
        killed(rig);
        stopped(rig);
        paused(rig);
        switched(rig);
        rig.clear(SPACE);
    });
}

fn killed(rig: &Rig) {
    start(rig, "killed", WAITS, 0);
    go(rig, &uid(rig, "killed"));
    assert_eq!(exit_code(rig, "killed"), 137);
    let event = awaited(rig, "killed", "Done", "every process was killed");
    assert!(event["status"]["containerAction"]["durationMilliseconds"].is_i64(), "{event}");
    told_on_pod(rig, "killed", "ContainerKilled");
}

/// As another user than the agent: a signal to it asks for a capability.
fn stopped(rig: &Rig) {
    // Each signal has an exit code of its own.
    let script = format!("trap 'exit 7' TERM; trap 'exit 8' USR1; {WAITS}");
    for (name, signal, code) in [("stopped", None, 7), ("signalled", Some("SIGUSR1"), 8)] {
        let mut container = container(&script, 1000);
        if let Some(signal) = signal {
            container["lifecycle"] = json!({"stopSignal": signal});
        }
        start_container(rig, name, &container);
        let made = rig.admin.json(&["get", "pod", name, "-n", SPACE]).unwrap();
        assert_eq!(made["spec"]["containers"][0]["lifecycle"]["stopSignal"].as_str(), signal, "as it was written");
        let uid = uid(rig, name);
        rig.on_node(&format!("chmod 777 /var/lib/kubelet/pods/{uid}/volumes/kubernetes.io~empty-dir/work"));
        go(rig, &uid);
        assert_eq!(exit_code(rig, name), code);
        let signal = signal.unwrap_or("SIGTERM");
        awaited(rig, name, "Done", &format!("every process ended after {signal}"));
        told_on_pod(rig, name, "ContainerStopped");
    }
}

fn paused(rig: &Rig) {
    start(rig, "paused", WAITS, 0);
    let uid = uid(rig, "paused");
    goes_on(rig, &uid);
    let annotate = |event: &Value| {
        let name = event["metadata"]["name"].as_str().unwrap();
        rig.admin.run(&["annotate", "driftevent", name, "-n", SPACE, "mooring.dev/resume=true"]).unwrap();
    };
    go(rig, &uid);
    let event = awaited(rig, "paused", "Done", "every process is paused");
    told_on_pod(rig, "paused", "ContainerPaused");
    stands_still(rig, &uid);
    // What a workload could do to its own pod ends no pause.
    rig.admin.run(&["annotate", "pod", "paused", "-n", SPACE, "mooring.dev/resume=true"]).unwrap();
    std::thread::sleep(std::time::Duration::from_secs(8));
    stands_still(rig, &uid);
    annotate(&event);
    let event = awaited(rig, "paused", "Done", "resumed by an annotation on its DriftEvent");
    told_on_pod(rig, "paused", "ContainerResumed");
    goes_on(rig, &uid);
    eventually("the annotation's end", || {
        let event =
            rig.admin.json(&["get", "driftevent", event["metadata"]["name"].as_str().unwrap(), "-n", SPACE]).unwrap();
        event["metadata"]["annotations"]["mooring.dev/resume"].is_null()
    });
    // Paused by one agent and resumed by the next, which wrote none of the events.
    go(rig, &uid);
    let event = awaited(rig, "paused", "Done", "every process is paused");
    stands_still(rig, &uid);
    let before = life(rig);
    rig.on_node(&format!("kill -KILL {}", process(rig)));
    await_next_agent(rig, &before);
    stands_still(rig, &uid);
    annotate(&event);
    awaited(rig, "paused", "Done", "resumed by an annotation on its DriftEvent");
    goes_on(rig, &uid);
}

/// What is changed in the release reaches the agent that runs.
fn switched(rig: &Rig) {
    start(rig, "held", WAITS, 0);
    let uid = uid(rig, "held");
    let before = life(rig);
    let helm = rig.cluster.helm(HelmVersion::Four).unwrap();
    let node = || rig.admin.json(&["get", "driftnode", NODE]).unwrap();
    // Helm 4 changes no field that somebody else has written, unless it is told to.
    let set = |value: &str| helm.upgrade(&["--reuse-values", "--force-conflicts", "--set", value]).unwrap();
    let is_on = |on: &[&str]| {
        eventually(&format!("switches {on:?}"), || {
            let switches = node()["status"]["switches"].clone();
            switches == json!(on) || (on.is_empty() && switches.is_null())
        });
    };
    set("agent.config.ignoreActions=true");
    is_on(&["ignoreActions"]);
    eventually("a node that says what it holds back", || {
        condition(&node(), "Degraded").is_some_and(|c| c["status"] == "True" && c["reason"] == "ActionsHeldBack")
    });
    eventually("a policy that says so", || {
        rig.admin.json(&["get", "cdp", "held"]).unwrap()["status"].to_string().contains("ignoreActions")
    });
    go(rig, &uid);
    let event = awaited(rig, "held", "HeldBack", "ignoreActions is on");
    assert_eq!(
        event["status"]["heldBack"],
        json!([{"what": "Prevent", "by": "ignoreActions"}, {"what": "Kill", "by": "ignoreActions"}])
    );
    assert_eq!(event["spec"]["verdict"], "Detected");
    assert_eq!(exec(rig, "held", "echo lives"), "lives\n");
    // By hand, and wrong: the last good one stays.
    let wrong = json!({"data": {"config.yaml": "ignoreEverything: true\n"}}).to_string();
    rig.admin
        .run(&["patch", "configmap", "mooring-enforcer", "-n", "mooring-system", "--type=merge", "-p", &wrong])
        .unwrap();
    eventually("a configuration that is refused", || {
        condition(&node(), "Degraded")
            .is_some_and(|c| c["message"].as_str().unwrap_or_default().contains("ignoreEverything: is not a field"))
    });
    is_on(&["ignoreActions"]);
    set("agent.config.ignoreActions=false");
    is_on(&[]);
    rig.await_enforced("held");
    go(rig, &uid);
    assert_eq!(exit_code(rig, "held"), 137);
    let event = awaited(rig, "held", "Done", "every process was killed");
    assert_eq!(event["spec"]["verdict"], "Denied");
    assert_eq!(life(rig), before, "the agent was restarted");
}
