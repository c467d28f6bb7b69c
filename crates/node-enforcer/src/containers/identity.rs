//! Names, namespace, image and labels of a container.

use std::collections::BTreeMap;

use super::Runtime;
use super::oci::Labels;
use super::runtime_state::EngineRecord;

/// Who a container is for a policy's scope and for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Identity {
    pub(super) namespace: String,
    pub(super) pod: String,
    pub(super) pod_uid: Option<String>,
    pub(super) name: String,
    pub(super) sandbox: bool,
    pub(super) image: Option<String>,
    pub(super) labels: BTreeMap<String, String>,
    pub(super) labels_known: bool,
}

/// Annotations by which containerd's CRI, then CRI-O, say the same. Only annotations are asked, which the engine writes; a
/// label can come from the image itself and must not put a container into another namespace.
const NAMESPACE: &[&str] = &["io.kubernetes.cri.sandbox-namespace", "io.kubernetes.pod.namespace"];
const POD: &[&str] = &["io.kubernetes.cri.sandbox-name", "io.kubernetes.pod.name"];
const POD_UID: &[&str] = &["io.kubernetes.cri.sandbox-uid", "io.kubernetes.pod.uid"];
const CONTAINER: &[&str] = &["io.kubernetes.cri.container-name", "io.kubernetes.container.name", "nerdctl/name"];
const IMAGE: &[&str] = &["io.kubernetes.cri.image-name", "io.kubernetes.cri-o.ImageName"];
const TYPE: &[&str] = &["io.kubernetes.cri.container-type", "io.kubernetes.cri-o.ContainerType"];

/// Puts together what the bundle and its engine say.
pub(super) fn identify(
    id: &str,
    runtime: Runtime,
    containerd_namespace: Option<&str>,
    annotations: Labels,
    record: Option<EngineRecord>,
) -> Identity {
    let annotations = annotations.0;
    let annotation =
        |keys: &[&str]| keys.iter().find_map(|key| annotations.get(*key)).filter(|value| !value.is_empty()).cloned();
    let record = record.unwrap_or_default();
    let namespace = annotation(NAMESPACE)
        .or_else(|| containerd_namespace.map(str::to_owned))
        .unwrap_or_else(|| "default".to_owned());
    let labels_known = record.labels.is_some() || !matches!(runtime, Runtime::Docker | Runtime::Podman);
    let mut identity = Identity {
        namespace,
        pod: annotation(POD).unwrap_or_else(|| id.to_owned()),
        pod_uid: annotation(POD_UID),
        name: annotation(CONTAINER).or(record.name).unwrap_or_else(|| id.to_owned()),
        sandbox: annotation(TYPE).as_deref() == Some("sandbox"),
        image: annotation(IMAGE).or(record.image),
        labels: record.labels.unwrap_or_default().0,
        labels_known,
    };
    identity.labels.extend(annotations);
    identity
}
