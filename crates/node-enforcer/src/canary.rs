//! What `helm test` runs in a pod of its own: a program that drops a copy of itself into its container, and must be refused it.

use std::fs;
use std::io;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

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

/// Drops a copy of this program at `target` and runs it until it is refused, or, where nothing can be refused, killed before it says
/// anything, for `patience` at most. Says what happened.
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
    let (mut refusals, mut killed) = (0, false);
    while refusals < REFUSALS {
        match run(target) {
            Ok(Ran::ToItsEnd) if begun.elapsed() >= patience => {
                return Err(CanaryError::Ran { path: target.to_owned(), seconds: patience.as_secs() });
            }
            Ok(Ran::ToItsEnd) => refusals = 0,
            Ok(Ran::NotAtAll) => (refusals, killed) = (refusals + 1, true),
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => refusals += 1,
            Err(error) => return Err(system("run", target)(error)),
        }
        thread::sleep(PAUSE);
    }
    run(&own).map_err(|source| CanaryError::Image { path: own.clone(), source })?;
    let how = if killed { "killed, not refused" } else { "refused" };
    Ok(format!("{how}: {} was dropped and did not run; {}, of the image, did", target.display(), own.display()))
}

enum Ran {
    ToItsEnd,
    /// It was killed and had said nothing.
    NotAtAll,
}

fn run(program: &Path) -> io::Result<Ran> {
    let output = Command::new(program).arg("--version").stdin(Stdio::null()).stderr(Stdio::null()).output()?;
    let killed = output.status.signal() == Some(Signal::SIGKILL as i32) && output.stdout.is_empty();
    Ok(if killed { Ran::NotAtAll } else { Ran::ToItsEnd })
}
