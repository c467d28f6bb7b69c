//! The agent's side of the API server without its kernel part, for `e2e/tests/agent`: what the agent's loop would do is done by lines on
//! standard input, and what it would be given is printed as lines of JSON. It is an example and no part of `e2e`, because it calls
//! `cluster` as the agent does.
//!
//! | line | does |
//! |---|---|
//! | `event JSON` | tells of a `DriftEvent` |
//! | `flood NODE NAMESPACE N` | tells of N of them, as fast as it can |
//! | `end` | ends as the agent does |
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::io::BufRead;
use std::os::fd::AsFd;
use std::path::PathBuf;

use clap::Parser;
use mooring_crd::{DriftEvent, SelfTest, SelfTestResult};
use mooring_node_enforcer::agent::{Facts, PolicyFacts, Sink, Source};
use mooring_node_enforcer::cluster::{Options, connect};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use serde_json::json;

#[derive(Parser)]
struct Arguments {
    #[arg(long)]
    kubeconfig: PathBuf,
    #[arg(long)]
    node: String,
    #[arg(long)]
    state_dir: PathBuf,
}

fn main() {
    let Arguments { kubeconfig, node, state_dir } = Arguments::parse();
    let options =
        Options { kubeconfig: Some(kubeconfig), node, ready_file: state_dir.with_extension("ready"), state_dir };
    let (mut source, mut sink, connection) = connect(options).unwrap();
    let (reader, writer) = std::io::pipe().unwrap();
    let (lines, received) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        use std::io::Write;
        let mut writer = writer;
        for line in std::io::stdin().lock().lines() {
            lines.send(line.unwrap()).unwrap();
            writer.write_all(b".").unwrap();
        }
    });
    let mut reader = reader;
    loop {
        let changes = source.changes();
        if let Some(rules) = changes.rules {
            let names: Vec<&str> = rules.set.policies().iter().map(|policy| policy.name.as_str()).collect();
            println!("{}", json!({"rules": rules.stamp, "policies": names}));
            sink.state(&facts(&rules));
        }
        if !changes.pods.is_empty() || !changes.namespaces.is_empty() {
            println!("{}", json!({"pods": changes.pods, "namespaces": changes.namespaces}));
        }
        let mut polled =
            [source.descriptor(), reader.as_fd()].map(|descriptor| PollFd::new(descriptor, PollFlags::POLLIN));
        poll(&mut polled, PollTimeout::NONE).unwrap();
        if polled.get(1).unwrap().any() != Some(true) {
            continue;
        }
        std::io::Read::read(&mut reader, &mut [0; 1]).unwrap();
        let line = received.recv().unwrap();
        match line.split_once(' ').unwrap_or((&line, "")) {
            ("event", event) => sink.take(vec![serde_json::from_str(event).unwrap()]),
            ("flood", rest) => flood(&mut sink, rest),
            ("end", _) => break,
            other => panic!("{other:?}"),
        }
    }
    connection.end();
}

fn facts(rules: &mooring_node_enforcer::agent::Rules) -> Facts {
    let policies = rules.set.policies().iter();
    Facts {
        enforcing: true,
        applied: rules.stamp.clone(),
        self_test: Some(SelfTest { result: SelfTestResult::Passed, message: None }),
        policies: policies.map(|policy| PolicyFacts { name: policy.name.clone(), ..PolicyFacts::default() }).collect(),
        ..Facts::default()
    }
}

/// The same ten events again and again, each with its running count.
fn flood(sink: &mut impl Sink, rest: &str) {
    let mut words = rest.split(' ');
    let (node, namespace) = (words.next().unwrap(), words.next().unwrap());
    let times: i64 = words.next().unwrap().parse().unwrap();
    for count in 1..=times {
        for number in 0..10 {
            let path = format!("/tmp/flood-{number}");
            let event: DriftEvent = serde_json::from_value(json!({
                "apiVersion": "mooring.dev/v1alpha1", "kind": "DriftEvent",
                "metadata": {"name": format!("flood-{node}-{number}"), "namespace": namespace},
                "spec": {
                    "policy": "p", "severity": "High", "reason": "NewBinary", "verdict": "Denied", "node": node,
                    "pod": {"name": "api"}, "container": "main", "containerID": "c", "path": path,
                    "process": {"pid": 1, "uid": 0},
                },
                "status": {"count": count, "firstSeen": "2026-01-01T00:00:00.000000Z", "lastSeen": "2026-01-01T00:00:01.000000Z"},
            }))
            .unwrap();
            sink.take(vec![event]);
        }
    }
}
