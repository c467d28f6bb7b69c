//! What can go wrong in the harness itself, as opposed to in what it tests.

use std::io;
use std::path::PathBuf;

/// A failure of the harness or of a tool that it uses.
#[derive(Debug, thiserror::Error)]
pub enum HarnessError {
    /// A file or folder could not be handled.
    #[error("{what} {path}: {source}", path = path.display())]
    File {
        /// What was tried.
        what: &'static str,
        /// With which file.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
    /// A system call failed.
    #[error("{what}: {source}")]
    System {
        /// What was tried.
        what: String,
        /// The system's answer.
        source: io::Error,
    },
    /// A command ended with a failure.
    #[error("`{command}` ended with {status}: {output}")]
    Command {
        /// The command line.
        command: String,
        /// How it ended.
        status: String,
        /// What it printed.
        output: String,
    },
    /// Something did not happen in time.
    #[error("{what} did not happen within {seconds} s{detail}")]
    Timeout {
        /// What was waited for.
        what: String,
        /// How long.
        seconds: f64,
        /// What was seen instead, with its own separator.
        detail: String,
    },
    /// The guest lacks something.
    #[error("{0}")]
    Missing(String),
    /// A result that a test did not expect.
    #[error("{0}")]
    Wrong(String),
}

/// The harness's result.
pub(crate) type Result<T> = std::result::Result<T, HarnessError>;

/// Fails with a text unless a condition holds.
pub(crate) fn ensure(holds: bool, otherwise: impl FnOnce() -> String) -> Result<()> {
    if holds { Ok(()) } else { Err(HarnessError::Wrong(otherwise())) }
}

/// Names the file in a failed operation.
pub(crate) trait OnFile<T> {
    fn on(self, what: &'static str, path: impl Into<PathBuf>) -> Result<T>;
}

impl<T> OnFile<T> for io::Result<T> {
    fn on(self, what: &'static str, path: impl Into<PathBuf>) -> Result<T> {
        self.map_err(|source| HarnessError::File { what, path: path.into(), source })
    }
}

/// Names the step of a failed operation.
pub(crate) trait During<T> {
    fn during(self, what: impl Into<String>) -> Result<T>;
}

impl<T, E: Into<io::Error>> During<T> for std::result::Result<T, E> {
    fn during(self, what: impl Into<String>) -> Result<T> {
        self.map_err(|source| HarnessError::System { what: what.into(), source: source.into() })
    }
}
