//! On a real node: how soon an edit is in force, a flood of refused executions, and memory.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use k8s_openapi::jiff::Timestamp;
use mooring_e2e::cluster::{Cluster, HelmVersion, Kubectl, Node, NodeOptions, Request};
use mooring_e2e::testing::{self, eventually};
use mooring_e2e::vm::boot::Payload;
use serde_json::{Value, json};

use crate::found;
use crate::rig::{built, condition, enforcer, hand, operator, start};

const EDITS: usize = 20;
const FLOOD: Duration = Duration::from_mins(1);

fn policy(description: &str) -> String {
    let payments = json!({"namespaceSelector": {"matchLabels": {"team": "payments"}}});
    let spec = json!({"description": description, "scope": payments, "actions": {"prevent": true}});
    testing::policy("p", spec).to_string()
}

/// The real operator, on this machine.
fn start_operator(cluster: &Cluster) -> Child {
    let path = std::env::var_os("MOORING_OPERATOR").map(PathBuf::from).expect("MOORING_OPERATOR names the operator");
    let account = operator(cluster);
    let log = std::fs::File::create(cluster.log("operator")).unwrap();
    Command::new("setpriv")
        .args(["--pdeathsig", "KILL", "--"])
        .arg(path)
        .args(["--name", "one", "--listen", "127.0.0.1:0"])
        .env("KUBECONFIG", account.kubeconfig())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log)
        .spawn()
        .unwrap()
}

fn in_force(admin: &Kubectl) -> u64 {
    let node = admin.json(&["get", "driftnode", "node1"]).unwrap_or_default();
    node["status"]["applied"]["revision"].as_u64().unwrap_or_default()
}

fn handed(admin: &Kubectl) -> u64 {
    let map = admin.json(&["get", "configmap", "node1", "-n", "mooring-nodes"]).unwrap();
    revision(&map["data"]).unwrap()
}

fn revision(data: &Value) -> Option<u64> {
    serde_json::from_str::<Value>(data["policies.json"].as_str()?).ok()?["revision"].as_u64()
}

/// A node of so many MiB whose agent has the rules that the real operator gave it.
pub fn begin(memory: u32) -> (Cluster, Node, Child) {
    let cluster = start();
    let probe = built("guest", "make build");
    let mut options = NodeOptions::new("node1", "6.12".parse().unwrap());
    options.memory = memory;
    options.payload = vec![Payload { file: probe, path: "/usr/local/bin/probe".to_owned() }];
    let node = cluster.start_node(&options).unwrap();
    cluster.await_ready(&node).unwrap();
    let admin = cluster.kubectl();
    node.load_program("enforcer", &enforcer()).unwrap();
    let operator = start_operator(&cluster);
    admin.apply(&policy("w0")).unwrap();
    let helm = cluster.helm(HelmVersion::Four).unwrap();
    admin
        .apply(
            &helm
                .template(&["--show-only=templates/agent-config.yaml", "--show-only=templates/agent-daemonset.yaml"])
                .unwrap(),
        )
        .unwrap();
    let rollout = ["rollout", "status", "daemonset", "mooring-enforcer", "-n", "mooring-system", "--timeout=300s"];
    admin.run(&rollout).unwrap();
    (cluster, node, operator)
}

pub fn end(mut operator: Child) {
    operator.kill().unwrap();
    operator.wait().unwrap();
}

#[test]
#[ignore = "boots a guest and takes minutes: make bench"]
fn edits_and_a_flood() {
    let (cluster, _node, operator) = begin(2048);
    let admin = cluster.kubectl();
    edits(&cluster, &admin);
    flood(&admin);
    end(operator);
}

#[test]
#[ignore = "boots a guest and takes minutes: make bench"]
fn memory_with_250_pods() {
    let (cluster, node, operator) = begin(2048);
    // Whoever writes the rules here is the test.
    end(operator);
    memory(&cluster, &cluster.kubectl(), &node);
}

/// From the API server's taking a policy's edit to its taking the agent's word that it is in force.
fn edits(cluster: &Cluster, admin: &Kubectl) {
    eventually("the first rules", || in_force(admin) == handed(admin));
    // Those waited for their agent.
    let first = handed(admin);
    for number in 1..=EDITS {
        let before = handed(admin);
        // An agent tells at once what is in force, but no oftener than once in five seconds.
        thread::sleep(Duration::from_secs(6));
        admin.apply(&policy(&format!("w{number}"))).unwrap();
        eventually("the edit in force", || handed(admin) > before && in_force(admin) == handed(admin));
    }
    let audit = cluster.audit().unwrap();
    let at = |request: &Request, field: &str| -> Timestamp { request.event[field].as_str().unwrap().parse().unwrap() };
    let mut begun: BTreeMap<u64, Timestamp> = BTreeMap::new();
    let (mut edited, mut milliseconds) = (None, Vec::new());
    for request in audit.iter().filter(|request| request.writes() && request.code < 300) {
        let object = &request.event["requestObject"];
        match request.resource.as_str() {
            "containerdriftpolicies" => edited = Some(at(request, "requestReceivedTimestamp")),
            "configmaps" => {
                let Some(edit) = edited.take() else { continue };
                if let Some(revision) = revision(&object["data"]).filter(|revision| *revision > first) {
                    begun.insert(revision, edit);
                }
            }
            "driftnodes/status" => {
                let Some(revision) = object["status"]["applied"]["revision"].as_u64() else { continue };
                if let Some(begun) = begun.remove(&revision) {
                    let took = at(request, "stageTimestamp").duration_since(begun);
                    milliseconds.push(took.as_secs_f64() * 1000.0);
                }
            }
            _ => {}
        }
    }
    milliseconds.sort_by(f64::total_cmp);
    println!("{milliseconds:?}");
    assert_eq!(milliseconds.len(), EDITS);
    let middle = milliseconds.len() / 2;
    found(&json!({"in-force-ms": milliseconds[middle], "in-force-worst-ms": milliseconds.last().unwrap()}));
}

