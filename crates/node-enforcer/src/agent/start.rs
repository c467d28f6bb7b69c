//! What has to be known before the loop begins.

use std::fs::File;
use std::os::fd::AsFd;
use std::path::Path;

use mooring_crd::{Backend, RulesSource, SelfTest, SelfTestResult};
use nix::fcntl::Flock;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::run::{AgentError, system};
use super::signals::Signals;
use super::source::{Rules, Source};
use crate::check::{self, BackendChoice};
use crate::kernel::pins::Pins;
use crate::kernel::{Kernel, KernelError, LoadOptions};

/// What an agent does first.
pub(super) enum First {
    /// Brings these rules into force, under the lock that nobody else starts under meanwhile.
    Enforce(Box<Rules>, Flock<File>),
    /// Takes everything down.
    Release,
    /// Ends: a signal came first.
    End,
}

/// The rules to begin with.
///
/// Where an earlier agent's rules are in force and none are known here, or others that were kept on disk, they stay until the source
/// has some: nothing, or what is older, would be a step back. That is waited for without the lock, and before anything is loaded:
/// it may take as long as the API server is away, and the next agent must be able to start beside this one.
pub(super) fn first_rules(
    source: &mut dyn Source,
    signals: &Signals,
    pins: &Pins,
    pin_dir: &Path,
) -> Result<First, AgentError> {
    let mut told = false;
    loop {
        let changes = source.changes();
        if changes.release {
            return Ok(First::Release);
        }
        if let Some(rules) = changes.rules.filter(|rules| !may_be_older(rules, pin_dir)) {
            return Ok(First::Enforce(Box::new(rules), pins.start_alone()?));
        }
        if !Pins::is_enforced(pin_dir) {
            let alone = pins.start_alone()?;
            // Once more: another one may have started meanwhile.
            if !Pins::is_enforced(pin_dir) {
                return Ok(First::Enforce(Box::default(), alone));
            }
        }
        if !std::mem::replace(&mut told, true) {
            eprintln!(
                "no rules are known yet, or older ones: what an earlier agent has in force stays so until newer are"
            );
        }
        if wait_for_source(source, signals, PollTimeout::NONE)? {
            return Ok(First::End);
        }
    }
}

/// Waits until the source may have something; true: a signal asks to end.
pub(super) fn wait_for_source(
    source: &dyn Source,
    signals: &Signals,
    timeout: PollTimeout,
) -> Result<bool, AgentError> {
    let mut polled =
        [source.descriptor(), signals.as_fd()].map(|descriptor| PollFd::new(descriptor, PollFlags::POLLIN));
    match poll(&mut polled, timeout) {
        Ok(_) | Err(nix::errno::Errno::EINTR) => {}
        Err(error) => return Err(system("wait for rules")(error)),
    }
    signals.asked_to_end().map_err(system("read signals"))
}

/// Whether these rules were kept on disk while others came into force: the disk was full, or the agent ended before it could write.
fn may_be_older(rules: &Rules, pin_dir: &Path) -> bool {
    let kept = rules.stamp.as_ref().filter(|stamp| stamp.source == RulesSource::Disk);
    let named = kept.filter(|_| Pins::is_enforced(pin_dir)).and_then(|_| Pins::named_rules(pin_dir));
    kept.zip(named).is_some_and(|(kept, named)| kept.digest != named)
}

/// Programs that are loaded, and how they came to be these.
pub(super) struct Loaded {
    pub(super) kernel: Kernel,
    pub(super) backend: Backend,
    /// What was in the way of each better backend.
    pub(super) reason: Option<String>,
    pub(super) self_test: SelfTest,
}

/// Loads the programs of the best backend that may be used, loads, and passes the self-test.
///
/// # Errors
/// When there is none: with what is in the way of each. What was in force before stays so.
pub(super) fn load_best(choice: BackendChoice, pins: &Pins, pin_dir: &Path) -> Result<Loaded, AgentError> {
    let mut reasons = Vec::new();
    let mut failed = false;
    for backend in choice.backends() {
        let problem = match load(backend, pins, pin_dir) {
            Ok((kernel, self_test)) => {
                let reason = (!reasons.is_empty()).then(|| reasons.join("; "));
                return Ok(Loaded { kernel, backend, reason, self_test });
            }
            Err(AgentError::Kernel(error @ (KernelError::Unsupported { .. } | KernelError::Bpf { .. }))) => {
                error.to_string()
            }
            Err(AgentError::SelfTest { problems }) => {
                failed = true;
                problems
            }
            // Nothing that another backend could do better.
            Err(error) => return Err(error),
        };
        reasons.push(format!("{}: {problem}", backend.as_str()));
    }
    let problems = reasons.join("; ");
    Err(if failed { AgentError::SelfTest { problems } } else { AgentError::NoBackend { problems } })
}

fn load(backend: Backend, pins: &Pins, pin_dir: &Path) -> Result<(Kernel, SelfTest), AgentError> {
    if let Some(obstacle) = check::obstacle(backend) {
        return Err(obstacle.into());
    }
    let attachment = check::attachment(backend)?;
    let mut kernel = Kernel::load(&LoadOptions { pins: Some(pins.clone()), comparison: false, attachment })?;
    match pass_self_test(&mut kernel, backend, pin_dir) {
        Ok(self_test) => Ok((kernel, self_test)),
        Err(error) => {
            if let Err(left) = kernel.withdraw() {
                eprintln!("programs that failed the self-test could not be taken down: {left}");
            }
            Err(error)
        }
    }
}

/// A kernel whose layout is read wrongly must not look protected. A test that cannot be made says nothing of the kernel.
fn pass_self_test(kernel: &mut Kernel, backend: Backend, pin_dir: &Path) -> Result<SelfTest, AgentError> {
    // What is in force must not be interrupted: then the test has programs of its own, though loading them takes a second.
    let tested = if kernel.is_first() {
        check::self_test_with(kernel, backend, pin_dir)
    } else {
        check::self_test_apart(backend, pin_dir)
    };
    match tested {
        Ok(result) if result.passed() => {
            let weaknesses: Vec<_> = result.weaknesses().collect();
            let message = (!weaknesses.is_empty()).then(|| weaknesses.join("; "));
            Ok(SelfTest { result: SelfTestResult::Passed, message })
        }
        Ok(result) => Err(AgentError::SelfTest { problems: result.problems().collect::<Vec<_>>().join("; ") }),
        Err(error) => {
            eprintln!("going on without a self-test: {error}");
            Ok(SelfTest { result: SelfTestResult::NotRun, message: Some(error.to_string()) })
        }
    }
}
