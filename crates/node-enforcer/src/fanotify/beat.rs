//! A sign of life that another process can look at: two counters in a file that lies in memory.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use nix::sys::memfd::{MFdFlags, memfd_create};

/// Whose counter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Whose {
    /// The listener's.
    Listener = 0,
    /// The guard's.
    Guard = 8,
}

/// The counters.
#[derive(Debug)]
pub(super) struct Beats(File);

impl Beats {
    /// New ones.
    ///
    /// # Errors
    /// The system's.
    pub(super) fn new() -> io::Result<Self> {
        let file = File::from(memfd_create(c"mooring-beats", MFdFlags::MFD_CLOEXEC)?);
        file.write_all_at(&[0; 16], 0)?;
        Ok(Self(file))
    }

    /// Those of another process.
    pub(super) fn of(file: File) -> Self {
        Self(file)
    }

    /// The file, for another process.
    ///
    /// # Errors
    /// The system's.
    pub(super) fn share(&self) -> io::Result<File> {
        self.0.try_clone()
    }

    /// Says that one lives.
    ///
    /// # Errors
    /// The system's.
    pub(super) fn beat(&self, whose: Whose, count: u64) -> io::Result<()> {
        self.0.write_all_at(&count.to_ne_bytes(), whose as u64)
    }

    /// How often one has said so.
    ///
    /// # Errors
    /// The system's.
    pub(super) fn read(&self, whose: Whose) -> io::Result<u64> {
        let mut bytes = [0; 8];
        self.0.read_exact_at(&mut bytes, whose as u64)?;
        Ok(u64::from_ne_bytes(bytes))
    }
}

/// Looks at a counter, again and again.
#[derive(Debug)]
pub(super) struct Watch {
    whose: Whose,
    last: u64,
    still: u32,
}

impl Watch {
    /// Of one who has not begun.
    pub(super) fn new(whose: Whose) -> Self {
        Self { whose, last: 0, still: 0 }
    }

    /// How many looks have come in a row without its having moved. Looks, and no time: who was frozen together with the other must not
    /// take that for the other's fault.
    ///
    /// # Errors
    /// The system's.
    pub(super) fn look(&mut self, beats: &Beats) -> io::Result<u32> {
        let count = beats.read(self.whose)?;
        self.still = if count == self.last { self.still + 1 } else { 0 };
        self.last = count;
        Ok(self.still)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn looks_are_counted_from_the_last_beat() {
        let beats = Beats::new().unwrap();
        let other = Beats::of(beats.share().unwrap());
        let mut watch = Watch::new(Whose::Listener);
        beats.beat(Whose::Listener, 1).unwrap();
        beats.beat(Whose::Guard, 9).unwrap();
        let mut look = || watch.look(&other).unwrap();
        assert_eq!([look(), look(), look()], [0, 1, 2]);
        beats.beat(Whose::Guard, 10).unwrap();
        assert_eq!(look(), 3);
        beats.beat(Whose::Listener, 2).unwrap();
        assert_eq!([look(), look()], [0, 1]);
    }
}
