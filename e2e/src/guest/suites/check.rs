//! `check` and `explain`.

use super::Test;
use crate::attacks::case::Profile;
use crate::guest::context::Context;
use crate::guest::enforcer::{Enforcer, command, release};
use crate::guest::error::{HarnessError, OnFile, Result, ensure};
use crate::guest::profiles;
use crate::guest::runtime::Upper;
use crate::guest::system::bpf_lsm_is_active;
use serde_json::Value;
use std::time::Duration;

pub(crate) const TESTS: &[Test] = &[
    Test { name: "check-says-that-prevention-works", body: works },
    Test { name: "check-while-enforcing", body: while_enforcing },
    Test { name: "explain-names-policies-and-slots", body: explains },
    Test { name: "explain-of-an-unknown-container-fails", body: explains_nothing },
];

pub(crate) const TESTS_WITHOUT_BPF: &[Test] = &[
    Test { name: "check-finds-another-backend-and-says-why", body: check_without },
    Test { name: "run-with-a-backend-that-cannot-be-fails-and-names-the-fix", body: run_without },
];

pub(crate) const TESTS_UNDER_LOCKDOWN: &[Test] =
    &[Test { name: "check-and-run-fail-and-name-the-fix", body: under_lockdown }];

fn json(text: &str) -> Result<Value> {
    // Log lines may stand beside the document.
    let begin = text.find(['{', '[']).unwrap_or(0);
    let mut values = serde_json::Deserializer::from_str(&text[begin..]).into_iter::<Value>();
    values.next().and_then(std::result::Result::ok).ok_or_else(|| HarnessError::Wrong(format!("not JSON: {text}")))
}

fn works(context: &Context) -> Result<()> {
    ensure(bpf_lsm_is_active()?, || "this guest was booted without bpf in the LSM list".into())?;
    let ended = command(context.enforcer()?, &["check", "-o", "json"])?;
    ensure(ended.status.success(), || format!("it ended with {}: {}", ended.status, ended.output))?;
    let said = json(&ended.output)?;
    ensure(said["backend"] == "BpfLsm", || format!("not the best backend: {said}"))?;
    let tried = said["backends"].as_array().is_some_and(|all| all.iter().all(|one| one["usable"] == true));
    ensure(tried, || format!("a backend is not usable: {said}"))?;
    let text = command(context.enforcer()?, &["check", "-o", "text"])?;
    ensure(text.status.success() && text.output.contains("BpfLsm"), || text.output)
}

fn while_enforcing(context: &Context) -> Result<()> {
    let folder = context.policies("check")?;
    profiles::write(&folder, &profiles::everything("check"))?;
    let enforcer = Enforcer::start(context.enforcer()?, &folder)?;
    // The name of the self-test's own cgroup sheds nothing.
    let mut container = context.container("mooring-self-test-1", Upper::Ext4)?;
    let path = container.drop_program("x")?;
    let ended = command(context.enforcer()?, &["check", "-o", "json"])?;
    let still_refused = !container.runs(&path)?;
    // What was said of the self-test's cgroup stands before this.
    let mark = enforcer.log_mark();
    profiles::write(&folder, &profiles::drift("another", &[], true))?;
    enforcer.wait_for_log(mark, "enforcing: ", Duration::from_secs(30))?;
    let reported = enforcer.wait_for_log(0, "cgroup ", Duration::ZERO);
    drop(container);
    enforcer.terminate()?;
    release(context.enforcer()?)?;
    ensure(ended.status.success(), || format!("it ended with {}: {}", ended.status, ended.output))?;
    ensure(still_refused, || "the check took the running enforcement down".into())?;
    match reported {
        Ok(line) => Err(HarnessError::Wrong(format!("the self-test's cgroup was taken for a container's: {line}"))),
        Err(_) => Ok(()),
    }
}