/// One dropped file, and many, as fast as one process can.
fn flood(admin: &Kubectl) {
    let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "payments", "labels": {"team": "payments"}}});
    admin.apply(&namespace.to_string()).unwrap();
    let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "api", "namespace": "payments"}, "spec": {
        "containers": [{
            "name": "main", "image": "docker.io/library/busybox:test", "command": ["sleep", "100000"],
            "volumeMounts": [{"name": "tools", "mountPath": "/host"}],
        }],
        "volumes": [{"name": "tools", "hostPath": {"path": "/usr/local/bin"}}],
    }});
    eventually("the namespace's service account", || admin.apply(&pod.to_string()).is_ok());
    admin.run(&["wait", "--for=condition=Ready", "pod", "api", "-n", "payments", "--timeout=300s"]).unwrap();
    let script = format!(
        "mkdir -p /tmp/d && cp /bin/busybox /tmp/d/x && for i in $(seq 200); do head -c 4096 /bin/busybox >/tmp/d/$i; chmod +x /tmp/d/$i; done
         begin=$(date +%s); end=$((begin + {})); n=0
         while [ $(date +%s) -lt $end ]; do
             /host/probe flood 5000 /tmp/d/x >/tmp/1 && /host/probe flood-folder 200 /tmp/d >/tmp/2 || exit 1
             n=$((n + 5200))
         done
         echo $n $(($(date +%s) - begin))",
        FLOOD.as_secs()
    );
    let said = admin.run(&["exec", "-n", "payments", "api", "--", "sh", "-c", &script]).unwrap();
    let (total, seconds) = said.trim().split_once(' ').unwrap();
    let (total, seconds): (u64, f64) = (total.parse().unwrap(), seconds.parse().unwrap());
    let mut told = 0;
    eventually("the exact count", || {
        let events = admin.json(&["get", "driftevents", "-n", "payments"]).unwrap();
        let events = events["items"].as_array().unwrap();
        // Ten files, and all the rest.
        assert!(events.len() <= 11, "{}", events.len());
        told = events.iter().map(|event| event["status"]["count"].as_u64().unwrap()).sum();
        told >= total
    });
    assert_eq!(told, total);
    found(&json!({"refused-per-second": total as f64 / seconds}));
}

/// 250 containers on overlays, their pods known, and 64 policies.
fn memory(cluster: &Cluster, admin: &Kubectl, node: &Node) {
    // What is bound to the node is not started: the containers are made without the kubelet.
    node.run(&["sh", "-c", "busybox killall -STOP kubelet"]).unwrap();
    let pods: Vec<Value> = (0..250)
        .map(|number| {
            json!({"apiVersion": "v1", "kind": "Pod",
                "metadata": {"name": format!("pod-{number}"), "labels": {"app": format!("app-{number}"), "tier": "backend"}},
                "spec": {"nodeName": "node1", "containers": [{"name": "main", "image": "x"}]}})
        })
        .collect();
    admin.apply(&json!({"apiVersion": "v1", "kind": "List", "items": pods}).to_string()).unwrap();
    let script = "set -e; mkdir -p /run/m; mount -t tmpfs none /run/m; cd /run/m; crun spec
        sed -i 's/\"terminal\": true/\"terminal\": false/; s/\"sh\"/\"sleep\",\"100000\"/; s/\"path\": \"rootfs\"/\"path\": \"r\"/' config.json
        for i in $(seq 250); do
            mkdir -p $i/u $i/w $i/r; cp config.json $i
            mount -t overlay -o lowerdir=/images/busybox/rootfs,upperdir=/run/m/$i/u,workdir=/run/m/$i/w none $i/r
            crun run -d -b /run/m/$i m$i </dev/null >/dev/null 2>&1
        done";
    node.run(&["bash", "-c", script]).unwrap();
    let names: Vec<String> = (0..64).map(|number| format!("policy-{number}")).collect();
    let listing = |name: &str| {
        let path = |kind: &str, number: usize| json!({"path": format!("/opt/{name}/{kind}-{number}")});
        json!({
            "detect": {
                "exceptions": (0..8).map(|number| path("excepted", number)).collect::<Vec<_>>(),
                "prohibitedBinaries": (0..8).map(|number| path("prohibited", number)).collect::<Vec<_>>(),
            },
            "actions": {"prevent": true},
        })
    };
    let policies: Vec<(&str, Value)> = names.iter().map(|name| (name.as_str(), listing(name))).collect();
    let revision = handed(admin) + 1;
    hand(&operator(cluster), "node1", revision, &policies);
    eventually("64 policies for 250 containers", || {
        let status = admin.json(&["get", "driftnode", "node1"]).unwrap()["status"].clone();
        in_force(admin) == revision && status["containers"]["protected"].as_u64().is_some_and(|count| count >= 250)
    });
    assert_eq!(condition(admin, "node1", "Ready").unwrap().0, "True");
    thread::sleep(Duration::from_secs(35));
    let status = node.run(&["sh", "-c", "cat /proc/$(busybox pidof mooring-enforcer)/status"]).unwrap();
    let resident = |name: &str| -> u64 {
        let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        line.trim().trim_end_matches(" kB").parse().unwrap()
    };
    found(&json!({"cluster-memory-kib": resident("VmRSS:"), "cluster-peak-kib": resident("VmHWM:")}));
}
