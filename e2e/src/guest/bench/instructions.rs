//! What an exec and an open cost, without the enforcer and with it.

use super::footprint::starts;
use super::{Numbers, wrong};
use crate::attacks::case::Profile;
use crate::guest::context::{Context, Running};
use crate::guest::enforcer::{Enforcer, pins, release};
use crate::guest::error::{During, HarnessError, OnFile, Result, ensure};
use crate::guest::profiles;
use crate::guest::recorded::Recorded;
use crate::guest::runtime::Upper;
use crate::guest::session::Session;
use crate::guest::system::poll;
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use nix::sys::signal::Signal;
use serde_json::json;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

const ID: &str = "bench";
const SAMPLES: usize = 300;
/// Files that are executed once each; the first ones warm up.
const FILES: usize = 120;
/// As deep as systemd puts services: each level is one more that has to be looked at.
const SERVICE: &str = "/sys/fs/cgroup/system.slice/bench.service";
/// Policies, containers and paths in lists of a node that has many.
const POLICIES: usize = 64;
const CONTAINERS: usize = 1000;
const PATHS: usize = 10_000;
/// All but one of these policies.
const OTHERS: &str = "others.yaml";
/// A file of the image; an open for writing has copied it up before anything is measured.
const COPIED_UP: &str = "/fix/token";

/// A process outside every container: in a cgroup since before the enforcer came, as most are.
struct Outside {
    session: Session,
    program: PathBuf,
}

impl Outside {
    fn start(probe: &Path, program: &Path, cgroup: &str) -> Result<Outside> {
        fs::create_dir_all(cgroup).on("create", cgroup)?;
        let script = format!("echo $$ > {cgroup}/cgroup.procs && exec {} serve", probe.display());
        Ok(Outside {
            session: Session::open(Command::new("/bin/sh").args(["-c", &script]))?,
            program: program.to_owned(),
        })
    }
}

/// Those who measure.
struct Meters<'a> {
    probe: PathBuf,
    root: Outside,
    service: Outside,
    container: Running<'a>,
}

impl Meters<'_> {
    fn start<'a>(context: &'a Context, program: &Path) -> Result<Meters<'a>> {
        // Not in a folder that the enforcer watches because its policies are below: an open is dearer there.
        let folder = context.work.join("outside");
        fs::create_dir_all(&folder).on("create", &folder)?;
        let probe = folder.join("probe");
        let me = std::env::current_exe().on("find", "the guest binary")?;
        std::os::unix::fs::symlink(&me, &probe).on("link", &probe)?;
        // From the file system that the payload came in to the disk.
        let on_disk = folder.join("true");
        fs::copy(program, &on_disk).on("copy", program)?;
        context.image.copy(program, "/fix/true")?;
        Ok(Meters {
            root: Outside::start(&probe, &on_disk, "/sys/fs/cgroup")?,
            service: Outside::start(&probe, &on_disk, SERVICE)?,
            container: context.container(ID, Upper::Ext4)?,
            probe,
        })
    }

    fn root(&mut self, what: &str) -> Result<u64> {
        outside(&self.probe, &mut self.root, what)
    }

    fn service(&mut self, what: &str) -> Result<u64> {
        outside(&self.probe, &mut self.service, what)
    }

    fn inside(&mut self, what: &str, path: &str, samples: usize) -> Result<u64> {
        p50(&self.container.session.must(&format!("/usr/bin/probe measure {what} {path} {samples}"))?)
    }
}

fn outside(probe: &Path, outside: &mut Outside, what: &str) -> Result<u64> {
    let script = format!("{} measure {what} {} {SAMPLES}", probe.display(), outside.program.display());
    p50(&outside.session.must(&script)?)
}

fn p50(output: &str) -> Result<u64> {
    let number = output.lines().find_map(|line| line.strip_prefix("p50 ")?.parse().ok());
    number.ok_or_else(|| wrong(format!("no p50 in {output:?}")))
}

