//! What is read of a pod's object.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Pod;
use kube::api::ObjectMeta;
use kube::{Resource, ResourceExt};
use serde::Deserialize;

use super::directory::PodFacts;
use crate::response::StopSignal;

/// What has no such annotation is no mirror of a static pod. The API server lets nobody add it to a pod that is there.
const MIRROR: &str = "kubernetes.io/config.mirror";
/// What a static pod's containers have for its uid.
const CONFIG_HASH: &str = "kubernetes.io/config.hash";
/// Containers of a pod whose stop signals are kept: a tenant may write thousands, and what is kept of all pods must stay readable.
const STOP_SIGNALS_MAX: usize = 16;
/// Bytes of a container's name, as Kubernetes has it.
const NAME_MAX: usize = 63;

/// A pod, of whose specification nothing is read but how its containers are to be stopped.
#[derive(Debug, Clone, Resource, Deserialize)]
#[resource(inherit = "Pod")]
pub(super) struct WatchedPod {
    metadata: ObjectMeta,
    spec: Option<Spec>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Spec {
    containers: Option<Vec<PodContainer>>,
    init_containers: Option<Vec<PodContainer>>,
}

#[derive(Debug, Clone, Deserialize)]
struct PodContainer {
    name: String,
    lifecycle: Option<Lifecycle>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Lifecycle {
    stop_signal: Option<String>,
}

impl From<WatchedPod> for PodFacts {
    fn from(mut pod: WatchedPod) -> Self {
        let is_mirror = pod.annotations().contains_key(MIRROR);
        Self {
            namespace: pod.namespace().unwrap_or_default(),
            name: pod.name_any(),
            static_uid: is_mirror.then(|| pod.annotations().get(CONFIG_HASH).cloned()).flatten(),
            labels: std::mem::take(pod.labels_mut()),
            first_labels: None,
            overlong: false,
            stop_signals: pod.spec.map(stop_signals).unwrap_or_default(),
        }
    }
}

/// Where it is said, and a signal of Linux.
fn stop_signals(spec: Spec) -> BTreeMap<String, StopSignal> {
    let containers = spec.containers.into_iter().chain(spec.init_containers).flatten();
    let said = containers.filter_map(|container| {
        let signal = container.lifecycle?.stop_signal?.parse().ok()?;
        (container.name.len() <= NAME_MAX).then_some((container.name, signal))
    });
    said.take(STOP_SIGNALS_MAX).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn facts(spec: &Value) -> PodFacts {
        let metadata = json!({"name": "api-x", "namespace": "payments", "uid": "u-1", "labels": {"app": "api"},
            "annotations": {MIRROR: "h", CONFIG_HASH: "s-1"}});
        let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec, "status": {"phase": "Running"}});
        serde_json::from_value::<WatchedPod>(pod).unwrap().into()
    }

    fn container(name: &str, signal: &str) -> Value {
        let stop = json!({"exec": {"command": ["true"]}});
        json!({"name": name, "image": "a", "lifecycle": {"stopSignal": signal, "preStop": stop}})
    }

    fn names(facts: &PodFacts) -> Vec<(&str, String)> {
        facts.stop_signals.iter().map(|(name, signal)| (name.as_str(), signal.to_string())).collect()
    }

    #[test]
    fn stop_signals_are_read_where_they_are_said() {
        let facts = facts(&json!({
            "os": {"name": "linux"},
            "containers": [container("app", "SIGUSR1"), {"name": "plain", "image": "a"},
                {"name": "hooks", "lifecycle": {"postStart": {"exec": {}}}}, {"name": "null", "lifecycle": null},
                container("strange", "SIGNONE")],
            "initContainers": [container("first", "SIGRTMIN+3")],
        }));
        assert_eq!(names(&facts), [("app", "SIGUSR1".to_owned()), ("first", "SIGRTMIN+3".to_owned())]);
        assert_eq!((facts.namespace.as_str(), facts.name.as_str()), ("payments", "api-x"));
        assert_eq!((facts.labels["app"].as_str(), facts.static_uid.as_deref()), ("api", Some("s-1")));
    }

    #[test]
    fn a_pod_without_any_is_read() {
        for spec in [json!(null), json!({}), json!({"containers": null}), json!({"containers": [{"name": "app"}]})] {
            assert_eq!(names(&facts(&spec)), [], "{spec}");
        }
    }

    #[test]
    fn no_more_is_kept_than_there_is_room_for() {
        let many: Vec<Value> = (0..1000).map(|number| container(&format!("c{number}"), "SIGINT")).collect();
        assert_eq!(facts(&json!({"containers": many})).stop_signals.len(), STOP_SIGNALS_MAX);
        assert_eq!(names(&facts(&json!({"containers": [container(&"c".repeat(64), "SIGINT")]}))), []);
    }
}
