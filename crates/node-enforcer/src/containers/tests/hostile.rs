//! Files that are half-written, too long, or not files.

use std::os::unix::fs::symlink;

use proptest::prelude::*;
use serde_json::json;

use super::{Host, spec, with};
use crate::containers::{Container, ContainerError, Finder, FinderConfig};

const BUNDLE: &str = "/run/containerd/io.containerd.runtime.v2.task/default/x";
const CONFIG: &str = "/run/containerd/io.containerd.runtime.v2.task/default/x/config.json";

fn resolve(host: &Host) -> Result<Option<Container>, ContainerError> {
    host.cgroup("/x");
    host.finder.resolve("/x", None)
}

#[test]
fn every_half_of_a_configuration_is_transient() {
    let host = Host::new();
    let whole = spec("/x").to_string();
    host.bundle(BUNDLE, &spec("/x"));
    for end in (0..whole.len()).step_by(7) {
        host.tree.write(CONFIG, &whole[..end]);
        let error = resolve(&host).unwrap_err();
        assert!(error.is_transient(), "{end}: {error}");
    }
    host.tree.write(CONFIG, &whole);
    assert!(resolve(&host).unwrap().is_some());
}

#[test]
fn a_root_that_is_not_there_yet_is_transient() {
    let host = Host::new();
    host.tree.write(CONFIG, spec("/x").to_string());
    assert!(resolve(&host).unwrap_err().is_transient());
}

#[test]
fn too_long_a_configuration_is_refused() {
    let host = Host::new();
    host.bundle(BUNDLE, &spec("/x"));
    let mut text = spec("/x").to_string();
    text.push_str(&" ".repeat(16 << 20));
    host.tree.write(CONFIG, text);
    assert!(matches!(resolve(&host), Err(ContainerError::TooLarge { .. })));
}

#[test]
fn what_is_no_regular_file_neither_blocks_nor_is_read() {
    let host = Host::new();
    host.tree.folder(BUNDLE);
    nix::unistd::mkfifo(&host.tree.at(CONFIG), nix::sys::stat::Mode::S_IRWXU).unwrap();
    assert!(matches!(resolve(&host), Err(ContainerError::Malformed { .. })));
    std::fs::remove_file(host.tree.at(CONFIG)).unwrap();
    symlink("/dev/zero", host.tree.at(CONFIG)).unwrap();
    assert!(matches!(resolve(&host), Err(ContainerError::Malformed { .. })));
}

#[test]
fn wrong_types_and_floods_are_refused_and_control_characters_escaped() {
    let host = Host::new();
    let many: Vec<_> = (0..2000).map(|i| json!({"destination": format!("/v{i}"), "type": "tmpfs"})).collect();
    let mut labels = spec("/x");
    labels["annotations"] = (0..5000).map(|i| (format!("k{i}"), json!("v"))).collect::<serde_json::Map<_, _>>().into();
    let mut number = spec("/x");
    number["annotations"]["a"] = json!(7);
    let mut rootless = spec("/x");
    rootless["root"] = json!(null);
    for config in [with(spec("/x"), &many, &[]), labels, number, rootless, json!([]), json!({"mounts": "\u{1b}[2J\n"})]
    {
        host.bundle(BUNDLE, &config);
        let error = resolve(&host).unwrap_err();
        assert!(matches!(error, ContainerError::Malformed { .. }), "{error}");
        assert!(!error.to_string().contains(char::is_control), "{error:?}");
    }
}

#[test]
fn a_long_annotation_is_cut_between_characters() {
    let host = Host::new();
    host.bundle(BUNDLE, &with(spec("/x"), &[], &[("long", &"é".repeat(4000)), ("short", "é")]));
    let labels = resolve(&host).unwrap().unwrap().labels;
    assert_eq!((labels["long"].as_str(), labels["short"].as_str()), ("é".repeat(2048).as_str(), "é"));
}

#[test]
fn a_broken_bundle_hides_no_other_from_a_scan() {
    let host = Host::new();
    host.bundle(BUNDLE, &spec("/x"));
    host.cgroup("/x");
    host.tree.write("/run/runc/bad/state.json", "{\"init_process_pid\": \"no\"}");
    host.tree.write("/run/runc/half/state.json", "{");
    let (containers, errors) = host.finder.scan();
    assert_eq!(containers.len(), 1);
    let transient: Vec<bool> = errors.iter().map(ContainerError::is_transient).collect();
    assert_eq!(transient, [false, true]);
}

#[test]
fn a_mount_of_another_kind_is_not_taken_for_the_declared_one() {
    let host = Host::new();
    let late = |kind: &str| json!({"destination": "/proc", "type": kind});
    host.bundle(BUNDLE, &with(spec("/x"), &[late("nfs"), late("fuse.x")], &[]));
    let mut container = resolve(&host).unwrap().unwrap();
    container.volumes.retain(|volume| volume.destination == "/proc");
    container.volumes.last_mut().unwrap().kind = "proc".to_owned();
    // This process's own mounts stand for the container's.
    let real = Finder::new(FinderConfig::default());
    let open = real.resolve_tmpfs(&mut container, std::process::id()).unwrap();
    let known: Vec<_> = container.volumes.iter().map(|v| (v.kind.as_str(), v.file.is_some())).collect();
    assert_eq!((open, known), (1, vec![("nfs", false), ("proc", true)]));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn no_configuration_makes_the_finder_panic(flips in proptest::collection::vec((any::<proptest::sample::Index>(), any::<u8>()), 0..6)) {
        let host = Host::new();
        host.bundle(BUNDLE, &spec("/x"));
        let mut bytes = spec("/x").to_string().into_bytes();
        for (at, byte) in flips {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        host.tree.write(CONFIG, &bytes);
        let _ = resolve(&host);
        let _ = host.finder.scan();
    }
}
