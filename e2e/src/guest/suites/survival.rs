//! The enforcer is killed at any moment and comes back, while a loop in the container tries its luck.

use super::Test;
use crate::guest::context::{Context, Running};
use crate::guest::enforcer::{Enforcer, command, pins, release};
use crate::guest::error::{HarnessError, OnFile, Result, ensure};
use crate::guest::profiles;
use crate::guest::recorded::Recorded;
use crate::guest::runtime::Upper;
use crate::guest::system::{bpf_lsm_is_active, poll};
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

pub(crate) const TESTS: &[Test] = &[
    Test { name: "20-kills-and-restarts", body: kills_and_restarts },
    Test { name: "50-edits", body: edits },
    Test { name: "a-second-enforcer", body: a_second_one },
    Test { name: "another-backend", body: another_backend },
    Test { name: "written-while-nobody-watched", body: written_unwatched },
    Test { name: "upgrade-of-the-wire", body: upgrade },
    Test { name: "left-by-another-version", body: left_behind },
];

const KILLS: u32 = 20;
const START_ORACLE: &str = "rm -f /drop/stop /drop/oracle; /usr/bin/probe oracle /drop/x /fix/tiny /drop/stop > /drop/oracle 2>&1 < /dev/null &";

#[derive(Debug, PartialEq)]
struct Seen {
    tries: u64,
    successes: u64,
    failures: u64,
}

fn parse(text: &str) -> Option<Seen> {
    let words: Vec<&str> = text.split_whitespace().collect();
    let ["tries", tries, "successes", successes, "failures", failures] = words.as_slice() else {
        return None;
    };
    Some(Seen { tries: tries.parse().ok()?, successes: successes.parse().ok()?, failures: failures.parse().ok()? })
}

fn stop_oracle(container: &mut Running<'_>) -> Result<Seen> {
    container.session.must(": > /drop/stop")?;
    poll(Duration::from_secs(10), || parse(&container.session.must("cat /drop/oracle").ok()?))
        .ok_or_else(|| HarnessError::Wrong("the oracle does not end".into()))
}

fn with_oracle(context: &Context, id: &str, body: impl FnOnce(&Path, &Path, Enforcer) -> Result<()>) -> Result<()> {
    let binary = context.enforcer()?;
    let folder = context.policies("survival")?;
    profiles::write(&folder, &profiles::drift("survival", &[id], true))?;
    let enforcer = Enforcer::start(binary, &folder)?;
    let container = context.container(id, Upper::Ext4)?;
    with_oracle_in(container, binary, &folder, enforcer, body)
}

fn with_oracle_in(
    mut container: Running<'_>,
    binary: &Path,
    folder: &Path,
    enforcer: Enforcer,
    body: impl FnOnce(&Path, &Path, Enforcer) -> Result<()>,
) -> Result<()> {
    container.drop_program("x")?;
    container.session.must(START_ORACLE)?;
    let result = body(binary, folder, enforcer);
    let seen = stop_oracle(&mut container);
    // The oracle itself must be able to see a success.
    let down = release(binary);
    let after = container.runs("/drop/x");
    result?;
    down?;
    let seen = seen?;
    println!("# {}: {seen:?}", container.id);
    ensure(seen.tries > 50, || format!("only {} tries", seen.tries))?;
    ensure(seen.successes == 0, || format!("the dropped program ran: {seen:?}"))?;
    ensure(seen.failures == 0, || format!("the image's program was refused: {seen:?}"))?;
    ensure(after?, || "after release the dropped program still does not run".into())
}

fn kills_and_restarts(context: &Context) -> Result<()> {
    with_oracle(context, "survival-kill", |binary, folder, enforcer| {
        enforcer.kill()?;
        let begun = Instant::now();
        Enforcer::start(binary, folder)?.kill()?;
        let start = begun.elapsed();
        for round in 0..KILLS {
            let enforcer = Enforcer::launch(binary, folder)?;
            // From the first milliseconds of a start to well after it, which on an emulated machine is seconds.
            thread::sleep(start * 3 * round / (2 * KILLS));
            enforcer.kill()?;
        }
        let enforcer = Enforcer::start(binary, folder)?;
        thread::sleep(Duration::from_millis(500));
        enforcer.terminate().map(drop)
    })
}

