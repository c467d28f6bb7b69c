//! Time to protect: pods as fast as a node starts them, each trying a dropped program as early as it can.
//!
//! Two kernel probes on the node are the observer: of the moment from which an exec can no longer fail, before the new program's first
//! instruction, and of each entry into the programs' table of containers. Their clock is one, and the agent knows of neither.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use mooring_e2e::cluster::{Kubectl, Node};
use mooring_e2e::testing::eventually;
use serde_json::{Value, json};

use crate::found;
use crate::node::{begin, end};

const PODS: usize = 300;
const WAVE: usize = 40;
const SPACE: &str = "payments";
/// One that was refused says so by its end, so that nothing has to be asked for.
const TRIES: &str = "mkdir /d && cp /bin/busybox /d/ || exit 3; /d/busybox true && exit 1; [ $? = 126 ] || exit 4";
const HONEST: &str = "/bin/busybox true";

/// An exec in a container and an entry in its table.
const PROBES: &str = "set -e; cd /sys/kernel/tracing
echo mono >trace_clock; echo 8192 >buffer_size_kb
echo 'p:mooring/exec begin_new_exec cgroup=bprm->mm->owner->cgroups->dfl_cgrp->kn->id:u64 ns=bprm->mm->owner->nsproxy->mnt_ns->ns.inum:u32 file=bprm->filename:string' >>kprobe_events
echo 'p:mooring/entered htab_map_update_elem map=map->name:string cgroup=+0(key):u64 flags=map_flags:u64' >>kprobe_events
echo \"ns != $(stat -Lc %i /proc/1/ns/mnt) && file == \\\"/bin/sh\\\"\" >events/mooring/exec/filter
echo 'map == \"containers\"' >events/mooring/entered/filter
echo 1 >events/mooring/enable";
/// What they saw, and whether anything was lost; they begin anew.
const SEEN: &str =
    "cd /sys/kernel/tracing; cat trace; cat per_cpu/cpu*/stats | grep -E '^(overrun|dropped)'; echo >trace";

#[test]
#[ignore = "boots a guest and takes half an hour: make bench"]
fn three_hundred_pods() {
    let (cluster, node, operator) = begin(3072);
    let admin = cluster.kubectl();
    let namespace =
        json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": SPACE, "labels": {"team": SPACE}}});
    admin.apply(&namespace.to_string()).unwrap();
    eventually("the namespace's service account", || {
        admin.run(&["get", "serviceaccount", "default", "-n", SPACE]).is_ok()
    });
    // What only the first pod costs.
    wave(&admin, 1, HONEST);
    found(&idle(&node));
    found(&cost(&admin, &node));

    let pods: usize = std::env::var("MOORING_BENCH_PODS").map_or(PODS, |text| text.parse().unwrap());
    node.run(&["bash", "-c", PROBES]).unwrap();
    let (mut all, mut ran, mut took, mut not_started) = (Vec::new(), 0, Duration::ZERO, 0);
    while all.len() < pods {
        let count = WAVE.min(pods - all.len());
        let ended = wave(&admin, count, TRIES);
        ran += ended.ran;
        took += ended.took;
        not_started += ended.not_started;
        let seen = moments(&node.run(&["bash", "-c", SEEN]).unwrap());
        // Each of them, or there is no number here.
        assert_eq!(seen.len(), count - ended.not_started);
        all.extend(seen);
        println!("{} pods so far, {ran} ran: {}", all.len(), distribution(&all));
    }
    found(&distribution(&all));
    assert!(not_started * 100 <= pods, "{not_started} of {pods} were not started");
    found(
        &json!({"protect-ran": ran, "protect-not-started": not_started, "protect-pods-per-minute": pods as f64 * 60.0 / took.as_secs_f64()}),
    );
    end(operator);
}

struct Wave {
    /// How many ran what they had dropped.
    ran: usize,
    /// How many the runtime gave up before they had a process.
    not_started: usize,
    took: Duration,
}

