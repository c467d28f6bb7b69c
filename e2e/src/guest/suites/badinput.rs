//! Broken policies at start: exit status 2 and a message that helps. (While running: `lifecycle`.)

use super::Test;
use super::bad_policies::TEXTS;
use crate::guest::context::Context;
use crate::guest::enforcer::{command, pins, release};
use crate::guest::error::{HarnessError, OnFile, Result, ensure};
use crate::guest::profiles;
use std::fs::{self, File};
use std::path::Path;
use std::time::{Duration, Instant};

pub(crate) const TESTS: &[Test] = &[
    Test { name: "texts", body: texts },
    Test { name: "over-long-lists", body: long_lists },
    Test { name: "hundred-mebibytes", body: huge },
    Test { name: "not-utf-8", body: not_utf8 },
    Test { name: "folder-without-policies", body: empty_folder },
    Test { name: "missing-path", body: missing },
    Test { name: "unreadable-path", body: unreadable },
    Test { name: "same-name-in-two-files", body: same_name },
];

/// Starts the enforcer with `policies`, which must be refused; returns its message.
fn refused(context: &Context, what: &str, policies: &Path) -> Result<String> {
    let result = try_to_start(context, what, policies);
    if result.is_err() {
        // If it was not refused, it is in force now, and would be found by the next test.
        release(context.enforcer()?)?;
    }
    result
}

fn try_to_start(context: &Context, what: &str, policies: &Path) -> Result<String> {
    let start = Instant::now();
    let ended = command(context.enforcer()?, &["run", "--policies", &policies.to_string_lossy(), "-o", "json"])?;
    let message = ended.output;
    ensure(ended.status.code() == Some(2), || {
        format!("{what}: ended with {}, not exit status 2: {message}", ended.status)
    })?;
    ensure(!message.contains("panicked"), || format!("{what}: {message}"))?;
    ensure(message.trim().len() > 20 && message.len() < 2000, || {
        format!("{what}: the message is {} bytes: {message}", message.len())
    })?;
    ensure(!pins().exists() || fs::read_dir(pins()).map_or(0, Iterator::count) == 0, || {
        format!("{what}: something was pinned")
    })?;
    ensure(start.elapsed() < Duration::from_secs(10), || format!("{what}: it took {:?}", start.elapsed()))?;
    Ok(message)
}

fn texts(context: &Context) -> Result<()> {
    let mut faults = Vec::new();
    for bad in TEXTS {
        let folder = context.policies("badinput")?;
        profiles::write_text(&folder, "broken.yaml", bad.text)?;
        let as_folder =
            refused(context, bad.name, &folder).and_then(|message| bad.is_explained_by(&message, "broken.yaml"));
        let file = folder.join("broken.yaml");
        let as_file =
            refused(context, bad.name, &file).and_then(|message| bad.is_explained_by(&message, "broken.yaml"));
        faults.extend([as_folder, as_file].into_iter().filter_map(|result| result.err().map(|e| e.to_string())));
    }
    ensure(faults.is_empty(), || faults.join("\n"))
}

fn long_lists(context: &Context) -> Result<()> {
    for field in ["exceptions", "prohibitedBinaries"] {
        let folder = context.policies("badinput")?;
        let mut policy = profiles::drift("long", &[], true);
        policy["spec"]["detect"][field] =
            (0..257).map(|n| serde_json::json!({"path": format!("/opt/x{n}")})).collect::<Vec<_>>().into();
        profiles::write(&folder, &policy)?;
        let message = refused(context, field, &folder)?;
        ensure(message.contains(field) && message.contains("256"), || format!("the limit is not named: {message}"))?;
        let mut policy = profiles::drift("long", &[], true);
        policy["spec"]["detect"][field] = serde_json::json!([{"path": format!("/{}", "x".repeat(255))}]);
        profiles::write(&folder, &policy)?;
        let message = refused(context, field, &folder)?;
        ensure(message.contains("255"), || format!("the limit is not named: {message}"))?;
    }
    let folder = context.policies("badinput")?;
    for n in 0..65 {
        profiles::write(&folder, &profiles::drift(&format!("p{n}"), &[], true))?;
    }
    let message = refused(context, "65 policies", &folder)?;
    ensure(message.contains("64"), || format!("the limit is not named: {message}"))
}

fn huge(context: &Context) -> Result<()> {
    let file = context.policies("badinput")?.join("huge.yaml");
    File::create(&file).and_then(|f| f.set_len(100 << 20)).on("create", &file)?;
    let message = refused(context, "100 MiB", &file)?;
    ensure(message.contains("huge.yaml"), || message)
}

fn not_utf8(context: &Context) -> Result<()> {
    let file = context.policies("badinput")?.join("latin.yaml");
    fs::write(&file, b"apiVersion: mooring.dev/v1alpha1\n# \xe4\xf6\xfc\n").on("write", &file)?;
    let message = refused(context, "not UTF-8", &file)?;
    ensure(message.contains("latin.yaml") && message.contains("UTF-8"), || message)
}

fn empty_folder(context: &Context) -> Result<()> {
    let folder = context.policies("badinput")?;
    let message = refused(context, "empty folder", &folder)?;
    ensure(message.contains("badinput"), || message)
}

fn missing(context: &Context) -> Result<()> {
    let message = refused(context, "missing", Path::new("/nowhere/policies"))?;
    ensure(message.contains("/nowhere/policies"), || message)
}

/// For root nothing is unreadable by its mode; a folder that calls itself a file and a dangling link are.
fn unreadable(context: &Context) -> Result<()> {
    let folder = context.policies("badinput")?;
    let link = folder.join("dangling.yaml");
    std::os::unix::fs::symlink("/nowhere/at/all", &link).on("link", &link)?;
    let message = refused(context, "dangling link", &folder)?;
    ensure(message.contains("dangling.yaml"), || message)?;
    fs::remove_file(&link).on("remove", &link)?;
    let inner = folder.join("folder.yaml");
    fs::create_dir(&inner).on("create", &inner)?;
    let message = refused(context, "folder called .yaml", &folder)?;
    ensure(message.contains("folder.yaml") || message.contains("badinput"), || message)
}

fn same_name(context: &Context) -> Result<()> {
    let folder = context.policies("badinput")?;
    let text = profiles::drift("same-name", &[], true).to_string();
    profiles::write_text(&folder, "first.json", &text)?;
    profiles::write_text(&folder, "second.json", &text)?;
    let message = refused(context, "two files", &folder)?;
    ensure(["same-name", "first.json", "second.json"].iter().all(|word| message.contains(word)), || {
        HarnessError::Wrong(message.clone()).to_string()
    })
}