fn edits(context: &Context) -> Result<()> {
    with_oracle(context, "survival-edit", |_, folder, enforcer| {
        for round in 0..50 {
            let mut policy = profiles::drift("survival", &["survival-edit"], true);
            policy["spec"]["detect"]["exceptions"] = serde_json::json!([{"path": format!("/opt/edit-{round}")}]);
            let mark = enforcer.log_mark();
            profiles::write(folder, &policy)?;
            enforcer.wait_for_log(mark, "enforcing: ", Duration::from_secs(5))?;
        }
        enforcer.terminate().map(drop)
    })
}

/// Whether the second takes over or is turned away, nothing may get through.
fn a_second_one(context: &Context) -> Result<()> {
    with_oracle(context, "survival-second", |binary, folder, first| {
        let second = Enforcer::launch(binary, folder)?;
        thread::sleep(Duration::from_secs(3));
        first.kill()?;
        thread::sleep(Duration::from_secs(1));
        second.kill()
    })
}

/// From one to the other and back, where both can be.
fn another_backend(context: &Context) -> Result<()> {
    if !bpf_lsm_is_active()? {
        println!("# only one backend here");
        return Ok(());
    }
    with_oracle(context, "survival-backend", |binary, folder, enforcer| {
        let mut before = enforcer;
        for backend in ["FmodRet", "BpfLsm", "Kill", "Fanotify", "BpfLsm", "Fanotify", "Kill", "BpfLsm"] {
            let next = Enforcer::start_with(binary, folder, &["--backend", backend])?;
            next.wait_for_log(0, &format!("enforcing: backend={backend}"), Duration::ZERO)?;
            before.wait_for_log(0, "ending: another enforcer has taken over", Duration::from_secs(5))?;
            thread::sleep(Duration::from_millis(500));
            before = next;
        }
        before.terminate().map(drop)
    })
}

/// What is known of a file from when its writers were seen does not outlive a backend that sees none.
fn written_unwatched(context: &Context) -> Result<()> {
    const ID: &str = "survival-unwatched";
    const FILE: &str = "/fix/app/bin/server";
    let watching = if bpf_lsm_is_active()? { "BpfLsm" } else { "FmodRet" };
    let binary = context.enforcer()?;
    let folder = context.policies("survival")?;
    profiles::write(&folder, &profiles::drift("survival", &[ID], true))?;
    let mut container = context.container(ID, Upper::Ext4)?;
    let first = Enforcer::start_with(binary, &folder, &["--backend", watching])?;
    container.session.must(&format!("chmod 700 {FILE}"))?;
    ensure(container.runs(FILE)?, || "it has no mark to lose: this tests nothing".into())?;
    let second = Enforcer::start_with(binary, &folder, &["--backend", "Kill"])?;
    first.wait_for_log(0, "ending: another enforcer has taken over", Duration::from_secs(5))?;
    container.session.must(&format!("echo more >> {FILE}"))?;
    ensure(!container.runs(FILE)?, || "Kill believes a mark that nobody keeps".into())?;
    let third = Enforcer::start_with(binary, &folder, &["--backend", watching])?;
    second.wait_for_log(0, "ending: another enforcer has taken over", Duration::from_secs(5))?;
    ensure(!container.runs(FILE)?, || "it was written while nobody watched, and runs".into())?;
    third.terminate()?;
    release(binary)?;
    ensure(container.runs(FILE)?, || "it does not run by itself either".into())
}

/// Other containers of an upgraded node.
const RECORDED: usize = 1000;

/// The programs' own wire version, by the folder that they are pinned in.
fn wire_version() -> Result<u32> {
    let entries = std::fs::read_dir(pins()).on("list", pins())?;
    let of = |name: &str| name.strip_prefix('v')?.parse::<u32>().ok();
    let versions: Vec<u32> = entries.flatten().filter_map(|entry| of(entry.file_name().to_str()?)).collect();
    match versions.as_slice() {
        [own] => Ok(*own),
        _ => Err(HarnessError::Wrong(format!("not one wire version under {}: {versions:?}", pins().display()))),
    }
}

