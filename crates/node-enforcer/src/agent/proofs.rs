//! Which copied-up files are compared, and what the kernel is told of them.

use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use super::adopt::copied_up_programs;
use super::compare::{Comparer, open_pair};
use crate::containers::Container;
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
    ///
    /// # Errors
    /// When the kernel cannot be told.
    pub(super) fn asked(
        &self,
        kernel: &Kernel,
        container: &Container,
        request: &ProofRequest,
    ) -> Result<(), KernelError> {
        let path = Path::new(OsStr::from_bytes(&request.path));
        // Without a lower that the kernel knows, only the file of the same name can be it.
        let lower_path = if request.lower_path.is_empty() { &request.path } else { &request.lower_path };
        let lower_path = Path::new(OsStr::from_bytes(lower_path));
        self.begin(kernel, container, path, lower_path)
    }

    /// Compares what a container copied up before the agent knew it.
    ///
    /// # Errors
    /// When the kernel cannot be told.
    pub(super) fn adopt(&self, kernel: &Kernel, container: &Container) -> Result<(), KernelError> {
        for path in copied_up_programs(container) {
            self.begin(kernel, container, &path, &path)?;
        }
        Ok(())
    }

    fn begin(&self, kernel: &Kernel, container: &Container, path: &Path, lower_path: &Path) -> Result<(), KernelError> {
        let Ok((pair, lower)) = open_pair(container, path, lower_path) else { return Ok(()) };
        if kernel.prove(&pair.file, Proof::Begin(lower))? {
            // With too many waiting it stays unknown, and is asked for again at its next use.
            let _ = self.comparer.compare(pair);
        }
        Ok(())
    }

    /// Tells the kernel what has been compared meanwhile.
    ///
    /// # Errors
    /// When the kernel cannot be told.
    pub(super) fn finish(&self, kernel: &Kernel) -> Result<(), KernelError> {
        for compared in self.comparer.finished() {
            kernel.prove(&compared.file, if compared.equal { Proof::Commit } else { Proof::Refute })?;
        }
        Ok(())
    }
}