/// What the container's processes and others are measured by, with and without.
fn usual(meters: &mut Meters<'_>, how: &str, numbers: &mut Numbers) -> Result<()> {
    numbers.put(format!("untracked-root {how}"), meters.root("spawn")?);
    numbers.put(format!("untracked-service {how}"), meters.service("spawn")?);
    numbers.put(format!("untracked-open-read {how}"), meters.service("open-read")?);
    numbers.put(format!("untracked-open-write {how}"), meters.service("open-write")?);
    numbers.put(format!("image-binary {how}"), meters.inside("spawn", "/fix/true", SAMPLES)?);
    numbers.put(format!("image-open-read {how}"), meters.inside("open-read", "/fix/tiny", SAMPLES)?);
    numbers.put(format!("new-open-write {how}"), meters.inside("open-write", "/drop/data", SAMPLES)?);
    numbers.put(format!("copied-up-open-write {how}"), meters.inside("open-write", COPIED_UP, SAMPLES)?);
    Ok(())
}

pub(super) fn measure(context: &Context, program: &Path, each_program: bool, numbers: &mut Numbers) -> Result<()> {
    let mut meters = Meters::start(context, program)?;
    let copies = format!(
        "cp /fix/true /drop/true; echo x > /drop/data; echo >> {COPIED_UP}; \
         for folder in without with-agent without-agent; do mkdir /drop/$folder; \
         for i in $(seq {FILES}); do cp /fix/true /drop/$folder/$i; done; done; sync"
    );
    meters.container.session.run_within(&copies, Duration::from_mins(5))?;

    numbers.put("image-open-read unwatched", meters.inside("open-read", "/fix/tiny", SAMPLES)?);
    let _watch = watch(&context.work)?;
    usual(&mut meters, "without", numbers)?;
    numbers.put("new-binary without", meters.inside("spawn", "/drop/true", SAMPLES)?);
    numbers.put("new-binary-first without", meters.inside("spawn-each", "/drop/without", FILES)?);

    let binary = context.enforcer()?;
    let folder = context.policies(ID)?;
    profiles::write(&folder, &profiles::drift(ID, &[ID], true))?;
    let enforcer = Enforcer::start(binary, &folder)?;
    usual(&mut meters, "enforcing", numbers)?;
    numbers.put("refused enforcing", meters.inside("refused", "/drop/true", SAMPLES)?);
    detected(&mut meters, &enforcer, &folder, numbers)?;
    lists(&mut meters, &enforcer, &folder, numbers)?;
    many_lists(context, &mut meters, &enforcer, &folder, numbers)?;
    edit(&enforcer, &folder, &profiles::drift(ID, &[ID], true))?;
    enforcer.terminate()?;
    if each_program {
        by_program(&mut meters, numbers)?;
    }
    release(binary)?;
    killing(&mut meters, binary, &folder, numbers)?;
    asking(&mut meters, binary, &folder, numbers)?;
    numbers.put("start-ms counted", starts(binary, &folder)?);
    Ok(())
}

/// The same execs where nothing is refused, and whoever executes what drifted is killed.
fn killing(meters: &mut Meters<'_>, binary: &Path, folder: &Path, numbers: &mut Numbers) -> Result<()> {
    profiles::write(folder, &profiles::drift(ID, &[ID], true))?;
    let enforcer = Enforcer::start_with(binary, folder, &["--backend", "Kill"])?;
    numbers.put("untracked-root killing", meters.root("spawn")?);
    numbers.put("untracked-service killing", meters.service("spawn")?);
    numbers.put("image-binary killing", meters.inside("spawn", "/fix/true", SAMPLES)?);
    ensure(!meters.container.runs("/drop/true")?, || "Kill is not in force".into())?;
    enforcer.terminate()?;
    release(binary)
}

