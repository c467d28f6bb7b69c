//! The cluster itself: a control plane as a test starts it, and a guest as its node. Run by `make test-cluster`.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use mooring_e2e::cluster::{
    Cluster, Component, Ended, Error, Image, KWOK_KEY, Kubectl, NodeOptions, Options, write_image,
};
use mooring_e2e::testing::eventually;
use mooring_e2e::vm;
use mooring_e2e::vm::boot::Payload;
use serde_json::json;

/// What the API server said against it.
fn refused(result: Result<String, Error>) -> String {
    match result {
        Err(Error::Rig(vm::Error::Failed { stderr, .. })) => stderr,
        other => panic!("not refused: {other:?}"),
    }
}

fn node(name: &str) -> String {
    json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}}).to_string()
}

/// Writes a node's status as it is. kubectl's other ways read first, which is another right.
fn write_status(kubectl: &Kubectl, admin: &Kubectl, node: &str) -> Result<String, Error> {
    let object = admin.json(&["get", "node", node])?;
    let path = format!("/api/v1/nodes/{node}/status");
    kubectl.run_with(&["replace", "--raw", &path, "--filename", "-"], &object.to_string())
}

#[test]
#[ignore = "starts a control plane: make test-cluster"]
fn a_kubelets_own_rights_and_the_audit_log() {
    let cluster = Cluster::start(Options { controllers: false, ..Options::default() }).unwrap();
    let admin = cluster.kubectl();
    assert!(admin.run(&["version"]).unwrap().contains("Server Version: v1.36.3"));
    admin.apply(&node("node1")).unwrap();
    admin.apply(&node("node2")).unwrap();

    // The Node authorizer lets a kubelet write nodes, and NodeRestriction only its own.
    let kubelet = cluster.kubectl_as("system:node:node1", &["system:nodes"]).unwrap();
    write_status(&kubelet, &admin, "node1").unwrap();
    let said = refused(write_status(&kubelet, &admin, "node2"));
    assert!(said.contains("node \"node1\" is not allowed to modify node \"node2\""), "{said}");
    // RBAC knows nobody who has no binding.
    let stranger = cluster.kubectl_as("stranger", &["strangers"]).unwrap();
    let said = refused(stranger.run(&["get", "nodes"]));
    assert!(said.contains("User \"stranger\" cannot list resource \"nodes\""), "{said}");

    let mut seen = Vec::new();
    eventually("the audit log of both", || {
        seen = cluster.audit().unwrap();
        let denied = |user: &str| seen.iter().any(|request| request.user == user && request.denied());
        denied("system:node:node1") && denied("stranger")
    });
    let of_kubelet: Vec<_> =
        seen.iter().filter(|request| request.user == "system:node:node1" && request.writes()).collect();
    let told: Vec<_> =
        of_kubelet.iter().map(|request| (request.resource.as_str(), request.name.as_str(), request.code)).collect();
    assert_eq!(told, [("nodes/status", "node1", 200), ("nodes/status", "node2", 403)]);
    assert!(seen.iter().any(|request| request.user == "admin" && request.verb == "create" && request.name == "node2"));
}

#[test]
#[ignore = "starts a control plane: make test-cluster"]
fn accounts_and_faults() {
    let arguments = vec![(Component::ApiServer, "--event-ttl=2h".to_owned())];
    let cluster = Cluster::start(Options { arguments, ..Options::default() }).unwrap();
    let admin = cluster.kubectl();
    let process = cluster.process(Component::ApiServer).unwrap();
    assert!(std::fs::read_to_string(format!("/proc/{process}/cmdline")).unwrap().contains("--event-ttl=2h"));

    // A token that is bound to a node says so to admission, and its account may do nothing that nobody granted.
    admin.run(&["create", "serviceaccount", "agent"]).unwrap();
    admin.apply(&node("node1")).unwrap();
    let agent = cluster.kubectl_of_account("default", "agent", Some("node1")).unwrap();
    let me = agent.json(&["auth", "whoami"]).unwrap();
    let me = &me["status"]["userInfo"];
    assert_eq!(me["username"], "system:serviceaccount:default:agent");
    assert_eq!(me["extra"]["authentication.kubernetes.io/node-name"][0], "node1", "{me}");
    let said = refused(agent.run(&["get", "pods"]));
    assert!(said.contains("cannot list resource \"pods\""), "{said}");

    // What the database held is there again after it and the API server have been away.
    admin.run(&["create", "configmap", "kept", "--from-literal=a=b"]).unwrap();
    cluster.stop_component(Component::ApiServer);
    cluster.stop_component(Component::Etcd);
    assert_eq!(cluster.process(Component::Etcd), None);
    let said = refused(admin.run(&["get", "configmap", "kept"]));
    assert!(said.contains("refused"), "{said}");
    cluster.start_component(Component::Etcd).unwrap();
    cluster.start_component(Component::ApiServer).unwrap();
    cluster.await_api().unwrap();
    assert_ne!(cluster.process(Component::ApiServer).unwrap(), process);
    assert_eq!(admin.json(&["get", "configmap", "kept"]).unwrap()["data"]["a"], "b");
}

