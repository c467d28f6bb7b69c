//! Runs the tables of attacks: a few containers, all cases in them, one after the other.

use super::judge::{Mode, Place, judge};
use crate::attacks::case::{Case, Profile};
use crate::attacks::{copy_ups, matrix};
use crate::guest::context::{Context, Running};
use crate::guest::enforcer::{Enforcer, release};
use crate::guest::error::Result;
use crate::guest::excused::excuse;
use crate::guest::profiles;
use crate::guest::report::Report;
use crate::guest::runtime::Upper;
use std::collections::BTreeMap;
use std::time::Instant;

/// Which table, and against what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Table {
    Matrix,
    CopyUp,
    Control,
}

impl Table {
    fn cases(self) -> Vec<&'static Case> {
        match self {
            Table::Matrix => matrix().collect(),
            Table::CopyUp => copy_ups().collect(),
            Table::Control => matrix().chain(copy_ups()).collect(),
        }
    }

    fn modes(self) -> &'static [Mode] {
        match self {
            Table::Control => &[Mode::Unwatched],
            _ => &[Mode::Detect, Mode::Prevent],
        }
    }

    /// A tmpfs as the upper layer differs where files are copied up or written, not in what a mount or a list is.
    fn upper_matters(self, case: &Case) -> bool {
        self == Table::CopyUp || case.name.starts_with("modified/") || case.name.starts_with("library/")
    }
}

/// One container's place in the matrix.
type Key = (Profile, Mode, Upper);

struct Bench<'a> {
    containers: BTreeMap<Key, Running<'a>>,
    enforcer: Option<Enforcer>,
}

/// Runs the wanted cases of a table, each in every container that it concerns.
pub(crate) fn run(context: &Context, table: Table, suite: &str, wanted: &dyn Fn(&str) -> bool, report: &mut Report) {
    let cases: Vec<&Case> = table.cases().into_iter().filter(|case| wanted(case.name)).collect();
    if cases.is_empty() {
        return;
    }
    let start = Instant::now();
    let mut bench = match set_up(context, table, suite, &cases) {
        Ok(bench) => bench,
        Err(error) => return report.fail(&format!("{suite}/set-up"), &error.to_string()),
    };
    println!("# {suite}: {} containers ready after {:.1} s", bench.containers.len(), start.elapsed().as_secs_f64());
    for case in cases {
        let name = format!("{suite}/{}", case.name);
        match excuse(case.name, context.kernel, context.kind) {
            Some(why) => report.excused(&name, why),
            None => report.test(&name, || run_case(context, &mut bench, table, case)),
        }
    }
    tear_down(context, bench, suite, report);
}

fn uppers(context: &Context, table: Table, case: &Case) -> Vec<Upper> {
    let all = context.runtime.uppers();
    let used = if table.upper_matters(case) { all } else { &all[..1] };
    used.to_vec()
}

fn set_up<'a>(context: &'a Context, table: Table, suite: &str, cases: &[&Case]) -> Result<Bench<'a>> {
    let mut keys = Vec::new();
    for case in cases {
        for upper in uppers(context, table, case) {
            keys.extend(table.modes().iter().map(|mode| (case.profile, *mode, upper)));
        }
    }
    keys.sort_unstable();
    keys.dedup();
    let folder = context.policies(suite)?;
    let id = |(profile, mode, upper): &Key| format!("{suite}-{profile:?}-{mode:?}-{upper:?}").to_lowercase();
    for key in keys.iter().filter(|key| key.1 != Mode::Unwatched) {
        for policy in profiles::of_profile(key.0, &id(key), key.1 == Mode::Prevent) {
            profiles::write(&folder, &policy)?;
        }
    }
    let enforcer = match table {
        Table::Control => None,
        _ => Some(Enforcer::start(context.enforcer()?, &folder)?),
    };
    let mut containers = BTreeMap::new();
    for key in keys {
        containers.insert(key, context.container(&id(&key), key.2)?);
    }
    Ok(Bench { containers, enforcer })
}

fn run_case(context: &Context, bench: &mut Bench<'_>, table: Table, case: &Case) -> std::result::Result<(), String> {
    let mut faults = Vec::new();
    for upper in uppers(context, table, case) {
        for mode in table.modes() {
            let Some(container) = bench.containers.get_mut(&(case.profile, *mode, upper)) else {
                faults.push(format!("no container for {mode:?} on {upper:?}"));
                continue;
            };
            let mut place =
                Place { runtime: context.runtime.as_ref(), container, enforcer: bench.enforcer.as_ref(), mode: *mode };
            if let Err(error) = judge(&mut place, case) {
                faults.push(format!("[{mode:?} on {upper:?}] {error}"));
            }
        }
    }
    if faults.is_empty() { Ok(()) } else { Err(faults.join("\n")) }
}

fn tear_down(context: &Context, bench: Bench<'_>, suite: &str, report: &mut Report) {
    drop(bench.containers);
    let Some(enforcer) = bench.enforcer else {
        return;
    };
    report.test(&format!("{suite}/every-event-is-well-formed"), || enforcer.all_well_formed());
    report.test(&format!("{suite}/release"), || -> Result<()> {
        enforcer.terminate()?;
        release(context.enforcer()?)
    });
}
