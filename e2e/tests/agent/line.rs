//! A real pod, started by a real kubelet, is refused its dropped binary.

use mooring_e2e::cluster::{Cluster, Component, HelmVersion, Kubectl, Node, NodeOptions, Request};
use mooring_e2e::testing::{eventually, explained, refused, show};
use mooring_e2e::vm::boot::Payload;
use serde_json::{Value, json};

use crate::played::nothing_denied;
use crate::rig::{condition, enforcer, hand, hand_data, operator, start};

fn sleeper(admin: &Kubectl, namespace: &str, labels: &serde_json::Value) {
    let of = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace, "labels": labels}});
    admin.apply(&of.to_string()).unwrap();
    let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "api", "namespace": namespace}, "spec": {"containers": [
        {"name": "main", "image": "docker.io/library/busybox:test", "command": ["sleep", "100000"]},
    ]}});
    eventually("the namespace's service account", || admin.apply(&pod.to_string()).is_ok());
}

/// Pods of the agent that run, and of these that are ready.
fn rollout(admin: &Kubectl) -> (Value, Value) {
    let status = &admin.json(&["get", "daemonset", "mooring-enforcer", "-n", "mooring-system"]).unwrap()["status"];
    (status["currentNumberScheduled"].clone(), status["numberAvailable"].clone())
}

/// How often anybody wrote a node's rules.
fn rule_writes(audit: &[Request]) -> usize {
    let is_rules = |request: &&Request| {
        request.writes()
            && request.code < 300
            && (&*request.resource, &*request.namespace) == ("configmaps", "mooring-nodes")
    };
    audit.iter().filter(is_rules).count()
}

/// Drops a copy of busybox and executes it.
const DROP_AND_RUN: &str = "mkdir -p /tmp/d && cp /bin/busybox /tmp/d/ && /tmp/d/busybox echo ran";

/// Whether what was dropped runs.
fn runs(admin: &Kubectl, namespace: &str) -> bool {
    admin.run(&["exec", "-n", namespace, "api", "--", "sh", "-c", DROP_AND_RUN]).unwrap() == "ran\n"
}

fn is_refused(admin: &Kubectl, namespace: &str) -> bool {
    refused(admin, namespace, "api", DROP_AND_RUN)
}

fn dump(cluster: &Cluster, node: &Node) {
    show(&cluster.kubectl(), &[]);
    eprintln!(
        "{}",
        node.run(&["dmesg"]).map(|text| text.lines().rev().take(5).collect::<Vec<_>>().join("\n")).unwrap_or_default()
    );
}

#[test]
#[ignore = "boots a guest: make test-agent"]
fn a_pods_dropped_binary_is_refused() {
    let cluster = start();
    let mut options = NodeOptions::new("node1", "6.12".parse().unwrap());
    options.payload = vec![Payload { file: enforcer(), path: "/usr/local/bin/mooring-enforcer".to_owned() }];
    let node = cluster.start_node(&options).unwrap();
    cluster.await_ready(&node).unwrap();
    explained(|| line(&cluster, &node), || dump(&cluster, &node));
}

