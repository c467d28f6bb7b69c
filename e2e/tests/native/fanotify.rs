//! The backend Fanotify: what was dropped is refused, and no execution waits for whoever refuses.

use std::fs;
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::ptrace;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::json;

use crate::rig::{Container, Enforcer, Rig, process, ran, wait_for};

/// No execution may take longer.
const LONGEST: Duration = Duration::from_secs(1);

/// As a shell tells it of a program that it may not execute (EPERM).
fn was_refused(output: &Output) -> bool {
    let said = String::from_utf8_lossy(&output.stderr);
    !ran(output) && output.status.code() == Some(126) && said.contains("Operation not permitted")
}

#[test]
#[ignore = "needs root, and packages from Debian's archive"]
fn what_a_container_drops_is_refused() {
    let mut rig = Rig::new();
    let (enforcer, after) = rig.protecting("Fanotify");

    let refused = after.run("/dropped");
    assert!(was_refused(&refused), "{refused:?}");
    assert!(!ran(&after.execute(&["/dropped"])), "as the runtime's own first process it runs");
    let event = enforcer.event_of("/dropped");
    let spec = &event["spec"];
    assert_eq!(
        [&spec["verdict"], &spec["reason"], &spec["container"]],
        ["Denied", "NewBinary", "mooring-native-after"],
        "{event}"
    );

    // An image's program whose metadata changed runs at once, and is refused after a write.
    let changed = after.run("chmod 700 /bin/tiny; /bin/tiny");
    assert!(ran(&changed), "{changed:?}");
    let written = after.run("echo more >> /bin/tiny; /bin/tiny");
    assert!(was_refused(&written), "{written:?}");
    let event = enforcer.event_of("/bin/tiny");
    assert_eq!([&event["spec"]["verdict"], &event["spec"]["reason"]], ["Denied", "ModifiedBinary"], "{event}");

    // Without the agent its listener goes on; released, everything runs.
    drop(enforcer);
    let refused = after.run("/dropped");
    assert!(was_refused(&refused), "{refused:?}");
    rig.release();
    let dropped = after.run("/dropped");
    assert!(ran(&dropped), "it does not run by itself either: this tests nothing: {dropped:?}");
}

/// Where the kernel refuses the two above it: elsewhere another backend is right.
#[test]
#[ignore = "needs root, and packages from Debian's archive"]
fn where_nothing_better_loads_it_is_chosen() {
    let rig = Rig::new();
    let said = rig.check();
    let tried: Vec<_> = said["backends"].as_array().unwrap().iter().collect();
    let reason = |name: &str| tried.iter().find(|it| it["name"] == name).unwrap()["reason"].as_str();
    if reason("BpfLsm").is_none() || reason("FmodRet").is_none() {
        assert_ne!(said["backend"], "Fanotify", "{said}");
        return eprintln!("a better one loads here");
    }
    assert_eq!((&said["backend"], &said["prevention"]), (&json!("Fanotify"), &json!(true)), "{said}");
    assert!(reason("FmodRet").unwrap().contains("load the programs") && reason("Fanotify").is_none(), "{said}");
    rig.policy("native", json!({"scope": {"containers": ["mooring-native-none"]}, "actions": {"prevent": true}}));
    let enforcer = rig.enforcer(&[]);
    assert!(enforcer.said("enforcing: ").unwrap().contains("backend=Fanotify"));
}

