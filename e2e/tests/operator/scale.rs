//! A thousand nodes: how long one edit takes to be in every `ConfigMap`, and what the operator needs for it. Part of `make bench`.

use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::rig::{Rig, eventually};

const NODES: usize = 1000;
/// Where the numbers go.
const OUT: &str = "MOORING_BENCH_OUT";

/// How many nodes are handed a policy with these words.
fn with(rig: &Rig, description: &str) -> usize {
    let list = rig.kubectl.json(&["get", "configmaps", "-n", "mooring-nodes"]).unwrap();
    let word = format!("\"description\":\"{description}\"");
    let has = |map: &&Value| map["data"]["policies.json"].as_str().is_some_and(|text| text.contains(&word));
    list["items"].as_array().unwrap().iter().filter(has).count()
}

#[test]
#[ignore = "starts a control plane and takes minutes: make bench"]
fn one_edit_on_a_thousand_nodes() {
    let rig = Rig::begin();
    let operator = rig.operator("one", &["--lease-seconds", "15"]);
    let nodes: Vec<String> = (0..NODES)
        .map(|number| json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": format!("n{number:04}"), "labels": {"pool": "a"}}}).to_string())
        .collect();
    rig.kubectl.run_with(&["create", "-f", "-"], &nodes.join("\n")).unwrap();
    rig.policy("p", json!({"description": "w0"}));
    eventually("the first wording everywhere", || with(&rig, "w0") == NODES);
    let mut seconds = Vec::new();
    for number in 1..=3 {
        thread::sleep(Duration::from_secs(3));
        let begun = Instant::now();
        rig.policy("p", json!({"description": format!("w{number}")}));
        // By the operator's own count first: a list of everything costs the API server more than the writes.
        let done = |operator: &super::rig::Operator| operator.metric("mooring_operator_nodes{what=\"waiting\"}");
        let word = format!("w{number}");
        eventually("the edit everywhere", || done(&operator) == 0.0 && with(&rig, &word) == NODES);
        seconds.push(begun.elapsed().as_secs_f64());
    }
    seconds.sort_by(f64::total_cmp);
    let status = std::fs::read_to_string(format!("/proc/{}/status", operator.pid())).unwrap();
    let resident = |name: &str| -> u64 {
        let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        line.trim().trim_end_matches(" kB").parse().unwrap()
    };
    let found = json!({"numbers": {
        "thousand-edit-ms": seconds[1] * 1000.0, "thousand-edit-worst-ms": seconds[2] * 1000.0,
        "thousand-memory-kib": resident("VmRSS:"), "thousand-peak-kib": resident("VmHWM:"),
    }});
    println!("{found}");
    if let Some(path) = std::env::var_os(OUT) {
        std::fs::write(path, found.to_string()).unwrap();
    }
    assert_eq!(operator.end(), Some(0));
}
