//! Which copied-up files are compared, and what the kernel is told of them.

use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::adopt::copied_up_programs;
use super::compare::{Comparer, Done, Pair, Task, Wanted};
use crate::containers::{Container, FileId};
use crate::kernel::{Kernel, KernelError, Proof, ProofRequest};

/// Comparisons asked for by the kernel, or due because a container was found running.
pub(super) struct Proofs {
    comparer: Comparer,
    /// Where no program sees a file change, its change time has to tell: those that changed a moment ago wait.
    unwatched: Option<Vec<(Pair, SystemTime)>>,
}

/// Longer than a tick of any file system's clock: ext4 with small inodes counts seconds.
const SETTLED: Duration = Duration::from_secs(2);
/// Files that wait; more are asked for again.
const SETTLING_MAX: usize = 256;

/// When a file has not changed for so long that a change from then on would show. None: it cannot be asked, or lies in the future.
fn settled_at(file: &File) -> Option<SystemTime> {
    let metadata = file.metadata().ok()?;
    let changed = Duration::new(metadata.ctime().try_into().ok()?, metadata.ctime_nsec().try_into().ok()?);
    let settled = SystemTime::UNIX_EPOCH + changed + SETTLED;
    (settled <= SystemTime::now() + 2 * SETTLED).then_some(settled)
}

impl Proofs {
    /// # Errors
    /// When the comparing thread cannot be started.
    pub(super) fn start(unwatched: bool) -> io::Result<Self> {
        Ok(Self { comparer: Comparer::start()?, unwatched: unwatched.then(Vec::new) })
    }

    /// Compares what the kernel asks for. What cannot be opened stays modified.
    pub(super) fn asked(&self, container: &Arc<Container>, request: &ProofRequest) {
        // Without a path that overlayfs knows, the file of the same name may be it.
        let lower_path = if request.lower_path.is_empty() { &request.path } else { &request.lower_path };
        let (dev, ino) = request.lower;
        self.begin(Wanted {
            container: Arc::clone(container),
            path: path_of(&request.path),
            lower_path: path_of(lower_path),
            lower: (ino != 0).then_some(FileId { dev, ino }),
        });
    }

    /// Compares what a container copied up before the agent knew it.
    pub(super) fn adopt(&self, container: &Arc<Container>) {
        for path in copied_up_programs(container) {
            self.begin(Wanted { container: Arc::clone(container), lower_path: path.clone(), path, lower: None });
        }
    }

    fn begin(&self, wanted: Wanted) {
        // With too many waiting it stays unknown, and is asked for again at its next use.
        let _ = self.comparer.ask(Task::Open(wanted));
    }

    /// Tells the kernel what has been opened or compared meanwhile.
    ///
    /// # Errors
    /// When the kernel cannot be told.
    pub(super) fn turn(&mut self, kernel: &Kernel) -> Result<(), KernelError> {
        let now = SystemTime::now();
        for (pair, _) in self.unwatched.iter_mut().flat_map(|waiting| waiting.extract_if(.., |(_, when)| *when <= now))
        {
            self.comparer.begin(kernel, pair)?;
        }
        for done in self.comparer.done() {
            match done {
                Done::Opened(pair) => match (&mut self.unwatched, settled_at(&pair.file)) {
                    (None, _) => self.comparer.begin(kernel, pair)?,
                    (Some(waiting), Some(when)) if waiting.len() < SETTLING_MAX => waiting.push((pair, when)),
                    // Asked for again at its next use.
                    (Some(_), _) => {}
                },
                Done::Compared { file, equal } => {
                    kernel.prove(&file, if equal { Proof::Commit } else { Proof::Refute })?;
                }
            }
        }
        Ok(())
    }
}

impl Comparer {
    fn begin(&self, kernel: &Kernel, pair: Pair) -> Result<(), KernelError> {
        if kernel.prove(&pair.file, Proof::Begin(pair.lower_id))? {
            let _ = self.ask(Task::Compare(pair));
        }
        Ok(())
    }
}

fn path_of(bytes: &[u8]) -> PathBuf {
    OsStr::from_bytes(bytes).into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::containers::scratch::Scratch;

    #[test]
    fn a_file_that_has_just_changed_settles_soon() {
        let scratch = Scratch::new();
        let file = File::open(scratch.write("file", "")).unwrap();
        let (now, settled) = (SystemTime::now(), settled_at(&file).unwrap());
        assert!(settled > now && settled <= now + SETTLED, "{settled:?}");
    }
}
