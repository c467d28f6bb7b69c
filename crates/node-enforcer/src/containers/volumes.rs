//! Which of a bundle's mounts the pod or container declares, and of what kind they are.

use std::fs;
use std::path::{Path, PathBuf};

use super::cgroup_path::clean;
use super::oci::SpecMount;
use super::places::on_host;

/// A declared mount before its source is looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Declared {
    pub(super) destination: String,
    pub(super) kind: String,
    pub(super) source: PathBuf,
    /// A bind mount's source exists before the container; other filesystems are made with it.
    pub(super) bind: bool,
}

/// Filesystems that every runtime mounts for itself, where no one declared anything.
const KERNEL_FILESYSTEMS: &[&str] =
    &["proc", "sysfs", "devpts", "mqueue", "cgroup", "cgroup2", "devtmpfs", "securityfs"];
/// Where a tmpfs is the runtime's own.
const RUNTIME_TMPFS: &[&str] =
    &["/dev", "/dev/shm", "/dev/pts", "/dev/mqueue", "/proc", "/sys", "/sys/fs/cgroup", "/run", "/run/lock"];

/// The declared mounts of a bundle, in its order.
pub(super) fn declared(mounts: &[SpecMount], bundle: &Path, in_pod: bool, host_root: &Path) -> Vec<Declared> {
    mounts.iter().filter_map(|mount| declared_mount(mount, bundle, in_pod, host_root)).collect()
}

fn declared_mount(mount: &SpecMount, bundle: &Path, in_pod: bool, host_root: &Path) -> Option<Declared> {
    let fs_type = mount.kind.as_deref().unwrap_or_default();
    let options = mount.options.as_deref().unwrap_or_default();
    let bind = fs_type == "bind" || options.iter().any(|option| option == "bind" || option == "rbind");
    let destination = clean(&mount.destination);
    let source = PathBuf::from(mount.source.as_deref().unwrap_or_default());
    if bind {
        // Relative sources are relative to the bundle.
        let source = bundle.join(source);
        let is_runtimes = destination == "/dev/shm" && is_runtime_shm(&source);
        let kind = bind_kind(&source, in_pod, host_root);
        return (!is_runtimes).then_some(Declared { destination, kind, source, bind });
    }
    let is_runtimes = KERNEL_FILESYSTEMS.contains(&fs_type)
        || fs_type.is_empty()
        || (fs_type == "tmpfs" && RUNTIME_TMPFS.contains(&destination.as_str()));
    (!is_runtimes).then(|| Declared { destination, kind: fs_type.to_owned(), source, bind })
}

/// The `/dev/shm` that an engine shares between a pod's containers lies in its own state. With the host's IPC namespace it
/// is the host's; who declares that very folder as a volume is treated as the stricter case, too.
fn is_runtime_shm(source: &Path) -> bool {
    let Some(source) = source.to_str() else {
        return false;
    };
    source == "/dev/shm"
        || (source.ends_with("/shm")
            && ["/io.containerd.grpc.v1.cri/sandboxes/", "/containers/", "/overlay-containers/"]
                .iter()
                .any(|state| source.contains(state))
            && (source.contains("/sandboxes/") || source.ends_with("/mounts/shm") || source.ends_with("/userdata/shm")))
}

/// The kind of a bind mount, from where its source lies.
fn bind_kind(source: &Path, in_pod: bool, host_root: &Path) -> String {
    let parts: Vec<&str> = source.iter().filter_map(|part| part.to_str()).collect();
    if let Some(kind) = kubelet_kind(source, &parts, host_root) {
        return kind;
    }
    let has = |name: &str| parts.contains(&name);
    let last = parts.last().copied().unwrap_or_default();
    let kind = if has("sandboxes") || has("overlay-containers") || is_docker_state(&parts) {
        match last {
            "hosts" => "etcHosts",
            "resolv.conf" => "resolvConf",
            "hostname" => "hostname",
            _ => "bind",
        }
    } else if has("image-volumes") {
        "image"
    } else if has("volumes") && (last == "_data" || has("io.containerd.grpc.v1.cri")) {
        "volume"
    } else if in_pod {
        "hostPath"
    } else {
        "bind"
    };
    kind.to_owned()
}

