//! Floods without a node: records fed in where the agent decodes, and a hundred agents at once.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use mooring_e2e::cluster::{Cluster, Kubectl};
use serde_json::{Value, json};

use crate::found;
use crate::rig::{built, start};

const AGENTS: usize = 100;
/// What D9 of a node's events allows: alive at once on a node, and in a container with the one that counts the rest.
const NODE_MOST: usize = 200;
const CONTAINER_MOST: usize = 11;

/// `examples/load.rs`, optimised.
fn load(arguments: &[&str]) -> Value {
    let program = built("../release/examples/load", "cargo build --release -p mooring-node-enforcer --example load");
    let output = Command::new(program).args(arguments).stderr(Stdio::inherit()).output().unwrap();
    assert!(output.status.success(), "{arguments:?}");
    serde_json::from_slice(&output.stdout).unwrap()
}

fn kubeconfig(cluster: &Cluster, node: &str) -> PathBuf {
    let object = json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": node}});
    cluster.kubectl().apply(&object.to_string()).unwrap();
    let account = cluster.kubectl_of_account("mooring-system", "mooring-enforcer", Some(node)).unwrap();
    account.kubeconfig().to_owned()
}

fn counts(admin: &Kubectl) -> Vec<u64> {
    let events = admin.json(&["get", "driftevents", "-n", "default"]).unwrap();
    events["items"].as_array().unwrap().iter().map(|event| event["status"]["count"].as_u64().unwrap()).collect()
}

#[test]
#[ignore = "make bench"]
fn resolving_a_pod() {
    found(&load(&["resolve"])["numbers"]);
}

#[test]
#[ignore = "starts a control plane and takes minutes: make bench"]
fn floods_stay_within_their_caps() {
    let cluster = start();
    let admin = cluster.kubectl();
    let node = kubeconfig(&cluster, "node1");
    let said = load(&["records", "node1", node.to_str().unwrap(), "default", "60"]);
    let told = counts(&admin);
    println!("{said}: {} events", told.len());
    // Exactly what happened, in ten events a container and one for all the rest.
    assert_eq!(told.len(), 2 * CONTAINER_MOST);
    assert_eq!(told.iter().sum::<u64>() + said["suppressed"].as_u64().unwrap(), said["total"].as_u64().unwrap());
    found(&said["numbers"]);
    admin.run(&["delete", "driftevents", "-n", "default", "--all"]).unwrap();

    let folder = std::env::temp_dir().join(format!("mooring-agents-{}", std::process::id()));
    fs::create_dir_all(&folder).unwrap();
    for number in 0..AGENTS {
        let name = format!("agent{number}");
        fs::copy(kubeconfig(&cluster, &name), folder.join(&name)).unwrap();
    }
    let ended = AtomicBool::new(false);
    let (said, slowest) = thread::scope(|scope| {
        let watched = scope.spawn(|| {
            let mut slowest = Duration::ZERO;
            while !ended.load(Ordering::Relaxed) {
                let begun = Instant::now();
                // A request that fails is a failed test.
                admin.run(&["get", "--raw", "/readyz"]).unwrap();
                slowest = slowest.max(begun.elapsed());
                thread::sleep(Duration::from_secs(1));
            }
            slowest
        });
        let said = load(&["agents", folder.to_str().unwrap(), "default", "60"]);
        ended.store(true, Ordering::Relaxed);
        (said, watched.join().unwrap())
    });
    let told = counts(&admin);
    println!("{said}: {} events; the slowest /readyz took {slowest:?}", told.len());
    assert!(told.len() <= AGENTS * NODE_MOST);
    assert_eq!(told.len(), AGENTS * 10);
    let each = said["count"].as_u64().unwrap();
    assert!(told.iter().all(|count| *count == each), "{each}: {told:?}");
    let writes = cluster.audit().unwrap().into_iter().filter(|request| {
        request.writes() && request.user.ends_with(":mooring-enforcer") && request.event.to_string().contains("agent")
    });
    found(&json!({
        "agents-told-per-second": said["numbers"]["told-per-second"], "agents-writes": writes.count(),
        "agents-readyz-worst-ms": slowest.as_secs_f64() * 1000.0,
    }));
    fs::remove_dir_all(&folder).unwrap();
}
