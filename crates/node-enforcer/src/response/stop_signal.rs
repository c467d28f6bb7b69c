//! The signal that Stop begins with.

use std::fmt;
use std::str::FromStr;

use nix::sys::signal::Signal as Named;
use rustix::process::Signal;
use rustix_libc_wrappers::process::SignalExt;
use serde::{Deserialize, Serialize};

/// SIGRTMAX's offset from SIGRTMIN, both as programs see them.
const RT_LAST: i32 = 30;
/// The last offset that is counted from SIGRTMIN; those after it are from SIGRTMAX.
const RT_MIDDLE: i32 = 15;

/// A signal that Kubernetes lets a Linux container ask for, by `lifecycle.stopSignal`. SIGTERM unless it is said.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "String", into = "String")]
pub struct StopSignal(Signal);

/// Linux has no signal of this name.
#[derive(Debug, thiserror::Error)]
#[error("{0:?} is no signal of Linux")]
pub struct UnknownSignal(String);

impl StopSignal {
    /// As it is sent.
    pub(super) fn signal(self) -> Signal {
        self.0
    }
}

impl Default for StopSignal {
    fn default() -> Self {
        Self(Signal::TERM)
    }
}

impl FromStr for StopSignal {
    type Err = UnknownSignal;

    fn from_str(text: &str) -> Result<Self, UnknownSignal> {
        let name = match text {
            "SIGCLD" => "SIGCHLD",
            "SIGIOT" => "SIGABRT",
            "SIGPOLL" => "SIGIO",
            name => name,
        };
        let signal = match Named::from_str(name) {
            Ok(named) => Signal::from_named_raw(named as i32),
            Err(_) => real_time(name).and_then(Signal::rt),
        };
        let signal = signal.map(Self).filter(|signal| signal.to_string() == name);
        signal.ok_or_else(|| UnknownSignal(text.to_owned()))
    }
}

/// The offset from SIGRTMIN.
fn real_time(name: &str) -> Option<i32> {
    if name == "SIGRTMIN" {
        Some(0)
    } else if name == "SIGRTMAX" {
        Some(RT_LAST)
    } else if let Some(after) = name.strip_prefix("SIGRTMIN+") {
        after.parse().ok()
    } else {
        let before: u8 = name.strip_prefix("SIGRTMAX-")?.parse().ok()?;
        Some(RT_LAST - i32::from(before))
    }
}

impl fmt::Display for StopSignal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let number = self.0.as_raw();
        if let Ok(named) = Named::try_from(number) {
            return f.write_str(named.as_str());
        }
        match number - Signal::rt_min().as_raw() {
            0 => f.write_str("SIGRTMIN"),
            RT_LAST => f.write_str("SIGRTMAX"),
            after @ ..=RT_MIDDLE => write!(f, "SIGRTMIN+{after}"),
            after => write!(f, "SIGRTMAX-{}", RT_LAST - after),
        }
    }
}

/// What an agent has kept that knows more signals than this one is none: the rest of what it kept stays readable.
impl From<String> for StopSignal {
    fn from(text: String) -> Self {
        text.parse().unwrap_or_default()
    }
}

impl From<StopSignal> for String {
    fn from(signal: StopSignal) -> Self {
        signal.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn number(name: &str) -> Option<i32> {
        name.parse::<StopSignal>().ok().map(|signal| signal.signal().as_raw())
    }

    #[test]
    fn every_name_of_the_api_is_one() {
        let named = "ABRT ALRM BUS CHLD CONT FPE HUP ILL INT IO KILL PIPE PROF PWR QUIT SEGV STKFLT STOP SYS TERM TRAP TSTP TTIN TTOU URG \
             USR1 USR2 VTALRM WINCH XCPU XFSZ RTMIN RTMAX";
        let named = named.split_whitespace().map(|name| format!("SIG{name}"));
        let counted = (1..=15).map(|after| format!("SIGRTMIN+{after}"));
        let counted_back = (1..=14).map(|before| format!("SIGRTMAX-{before}"));
        for name in named.chain(counted).chain(counted_back) {
            assert_eq!(name.parse::<StopSignal>().unwrap().to_string(), name);
        }
        assert_eq!(StopSignal::default().to_string(), "SIGTERM");
    }

    /// As containerd and CRI-O number them.
    #[test]
    fn a_name_is_its_number() {
        for (name, its) in [
            ("SIGUSR1", 10),
            ("SIGTERM", 15),
            ("SIGCLD", 17),
            ("SIGIOT", 6),
            ("SIGPOLL", 29),
            ("SIGRTMIN", 34),
            ("SIGRTMIN+3", 37),
            ("SIGRTMIN+15", 49),
            ("SIGRTMAX-14", 50),
            ("SIGRTMAX", 64),
        ] {
            assert_eq!(number(name), Some(its), "{name}");
        }
    }

    #[test]
    fn what_is_no_signal_is_none() {
        for strange in [
            "",
            "TERM",
            "sigterm",
            "15",
            "SIGNONE",
            "SIGRTMIN+",
            "SIGRTMIN+0",
            "SIGRTMIN++1",
            "SIGRTMIN+01",
            "SIGRTMIN+16",
            "SIGRTMIN+31",
            "SIGRTMIN+2147483647",
            "SIGRTMIN+-1",
            "SIGRTMAX-0",
            "SIGRTMAX-15",
            "SIGRTMAX-255",
        ] {
            assert_eq!(number(strange), None, "{strange:?}");
        }
    }
}
