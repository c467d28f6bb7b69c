//! The host, as seen from the agent's own container.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt;

use nix::sched::{CloneFlags, setns, unshare};

/// Why the host's file tree cannot be reached.
#[derive(Debug, thiserror::Error)]
#[error("{what}: {source}; give the agent's pod hostPID and the capabilities that deploy/helm/mooring gives it")]
pub struct HostError {
    what: &'static str,
    source: io::Error,
}

/// Puts this thread, and those that it makes from now on, into the host's mount and cgroup namespaces: bundles, layers and volumes lie
/// anywhere in the host's file tree, and are mounted while the agent runs. Other threads stay in the container, whose service
/// account they read; the first one must, or whatever is executed in the container is executed on the host. Nothing happens outside of a container.
///
/// # Errors
/// When the host's first process cannot be seen or joined.
pub fn enter() -> Result<(), HostError> {
    let error = |what: &'static str| move |source: io::Error| HostError { what, source };
    for (name, kind) in [("mnt", CloneFlags::CLONE_NEWNS), ("cgroup", CloneFlags::CLONE_NEWCGROUP)] {
        let (its, own) = (format!("/proc/1/ns/{name}"), format!("/proc/thread-self/ns/{name}"));
        let id = |path: &str| fs::metadata(path).map(|metadata| (metadata.dev(), metadata.ino()));
        let own_id = id(&own).map_err(error("look at the agent's namespaces"))?;
        // Where a security module guards PID 1's, those of the kernel's own threads are the host's too: PID 2 is kthreadd.
        let is_kernel = || fs::read("/proc/2/cmdline").is_ok_and(|line| line.is_empty());
        let of_kernel = || id(&format!("/proc/2/ns/{name}")).ok().filter(|it| *it == own_id && is_kernel());
        let its_id = id(&its).or_else(|error| of_kernel().ok_or(error));
        if own_id == its_id.map_err(error("look at the host's namespaces"))? {
            continue;
        }
        let namespace = File::open(&its).map_err(error("open the host's namespaces"))?;
        if kind == CloneFlags::CLONE_NEWNS {
            // Working folder and root are one with the other threads' until they are parted.
            unshare(CloneFlags::CLONE_FS).map_err(|e| error("part from the other threads' folders")(e.into()))?;
        }
        setns(&namespace, kind).map_err(|e| error("enter the host's namespaces")(e.into()))?;
    }
    Ok(())
}
