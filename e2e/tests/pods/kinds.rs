//! Every kind of pod and container, and what must become of each.

use std::collections::BTreeSet;

use mooring_e2e::testing::eventually;
use serde_json::{Value, json};

use crate::manifests::{BUSYBOX, LIVES, TRIES, container, once, pod, policy};
use crate::rig::{NODE, Rig, rig};

const SPACE: &str = "kinds";
/// Where most of them drop their program.
const DROP: &str = "/tmp/d";

/// A violation that must be refused and told.
struct Expected {
    pod: String,
    container: &'static str,
    path: String,
    reason: &'static str,
    policy: &'static str,
    /// Mount path, kind and name of the volume.
    volume: Option<[&'static str; 3]>,
    count: i64,
}

fn new(pod: &str, container: &'static str) -> Expected {
    at(pod, container, "/tmp/d/busybox", "NewBinary")
}

fn at(pod: &str, container: &'static str, path: &str, reason: &'static str) -> Expected {
    let (pod, path) = (pod.to_owned(), path.to_owned());
    Expected { pod, container, path, reason, policy: SPACE, volume: None, count: 1 }
}

/// Pods that the API server is given, and what each must lead to. A pod costs an emulated node ten times what a container costs it, so
/// what is a container's own is in one.
fn table() -> Vec<(Value, Vec<Expected>)> {
    let none = || json!({});
    let main = |name: &str, more: Value, spec: Value| {
        (pod(SPACE, name, &[container("main", DROP, &more)], &spec), vec![new(name, "main")])
    };
    let both = json!({"cpu": "500m", "memory": "128Mi"});
    let mut all = vec![
        main("worker", none(), none()),
        main("guaranteed", json!({"resources": {"requests": both, "limits": both}}), none()),
        main("host-namespaces", none(), json!({"hostPID": true, "hostNetwork": true, "hostIPC": true})),
        main("user-namespace", none(), json!({"hostUsers": false})),
    ];
    let phases = json!({"initContainers": [
        once("setup", DROP, "/bin/busybox true || echo DISTURBED"),
        container("sidecar", DROP, &json!({"restartPolicy": "Always"})),
    ]});
    let burstable = json!({"resources": {"requests": {"cpu": "10m"}}});
    all.push((
        pod(SPACE, "phases", &[container("main", DROP, &burstable)], &phases),
        vec![new("phases", "setup"), new("phases", "sidecar"), new("phases", "main")],
    ));
    // Two lives of one container, in one pod: its first ends with an error.
    let script = format!("{TRIES}[ -e /work/again ] || {{ >/work/again; exit 3; }}\n{LIVES}");
    let work = json!([{"name": "work", "mountPath": "/work"}]);
    // Where nothing else can be written; what runs from the volume is nobody's business.
    let benign = "cp /bin/busybox /work/ && /work/busybox true || echo DISTURBED\n";
    let as_user = json!({
        "runAsUser": 1000, "runAsNonRoot": true, "allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]},
    });
    let contexts = [
        container("privileged", DROP, &json!({"securityContext": {"privileged": true}})),
        container("not-root", DROP, &json!({"securityContext": as_user})),
        container("restarted", DROP, &json!({"command": ["sh", "-c", script], "volumeMounts": work})),
        container(
            "read-only",
            "/dev/shm/d",
            &json!({
                "securityContext": {"readOnlyRootFilesystem": true}, "volumeMounts": work,
                "command": ["sh", "-c", format!("{benign}{TRIES}{LIVES}")],
            }),
        ),
    ];
    all.push((
        pod(SPACE, "contexts", &contexts, &json!({"volumes": [{"name": "work", "emptyDir": {}}]})),
        vec![
            new("contexts", "privileged"),
            new("contexts", "not-root"),
            Expected { count: 2, ..new("contexts", "restarted") },
            at("contexts", "read-only", "/dev/shm/d/busybox", "ForeignMount"),
        ],
    ));
    // Under a policy that takes volumes for drift.
    let image = format!("{}{LIVES}", "if /image/bin/busybox echo; then echo DRIFT RAN; else echo DRIFT REFUSED; fi\n");
    let volumes = [
        container("whole", "/work/d", &json!({"volumeMounts": work})),
        container(
            "sub-path",
            "/work/d",
            &json!({"volumeMounts": [{"name": "work", "mountPath": "/work", "subPath": "part/of"}]}),
        ),
        container(
            "image",
            "",
            &json!({"command": ["sh", "-c", image], "volumeMounts": [{"name": "tools", "mountPath": "/image"}]}),
        ),
    ];
    let made =
        json!({"volumes": [{"name": "work", "emptyDir": {}}, {"name": "tools", "image": {"reference": BUSYBOX}}]});
    let volume = |container, path, mount, kind, name| Expected {
        policy: "volumes",
        volume: Some([mount, kind, name]),
        ..at("volumes", container, path, "VolumeBinary")
    };
    all.push((
        pod(SPACE, "volumes", &volumes, &made),
        vec![
            volume("whole", "/work/d/busybox", "/work", "emptyDir", "work"),
            volume("sub-path", "/work/d/busybox", "/work", "emptyDir", "work"),
            // A node does not know what the pod calls it.
            volume("image", "/image/bin/busybox", "/image", "image", ""),
        ],
    ));
    all
}

#[test]
#[ignore = "boots a guest: make test-pods"]
fn every_kind_of_pod_is_protected_and_none_disturbed() {
    let rig = rig();
    rig.run(SPACE, || every_kind(rig));
}

fn every_kind(rig: &Rig) {
    let here = json!({"namespaceSelector": {"matchLabels": {"team": SPACE}}});
    let mut volumes = here.clone();
    volumes["podSelector"] = json!({"matchLabels": {"app": "volumes"}});
    rig.protect(
        SPACE,
        &[policy(SPACE, &here, &json!({})), policy("volumes", &volumes, &json!({"volumeBinaries": true}))],
    );
    let mut expected = Vec::new();
    let mut pods = Vec::new();
    for (pod, of) in table() {
        pods.push(pod);
        expected.extend(of);
    }
    // A few at a time: what a small node is asked for at once takes it longer.
    for some in pods.chunks(3) {
        rig.admin.apply(&json!({"apiVersion": "v1", "kind": "List", "items": some}).to_string()).unwrap();
        await_ready(rig);
    }
    let still = pod(SPACE, "static", &[container("main", DROP, &json!({}))], &json!({}));
    let name = format!("static-{NODE}");
    rig.node
        .exec_with(
            &["sh", "-c", "cat >/etc/kubernetes/manifests/static.json"],
            &mut still.to_string().as_bytes(),
            &mut std::io::sink(),
        )
        .unwrap();
    expected.push(new(&name, "main"));
    eventually("the static pod", || rig.admin.run(&["get", "pod", &name, "-n", SPACE]).is_ok());
    await_ready(rig);
    expected.extend(by_hand(rig));
    check(rig, &expected);
    rig.on_node("rm /etc/kubernetes/manifests/static.json");
    rig.clear(SPACE);
}

fn await_ready(rig: &Rig) {
    rig.admin.run(&["wait", "--for=condition=Ready", "pod", "--all", "-n", SPACE, "--timeout=600s"]).unwrap();
}

/// What people do with kubectl.
fn by_hand(rig: &Rig) -> Vec<Expected> {
    let admin = &rig.admin;
    let exec = |script: &str| admin.run(&["exec", "-n", SPACE, "worker", "-c", "main", "--", "sh", "-c", script]);
    // exec: of the image's programs, of dropped ones.
    assert_eq!(exec("/bin/busybox echo fine").unwrap(), "fine\n");
    let said = exec("cp /bin/busybox /tmp/by-exec && timeout 5 /tmp/by-exec").unwrap_err();
    assert!(is_refusal(&format!("{said:?}")), "{said:?}");
    // cp: the file comes there, and back, and does not run.
    let file = rig.cluster.programs().join("pause");
    admin.run(&["cp", "-n", SPACE, "-c", "main", file.to_str().unwrap(), "worker:/tmp/by-cp"]).unwrap();
    let said = exec("timeout 5 /tmp/by-cp").unwrap_err();
    assert!(is_refusal(&format!("{said:?}")), "{said:?}");
    let back = std::env::temp_dir().join(format!("mooring-cp-{}", std::process::id()));
    admin.run(&["cp", "-n", SPACE, "-c", "main", "worker:/tmp/by-cp", back.to_str().unwrap()]).unwrap();
    assert_eq!(std::fs::read(&back).unwrap(), std::fs::read(&file).unwrap());
    std::fs::remove_file(&back).unwrap();
    // debug: an ephemeral container, a copy of the pod, a pod that sees the node.
    let script = format!("DROP=/tmp/d\n{TRIES}{LIVES}");
    let image = format!("--image={BUSYBOX}");
    let debug = |more: &[&str], script: &str| {
        let all = [&["debug", "-n", SPACE, &image][..], more, &["--", "sh", "-c", script]].concat();
        admin.run(&all).unwrap();
    };
    debug(&["worker", "--container=ephemeral"], &script);
    debug(&["worker", "--container=target", "--target=main", "--profile=general"], &script);
    debug(&["worker", "--container=copied", "--copy-to=copy"], &script);
    let on_node = format!("chroot /host /usr/bin/true || echo DISTURBED\n{script}");
    debug(&[&format!("node/{NODE}"), "--profile=sysadmin"], &on_node);
    let pods = admin.run(&["get", "pods", "-n", SPACE, "-o", "name"]).unwrap();
    let debugger = pods
        .lines()
        .find_map(|line| line.strip_prefix("pod/").filter(|name| name.starts_with("node-debugger")))
        .unwrap();
    vec![
        at("worker", "main", "/tmp/by-exec", "NewBinary"),
        at("worker", "main", "/tmp/by-cp", "NewBinary"),
        new("worker", "ephemeral"),
        new("worker", "target"),
        new("copy", "main"),
        new("copy", "copied"),
        new(debugger, "debugger"),
    ]
}

fn is_refusal(said: &str) -> bool {
    said.contains("Operation not permitted") || said.contains("Permission denied")
}

fn text<'a>(value: &'a Value, pointer: &str) -> &'a str {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

