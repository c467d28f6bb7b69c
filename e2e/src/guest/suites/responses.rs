//! What is done to containers: Kill, Stop and Pause, and what holds them back.

mod switches;

use super::Test;
use crate::guest::context::{Context, Running};
use crate::guest::enforcer::{Enforcer, command, release};
use crate::guest::error::{HarnessError, OnFile, Result, ensure};
use crate::guest::event::Event;
use crate::guest::profiles;
use crate::guest::runtime::{Shape, Upper};
use crate::guest::system::poll;
use serde_json::{Value, json};
use std::fs;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

pub(crate) const TESTS: &[Test] = &[
    Test { name: "kill-of-100-that-fork", body: kill },
    Test { name: "kill-in-the-hosts-pid-namespace", body: kill_among_the_hosts },
    Test { name: "stop-is-heard", body: stop_is_heard },
    Test { name: "stop-is-not-heard", body: stop_is_not_heard },
    Test { name: "pause-and-resume", body: pause_and_resume },
    Test { name: "pause-is-over", body: pause_is_over },
    Test { name: "the-strongest-wins", body: strongest },
    Test { name: "once-in-a-life", body: once },
    Test { name: "across-a-restart", body: across_a_restart },
    Test { name: "another-container-in-its-place", body: another_in_its_place },
    Test { name: "container-actions-are-ignored", body: switches::container_actions_are_ignored },
    Test { name: "actions-are-ignored", body: switches::actions_are_ignored },
    Test { name: "volumes-are-denied", body: switches::volumes_are_denied },
    Test { name: "protected-and-own", body: switches::protected_and_own },
];

const SOON: Duration = Duration::from_secs(10);
const GRACE: Duration = Duration::from_secs(10);

/// A policy that only acts on the container `id`.
fn acting(name: &str, id: &str, actions: &Value) -> Value {
    let mut policy = profiles::drift(name, &[id], false);
    policy["spec"]["actions"] = actions.clone();
    policy
}

struct Rig<'a> {
    binary: &'a Path,
    folder: PathBuf,
    config: PathBuf,
}

impl Rig<'_> {
    fn start(&self) -> Result<Enforcer> {
        let config = self.config.to_string_lossy().into_owned();
        Enforcer::start_with(self.binary, &self.folder, &["--config", &config])
    }

    /// In one step, as editors and the kubelet write.
    fn configure(&self, text: &str) -> Result<()> {
        let new = self.config.with_extension("new");
        fs::write(&new, text).on("write", &new)?;
        fs::rename(&new, &self.config).on("rename", &self.config)
    }
}

