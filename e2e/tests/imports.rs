//! Who may import whom, and that the pure crates stay pure.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

use cargo_metadata::{Metadata, MetadataCommand};

/// Every crate of the workspace, and which of ours it may import, for its tests and its build too.
const MAY_IMPORT: &[(&str, &[&str])] = &[
    ("mooring-crd", &[]),
    ("mooring-policy", &["mooring-crd"]),
    ("mooring-bpf", &[]),
    ("mooring-node-enforcer", &["mooring-policy", "mooring-crd", "mooring-bpf"]),
    // The Deployment and the plugin, which is still to come, never meet the kernel side.
    ("mooring-operator", &["mooring-policy", "mooring-crd"]),
    ("mooring-kubectl-drift", &["mooring-policy", "mooring-crd"]),
    ("mooring-e2e", &["mooring-policy", "mooring-crd"]),
];

/// They take time, randomness and bytes as arguments.
const PURE: &[&str] = &["mooring-crd", "mooring-policy"];

/// Crates that open files or sockets, run tasks or talk to a kernel. Nothing that a pure crate brings along may be one.
const IMPURE: &[&str] = &[
    "async-std",
    "futures-executor",
    "hyper",
    "inotify",
    "io-uring",
    "kube-client",
    "kube-runtime",
    "libbpf-rs",
    "libbpf-sys",
    "memmap2",
    "mio",
    "nix",
    "notify",
    "procfs",
    "rand",
    "reqwest",
    "rustix",
    "rustls",
    "smol",
    "socket2",
    "tempfile",
    "tokio",
    "tower",
    "ureq",
];

/// The standard library's own ways to what is outside.
const IMPURE_STD: &[&str] = &[
    "std::env",
    "std::fs",
    "std::io",
    "std::net",
    "std::os",
    "std::process",
    "std::thread",
    // A length of time is no clock.
    "std::time::Instant",
    "std::time::{",
    // Names each, so that the list above sees it.
    "std::{",
    "SystemTime",
    "Instant::now",
    "Timestamp::now",
    "extern \"C\"",
];

/// Only what the manifests say: nothing is resolved or fetched.
fn workspace() -> Metadata {
    MetadataCommand::new().no_deps().exec().unwrap()
}

#[test]
fn crates_import_one_way() {
    let workspace = workspace();
    let ours: BTreeSet<&str> = workspace.packages.iter().map(|package| package.name.as_str()).collect();
    assert!(ours.len() >= 5, "these are not all of our crates: {ours:?}");
    let mut wrong = Vec::new();
    for package in &workspace.packages {
        let Some((_, may)) = MAY_IMPORT.iter().find(|(name, _)| *name == package.name) else {
            wrong.push(format!("{} is not in MAY_IMPORT: say there what it may import", package.name));
            continue;
        };
        for dependency in &package.dependencies {
            let name = dependency.name.as_str();
            if ours.contains(name) && !may.contains(&name) {
                wrong.push(format!("{} must not import {name} ({} dependency)", package.name, dependency.kind));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// By `cargo tree`, as metadata unites the features of all crates: a client that only another crate turns on is not theirs.
#[test]
fn pure_crates_bring_nothing_impure_along() {
    let root = workspace().workspace_root;
    for name in PURE {
        let tree = Command::new(env!("CARGO"))
            .args(["tree", "--edges", "normal", "--prefix", "none", "--format", "{p}", "--package", name])
            .current_dir(&root)
            .output()
            .unwrap();
        assert!(tree.status.success(), "cargo tree: {}", String::from_utf8_lossy(&tree.stderr));
        let text = String::from_utf8(tree.stdout).unwrap();
        let brought: BTreeSet<&str> = text.lines().filter_map(|line| line.split(' ').next()).collect();
        assert!(brought.contains("serde"), "this is not the tree of {name}: {text}");
        let impure: Vec<_> = IMPURE.iter().filter(|impure| brought.contains(**impure)).collect();
        assert!(impure.is_empty(), "{name} must stay without I/O, and brings {impure:?} along");
    }
}

#[test]
fn pure_crates_use_nothing_impure_of_the_standard_library() {
    for package in workspace().packages.iter().filter(|package| PURE.contains(&package.name.as_str())) {
        let mut seen = 0;
        look_through(package.manifest_path.parent().unwrap().join("src").as_std_path(), &mut seen);
        assert!(seen > 1, "{} has no sources", package.name);
    }
}

fn look_through(folder: &Path, seen: &mut usize) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            look_through(&path, seen);
            continue;
        }
        *seen += 1;
        let text = fs::read_to_string(&path).unwrap();
        for (number, line) in text.lines().enumerate() {
            if let Some(impure) = IMPURE_STD.iter().find(|impure| line.contains(**impure)) {
                panic!("{}:{}: a pure crate must not use {impure}", path.display(), number + 1);
            }
        }
    }
}