fn line(cluster: &Cluster, node: &Node) {
    let (admin, operator) = (cluster.kubectl(), operator(cluster));
    node.load_program("enforcer", &enforcer()).unwrap();
    let spec = json!({
        "severity": "High",
        "runbookURL": "https://runbooks.example.com/drift",
        "scope": {"namespaceSelector": {"matchLabels": {"team": "payments"}}},
        "actions": {"prevent": true},
    });
    // Its pod runs, and is not Ready before it has rules to bring into force.
    let helm = cluster.helm(HelmVersion::Four).unwrap();
    admin
        .apply(
            &helm
                .template(&["--show-only=templates/agent-config.yaml", "--show-only=templates/agent-daemonset.yaml"])
                .unwrap(),
        )
        .unwrap();
    eventually("an agent without rules", || {
        condition(&admin, "node1", "Ready")
            .is_some_and(|(status, reason, _)| status == "False" && reason == "NoConfigMap")
    });
    assert_eq!(rollout(&admin), (json!(1), json!(null)));
    hand(&operator, "node1", 7, &[("payments-immutable", spec)]);
    admin
        .run(&["rollout", "status", "daemonset", "mooring-enforcer", "-n", "mooring-system", "--timeout=180s"])
        .unwrap();
    let handed = rule_writes(&cluster.audit().unwrap());
    sleeper(&admin, "payments", &json!({"team": "payments"}));
    sleeper(&admin, "other", &json!({}));
    admin.run(&["wait", "--for=condition=Ready", "pod", "api", "-n", "payments", "--timeout=180s"]).unwrap();
    admin.run(&["wait", "--for=condition=Ready", "pod", "api", "-n", "other", "--timeout=180s"]).unwrap();
    eventually("a DriftNode that is Ready", || {
        condition(&admin, "node1", "Ready").is_some_and(|(status, reason, _)| status == "True" && reason == "Enforcing")
    });
    let object = admin.json(&["get", "driftnode", "node1"]).unwrap();
    let status = &object["status"];
    assert_eq!(object["metadata"]["ownerReferences"][0]["kind"], "Node");
    assert_eq!((&status["backend"], &status["selfTest"]["result"]), (&json!("BpfLsm"), &json!("Passed")), "{status}");
    assert_eq!(
        (&status["applied"]["revision"], &status["applied"]["source"]),
        (&json!(7), &json!("ConfigMap")),
        "{status}"
    );

    assert!(is_refused(&admin, "payments"));
    assert!(runs(&admin, "other"));
    eventually("a DriftEvent", || {
        admin.run(&["get", "driftevents", "-n", "payments"]).is_ok_and(|text| text.contains("/tmp/d/busybox"))
    });
    let events = admin.json(&["get", "driftevents", "-A"]).unwrap();
    assert_eq!(events["items"].as_array().unwrap().len(), 1, "{events}");
    let event = &events["items"][0];
    assert_eq!(
        (&event["spec"]["verdict"], &event["spec"]["pod"]["name"]),
        (&json!("Denied"), &json!("api")),
        "{event}"
    );
    assert_eq!(event["spec"]["container"], "main");
    let pod = admin.json(&["get", "pod", "api", "-n", "payments"]).unwrap();
    assert_eq!(event["spec"]["pod"]["uid"], pod["metadata"]["uid"]);
    println!("{}", admin.run(&["get", "driftevents,dn", "-A"]).unwrap());
    let mut described = String::new();
    eventually("an Event on the pod", || {
        described = admin.run(&["describe", "pod", "api", "-n", "payments"]).unwrap();
        described.contains("Denied /tmp/d/busybox in container main (policy payments-immutable, severity High)")
    });
    println!("{described}");

    // A namespace's new label brings the policy to its pods, and nothing is written for it.
    admin.run(&["label", "namespace", "other", "team=payments"]).unwrap();
    eventually("the policy in the other namespace", || is_refused(&admin, "other"));

    // A clock that jumps, forth and back: refused, counted and told as ever.
    for (number, jump) in ["+6 hours", "-6 hours"].into_iter().enumerate() {
        node.run(&["date", "-s", jump]).unwrap();
        assert!(is_refused(&admin, "payments"), "{jump}");
        eventually("one more", || {
            let event = &admin.json(&["get", "driftevents", "-n", "payments"]).unwrap()["items"][0];
            event["status"]["count"] == json!(number + 2)
        });
    }

    // The next agent takes over, and says nothing of cgroups that nobody knows: its self-test has one.
    admin.run(&["rollout", "restart", "daemonset", "mooring-enforcer", "-n", "mooring-system"]).unwrap();
    admin
        .run(&["rollout", "status", "daemonset", "mooring-enforcer", "-n", "mooring-system", "--timeout=180s"])
        .unwrap();
    let label = ["-n", "mooring-system", "-l", "app.kubernetes.io/name=mooring-enforcer"];
    eventually("the old agent's end", || {
        admin.run(&[&["get", "pods", "-o", "name"], &label[..]].concat()).is_ok_and(|names| names.lines().count() == 1)
    });
    let logs = admin.run(&[&["logs", "--tail=-1"], &label[..]].concat()).unwrap();
    assert!(logs.contains("enforcing:") && !logs.contains("taken over"), "the old one stands by:\n{logs}");
    assert!(!logs.contains("no runtime knows"), "{logs}");
    assert!(is_refused(&admin, "payments"));

    // Pods came and went, namespaces were labelled: nobody wrote the node's rules again.
    assert_eq!(rule_writes(&cluster.audit().unwrap()), handed);
    released(&admin, &operator, node);
    nothing_denied(cluster, 0);
    without_api_server(cluster, node);
}

