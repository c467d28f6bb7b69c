//! Real `runc`: its own `config.json`, and a container. It needs root, cgroup v2 and runc, so a guest runs them (`make vm-runc`).

use std::fs::Permissions;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use super::Host;
use crate::containers::scratch::Scratch;
use crate::containers::{Finder, FinderConfig, Hierarchy, Places, Runtime};

/// Whether runc did it, or what it said.
fn runc(arguments: &[&str], cwd: &Path) -> Result<(), String> {
    let said = cwd.join("stderr");
    let stderr = std::fs::File::create(&said).unwrap();
    // The container's process inherits the standard streams and would keep a pipe open.
    let mut command = Command::new("runc");
    command.args(arguments).current_dir(cwd);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(stderr);
    let done = command.status().expect("runc is installed").success();
    done.then_some(()).ok_or_else(|| std::fs::read_to_string(&said).unwrap())
}

/// What `runc spec` writes.
fn written_by_runc(folder: &Path) -> Value {
    runc(&["spec"], folder).unwrap();
    serde_json::from_slice(&std::fs::read(folder.join("config.json")).unwrap()).unwrap()
}

#[test]
#[ignore = "needs runc: a guest runs it, see `make vm-runc`"]
fn what_runc_spec_writes_declares_no_volume() {
    let scratch = Scratch::new();
    let config = written_by_runc(scratch.path());
    let host = Host::new();
    host.bundle("/b", &config);
    host.cgroup("/demo");
    host.process(77, &["runc", "run", "demo"], "/b");
    let container = host.finder.resolve("/demo", Some(77)).unwrap().unwrap();
    assert_eq!(container.volumes, []);
    assert_eq!(container.runtime, Runtime::Runc);
}

struct Created<'a>(&'a Path, &'a str, &'a str);

impl Drop for Created<'_> {
    fn drop(&mut self) {
        let _ = runc(&["--root", self.1, "delete", "--force", self.2], self.0);
    }
}

#[test]
#[ignore = "needs runc: a guest runs it, see `make vm-runc`"]
fn a_container_of_runc_is_found_and_its_tmpfs_resolved() {
    let scratch = Scratch::new();
    let mut config = written_by_runc(scratch.path());
    let data = scratch.folder("data");
    // runc looks for the program before it waits to be started.
    let program = scratch.write("rootfs/bin/sh", "");
    std::fs::set_permissions(program, Permissions::from_mode(0o755)).unwrap();
    config["process"]["terminal"] = json!(false);
    config["mounts"].as_array_mut().unwrap().extend([
        json!({"destination": "/scratch", "type": "tmpfs", "source": "tmpfs", "options": ["size=64k"]}),
        json!({"destination": "/data", "type": "bind", "source": data, "options": ["bind"]}),
    ]);
    config["root"]["readonly"] = json!(false);
    scratch.write("config.json", config.to_string());
    let state = scratch.folder("state");
    let id = format!("mooring-{}", std::process::id());
    let state_text = state.to_str().unwrap();
    let created = Created(scratch.path(), state_text, &id);
    let create = ["--root", state_text, "create", &id];
    runc(&create, scratch.path()).unwrap();
    let cgroup_mount = Hierarchy::of_host().unwrap().mount;
    let finder = Finder::new(FinderConfig {
        places: Places { runc: vec![state.clone()], ..Places::default() },
        ..FinderConfig::default()
    });
    let (containers, _) = finder.scan();
    let mut container = containers.into_iter().find(|container| container.id == id).unwrap();
    assert_eq!(container.cgroup_id, cgroup_mount.join(&container.cgroup[1..]).metadata().unwrap().ino());
    assert_eq!(finder.resolve(&container.cgroup, None).unwrap().as_ref(), Some(&container));
    let bind = container.volumes.iter().find(|volume| volume.destination == "/data").unwrap();
    assert_eq!(bind.file.unwrap().ino, data.metadata().unwrap().ino());

    let pid = container.init_pid.unwrap();
    assert_eq!(finder.resolve_tmpfs(&mut container, pid).unwrap(), 0);
    let tmpfs = container.volumes.iter().find(|volume| volume.destination == "/scratch").unwrap();
    let expected = std::fs::metadata(format!("/proc/{pid}/root/scratch")).unwrap();
    let minor = u32::try_from(nix::sys::stat::minor(expected.dev())).unwrap();
    let major = u32::try_from(nix::sys::stat::major(expected.dev())).unwrap();
    let file = tmpfs.file.unwrap();
    assert_eq!((file.dev, file.ino), ((major << 20) | minor, expected.ino()));
    drop(created);
}
