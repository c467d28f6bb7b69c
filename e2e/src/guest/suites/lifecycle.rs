//! Start, edit, stop, release.

use super::Test;
use crate::guest::context::{Context, Running};
use crate::guest::enforcer::{Enforcer, command, pins, release};
use crate::guest::error::{HarnessError, OnFile, Result, ensure};
use crate::guest::profiles;
use crate::guest::runtime::Upper;
use crate::guest::system::poll;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

pub(crate) const TESTS: &[Test] = &[
    Test { name: "container-before-the-enforcer", body: container_first },
    Test { name: "copied-up-before-the-enforcer", body: copied_up_first },
    Test { name: "enforcement-outlives-sigterm", body: outlives_sigterm },
    Test { name: "container-made-while-it-was-dead", body: made_while_dead },
    Test { name: "unknown-container-is-denied", body: unknown_denied },
    Test { name: "unknown-container-is-allowed", body: unknown_allowed },
    Test { name: "valid-edit-within-a-second", body: valid_edit },
    Test { name: "broken-edit-keeps-the-last-good-set", body: broken_edit },
    Test { name: "two-policies-add-up", body: add_up },
    Test { name: "event-names-the-process", body: names_the_process },
    Test { name: "nothing-is-believed-of-an-unwatched-time", body: unwatched },
    Test { name: "release-takes-everything-down", body: release_all },
];

pub(super) fn released(context: &Context, body: impl FnOnce(&Path, PathBuf) -> Result<()>) -> Result<()> {
    let binary = context.enforcer()?;
    let folder = context.policies("lifecycle")?;
    let result = body(binary, folder);
    // Whatever a failed test left must not fail the next one.
    let down = release(binary);
    result.and(down)
}

pub(super) fn refuses(container: &mut Running<'_>, path: &str) -> Result<()> {
    ensure(!container.runs(path)?, || format!("{path} ran in {}", container.id))
}

pub(super) fn runs(container: &mut Running<'_>, path: &str) -> Result<()> {
    ensure(container.runs(path)?, || format!("{path} does not run in {}", container.id))
}

/// As after a removal that was cut short: the programs are gone, and the maps say that a file is clean that anybody could write.
fn unwatched(context: &Context) -> Result<()> {
    released(context, |binary, folder| {
        profiles::write(&folder, &profiles::drift("life", &["life-unwatched"], true))?;
        let mut container = context.container("life-unwatched", Upper::Ext4)?;
        let enforcer = Enforcer::start(binary, &folder)?;
        container.session.must("chmod 700 /fix/app/bin/server; mv /fix/app/bin/server /fix/app/bin/moved")?;
        runs(&mut container, "/fix/app/bin/moved")?;
        enforcer.kill()?;
        for version in std::fs::read_dir(pins()).on("list", pins())?.flatten() {
            let links = version.path().join("links");
            for instance in std::fs::read_dir(&links).on("list", &links)?.flatten() {
                std::fs::remove_dir_all(instance.path()).on("remove", instance.path())?;
            }
        }
        // The kernel detaches programs some time after their pins are gone.
        let dropped = container.drop_program("x")?;
        let free = poll(Duration::from_secs(10), || container.runs(&dropped).unwrap_or(false).then_some(()));
        ensure(free.is_some(), || "the programs are still attached".into())?;
        container.session.must("cat /fix/tiny > /fix/app/bin/moved")?;
        let _enforcer = Enforcer::start(binary, &folder)?;
        refuses(&mut container, "/fix/app/bin/moved")
    })
}

fn container_first(context: &Context) -> Result<()> {
    released(context, |binary, folder| {
        let mut container = context.container("life-first", Upper::Ext4)?;
        let old = container.drop_program("dropped-before")?;
        runs(&mut container, &old)?;
        profiles::write(&folder, &profiles::drift("life", &["life-first"], true))?;
        let enforcer = Enforcer::start(binary, &folder)?;
        refuses(&mut container, &old)?;
        let new = container.drop_program("dropped-after")?;
        refuses(&mut container, &new)?;
        runs(&mut container, "/fix/tiny")?;
        for path in [&old, &new] {
            enforcer.wait_for_event(0, Duration::from_secs(4), path, |e| {
                e.path == *path && e.reason == "NewBinary" && e.verdict == "Denied" && e.container == "life-first"
            })?;
        }
        Ok(())
    })
}

