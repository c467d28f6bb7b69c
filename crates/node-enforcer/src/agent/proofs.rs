//! Which copied-up files are compared, and what the kernel is told of them.

use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::sync::Arc;

use super::adopt::copied_up_programs;
use super::compare::{Comparer, Done, Task, Wanted};
use crate::containers::{Container, FileId};
use crate::kernel::{Kernel, KernelError, Proof, ProofRequest};

/// Comparisons asked for by the kernel, or due because a container was found running.
pub(super) struct Proofs {
    comparer: Comparer,
}

impl Proofs {
    /// # Errors
    /// When the comparing thread cannot be started.
    pub(super) fn start() -> io::Result<Self> {
        Ok(Self { comparer: Comparer::start()? })
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
    pub(super) fn turn(&self, kernel: &Kernel) -> Result<(), KernelError> {
        for done in self.comparer.done() {
            match done {
                Done::Opened(pair) => {
                    if kernel.prove(&pair.file, Proof::Begin(pair.lower_id))? {
                        let _ = self.comparer.ask(Task::Compare(pair));
                    }
                }
                Done::Compared { file, equal } => {
                    kernel.prove(&file, if equal { Proof::Commit } else { Proof::Refute })?;
                }
            }
        }
        Ok(())
    }
}

fn path_of(bytes: &[u8]) -> PathBuf {
    OsStr::from_bytes(bytes).into()
}