fn check(rig: &Rig, expected: &[Expected]) {
    let key = |event: &Value| {
        [text(event, "/spec/pod/name"), text(event, "/spec/container"), text(event, "/spec/path")].map(str::to_owned)
    };
    let wanted: BTreeSet<_> =
        expected.iter().map(|one| [one.pod.clone(), one.container.to_owned(), one.path.clone()]).collect();
    let events = || rig.admin.json(&["get", "driftevents", "-n", SPACE]).unwrap()["items"].as_array().unwrap().clone();
    let mut found = Vec::new();
    eventually("an event of each, with its count", || {
        found = events();
        let total = |events: &[Value]| events.iter().filter_map(|event| event["status"]["count"].as_i64()).sum::<i64>();
        let keys: BTreeSet<_> = found.iter().map(key).collect();
        for missing in wanted.difference(&keys) {
            eprintln!("no event yet: {missing:?}");
        }
        wanted.is_subset(&keys) && total(&found) >= expected.iter().map(|one| one.count).sum()
    });
    let keys: BTreeSet<_> = found.iter().map(key).collect();
    assert_eq!(keys, wanted, "no more than these");
    println!("{}", rig.admin.run(&["get", "driftevents", "-n", SPACE]).unwrap());
    let mut pods = Vec::new();
    // An agent can be quicker than a kubelet.
    eventually("the kubelet's word of each container", || {
        let all = rig.admin.json(&["get", "pods", "-n", SPACE]).unwrap();
        pods.clone_from(all["items"].as_array().unwrap());
        expected.iter().all(|one| {
            let pod = pods.iter().find(|pod| text(pod, "/metadata/name") == one.pod);
            pod.is_some_and(|pod| !ids(pod, one.container).is_empty())
        })
    });
    let mut wrong = Vec::new();
    for one in expected {
        let event = found.iter().find(|event| key(event) == [one.pod.as_str(), one.container, &one.path]).unwrap();
        let pod = pods.iter().find(|pod| text(pod, "/metadata/name") == one.pod).unwrap();
        wrong.extend(
            misstated(event, pod, one)
                .into_iter()
                .map(|what| format!("{} {}: {what}\n{event}", one.pod, one.container)),
        );
        wrong.extend(disturbed(rig, pod, one).into_iter().map(|what| format!("{} {}: {what}", one.pod, one.container)));
    }
    let node = rig.admin.json(&["get", "driftnode", NODE]).unwrap();
    let containers = &node["status"]["containers"];
    if containers["matched"] != containers["protected"] || containers["matched"].as_i64() < Some(15) {
        wrong.push(format!("{containers}"));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// The ids of a container's lives, as far as the kubelet has told of them.
fn ids(pod: &Value, container: &str) -> Vec<String> {
    let statuses = ["containerStatuses", "initContainerStatuses", "ephemeralContainerStatuses"];
    statuses
        .iter()
        .flat_map(|kind| pod["status"][kind].as_array().cloned().unwrap_or_default())
        .filter(|status| status["name"] == container)
        .flat_map(|status| {
            ["/containerID", "/lastState/terminated/containerID", "/state/terminated/containerID"]
                .map(|at| text(&status, at).trim_start_matches("containerd://").to_owned())
        })
        .filter(|id| !id.is_empty())
        .collect()
}

/// What an event says that is not so.
fn misstated(event: &Value, pod: &Value, one: &Expected) -> Vec<String> {
    let ids = ids(pod, one.container);
    let by_hand = one.path.contains("/by-");
    let mut wrong = Vec::new();
    let mut same = |what: &str, is: &str, must: &str| {
        if is != must {
            wrong.push(format!("{what} is {is:?}, not {must:?}"));
        }
    };
    let spec = &event["spec"];
    let command = if by_hand { one.path.clone() } else { format!("{} echo", one.path) };
    let is_static = one.pod.starts_with("static");
    // runc, which began it, ends at about the time when what the shell became is executed; the shim is its parent from then on.
    let parent = match text(spec, "/process/parent/name") {
        "runc" if by_hand => "runc",
        _ if by_hand => "containerd-shim",
        _ => "sh",
    };
    for (at, must) in [
        ("/policy", one.policy),
        ("/severity", "High"),
        ("/runbookURL", "https://runbooks.example.com/drift"),
        ("/verdict", "Denied"),
        ("/reason", one.reason),
        ("/node", NODE),
        ("/image", BUSYBOX),
        ("/process/commandLine", &command),
        ("/process/parent/name", parent),
        (
            "/pod/uid",
            if is_static {
                text(pod, "/metadata/annotations/kubernetes.io~1config.hash")
            } else {
                text(pod, "/metadata/uid")
            },
        ),
    ] {
        same(at, text(spec, at), must);
    }
    for (at, must) in ["/mountPath", "/kind", "/name"].iter().zip(one.volume.unwrap_or_default()) {
        same(&format!("/volume{at}"), text(&spec["volume"], at), must);
    }
    if !ids.iter().any(|id| id == text(spec, "/containerID")) {
        wrong.push(format!("the container's id is none of {ids:?}"));
    }
    // On the node, where a pod with users of its own has none that anybody else is.
    let uid = spec["process"]["uid"].as_u64().unwrap_or(u64::MAX);
    let right = match (one.pod.as_str(), one.container) {
        ("user-namespace", _) => uid >= 65536,
        (_, "not-root") => uid == 1000,
        _ => uid == 0,
    };
    if !right {
        wrong.push(format!("the process's uid is {uid}"));
    }
    if event["status"]["count"] != json!(one.count) {
        wrong.push(format!("the count is {}, not {}", event["status"]["count"], one.count));
    }
    wrong
}

/// What went wrong in a container besides.
fn disturbed(rig: &Rig, pod: &Value, one: &Expected) -> Vec<String> {
    let mut wrong = Vec::new();
    let log = rig.admin.run(&["logs", "-n", SPACE, &one.pod, "-c", one.container]).unwrap();
    if !one.path.contains("/by-") && (!log.contains("DRIFT REFUSED") || !is_refusal(&log)) {
        wrong.push("says nothing of a refusal".to_owned());
    }
    if log.contains("DRIFT RAN") || log.contains("DISTURBED") {
        wrong.push(log);
    }
    let statuses = pod["status"]["containerStatuses"].as_array().cloned().unwrap_or_default();
    for status in statuses.iter().filter(|status| status["name"] == one.container) {
        if status["restartCount"] != i64::from(one.container == "restarted") || status["state"]["running"].is_null() {
            wrong.push(status.to_string());
        }
    }
    let class = match one.pod.as_str() {
        "guaranteed" => Some("Guaranteed"),
        "phases" => Some("Burstable"),
        "contexts" => Some("BestEffort"),
        _ => None,
    };
    if class.is_some_and(|class| text(pod, "/status/qosClass") != class) {
        wrong.push(text(pod, "/status/qosClass").to_owned());
    }
    wrong
}
