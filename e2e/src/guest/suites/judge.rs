//! Runs one case in one container and compares what happened with what must.

use crate::attacks::TOKEN;
use crate::attacks::case::{Between, Case, Expect, Reason, Twin, Variables, Via};
use crate::guest::context::Running;
use crate::guest::enforcer::{Enforcer, is_asked, kills};
use crate::guest::error::{Result, ensure};
use crate::guest::event::Event;
use crate::guest::runtime::Runtime;
use crate::guest::system::{drop_caches, poll};
use std::collections::BTreeSet;
use std::time::Duration;

/// What the container's policies do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Mode {
    /// No enforcer: everything runs.
    Unwatched,
    /// `prevent: false`.
    Detect,
    /// `prevent: true`.
    Prevent,
}

impl Mode {
    fn verdict(self) -> &'static str {
        match self {
            Mode::Prevent if kills() => "Killed",
            Mode::Prevent => "Denied",
            Mode::Unwatched | Mode::Detect => "Detected",
        }
    }
}

/// Where a case is run.
pub(crate) struct Place<'a, 'c> {
    pub(crate) runtime: &'a dyn Runtime,
    pub(crate) container: &'a mut Running<'c>,
    pub(crate) enforcer: Option<&'a Enforcer>,
    pub(crate) mode: Mode,
}

/// An event is written soon after the fact.
const EVENT: Duration = Duration::from_secs(4);
/// How long a comparison may take until a copied-up file is allowed.
const PROOF: Duration = Duration::from_secs(10);

/// One or the other is what programs print for EPERM and EACCES; the loader only says what it could not do.
const REFUSALS: &[&str] = &["operation not permitted", "permission denied", "eperm", "eacces", "failed to map segment"];

/// Groups of cases that fanotify does not see, or not all of: what it does not see is killed.
const NOT_ASKED: &[&str] = &["fileless/", "foreign-mount/", "volume/", "prohibited/", "exception/", "pattern/"];

/// Whether it may be that the attack is killed, not refused.
fn may_be_killed(case: &Case) -> bool {
    kills() || (is_asked() && NOT_ASKED.iter().any(|group| case.name.starts_with(group)))
}

/// Cases of a file on a mount that is in no mount table: whoever is asked by fanotify finds neither its path nor that it is a foreign mount.
const ON_NO_MOUNT: &[&str] = &[
    "new-binary/path-beyond-4096-bytes",
    "new-binary/detached-mount",
    "foreign-mount/nested-overlay",
    "foreign-mount/nested-overlay-over-the-image",
    "exception/forged-by-an-overlay",
];

/// Whether it is one of them, and an event that tells of it without a path.
fn is_on_no_mount(case: &Case, event: &Event) -> bool {
    is_asked() && ON_NO_MOUNT.contains(&case.name) && event.path.is_empty()
}

/// What must become of it. Where nobody watches files, whatever is copied up is modified until it was compared, an image's prohibited file too.
fn expected(case: &Case) -> Expect {
    const UNTIL_COMPARED: &[Reason] = &[Reason::ProhibitedBinary, Reason::ModifiedBinary];
    match case.expect {
        Expect::Allowed if (kills() || is_asked()) && case.name.starts_with("copy-up/") => Expect::EventuallyAllowed,
        Expect::Refused([Reason::ProhibitedBinary]) if kills() => Expect::Refused(UNTIL_COMPARED),
        expect => expect,
    }
}

/// Runs the attack and its twin.
pub(crate) fn judge(place: &mut Place<'_, '_>, case: &Case) -> Result<()> {
    let variables = Variables::of_attack(case);
    let mark = place.enforcer.map_or(0, Enforcer::mark);
    place.set_up(case, &variables)?;
    match expected(case) {
        Expect::Refused(reasons) => place.refused(case, &variables, reasons, mark)?,
        Expect::Allowed => {
            let output = place.perform(case, &variables)?;
            ensure(output.contains(TOKEN), || format!("it must run, but: {}", output.trim()))?;
        }
        Expect::EventuallyAllowed => {
            let mut last = String::new();
            let ran = poll(PROOF, || match place.perform(case, &variables) {
                Ok(output) if output.contains(TOKEN) => Some(()),
                Ok(output) => {
                    last = output;
                    None
                }
                Err(error) => {
                    last = error.to_string();
                    None
                }
            });
            ensure(ran.is_some(), || format!("not allowed within {PROOF:?}: {}", last.trim()))?;
        }
    }
    place.twin(case)?;
    place.no_stray_events(case, &variables, mark)
}

