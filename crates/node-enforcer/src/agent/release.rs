//! A node that is to enforce nothing: Mooring is being removed.

use std::path::Path;

use nix::poll::PollTimeout;

use super::facts::Facts;
use super::run::AgentError;
use super::signals::Signals;
use super::sink::Sink;
use super::source::Source;
use super::start::wait_for_source;
use crate::fanotify;
use crate::kernel::pins::Pins;
use crate::response;

/// How often what could not be taken down is tried again, in milliseconds.
const AGAIN: u16 = 1000;

/// Programs and tables, the listeners, and pauses, which nobody would end.
fn take_down(pin_dir: &Path) -> Result<(), String> {
    // First: an agent that is in force would start another listener.
    let released = Pins::release(pin_dir).map_err(|error| error.to_string());
    fanotify::release(pin_dir);
    let resumed = response::resume_all().map_err(|error| error.to_string());
    released.and(resumed)
}

/// Takes everything down, says so, and enforces nothing until a signal or until the source no longer asks for that: then the
/// agent is to be started anew.
///
/// # Errors
/// When the system does not let it wait.
pub(super) fn stay_released(
    source: &mut dyn Source,
    sink: &mut dyn Sink,
    signals: &Signals,
    pin_dir: &Path,
) -> Result<(), AgentError> {
    let mut told = None;
    loop {
        let left = if told == Some(None) { None } else { take_down(pin_dir).err() };
        if told.as_ref() != Some(&left) {
            let problem =
                left.as_ref().map(|left| format!("not all could be taken down, which is tried again: {left}"));
            eprintln!("{}", problem.as_deref().unwrap_or("released: nothing is enforced on this node any more"));
            sink.state(&Facts {
                released: left.is_none(),
                problems: problem.into_iter().collect(),
                ..Facts::default()
            });
        }
        let timeout = if left.is_some() { PollTimeout::from(AGAIN) } else { PollTimeout::NONE };
        told = Some(left);
        if wait_for_source(source, signals, timeout)? {
            return Ok(());
        }
        if !source.changes().release {
            eprintln!("ending: the node is to enforce again, and the next agent begins anew");
            return Ok(());
        }
    }
}
