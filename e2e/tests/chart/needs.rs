//! The agent's pod has what it needs of its node and nothing else: each part of it is taken away, and something must break.
//!
//! What an agent without it does is compared with what the whole one does, on the same node, from the same beginning: nothing in
//! force, nothing kept.

use std::collections::BTreeSet;
use std::thread;
use std::time::{Duration, Instant};

use mooring_e2e::cluster::{Cluster, HelmVersion, Kubectl, Node};
use mooring_e2e::testing::eventually;
use serde_json::Value;

use super::{against_drift_in_web, cluster_with_node, told, web, web_is_refused};

/// What can be seen of an agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Works {
    /// Its pod becomes Ready, which is the same as that its rules are in force in the kernel.
    Ready,
    /// Its self-test ran and passed.
    Tested,
    /// The node's rules are on the node's disk.
    Kept,
    /// Its configuration is in force.
    Configured,
    /// It becomes Ready on a node whose network for pods is not there.
    BeforeTheNetwork,
}

/// How long an agent may take to become Ready before it is taken for one that does not. The whole one takes a fraction of it.
const PATIENCE: Duration = Duration::from_mins(3);

/// Needed on Linux 5.10 only, which this is not tried on; and to stop containers of other users, which is tried where containers are acted on
/// (`make test-pods`).
const NOT_TRIED_HERE: [&str; 2] = ["SYS_RESOURCE", "KILL"];

const POD: &str = "/spec/template/spec";
const CONTAINER: &str = "/spec/template/spec/containers/0";

fn remove(object: &mut Value, list: &str, is_it: impl Fn(&Value) -> bool) {
    let list = object.pointer_mut(list).unwrap().as_array_mut().unwrap();
    let before = list.len();
    list.retain(|item| !is_it(item));
    assert_eq!(list.len(), before - 1);
}

/// Each part that can be taken away: its name, the agent without it, and what then no longer works.
fn parts(whole: &Value) -> Vec<(String, Value, Works)> {
    let mut parts = Vec::new();
    let capabilities = format!("{CONTAINER}/securityContext/capabilities/add");
    for capability in whole.pointer(&capabilities).unwrap().as_array().unwrap() {
        if NOT_TRIED_HERE.iter().any(|name| capability == name) {
            continue;
        }
        let mut without = whole.clone();
        remove(&mut without, &capabilities, |item| item == capability);
        let works = if capability == "DAC_OVERRIDE" { Works::Tested } else { Works::Ready };
        parts.push((capability.as_str().unwrap().to_owned(), without, works));
    }
    for (name, works) in [("hostPID", Works::Ready), ("hostNetwork", Works::BeforeTheNetwork)] {
        let mut without = whole.clone();
        without.pointer_mut(POD).unwrap().as_object_mut().unwrap().remove(name).unwrap();
        parts.push((name.to_owned(), without, works));
    }
    for (name, works) in [("run", Works::Ready), ("state", Works::Kept), ("config", Works::Configured)] {
        let mut without = whole.clone();
        for list in [format!("{POD}/volumes"), format!("{CONTAINER}/volumeMounts")] {
            remove(&mut without, &list, |item| item["name"] == name);
        }
        parts.push((format!("the mount {name}"), without, works));
    }
    // Nothing of the pod is left out here: a new capability, mount or namespace must be found a reason for.
    let container = whole.pointer(CONTAINER).unwrap();
    let given = |value: &Value| value.as_object().unwrap().keys().cloned().collect::<BTreeSet<_>>();
    let security = given(&container["securityContext"]);
    assert_eq!(
        security,
        [
            "allowPrivilegeEscalation",
            "appArmorProfile",
            "capabilities",
            "readOnlyRootFilesystem",
            "runAsUser",
            "seLinuxOptions",
            "seccompProfile"
        ]
        .map(str::to_owned)
        .into()
    );
    assert_eq!(parts.len(), whole.pointer(&capabilities).unwrap().as_array().unwrap().len() - NOT_TRIED_HERE.len() + 5);
    assert_eq!(container["volumeMounts"].as_array().unwrap().len(), 3);
    parts
}

/// What kubectl says of the agents' pods.
fn of_agents(admin: &Kubectl, ask: &[&str]) -> Option<String> {
    admin.run(&[ask, &["-n", "mooring-system", "-l", "app.kubernetes.io/name=mooring-enforcer"]].concat()).ok()
}

