//! The chart and the images in a cluster with a real node: installed, tried, upgraded, rolled back and uninstalled.
#![allow(missing_docs, unreachable_pub, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod images;
mod needs;
mod two_nodes;

use mooring_e2e::cluster::{Cluster, HelmVersion, Images, Kubectl, Node, NodeOptions, Options};
use mooring_e2e::testing::{eventually, explained, policy, refused, replaces_agent, show};
use serde_json::{Value, json};

/// A cluster with a node that has both images.
fn cluster_with_node() -> (Cluster, Node) {
    let cluster = Cluster::start(Options::default()).unwrap();
    let node = cluster.start_node(&NodeOptions::new("node1", "6.12".parse().unwrap())).unwrap();
    let Images { enforcer, operator } = Images::built().unwrap();
    node.load(&enforcer).unwrap();
    node.load(&operator).unwrap();
    cluster.await_ready(&node).unwrap();
    (cluster, node)
}

/// Says what there was to be seen, when a test fails.
fn told(cluster: &Cluster, test: impl FnOnce()) {
    explained(test, || show(&cluster.kubectl(), &[&["describe", "pods", "-n", "mooring-system"]]));
}

/// A pod that has a copy of its image's busybox, and tries to run it, over and over, once there is a policy against it.
fn web(admin: &Kubectl) {
    admin.run(&["create", "namespace", "shop"]).unwrap();
    let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "web", "namespace": "shop"}, "spec": {"containers": [
        {"name": "web", "image": "docker.io/library/busybox:test", "command": ["sh", "-c", "cp /bin/busybox /tmp/busybox; exec sleep 100000"]},
    ]}});
    eventually("the namespace's service account", || admin.apply(&pod.to_string()).is_ok());
    admin.run(&["wait", "--for=condition=Ready", "pod/web", "-n", "shop", "--timeout=600s"]).unwrap();
}

fn in_web(admin: &Kubectl, script: &str) -> Result<String, String> {
    admin.run(&["exec", "web", "-n", "shop", "--", "sh", "-c", script]).map_err(|error| error.to_string())
}

fn against_drift_in_web() -> Value {
    policy("all", json!({"severity": "High", "scope": {"containers": ["web"]}, "actions": {"prevent": true}}))
}

/// Whether [`web`] is refused its copy.
fn web_is_refused(admin: &Kubectl) -> bool {
    refused(admin, "shop", "web", "/tmp/busybox true")
}

fn from_install_to_uninstall(version: HelmVersion) {
    let (cluster, node) = cluster_with_node();
    let (admin, helm) = (cluster.kubectl(), cluster.helm(version).unwrap());
    told(&cluster, || {
        let notes = helm.install(&[]).unwrap();
        assert!(notes.contains("helm test mooring --namespace mooring-system --logs"), "{notes}");
        assert!(!notes.contains("pod-security"), "{notes}");
        let tested =
            helm.run(&["test", "mooring", "--namespace", "mooring-system", "--logs", "--timeout=15m"]).unwrap();
        assert!(tested.contains("refused: /dropped-by-the-canary was dropped and did not run"), "{tested}");
        eventually("the canary's DriftEvent", || {
            admin
                .run(&["get", "driftevents", "-n", "mooring-system"])
                .is_ok_and(|text| text.contains("/dropped-by-the-canary"))
        });
        assert!(admin.run(&["get", "cdp", "-o", "name"]).unwrap().is_empty(), "the canary's policy is gone");

        // A new agent begins beside the old one. Nothing runs meanwhile that did not before, and what did still does.
        web(&admin);
        admin.apply(&against_drift_in_web().to_string()).unwrap();
        eventually("a refusal", || web_is_refused(&admin));
        let loops = "(n=0; while :; do
            if /tmp/busybox true 2>/tmp/said; then echo ran >>/tmp/wrong
            else grep -q 'Operation not permitted' /tmp/said || cat /tmp/said >>/tmp/wrong; fi
            /bin/busybox true || echo failed >>/tmp/wrong
            n=$((n + 1)); echo $n >/tmp/tried
            done) </dev/null >/dev/null 2>&1 &";
        in_web(&admin, loops).unwrap();
        let values = ["--set-string=agent.podAnnotations.try=2", "--set-string=operator.podAnnotations.try=2"];
        replaces_agent(&admin, || helm.upgrade(&values)).unwrap();
        replaces_agent(&admin, || helm.rollback()).unwrap();
        let tried = || in_web(&admin, "cat /tmp/tried").unwrap().trim().parse::<u64>().unwrap_or_default();
        let so_far = tried();
        assert!(so_far > 100, "{so_far} tries through two changes of agents");
        eventually("a further try", || tried() > so_far);
        assert_eq!(in_web(&admin, "cat /tmp/wrong 2>/dev/null; true").unwrap(), "");
        // None was started again, as an old one is that ends before its pod is deleted.
        let pods = admin.json(&["get", "pods", "-n", "mooring-system"]).unwrap();
        for pod in pods["items"].as_array().unwrap() {
            for container in pod["status"]["containerStatuses"].as_array().into_iter().flatten() {
                assert_eq!(container["restartCount"], 0, "{pod}");
            }
        }

        let away = json!({"apiVersion": "mooring.dev/v1alpha1", "kind": "DriftNode", "metadata": {"name": "away"}, "spec": {}});
        admin.apply(&away.to_string()).unwrap();
        let uninstall = ["uninstall", "mooring", "--namespace", "mooring-system", "--wait", "--timeout=15m"];
        let said = helm.run(&uninstall).unwrap_err().to_string();
        assert!(version == HelmVersion::Three || said.contains("away (no agent is ready)"), "{said}");
        assert!(web_is_refused(&admin), "all of it goes on");
        admin.run(&["delete", "driftnode", "away"]).unwrap();
        helm.run(&uninstall).unwrap();
        for gone in ["clusterroles", "validatingadmissionpolicies", "clusterrolebindings"] {
            let left = admin.run(&["get", gone, "-o", "name"]).unwrap();
            assert!(!left.contains("mooring"), "{left}");
        }
        let policies = admin.run(&["get", "cdp", "-o", "name"]).unwrap();
        assert_eq!(policies, "containerdriftpolicy.mooring.dev/all\n", "policies are kept");
        in_web(&admin, "/tmp/busybox true").unwrap();
        let left = node.run(&["sh", "-c", "ls -A /sys/fs/bpf /var/lib/mooring"]).unwrap();
        assert_eq!(left.trim(), "/sys/fs/bpf:\n\n/var/lib/mooring:\n.present", "{left}");
    });
}

#[test]
#[ignore = "boots a guest: make test-chart"]
fn with_helm_4() {
    from_install_to_uninstall(HelmVersion::Four);
}

#[test]
#[ignore = "builds Helm 3 and boots a guest: make soak"]
fn with_helm_3() {
    from_install_to_uninstall(HelmVersion::Three);
}