/// The same where the kernel asks a process of the enforcer's, whose work is counted, for there is one processor.
fn asking(meters: &mut Meters<'_>, binary: &Path, folder: &Path, numbers: &mut Numbers) -> Result<()> {
    let enforcer = Enforcer::start_with(binary, folder, &["--backend", "Fanotify"])?;
    numbers.put("untracked-root asking", meters.root("spawn")?);
    numbers.put("untracked-service asking", meters.service("spawn")?);
    numbers.put("image-binary asking", meters.inside("spawn", "/fix/true", SAMPLES)?);
    numbers.put("refused asking", meters.inside("refused", "/drop/true", SAMPLES)?);
    enforcer.terminate()?;
    release(binary)
}

/// A watch of somebody else's on the file system that everything here lies on, as every node has some: containerd's on its CNI
/// configuration, systemd's on its units. The first one makes every open there dearer, the enforcer's own on its policies does not.
fn watch(folder: &Path) -> Result<Inotify> {
    let watched = folder.join("watched");
    fs::create_dir_all(&watched).on("create", &watched)?;
    let inotify = Inotify::init(InitFlags::IN_CLOEXEC).during("make an inotify instance")?;
    inotify.add_watch(&watched, AddWatchFlags::IN_CREATE).during("watch a folder")?;
    Ok(inotify)
}

fn edit(enforcer: &Enforcer, folder: &Path, policy: &serde_json::Value) -> Result<()> {
    let mark = enforcer.log_mark();
    profiles::write(folder, policy)?;
    enforcer.wait_for_log(mark, "enforcing: ", Duration::from_secs(10)).map(drop)
}

/// Detected, but allowed.
fn detected(meters: &mut Meters<'_>, enforcer: &Enforcer, folder: &Path, numbers: &mut Numbers) -> Result<()> {
    edit(enforcer, folder, &profiles::drift(ID, &[ID], false))?;
    let mark = enforcer.mark();
    numbers.put("new-binary enforcing", meters.inside("spawn", "/drop/true", SAMPLES)?);
    numbers.put("new-binary-first with-agent", meters.inside("spawn-each", "/drop/with-agent", FILES)?);
    // On the one processor the agent's own work counts, too, when it comes between. It is not the exec's.
    enforcer.signal(Signal::SIGSTOP)?;
    let first = meters.inside("spawn-each", "/drop/without-agent", FILES);
    enforcer.signal(Signal::SIGCONT)?;
    numbers.put("new-binary-first enforcing", first?);
    for folder in ["/drop/with-agent/", "/drop/without-agent/"] {
        let reported = || {
            let events = enforcer.events_since(mark);
            let detected = events.iter().filter(|event| event.verdict == "Detected" && event.path.starts_with(folder));
            (detected.count() == FILES).then_some(())
        };
        poll(Duration::from_secs(20), reported)
            .ok_or_else(|| wrong(format!("not each of the {FILES} files in {folder} was reported once")))?;
    }
    Ok(())
}

/// A policy with lists walks the path of everything that is executed.
fn lists(meters: &mut Meters<'_>, enforcer: &Enforcer, folder: &Path, numbers: &mut Numbers) -> Result<()> {
    for policy in &profiles::of_profile(Profile::Lists, ID, true) {
        edit(enforcer, folder, policy)?;
    }
    ensure(!meters.container.runs("/fix/prohibited/by-path")?, || "the lists are not in force".into())?;
    numbers.put("image-binary lists", meters.inside("spawn", "/fix/true", SAMPLES)?);
    Ok(())
}