#[test]
#[ignore = "needs root, and packages from Debian's archive"]
fn attacks() {
    // A tmpfs that the runtime makes is known as a volume by the container's first process, which the runtime's state names.
    let mut rig = Rig::of_default_runc();
    let spec = json!({"scope": {"containers": ["mooring-native-attacks"]}, "actions": {"prevent": true}, "detect": {
        "volumeBinaries": true,
        "exceptions": [{"path": "/opt/excepted"}],
        "prohibitedBinaries": [{"path": "/bin/other"}],
    }});
    rig.policy("native", spec);
    let enforcer = rig.enforcer(&["--backend", "Fanotify"]);
    let container = rig.container("mooring-native-attacks");
    container.run("mkdir /opt /jail; echo '#!/bin/sh\necho DROPPED-PROGRAM-RAN' > /tmp/script; chmod 755 /tmp/script");
    // What is done, what is executed, the path of the event and its reason.
    let refused = [
        ("cp /bin/tiny /tmp/new; /tmp/new", "/tmp/new", "NewBinary"),
        ("/bin/probe exec-in-thread /tmp/new", "/tmp/new", "NewBinary"),
        ("/tmp/script", "/tmp/script", "NewBinary"),
        ("/bin/probe exec-at-dir /tmp/new", "/tmp/new", "NewBinary"),
        ("/bin/probe exec-opath-fd /tmp/new", "/tmp/new", "NewBinary"),
        (
            "cp /bin/tiny /opt/excepted; /opt/excepted >/dev/null; mv /opt/excepted /opt/moved; /opt/moved",
            "/opt/moved",
            "NewBinary",
        ),
        ("mv /bin/other /tmp/renamed; /tmp/renamed", "/tmp/renamed", "ProhibitedBinary"),
        ("cp /bin/true /vol/v; chmod 755 /vol/v; /vol/v", "/vol/v", "VolumeBinary"),
        ("cp /bin/tiny /data/v; /data/v", "/data/v", "VolumeBinary"),
        ("cp /bin/tiny /dev/foreign; /dev/foreign", "/dev/foreign", "ForeignMount"),
        ("rm /bin/tiny; cp /bin/probe /bin/tiny; /bin/tiny ok", "/bin/tiny", "NewBinary"),
    ];
    for (script, path, reason) in refused {
        let output = container.run(script);
        let said = String::from_utf8_lossy(&output.stderr);
        let is_refused =
            output.status.code() == Some(126) && (said.contains("not permitted") || said.contains("EPERM"));
        assert!(!ran(&output) && is_refused, "{script}: {output:?}");
        let is_it = || {
            enforcer.events().iter().any(|event| {
                let spec = &event["spec"];
                spec["path"] == path && spec["reason"] == reason && spec["verdict"] == "Denied"
            })
        };
        wait_for(&format!("the event of {path}, {reason}, among {:?}", enforcer.events()), is_it);
    }
    for script in
        ["/bin/probe exec-memfd x /bin/probe execveat", "cp /bin/probe /tmp/u; /bin/probe exec-unlinked /tmp/u"]
    {
        let output = container.run(script);
        assert!(!output.status.success() && !ran(&output), "{script}: {output:?}");
    }
    wait_for("the events of what has no file", || {
        let verdicts = enforcer.events().into_iter().filter(|event| event["spec"]["reason"] == "Fileless");
        let verdicts: Vec<_> = verdicts.map(|event| event["spec"]["verdict"].clone()).collect();
        // The memfd is seen beneath only.
        verdicts.contains(&json!("Killed")) && verdicts.contains(&json!("Denied"))
    });
    for script in [
        "chmod 700 /bin/probe; /bin/probe ok >/dev/null && touch /bin/cat && exec /bin/cat /dev/null",
        "mv /bin/probe /bin/renamed; exec /bin/renamed spawn /bin/true",
        "ln /bin/busybox /tmp/true; exec /tmp/true",
        "cp /bin/true /opt/excepted; exec /opt/excepted",
    ] {
        let output = container.run(script);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(!said.contains("not permitted") && output.status.code() != Some(126), "{script}: {output:?}");
    }
}

fn send(pid: i32, signal: Signal) {
    // One that has ended is what is tested.
    let _ = kill(Pid::from_raw(pid), signal);
}

/// The listener of this agent, and no other.
fn listener_of(rig: &Rig, agent: &Enforcer) -> i32 {
    let is_its = |pid: &i32| {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        status.contains(&format!("PPid:\t{}\n", agent.pid()))
    };
    let mut found = None;
    wait_for("a listener", || {
        found = rig.listeners().into_iter().find(is_its);
        found.is_some()
    });
    found.unwrap()
}

fn guard_of(listener: i32) -> i32 {
    let mut found = None;
    wait_for("a guard", || {
        let tasks = fs::read_dir(format!("/proc/{listener}/task")).into_iter().flatten().flatten();
        let children = tasks.map(|task| fs::read_to_string(task.path().join("children")).unwrap_or_default());
        let children: Vec<i32> = children
            .flat_map(|all| all.split_whitespace().map(|pid| pid.parse().unwrap()).collect::<Vec<_>>())
            .collect();
        found = children.into_iter().find(|pid| process(*pid).is_some_and(|line| line.contains("fanotify-guard")));
        found.is_some()
    });
    found.unwrap()
}