/// Whether its pod becomes Ready. One whose program has ended will not.
fn comes_to_be_ready(admin: &Kubectl) -> bool {
    let begun = Instant::now();
    while begun.elapsed() < PATIENCE {
        let pods = of_agents(admin, &["get", "pods", "-o", "json"]).unwrap();
        let pods: Value = serde_json::from_str(&pods).unwrap();
        let container = &pods["items"][0]["status"]["containerStatuses"][0];
        if container["ready"] == true {
            return true;
        }
        if container["restartCount"].as_u64() >= Some(1) {
            return false;
        }
        thread::sleep(Duration::from_secs(1));
    }
    false
}

/// Starts an agent and says what works.
fn tried(admin: &Kubectl, node: &Node, agent: &Value, wanted: Works) -> BTreeSet<Works> {
    admin
        .run(&["delete", "daemonset", "mooring-enforcer", "-n", "mooring-system", "--ignore-not-found", "--wait"])
        .unwrap();
    eventually("the agent's end", || {
        of_agents(admin, &["get", "pods", "-o", "name"]).is_some_and(|names| names.is_empty())
    });
    let clean = "rm -rf /var/lib/mooring; for word in $(find /sys/fs/bpf/mooring -depth 2>/dev/null); do rm -f $word 2>/dev/null || rmdir $word; done";
    node.run(&["sh", "-c", clean]).unwrap();
    let network = |to: &str, from: &str| node.run(&["mv", from, to]).unwrap();
    if wanted == Works::BeforeTheNetwork {
        network("/run/net.d", "/etc/cni/net.d");
    }
    // What the one before told of itself.
    admin.run(&["delete", "driftnode", "node1", "--ignore-not-found"]).unwrap();
    admin.apply(&agent.to_string()).unwrap();
    let ready = comes_to_be_ready(admin);
    let mut works = BTreeSet::new();
    if ready {
        works.insert(if wanted == Works::BeforeTheNetwork { Works::BeforeTheNetwork } else { Works::Ready });
        let node1 = admin.json(&["get", "driftnode", "node1"]).unwrap();
        works.extend((node1["status"]["selfTest"]["result"] == "Passed").then_some(Works::Tested));
        works.extend((!node1.to_string().contains("\"ConfigurationRefused\"")).then_some(Works::Configured));
        if node.exec(&["test", "-s", "/var/lib/mooring/rules.json"]).unwrap().code == 0 {
            works.insert(Works::Kept);
        }
    } else {
        // The last words are those of the one that ended, if one did.
        let logs = of_agents(admin, &["logs", "--tail=3", "--previous"]);
        let logs = logs.or_else(|| of_agents(admin, &["logs", "--tail=3"])).unwrap_or_default();
        eprintln!("    {}", logs.trim().replace('\n', "\n    "));
    }
    if wanted == Works::BeforeTheNetwork {
        network("/etc/cni/net.d", "/run/net.d");
    }
    works
}

#[test]
#[ignore = "boots a guest, and takes minutes: make test-needs"]
fn each_right_on_the_node_is_needed() {
    let (cluster, node) = cluster_with_node();
    told(&cluster, || each(&cluster, &node));
}

fn each(cluster: &Cluster, node: &Node) {
    let (admin, helm) = (cluster.kubectl(), cluster.helm(HelmVersion::Four).unwrap());
    helm.install(&[]).unwrap();
    admin.apply(&against_drift_in_web().to_string()).unwrap();
    web(&admin);
    let rendered = helm.template(&["--show-only=templates/agent-daemonset.yaml"]).unwrap();
    let whole = admin.run_with(&["create", "--dry-run=client", "-o", "json", "-f", "-"], &rendered).unwrap();
    let whole: Value = serde_json::from_str(&whole).unwrap();

    let all = tried(&admin, node, &whole, Works::Ready);
    assert_eq!(all, [Works::Ready, Works::Tested, Works::Kept, Works::Configured].into(), "the whole agent");
    eventually("a refusal", || web_is_refused(&admin));
    assert!(tried(&admin, node, &whole, Works::BeforeTheNetwork).contains(&Works::BeforeTheNetwork), "the whole agent");
    let mut unneeded = Vec::new();
    for (name, without, wanted) in parts(&whole) {
        let works = tried(&admin, node, &without, wanted);
        let broken = !works.contains(&wanted);
        eprintln!("without {name}: {}", if broken { format!("not {wanted:?}") } else { "works as ever".to_owned() });
        if !broken {
            unneeded.push(name);
        }
    }
    assert!(unneeded.is_empty(), "not needed: {unneeded:?}");
}