#[test]
#[ignore = "builds kwok and starts a control plane: make test-cluster"]
fn nodes_played_by_kwok() {
    let cluster = Cluster::start(Options::default()).unwrap();
    let admin = cluster.kubectl();
    cluster.add_kwok_nodes(2).unwrap();
    cluster.add_kwok_nodes(1).unwrap();
    let played = format!("--selector={KWOK_KEY}=fake");
    admin.run(&["wait", "--for=condition=Ready", "node", &played, "--timeout=180s"]).unwrap();
    let names = admin.run(&["get", "nodes", &played, "--output=name"]).unwrap();
    assert_eq!(names, "node/kwok-0\nnode/kwok-1\nnode/kwok-2\n");
}

#[test]
#[ignore = "starts control planes: make test-cluster"]
fn several_at_once_and_nothing_left_behind() {
    let options = || Options { controllers: false, ..Options::default() };
    let one = Cluster::start(options()).unwrap();
    let other = Cluster::start(options()).unwrap();
    assert_ne!(one.server(), other.server());
    one.kubectl().run(&["create", "configmap", "ones", "--namespace=kube-system"]).unwrap();
    let said = refused(other.kubectl().run(&["get", "configmap", "ones", "--namespace=kube-system"]));
    assert!(said.contains("not found"), "{said}");
    let pids: Vec<i32> = [&one, &other]
        .iter()
        .flat_map(|cluster| {
            [Component::Etcd, Component::ApiServer].map(|component| cluster.process(component).unwrap())
        })
        .collect();
    let folder = one.folder().to_owned();
    drop(one);
    drop(other);
    for pid in pids {
        assert!(!runs(pid), "process {pid} has not ended");
    }
    assert!(!folder.exists());
}

fn runs(pid: i32) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !stat.contains(") Z "))
}

fn cluster(folder: &Path, arguments: &[&str]) -> (bool, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_cluster"));
    let ended = command.arg("--dir").arg(folder).args(arguments).output().unwrap();
    let text = format!("{}{}", String::from_utf8_lossy(&ended.stdout), String::from_utf8_lossy(&ended.stderr));
    (ended.status.success(), text)
}

#[test]
#[ignore = "starts a control plane: make test-cluster"]
fn the_program_leaves_a_cluster_running_until_it_is_told() {
    let folder = std::env::temp_dir().join(format!("mooring-cluster-{}", std::process::id()));
    let (ok, text) = cluster(&folder, &["status"]);
    assert!(!ok && text.contains("make cluster-up"), "{text}");
    let (ok, text) = cluster(&folder, &["up", "--nodes", "0"]);
    assert!(ok && text.contains("kubectl get nodes") && text.contains(" down --dir "), "{text}");
    let pid = Cluster::open(&folder).unwrap().process(Component::ApiServer).unwrap();
    let (ok, text) = cluster(&folder, &["up"]);
    assert!(!ok && text.contains("already"), "{text}");
    let (ok, text) = cluster(&folder, &["kubectl", "get", "namespaces", "-o", "name"]);
    assert!(ok && text.contains("namespace/kube-system"), "{text}");
    let (ok, text) = cluster(&folder, &["exec", "node7", "--", "true"]);
    assert!(!ok && text.contains("no node `node7`"), "{text}");
    let (ok, text) = cluster(&folder, &["down"]);
    assert!(ok, "{text}");
    assert!(!folder.exists() && !runs(pid));
    let (ok, text) = cluster(&folder, &["down"]);
    assert!(ok && text.contains("there is no cluster"), "{text}");

    // Nobody's own folder is taken for a cluster's.
    std::fs::create_dir_all(folder.join("mine")).unwrap();
    let (ok, text) = cluster(&folder, &["up"]);
    assert!(!ok && text.contains("neither empty nor a cluster's"), "{text}");
    cluster(&folder, &["down"]);
    assert!(folder.join("mine").exists());
    std::fs::remove_dir_all(&folder).unwrap();
}

/// An image of nothing but a static program that tells what it sees and then waits.
fn image(folder: &Path) -> PathBuf {
    std::fs::create_dir_all(folder).unwrap();
    let source = folder.join("program.c");
    let text = "#include <stdio.h>\n#include <unistd.h>\nint main(void) { printf(\"uid %d\\n\", getuid()); fflush(stdout); sleep(100000); }\n";
    std::fs::write(&source, text).unwrap();
    let program = folder.join("program");
    assert!(Command::new("gcc").args(["-static", "-o"]).arg(&program).arg(&source).status().unwrap().success());
    let tar = folder.join("image.tar");
    let entrypoint = ["/bin/program".to_owned()];
    let image = Image { name: "docker.io/mooring/program:dev", entrypoint: &entrypoint, command: &[], user: "65532" };
    write_image(&tar, &image, &[Payload { file: program, path: "/bin/program".to_owned() }]).unwrap();
    tar
}