impl Place<'_, '_> {
    fn set_up(&mut self, case: &Case, variables: &Variables) -> Result<()> {
        let script = format!("set -e\n{}\nexit 0", case.setup);
        self.container.session.must(&variables.script(&script))?;
        match case.between {
            Between::Nothing => Ok(()),
            Between::DropCaches => drop_caches(),
        }
    }

    fn perform(&mut self, case: &Case, variables: &Variables) -> Result<String> {
        let script = variables.script(case.run);
        match case.via {
            Via::Init => Ok(self.container.session.run(&script)?.output),
            Via::RuntimeExec => {
                let ended = self.runtime.exec(&self.container.id, &["/bin/sh", "-c", &script])?;
                Ok(ended.output)
            }
            Via::RuntimeExecDirect => {
                let ended = self.runtime.exec(&self.container.id, &[&variables.executed])?;
                Ok(ended.output)
            }
        }
    }

    fn refused(&mut self, case: &Case, variables: &Variables, reasons: &[Reason], mark: usize) -> Result<()> {
        let output = self.perform(case, variables)?;
        let ran = output.contains(TOKEN);
        if self.mode == Mode::Prevent {
            ensure(!ran, || format!("the attack ran: {}", output.trim()))?;
            // What is killed prints nothing; that it was, its event tells below.
            let said = output.to_lowercase();
            ensure(may_be_killed(case) || REFUSALS.iter().any(|text| said.contains(text)), || {
                format!("it did not run, but not because it was refused: {}", output.trim())
            })?;
        } else {
            ensure(ran, || format!("nothing prevents it, but it did not run: {}", output.trim()))?;
        }
        let Some(enforcer) = self.enforcer else {
            return Ok(());
        };
        let what = format!("{} {:?} {:?}", self.mode.verdict(), reasons, case.path);
        let event = enforcer.wait_for_event(mark, EVENT, &what, |event| {
            event.container == self.container.id
                && (event.verdict == self.mode.verdict()
                    || (self.mode == Mode::Prevent && event.verdict == "Killed" && may_be_killed(case)))
                && (is_on_no_mount(case, event)
                    || (reasons.iter().any(|reason| reason.name() == event.reason)
                        && case.path.accepts(&event.path, variables)))
        })?;
        ensure(event.policy.starts_with(&self.container.id), || format!("another policy's: {}", event.line))?;
        ensure(event.pid > 1, || format!("no process: {}", event.line))
    }

    fn twin(&mut self, case: &Case) -> Result<()> {
        let variables = Variables::of_twin(case);
        let run = match case.twin {
            Twin::None(_) => return Ok(()),
            Twin::SameCommand => case.run,
            Twin::Script(script) => script,
        };
        let twin = Case { run, ..*case };
        let output = self.perform(&twin, &variables)?;
        ensure(output.contains(TOKEN), || format!("the benign twin did not run: {}", output.trim()))
    }

    /// Every event of this container since the case began must be one that the case explains. The count of one that an earlier
    /// case explained may be told late.
    fn no_stray_events(&self, case: &Case, variables: &Variables, mark: usize) -> Result<()> {
        let Some(enforcer) = self.enforcer else {
            return Ok(());
        };
        let explained = |event: &Event| {
            let own = case.path.accepts(&event.path, variables)
                || event.path.contains(&format!("{}/", variables.dir))
                || event.path == variables.victim;
            match expected(case) {
                _ if is_on_no_mount(case, event) => true,
                Expect::Refused(reasons) => own && reasons.iter().any(|reason| reason.name() == event.reason),
                // Other files of the case that were copied up wait for their comparison, too.
                Expect::EventuallyAllowed => own || (kills() && event.reason == Reason::ModifiedBinary.name()),
                Expect::Allowed => false,
            }
        };
        let events = enforcer.events_since(0);
        let (before, since) = events.split_at(mark.min(events.len()));
        let earlier: BTreeSet<&str> = before.iter().map(|event| event.name.as_str()).collect();
        let stray = since.iter().find(|event| {
            event.container == self.container.id && !earlier.contains(event.name.as_str()) && !explained(event)
        });
        ensure(stray.is_none(), || {
            format!("an event that nothing explains: {}", stray.map(|e| e.line.as_str()).unwrap_or_default())
        })
    }
}