/// So many pods at once, until the last has ended; then they are deleted.
fn wave(admin: &Kubectl, pods: usize, script: &str) -> Wave {
    let items: Vec<Value> = (0..pods)
        .map(|number| {
            json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": format!("pod-{number}"), "namespace": SPACE}, "spec": {
                "nodeName": "node1", "hostNetwork": true, "restartPolicy": "Never", "terminationGracePeriodSeconds": 0,
                "automountServiceAccountToken": false, "enableServiceLinks": false,
                "tolerations": [{"operator": "Exists"}],
                "containers": [{"name": "main", "image": "docker.io/library/busybox:test", "command": ["/bin/sh", "-c", script]}],
            }})
        })
        .collect();
    let begun = Instant::now();
    admin.apply(&json!({"apiVersion": "v1", "kind": "List", "items": items}).to_string()).unwrap();
    let mut ends: Vec<Value> = Vec::new();
    let mut waited = 0;
    // As many as these take minutes: longer than `eventually` waits.
    while ends.len() < pods {
        assert!(begun.elapsed() < Duration::from_mins(15), "{} of {pods} pods have ended", ends.len());
        std::thread::sleep(Duration::from_secs(1));
        waited += 1;
        let objects = admin.json(&["get", "pods", "-n", SPACE]).unwrap();
        let objects = objects["items"].as_array().unwrap();
        let end = |pod: &Value| pod.pointer("/status/containerStatuses/0/state/terminated").cloned();
        ends = objects.iter().filter_map(end).collect();
    }
    let took = begun.elapsed();
    println!("{pods} pods in {:.0} s, asked {waited} times", took.as_secs_f64());
    let (not_started, ends): (Vec<_>, Vec<_>) = ends.into_iter().partition(has_lost_its_sandbox);
    for end in &not_started {
        println!("{end}");
    }
    let wrong: Vec<_> = ends.iter().filter(|end| end["exitCode"] != 0 && end["exitCode"] != 1).collect();
    assert!(wrong.is_empty(), "{wrong:?}");
    admin.run(&["delete", "pods", "--all", "-n", SPACE, "--wait"]).unwrap();
    Wave { ran: ends.iter().filter(|end| end["exitCode"] == 1).count(), not_started: not_started.len(), took }
}

/// containerd forgets the first process of a sandbox now and then on a node that has more to do than it can, and joins the namespaces of
/// process 0 (its issue 9160, with and without anything that watches executions).
fn has_lost_its_sandbox(end: &Value) -> bool {
    end["reason"] == "StartError"
        && end["message"].as_str().is_some_and(|message| message.contains("lstat /proc/0/ns/"))
}

/// What the probes saw of a container, in microseconds of their clock.
#[derive(Debug, Default)]
struct Moments {
    exec: Option<f64>,
    /// Entered with every policy, by the kernel itself, because nobody had been quicker.
    by_kernel: Option<f64>,
    /// Entered with its own policies.
    by_agent: Option<f64>,
}

impl Moments {
    /// From the first exec to its own rules; none where it had ended before the agent came to it.
    fn own(&self) -> Option<f64> {
        Some(self.by_agent? - self.exec?)
    }

    /// From the first exec to any rules.
    fn any(&self) -> f64 {
        let by_kernel = self.by_kernel.zip(self.exec).map(|(at, exec)| at - exec);
        let first = [self.own(), by_kernel].into_iter().flatten().min_by(f64::total_cmp);
        first.expect("a container that nobody entered")
    }
}

/// By the cgroups of those that executed what these pods begin with.
fn moments(trace: &str) -> Vec<Moments> {
    let mut all: BTreeMap<&str, Moments> = BTreeMap::new();
    for line in trace.lines().filter(|line| !line.starts_with('#')) {
        if let Some((name, count)) =
            line.split_once(": ").filter(|(name, _)| ["overrun", "dropped events"].contains(name))
        {
            assert_eq!(count, "0", "{name}");
            continue;
        }
        let Some((head, tail)) = line.split_once(": exec: ").or_else(|| line.split_once(": entered: ")) else {
            continue;
        };
        let at = head.rsplit_once(' ').unwrap().1.parse::<f64>().unwrap() * 1e6;
        let field = |name: &str| tail.split_whitespace().find_map(|word| word.strip_prefix(name)?.strip_prefix('='));
        let of = all.entry(field("cgroup").unwrap()).or_default();
        let seen = match (tail.contains("map="), field("flags")) {
            (false, _) => &mut of.exec,
            // BPF_NOEXIST: the programs enter only what is not there.
            (true, Some("1")) => &mut of.by_kernel,
            (true, _) => &mut of.by_agent,
        };
        seen.get_or_insert(at);
    }
    all.into_values().filter(|seen| seen.exec.is_some()).collect()
}