#[test]
#[ignore = "boots a guest: make test-cluster"]
fn a_guest_is_a_node() {
    let folder = std::env::temp_dir().join(format!("mooring-node-{}", std::process::id()));
    let tar = image(&folder);
    let cluster = Cluster::start(Options::default()).unwrap();
    let admin = cluster.kubectl();
    let options = NodeOptions {
        labels: [("pool".to_owned(), "general".to_owned())].into(),
        keeps_disk: true,
        ..NodeOptions::new("node1", "6.12".parse().unwrap())
    };
    let node = cluster.start_node(&options).unwrap();
    cluster.await_ready(&node).unwrap();
    node.load(&tar).unwrap();

    // A pod of that image, placed by its label, as the user that the image names.
    let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "program"}, "spec": {
        "nodeSelector": {"pool": "general"}, "containers": [{"name": "main", "image": "docker.io/mooring/program:dev"}]}});
    admin.apply(&pod.to_string()).unwrap();
    admin.run(&["run", "busybox", "--image=docker.io/library/busybox:test", "--", "sleep", "100000"]).unwrap();
    admin.run(&["wait", "--for=condition=Ready", "pod", "--all", "--timeout=180s"]).unwrap();
    assert_eq!(admin.run(&["logs", "program"]).unwrap(), "uid 65532\n");
    // By the service's address, with the pod's own token, which is bound to the node.
    let ask = "wget -q -O - --no-check-certificate --header \"Authorization: Bearer $(cat /var/run/secrets/kubernetes.io/serviceaccount/token)\" \
        https://$KUBERNETES_SERVICE_HOST:$KUBERNETES_SERVICE_PORT/api 2>&1";
    let said = admin.run(&["exec", "busybox", "--", "sh", "-c", ask]).unwrap();
    assert!(said.contains("APIVersions"), "{said}");

    // What an agent needs on a node.
    let lsms = node.run(&["cat", "/sys/kernel/security/lsm"]).unwrap();
    assert!(lsms.split(',').any(|lsm| lsm == "bpf"), "{lsms}");
    assert!(node.run(&["cat", "/proc/mounts"]).unwrap().contains(" /sys/fs/bpf bpf "));
    node.run(&["sh", "-c", "ls -d /sys/fs/cgroup/kubepods/besteffort/pod*/*"]).unwrap();
    let ended = node.exec(&["sh", "-c", "echo said; exit 7"]).unwrap();
    assert_eq!((ended.code, ended.output.as_str()), (7, "said\n"));
    // What a command leaves of its input costs nothing of what it said, on a machine that is busy.
    let quiet = AtomicBool::new(false);
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                while !quiet.load(Ordering::Relaxed) {
                    std::hint::spin_loop();
                }
            });
        }
        let answers: Vec<_> = (0..50)
            .map(|_| node.exec_with(&["echo", "said"], &mut std::io::repeat(0).take(1 << 20), &mut std::io::sink()))
            .collect();
        quiet.store(true, Ordering::Relaxed);
        for answer in answers {
            let Ended { code, output } = answer.unwrap();
            assert_eq!((code, output.as_str()), (0, "said\n"));
        }
    });
    // A program that is tested here starts as an init system would start it.
    assert_eq!(node.run(&["grep", "SigIgn", "/proc/self/status"]).unwrap(), "SigIgn:\t0000000000000000\n");

    // Its plug is pulled; what it had on its disk is there again.
    node.run(&["sh", "-c", "echo kept >/var/lib/kept && sync"]).unwrap();
    node.stop();
    assert!(!node.runs());
    assert!(node.exec(&["true"]).is_err());
    cluster.switch_on(&node).unwrap();
    eventually("an answer of the node", || node.exec(&["true"]).is_ok_and(|ended| ended.code == 0));
    assert_eq!(node.run(&["cat", "/var/lib/kept"]).unwrap(), "kept\n");
    eventually("the pod's second start", || {
        let pod = admin.json(&["get", "pod", "program"]).unwrap();
        pod["status"]["containerStatuses"][0]["restartCount"].as_u64() >= Some(1)
    });

    // Its Node is deleted, and another made under its name.
    let uid = || admin.json(&["get", "node", "node1"]).unwrap()["metadata"]["uid"].as_str().unwrap().to_owned();
    let before = uid();
    admin.run(&["delete", "node", "node1"]).unwrap();
    cluster.register_node(&node).unwrap();
    cluster.await_ready(&node).unwrap();
    assert_ne!(uid(), before);
    std::fs::remove_dir_all(&folder).unwrap();
}
