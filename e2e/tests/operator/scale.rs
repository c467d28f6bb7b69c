//! A thousand nodes: how long one edit takes to be in every `ConfigMap`, and what the operator needs for it. Part of `make bench`.

use std::thread;
use std::time::Duration;

use k8s_openapi::jiff::Timestamp;
use mooring_crd::access::Binary;
use mooring_e2e::cluster::Request;
use mooring_e2e::testing::eventually;
use serde_json::json;

use super::rig::Rig;

const NODES: usize = 1000;
/// Policies that each node has beside the one that is edited.
const OTHERS: usize = 20;
/// Where the numbers go.
const OUT: &str = "MOORING_BENCH_OUT";

/// How many nodes are handed a policy with these words.
fn with(rig: &Rig, description: &str) -> usize {
    let list = rig.kubectl.json(&["get", "configmaps", "-n", "mooring-nodes"]).unwrap();
    let word = format!("\"description\":\"{description}\"");
    let maps = list["items"].as_array().unwrap().iter();
    maps.filter(|map| map["data"]["policies.json"].as_str().is_some_and(|text| text.contains(&word))).count()
}

/// Milliseconds of a time in the audit log, since 1970.
fn ms(time: &str) -> f64 {
    let time: Timestamp = time.parse().unwrap();
    time.as_duration().as_secs_f64() * 1000.0
}

fn answered(request: &Request) -> f64 {
    ms(request.event["stageTimestamp"].as_str().unwrap())
}

#[test]
#[ignore = "starts a control plane and takes minutes: make bench"]
fn one_edit_on_a_thousand_nodes() {
    let rig = Rig::begin();
    let operator = rig.operator("one", &["--lease-seconds", "15"]);
    for number in 0..OTHERS {
        let paths: Vec<_> = (0..4).map(|n| json!({"path": format!("/usr/bin/tool-{number}-{n}")})).collect();
        rig.policy(&format!("other-{number}"), json!({"detect": {"prohibitedBinaries": paths}}));
    }
    rig.cluster.add_kwok_nodes(NODES).unwrap();
    rig.policy("p", json!({"description": "w0"}));
    eventually("the first wording everywhere", || {
        thread::sleep(Duration::from_secs(2));
        with(&rig, "w0") == NODES
    });
    let mut measured = Vec::new();
    for number in 1..=3 {
        // What an earlier wording set off has come to its end.
        thread::sleep(Duration::from_secs(5));
        let word = format!("w{number}");
        rig.policy("p", json!({"description": word}));
        // A list of everything costs the API server more than the writes: by the operator's own count first.
        eventually("the edit everywhere", || {
            thread::sleep(Duration::from_millis(500));
            operator.metric("mooring_operator_nodes{what=\"waiting\"}") == 0.0 && with(&rig, &word) == NODES
        });
        measured.push(edit(&rig.cluster.audit().unwrap(), &word));
    }
    measured.sort_by(|a, b| a.0.total_cmp(&b.0));
    let status = std::fs::read_to_string(format!("/proc/{}/status", operator.pid())).unwrap();
    let resident = |name: &str| -> u64 {
        let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        line.trim().trim_end_matches(" kB").parse().unwrap()
    };
    let found = json!({"numbers": {
        "thousand-edit-ms": measured[1].0, "thousand-edit-worst-ms": measured[2].0, "thousand-server-ms": measured[1].1,
        "thousand-memory-kib": resident("VmRSS:"), "thousand-peak-kib": resident("VmHWM:"),
    }});
    println!("{found}");
    if let Some(path) = std::env::var_os(OUT) {
        std::fs::write(path, found.to_string()).unwrap();
    }
    assert_eq!(operator.end(), Some(0));
}

/// By the API server's own log: milliseconds from the edit's arrival until the last `ConfigMap` was written, and how much of it the API
/// server had such a write to work on.
fn edit(requests: &[Request], word: &str) -> (f64, f64) {
    let user = Binary::Operator.user();
    let of_policy = |one: &&Request| {
        one.writes()
            && one.resource == "containerdriftpolicies"
            && one.event["responseObject"]["spec"]["description"] == word
    };
    let begun = ms(&requests.iter().find(of_policy).unwrap().at);
    let has = format!("\"description\":\"{word}\"");
    let mut writes: Vec<(f64, f64)> = requests
        .iter()
        .filter(|one| one.user == user && one.resource == "configmaps" && one.writes() && one.code < 300)
        .filter(|one| {
            one.event["responseObject"]["data"]["policies.json"].as_str().is_some_and(|text| text.contains(&has))
        })
        .map(|one| (ms(&one.at), answered(one)))
        .collect();
    assert_eq!(writes.len(), NODES, "one write for each node");
    writes.sort_by(|a, b| a.0.total_cmp(&b.0));
    let (mut worked, mut until) = (0.0, 0.0_f64);
    for (from, to) in writes {
        worked += (to - from.max(until)).max(0.0);
        until = until.max(to);
    }
    (until - begun, worked)
}
