//! How long it takes until a container that violated a policy is gone.

use super::{Numbers, wrong};
use crate::guest::context::Context;
use crate::guest::enforcer::{Enforcer, release};
use crate::guest::error::{During, OnFile, Result, ensure};
use crate::guest::profiles;
use crate::guest::system::poll;
use nix::sys::stat::Mode;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

const ROUNDS: usize = 100;
/// Besides the first one of the container, which runs what it dropped.
const PROCESSES: usize = 99;
const LIMIT: Duration = Duration::from_secs(30);

/// From a word to a process of the container, which executes what it dropped then, until the cgroup is empty: to start that process is in the number,
/// too.
pub(super) fn measure(context: &Context, clock: &str, numbers: &mut Numbers) -> Result<()> {
    let binary = context.enforcer()?;
    let folder = context.policies("bench-kill")?;
    let mut policy = profiles::drift("bench-kill", &[], false);
    policy["spec"]["actions"] = serde_json::json!({"container": "Kill"});
    profiles::write(&folder, &policy)?;
    let enforcer = Enforcer::start(binary, &folder)?;
    let mut took = Vec::new();
    for round in 0..ROUNDS {
        let id = format!("bench-kill-{round}");
        took.push(killed(context, &id)?);
        context.runtime.remove(&id)?;
    }
    enforcer.terminate()?;
    release(binary)?;
    took.sort_unstable();
    let at = |share: usize| took.get((took.len() * share).div_ceil(100).saturating_sub(1)).copied().unwrap_or_default();
    for share in [50, 99] {
        numbers.put(format!("kill-p{share}-us {clock}"), at(share));
    }
    Ok(())
}

/// In microseconds.
fn killed(context: &Context, id: &str) -> Result<u64> {
    // The volume is made with the container: what is in it is awaited there.
    let script = format!(
        "cp /fix/tiny /drop/x; n=0; while test $n -lt {PROCESSES}; do sleep 100000 & n=$((n+1)); done; \
         until test -p /vol/go; do sleep 0.05; done; echo > /vol/ready; read word < /vol/go; /drop/x; wait"
    );
    context.runtime.start_command(id, &["/bin/sh", "-c", &script])?;
    let volume = context.work.join("volumes").join(id);
    let pipe = volume.join("go");
    nix::unistd::mkfifo(&pipe, Mode::S_IRWXU).during("make a pipe")?;
    let cgroup = Path::new("/sys/fs/cgroup/mooring-e2e").join(id);
    let count = || fs::read_to_string(cgroup.join("cgroup.procs")).map_or(0, |text| text.lines().count());
    poll(LIMIT, || (volume.join("ready").exists() && count() > PROCESSES).then_some(()))
        .ok_or_else(|| wrong(format!("{id} has {} processes", count())))?;
    // What a start leaves to be done is none of it.
    std::thread::sleep(Duration::from_millis(700));
    ensure(count() == PROCESSES + 1, || format!("{id} has {} processes", count()))?;
    let begun = Instant::now();
    fs::write(&pipe, "go\n").on("write", &pipe)?;
    let events = cgroup.join("cgroup.events");
    loop {
        let text = fs::read_to_string(&events).on("read", &events)?;
        if text.lines().any(|line| line == "populated 0") {
            return Ok(u64::try_from(begun.elapsed().as_micros()).unwrap_or(u64::MAX));
        }
        ensure(begun.elapsed() < LIMIT, || format!("{id} is not killed: {} processes", count()))?;
        // Each look is work of the same processor.
        std::thread::sleep(Duration::from_millis(1));
    }
}
