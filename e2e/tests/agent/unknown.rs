//! What a container may do while its agent has not heard of its pod: either setting, on a real node.

use mooring_e2e::cluster::{Cluster, Kubectl, Node, NodeOptions};
use mooring_e2e::testing::{eventually, explained, show};
use mooring_e2e::vm::boot::Payload;
use serde_json::json;

use crate::played::{State, agent_of};
use crate::relay::Relay;
use crate::rig::{enforcer, hand, operator, start};

/// Tries a dropped program, and one of its image, again and again. What the shell cannot execute ends with 126.
const TRIES: &str = "mkdir /d; cp /bin/busybox /d/; while :; do
    /d/busybox true 2>/dev/null
    case $? in 0) echo RAN ;; 126) echo REFUSED ;; *) echo DISTURBED ;; esac
    /bin/busybox true || echo DISTURBED
    sleep 1
done";
const LOG: &str = "/run/agent.log";

#[test]
#[ignore = "boots a guest: make test-agent"]
fn what_an_unknown_pod_may_do_is_a_setting() {
    let cluster = start();
    let mut options = NodeOptions::new("node1", "6.12".parse().unwrap());
    options.payload = vec![Payload { file: enforcer(), path: "/usr/local/bin/mooring-enforcer".to_owned() }];
    let node = cluster.start_node(&options).unwrap();
    cluster.await_ready(&node).unwrap();
    explained(
        || both(&cluster, &node),
        || {
            show(&cluster.kubectl(), &[]);
            eprintln!("{}", node.run(&["cat", LOG]).unwrap_or_default());
        },
    );
}

fn both(cluster: &Cluster, node: &Node) {
    let admin = cluster.kubectl();
    let namespace =
        json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "shop", "labels": {"team": "shop"}}});
    admin.apply(&namespace.to_string()).unwrap();
    let scope = json!({"namespaceSelector": {"matchLabels": {"team": "shop"}}, "podSelector": {"matchLabels": {"app": "guarded"}}});
    hand(&operator(cluster), "node1", 1, &[("p", json!({"scope": scope, "actions": {"prevent": true}}))]);
    let folder = State::new("unknown");
    let relay = Relay::before(&agent_of(cluster, "node1"), &folder.0);
    let mut input = std::io::Cursor::new(relay.kubeconfig_in_guest().into_bytes());
    node.exec_with(&["sh", "-c", "cat >/run/relay"], &mut input, &mut std::io::sink()).unwrap();
    one(node, &admin, &relay, "DenyDrift", "REFUSED");
    one(node, &admin, &relay, "Allow", "RAN");
}

/// With one setting, until its pods are known a dropped program's fate is `meanwhile`.
fn one(node: &Node, admin: &Kubectl, relay: &Relay, setting: &str, meanwhile: &str) {
    let run = format!(
        "mooring-enforcer run --cluster --node node1 --kubeconfig /run/relay --ready-file /run/ready-{setting} \
         --unknown-containers {setting} </dev/null >{LOG} 2>&1 & echo $! >/run/agent.pid"
    );
    node.run(&["sh", "-c", &run]).unwrap();
    let ready = ["mooring-enforcer", "ready", "--ready-file", &format!("/run/ready-{setting}")];
    eventually("rules in force", || node.exec(&ready).is_ok_and(|ended| ended.code == 0));

    relay.hold_pods(true);
    for app in ["guarded", "other"] {
        let pod = json!({
            "apiVersion": "v1", "kind": "Pod", "metadata": {"name": app, "namespace": "shop", "labels": {"app": app}},
            "spec": {"nodeName": "node1", "hostNetwork": true, "terminationGracePeriodSeconds": 0, "containers": [
                {"name": "main", "image": "docker.io/library/busybox:test", "command": ["sh", "-c", TRIES]},
            ]},
        });
        eventually("the namespace's service account", || admin.apply(&pod.to_string()).is_ok());
    }
    let tries = |app: &str| -> Vec<String> {
        let text = admin.run(&["logs", "-n", "shop", app]).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    };
    for app in ["guarded", "other"] {
        // Some more of them than one: nothing changes as long as nothing is heard.
        eventually("tries of an unknown pod", || tries(app).len() >= 5);
        assert!(tries(app).iter().all(|line| line == meanwhile), "{setting}, {app}: {:?}", tries(app));
    }
    relay.hold_pods(false);
    for (app, known) in [("guarded", "REFUSED"), ("other", "RAN")] {
        eventually(&format!("{known} of {app}, which is known, with {setting}"), || {
            tries(app).last().is_some_and(|line| line == known)
        });
    }
    let from = tries("guarded").len();
    eventually("more tries", || tries("guarded").len() >= from + 3);
    assert!(tries("guarded")[from..].iter().all(|line| line == "REFUSED"), "{setting}: {:?}", tries("guarded"));
    for app in ["guarded", "other"] {
        assert!(!tries(app).iter().any(|line| line == "DISTURBED"), "{setting}, {app}: {:?}", tries(app));
    }
    admin.run(&["delete", "pods", "--all", "-n", "shop", "--wait"]).unwrap();
    node.run(&[
        "sh",
        "-c",
        "kill $(cat /run/agent.pid) && while [ -d /proc/$(cat /run/agent.pid) ]; do sleep 0.2; done",
    ])
    .unwrap();
    node.run(&["mooring-enforcer", "release"]).unwrap();
}
