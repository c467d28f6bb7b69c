//! What holds actions back: the switches of the agent's configuration, and which containers it is.

use super::{SOON, acting, action, awaited, cgroup, has, violate, with};
use crate::guest::context::Context;
use crate::guest::error::{OnFile, Result, ensure};
use crate::guest::event::Event;
use crate::guest::profiles;
use crate::guest::runtime::Upper;
use serde_json::json;
use std::fs;
use std::path::Path;
use std::thread;
use std::time::Duration;

pub(super) fn container_actions_are_ignored(context: &Context) -> Result<()> {
    let id = "resp-ignored";
    with(context, &[acting("kill", id, &json!({"container": "Kill"}))], |rig| {
        rig.configure("ignoreContainerActions: true\n")?;
        let enforcer = rig.start()?;
        let mut container = context.container(id, Upper::Ext4)?;
        violate(&mut container, "x")?;
        awaited(&enforcer, 0, id, "Kill", "HeldBack", "held back: ignoreContainerActions is on")?;
        let held = |event: &Event| event.line.contains(r#""heldBack":[{"what":"Kill","by":"ignoreContainerActions"}]"#);
        enforcer.wait_for_event(0, SOON, "with what was held back", held)?;
        enforcer
            .wait_for_log(0, "held back: Kill for \"/drop/x\"", SOON)
            .or_else(|_| enforcer.wait_for_log(0, "held back: Kill for /drop/x in container resp-ignored", SOON))?;
        container.session.must(":")?;
        // What is wrong changes nothing.
        let mark = enforcer.log_mark();
        rig.configure("ignoreContainerAction: true\n")?;
        let said = enforcer.wait_for_log(mark, "configuration refused: ", SOON)?;
        ensure(said.contains("ignoreContainerAction: is not a field: remove it"), || said)?;
        violate(&mut container, "y")?;
        thread::sleep(Duration::from_secs(1));
        container.session.must(":")?;
        rig.configure("ignoreContainerActions: false\n")?;
        enforcer.wait_for_log(mark, "configuration in force: switches on: none", SOON)?;
        violate(&mut container, "z")?;
        awaited(&enforcer, 0, id, "Kill", "Done", "killed").map(drop)
    })
}

pub(super) fn actions_are_ignored(context: &Context) -> Result<()> {
    let id = "resp-all";
    with(context, &[acting("both", id, &json!({"prevent": true, "container": "Pause"}))], |rig| {
        rig.configure("ignoreActions: true\n")?;
        let enforcer = rig.start()?;
        let mut container = context.container(id, Upper::Ext4)?;
        let path = container.drop_program("x")?;
        ensure(container.runs(&path)?, || "it is refused though actions are ignored".into())?;
        let held = r#""heldBack":[{"what":"Prevent","by":"ignoreActions"},{"what":"Pause","by":"ignoreActions"}]"#;
        enforcer.wait_for_event(0, SOON, "with what was held back", |event| {
            event.verdict == "Detected" && event.line.contains(held)
        })?;
        enforcer.wait_for_log(0, "held back: Prevent for ", SOON)?;
        ensure(!has(&cgroup(id)?, "frozen 1"), || "it is paused".into())?;
        let mark = enforcer.log_mark();
        rig.configure("ignoreActions: false\n")?;
        enforcer.wait_for_log(mark, "enforcing: ", SOON)?;
        let mark = enforcer.mark();
        // Of another file: the first one's event goes on to say what was held back.
        let other = container.drop_program("y")?;
        let script = format!("(sleep 0.2; {other}) > /dev/null 2>&1 < /dev/null & :");
        container.session.run_within(&script, Duration::from_secs(2)).map(drop).or(Ok(()))?;
        let event = enforcer.wait_for_event(mark, SOON, "of the refusal", |event| {
            event.path == other && event.verdict == "Denied" && action(event)["result"] == "Done"
        })?;
        ensure(!event.line.contains("heldBack"), || format!("something is held back still: {}", event.line))?;
        ensure(has(&cgroup(id)?, "frozen 1"), || "it is not paused".into())
    })
}

pub(super) fn volumes_are_denied(context: &Context) -> Result<()> {
    let id = "resp-volumes";
    let mut says_no = profiles::drift("says-no", &["resp-says-no"], true);
    says_no["spec"]["detect"]["volumeBinaries"] = json!(false);
    with(context, &[profiles::drift("leaves-it", &[id], true), says_no], |rig| {
        let enforcer = rig.start()?;
        let mut container = context.container(id, Upper::Ext4)?;
        let mut other = context.container("resp-says-no", Upper::Ext4)?;
        for container in [&mut container, &mut other] {
            container.session.must("cp /fix/tiny /vol/x")?;
            ensure(container.runs("/vol/x")?, || "a volume's program does not run".into())?;
        }
        for (on, runs) in [(true, false), (false, true)] {
            let mark = enforcer.log_mark();
            rig.configure(&format!("denyExecutionFromVolumes: {on}\n"))?;
            enforcer.wait_for_log(mark, "enforcing: ", SOON)?;
            ensure(container.runs("/vol/x")? == runs, || format!("it runs: {} with the switch {on}", !runs))?;
            ensure(other.runs("/vol/x")?, || "a policy's own word does not count".into())?;
        }
        Ok(())
    })
}

pub(super) fn protected_and_own(context: &Context) -> Result<()> {
    let (protected, own) = ("resp-protected", "resp-own");
    let policies = [
        acting("protected", protected, &json!({"container": "Kill"})),
        acting("own", own, &json!({"container": "Kill"})),
    ];
    with(context, &policies, |rig| {
        rig.configure("protectedPods: [{name: 'resp-prot*'}]\n")?;
        let enforcer = rig.start()?;
        let mut first = context.container(protected, Upper::Ext4)?;
        let mut second = context.container(own, Upper::Ext4)?;
        let folder = cgroup(own)?;
        let procs = folder.join("cgroup.procs");
        let home = fs::read_to_string(format!("/proc/{}/cgroup", enforcer.pid())).on("read", "its cgroup")?;
        fs::write(&procs, enforcer.pid().to_string()).on("write", &procs)?;
        violate(&mut first, "x")?;
        violate(&mut second, "x")?;
        awaited(&enforcer, 0, protected, "Kill", "HeldBack", "held back: protectedPods")?;
        awaited(&enforcer, 0, own, "Kill", "HeldBack", "the agent runs in this container")?;
        first.session.must(":")?;
        second.session.must(":")?;
        // Out of it again: as any other.
        let home = home.lines().find_map(|line| line.strip_prefix("0::/")).unwrap_or_default().to_owned();
        let home = Path::new("/sys/fs/cgroup").join(home).join("cgroup.procs");
        fs::write(&home, enforcer.pid().to_string()).on("write", &home)?;
        violate(&mut second, "y")?;
        awaited(&enforcer, 0, own, "Kill", "Done", "killed").map(drop)
    })
}
