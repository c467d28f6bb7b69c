//! What this kernel can do: what can be seen of it, and a self-test that really loads the programs and runs a drifted file.

mod backends;
pub mod child;
mod program;
mod self_test;

use std::fs;
use std::path::Path;

use mooring_crd::Backend;
use mooring_policy::shortcoming;
use serde::Serialize;

use crate::containers::Hierarchy;
use crate::kernel::KernelError;
pub use backends::{BACKENDS, BackendChoice, attachment, obstacle};
pub use self_test::{SelfTest, SelfTestError, load_overlay, self_test, self_test_apart, self_test_with};

/// The kernel's active security modules.
const LSM_LIST: &str = "/sys/kernel/security/lsm";
/// How far the kernel is locked down; the mode in force stands in brackets.
const LOCKDOWN: &str = "/sys/kernel/security/lockdown";
/// Where the kernel keeps its type information.
const BTF: &str = "/sys/kernel/btf/vmlinux";
/// The same of the overlay module, where modules have theirs. Without it the layout that all supported versions share is used.
const OVERLAY_BTF: &str = "/sys/kernel/btf/overlay";
/// Capabilities by number: what loading and mounting need (include/uapi/linux/capability.h).
const CAPABILITIES: [(&str, u32); 1] = [("CAP_SYS_ADMIN", 21)];

/// What `check` prints.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Check {
    /// The kernel's release.
    pub kernel: String,
    /// Its active security modules.
    pub lsm: Option<String>,
    /// The backend that would be used: the first usable one of `backends`.
    pub backend: Option<String>,
    /// Every backend of this version, the best first, and what is in its way.
    pub backends: Vec<TriedBackend>,
    /// What the kernel offers, as far as it can be seen without loading anything.
    pub features: Vec<Feature>,
    /// Whether executions are refused. With the backend `Kill` they are not: see `killed` of the self-test.
    pub prevention: bool,
    /// What is in every backend's way, each with what to do: none was tried then.
    pub problems: Vec<String>,
    /// What a policy can ask for and this backend cannot do in full, each with what happens instead.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub unsupported: Vec<Unsupported>,
    /// What works less well than it does elsewhere.
    pub warnings: Vec<String>,
    /// What the self-test saw.
    pub self_test: Option<SelfTest>,
}

impl Check {
    /// For people: where nothing can be refused, what happens instead.
    #[must_use]
    pub fn prevention_in_words(&self) -> &'static str {
        match (self.prevention, &self.self_test) {
            (true, _) => "works",
            (false, Some(test)) if test.killed => {
                "does not work; drifted programs are killed before their first instruction"
            }
            (false, _) => "does not work",
        }
    }
}

/// A way to refuse an execution, tried.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct TriedBackend {
    /// Its name.
    pub name: String,
    /// Whether the self-test passed with it.
    pub usable: bool,
    /// Why not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// Something that a kernel has or lacks.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Feature {
    /// Its name.
    pub name: String,
    /// Whether it is there.
    pub available: bool,
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
    Hierarchy::of_host()?;
    if fs::read_to_string(LOCKDOWN).is_ok_and(|modes| modes.contains("[confidentiality]")) {
        return missing(
            format!(
                "lockdown=confidentiality is in force ({LOCKDOWN}), under which no BPF program may read the kernel"
            ),
            "boot with lockdown=integrity, or without",
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

/// Everything at once. `pin_dir` is where an agent that may be in force has its pins.
#[must_use]
pub fn check(pin_dir: &Path) -> Check {
    let read = |path: &str| fs::read_to_string(path).ok().map(|text| text.trim().to_owned());
    let mut check = Check {
        kernel: read("/proc/sys/kernel/osrelease").unwrap_or_default(),
        lsm: read(LSM_LIST),
        backend: None,
        backends: Vec::new(),
        features: features(),
        prevention: false,
        problems: Vec::new(),
        unsupported: Vec::new(),
        warnings: Vec::new(),
        self_test: None,
    };
    if let Err(error) = prerequisites() {
        check.problems.push(error.to_string());
        return check;
    }
    for backend in BACKENDS {
        let tested = obstacle(backend).map_or(Ok(()), Err).map_err(|error| error.to_string());
        let tested = tested.and_then(|()| self_test(backend, pin_dir).map_err(|error| error.to_string()));
        let reason = match &tested {
            Ok(result) if result.passed() => None,
            Ok(result) => Some(result.problems().collect::<Vec<_>>().join("; ")),
            Err(problem) => Some(problem.clone()),
        };
        if check.backend.is_none() && reason.is_none() {
            check.backend = Some(backend.as_str().to_owned());
            check.unsupported = unsupported_by(backend);
            check.warnings.extend(tested.as_ref().ok().into_iter().flat_map(SelfTest::weaknesses));
            check.self_test = tested.ok();
        }
        check.backends.push(TriedBackend { name: backend.as_str().to_owned(), usable: reason.is_none(), reason });
    }
    check.prevention = check.self_test.as_ref().is_some_and(|test| !test.killed);
    check
}

/// Something that a policy can ask for.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Unsupported {
    /// Its name, as in a `DriftNode`.
    pub feature: &'static str,
    /// What happens instead.
    pub instead: &'static str,
}

fn unsupported_by(backend: Backend) -> Vec<Unsupported> {
    let missing = |feature: &mooring_crd::Feature| {
        shortcoming(backend, *feature).map(|instead| Unsupported { feature: feature.as_str(), instead })
    };
    mooring_crd::Feature::ALL.iter().filter_map(missing).collect()
}

/// What can be seen without loading anything; the self-test loads the rest.
fn features() -> Vec<Feature> {
    let lsm = fs::read_to_string(LSM_LIST).unwrap_or_default();
    [
        ("kernel type information (BTF)", Path::new(BTF).exists()),
        ("module type information (BTF of overlay, loaded before the agent)", Path::new(OVERLAY_BTF).exists()),
        ("BPF among the active security modules", lsm.trim().split(',').any(|module| module == "bpf")),
        (
            "cgroup v2, by which runtimes know containers here",
            Hierarchy::of_host().is_ok_and(|it| it.controller.is_none()),
        ),
    ]
    .map(|(name, available)| Feature { name: name.into(), available })
    .into()
}
