//! What much of everything costs the agent, for `make bench`: prints one line of JSON.
//!
//! | command | does |
//! |---|---|
//! | `resolve` | resolves pods among 500 and 10,000 namespaces, by 64 policies |
//! | `records NODE KUBECONFIG NAMESPACE SECONDS` | decodes kernel records as fast as it can, counts them, and tells the API server |
//! | `agents FOLDER NAMESPACE SECONDS` | the same events again and again from as many agents as the folder has kubeconfigs, each named by its node |
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::cast_precision_loss,
    clippy::indexing_slicing
)]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use mooring_bpf::wire::{Wire, file_class, name_index, name_state, violation_record};
use mooring_crd::{DriftEvent, policy_from_value};
use mooring_node_enforcer::agent::{Labels, Sink, Source, UnknownContainers, violation_of};
use mooring_node_enforcer::cluster::{ClusterSink, ClusterSource, Connection, Directory, Options, PodFacts, connect};
use mooring_node_enforcer::containers::{Container, Root, Runtime};
use mooring_node_enforcer::kernel::Record;
use mooring_node_enforcer::report::{Aggregator, Limits};
use mooring_policy::{NodeDefaults, RuleSet, compile};
use serde_json::{Value, json};

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let found = match words[..] {
        ["resolve"] => resolve(),
        ["records", node, kubeconfig, namespace, seconds] => {
            records(node, Path::new(kubeconfig), namespace, Duration::from_secs(seconds.parse().unwrap()))
        }
        ["agents", folder, namespace, seconds] => {
            agents(Path::new(folder), namespace, Duration::from_secs(seconds.parse().unwrap()))
        }
        _ => panic!("see the table in examples/load.rs"),
    };
    println!("{found}");
}

fn container(number: usize, namespace: &str) -> Container {
    Container {
        id: format!("{number:064x}"),
        runtime: Runtime::Other,
        namespace: namespace.to_owned(),
        pod: format!("pod-{number}"),
        pod_uid: Some(uid(number)),
        name: "main".to_owned(),
        sandbox: false,
        image: Some("registry.example.com/payments/api:1".to_owned()),
        labels: BTreeMap::new(),
        labels_known: false,
        cgroup: String::new(),
        cgroup_id: number as u64,
        init_pid: None,
        root: Root {
            path: "/".into(),
            dev: 1,
            ino: 1,
            overlay: true,
            upper_dir: None,
            lower_dirs: Vec::new(),
            user_xattrs: false,
        },
        volumes: Vec::new(),
    }
}

fn uid(number: usize) -> String {
    format!("00000000-0000-0000-0000-{number:012x}")
}

fn labels(pairs: &[(&str, String)]) -> Labels {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), value.clone())).collect()
}

fn rules(count: usize) -> RuleSet {
    let policies: Vec<_> = (0..count)
        .map(|number| {
            let scope = json!({
                "namespaceSelector": {"matchExpressions": [{"key": "team", "operator": "In", "values": [format!("team-{number}"), "shared"]}]},
                "podSelector": {"matchLabels": {"tier": "backend"}, "matchExpressions": [{"key": "app", "operator": "NotIn", "values": ["builder"]}]},
                "images": ["registry.example.com/*"],
            });
            let scope = if count == 1 { json!({}) } else { scope };
            policy_from_value(json!({
                "apiVersion": "mooring.dev/v1alpha1", "kind": "ContainerDriftPolicy", "metadata": {"name": format!("p-{number}")},
                "spec": {"scope": scope, "actions": {"prevent": true}},
            }))
            .unwrap()
        })
        .collect();
    compile(&policies, NodeDefaults::default()).rules
}

/// The middle and the longest of 500 pods, in microseconds.
fn resolve() -> Value {
    let (mut directory, rules) = (Directory::default(), rules(64));
    for number in 0..10_000 {
        let labels = labels(&[("team", format!("team-{}", number % 100)), ("stage", "production".to_owned())]);
        directory.namespace(&format!("namespace-{number}"), labels);
    }
    for number in 0..500 {
        let facts = PodFacts {
            namespace: format!("namespace-{}", number * 20),
            name: format!("pod-{number}"),
            labels: labels(&[("app", format!("app-{number}")), ("tier", "backend".to_owned())]),
            ..PodFacts::default()
        };
        directory.pod(uid(number), facts);
    }
    let mut times: Vec<Duration> = Vec::new();
    let mut matched = 0;
    for number in 0..500 {
        let container = container(number, &format!("namespace-{}", number * 20));
        let begun = Instant::now();
        let member =
            directory.surroundings(&container, "node1").member(&rules, &container, UnknownContainers::DenyDrift);
        times.push(begun.elapsed());
        matched += usize::from(!member.is_empty());
    }
    assert!(matched > 100, "{matched}");
    times.sort();
    let micro = |time: Duration| time.as_secs_f64() * 1e6;
    json!({"numbers": {"resolve-us": micro(times[250]), "resolve-worst-us": micro(times[499])}})
}