fn is_docker_state(parts: &[&str]) -> bool {
    parts.windows(2).any(|pair| matches!(pair, ["docker", "containers"]))
}

/// `…/pods/<uid>/volumes/kubernetes.io~<plugin>/<volume>`, `…/pods/<uid>/volume-subpaths/<volume>/<container>/<index>`,
/// `…/pods/<uid>/etc-hosts`, `…/pods/<uid>/containers/<name>/<file>`.
fn kubelet_kind(source: &Path, parts: &[&str], host_root: &Path) -> Option<String> {
    let pods = parts.windows(2).position(|pair| matches!(pair, ["kubelet", "pods"]))? + 1;
    let kind = match *parts.get(pods + 2)? {
        "volumes" => plugin_kind(parts.get(pods + 3)?, parts.get(pods + 4).copied().unwrap_or_default()),
        "volume-subpaths" => {
            // Which plugin made the volume shows only beside it.
            let volume = parts.get(pods + 3)?;
            let pod: PathBuf = source.iter().take(pods + 2).collect();
            let plugins = fs::read_dir(on_host(host_root, &pod).join("volumes")).into_iter().flatten().flatten();
            plugins
                .filter(|plugin| plugin.path().join(volume).symlink_metadata().is_ok())
                .find_map(|plugin| Some(plugin_kind(plugin.file_name().to_str()?, volume)))
                // A subPath of a hostPath is not below the pod's folder.
                .unwrap_or_else(|| "hostPath".to_owned())
        }
        "etc-hosts" => "etcHosts".to_owned(),
        "containers" => "terminationLog".to_owned(),
        _ => return None,
    };
    Some(kind)
}

/// What a pod's spec calls the volume whose files lie at `source`; of a persistent volume its own name. None where the kubelet's
/// folders do not tell: of a hostPath and an image.
pub(crate) fn name_in_pod(source: &Path) -> Option<String> {
    let parts: Vec<&str> = source.iter().filter_map(|part| part.to_str()).collect();
    let pods = parts.windows(2).position(|pair| matches!(pair, ["kubelet", "pods"]))? + 1;
    let name = match *parts.get(pods + 2)? {
        "volumes" => parts.get(pods + 4),
        "volume-subpaths" => parts.get(pods + 3),
        _ => None,
    };
    name.map(|name| (*name).to_owned())
}

/// The API's name of a volume made by a kubelet's plugin.
fn plugin_kind(folder: &str, volume: &str) -> String {
    let plugin = folder.rsplit('~').next().unwrap_or(folder);
    match plugin {
        "empty-dir" => "emptyDir",
        "configmap" => "configMap",
        "downward-api" => "downwardAPI",
        "local-volume" => "persistentVolumeClaim",
        // Names of provisioned volumes; others may be ephemeral ones.
        "csi" if volume.starts_with("pvc-") => "persistentVolumeClaim",
        plugin => plugin,
    }
    .to_owned()
}

#[cfg(test)]
mod naming {
    use super::*;

    #[test]
    fn a_volumes_name_is_the_one_in_the_pods_spec() {
        let pod = "/var/lib/kubelet/pods/4f1c";
        for (source, name) in [
            (format!("{pod}/volumes/kubernetes.io~empty-dir/work"), Some("work")),
            (format!("{pod}/volume-subpaths/work/api/0"), Some("work")),
            (format!("{pod}/volumes/kubernetes.io~csi/pvc-7/mount"), Some("pvc-7")),
            (format!("{pod}/etc-hosts"), None),
            ("/srv/data".to_owned(), None),
        ] {
            assert_eq!(name_in_pod(Path::new(&source)).as_deref(), name, "{source}");
        }
    }
}