/// Everything that may happen to the agent, its listener and the listener's guard. Returns the agent that is there afterwards.
fn disturb(rig: &Rig, mut agent: Enforcer, container: &Container) -> Enforcer {
    let another = |agent: &Enforcer, mark: usize| {
        wait_for("the end of the listener being told", || {
            agent.said_after(mark, "the Fanotify listener ended").is_some()
        });
        // It listens again: what is dropped is refused, not killed.
        wait_for("another listener", || was_refused(&container.run("/dropped")));
    };
    eprintln!("the listener is frozen");
    let mark = agent.mark();
    send(listener_of(rig, &agent), Signal::SIGSTOP);
    another(&agent, mark);

    eprintln!("the listener is killed");
    let mark = agent.mark();
    send(listener_of(rig, &agent), Signal::SIGKILL);
    another(&agent, mark);

    eprintln!("the agent is frozen");
    send(agent.pid(), Signal::SIGSTOP);
    for _ in 0..5 {
        assert!(was_refused(&container.run("/dropped")), "the listener does not go on by itself");
    }
    eprintln!("the agent and the listener are frozen");
    let mark = agent.mark();
    let listener = listener_of(rig, &agent);
    send(listener, Signal::SIGSTOP);
    wait_for("the listener's end", || process(listener).is_none());
    assert!(!ran(&container.run("/dropped")), "nobody kills it either");
    send(agent.pid(), Signal::SIGCONT);
    another(&agent, mark);

    eprintln!("the guard is frozen, then the listener");
    let mark = agent.mark();
    let listener = listener_of(rig, &agent);
    let guard = guard_of(listener);
    send(guard, Signal::SIGSTOP);
    wait_for("another guard", || guard_of(listener) != guard);
    send(listener, Signal::SIGSTOP);
    another(&agent, mark);

    eprintln!("the listener's thread hangs");
    let mark = agent.mark();
    let listener = Pid::from_raw(listener_of(rig, &agent));
    ptrace::seize(listener, ptrace::Options::empty()).unwrap();
    ptrace::interrupt(listener).unwrap();
    wait_for("the end of the listener that hangs", || process(listener.as_raw()).is_none());
    another(&agent, mark);

    eprintln!("the agent is killed, and another one starts");
    let before = listener_of(rig, &agent);
    drop(agent);
    assert!(was_refused(&container.run("/dropped")), "the listener does not go on without its agent");
    agent = rig.enforcer(&["--backend", "Fanotify"]);
    wait_for("the end of the earlier listener", || process(before).is_none());
    assert!(was_refused(&container.run("/dropped")));

    eprintln!("another agent starts beside it");
    let before = listener_of(rig, &agent);
    let next = rig.enforcer(&["--backend", "Fanotify"]);
    wait_for("the end of the earlier listener", || process(before).is_none());
    assert!(was_refused(&container.run("/dropped")));
    next
}

#[test]
#[ignore = "needs root, and packages from Debian's archive"]
fn no_execution_waits_and_nothing_dropped_runs_whatever_is_frozen_or_killed() {
    let mut rig = Rig::of_default_runc();
    rig.policy("native", json!({"scope": {"containers": ["mooring-native-oracle"]}, "actions": {"prevent": true}}));
    let agent = rig.enforcer(&["--backend", "Fanotify"]);
    let container = rig.container("mooring-native-oracle");
    assert!(container.run("cp /bin/tiny /dropped").status.success());
    assert!(was_refused(&container.run("/dropped")));
    let oracle = container
        .command(&["/bin/probe", "timed-oracle", "/dropped", "/bin/tiny", "/stop"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let ends = AtomicBool::new(false);
    let (agent, longest_of_host) = thread::scope(|scope| {
        let host = scope.spawn(|| {
            let mut longest = Duration::ZERO;
            while !ends.load(Ordering::Relaxed) {
                let begun = Instant::now();
                assert!(Command::new("/bin/true").status().unwrap().success());
                longest = longest.max(begun.elapsed());
                thread::sleep(Duration::from_millis(2));
            }
            longest
        });
        let agent = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| disturb(&rig, agent, &container)));
        ends.store(true, Ordering::Relaxed);
        (agent, host.join().unwrap())
    });
    container.run("touch /stop");
    let said = oracle.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&said.stdout).into_owned();
    let agent = agent.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    eprintln!("{said}the host's longest: {longest_of_host:?}");
    let number = |word: &str| -> u64 {
        let mut words = said.split_whitespace().skip_while(|it| *it != word);
        words.nth(1).unwrap_or_else(|| panic!("no {word} in {said:?}")).parse().unwrap()
    };
    assert_eq!((number("successes"), number("failures")), (0, 0), "{said}");
    assert!(number("tries") > 100, "{said}");
    assert!(
        Duration::from_millis(number("longest")) < LONGEST && longest_of_host < LONGEST,
        "{said}{longest_of_host:?}"
    );
    drop(agent);
    rig.release();
    assert!(rig.listeners().is_empty());
    assert!(ran(&container.run("/dropped")), "it does not run by itself either: this tests nothing");
}