/// What an agent of another wire version left goes on refusing until this one knows every container, and is gone then.
fn upgrade(context: &Context) -> Result<()> {
    // Found before the container with the loop: it is entered some time after the switch.
    let mut recorded = Recorded::begin(context)?;
    let bundle = recorded.bundle("bundle", &context.image.busybox)?;
    for number in 0..RECORDED {
        recorded.add(&format!("recorded-{number}"), &bundle)?;
    }
    // Older than any enforcer: none has seen its cgroup being made.
    let container = context.container("survival-upgrade", Upper::Ext4)?;
    let folder = context.policies("survival")?;
    profiles::write(&folder, &profiles::drift("survival", &["survival-upgrade"], true))?;
    let (binary, enforcer) = (context.enforcer()?, Enforcer::start(context.enforcer()?, &folder)?);
    with_oracle_in(container, binary, &folder, enforcer, |binary, folder, enforcer| {
        let mut enforcer = Some(enforcer);
        let own_version = wire_version()?;
        // As an older and a newer agent would have left theirs.
        for version in [own_version - 1, own_version + 1] {
            let [own, other] = [own_version, version].map(|number| pins().join(format!("v{number}")));
            std::fs::rename(&own, &other).on("rename", &own)?;
            // One that does not come into force takes nothing down.
            let broken = context.policies("survival-broken")?;
            let failed = command(binary, &["run", "--policies", &broken.to_string_lossy()])?;
            ensure(!failed.status.success() && other.exists(), || format!("v{version}: {}", failed.output))?;
            let next = Enforcer::start(binary, folder)?;
            ensure(!other.exists() && own.exists(), || format!("{} is still there", other.display()))?;
            // The other one's agent notices, and leaves the new one alone.
            if let Some(before) = enforcer.replace(next) {
                before.wait_for_log(0, "ending: another enforcer has taken over", Duration::from_secs(5))?;
            }
            thread::sleep(Duration::from_millis(500));
        }
        enforcer.map_or(Ok(()), |enforcer| enforcer.terminate().map(drop))
    })
}

/// An agent of another version that ended after it had come into force and before it had taken this one's down.
fn left_behind(context: &Context) -> Result<()> {
    const ID: &str = "survival-left";
    let binary = context.enforcer()?;
    let folder = context.policies("survival")?;
    let policy = |prevent| profiles::write(&folder, &profiles::drift("survival", &[ID], prevent));
    policy(true)?;
    let mut container = context.container(ID, Upper::Ext4)?;
    let other = Enforcer::start(binary, &folder)?;
    let own_version = wire_version()?;
    let [own, its] = [own_version, own_version + 1].map(|number| pins().join(format!("v{number}")));
    // A name without a dot: this file system takes no other.
    let aside = pins().with_file_name("mooring-aside");
    std::fs::rename(&own, &aside).on("rename", &own)?;
    other.kill()?;
    policy(false)?;
    let enforcer = Enforcer::start(binary, &folder)?;
    std::fs::rename(&aside, &its).on("rename", &aside)?;
    let path = container.drop_program("x")?;
    ensure(!container.runs(&path)?, || "what is said to be left decides nothing: this tests nothing".into())?;
    enforcer.wait_for_log(
        0,
        "what an agent of another version had left in force is taken down",
        Duration::from_mins(2),
    )?;
    ensure(!its.exists() && own.exists(), || format!("{} is still there", its.display()))?;
    ensure(container.runs(&path)?, || "it is refused by what was left".into())?;
    enforcer.terminate()?;
    release(binary)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_oracle_prints_is_read() {
        let seen = parse("tries 9 successes 1 failures 2\n").unwrap();
        assert_eq!(seen, Seen { tries: 9, successes: 1, failures: 2 });
        assert!(parse("").is_none());
    }
}
