//! Containers found in trees as the engines lay them out.

use std::os::unix::fs::MetadataExt;
use std::path::Path;

use serde_json::json;

use super::{Host, TASKS, spec, with};
use crate::containers::Runtime;

fn cri_container(host: &Host) -> u64 {
    let pods = "/var/lib/kubelet/pods/u-1";
    host.tree.folder(&format!("{pods}/volumes/kubernetes.io~empty-dir/tmp"));
    host.tree.folder(&format!("{pods}/volumes/kubernetes.io~configmap/conf"));
    host.tree.write(&format!("{pods}/volume-subpaths/conf/api/0"), "x");
    host.tree.write(&format!("{pods}/etc-hosts"), "x");
    host.tree.folder("/srv/tools");
    let bind = |destination: &str, source: &str| json!({"destination": destination, "type": "bind", "source": source, "options": ["rbind", "rw"]});
    let config = with(
        spec("/kubepods/besteffort/podu-1/c1"),
        &[
            bind("/dev/shm", "/run/containerd/io.containerd.grpc.v1.cri/sandboxes/s1/shm"),
            bind("/tmp", &format!("{pods}/volumes/kubernetes.io~empty-dir/tmp")),
            bind("/etc/app/", &format!("{pods}/volumes/kubernetes.io~configmap/conf")),
            bind("/etc/one", &format!("{pods}/volume-subpaths/conf/api/0")),
            bind("/etc/hosts", &format!("{pods}/etc-hosts")),
            bind("/opt/tools", "/srv/tools"),
            bind("/gone", "/srv/gone"),
            json!({"destination": "/scratch", "type": "tmpfs", "source": "tmpfs", "options": ["size=1m"]}),
        ],
        &[
            ("io.kubernetes.cri.container-name", "api"),
            ("io.kubernetes.cri.container-type", "container"),
            ("io.kubernetes.cri.image-name", "registry.example.com/api:1"),
            ("io.kubernetes.cri.sandbox-id", "s1"),
            ("io.kubernetes.cri.sandbox-name", "api-x"),
            ("io.kubernetes.cri.sandbox-namespace", "payments"),
            ("io.kubernetes.cri.sandbox-uid", "u-1"),
        ],
    );
    host.bundle(&format!("{TASKS}/k8s.io/c1"), &config);
    host.cgroup("/kubepods/besteffort/podu-1/c1")
}

#[test]
fn a_pods_container_is_described_from_its_bundle() {
    let host = Host::new();
    let cgroup_id = cri_container(&host);
    let container = host.finder.resolve("/kubepods/besteffort/podu-1/c1", None).unwrap().unwrap();
    assert_eq!((container.id.as_str(), container.runtime), ("c1", Runtime::Containerd));
    assert_eq!(
        (container.namespace.as_str(), container.pod.as_str(), container.name.as_str()),
        ("payments", "api-x", "api")
    );
    assert_eq!(container.pod_uid.as_deref(), Some("u-1"));
    assert_eq!(container.image.as_deref(), Some("registry.example.com/api:1"));
    assert_eq!(container.labels["io.kubernetes.cri.sandbox-id"], "s1");
    assert!(container.labels_known);
    assert_eq!((container.cgroup.as_str(), container.cgroup_id), ("/kubepods/besteffort/podu-1/c1", cgroup_id));
    assert_eq!(container.init_pid, None);
    let folder = format!("{TASKS}/k8s.io/c1");
    assert_eq!(container.root.path, Path::new(&format!("{folder}/rootfs")));
    assert_eq!(container.root.ino, host.tree.at(&container.root.path.to_string_lossy()).metadata().unwrap().ino());
    assert!(!container.root.overlay, "a plain folder is not an overlay's root");

    let volumes: Vec<_> =
        container.volumes.iter().map(|v| (v.destination.as_str(), v.kind.as_str(), v.file.is_some())).collect();
    assert_eq!(
        volumes,
        [
            ("/tmp", "emptyDir", true),
            ("/etc/app", "configMap", true),
            ("/etc/one", "configMap", true),
            ("/etc/hosts", "etcHosts", true),
            ("/opt/tools", "hostPath", true),
            ("/gone", "hostPath", false),
            ("/scratch", "tmpfs", false),
        ]
    );
    let tools = container.volumes[4].file.unwrap();
    let expected = host.tree.at("/srv/tools").metadata().unwrap();
    assert_eq!(tools.ino, expected.ino());
    assert_eq!(tools.dev, container.root.dev, "both lie in the scratch folder's filesystem");
}

