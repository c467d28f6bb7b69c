//! What planning costs, the pure part alone: 15,000 nodes and 500 policies. Prints JSON; with `--bounds` it fails where one is missed.
//!
//! A plan is what the operator does between a change and the first write: policies are compiled, each node gets those that concern it,
//! and what it is to have is compared with what it has. The nodes' present `ConfigMap`s are read (digest and all) beforehand,
//! timed by itself, as they are at a start.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::time::{Duration, Instant};

use k8s_openapi::jiff::Timestamp;
use mooring_crd::{
    ContainerDriftPolicySpec, ContainerDriftPolicyStatus, Exception, LabelSelector, Operator, ProhibitedBinary,
    Requirement, Scope,
};
use mooring_operator::index::{Index, Write};
use mooring_operator::objects::{Change, ConfigMapObject, PolicyObject};
use mooring_policy::NodeDefaults;
use serde_json::json;

const NODES: usize = 15_000;
const POLICIES: usize = 500;
/// Labels of nodes that policies select by: each node has one pool and one zone, so that it gets about 60 policies.
const POOLS: usize = 50;
const FULL: Duration = Duration::from_secs(3);
const EDIT: Duration = Duration::from_millis(500);
const MEMORY_KIB: u64 = 500 * 1024;

fn policy(number: usize, generation: i64) -> Change {
    let mut spec = ContainerDriftPolicySpec {
        description: Some(format!("policy {number}, wording {generation}")),
        ..ContainerDriftPolicySpec::default()
    };
    spec.detect.exceptions =
        (0..6).map(|n| Exception { path: format!("/opt/agent-{number}/bin/updater-{n}"), sha256: None }).collect();
    spec.detect.prohibited_binaries =
        (0..6).map(|n| ProhibitedBinary { path: format!("/usr/local/bin/tool-{number}-{n}") }).collect();
    let selector = match number % 10 {
        // One in ten is for every node.
        0 => None,
        _ => Some(("pool", (number % POOLS).to_string())),
    };
    spec.scope = Scope {
        namespace_selector: Some(LabelSelector {
            match_labels: [("team".to_owned(), format!("team-{number}"))].into(),
            ..LabelSelector::default()
        }),
        node_selector: selector.map(|(key, value)| LabelSelector {
            match_labels: [(key.to_owned(), value)].into(),
            ..LabelSelector::default()
        }),
        ..Scope::default()
    };
    Change::Policy(Box::new(PolicyObject {
        uid: Some(format!("00000000-0000-0000-0000-{number:012}")),
        created: Timestamp::from_second(1_700_000_000 + i64::try_from(number).unwrap()).ok(),
        generation,
        resource_version: generation.to_string(),
        spec: Ok(Box::new(spec)),
        status: ContainerDriftPolicyStatus::default(),
    }))
}

fn node(number: usize) -> Change {
    let mut labels: std::collections::BTreeMap<String, String> =
        (0..12).map(|n| (format!("feature-{n}.node.kubernetes.io/present"), "true".to_owned())).collect();
    labels.insert("kubernetes.io/hostname".to_owned(), format!("node-{number}.example.internal"));
    labels.insert("pool".to_owned(), (number % POOLS).to_string());
    labels.insert("topology.kubernetes.io/zone".to_owned(), (number % 3).to_string());
    Change::Node { uid: format!("10000000-0000-0000-0000-{number:012}"), labels }
}

/// Writes what is due, as the API server would; how many.
fn write_all(index: &mut Index, version: u64) -> usize {
    let names: Vec<String> = index.nodes().keys().cloned().collect();
    let mut written = 0;
    for name in names {
        let write = index.nodes()[&name].write();
        let Some(Write::Create { owner, revision, content } | Write::Replace { owner, revision, content, .. }) = write
        else {
            continue;
        };
        let object = ConfigMapObject {
            uid: format!("map-{name}"),
            resource_version: version.to_string(),
            owner: Some(owner),
            foreign: None,
            labelled: true,
            data: content.encode(revision).unwrap().into_data(),
        };
        index.apply(&name, Change::ConfigMap(Box::new(object)));
        written += 1;
    }
    written
}

/// Ten edits of a policy that every node has, which is the worst: the middle time and the longest.
fn edits(index: &mut Index, first: i64) -> (Duration, Duration) {
    let mut edits = Vec::new();
    for generation in first..first + 10 {
        let change = policy(0, generation);
        let begun = Instant::now();
        index.apply("policy-0", change);
        let planned = index.plan();
        let due = planned.iter().filter(|name| index.nodes()[*name].write().is_some()).count();
        edits.push(begun.elapsed());
        assert_eq!(due, NODES);
    }
    edits.sort();
    (edits[edits.len() / 2], edits[edits.len() - 1])
}

fn by_name() -> Change {
    let mut spec = ContainerDriftPolicySpec::default();
    let names = (0..3).map(|number| format!("node-{number}.example.internal")).collect();
    spec.scope.node_selector = Some(LabelSelector {
        match_expressions: vec![Requirement {
            key: "kubernetes.io/hostname".to_owned(),
            operator: Operator::In,
            values: names,
        }],
        ..LabelSelector::default()
    });
    Change::Policy(Box::new(PolicyObject {
        uid: Some("by-name".to_owned()),
        created: Timestamp::from_second(1_800_000_000).ok(),
        generation: 1,
        resource_version: "1".to_owned(),
        spec: Ok(Box::new(spec)),
        status: ContainerDriftPolicyStatus::default(),
    }))
}

fn peak_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").trim().parse().unwrap()
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}

fn main() {
    let bounded = std::env::args().any(|argument| argument == "--bounds");
    let mut index = Index::new(NodeDefaults::default());
    let changes: Vec<_> = (0..NODES).map(|number| (format!("node-{number}"), node(number))).collect();
    let policies: Vec<_> = (0..POLICIES).map(|number| (format!("policy-{number}"), policy(number, 1))).collect();
    let begun = Instant::now();
    for (name, change) in changes.into_iter().chain(policies) {
        index.apply(&name, change);
    }
    let planned = index.plan().len();
    let full = begun.elapsed();
    let peak = peak_kib();
    assert_eq!(planned, NODES);
    let each = index.nodes().values().map(|node| node.desired.as_ref().unwrap().fragments.len()).max().unwrap();

    let begun = Instant::now();
    assert_eq!(write_all(&mut index, 1), NODES);
    let written = begun.elapsed();
    index.plan();
    assert_eq!(write_all(&mut index, 2), 0);

    let (edit, worst) = edits(&mut index, 2);
    // One policy that asks for host names, and no two nodes are alike.
    index.apply("by-name", by_name());
    let (edit_by_name, worst_by_name) = edits(&mut index, 12);
    println!(
        "{}",
        json!({"numbers": {
            "nodes": NODES, "policies": POLICIES, "policies-a-node": each, "plan-full-ms": ms(full),
            "plan-edit-ms": ms(edit), "plan-edit-worst-ms": ms(worst), "plan-peak-kib": peak,
            "plan-edit-by-name-ms": ms(edit_by_name), "plan-edit-by-name-worst-ms": ms(worst_by_name),
            "encode-and-read-ms": ms(written), "peak-with-config-maps-kib": peak_kib(),
        }})
    );
    if bounded && (full > FULL || edit.max(edit_by_name) > EDIT || peak > MEMORY_KIB) {
        eprintln!("a bound is missed: {FULL:?} for all, {EDIT:?} for one edit, {MEMORY_KIB} KiB");
        std::process::exit(1);
    }
}
