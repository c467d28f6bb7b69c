//! Another agent takes over by Helm: one that is the same, and one of another wire version, which shares no map with it, in both directions.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use mooring_e2e::cluster::{Helm, HelmVersion, Result};
use mooring_e2e::testing::{replaces_agent, repository};

use crate::faults::new_pod_is_protected;
use crate::oracle::Oracle;
use crate::rig::Rig;

/// The tag of the images with the other agent.
const NEWER: &str = "newer";

/// The agent of another wire version, built now unless `MOORING_NEWER_AGENT` says where it is.
pub fn newer_agent() -> PathBuf {
    if let Some(built) = std::env::var_os("MOORING_NEWER_AGENT") {
        return built.into();
    }
    let output = Command::new(repository("scripts/newer-agent")).stderr(Stdio::inherit()).output().unwrap();
    assert!(output.status.success(), "scripts/newer-agent: {output:?}");
    repository(String::from_utf8(output.stdout).unwrap().trim())
}

pub fn all(rig: &Rig, oracle: &mut Oracle<'_>, newer: &Path) {
    rig.node.load_program_as("enforcer", NEWER, newer).unwrap();
    let version = env!("CARGO_PKG_VERSION");
    rig.on_node(&format!(
        "ctr -n k8s.io images tag --force docker.io/mooring/operator:{version} docker.io/mooring/operator:{NEWER}"
    ));
    let own = wire_versions(rig);
    // Twice: what the first rollback left must not be in the way of the second upgrade.
    for time in ["", ", again"] {
        oracle.during(&format!("helm upgrade to another wire version{time}"), |rig| {
            upgrade(rig, &[&format!("--set-string=images.tag={NEWER}")]);
            assert_ne!(wire_versions(rig), own);
        });
        oracle.during(&format!("helm rollback from another wire version{time}"), |rig| {
            rollback(rig);
            assert_eq!(wire_versions(rig), own);
        });
    }

    oracle.during("helm upgrade", |rig| {
        upgrade(rig, &["--set-string=agent.podAnnotations.try=2", "--set-string=operator.podAnnotations.try=2"]);
    });
    oracle.during("helm rollback", rollback);
}

/// As a user does it; what was set before stays.
fn upgrade(rig: &Rig, values: &[&str]) {
    replaced(rig, |helm| helm.upgrade(&[&["--reuse-values"], values].concat()));
}

fn rollback(rig: &Rig) {
    replaced(rig, Helm::rollback);
}

fn replaced(rig: &Rig, by: impl FnOnce(&Helm) -> Result<String>) {
    let helm = rig.cluster.helm(HelmVersion::Four).unwrap();
    replaces_agent(&rig.admin, || by(&helm)).unwrap();
    new_pod_is_protected(rig, "after-helm");
}

/// The wire version that has anything in force; one, since the other's agent is gone.
fn wire_versions(rig: &Rig) -> String {
    let versions = rig.on_node("cd /sys/fs/bpf/mooring && ls");
    assert_eq!(versions.lines().count(), 1, "{versions}");
    versions
}
