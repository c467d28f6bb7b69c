mod aggregation;
mod answers;
mod events;
mod writers;

use std::collections::BTreeMap;
use std::sync::Arc;

use mooring_crd::policy_from_value;
use mooring_policy::{Class, NodeDefaults, RuleSet, SlotMask, Use, compile};
use serde_json::json;

use super::{Timestamp, Violation};
use crate::containers::{Container, FileId, Root, Runtime, Volume};

pub(crate) fn container(id: &str) -> Container {
    Container {
        id: id.to_owned(),
        runtime: Runtime::Containerd,
        namespace: "payments".to_owned(),
        pod: "api-x".to_owned(),
        pod_uid: Some("u-1".to_owned()),
        name: "api".to_owned(),
        sandbox: false,
        image: Some("registry.example.com/api:1".to_owned()),
        labels: BTreeMap::new(),
        labels_known: true,
        cgroup: "/x".to_owned(),
        cgroup_id: 1,
        init_pid: None,
        root: Root {
            path: "/r".into(),
            dev: 1,
            ino: 1,
            overlay: true,
            upper_dir: None,
            lower_dirs: Vec::new(),
            user_xattrs: false,
        },
        volumes: ["/data", "/data/in", "/database"]
            .map(|destination| Volume {
                destination: destination.to_owned(),
                kind: "emptyDir".to_owned(),
                source: format!("/var/lib/kubelet/v{destination}").into(),
                file: Some(FileId { dev: 2, ino: 2 }),
            })
            .into(),
    }
}

pub(crate) fn rules() -> RuleSet {
    let policy = |name: &str, spec: serde_json::Value| {
        policy_from_value(json!({"apiVersion": "mooring.dev/v1alpha1", "kind": "ContainerDriftPolicy", "metadata": {"name": name}, "spec": spec})).unwrap()
    };
    let policies = [
        policy("a-detects", json!({"severity": "Low", "runbookURL": "https://example.com/a"})),
        policy("b-prevents", json!({"severity": "High", "actions": {"prevent": true}})),
    ];
    let compiled = compile(&policies, NodeDefaults::default());
    assert_eq!(compiled.refused, []);
    compiled.rules
}

pub(crate) fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_767_323_045 + second).unwrap()
}

pub(crate) fn violation(path: &[u8]) -> Violation {
    Violation {
        container: Arc::new(container("c1")),
        first_seen: at(0),
        last_seen: at(0),
        count: 1,
        drift: SlotMask::from_bits(0b11),
        prohibited: SlotMask::EMPTY,
        prohibited_process: SlotMask::EMPTY,
        denied: SlotMask::from_bits(0b10),
        killed: false,
        class: Class::NewBinary,
        usage: Use::Execute,
        path: path.to_owned(),
        lower_path: Vec::new(),
        invoked: path.to_owned(),
        pid: 7,
        parent_pid: 6,
        uid: 1000,
        comm: b"sh".to_vec(),
        parent_comm: b"sh".to_vec(),
        answer: None,
        argv: b"/tmp/x\0-o\0pool\0".to_vec(),
    }
}