fn copied_up_first(context: &Context) -> Result<()> {
    released(context, |binary, folder| {
        for upper in context.runtime.uppers() {
            let id = format!("life-copied-{upper:?}").to_lowercase();
            let mut container = context.container(&id, *upper)?;
            container.session.must("chmod 700 /fix/app/bin/server; mv /fix/app/lib/plugin /fix/app/lib/moved; cat /fix/tiny > /fix/victim/copy-up-chmod; chmod 700 /fix/victim/copy-up-chmod")?;
            profiles::write(&folder, &profiles::drift(&id, &[&id], true))?;
            let enforcer = Enforcer::start(binary, &folder)?;
            for path in ["/fix/app/bin/server", "/fix/app/lib/moved"] {
                let allowed = poll(Duration::from_secs(8), || container.runs(path).ok()?.then_some(()));
                ensure(allowed.is_some(), || format!("{path} has the image's content, but never ran"))?;
            }
            refuses(&mut container, "/fix/victim/copy-up-chmod")?;
            enforcer.wait_for_event(0, Duration::from_secs(4), "of the written file", |e| {
                e.path == "/fix/victim/copy-up-chmod" && e.reason == "ModifiedBinary"
            })?;
            enforcer.terminate()?;
        }
        Ok(())
    })
}

fn outlives_sigterm(context: &Context) -> Result<()> {
    released(context, |binary, folder| {
        profiles::write(&folder, &profiles::drift("life", &["life-sigterm"], true))?;
        let enforcer = Enforcer::start(binary, &folder)?;
        let mut container = context.container("life-sigterm", Upper::Ext4)?;
        let path = container.drop_program("x")?;
        refuses(&mut container, &path)?;
        let status = enforcer.terminate()?;
        ensure(status.success(), || format!("after SIGTERM it ended with {status}"))?;
        refuses(&mut container, &path)?;
        runs(&mut container, "/fix/tiny")?;
        let enforcer = Enforcer::start(binary, &folder)?;
        refuses(&mut container, &path)?;
        enforcer.terminate().map(drop)
    })
}

fn made_while_dead(context: &Context) -> Result<()> {
    released(context, |binary, folder| {
        profiles::write(&folder, &profiles::everything("life"))?;
        Enforcer::start(binary, &folder)?.kill()?;
        let mut container = context.container("life-orphan", Upper::Ext4)?;
        let path = container.drop_program("x")?;
        let enforcer = Enforcer::start(binary, &folder)?;
        refuses(&mut container, &path)?;
        runs(&mut container, "/fix/tiny")?;
        enforcer.wait_for_event(0, Duration::from_secs(4), "of the orphan", |e| {
            e.container == "life-orphan" && e.verdict == "Denied"
        })?;
        Ok(())
    })
}

fn unknown_denied(context: &Context) -> Result<()> {
    unknown(context, "DenyDrift", false)
}

fn unknown_allowed(context: &Context) -> Result<()> {
    unknown(context, "Allow", true)
}

/// While the enforcer is frozen, nobody knows which policies are for a new container.
fn unknown(context: &Context, setting: &str, runs_meanwhile: bool) -> Result<()> {
    released(context, |binary, folder| {
        profiles::write(&folder, &profiles::everything("life"))?;
        let enforcer = Enforcer::start_with(binary, &folder, &["--unknown-containers", setting])?;
        enforcer.freeze()?;
        let mut container = context.container("life-unknown", Upper::Ext4)?;
        let path = container.drop_program("x")?;
        runs(&mut container, "/fix/tiny")?;
        let ran = container.runs(&path)?;
        enforcer.thaw()?;
        ensure(ran == runs_meanwhile, || format!("with {setting}, ran while nobody knew the container: {ran}"))?;
        let refused = poll(Duration::from_secs(5), || (!container.runs(&path).ok()?).then_some(()));
        ensure(refused.is_some(), || "it is never refused".into())?;
        enforcer.wait_for_event(0, Duration::from_secs(4), "once it is known", |e| {
            e.container == "life-unknown" && e.verdict == "Denied" && e.path == path
        })?;
        Ok(())
    })
}

/// An edit is in force a second after it was written; emulated instructions are slower, but not by that much.
fn valid_edit(context: &Context) -> Result<()> {
    released(context, |binary, folder| {
        profiles::write(&folder, &profiles::drift("life", &["life-edit"], false))?;
        let enforcer = Enforcer::start(binary, &folder)?;
        let mut container = context.container("life-edit", Upper::Ext4)?;
        let path = container.drop_program("x")?;
        for prevent in [true, false, true] {
            ensure(container.runs(&path)? == prevent, || "the edit before this one is not in force".into())?;
            let mark = enforcer.log_mark();
            let start = Instant::now();
            profiles::write(&folder, &profiles::drift("life", &["life-edit"], prevent))?;
            let changed =
                poll(Duration::from_secs(5), || (container.runs(&path).ok()? != prevent).then(|| start.elapsed()));
            let took =
                changed.ok_or_else(|| HarnessError::Wrong(format!("prevent: {prevent} is not in force after 5 s")))?;
            ensure(took <= Duration::from_secs(1), || format!("it took {:.2} s", took.as_secs_f64()))?;
            enforcer.wait_for_log(mark, "enforcing: ", Duration::from_secs(2))?;
        }
        std::fs::remove_file(folder.join("life.json")).on("remove", folder.join("life.json"))?;
        // A folder without policies is an error, not "nothing is forbidden".
        enforcer.wait_for_log(0, "policies refused: ", Duration::from_secs(5))?;
        refuses(&mut container, &path)
    })
}

