//! The ways to refuse an execution, and what is in the way of each.

use std::fs;

use clap::ValueEnum;
use mooring_bpf::hooks::Attachment;
use mooring_crd::Backend;

use super::LSM_LIST;
use crate::fanotify;
use crate::kernel::KernelError;

/// Those of this version, the best first.
pub const BACKENDS: [Backend; 4] = [Backend::BpfLsm, Backend::FmodRet, Backend::Fanotify, Backend::Kill];

/// Which of them an agent may use.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "PascalCase")]
pub enum BackendChoice {
    /// The best one that loads and passes the self-test.
    #[default]
    Auto,
    /// BPF LSM programs, or none.
    BpfLsm,
    /// BPF programs that change what the kernel's security functions return, or none.
    FmodRet,
    /// A process that the kernel asks about each execution on containers' file systems, above `Kill` for what it is not asked about, or none.
    Fanotify,
    /// BPF programs that refuse nothing and kill what executes a drifted file before its first instruction, or none.
    Kill,
}

impl BackendChoice {
    /// The backends to try, the best first.
    pub fn backends(self) -> impl Iterator<Item = Backend> {
        BACKENDS.into_iter().filter(move |backend| match self {
            Self::Auto => true,
            Self::BpfLsm => *backend == Backend::BpfLsm,
            Self::FmodRet => *backend == Backend::FmodRet,
            Self::Fanotify => *backend == Backend::Fanotify,
            Self::Kill => *backend == Backend::Kill,
        })
    }
}

/// What a backend's programs are attached to.
///
/// # Errors
/// For a backend that this version does not have.
pub fn attachment(backend: Backend) -> Result<Attachment, KernelError> {
    match backend {
        Backend::BpfLsm => Ok(Attachment::LsmHooks),
        Backend::FmodRet => Ok(Attachment::SecurityFunctions),
        Backend::Fanotify | Backend::Kill => Ok(Attachment::ExecTracepoints),
        Backend::None => Err(KernelError::Unsupported {
            missing: format!("the backend {} is not in this version", backend.as_str()),
            fix: "use BpfLsm, FmodRet, Fanotify or Kill".to_owned(),
        }),
    }
}

/// What is in a backend's way, as far as it can be seen without loading anything. The LSM takes its programs without it, and never
/// calls them.
#[must_use]
pub fn obstacle(backend: Backend) -> Option<KernelError> {
    if backend == Backend::Fanotify {
        return fanotify::obstacle().map(|error| KernelError::Unsupported {
            missing: format!("fanotify permission events cannot be had: {error}"),
            fix: "run a kernel built with CONFIG_FANOTIFY_ACCESS_PERMISSIONS=y, and give the agent CAP_SYS_ADMIN"
                .to_owned(),
        });
    }
    if backend != Backend::BpfLsm {
        return None;
    }
    let Ok(list) = fs::read_to_string(LSM_LIST) else {
        return Some(KernelError::Unsupported {
            missing: format!("{LSM_LIST} cannot be read"),
            fix: "run `mount -t securityfs securityfs /sys/kernel/security`".to_owned(),
        });
    };
    let list = list.trim();
    (!list.split(',').any(|module| module == "bpf")).then(|| KernelError::Unsupported {
        missing: format!("`bpf` is not among the kernel's active security modules ({list})"),
        fix: format!("boot with lsm={list},bpf on the kernel's command line"),
    })
}
