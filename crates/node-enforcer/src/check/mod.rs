//! What this kernel can do, from probes that really load and a self-test that really runs a drifted file.

pub mod child;
mod self_test;

use std::fs;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::kernel::KernelError;
pub use self_test::{SelfTest, SelfTestError, self_test, self_test_apart};

/// The kernel's active security modules.
const LSM_LIST: &str = "/sys/kernel/security/lsm";
/// Where the kernel keeps its type information.
const BTF: &str = "/sys/kernel/btf/vmlinux";
/// Capabilities by number: what loading and mounting need (include/uapi/linux/capability.h).
const CAPABILITIES: [(&str, u32); 1] = [("CAP_SYS_ADMIN", 21)];

/// What `check` prints.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Check {
    /// The kernel's release.
    pub kernel: String,
    /// Its active security modules.
    pub lsm: Option<String>,
    /// `BpfLsm`, or nothing.
    pub backend: Option<String>,
    /// Whether executions are refused.
    pub prevention: bool,
    /// What is in the way, each with what to do.
    pub problems: Vec<String>,
    /// What the self-test saw.
    pub self_test: Option<SelfTest>,
}

/// Asks for everything that must be there before anything is loaded; each answer names the fix.
///
/// # Errors
/// The first thing that is missing.
pub fn prerequisites() -> Result<(), KernelError> {
    let missing = |missing: String, fix: &str| Err(KernelError::Unsupported { missing, fix: fix.to_owned() });
    for (name, number) in CAPABILITIES {
        if !has_capability(number) {
            return missing(
                format!("the capability {name} is missing"),
                "run as root, or give it to the agent's container",
            );
        }
    }
    if !Path::new(BTF).exists() {
        return missing(
            format!("the kernel's type information ({BTF}) is missing"),
            "run a kernel built with CONFIG_DEBUG_INFO_BTF=y",
        );
    }
    let Ok(list) = fs::read_to_string(LSM_LIST) else {
        return missing(
            format!("{LSM_LIST} cannot be read"),
            "run `mount -t securityfs securityfs /sys/kernel/security`",
        );
    };
    if !list.trim().split(',').any(|module| module == "bpf") {
        return missing(
            format!("`bpf` is not among the kernel's active security modules ({})", list.trim()),
            &format!("boot with lsm={},bpf on the kernel's command line", list.trim()),
        );
    }
    Ok(())
}

fn has_capability(number: u32) -> bool {
    fs::read_to_string("/proc/self/status")
        .ok()
        .and_then(|status| {
            let line = status.lines().find_map(|line| line.strip_prefix("CapEff:"))?.trim().to_owned();
            u64::from_str_radix(&line, 16).ok()
        })
        .is_some_and(|set| set & (1 << number) != 0)
}

/// Everything at once.
#[must_use]
pub fn check() -> Check {
    let read = |path: &str| fs::read_to_string(path).ok().map(|text| text.trim().to_owned());
    let mut check = Check {
        kernel: read("/proc/sys/kernel/osrelease").unwrap_or_default(),
        lsm: read(LSM_LIST),
        backend: None,
        prevention: false,
        problems: Vec::new(),
        self_test: None,
    };
    if let Err(error) = prerequisites() {
        check.problems.push(error.to_string());
        return check;
    }
    match self_test() {
        Ok(result) => {
            check.prevention = result.passed();
            check.problems.extend(result.problems());
            check.backend = check.prevention.then(|| "BpfLsm".to_owned());
            check.self_test = Some(result);
        }
        Err(error) => check.problems.push(error.to_string()),
    }
    check
}