#[test]
fn the_makers_command_line_finds_a_bundle_anywhere() {
    let host = Host::new();
    host.bundle("/home/me/b", &spec(""));
    let cgroup_id = host.cgroup("/user.slice/demo");
    host.process(77, &["runc", "--root", "/x", "run", "--bundle", "b", "demo"], "/home/me");
    let container = host.finder.resolve("/user.slice/demo", Some(77)).unwrap().unwrap();
    assert_eq!((container.id.as_str(), container.runtime, container.cgroup_id), ("demo", Runtime::Runc, cgroup_id));
    assert_eq!(
        (container.namespace.as_str(), container.pod.as_str(), container.name.as_str()),
        ("default", "demo", "demo")
    );
    // The same runtime makes the cgroups above; they are not the container's.
    assert_eq!(host.finder.resolve("/user.slice", Some(77)).unwrap(), None);
    assert_eq!(host.finder.resolve("/user.slice/demo", None).unwrap(), None, "nothing else knows of it");
}

#[test]
fn a_scope_that_systemd_made_belongs_to_the_runtime_that_waits_for_it() {
    let host = Host::new();
    host.bundle("/b", &spec("my.slice:box:demo"));
    host.cgroup("/my.slice/box-demo.scope");
    host.cgroup("/my.slice/session-demo.scope");
    host.process(1, &["/sbin/init"], "/");
    host.process(77, &["/usr/bin/runc", "--systemd-cgroup", "create", "--bundle", "/b", "demo"], "/");
    let container = host.finder.resolve("/my.slice/box-demo.scope", Some(1)).unwrap().unwrap();
    assert_eq!(container.id, "demo");
    assert_eq!(host.finder.resolve("/my.slice/session-demo.scope", Some(1)).unwrap(), None);
}

#[test]
fn other_cgroups_belong_to_no_container() {
    let host = Host::new();
    cri_container(&host);
    host.process(9, &["/usr/lib/systemd/systemd"], "/");
    for cgroup in
        ["/", "/system.slice/ssh.service", "/kubepods/besteffort/podu-1", "/user.slice/c1", "/c2", "", "c1", "/../c1"]
    {
        assert_eq!(host.finder.resolve(cgroup, Some(9)).unwrap(), None, "{cgroup}");
        assert_eq!(host.finder.resolve(cgroup, Some(12345)).unwrap(), None, "{cgroup}");
    }
}

#[test]
fn runcs_state_names_process_bundle_and_cgroup() {
    let host = Host::new();
    host.bundle("/b", &spec(""));
    let cgroup_id = host.cgroup("/odd/demo");
    host.cgroup("/other/demo");
    host.process(77, &["app"], "/");
    let mount = host.tree.at("sys/fs/cgroup/odd/demo");
    let state = json!({"id": "demo", "init_process_pid": 77, "init_process_start": 4711, "created": "2026-01-01T00:00:00Z",
        "config": {"rootfs": "/b/rootfs", "labels": ["a=b", "bundle=/b"], "namespaces": []},
        "cgroup_paths": {"": mount, "cpu": "/sys/fs/cgroup/cpu/demo"}});
    host.tree.write("/run/runc/demo/state.json", state.to_string());
    let (containers, errors) = host.finder.scan();
    assert!(errors.is_empty(), "{errors:?}");
    let [container] = containers.as_slice() else { panic!("{containers:?}") };
    assert_eq!((container.cgroup.as_str(), container.cgroup_id), ("/odd/demo", cgroup_id));
    assert_eq!(container.init_pid, Some(77));
    assert_eq!(&host.finder.resolve("/odd/demo", None).unwrap().unwrap(), container);
    assert_eq!(host.finder.resolve("/other/demo", None).unwrap(), None, "the recorded cgroup counts");

    let later = state.to_string().replace("4711", "4712");
    host.tree.write("/run/runc/demo/state.json", later);
    assert_eq!(host.finder.scan().0[0].init_pid, None, "the pid was used again");
}

