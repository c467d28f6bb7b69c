//! What can go wrong with the kernel, and what to do about it.

use std::io;
use std::path::{Path, PathBuf};

/// Why the kernel cannot be made to enforce.
#[derive(Debug, thiserror::Error)]
pub enum KernelError {
    /// The pin folder's parent is on another file system.
    #[error("{} is not on a bpf file system: run `mount -t bpf bpf /sys/fs/bpf`, or mount it into the agent's container", path.display())]
    NoBpfFileSystem {
        /// The folder that was looked at.
        path: PathBuf,
    },
    /// A pin could not be read, made or removed.
    #[error("pin {}: {source}", path.display())]
    Pins {
        /// The pin or its folder.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Another enforcer holds the pin folder.
    #[error("another enforcer has been starting for a minute and holds {}: end it, or wait", path.display())]
    AnotherStarts {
        /// The pin folder.
        path: PathBuf,
    },
    /// A feature that every backend of this version needs is missing.
    #[error("{missing}: {fix}")]
    Unsupported {
        /// What is missing, by name.
        missing: String,
        /// What to do.
        fix: String,
    },
    /// The host's own files could not be identified.
    #[error(transparent)]
    Host(#[from] crate::containers::ContainerError),
    /// libbpf refused a step.
    #[error("{step}: {source}")]
    Bpf {
        /// What was tried.
        step: String,
        /// libbpf's or the kernel's answer.
        source: libbpf_rs::Error,
    },
}

impl KernelError {
    pub(super) fn pins(path: &Path, source: io::Error) -> Self {
        Self::Pins { path: path.to_path_buf(), source }
    }

    /// For `map_err`: names the step.
    pub(crate) fn bpf(step: impl Into<String>) -> impl FnOnce(libbpf_rs::Error) -> Self {
        let step = step.into();
        move |source| Self::Bpf { step, source }
    }
}
