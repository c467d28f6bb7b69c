//! Tells the kernel that a copied-up file has the content of the image's file, or not.
//!
//! The kernel forgets its marks and refuses writers' files first, so that a write at any moment of the comparison leaves the
//! file written (see `mooring_prove` in the kernel programs).

use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use libbpf_rs::ProgramInput;
use mooring_bpf::wire::prove_step;

use super::{Kernel, KernelError};
use crate::containers::FileId;

/// The steps of one comparison.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Proof {
    /// It begins, with this file of the image.
    Begin(FileId),
    /// The contents are equal.
    Commit,
    /// They are not, or it could not be found out.
    Refute,
}

impl Proof {
    /// The program's arguments.
    pub(crate) fn words(self, file: impl AsFd) -> [u64; 4] {
        let (step, lower) = match self {
            Self::Begin(lower) => (prove_step::PROVE_BEGIN, lower),
            Self::Commit => (prove_step::PROVE_COMMIT, FileId { dev: 0, ino: 0 }),
            Self::Refute => (prove_step::PROVE_REFUTE, FileId { dev: 0, ino: 0 }),
        };
        let descriptor = u64::try_from(file.as_fd().as_raw_fd()).unwrap_or(u64::MAX);
        [descriptor, step.0.into(), lower.ino, lower.dev.into()]
    }
}

impl Kernel {
    /// The program that is run for it, for another process.
    #[must_use]
    pub fn prover(&self) -> BorrowedFd<'_> {
        self.skeleton().progs.mooring_prove.as_fd()
    }

    /// Makes one step for the overlay file behind `file`, which this process holds open. False: somebody has the file open for
    /// writing, or wrote it since the comparison began.
    ///
    /// # Errors
    /// When the program cannot be run.
    pub fn prove(&self, file: &File, proof: Proof) -> Result<bool, KernelError> {
        let mut arguments = proof.words(file).map(u64::to_ne_bytes).concat();
        let input = ProgramInput { context_in: Some(&mut arguments), ..ProgramInput::default() };
        let output =
            self.skeleton().progs.mooring_prove.test_run(input).map_err(KernelError::bpf("run the proof program"))?;
        Ok(output.return_value == 0)
    }
}
