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
use super::stop_signal::StopSignal;

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
    /// Its first process has been sent its stop signal.
    Stopping {
        /// When.
        begun: Duration,
        /// When the rest is killed.
        until: Duration,
        /// Which signal that was.
        signal: StopSignal,
    },
    /// Its processes have been sent SIGKILL.
    Killed {
        /// When that was asked for.
        begun: Duration,
        /// The signal that Stop had sent before, where that was by Stop, when the grace was over.
        by_stop: Option<StopSignal>,
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
            Self::Stopping { begun, until, signal } => {
                format!("{} {signal}", words("stopping", begun, until.as_millis()))
            }
            Self::Killed { begun, by_stop: None } => words("killed", begun, 0),
            Self::Killed { begun, by_stop: Some(signal) } => format!("{} {signal}", words("killed", begun, 1)),
        }
    }

    fn decode(text: &str) -> Option<Self> {
        if text.is_empty() {
            return Some(Self::Nothing);
        }
        let mut words = text.split(' ');
        let (word, begun, last) = (words.next()?, words.next()?.parse().ok()?, words.next()?.parse().ok()?);
        let (begun, until) = (Duration::from_millis(begun), Duration::from_millis(last));
        // Agents that did not say it sent SIGTERM; one that this agent does not know has been sent all the same.
        let signal = words.next().and_then(|name| name.parse().ok()).unwrap_or_default();
        match word {
            "paused" => Some(Self::Paused { begun, until }),
            "stopping" => Some(Self::Stopping { begun, until, signal }),
            "killed" if last == 1 => Some(Self::Killed { begun, by_stop: Some(signal) }),
            "killed" => Some(Self::Killed { begun, by_stop: None }),
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
        let signal = "SIGRTMIN+3".parse().unwrap();
        for memory in [
            Memory::Nothing,
            Memory::Paused { begun, until },
            Memory::Stopping { begun, until, signal: StopSignal::default() },
            Memory::Stopping { begun, until, signal },
            Memory::Killed { begun, by_stop: Some(signal) },
            Memory::Killed { begun, by_stop: None },
        ] {
            assert_eq!(Memory::decode(&memory.encode()), Some(memory));
        }
        for strange in ["x", "paused", "paused 1", "paused a b", "slept 1 2"] {
            assert_eq!(Memory::decode(strange), None, "{strange}");
        }
        let by_a_newer = Memory::decode("stopping 12 99 SIGNONE");
        assert_eq!(by_a_newer, Some(Memory::Stopping { begun, until, signal: StopSignal::default() }));
    }

    #[test]
    fn an_agent_that_did_not_say_its_signal_sent_sigterm() {
        let (begun, until) = (Duration::from_millis(1), Duration::from_millis(2));
        let signal = StopSignal::default();
        assert_eq!(Memory::decode("stopping 1 2"), Some(Memory::Stopping { begun, until, signal }));
        assert_eq!(Memory::decode("killed 1 1"), Some(Memory::Killed { begun, by_stop: Some(signal) }));
        assert_eq!(Memory::decode("killed 1 0"), Some(Memory::Killed { begun, by_stop: None }));
    }
}
