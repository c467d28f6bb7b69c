//! What the enforcer takes of a node.

use super::Numbers;
use crate::guest::context::Context;
use crate::guest::enforcer::{Enforcer, release};
use crate::guest::error::{Result, ensure};
use crate::guest::profiles;
use std::path::Path;
use std::time::{Duration, Instant};

const CONTAINERS: usize = 50;
const STARTS: usize = 3;
/// After this long nothing of a start is going on any more.
const SETTLED: Duration = Duration::from_secs(3);
/// After this long the kernel has freed what was released; until then it has loading wait.
const FREED: Duration = Duration::from_secs(6);

pub(super) fn measure(context: &Context, numbers: &mut Numbers) -> Result<()> {
    let binary = context.enforcer()?;
    let folder = context.policies("bench")?;
    let mut policy = profiles::drift("bench", &[], true);
    profiles::write(&folder, &policy)?;
    numbers.put("start-ms empty", starts(binary, &folder)?);

    // It is running while they come: what it learns of them one by one stays.
    let enforcer = Enforcer::start(binary, &folder)?;
    let ids: Vec<String> = (1..=CONTAINERS).map(|number| format!("bench-{number}")).collect();
    for id in &ids {
        context.runtime.start_command(id, &["/bin/busybox", "sleep", "100000"])?;
    }
    // After an edit it says how many it knows.
    policy["spec"]["description"] = "An edit.".into();
    let mark = enforcer.log_mark();
    profiles::write(&folder, &policy)?;
    knows_all(&enforcer.wait_for_log(mark, "enforcing: ", Duration::from_secs(10))?)?;
    memory(&enforcer, "came", numbers)?;
    enforcer.terminate()?;
    release(binary)?;

    numbers.put("start-ms found", starts(binary, &folder)?);
    let enforcer = Enforcer::start(binary, &folder)?;
    knows_all(&enforcer.wait_for_log(0, "enforcing: ", Duration::ZERO)?)?;
    memory(&enforcer, "found", numbers)?;
    enforcer.terminate()?;
    release(binary)?;
    ids.iter().try_for_each(|id| context.runtime.remove(id))
}

fn knows_all(said: &str) -> Result<()> {
    ensure(said.ends_with(&format!(" containers={CONTAINERS} unprotected=0")), || {
        format!("{CONTAINERS} containers run, but: {said}")
    })
}

fn memory(enforcer: &Enforcer, how: &str, numbers: &mut Numbers) -> Result<()> {
    std::thread::sleep(SETTLED);
    numbers.put(format!("memory-kib {how}"), enforcer.memory_kib("VmRSS")?);
    numbers.put(format!("peak-memory-kib {how}"), enforcer.memory_kib("VmHWM")?);
    Ok(())
}

/// From nothing pinned to everything in force, in milliseconds. The shortest of several: other work on the machine only adds to it.
pub(super) fn starts(binary: &Path, folder: &Path) -> Result<u64> {
    let mut shortest = u64::MAX;
    for _ in 0..STARTS {
        std::thread::sleep(FREED);
        shortest = shortest.min(start(binary, folder)?);
    }
    Ok(shortest)
}

/// One start and its release, in milliseconds.
fn start(binary: &Path, folder: &Path) -> Result<u64> {
    let begun = Instant::now();
    let enforcer = Enforcer::start(binary, folder)?;
    let took = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
    enforcer.terminate()?;
    release(binary)?;
    Ok(took)
}