/// As many policies as a node takes, with all kinds of lists, beside a thousand containers. Nothing of it matches what is executed.
fn many_lists(
    context: &Context,
    meters: &mut Meters<'_>,
    enforcer: &Enforcer,
    folder: &Path,
    numbers: &mut Numbers,
) -> Result<()> {
    let policy = |number: usize| {
        let list = |what: &str| -> Vec<_> {
            // Patterns as well of the folders that what is executed is in.
            let patterns = [format!("/fix/*/{what}-{number}"), format!("/opt/{what}/{number}/**")];
            let paths = (0..PATHS / POLICIES / 4).map(|path| format!("/fix/{what}/{number}/program-{path}"));
            paths.chain(patterns).map(|path| json!({"path": path})).collect()
        };
        let detect = json!({
            "exceptions": list("excepted"), "prohibitedBinaries": list("prohibited"),
            "processExceptions": list("may"), "prohibitedProcesses": list("may-not"),
        });
        let name = if number == 0 { ID.to_owned() } else { format!("{ID}-{number}") };
        profiles::policy(&name, &[ID], &detect, true)
    };
    edit(enforcer, folder, &policy(0))?;
    let mut recorded = Recorded::begin(context)?;
    let bundle = recorded.bundle("bundle", &context.image.busybox)?;
    for number in 0..CONTAINERS {
        recorded.add(&format!("recorded-{number}"), &bundle)?;
    }
    let others: Vec<String> = (1..POLICIES).map(|number| policy(number).to_string()).collect();
    profiles::write_text(folder, OTHERS, &others.join("\n---\n"))?;
    // Containers that were made at once are described one after the other: an edit tells how many are by now.
    let words = format!("policies={POLICIES} containers={} ", CONTAINERS + 1);
    let mut number = 0;
    let all = poll(Duration::from_mins(5), || {
        number += 1;
        let mut edited = policy(0);
        edited["spec"]["description"] = json!(format!("Edit {number}."));
        let mark = enforcer.log_mark();
        profiles::write(folder, &edited).ok()?;
        enforcer.wait_for_log(mark, "enforcing: ", Duration::from_mins(1)).ok()?.contains(&words).then_some(())
    });
    all.ok_or_else(|| wrong(format!("the enforcer never said {words:?}")))?;
    ensure(!meters.container.runs("/drop/true")?, || "the policies are not in force".into())?;
    numbers.put("image-binary many-lists", meters.inside("spawn", "/fix/true", SAMPLES)?);
    let file = folder.join(OTHERS);
    fs::remove_file(&file).on("remove", &file)?;
    Ok(())
}

/// The programs go on without the agent; without its link each is gone, and what it cost with it.
fn by_program(meters: &mut Meters<'_>, numbers: &mut Numbers) -> Result<()> {
    let mut before = costs(meters)?;
    for link in links(pins())? {
        fs::remove_file(&link).on("remove", &link)?;
        let after = costs(meters)?;
        let name = link.file_name().unwrap_or_default().to_string_lossy().replace("mooring_", "");
        for ((what, before), (_, after)) in before.iter().zip(&after) {
            numbers.put(format!("{what} by {name}"), before.saturating_sub(*after));
        }
        before = after;
    }
    Ok(())
}

/// The least of three: what the kernel's allocators have at hand differs from process to process by as much as a program costs.
fn costs(meters: &mut Meters<'_>) -> Result<[(&'static str, u64); 4]> {
    let mut least = [
        ("untracked-service", u64::MAX),
        ("untracked-open-read", u64::MAX),
        ("image-binary", u64::MAX),
        ("copied-up-open-write", u64::MAX),
    ];
    for _ in 0..3 {
        let costs = [
            meters.service("spawn")?,
            meters.service("open-read")?,
            meters.inside("spawn", "/fix/true", SAMPLES)?,
            meters.inside("open-write", COPIED_UP, SAMPLES)?,
        ];
        for ((_, least), cost) in least.iter_mut().zip(costs) {
            *least = cost.min(*least);
        }
    }
    Ok(least)
}

/// What is pinned as a link: everything in the folder `links`, however deep.
fn links(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).on("list", folder)? {
        let path = entry.during("list the pins")?.path();
        if path.is_dir() {
            found.extend(links(&path)?);
        } else if path.components().any(|part| part.as_os_str() == "links") {
            found.push(path);
        }
    }
    found.sort();
    if found.is_empty() && folder == pins() {
        return Err(HarnessError::Missing(format!("no link is pinned in {}", pins().display())));
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_number_is_found() {
        assert_eq!(p50("x\np50 123\n").unwrap(), 123);
        assert!(p50("p50 \n").is_err());
    }
}
