//! What can go wrong on the host's side.

use std::path::{Path, PathBuf};

/// An error of the rig. Each names its object and, where there is one, the way out.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A program that the rig needs is not installed.
    #[error("`{program}` is not installed: apt-get install {package}")]
    Missing {
        /// The program.
        program: String,
        /// The Debian package that brings it.
        package: String,
    },
    /// A program could not be started.
    #[error("cannot start `{command}`: {source}")]
    Start {
        /// The command line.
        command: String,
        /// Why.
        source: std::io::Error,
    },
    /// A program failed.
    #[error("`{command}` failed ({status}):\n{stderr}")]
    Failed {
        /// The command line.
        command: String,
        /// Its exit status.
        status: std::process::ExitStatus,
        /// The end of what it wrote to standard error.
        stderr: String,
    },
    /// A file or folder could not be read or written.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// Why it failed.
        source: std::io::Error,
    },
    /// The machine's apt sources name no Debian mirror.
    #[error("no Debian mirror in this machine's apt sources: name one with --mirror URL")]
    NoMirror,
    /// None of the places where Debian keeps its keyring has one.
    #[error("no Debian archive keyring found: apt-get install debian-archive-keyring")]
    NoKeyring,
    /// A suite does not have what the rig needs.
    #[error("{suite} has no {wanted}; its index offers: {offered}")]
    NotInSuite {
        /// The Debian suite.
        suite: String,
        /// The wanted package or file.
        wanted: String,
        /// What is there instead.
        offered: String,
    },
    /// A `--payload` that is not `FILE:PATH`.
    #[error("payload `{0}`: write FILE:PATH, with PATH absolute in the guest")]
    Payload(String),
    /// The guest did not get as far as an exit status.
    #[error("kernel {kernel}: {what}\n--- the console's last lines ---\n{console}")]
    Guest {
        /// The kernel's name.
        kernel: String,
        /// What happened, in words.
        what: String,
        /// The last lines of the console.
        console: String,
    },
    /// The guest's time was up.
    #[error("kernel {kernel}: no exit status within {seconds} s: {what}\n--- the console's last lines ---\n{console}")]
    Timeout {
        /// The kernel's name.
        kernel: String,
        /// The time that it had.
        seconds: u64,
        /// How far it came.
        what: String,
        /// The last lines of the console.
        console: String,
    },
}

impl Error {
    /// Wraps an I/O error with what was tried on which path; for `map_err`.
    pub fn io(action: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        move |source| Self::Io { action, path: path.to_owned(), source }
    }
}
