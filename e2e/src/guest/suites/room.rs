//! More containers, and more links to prohibited programs, than the kernel's tables have room for.

use super::Test;
use super::lifecycle::{refuses, released, runs};
use crate::guest::context::Context;
use crate::guest::enforcer::Enforcer;
use crate::guest::error::{OnFile, Result, ensure};
use crate::guest::profiles;
use crate::guest::recorded::Recorded;
use crate::guest::runtime::Upper;
use crate::guest::system::poll;
use serde_json::json;
use std::os::unix::fs::symlink;
use std::time::Duration;

pub(crate) const TESTS: &[Test] =
    &[Test { name: "more-containers-than-fit", body: containers }, Test { name: "more-links-than-fit", body: links }];

/// What the kernel's tables hold.
const CONTAINERS: usize = 8192;
const PATHS: usize = 32768;
/// How long the enforcer may take to read the state of thousands of containers.
const PATIENCE: Duration = Duration::from_mins(3);
/// The number after `key=` in a line of the log.
fn number(line: &str, key: &str) -> Option<usize> {
    line.split(' ').find_map(|word| word.strip_prefix(key)?.strip_prefix('=')?.parse().ok())
}

fn counts(line: &str, containers: usize, unprotected: usize) -> Result<()> {
    let said = (number(line, "containers"), number(line, "unprotected"));
    ensure(said == (Some(containers), Some(unprotected)), || {
        format!("not {containers} containers, {unprotected} of them unprotected: {line}")
    })
}

fn containers(context: &Context) -> Result<()> {
    released(context, |binary, folder| {
        let mut first = context.container("room-first", Upper::Ext4)?;
        let dropped = first.drop_program("x")?;
        let mut recorded = Recorded::begin(context)?;
        let bundle = recorded.bundle("bundle", &context.image.busybox)?;
        for number in 0..CONTAINERS + 8 {
            recorded.add(&format!("recorded-{number}"), &bundle)?;
        }
        profiles::write(&folder, &profiles::everything("room"))?;
        let enforcer = Enforcer::launch(binary, &folder)?;
        let line = enforcer.wait_for_log(0, "enforcing: ", PATIENCE)?;
        counts(&line, CONTAINERS + 9, 9)?;
        refuses(&mut first, &dropped)?;
        runs(&mut first, "/fix/tiny")?;

        let mut last = context.container("room-last", Upper::Ext4)?;
        enforcer.wait_for_log(0, "container room-last is unprotected, as 10 now are", PATIENCE)?;
        let late = last.drop_program("x")?;
        runs(&mut last, &late)?;

        let mark = enforcer.log_mark();
        profiles::write(&folder, &profiles::drift("another", &[], true))?;
        counts(&enforcer.wait_for_log(mark, "enforcing: ", PATIENCE)?, CONTAINERS + 10, 10)?;
        refuses(&mut first, &dropped)?;

        recorded.remove(64);
        enforcer.wait_for_log(0, "container room-last is protected", PATIENCE)?;
        let refused = poll(Duration::from_secs(5), || (!last.runs(&late).ok()?).then_some(()));
        ensure(refused.is_some(), || format!("{late} still runs in a container that there is room for"))?;
        runs(&mut last, "/fix/tiny")?;
        enforcer.terminate().map(drop)
    })
}

/// Lists of at most 256 paths.
const LISTS: usize = 4;
const LISTED: usize = 250;

fn links(context: &Context) -> Result<()> {
    released(context, |binary, folder| {
        let mut container = context.container("room-links", Upper::Ext4)?;
        let dropped = container.drop_program("x")?;
        let mut recorded = Recorded::begin(context)?;
        // Every container has a program of its own that each listed link leads to.
        for number in 0..=PATHS / (LISTS * LISTED) {
            let root = recorded.work.join(format!("root-{number}"));
            std::fs::create_dir_all(root.join("l")).on("create", &root)?;
            let program = root.join(format!("program-{number}"));
            std::fs::write(&program, "").on("write", &program)?;
            for link in 0..LISTS * LISTED {
                let at = root.join(format!("l/{link}"));
                symlink(format!("../program-{number}"), &at).on("link", &at)?;
            }
            let bundle = recorded.bundle(&format!("bundle-{number}"), &root)?;
            recorded.add(&format!("links-{number}"), &bundle)?;
        }
        for list in 0..LISTS {
            let paths: Vec<_> =
                (list * LISTED..(list + 1) * LISTED).map(|link| json!({"path": format!("/l/{link}")})).collect();
            let detect = json!({"driftedBinaries": true, "prohibitedBinaries": paths});
            profiles::write(&folder, &profiles::policy(&format!("links-{list}"), &[], &detect, true))?;
        }
        let own = json!({"driftedBinaries": true, "prohibitedBinaries": [{"path": "/fix/prohibited/by-path"}]});
        profiles::write(&folder, &profiles::policy("own", &[], &own, true))?;
        let enforcer = Enforcer::launch(binary, &folder)?;
        enforcer.wait_for_log(0, "enforcing: ", PATIENCE)?;
        let line = enforcer.wait_for_log(0, "/l/", Duration::from_secs(1))?;
        let named = ["is not prohibited by its link's name in container links-", "/program-", " does not fit"];
        ensure(named.iter().all(|words| line.contains(words)), || format!("the alias is not named: {line}"))?;
        for path in [&dropped, "/fix/prohibited/by-path"] {
            refuses(&mut container, path)?;
        }
        runs(&mut container, "/fix/tiny")?;
        // An edit finds the table as full, and what was in force stays.
        let mark = enforcer.log_mark();
        profiles::write(&folder, &profiles::drift("another", &[], true))?;
        enforcer.wait_for_log(mark, "enforcing: ", PATIENCE)?;
        refuses(&mut container, "/fix/prohibited/by-path")?;
        let status = enforcer.terminate()?;
        ensure(status.success(), || format!("it ended with {status}"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_of_the_log_is_read() {
        let line = "enforcing: backend=BpfLsm revision=1 policies=1 containers=12 unprotected=3";
        assert!(counts(line, 12, 3).is_ok());
        assert!(counts(line, 12, 4).is_err());
        assert!(counts("enforcing: containers=12", 12, 0).is_err());
    }
}