fn broken_edit(context: &Context) -> Result<()> {
    released(context, |binary, folder| {
        profiles::write(&folder, &profiles::drift("life", &["life-broken"], true))?;
        let enforcer = Enforcer::start(binary, &folder)?;
        let mut container = context.container("life-broken", Upper::Ext4)?;
        let path = container.drop_program("x")?;
        for bad in super::bad_policies::TEXTS {
            let mark = enforcer.log_mark();
            profiles::write_text(&folder, "broken.yaml", bad.text)?;
            let line = enforcer
                .wait_for_log(mark, "policies refused: ", Duration::from_secs(5))
                .map_err(|error| HarnessError::Wrong(format!("{}: {error}", bad.name)))?;
            bad.is_explained_by(&line, "broken.yaml")?;
            ensure(line.contains("the last good set (revision 1) stays in force"), || format!("{}: {line}", bad.name))?;
            refuses(&mut container, &path)?;
            runs(&mut container, "/fix/tiny")?;
        }
        let mark = enforcer.log_mark();
        std::fs::remove_file(folder.join("broken.yaml")).on("remove", folder.join("broken.yaml"))?;
        profiles::write(&folder, &profiles::drift("life", &["life-broken"], false))?;
        enforcer.wait_for_log(mark, "enforcing: ", Duration::from_secs(5))?;
        runs(&mut container, &path)
    })
}

fn add_up(context: &Context) -> Result<()> {
    released(context, |binary, folder| {
        profiles::write(&folder, &profiles::drift("detects", &["life-two"], false))?;
        profiles::write(&folder, &profiles::drift("prevents", &[], true))?;
        let enforcer = Enforcer::start(binary, &folder)?;
        let mut container = context.container("life-two", Upper::Ext4)?;
        let path = container.drop_program("x")?;
        refuses(&mut container, &path)?;
        for policy in ["detects", "prevents"] {
            enforcer.wait_for_event(0, Duration::from_secs(4), policy, |e| e.policy == policy && e.path == path)?;
        }
        Ok(())
    })
}

fn names_the_process(context: &Context) -> Result<()> {
    released(context, |binary, folder| {
        profiles::write(&folder, &profiles::drift("life", &["life-pid"], true))?;
        let enforcer = Enforcer::start(binary, &folder)?;
        let mut container = context.container("life-pid", Upper::Ext4)?;
        let path = container.drop_program("x")?;
        container.session.must(&format!(
            "(/usr/bin/probe as-uid 1234 /usr/bin/probe try-every 1500 1 {path} >/dev/null 2>&1 </dev/null &)"
        ))?;
        let pid = poll(Duration::from_secs(1), || find_process("try-every"))
            .ok_or_else(|| HarnessError::Wrong("the attacking process is not to be found".into()))?;
        let event = enforcer.wait_for_event(0, Duration::from_secs(6), "of the process", |e| e.path == path)?;
        ensure(event.pid == pid && event.uid == 1234, || format!("process {pid} of user 1234, but: {}", event.line))
    })
}

fn find_process(word: &str) -> Option<i64> {
    std::fs::read_dir("/proc").ok()?.flatten().find_map(|entry| {
        let pid = entry.file_name().to_str()?.parse().ok()?;
        let line = std::fs::read(entry.path().join("cmdline")).ok()?;
        let words: Vec<&[u8]> = line.split(|byte| *byte == 0).collect();
        (words.get(1) == Some(&word.as_bytes())).then_some(pid)
    })
}

fn release_all(context: &Context) -> Result<()> {
    released(context, |binary, folder| {
        profiles::write(&folder, &profiles::drift("life", &["life-release"], true))?;
        let enforcer = Enforcer::start(binary, &folder)?;
        let mut container = context.container("life-release", Upper::Ext4)?;
        let path = container.drop_program("x")?;
        refuses(&mut container, &path)?;
        let pinned = || std::fs::read_dir(pins()).map_or(0, Iterator::count);
        ensure(pinned() > 0, || format!("nothing is pinned under {}", pins().display()))?;
        enforcer.terminate()?;
        release(binary)?;
        runs(&mut container, &path)?;
        ensure(pinned() == 0, || format!("{} pins are left under {}", pinned(), pins().display()))?;
        let again = command(binary, &["release"])?;
        ensure(again.status.success(), || format!("releasing nothing failed: {}", again.output))
    })
}