fn distribution(all: &[Moments]) -> Value {
    let sorted = |spans: &mut dyn Iterator<Item = f64>| {
        let mut spans: Vec<f64> = spans.collect();
        spans.sort_by(f64::total_cmp);
        spans
    };
    let own = sorted(&mut all.iter().filter_map(Moments::own));
    let any = sorted(&mut all.iter().map(Moments::any));
    let at = |spans: &[f64], percent: usize| spans[(spans.len() * percent).div_ceil(100) - 1];
    json!({
        "protect-p50-us": at(&any, 50), "protect-p99-us": at(&any, 99), "protect-worst-us": at(&any, 100),
        "protect-own-p50-us": at(&own, 50), "protect-own-p99-us": at(&own, 99), "protect-own-worst-us": at(&own, 100),
        "protect-by-kernel": all.iter().filter(|seen| seen.by_kernel.is_some()).count(),
        "protect-ended-before-own": all.len() - own.len(),
    })
}

/// What the starts of a wave of honest pods cost: the programs, the agent, and the node in all.
fn cost(admin: &Kubectl, node: &Node) -> Value {
    let read = || -> [f64; 3] {
        // Its threads, not its cgroup: there the kubelet's probes run, as often without a pod's start.
        let script = "bpftool -j prog show; cat /proc/$(busybox pidof mooring-enforcer)/task/*/schedstat
            sed -n 's/^usage_usec //p' /sys/fs/cgroup/cpu.stat";
        let text = node.run(&["bash", "-c", script]).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        let [programs, threads @ .., node] = &lines[..] else { panic!("{text}") };
        let programs: Value = serde_json::from_str(programs).unwrap();
        let ours = programs
            .as_array()
            .unwrap()
            .iter()
            .filter(|it| it["name"].as_str().is_some_and(|it| it.starts_with("mooring_")));
        let programs: f64 = ours.filter_map(|it| it["run_time_ns"].as_f64()).sum();
        // The first field: nanoseconds on a processor (Documentation/scheduler/sched-stats.rst).
        let agent: f64 = threads.iter().map(|thread| thread.split(' ').next().unwrap().parse::<f64>().unwrap()).sum();
        [programs / 1000.0, agent / 1000.0, node.parse().unwrap()]
    };
    node.run(&["sh", "-c", "echo 1 >/proc/sys/kernel/bpf_stats_enabled"]).unwrap();
    let before = read();
    wave(admin, WAVE, HONEST);
    let after = read();
    node.run(&["sh", "-c", "echo 0 >/proc/sys/kernel/bpf_stats_enabled"]).unwrap();
    let [programs, agent, node] = std::array::from_fn(|number| (after[number] - before[number]) / WAVE as f64);
    json!({"start-programs-us": programs, "start-agent-us": agent, "start-added-us": programs + agent, "start-node-us": node})
}

/// What an agent costs, with what the kubelet runs in its container, where nothing happens.
fn idle(node: &Node) -> Value {
    const QUIET: Duration = Duration::from_mins(3);
    let used = || -> f64 {
        let script = "sed -n 's/^usage_usec //p' /sys/fs/cgroup$(cut -d: -f3 /proc/$(busybox pidof mooring-enforcer)/cgroup)/cpu.stat";
        node.run(&["bash", "-c", script]).unwrap().trim().parse().unwrap()
    };
    let before = used();
    std::thread::sleep(QUIET);
    json!({"idle-agent-us-in-a-second": (used() - before) / QUIET.as_secs_f64()})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_probes_saw_of_each_container() {
        let trace = "# tracer: nop
#
 sh-90 [000] ...1. 10.000100: entered: (htab_map_update_elem+0x0/0x380) map=\"containers\" cgroup=77 flags=1
 sh-90 [000] ..... 10.000350: exec: (begin_new_exec+0x0/0xd20) cgroup=77 ns=4026532301 file=\"/bin/sh\"
 sh-91 [001] ..... 11.000000: exec: (begin_new_exec+0x0/0xd20) cgroup=78 ns=4026532302 file=\"/bin/sh\"
 mooring-enforce-8 [001] ..... 11.002000: entered: (htab_map_update_elem+0x0/0x380) map=\"containers\" cgroup=78 flags=0
 mooring-enforce-8 [001] ..... 11.003000: entered: (htab_map_update_elem+0x0/0x380) map=\"containers\" cgroup=77 flags=0
 mooring-enforce-8 [001] ..... 11.004000: entered: (htab_map_update_elem+0x0/0x380) map=\"containers\" cgroup=99 flags=0
overrun: 0
dropped events: 0
";
        let seen = moments(trace);
        let spans: Vec<_> = seen.iter().map(|it| (it.any().round(), it.own().map(f64::round))).collect();
        assert_eq!(spans, [(-250.0, Some(1_002_650.0)), (2000.0, Some(2000.0))]);
    }
}