#[test]
fn a_container_of_v1_is_where_its_controller_has_it() {
    let host = Host::of(Some((8, "pids".to_owned())));
    host.bundle("/b", &spec("demo"));
    let cgroup_id = host.cgroup("/odd/demo");
    host.process(77, &["app"], "/");
    let mount = host.tree.at("sys/fs/cgroup/odd/demo");
    let state = json!({"id": "demo", "init_process_pid": 77, "init_process_start": 4711, "config": {"labels": ["bundle=/b"]},
        "cgroup_paths": {"pids": mount, "memory": "/sys/fs/cgroup/memory/elsewhere"}});
    host.tree.write("/run/runc/demo/state.json", state.to_string());
    let found = |host: &Host| host.finder.scan().0.into_iter().map(|it| (it.cgroup, it.cgroup_id)).collect::<Vec<_>>();
    assert_eq!(found(&host), [("/odd/demo".to_owned(), cgroup_id)]);
    assert_eq!(host.finder.resolve("/odd/demo", None).unwrap().unwrap().cgroup_id, cgroup_id);

    // Where only its process says it.
    let state = json!({"id": "demo", "init_process_pid": 77, "config": {"labels": ["bundle=/b"]}});
    host.tree.write("/run/runc/demo/state.json", state.to_string());
    let declared = host.cgroup("/user/demo");
    host.tree.write("proc/77/cgroup", "9:memory:/elsewhere/demo\n8:pids:/user/demo\n0::/\n");
    assert_eq!(found(&host), [("/user/demo".to_owned(), declared)]);
}

#[test]
fn cruns_status_names_process_bundle_and_cgroup() {
    let host = Host::new();
    host.bundle("/b", &spec(""));
    host.cgroup("/system.slice/crun-demo.scope");
    let status = json!({"pid": 78, "process-start-time": 4711, "cgroup-path": "/system.slice/crun-demo.scope", "scope": "crun-demo.scope",
        "rootfs": "/b/rootfs", "systemd-cgroup": true, "bundle": "/b", "created": "", "detached": true});
    host.tree.write("/run/crun/demo/status", status.to_string());
    let container = &host.finder.scan().0[0];
    assert_eq!((container.runtime, container.cgroup.as_str()), (Runtime::Crun, "/system.slice/crun-demo.scope"));
    assert_eq!(container.init_pid, None, "there is no such process");
}

#[test]
fn a_scan_finds_each_container_once_and_sandboxes_too() {
    let host = Host::new();
    cri_container(&host);
    let sandbox = with(
        spec("/kubepods/besteffort/podu-1/s1"),
        &[],
        &[("io.kubernetes.cri.container-type", "sandbox"), ("io.kubernetes.cri.sandbox-name", "api-x")],
    );
    host.bundle(&format!("{TASKS}/k8s.io/s1"), &sandbox);
    host.cgroup("/kubepods/besteffort/podu-1/s1");
    host.tree.write(&format!("{TASKS}/k8s.io/c1/init.pid"), "80");
    host.process(80, &["app"], "/");
    // runc's own state of the same container.
    let state =
        json!({"id": "c1", "init_process_pid": 80, "config": {"labels": [format!("bundle={TASKS}/k8s.io/c1")]}});
    host.tree.write("/run/containerd/runc/k8s.io/c1/state.json", state.to_string());
    // A stopped one: its cgroup is gone.
    host.bundle(&format!("{TASKS}/k8s.io/old"), &spec("/kubepods/old"));
    let (containers, errors) = host.finder.scan();
    assert!(errors.is_empty(), "{errors:?}");
    let found: Vec<_> = containers.iter().map(|c| (c.id.as_str(), c.init_pid)).collect();
    assert_eq!(found, [("c1", Some(80)), ("s1", None)]);
}
