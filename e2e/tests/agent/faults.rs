//! What the agent depends on fails: etcd, watches, its state folder, its token.

use std::fs;
use std::path::Path;
use std::thread;
use std::time::Duration;

use mooring_e2e::cluster::{Cluster, Component, Kubectl};
use mooring_e2e::testing::eventually;
use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::played::{Loop, State, agent_of, count_of, event, node, prevents};
use crate::rig::{condition, hand, operator, start};

/// A first life's beginning.
const FIRST: &str = "2026-01-01T00:00:00.000000Z";

#[test]
#[ignore = "starts a control plane: make test-agent"]
fn what_the_agent_depends_on_fails() {
    let cluster = start();
    let (admin, operator) = (cluster.kubectl(), operator(&cluster));
    for name in ["node1", "node2", "node3", "node4"] {
        node(&admin, name);
        hand(&operator, name, 1, &[("p", prevents())]);
    }
    let state = State::new("faults");
    let mut agent = Loop::begin(&agent_of(&cluster, "node1"), "node1", &state.0);
    agent.await_rules(1, "ConfigMap");
    database_restarts(&cluster, &mut agent);
    watches_expire(&cluster, &agent);
    written_again(&admin, &operator, &agent);
    assert!(agent.given().is_sorted(), "{:?}", agent.given());
    eventually("the rules on the disk", || kept(&state.0) == Some(5));
    agent.end();
    // The last takes a minute, most of which is waiting.
    thread::scope(|scope| {
        let token = scope.spawn(|| token_ends(&cluster));
        folder_is_read_only(&cluster, &state.0);
        folder_is_full(&cluster, &state.0);
        token.join().unwrap();
    });
}

/// etcd restarts.
fn database_restarts(cluster: &Cluster, agent: &mut Loop) {
    let (admin, operator) = (cluster.kubectl(), operator(cluster));
    cluster.stop_component(Component::Etcd);
    agent.tell(&event("default", "meanwhile", 3, FIRST));
    // An API server without its database says nothing for long: until the agent gives a request up.
    thread::sleep(Duration::from_secs(18));
    cluster.start_component(Component::Etcd).unwrap();
    cluster.await_api().unwrap();
    hand(&operator, "node1", 2, &[("p", prevents())]);
    agent.await_rules(2, "ConfigMap");
    eventually("what happened meanwhile", || count_of(&admin, "meanwhile") == Some(3));
}

/// The agent sleeps while the API server forgets what its watches would go on from.
fn watches_expire(cluster: &Cluster, agent: &Loop) {
    let (admin, operator) = (cluster.kubectl(), operator(cluster));
    let version = |object: &Value| object["metadata"]["resourceVersion"].as_str().unwrap().to_owned();
    let old = version(&admin.json(&["get", "configmap", "node1", "-n", "mooring-nodes"]).unwrap());
    agent.signal(Signal::SIGSTOP);
    cluster.stop_component(Component::ApiServer);
    cluster.start_component(Component::ApiServer).unwrap();
    cluster.await_api().unwrap();
    for revision in 3..=4 {
        hand(&operator, "node1", revision, &[("p", prevents())]);
    }
    let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "late"}, "spec": {"nodeName": "node1",
        "containers": [{"name": "main", "image": "x"}]}});
    eventually("the service account", || admin.apply(&pod.to_string()).is_ok());
    let watch = format!("/api/v1/namespaces/mooring-nodes/configmaps?watch=1&timeoutSeconds=1&resourceVersion={old}");
    let said = admin.run(&["get", "--raw", &watch]);
    assert!(format!("{said:?}").contains("too old resource version"), "{said:?}");
    agent.signal(Signal::SIGCONT);
    agent.await_rules(4, "ConfigMap");
    let uid = admin.json(&["get", "pod", "late"]).unwrap()["metadata"]["uid"].as_str().unwrap().to_owned();
    eventually("the pod that came meanwhile", || agent.heard_of("pods", &uid));
}

/// The same content again and again, each time with another version.
fn written_again(admin: &Kubectl, operator: &Kubectl, agent: &Loop) {
    let mut map = admin.json(&["get", "configmap", "node1", "-n", "mooring-nodes"]).unwrap();
    map["metadata"].as_object_mut().unwrap().remove("resourceVersion");
    for number in 0..3 {
        map["metadata"]["annotations"] = json!({"touched": number.to_string()});
        operator.run_with(&["replace", "-f", "-"], &map.to_string()).unwrap();
    }
    hand(operator, "node1", 5, &[("p", prevents())]);
    agent.await_rules(5, "ConfigMap");
}

/// The revision of the rules in a state folder.
pub fn kept(folder: &Path) -> Option<u64> {
    let file: Value = serde_json::from_str(&fs::read_to_string(folder.join("rules.json")).ok()?).ok()?;
    let policies: Value = serde_json::from_str(file["policies.json"].as_str()?).ok()?;
    policies["revision"].as_u64()
}

