//! The agent's program by which the kernel is told what was compared: what the listener lets run, the programs beneath must not kill.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;

use super::sys;
use crate::kernel::Proof;

/// The program, held open.
#[derive(Debug)]
pub(super) struct Prover(OwnedFd);

impl Prover {
    /// Of the agent's descriptor.
    pub(super) fn new(program: OwnedFd) -> Self {
        Self(program)
    }

    /// As [`crate::kernel::Kernel::prove`].
    ///
    /// # Errors
    /// When the program cannot be run.
    pub(super) fn step(&self, file: &File, proof: Proof) -> io::Result<bool> {
        Ok(sys::run_program(&self.0, &proof.words(file))? == 0)
    }
}