/// Asked to, the agent leaves nothing behind, and begins anew when it is no longer asked.
fn released(admin: &Kubectl, operator: &Kubectl, node: &Node) {
    let handed = admin.json(&["get", "configmap", "node1", "-n", "mooring-nodes"]).unwrap()["data"].clone();
    let mut asks = handed.clone();
    asks["release"] = json!("true");
    hand_data(operator, "node1", &asks);
    eventually("a node that says released", || {
        admin.json(&["get", "driftnode", "node1"]).unwrap()["status"]["released"] == true
    });
    assert_eq!(condition(admin, "node1", "Ready").unwrap().1, "Released");
    assert!(runs(admin, "payments"));
    let nothing_left = || {
        let left = node.run(&["sh", "-c", "ls -A /sys/fs/bpf /var/lib/mooring"]).unwrap();
        left.trim() == "/sys/fs/bpf:\n\n/var/lib/mooring:\n.present"
    };
    assert!(nothing_left());
    // Again after a restart, and still nothing.
    admin
        .run(&["delete", "pod", "-n", "mooring-system", "-l", "app.kubernetes.io/name=mooring-enforcer", "--wait"])
        .unwrap();
    eventually("the next agent", || rollout(admin).0 == json!(1));
    eventually("nothing of the next agent's", nothing_left);
    assert!(runs(admin, "payments"));

    hand_data(operator, "node1", &handed);
    eventually("a node that enforces again", || {
        admin.json(&["get", "driftnode", "node1"]).unwrap()["status"]["released"] == false
    });
    eventually("a DriftNode that is Ready", || condition(admin, "node1", "Ready").is_some_and(|it| it.0 == "True"));
    assert!(is_refused(admin, "payments"));
}

/// As after a reboot: nothing is in force and no API server is there. The last good rules are in force from the disk.
fn without_api_server(cluster: &Cluster, node: &Node) {
    let admin = cluster.kubectl();
    admin.run(&["delete", "daemonset", "mooring-enforcer", "-n", "mooring-system", "--wait"]).unwrap();
    eventually("the agent's end", || {
        admin.run(&["get", "pods", "-n", "mooring-system", "-o", "name"]).is_ok_and(|names| names.is_empty())
    });
    node.run(&["mooring-enforcer", "release"]).unwrap();
    assert!(runs(&admin, "payments"));
    let pod = admin.json(&["get", "pod", "api", "-n", "payments"]).unwrap();
    let id = pod["status"]["containerStatuses"][0]["containerID"].as_str().unwrap().to_owned();
    let id = id.trim_start_matches("containerd://");
    cluster.stop_component(Component::ApiServer);
    let run = "mooring-enforcer run --cluster --node node1 --kubeconfig /etc/kubernetes/kubeconfig --ready-file /run/ready </dev/null >/run/agent.log 2>&1 &";
    node.run(&["sh", "-c", run]).unwrap();
    eventually("rules in force from the disk", || {
        node.exec(&["mooring-enforcer", "ready", "--ready-file", "/run/ready"]).is_ok_and(|ended| ended.code == 0)
    });
    let exec = |number: &str, program: &str| {
        node.exec(&["ctr", "-n", "k8s.io", "tasks", "exec", "--exec-id", number, id, program, "echo", "ran"]).unwrap()
    };
    let refused = exec("1", "/tmp/d/busybox");
    assert!(refused.code != 0 && refused.output.contains("operation not permitted"), "{refused:?}");
    assert_eq!(exec("2", "/bin/busybox").output.trim(), "ran");
    let log = node.run(&["cat", "/run/agent.log"]).unwrap();
    assert!(log.contains("policies=1"), "{log}");
}