/// An agent whose state folder is what `script` makes of it in a mount namespace of its own.
fn with_folder(cluster: &Cluster, node: &str, folder: &Path, script: &str) -> Loop {
    let script = format!("set -e; {script}; exec \"$@\"");
    let before = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", &script, folder.to_str().unwrap()];
    Loop::begin_with(agent_of(cluster, node).kubeconfig(), node, folder, &before)
}

/// What is said of a file that could not be kept.
fn not_kept(admin: &Kubectl, node: &str) -> Option<String> {
    condition(admin, node, "Degraded").and_then(|(_, reason, message)| (reason == "StateNotKept").then_some(message))
}

/// The rules were tried to be kept, not only the labels.
fn await_rules_not_kept(admin: &Kubectl, node: &str) {
    eventually("that the rules are not kept", || {
        not_kept(admin, node).is_some_and(|message| message.contains("rules.json"))
    });
}

fn folder_is_read_only(cluster: &Cluster, folder: &Path) {
    let (admin, operator) = (cluster.kubectl(), operator(cluster));
    let script = "mount --bind \"$0\" \"$0\"; mount -o remount,bind,ro \"$0\"";
    let agent = with_folder(cluster, "node2", folder, script);
    eventually("the last good rules", || agent.given().first() == Some(&(5, "Disk".to_owned())));
    hand(&operator, "node2", 6, &[("p", prevents())]);
    agent.await_rules(6, "ConfigMap");
    await_rules_not_kept(&admin, "node2");
    assert_eq!(kept(folder), Some(5));
    agent.end();
}

fn folder_is_full(cluster: &Cluster, folder: &Path) {
    let (admin, operator) = (cluster.kubectl(), operator(cluster));
    // Four pages: one for the rules, and no room for a second file.
    let script = "cp \"$0/rules.json\" /dev/shm/mooring-$$; mount -t tmpfs -o size=16k none \"$0\"; \
        mv /dev/shm/mooring-$$ \"$0/rules.json\"; head -c 12288 /dev/zero >\"$0/ballast\"";
    let agent = with_folder(cluster, "node3", folder, script);
    eventually("the last good rules", || agent.given().first() == Some(&(5, "Disk".to_owned())));
    hand(&operator, "node3", 6, &[("p", prevents())]);
    agent.await_rules(6, "ConfigMap");
    await_rules_not_kept(&admin, "node3");
    assert_eq!(kept(&agent.sees(folder)), Some(5));
    fs::remove_file(agent.sees(folder).join("ballast")).unwrap();
    eventually("that there is room", || not_kept(&admin, "node3").is_none());
    assert_eq!(kept(&agent.sees(folder)), Some(6));
    agent.end();
}

/// The Node is deleted and made anew under its name, and with it the agent's token ends, though its process goes on. It says so, and
/// goes on by itself when the token in its file is a new one.
fn token_ends(cluster: &Cluster) {
    let (admin, operator, state) = (cluster.kubectl(), operator(cluster), State::new("token"));
    let folder = State::new("token-file");
    fs::create_dir_all(&folder.0).unwrap();
    let (file, kubeconfig) = (folder.0.join("token"), folder.0.join("kubeconfig"));
    // As `agent_of`, by a file that is read again.
    let renew = || {
        let made = fs::read_to_string(agent_of(cluster, "node4").kubeconfig()).unwrap();
        let mut config: Value = serde_json::from_str(&made).unwrap();
        let user = &mut config["users"][0]["user"];
        let token = user["token"].as_str().unwrap().to_owned();
        *user = json!({"tokenFile": file});
        fs::write(&file, token).unwrap();
        config.to_string()
    };
    fs::write(&kubeconfig, renew()).unwrap();
    let mut agent = Loop::begin_with(&kubeconfig, "node4", &state.0, &[]);
    agent.await_rules(1, "ConfigMap");
    eventually("Ready", || condition(&admin, "node4", "Ready").is_some());
    admin.run(&["delete", "node", "node4"]).unwrap();
    node(&admin, "node4");
    let told = event("default", "renewed", 2, FIRST).replace("node1", "node4");
    eventually("what is to be done", || {
        // Until the API server has forgotten that the token was good.
        agent.tell(&told);
        thread::sleep(Duration::from_secs(2));
        agent.log().contains("delete the agent's pod")
    });
    renew();
    agent.tell(&told.replace("\"count\":2", "\"count\":7"));
    eventually("what was told meanwhile", || count_of(&admin, "renewed") == Some(7));
    hand(&operator, "node4", 2, &[("p", prevents())]);
    agent.await_rules(2, "ConfigMap");
    let uid = admin.json(&["get", "node", "node4"]).unwrap()["metadata"]["uid"].clone();
    eventually("a DriftNode of the new Node", || {
        admin.json(&["get", "driftnode", "node4"]).is_ok_and(|object| {
            object["metadata"]["ownerReferences"][0]["uid"] == uid && object["status"]["applied"]["revision"] == 2
        })
    });
    agent.end();
}
