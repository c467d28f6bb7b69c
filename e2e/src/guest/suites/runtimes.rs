//! Under a policy that prevents everything everywhere, runtimes do their work undisturbed.

use super::Test;
use crate::guest::context::Context;
use crate::guest::enforcer::{Enforcer, release};
use crate::guest::error::{HarnessError, Result, ensure};
use crate::guest::oci::OciRuntime;
use crate::guest::profiles;
use crate::guest::runtime::Runtime;
use crate::guest::system::poll;
use std::path::PathBuf;
use std::time::Duration;

pub(crate) const TESTS: &[Test] = &[
    Test { name: "start-exec-kill-delete-20-times", body: of_the_run },
    Test { name: "every-other-runc-20-times", body: other_runc },
];

const ROUNDS: usize = 20;

fn of_the_run(context: &Context) -> Result<()> {
    under_everything(context, || rounds(context.runtime.as_ref(), "usual"))
}

/// The runc versions that the guest keeps beside the usual one execute themselves in different ways.
fn other_runc(context: &Context) -> Result<()> {
    let versions = other_versions()?;
    under_everything(context, || {
        for program in &versions {
            let runtime = OciRuntime::new(program, &[], &context.work, &context.image);
            rounds(&runtime, "other")
                .map_err(|error| HarnessError::Wrong(format!("{}: {error}", program.display())))?;
        }
        Ok(())
    })
}

fn other_versions() -> Result<Vec<PathBuf>> {
    let mut found: Vec<PathBuf> = std::fs::read_dir("/opt")
        .into_iter()
        .flatten()
        .flatten()
        .filter(|entry| entry.file_name().to_string_lossy().starts_with("runc-"))
        .map(|entry| entry.path().join("runc"))
        .filter(|path| path.is_file())
        .collect();
    found.sort();
    ensure(!found.is_empty(), || "no /opt/runc-*/runc in this guest".into())?;
    Ok(found)
}

fn under_everything(context: &Context, body: impl FnOnce() -> Result<()>) -> Result<()> {
    let folder = context.policies("runtimes")?;
    let mut policy = profiles::everything("everything");
    // The runtimes' own paths on the host are not paths of the container.
    policy["spec"]["detect"]["prohibitedBinaries"] = serde_json::json!([
        {"path": "/usr/sbin/runc"}, {"path": "/usr/bin/runc"}, {"path": "/usr/bin/crun"},
        {"path": "/opt/runc-bookworm/runc"}, {"path": "/opt/runc-sid/runc"},
    ]);
    profiles::write(&folder, &policy)?;
    let enforcer = Enforcer::start(context.enforcer()?, &folder)?;
    let mark = enforcer.mark();
    let result = body();
    let events = enforcer.events_since(mark);
    enforcer.terminate()?;
    release(context.enforcer()?)?;
    result?;
    // Each round drops one file and tries it once; nothing else may be reported.
    let stray = events.iter().find(|event| event.path != "/drop/x");
    ensure(stray.is_none(), || format!("the runtime was reported: {stray:?}"))?;
    ensure(!events.is_empty(), || "the dropped files were not reported: nothing was enforced".into())
}

fn rounds(runtime: &dyn Runtime, what: &str) -> Result<()> {
    for round in 0..ROUNDS {
        let id = format!("round-{what}-{round}");
        let result = one_round(runtime, &id);
        let removed = runtime.remove(&id);
        result.and(removed).map_err(|error| HarnessError::Wrong(format!("round {round}: {error}")))?;
    }
    Ok(())
}

fn one_round(runtime: &dyn Runtime, id: &str) -> Result<()> {
    runtime.start_command(id, &["/bin/busybox", "sleep", "1000"])?;
    let ended = runtime.exec(id, &["/bin/sh", "-c", "/fix/tiny && cp /fix/tiny /drop/x && ! /drop/x"])?;
    ensure(ended.status.success(), || format!("exec: {}: {}", ended.status, ended.output))?;
    // The first process must be what was asked for, not a leftover of the runtime's init.
    let alive = poll(Duration::from_secs(5), || {
        runtime.exec(id, &["/bin/busybox", "kill", "-0", "1"]).ok()?.status.success().then_some(())
    });
    ensure(alive.is_some(), || "its first process is gone".into())?;
    runtime.kill(id)?;
    // Nothing of it may go on after the kill.
    let limit = Duration::from_secs(10);
    let ended = poll(limit, || {
        let exec = runtime.exec(id, &["/fix/tiny"]).ok()?;
        (!exec.status.success()).then_some(())
    });
    ensure(ended.is_some(), || format!("it still runs {limit:?} after the kill"))
}