fn explain(context: &Context, folder: &str, container: Option<&str>) -> Result<crate::guest::system::Ended> {
    let mut words = vec!["explain"];
    words.extend(container);
    words.extend(["--policies", folder, "-o", "json"]);
    command(context.enforcer()?, &words)
}

fn explains(context: &Context) -> Result<()> {
    let folder = context.policies("explain")?;
    for policy in profiles::of_profile(Profile::TwoPolicies, "explain-two", true) {
        profiles::write(&folder, &policy)?;
    }
    profiles::write(&folder, &profiles::drift("elsewhere", &["another"], true))?;
    let _container = context.container("explain-two", Upper::Ext4)?;
    let ended = explain(context, &folder.to_string_lossy(), Some("explain-two"))?;
    ensure(ended.status.success(), || format!("it ended with {}: {}", ended.status, ended.output))?;
    let said = json(&ended.output)?.to_string();
    for word in ["explain-two", "explain-two-second", "/opt/agent/bin/updater", "/bin/nc", "slot"] {
        ensure(said.contains(word), || format!("{word:?} is not in: {said}"))?;
    }
    ensure(!said.contains("elsewhere"), || format!("a policy that does not apply is in: {said}"))?;
    let all = explain(context, &folder.to_string_lossy(), None)?;
    ensure(all.status.success() && all.output.contains("explain-two"), || all.output)
}

fn explains_nothing(context: &Context) -> Result<()> {
    let folder = context.policies("explain")?;
    profiles::write(&folder, &profiles::drift("p", &[], true))?;
    let ended = explain(context, &folder.to_string_lossy(), Some("no-such-container"))?;
    ensure(!ended.status.success() && ended.output.contains("no-such-container"), || {
        format!("it ended with {}: {}", ended.status, ended.output)
    })
}

/// The kernel does not take it back: this guest is good for nothing else afterwards.
fn under_lockdown(context: &Context) -> Result<()> {
    const LOCKDOWN: &str = "/sys/kernel/security/lockdown";
    std::fs::write(LOCKDOWN, "confidentiality").on("write", LOCKDOWN)?;
    let folder = context.policies("check")?;
    profiles::write(&folder, &profiles::drift("p", &[], true))?;
    let folder = folder.to_string_lossy();
    for arguments in [&["check"][..], &["run", "--policies", &*folder]] {
        let ended = command(context.enforcer()?, arguments)?;
        ensure(!ended.status.success() && ended.output.contains("lockdown=integrity"), || {
            format!("{arguments:?} ended with {}: {}", ended.status, ended.output)
        })?;
    }
    Ok(())
}

fn without_bpf() -> Result<()> {
    ensure(!bpf_lsm_is_active()?, || "boot this guest without bpf in the LSM list (lsm=…)".into())
}

fn check_without(context: &Context) -> Result<()> {
    without_bpf()?;
    for format in ["json", "text"] {
        let ended = command(context.enforcer()?, &["check", "-o", format])?;
        ensure(ended.status.success(), || format!("it ended with {}: {}", ended.status, ended.output))?;
        let (better, used) = (ended.output.contains("lsm="), ended.output.contains("FmodRet"));
        ensure(better && used, || format!("not what is used, or not what a better one needs: {}", ended.output))?;
        if format == "json" {
            let said = json(&ended.output)?;
            ensure(said["backend"] == "FmodRet", || said.to_string())?;
        }
    }
    Ok(())
}

fn run_without(context: &Context) -> Result<()> {
    without_bpf()?;
    let folder = context.policies("check")?;
    profiles::write(&folder, &profiles::drift("p", &[], true))?;
    let arguments = ["run", "--policies", &folder.to_string_lossy(), "--backend", "BpfLsm"];
    let ended = command(context.enforcer()?, &arguments)?;
    ensure(!ended.status.success(), || format!("it succeeded: {}", ended.output))?;
    ensure(ended.output.contains("lsm="), || format!("the fix `lsm=…` is not named: {}", ended.output))
}