fn with(context: &Context, policies: &[Value], body: impl FnOnce(&Rig<'_>) -> Result<()>) -> Result<()> {
    let folder = context.policies("responses")?;
    let config = context.work.join("responses.yaml");
    let rig = Rig { binary: context.enforcer()?, folder, config };
    rig.configure("{}\n")?;
    for policy in policies {
        profiles::write(&rig.folder, policy)?;
    }
    let result = body(&rig);
    let down = release(rig.binary);
    result.and(down)
}

/// The container's cgroup; runtimes put it where they like.
fn cgroup(id: &str) -> Result<PathBuf> {
    let tops = ["/sys/fs/cgroup/mooring-e2e", "/sys/fs/cgroup/default", "/sys/fs/cgroup"];
    let found = tops.iter().map(|top| Path::new(top).join(id)).find(|folder| folder.is_dir());
    found.ok_or_else(|| HarnessError::Wrong(format!("no cgroup of {id}")))
}

fn has(folder: &Path, event: &str) -> bool {
    fs::read_to_string(folder.join("cgroup.events")).is_ok_and(|text| text.lines().any(|line| line == event))
}

fn is_empty(folder: &Path) -> bool {
    !folder.exists() || has(folder, "populated 0")
}

fn processes(folder: &Path) -> usize {
    fs::read_to_string(folder.join("cgroup.procs")).map_or(0, |text| text.lines().count())
}

/// Runs a dropped program, by a process that may not live to tell.
fn violate(container: &mut Running<'_>, name: &str) -> Result<()> {
    container.session.must(&format!("cp /fix/tiny /drop/{name}"))?;
    let script = format!("(sleep 0.2; /drop/{name}) > /dev/null 2>&1 < /dev/null & :");
    container.session.run_within(&script, Duration::from_secs(2)).map(drop).or(Ok(()))
}

fn action(event: &Event) -> Value {
    serde_json::from_str::<Value>(&event.line).unwrap_or_default()["status"]["containerAction"].clone()
}

fn awaited(enforcer: &Enforcer, mark: usize, id: &str, action_is: &str, result: &str, said: &str) -> Result<Value> {
    let limit = SOON + GRACE;
    let event =
        enforcer.wait_for_event(mark, limit, &format!("of {action_is} {result} {said:?} of {id}"), |event| {
            let done = action(event);
            event.container == id
                && done["action"] == action_is
                && done["result"] == result
                && done["outcome"].as_str().is_some_and(|text| text.contains(said))
        })?;
    Ok(action(&event))
}

fn kill(context: &Context) -> Result<()> {
    let id = "resp-kill";
    with(context, &[acting("kill", id, &json!({"container": "Kill"}))], |rig| {
        let enforcer = rig.start()?;
        let mut container = context.container(id, Upper::Ext4)?;
        let folder = cgroup(id)?;
        // A hundred that fork once a second each, and some that do nothing else.
        container.session.must(
            "for n in $(seq 100); do (while :; do sleep 1; done) > /dev/null 2>&1 < /dev/null & done; \
             for n in 1 2 3 4; do (while :; do (:); done) > /dev/null 2>&1 < /dev/null & done; :",
        )?;
        let many = poll(SOON, || (processes(&folder) > 150).then_some(()));
        ensure(many.is_some(), || format!("only {} processes", processes(&folder)))?;
        let begun = Instant::now();
        violate(&mut container, "x")?;
        let done = awaited(&enforcer, 0, id, "Kill", "Done", "every process was killed")?;
        println!(
            "# {id}: told after {} ms, done after {} ms",
            begun.elapsed().as_millis(),
            done["durationMilliseconds"]
        );
        ensure(done["durationMilliseconds"].as_u64().is_some_and(|took| took < 5000), || format!("{done}"))?;
        thread::sleep(Duration::from_millis(300));
        ensure(is_empty(&folder), || format!("{} processes live on", processes(&folder)))?;
        ensure(!has(&folder, "frozen 1"), || "the cgroup stays frozen".into())
    })
}

/// Where the end of the container's first process is nobody else's. Some processes live only until they have started the next one.
fn kill_among_the_hosts(context: &Context) -> Result<()> {
    let id = "resp-among";
    with(context, &[acting("kill", id, &json!({"container": "Kill"}))], |rig| {
        let enforcer = rig.start()?;
        let mut container = context.container_of(id, Shape::HostProcesses)?;
        let folder = cgroup(id)?;
        container.session.must(
            "for n in $(seq 300); do sleep 1000 > /dev/null 2>&1 < /dev/null & done; \
             echo '/bin/sh /vol/next &' > /vol/next; \
             for n in 1 2 3 4; do /bin/sh /vol/next > /dev/null 2>&1 < /dev/null & done; :",
        )?;
        ensure(processes(&folder) > 300, || format!("only {} processes", processes(&folder)))?;
        violate(&mut container, "x")?;
        awaited(&enforcer, 0, id, "Kill", "Done", "every process was killed")?;
        thread::sleep(Duration::from_millis(300));
        ensure(is_empty(&folder), || format!("{} processes live on", processes(&folder)))
    })
}

/// A container whose first process is a shell that has a handler, and runs a dropped program when `/vol/go` is there.
fn with_handler(context: &Context, id: &str, handler: &str) -> Result<PathBuf> {
    let script = format!(
        "trap '{handler}' TERM; cp /fix/tiny /drop/x; echo up > /vol/up; \
         while :; do if test -e /vol/go; then /drop/x > /dev/null; fi; sleep 0.2; done"
    );
    context.runtime.start_command(id, &["/bin/sh", "-c", &script])?;
    let volume = context.work.join("volumes").join(id);
    let up = poll(SOON, || volume.join("up").exists().then_some(()));
    ensure(up.is_some(), || format!("{id} does not begin"))?;
    Ok(volume)
}

fn go(volume: &Path) -> Result<()> {
    fs::write(volume.join("go"), "").on("write", volume)
}

fn removed(context: &Context, id: &str, body: Result<()>) -> Result<()> {
    let gone = context.runtime.remove(id);
    body.and(gone)
}

fn stop_is_heard(context: &Context) -> Result<()> {
    let id = "resp-heard";
    with(context, &[acting("stop", id, &json!({"container": "Stop"}))], |rig| {
        let enforcer = rig.start()?;
        let volume = with_handler(context, id, "echo 7 > /vol/code; exit 7")?;
        let folder = cgroup(id)?;
        let body = || {
            go(&volume)?;
            let done = awaited(&enforcer, 0, id, "Stop", "Done", "ended after SIGTERM")?;
            ensure(done["durationMilliseconds"].as_u64().is_some_and(|took| took < 9000), || format!("{done}"))?;
            let code = volume.join("code");
            let code = fs::read_to_string(&code).on("read", &code)?;
            ensure(code.trim() == "7" && is_empty(&folder), || format!("{code:?}, {} left", processes(&folder)))
        };
        removed(context, id, body())
    })
}

fn stop_is_not_heard(context: &Context) -> Result<()> {
    let id = "resp-deaf";
    with(context, &[acting("stop", id, &json!({"container": "Stop"}))], |rig| {
        let enforcer = rig.start()?;
        // Process 1 of a pid namespace has no SIGTERM unless it asks for it.
        let mut container = context.container(id, Upper::Ext4)?;
        let folder = cgroup(id)?;
        container.session.must("sleep 1000 > /dev/null 2>&1 < /dev/null & :")?;
        let begun = Instant::now();
        violate(&mut container, "x")?;
        awaited(&enforcer, 0, id, "Stop", "UnderWay", "SIGTERM was sent")?;
        thread::sleep(Duration::from_secs(7));
        ensure(begun.elapsed() > GRACE || has(&folder, "populated 1"), || "it has no ten seconds".into())?;
        let done = awaited(&enforcer, 0, id, "Stop", "Done", "was killed")?;
        let took = done["durationMilliseconds"].as_u64().unwrap_or_default();
        ensure((10_000..13_000).contains(&took), || format!("after {took} ms: {done}"))?;
        ensure(is_empty(&folder), || format!("{} processes live on", processes(&folder)))
    })
}

/// A process that counts in `/vol/count`, and one in a cgroup of its own below the container's.
const COUNTING: &str = "(while :; do echo >> /vol/count; sleep 0.05; done) > /dev/null 2>&1 < /dev/null & \
     /usr/bin/probe in-cgroup nested /bin/sh -c 'while :; do echo >> /vol/nested; sleep 0.05; done' > /dev/null 2>&1 < /dev/null & :";

fn counts(context: &Context, id: &str) -> [u64; 2] {
    let of = |name| fs::metadata(context.work.join("volumes").join(id).join(name)).map_or(0, |file| file.len());
    [of("count"), of("nested")]
}

fn counts_on(context: &Context, id: &str) -> Result<()> {
    let before = counts(context, id);
    let on = poll(SOON, || counts(context, id).iter().zip(before).all(|(now, before)| *now > before).then_some(()));
    on.ok_or_else(|| HarnessError::Wrong(format!("{id} does not go on: {:?} after {before:?}", counts(context, id))))
}

fn stands_still(context: &Context, id: &str, folder: &Path) -> Result<()> {
    ensure(has(folder, "frozen 1"), || format!("{id} is not frozen"))?;
    let before = counts(context, id);
    thread::sleep(Duration::from_millis(700));
    ensure(counts(context, id) == before, || format!("{id} goes on: {before:?}, {:?}", counts(context, id)))
}

fn pause_and_resume(context: &Context) -> Result<()> {
    let id = "resp-pause";
    with(context, &[acting("pause", id, &json!({"container": "Pause"}))], |rig| {
        let enforcer = rig.start()?;
        let mut container = context.container(id, Upper::Ext4)?;
        let folder = cgroup(id)?;
        container.session.must(COUNTING)?;
        counts_on(context, id)?;
        // Once in each pause.
        for round in 0..2 {
            let mark = enforcer.mark();
            violate(&mut container, &format!("x{round}"))?;
            let done =
                awaited(&enforcer, mark, id, "Pause", "Done", "every process is paused until somebody resumes it")?;
            ensure(done["durationMilliseconds"].is_u64(), || format!("{done}"))?;
            stands_still(context, id, &folder)?;
            let ended = command(rig.binary, &["resume", id])?;
            ensure(ended.status.success(), || format!("resume: {}", ended.output))?;
            counts_on(context, id)?;
            awaited(&enforcer, mark, id, "Pause", "Done", "resumed by mooring-enforcer resume")?;
        }
        let ended = command(rig.binary, &["resume", id])?;
        ensure(!ended.status.success() && ended.output.contains("is not paused by Mooring"), || ended.output)?;
        // With Mooring's end every pause ends.
        violate(&mut container, "last")?;
        poll(SOON, || has(&folder, "frozen 1").then_some(()))
            .ok_or_else(|| HarnessError::Wrong("it is not paused again".into()))?;
        enforcer.kill()?;
        release(rig.binary)?;
        counts_on(context, id)
    })
}

fn pause_is_over(context: &Context) -> Result<()> {
    let id = "resp-over";
    let actions = json!({"container": "Pause", "pauseTimeout": "3s"});
    with(context, &[acting("pause", id, &actions)], |rig| {
        let enforcer = rig.start()?;
        let mut container = context.container(id, Upper::Ext4)?;
        let folder = cgroup(id)?;
        container.session.must(COUNTING)?;
        violate(&mut container, "x")?;
        awaited(&enforcer, 0, id, "Pause", "Done", "paused until")?;
        stands_still(context, id, &folder)?;
        awaited(&enforcer, 0, id, "Pause", "Done", "was paused for 3 s and resumed when the time was over")?;
        counts_on(context, id)
    })
}

fn strongest(context: &Context) -> Result<()> {
    let (both, one) = ("resp-both", "resp-one");
    let policies = [
        acting("pauses", both, &json!({"container": "Pause"})),
        acting("kills", both, &json!({"container": "Kill"})),
        acting("stops", both, &json!({"container": "Stop"})),
        acting("pauses-another", one, &json!({"container": "Pause"})),
    ];
    with(context, &policies, |rig| {
        let enforcer = rig.start()?;
        let mut first = context.container(both, Upper::Ext4)?;
        let mut second = context.container(one, Upper::Ext4)?;
        violate(&mut first, "x")?;
        violate(&mut second, "x")?;
        awaited(&enforcer, 0, both, "Kill", "Done", "killed")?;
        awaited(&enforcer, 0, one, "Pause", "Done", "paused")?;
        for policy in ["pauses", "kills", "stops"] {
            enforcer.wait_for_event(0, SOON, &format!("of {policy}"), |event| {
                event.policy == policy && action(event)["action"] == "Kill"
            })?;
        }
        ensure(is_empty(&cgroup(both)?), || "it lives on".into())?;
        ensure(has(&cgroup(one)?, "populated 1"), || "the other one was killed, too".into())?;
        // A stronger action may follow a weaker: nothing happens in a paused container, so its policy changes while it is.
        profiles::write(&rig.folder, &acting("pauses-another", one, &json!({"container": "Kill"})))?;
        let mark = enforcer.mark();
        ensure(command(rig.binary, &["resume", one])?.status.success(), || "not resumed".into())?;
        enforcer.wait_for_log(0, "enforcing: backend=", SOON)?;
        thread::sleep(Duration::from_millis(1500));
        violate(&mut second, "y")?;
        awaited(&enforcer, mark, one, "Kill", "Done", "killed").map(drop)
    })
}

fn once(context: &Context) -> Result<()> {
    let id = "resp-once";
    with(context, &[acting("stop", id, &json!({"container": "Stop"}))], |rig| {
        let enforcer = rig.start()?;
        let volume = with_handler(context, id, "echo t >> /vol/terms")?;
        let body = || {
            go(&volume)?;
            awaited(&enforcer, 0, id, "Stop", "Done", "was killed")?;
            let terms = volume.join("terms");
            let terms = fs::read_to_string(&terms).on("read", &terms)?;
            ensure(terms == "t\n", || format!("SIGTERM came {} times", terms.lines().count()))
        };
        removed(context, id, body())
    })
}

fn across_a_restart(context: &Context) -> Result<()> {
    let (paused, stopped) = ("resp-kept", "resp-ending");
    let policies = [
        acting("pause", paused, &json!({"container": "Pause", "pauseTimeout": "45s"})),
        acting("stop", stopped, &json!({"container": "Stop"})),
    ];
    with(context, &policies, |rig| {
        let enforcer = rig.start()?;
        let mut first = context.container(paused, Upper::Ext4)?;
        let mut second = context.container(stopped, Upper::Ext4)?;
        let folder = cgroup(paused)?;
        first.session.must(COUNTING)?;
        violate(&mut first, "x")?;
        let begun = Instant::now();
        awaited(&enforcer, 0, paused, "Pause", "Done", "paused")?;
        violate(&mut second, "x")?;
        awaited(&enforcer, 0, stopped, "Stop", "UnderWay", "SIGTERM")?;
        enforcer.kill()?;
        thread::sleep(Duration::from_secs(1));
        stands_still(context, paused, &folder)?;
        let enforcer = rig.start()?;
        let log = |wanted: &str| enforcer.wait_for_log(0, wanted, Duration::from_mins(1)).map(drop);
        // Runtimes' ids are the names here.
        log(&format!("container {stopped} ({stopped}): Stop Done: what had not ended after SIGTERM was killed"))?;
        ensure(is_empty(&cgroup(stopped)?), || "it was not killed".into())?;
        if begun.elapsed() < Duration::from_secs(40) {
            stands_still(context, paused, &folder)?;
        }
        log(&format!(
            "container {paused} ({paused}): Pause Done: was paused for 45 s and resumed when the time was over"
        ))?;
        counts_on(context, paused)?;
        // And where there is no agent at all.
        violate(&mut first, "y")?;
        let frozen = poll(SOON, || has(&folder, "frozen 1").then_some(()));
        ensure(frozen.is_some(), || "the new agent does not pause it".into())?;
        enforcer.kill()?;
        ensure(command(rig.binary, &["resume", paused])?.status.success(), || "not resumed without an agent".into())?;
        counts_on(context, paused)
    })
}

/// While the enforcer looks away, a container violates its policy and is replaced by another one with its name and its cgroup's path.
fn another_in_its_place(context: &Context) -> Result<()> {
    let id = "resp-replaced";
    with(context, &[acting("kill", id, &json!({"container": "Kill"}))], |rig| {
        let enforcer = rig.start()?;
        let mut first = context.container(id, Upper::Ext4)?;
        enforcer.wait_for_log(0, "enforcing: ", SOON)?;
        thread::sleep(Duration::from_millis(1500));
        enforcer.freeze()?;
        violate(&mut first, "x")?;
        thread::sleep(Duration::from_millis(300));
        let before = fs::metadata(cgroup(id)?).on("look at", "the cgroup")?;
        drop(first);
        let mut second = context.container(id, Upper::Ext4)?;
        let after = fs::metadata(cgroup(id)?).on("look at", "the cgroup")?;
        ensure(std::os::unix::fs::MetadataExt::ino(&before) != std::os::unix::fs::MetadataExt::ino(&after), || {
            "the kernel gave the same id again".into()
        })?;
        enforcer.thaw()?;
        thread::sleep(Duration::from_secs(3));
        second.session.must(":")?;
        // It is acted on for what it does itself.
        violate(&mut second, "y")?;
        awaited(&enforcer, 0, id, "Kill", "Done", "killed").map(drop)
    })
}
