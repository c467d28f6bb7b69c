//! What docker, podman and nerdctl say of their containers.

use serde_json::json;

use super::{Host, TASKS, spec, with};
use crate::containers::Runtime;

#[test]
fn docker_keeps_names_and_labels_beside_containerds_bundle() {
    let host = Host::new();
    let config = with(spec("system.slice:docker:d1"), &[], &[("team", "annotation")]);
    host.bundle(&format!("{TASKS}/moby/d1"), &config);
    host.cgroup("/system.slice/docker-d1.scope");
    let unlabelled = host.finder.resolve("/system.slice/docker-d1.scope", Some(1)).unwrap().unwrap();
    assert!(!unlabelled.labels_known, "docker's folder is elsewhere");

    let record = json!({"ID": "d1", "Name": "/web", "Config": {"Image": "nginx:1", "Labels": {"team": "label", "app": "web",
        "io.kubernetes.pod.namespace": "forged"}}, "State": {"Running": true, "Pid": 5}});
    host.tree.write("/var/lib/docker/containers/d1/config.v2.json", record.to_string());
    let container = host.finder.resolve("/system.slice/docker-d1.scope", Some(1)).unwrap().unwrap();
    assert_eq!(
        (container.runtime, container.name.as_str(), container.image.as_deref()),
        (Runtime::Docker, "web", Some("nginx:1"))
    );
    assert_eq!((container.labels["app"].as_str(), container.labels["team"].as_str()), ("web", "annotation"));
    assert_eq!(container.namespace, "moby", "an image's label does not choose the namespace");
    assert!(container.labels_known);
}

#[test]
fn podman_keeps_names_in_its_storage() {
    let host = Host::new();
    host.process(79, &["app"], "/");
    let storage = "/var/lib/containers/storage/overlay-containers";
    let mut config = with(spec("machine.slice:libpod:p1"), &[], &[("io.container.manager", "libpod")]);
    config["root"]["path"] = json!("/var/lib/containers/storage/overlay/x/merged");
    host.tree.folder("/var/lib/containers/storage/overlay/x/merged");
    host.tree.write(&format!("{storage}/p1/userdata/config.json"), config.to_string());
    host.tree.write(&format!("{storage}/p1/userdata/pidfile"), "79\n");
    let metadata = json!({"image-name": "docker.io/library/alpine:3", "name": "box"}).to_string();
    let all = json!([{"id": "p0", "names": ["no"]}, {"id": "p1", "names": ["box"], "metadata": metadata}, {"id": "p2", "metadata": 7}]);
    host.tree.write(&format!("{storage}/containers.json"), all.to_string());
    host.cgroup("/machine.slice/libpod-p1.scope");
    host.cgroup("/machine.slice/libpod-conmon-p1.scope");
    let container = host.finder.resolve("/machine.slice/libpod-p1.scope", Some(1)).unwrap().unwrap();
    assert_eq!((container.runtime, container.name.as_str(), container.init_pid), (Runtime::Podman, "box", Some(79)));
    assert_eq!(container.image.as_deref(), Some("docker.io/library/alpine:3"));
    assert!(!container.labels_known);
    assert_eq!(host.finder.resolve("/machine.slice/libpod-conmon-p1.scope", Some(1)).unwrap(), None);
}

#[test]
fn nerdctl_names_its_containers() {
    let host = Host::new();
    let config = with(spec("/default/n1"), &[], &[("nerdctl/name", "web"), ("nerdctl/namespace", "default")]);
    host.bundle(&format!("{TASKS}/default/n1"), &config);
    host.cgroup("/default/n1");
    let container = host.finder.resolve("/default/n1", None).unwrap().unwrap();
    assert_eq!((container.namespace.as_str(), container.name.as_str()), ("default", "web"));
}
