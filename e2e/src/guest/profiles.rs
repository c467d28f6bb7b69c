//! The policies that the tables of attacks are written for.

use super::error::{OnFile, Result};
use crate::attacks::case::Profile;
use serde_json::{Value, json};
use std::fs;
use std::path::Path;

/// Excepted in `Lists`.
const EXCEPTIONS: &[&str] = &[
    "/opt/agent/bin/updater",
    "/opt/agent/bin/bound",
    "/opt/agent/mounted/program",
    "/opt/agent/memory/program",
    "/opt/agent/layered/program",
    "memfd:allowed",
];

/// Prohibited in `Lists`.
const PROHIBITED: &[&str] = &[
    "/bin/nc",
    "/bin/telnet",
    "/fix/prohibited/by-path",
    "/fix/prohibited/by-fd",
    "/fix/prohibited/in-a-folder",
    "/fix/prohibited/in-a-chroot",
    "/fix/prohibited/renamed",
    "/fix/prohibited/linked",
    "/fix/prohibited/symlinked",
    "/fix/prohibited/moved",
    "/fix/prohibited/evicted",
    "/fix/prohibited/cat",
];

/// Excepted in `Processes`, beside patterns those that the cases of exceptions for processes want to run themselves.
const PATTERNS: &[&str] =
    &["/opt/vendor/**", "/tmp/*/tool", "/opt/agent/busybox-new", "/fix/process/busybox-overwritten"];

/// Prohibited in `Processes`.
const PROHIBITED_PATTERNS: &[&str] = &["/fix/prohibited/python3.*", "/bin/fallo*"];

/// May run what drifted in `Processes`.
const MAY: &[&str] = &[
    "/fix/process/busybox-updater",
    "/fix/process/busybox-renamed",
    "/fix/process/busybox-chmodded",
    "/fix/process/busybox-overwritten",
    "/fix/process/busybox-bound",
    "/fix/process/vendor/*/busybox-*",
    "/opt/agent/*",
];

/// May execute nothing in `Processes`.
const MAY_NOT: &[&str] = &["/fix/process/busybox-serv*"];

/// A policy for the containers called `containers` (all when empty), with these `detect` fields.
pub(crate) fn policy(name: &str, containers: &[&str], detect: &Value, prevent: bool) -> Value {
    let scope = if containers.is_empty() { json!({}) } else { json!({"containers": containers}) };
    json!({
        "apiVersion": "mooring.dev/v1alpha1",
        "kind": "ContainerDriftPolicy",
        "metadata": {"name": name},
        "spec": {
            "description": "A policy of the attack suite.",
            "enabled": true,
            "severity": "High",
            "scope": scope,
            "detect": detect,
            "actions": {"prevent": prevent},
        },
    })
}

/// Drifted binaries and libraries, the simplest policy.
pub(crate) fn drift(name: &str, containers: &[&str], prevent: bool) -> Value {
    policy(name, containers, &json!({"driftedBinaries": true, "driftedLibraries": true}), prevent)
}

/// A policy that prevents everything, everywhere: volumes and libraries too.
pub(crate) fn everything(name: &str) -> Value {
    let detect = json!({"driftedBinaries": true, "driftedLibraries": true, "volumeBinaries": true});
    policy(name, &[], &detect, true)
}

/// The policies of `profile` for container `id`. The first one's name is `id`.
pub(crate) fn of_profile(profile: Profile, id: &str, prevent: bool) -> Vec<Value> {
    let paths = |list: &[&str]| -> Vec<Value> { list.iter().map(|path| json!({"path": path})).collect() };
    let detect = |volumes: bool, libraries: bool| json!({"driftedBinaries": true, "volumeBinaries": volumes, "driftedLibraries": libraries});
    let lists = || {
        let mut detect = detect(false, true);
        detect["exceptions"] = paths(EXCEPTIONS).into();
        detect["prohibitedBinaries"] = paths(PROHIBITED).into();
        detect
    };
    match profile {
        Profile::Drift => vec![policy(id, &[id], &detect(false, true), prevent)],
        Profile::Volumes => vec![policy(id, &[id], &detect(true, true), prevent)],
        Profile::WithoutLibraries => vec![policy(id, &[id], &detect(false, false), prevent)],
        Profile::Lists => vec![policy(id, &[id], &lists(), prevent)],
        Profile::Processes => {
            let mut detect = detect(false, true);
            detect["exceptions"] = paths(PATTERNS).into();
            detect["prohibitedBinaries"] = paths(PROHIBITED_PATTERNS).into();
            detect["processExceptions"] = paths(MAY).into();
            detect["prohibitedProcesses"] = paths(MAY_NOT).into();
            vec![policy(id, &[id], &detect, prevent)]
        }
        Profile::TwoPolicies => vec![
            policy(id, &[id], &lists(), prevent),
            policy(&format!("{id}-second"), &[id], &detect(false, true), prevent),
        ],
    }
}

/// Writes one policy as the file `NAME.json` of `folder`, in one step.
pub(crate) fn write(folder: &Path, policy: &Value) -> Result<()> {
    let name = policy["metadata"]["name"].as_str().unwrap_or("unnamed");
    write_text(folder, &format!("{name}.json"), &policy.to_string())
}

/// Writes any text as a policy file, in one step.
pub(crate) fn write_text(folder: &Path, name: &str, text: &str) -> Result<()> {
    fs::create_dir_all(folder).on("create", folder)?;
    let temporary = folder.join(format!(".{name}.new"));
    let target = folder.join(name);
    fs::write(&temporary, text).on("write", &temporary)?;
    fs::rename(&temporary, &target).on("rename", &target)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_policy_has_no_exception() {
        let policies = of_profile(Profile::TwoPolicies, "c", true);
        assert_eq!(policies[0]["spec"]["detect"]["exceptions"][0]["path"], "/opt/agent/bin/updater");
        assert!(policies[1]["spec"]["detect"]["exceptions"].is_null());
        assert_eq!(policies[1]["metadata"]["name"], "c-second");
    }
}