fn agent(node: &str, kubeconfig: PathBuf) -> (ClusterSource, ClusterSink, Connection) {
    let state_dir = std::env::temp_dir().join(format!("mooring-load-{node}-{}", std::process::id()));
    let ready_file = state_dir.join("ready");
    connect(Options { kubeconfig: Some(kubeconfig), node: node.to_owned(), state_dir, ready_file }).unwrap()
}

/// Two containers, 100 files each: a record for every execution, none of which the kernel has counted together.
fn records(node: &str, kubeconfig: &Path, namespace: &str, lasts: Duration) -> Value {
    let (_source, mut sink, connection) = agent(node, kubeconfig.to_owned());
    let rules = rules(1);
    let containers: Vec<Arc<Container>> = (0..2).map(|number| Arc::new(container(number, namespace))).collect();
    let bytes: Vec<Vec<u8>> = (0..200).map(|number| record(number).as_bytes().to_vec()).collect();
    let mut aggregator = Aggregator::new(node.to_owned(), Limits::default());
    let (begun, mut total) = (Instant::now(), 0_u64);
    while begun.elapsed() < lasts {
        for bytes in &bytes {
            let record = Record::decode(bytes).unwrap();
            let container = &containers[usize::try_from(record.key.container).unwrap()];
            let violation = violation_of(container, record, 1, &rules).unwrap();
            sink.take(aggregator.record(&violation, &rules, begun.elapsed()));
            total += 1;
        }
        sink.take(aggregator.due(begun.elapsed()));
    }
    let took = begun.elapsed();
    sink.take(aggregator.flush(took));
    // Until the last counts of 22 events, and of as many Events on their pods, are written: one in five seconds.
    thread::sleep(Duration::from_mins(4));
    connection.end();
    json!({"total": total, "suppressed": aggregator.suppressed(), "numbers": {"records-per-second": total as f64 / took.as_secs_f64()}})
}

fn record(number: usize) -> violation_record {
    let mut record = violation_record::from_bytes(&vec![0; size_of::<violation_record>()]).unwrap();
    record.key.container = (number % 2) as u64;
    record.key.inode = number as u64;
    record.key.drift = 1;
    record.key.file_class = file_class::CLASS_NEW_BINARY.0.try_into().unwrap();
    record.denied = 1;
    record.pid = 7;
    let path = format!("/tmp/dropped-{number}");
    let index = name_index::NAME_INDEX_PATH.0 as usize;
    record.name_states[index] = name_state::NAME_PATH.0;
    let name = &mut record.names[index].bytes;
    let begin = name.len() - path.len();
    name[begin..].copy_from_slice(path.as_bytes());
    record
}

/// Ten events an agent, each told as often as it goes.
fn agents(folder: &Path, namespace: &str, lasts: Duration) -> Value {
    let mut all: Vec<(String, (ClusterSource, ClusterSink, Connection))> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| {
            let path = entry.unwrap().path();
            let node = path.file_name().unwrap().to_str().unwrap().to_owned();
            (node.clone(), agent(&node, path))
        })
        .collect();
    let (begun, mut count) = (Instant::now(), 0_i64);
    while begun.elapsed() < lasts {
        count += 1;
        for (node, (source, sink, _)) in &mut all {
            let _ = source.changes();
            sink.take((0..10).map(|number| event(node, namespace, number, count)).collect());
        }
    }
    let took = begun.elapsed();
    thread::sleep(Duration::from_mins(2));
    let agents = all.len();
    let ends: Vec<_> = all.into_iter().map(|(_, (.., connection))| thread::spawn(|| connection.end())).collect();
    for end in ends {
        end.join().unwrap();
    }
    json!({"count": count, "agents": agents, "numbers": {"told-per-second": (count * 10) as f64 * agents as f64 / took.as_secs_f64()}})
}

fn event(node: &str, namespace: &str, number: usize, count: i64) -> DriftEvent {
    serde_json::from_value(json!({
        "apiVersion": "mooring.dev/v1alpha1", "kind": "DriftEvent",
        "metadata": {"name": format!("load-{node}-{number}"), "namespace": namespace},
        "spec": {
            "policy": "p", "severity": "High", "reason": "NewBinary", "verdict": "Denied", "node": node, "pod": {"name": "api"},
            "container": "main", "containerID": "c", "path": format!("/tmp/{number}"), "process": {"pid": 1, "uid": 0},
        },
        "status": {"count": count, "firstSeen": "2026-01-01T00:00:00.000000Z", "lastSeen": "2026-01-01T00:00:01.000000Z"},
    }))
    .unwrap()
}
