//! Containers that are never acted on.

use mooring_policy::select::glob;

use crate::containers::Container;

/// Pods whose containers are never killed, stopped or paused. All that is said must hold.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ProtectedPod {
    /// The namespace's name, where `*` stands for any characters.
    pub namespace: Option<String>,
    /// The pod's name, in the same way.
    pub name: Option<String>,
    /// Whether its manifest is a file on the node: see [`is_static`].
    pub is_static: Option<bool>,
}

impl ProtectedPod {
    pub(super) fn covers(&self, container: &Container) -> bool {
        let fits = |pattern: &Option<String>, text: &str| pattern.as_ref().is_none_or(|pattern| glob(pattern, text));
        fits(&self.namespace, &container.namespace)
            && fits(&self.name, &container.pod)
            && self.is_static.is_none_or(|wanted| wanted == is_static(container))
    }
}

/// Whether a pod's manifest is a file on the node: the kubelet gives such a pod a hash of it as its uid (32 hexadecimal digits,
/// `pkg/kubelet/config/common.go`), where an API server always makes one with dashes, whatever it is asked to take.
#[must_use]
pub fn is_static(container: &Container) -> bool {
    container.pod_uid.as_ref().is_some_and(|uid| uid.len() == 32 && uid.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

/// Whether the agent itself runs in a container, in any of its hierarchies.
pub(super) fn is_own(container: &Container) -> bool {
    let own = std::fs::read_to_string("/proc/thread-self/cgroup").unwrap_or_default();
    is_in(&own, &container.cgroup)
}

fn is_in(own: &str, cgroup: &str) -> bool {
    own.lines().filter_map(|line| line.splitn(3, ':').nth(2)).any(|path| std::path::Path::new(path).starts_with(cgroup))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::tests::container;

    #[test]
    fn all_that_is_said_of_protected_pods_must_hold() {
        let mut pod = container("c");
        (pod.namespace, pod.pod) = ("kube-system".to_owned(), "kube-apiserver-node1".to_owned());
        let text = |text: &str| Some(text.to_owned());
        let pods = |namespace, name, is_static| ProtectedPod { namespace, name, is_static };
        assert!(!pods(text("kube-system"), None, Some(true)).covers(&pod), "an API server made its uid");
        pod.pod_uid = text("0123456789abcdef0123456789abcdef");
        assert!(pods(text("kube-system"), None, Some(true)).covers(&pod));
        assert!(pods(None, text("kube-*"), None).covers(&pod));
        assert!(!pods(text("kube-*"), text("etcd-*"), None).covers(&pod));
        assert!(!pods(text("default"), None, Some(true)).covers(&pod));
        assert!(!pods(None, None, Some(false)).covers(&pod));
        pod.pod_uid = text("01234567-89ab-cdef-0123-456789abcdef");
        assert!(!is_static(&pod));
    }

    #[test]
    fn the_agents_own_container_is_known_in_every_hierarchy() {
        let own = "12:pids:/pods/a\n0::/kubepods/podx/c/nested\n";
        for (cgroup, is_own) in [
            ("/kubepods/podx/c", true),
            ("/kubepods/podx/c/nested", true),
            ("/pods/a", true),
            ("/kubepods/podx/c2", false),
            ("/kubepods/podx/c/nested/more", false),
        ] {
            assert_eq!(is_in(own, cgroup), is_own, "{cgroup}");
        }
    }
}
