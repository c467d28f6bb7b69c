//! What `helm test` runs in a pod of its own: a program that drops a copy of itself into its container, and must be refused it.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// Between two tries.
const PAUSE: Duration = Duration::from_secs(1);
/// A container that nobody knows yet may be refused everything, by policies that are not for it: that goes within a second.
const REFUSALS: u32 = 3;

/// Why nothing is proved.
#[derive(Debug, thiserror::Error)]
pub enum CanaryError {
    /// Nothing can be dropped, or tried.
    #[error("{what} {path:?}: {source}; run it in a container of its own, with a root that it can write")]
    System {
        /// What was tried.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
    /// It ran.
    #[error(
        "{path:?}, which this container's image did not bring, still runs after {seconds} s: look at `kubectl get driftnodes` and \
         `kubectl get cdp`, whether this node enforces and what the policy says"
    )]
    Ran {
        /// What ran.
        path: PathBuf,
        /// For how long it was tried.
        seconds: u64,
    },
    /// The image's own program does not run either.
    #[error("{path:?}, which is the image's own, does not run: {source}; that is no drift, so report it")]
    Image {
        /// The image's program.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
}

/// Drops a copy of this program at `target` and runs it until it is refused, for `patience` at most. Says what happened.
///
/// # Errors
/// When it is not refused, or the image's own program is.
pub fn sing(target: &Path, patience: Duration) -> Result<String, CanaryError> {
    let system = |what: &'static str, path: &Path| {
        let path = path.to_owned();
        move |source: io::Error| CanaryError::System { what, path, source }
    };
    let own = std::env::current_exe().map_err(system("find", Path::new("/proc/self/exe")))?;
    fs::copy(&own, target).map_err(system("copy this program to", target))?;
    let begun = Instant::now();
    let mut refusals = 0;
    while refusals < REFUSALS {
        match run(target) {
            Ok(()) if begun.elapsed() >= patience => {
                return Err(CanaryError::Ran { path: target.to_owned(), seconds: patience.as_secs() });
            }
            Ok(()) => refusals = 0,
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => refusals += 1,
            Err(error) => return Err(system("run", target)(error)),
        }
        thread::sleep(PAUSE);
    }
    run(&own).map_err(|source| CanaryError::Image { path: own.clone(), source })?;
    Ok(format!("refused: {} was dropped and did not run; {}, of the image, did", target.display(), own.display()))
}

fn run(program: &Path) -> io::Result<()> {
    let mut command = Command::new(program);
    command.arg("--version").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().map(drop)
}
