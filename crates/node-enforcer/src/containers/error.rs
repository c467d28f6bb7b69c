//! Why a container could not be described.

use std::io;
use std::path::PathBuf;

/// Why a container could not be described. Paths are printed quoted, so that no name can forge a log line.
#[derive(Debug, thiserror::Error)]
pub enum ContainerError {
    /// The runtime has not finished writing.
    #[error("{path:?} is not complete yet ({reason}); read it again in a moment")]
    Transient {
        /// The file or folder.
        path: PathBuf,
        /// What is missing.
        reason: String,
    },
    /// The system refused to read it.
    #[error("{path:?} cannot be read: {source}; the enforcer needs root and the host's /run, /var/lib and /proc")]
    Unreadable {
        /// The file or folder.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
    /// Larger than any runtime writes.
    #[error("{path:?} is larger than {limit} bytes; it is not read, and its container stays unknown")]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// Bytes.
        limit: u64,
    },
    /// Complete, but not what the format says.
    #[error("{path:?} is not what its runtime writes: {reason}; its container stays unknown until it is made again")]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
}

impl ContainerError {
    /// Whether the same question may be answered in a moment (at most a second).
    #[must_use]
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Transient { .. })
    }
}
