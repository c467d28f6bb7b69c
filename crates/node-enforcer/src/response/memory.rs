//! What was done to a container, kept where it outlives the agent: an extended attribute of its cgroup's folder. It goes with the cgroup,
//! so nothing that gets the same path or number later is taken for the one that it was done to, and a reboot forgets it.
//!
//! Only who has `CAP_SYS_ADMIN` in the first user namespace can change it: a privileged container, of its own cgroup (SECURITY.md).

use std::io;
use std::time::Duration;

use mooring_crd::ContainerAction;
use mooring_policy::Done;
use xattr::FileExt;

use super::cgroup::Cgroup;

const NAME: &str = "trusted.mooring.response";

/// What was done last. Times are since the machine's start, its sleep included.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Memory {
    /// Nothing that lasts.
    #[default]
    Nothing,
    /// It is paused.
    Paused {
        /// Since when.
        begun: Duration,
        /// When it is to go on.
        until: Duration,
    },
    /// Its first process has been sent SIGTERM.
    Stopping {
        /// When.
        begun: Duration,
        /// When the rest is killed.
        until: Duration,
    },
    /// Its processes have been sent SIGKILL.
    Killed {
        /// When that was asked for.
        begun: Duration,
        /// Whether that was by Stop, when the grace was over.
        by_stop: bool,
    },
}

impl Memory {
    /// As far as it matters for what may follow.
    #[must_use]
    pub fn done(self) -> Done {
        match self {
            Self::Nothing => Done::default(),
            Self::Paused { .. } => Done { paused: true, ..Done::default() },
            Self::Stopping { .. } => Done { ended: ContainerAction::Stop, paused: false },
            Self::Killed { .. } => Done { ended: ContainerAction::Kill, paused: false },
        }
    }

    fn encode(self) -> String {
        let words = |word: &str, begun: Duration, last: u128| format!("{word} {} {last}", begun.as_millis());
        match self {
            Self::Nothing => String::new(),
            Self::Paused { begun, until } => words("paused", begun, until.as_millis()),
            Self::Stopping { begun, until } => words("stopping", begun, until.as_millis()),
            Self::Killed { begun, by_stop } => words("killed", begun, u128::from(by_stop)),
        }
    }

    fn decode(text: &str) -> Option<Self> {
        if text.is_empty() {
            return Some(Self::Nothing);
        }
        let mut words = text.split(' ');
        let (word, begun, last) = (words.next()?, words.next()?.parse().ok()?, words.next()?.parse().ok()?);
        let (begun, until) = (Duration::from_millis(begun), Duration::from_millis(last));
        match word {
            "paused" => Some(Self::Paused { begun, until }),
            "stopping" => Some(Self::Stopping { begun, until }),
            "killed" => Some(Self::Killed { begun, by_stop: last == 1 }),
            _ => None,
        }
    }

    /// What the cgroup says; nothing where it says what no agent of this version has written.
    ///
    /// # Errors
    /// When it cannot be asked.
    pub fn of(cgroup: &Cgroup) -> io::Result<Self> {
        let said = cgroup.folder().get_xattr(NAME)?.unwrap_or_default();
        Ok(std::str::from_utf8(&said).ok().and_then(Self::decode).unwrap_or_default())
    }

    /// Keeps it with the cgroup.
    ///
    /// # Errors
    /// When the kernel does not take it.
    pub fn keep(self, cgroup: &Cgroup) -> io::Result<()> {
        cgroup.folder().set_xattr(NAME, self.encode().as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_is_what_comes_back() {
        let (begun, until) = (Duration::from_millis(12), Duration::from_millis(99));
        for memory in [
            Memory::Nothing,
            Memory::Paused { begun, until },
            Memory::Stopping { begun, until },
            Memory::Killed { begun, by_stop: true },
            Memory::Killed { begun, by_stop: false },
        ] {
            assert_eq!(Memory::decode(&memory.encode()), Some(memory));
        }
        for strange in ["x", "paused", "paused 1", "paused a b", "slept 1 2"] {
            assert_eq!(Memory::decode(strange), None, "{strange}");
        }
    }
}
