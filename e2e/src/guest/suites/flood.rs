//! 100,000 refused executions in a row.

use super::Test;
use crate::guest::context::Context;
use crate::guest::enforcer::{Enforcer, release};
use crate::guest::error::{HarnessError, Result, ensure};
use crate::guest::event::{Event, total};
use crate::guest::profiles;
use crate::guest::runtime::Upper;
use crate::guest::system::poll;
use std::time::{Duration, Instant};

pub(crate) const TESTS: &[Test] =
    &[Test { name: "one-file", body: one_file }, Test { name: "many-files", body: many_files }];

const TIMES: u64 = 100_000;
const FILES: u64 = 2_000;
const LIMIT: Duration = Duration::from_secs(400);
/// The bound for the enforcer's resident memory, with room for what a flood buffers.
const MEMORY_KIB: u64 = 32 * 1024;

fn counted(events: &[Event], id: &str) -> u64 {
    total(events.iter().filter(|event| event.container == id))
}

fn flooded(context: &Context, id: &str, prepare: &str, attack: &str, times: u64, lines: u64) -> Result<()> {
    let binary = context.enforcer()?;
    let folder = context.policies("flood")?;
    profiles::write(&folder, &profiles::drift("flood", &[id], true))?;
    let enforcer = Enforcer::start(binary, &folder)?;
    let mut container = context.container(id, Upper::Ext4)?;
    container.session.must(prepare)?;
    let start = Instant::now();
    let reply = container.session.run_within(attack, LIMIT)?;
    let took = start.elapsed();
    ensure(reply.output.contains(&format!("refused {times}")), || {
        format!("the flood ended with {}: {}", reply.status, reply.output)
    })?;
    ensure(!container.runs("/drop/x")?, || "the dropped program runs after the flood".into())?;
    ensure(container.runs("/fix/tiny")?, || "the image's program does not run after the flood".into())?;
    // The one more try above is counted too.
    let expected = times + 1;
    let right = poll(Duration::from_secs(20), || (counted(&enforcer.events_since(0), id) == expected).then_some(()));
    let events = enforcer.events_since(0);
    let memory = enforcer.memory_kib("VmHWM")?;
    println!(
        "# {id}: {times} refused in {:.1} s, {} events, peak memory {memory} KiB",
        took.as_secs_f64(),
        events.len()
    );
    enforcer.terminate()?;
    drop(container);
    release(binary)?;
    right.ok_or_else(|| {
        HarnessError::Wrong(format!("{expected} refusals, but the events count {}", counted(&events, id)))
    })?;
    ensure(events.iter().all(|event| event.verdict == "Denied"), || "an event is not Denied".into())?;
    ensure(events.len() as u64 <= lines, || format!("{} events for {expected} refusals", events.len()))?;
    ensure(memory <= MEMORY_KIB, || format!("peak memory {memory} KiB is over {MEMORY_KIB} KiB"))
}

fn one_file(context: &Context) -> Result<()> {
    let attack = format!("/usr/bin/probe flood {TIMES} /drop/x");
    // One a second and file is plenty for a person.
    flooded(context, "flood-one", "cp /fix/tiny /drop/x", &attack, TIMES, LIMIT.as_secs())
}

fn many_files(context: &Context) -> Result<()> {
    let prepare =
        format!("cp /fix/tiny /drop/x; mkdir /drop/many; for i in $(seq {FILES}); do cp /fix/tiny /drop/many/$i; done");
    let attack = format!("/usr/bin/probe flood-folder {FILES} /drop/many");
    flooded(context, "flood-many", &prepare, &attack, FILES, FILES + 1)
}
