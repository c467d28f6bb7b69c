//! Two nodes: each protected, each telling of its own, and one of them drained.

use mooring_e2e::cluster::{Cluster, Images, NodeOptions, Options};
use mooring_e2e::testing::{self, agents, eventually, refused};
use serde_json::{Value, json};

use super::told;

const NODES: [&str; 2] = ["node1", "node2"];

#[test]
#[ignore = "boots two guests: make soak"]
fn on_two_nodes() {
    let cluster = Cluster::start(Options::default()).unwrap();
    for name in NODES {
        cluster.start_node(&NodeOptions::new(name, "6.12".parse().unwrap())).unwrap();
    }
    told(&cluster, || {
        cluster.install(&Images::built().unwrap()).unwrap();
        both_protected_and_one_drained(&cluster);
    });
}

fn pod(node: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": node, "namespace": "shop"}, "spec": {
        "nodeName": node,
        "containers": [{"name": "main", "image": "docker.io/library/busybox:test",
            "command": ["sh", "-c", "cp /bin/busybox /tmp/busybox; exec sleep 100000"]}],
    }})
}

fn policy(severity: &str) -> String {
    let shop = json!({"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "shop"}}});
    testing::policy("all", json!({"severity": severity, "scope": shop, "actions": {"prevent": true}})).to_string()
}

fn both_protected_and_one_drained(cluster: &Cluster) {
    let admin = cluster.kubectl();
    let list = |ask: &[&str]| admin.json(ask).unwrap()["items"].as_array().unwrap().clone();
    admin.run(&["create", "namespace", "shop"]).unwrap();
    admin.apply(&policy("High")).unwrap();
    eventually("the namespace's service account", || {
        NODES.iter().all(|node| admin.apply(&pod(node).to_string()).is_ok())
    });
    admin.run(&["wait", "--for=condition=Ready", "pod", "--all", "-n", "shop", "--timeout=600s"]).unwrap();
    let refused = |pod: &str| refused(&admin, "shop", pod, "/tmp/busybox true");
    admin.run(&["wait", "--for=condition=Enforcing", "cdp/all", "--timeout=600s"]).unwrap();
    for node in NODES {
        assert!(refused(node), "{node}");
    }
    let told = |event: &Value| (event["spec"]["node"].clone(), event["spec"]["pod"]["name"].clone());
    eventually("what each node tells of its own pod, and no more", || {
        let events = list(&["get", "driftevents", "-n", "shop"]);
        let mut told: Vec<_> = events.iter().map(told).collect();
        told.sort_by_key(|(node, _)| node.to_string());
        told == NODES.map(|node| (json!(node), json!(node)))
    });

    let lives = || {
        let mut lives: Vec<_> = agents(&admin)
            .unwrap()
            .iter()
            .map(|pod| {
                (pod["metadata"]["uid"].to_string(), pod["status"]["containerStatuses"][0]["restartCount"].clone())
            })
            .collect();
        lives.sort_by(|one, other| one.0.cmp(&other.0));
        lives
    };
    let before = lives();
    admin.run(&["drain", NODES[0], "--ignore-daemonsets", "--force", "--timeout=600s"]).unwrap();
    assert_eq!(lives(), before, "the agents stay where they are");
    // The one that takes an evicted one's place finds its node a moment later.
    eventually("both operators on the other node", || {
        let operators = list(&["get", "pods", "-n", "mooring-system", "-l", "app.kubernetes.io/name=mooring-operator"]);
        operators.len() == 2 && operators.iter().all(|pod| pod["spec"]["nodeName"] == NODES[1])
    });
    // Rules still reach the drained node.
    admin.apply(&policy("Low")).unwrap();
    eventually("the edit on both nodes", || {
        let policy = admin.json(&["get", "cdp", "all"]).unwrap();
        let status = &policy["status"];
        status["observedGeneration"] == policy["metadata"]["generation"] && status["nodes"]["summary"] == "2/2"
    });
    assert!(refused(NODES[1]));
}
