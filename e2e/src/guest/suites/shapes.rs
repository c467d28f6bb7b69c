//! Containers that are not made as the others are: a root that is no overlay, a user namespace, the host's `/` as a volume.

use super::Test;
use super::lifecycle::{refuses, released, runs};
use crate::guest::context::{Context, Running};
use crate::guest::enforcer::Enforcer;
use crate::guest::error::{HarnessError, OnFile, Result};
use crate::guest::profiles;
use crate::guest::runtime::Shape;
use std::path::Path;
use std::time::Duration;

pub(crate) const TESTS: &[Test] = &[
    Test { name: "plain-root", body: plain_root },
    Test { name: "user-namespace", body: user_namespace },
    Test { name: "host-root-as-a-volume", body: host_root },
    Test { name: "host-root-as-a-volume-under-volume-binaries", body: host_root_drifted },
];

/// What an honest container of any shape does.
fn is_undisturbed(container: &mut Running<'_>) -> Result<()> {
    for program in
        ["/fix/tiny", "/bin/gcat /fix/token", "/usr/bin/probe exec-proc-fd /fix/tiny", "/usr/bin/probe anonymous-exec"]
    {
        runs(container, program)?;
    }
    Ok(())
}

fn is_told(enforcer: &Enforcer, path: &str, reason: &str) -> Result<()> {
    let limit = Duration::from_secs(6);
    enforcer
        .wait_for_event(0, limit, path, |event| {
            event.path == path && event.reason == reason && event.verdict == "Denied"
        })
        .map(drop)
}

/// Starts the enforcer with a policy for everything in `id`, then a container of that shape.
fn with_shape(
    context: &Context,
    id: &str,
    shape: Shape,
    policy: &serde_json::Value,
    body: impl FnOnce(&mut Running<'_>, &Enforcer) -> Result<()>,
) -> Result<()> {
    released(context, |binary, folder| {
        profiles::write(&folder, policy)?;
        let enforcer = Enforcer::start(binary, &folder)?;
        let mut container = context.container_of(id, shape)?;
        is_undisturbed(&mut container)?;
        body(&mut container, &enforcer)?;
        is_undisturbed(&mut container)?;
        enforcer.all_well_formed()
    })
}

fn plain_root(context: &Context) -> Result<()> {
    let policy = profiles::drift("shapes", &["shape-plain"], true);
    with_shape(context, "shape-plain", Shape::Plain, &policy, |container, enforcer| {
        // Change times are compared in whole seconds with the container's start.
        std::thread::sleep(Duration::from_secs(2));
        let dropped = container.drop_program("x")?;
        refuses(container, &dropped)?;
        is_told(enforcer, &dropped, "NewBinary")?;
        refuses(container, &format!("/usr/bin/probe mmap-exec {dropped}"))?;
        is_told(enforcer, &dropped, "DriftedLibrary")?;
        container.session.must("cat /fix/tiny > /fix/victim/copy-up-chmod")?;
        refuses(container, "/fix/victim/copy-up-chmod")?;
        container.session.must("mkdir -p /mnt; mount -t tmpfs none /mnt; cp /fix/tiny /mnt/x")?;
        refuses(container, "/mnt/x")?;
        is_told(enforcer, "/mnt/x", "ForeignMount")
    })
}

fn user_namespace(context: &Context) -> Result<()> {
    let policy = profiles::drift("shapes", &["shape-user"], true);
    with_shape(context, "shape-user", Shape::UserNamespace, &policy, |container, enforcer| {
        let map = container.session.must("cat /proc/self/uid_map")?;
        if map.split_whitespace().nth(1) == Some("0") {
            return Err(HarnessError::Wrong(format!("the container is in no user namespace of its own: {map}")));
        }
        let dropped = container.drop_program("x")?;
        refuses(container, &dropped)?;
        is_told(enforcer, &dropped, "NewBinary")?;
        container.session.must("mount -t tmpfs none /tmp; cp /fix/tiny /tmp/x")?;
        refuses(container, "/tmp/x")?;
        is_told(enforcer, "/tmp/x", "ForeignMount")?;
        refuses(container, "/usr/bin/probe exec-memfd dropped /fix/tiny execveat")?;
        is_told(enforcer, "memfd:dropped", "Fileless")
    })
}

/// Without `volumeBinaries` the host's files are the volume's: they may run, and what is dropped in the container may not.
fn host_root(context: &Context) -> Result<()> {
    let policy = profiles::drift("shapes", &["shape-host"], true);
    with_shape(context, "shape-host", Shape::HostRoot, &policy, |container, enforcer| {
        let dropped = container.drop_program("x")?;
        refuses(container, &dropped)?;
        is_told(enforcer, &dropped, "NewBinary")?;
        let program = host_program(context)?;
        runs(container, &program)?;
        // The host sees the container's root, too: it is the same overlay there.
        let again = format!("/host{}/bundles/shape-host/rootfs{dropped}", context.work.display());
        refuses(container, &again)
    })
}

fn host_root_drifted(context: &Context) -> Result<()> {
    let policy = profiles::everything("shapes");
    with_shape(context, "shape-drifted", Shape::HostRoot, &policy, |container, enforcer| {
        let program = host_program(context)?;
        refuses(container, &program)?;
        is_told(enforcer, &program, "VolumeBinary")
    })
}

/// A program that prints the token, in a folder of the host, as the container names it.
fn host_program(context: &Context) -> Result<String> {
    let path = context.work.join("host-program");
    std::fs::copy(context.image.path("/fix/tiny"), &path).on("write", &path)?;
    Ok(Path::new("/host").join(path.strip_prefix("/").unwrap_or(&path)).display().to_string())
}
