//! What an exec or an open costs this process. In a guest that counts instructions a nanosecond is one of them.

use super::execute::c_string;
use super::{Outcome, PayloadError, Tried};
use nix::fcntl::{OFlag, open};
use nix::spawn::{PosixSpawnAttr, PosixSpawnFileActions, posix_spawn};
use nix::sys::stat::Mode;
use nix::sys::wait::{WaitStatus, waitpid};
use std::ffi::{CStr, CString};
use std::time::Instant;

/// Samples at the beginning that fill caches and do not count.
const WARM_UP: usize = 20;
/// Opens a sample: the clock must not weigh beside something as cheap.
const OPENS: usize = 100;

fn usage() -> PayloadError {
    PayloadError::Usage(
        "measure spawn|refused|open-read|open-write PATH SAMPLES, measure spawn-each FOLDER FILES".into(),
    )
}

/// Prints the middle one of many samples as `p50 NUMBER`.
pub(super) fn measure(what: &str, path: &str, samples: &str) -> Outcome {
    let samples: usize = samples.parse().map_err(|_| usage())?;
    let measured = match what {
        "spawn" | "refused" => {
            let spawner = Spawner::new(what == "refused")?;
            let path = c_string(path)?;
            sample(WARM_UP + samples, |_| spawner.spawn(&path))?
        }
        "spawn-each" => {
            let spawner = Spawner::new(false)?;
            let paths: Vec<CString> =
                (1..=samples).map(|file| c_string(&format!("{path}/{file}"))).collect::<Result<_, _>>()?;
            sample(samples, |number| spawner.spawn(&paths[number]))?
        }
        "open-read" => opens(&c_string(path)?, OFlag::O_RDONLY, samples)?,
        "open-write" => opens(&c_string(path)?, OFlag::O_WRONLY, samples)?,
        _ => return Err(usage()),
    };
    println!("p50 {}", middle(measured.get(WARM_UP..).unwrap_or_default())?);
    Ok(())
}

fn sample(samples: usize, mut body: impl FnMut(usize) -> Result<(), PayloadError>) -> Result<Vec<u64>, PayloadError> {
    let mut measured = Vec::with_capacity(samples);
    for number in 0..samples {
        let begun = Instant::now();
        body(number)?;
        measured.push(u64::try_from(begun.elapsed().as_nanos()).unwrap_or(u64::MAX));
    }
    Ok(measured)
}

fn middle(measured: &[u64]) -> Result<u64, PayloadError> {
    let mut sorted = measured.to_vec();
    sorted.sort_unstable();
    sorted.get(sorted.len() / 2).copied().ok_or_else(usage)
}

/// An open and its close.
fn opens(path: &CStr, flags: OFlag, samples: usize) -> Result<Vec<u64>, PayloadError> {
    let measured = sample(WARM_UP + samples, |_| {
        for _ in 0..OPENS {
            drop(open(path, flags, Mode::empty()).tried("open")?);
        }
        Ok(())
    })?;
    Ok(measured.into_iter().map(|took| took / OPENS as u64).collect())
}

/// `posix_spawn` and the wait for its end; nothing is prepared while the clock runs.
struct Spawner {
    actions: PosixSpawnFileActions,
    attributes: PosixSpawnAttr,
    refused: bool,
}

impl Spawner {
    fn new(refused: bool) -> Result<Spawner, PayloadError> {
        let actions = PosixSpawnFileActions::init().tried("prepare posix_spawn")?;
        let attributes = PosixSpawnAttr::init().tried("prepare posix_spawn")?;
        Ok(Spawner { actions, attributes, refused })
    }

    fn spawn(&self, path: &CStr) -> Outcome {
        let arguments: [&CStr; 1] = [path];
        let environment: [&CStr; 0] = [];
        match posix_spawn(path, &self.actions, &self.attributes, &arguments, &environment) {
            Err(nix::Error::EPERM) if self.refused => Ok(()),
            Err(error) => Err(error).tried("posix_spawn"),
            Ok(child) => match waitpid(child, None).tried("wait")? {
                WaitStatus::Exited(_, 0) if !self.refused => Ok(()),
                ended => Err(PayloadError::Unexpected(format!("{} ran: {ended:?}", path.to_string_lossy()))),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_middle_of_the_samples() {
        assert_eq!(middle(&[9, 1, 5]).unwrap(), 5);
        assert!(middle(&[]).is_err());
    }

    #[test]
    fn a_program_that_fails_is_no_measurement() {
        assert!(measure("spawn", "/bin/true", "1").is_ok());
        assert!(measure("spawn", "/bin/false", "1").is_err());
        assert!(measure("refused", "/bin/true", "1").is_err());
        assert!(measure("open-read", "/proc/self/status", "1").is_ok());
    }
}
