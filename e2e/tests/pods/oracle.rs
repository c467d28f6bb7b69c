//! Two pods that watch over all that happens to a node: one runs a dropped program again and again and records each time that it could, the
//! other a program of its image and records each time that it could not. Both records stay empty.

use std::time::{Duration, Instant};

use mooring_e2e::testing::eventually;
use serde_json::json;

use crate::manifests::{container, pod, policy};
use crate::rig::{Rig, backend};

pub const SPACE: &str = "oracle";
/// Two of them, so that one can go.
pub const POLICIES: [&str; 2] = ["oracle", "oracle-too"];
/// On the node: it can be read whatever else is away.
const RECORDS: &str = "/var/lib/oracle";
/// Attempts of each pod after a fault is over.
const AFTERWARDS: u64 = 20;

/// What has been tried so far, and what should not have come of it.
#[derive(Debug, Clone, Copy, Default)]
pub struct Record {
    pub tries: u64,
    pub ran: u64,
    pub runs: u64,
    pub failed: u64,
}

pub struct Oracle<'a> {
    rig: &'a Rig,
    table: Vec<String>,
    wrong: Vec<String>,
}

/// The dropped one, tried every 10 ms. A refusal is what the shell makes of EPERM, or of a child that was killed; whatever is neither that nor a success has
/// failed, and says nothing of Mooring. The shell itself waits: to run a program for that would be most of what the node does.
const DROPPED: &str = "mkdir -p /tmp/d; cp /bin/busybox /tmp/d/; mkfifo /tmp/never; exec 3<>/tmp/never; n=0
while :; do
    /tmp/d/busybox true 2>/dev/shm/said; code=$?; read -r said </dev/shm/said
    case \"$code $said\" in
    '0 '*) echo $n >>/records/ran ;;
    '126 '*'Operation not permitted' | KILLED) ;;
    *) echo dropped $n: $code $said >>/records/failed ;;
    esac
    said=; n=$((n + 1)); echo $n >/records/tries; read -t 0.01 -u 3 never
done";
/// The image's own, every 100 ms.
const HONEST: &str = "mkfifo /tmp/never; exec 3<>/tmp/never; n=0
while :; do
    /bin/busybox true || echo image $n: $? >>/records/failed
    n=$((n + 1)); echo $n >/records/runs; read -t 0.1 -u 3 never
done";

pub fn prevents(name: &str) -> serde_json::Value {
    policy(name, &json!({"namespaceSelector": {"matchLabels": {"team": SPACE}}}), &json!({}))
}

impl<'a> Oracle<'a> {
    /// The policies, and then the pods.
    pub fn begin(rig: &'a Rig) -> Self {
        rig.protect(SPACE, &POLICIES.map(prevents));
        rig.on_node(&format!("mkdir -p {RECORDS} && cd {RECORDS} && rm -f * && touch ran failed"));
        let killed = if matches!(backend().as_str(), "Kill" | "Fanotify") { "'137 '*" } else { "never" };
        for (name, script) in [("dropped", &*DROPPED.replace("KILLED", killed)), ("honest", HONEST)] {
            let more = json!({"command": ["sh", "-c", script], "volumeMounts": [{"name": "records", "mountPath": "/records"}]});
            let volumes = json!({"volumes": [{"name": "records", "hostPath": {"path": RECORDS}}]});
            rig.admin.apply(&pod(SPACE, name, &[container("main", "/tmp/d", &more)], &volumes).to_string()).unwrap();
        }
        let ready = ["wait", "--for=condition=Ready", "pod", "--all", "-n", SPACE, "--timeout=600s"];
        rig.admin.run(&ready).unwrap();
        let head =
            format!("{:<58} {:>7} {:>5} {:>7} {:>7} {:>8}", "fault", "tried", "ran", "image's", "failed", "seconds");
        let oracle = Self { rig, table: vec![head], wrong: Vec::new() };
        oracle.await_more(oracle.read());
        oracle
    }

    pub fn read(&self) -> Record {
        let script = format!("cd {RECORDS} && cat tries runs && wc -l <ran && wc -l <failed");
        loop {
            // What is being written may be empty.
            let Ok(text) = self.rig.node.run(&["bash", "-c", &script]) else { continue };
            let numbers: Vec<u64> = text.split_whitespace().filter_map(|word| word.parse().ok()).collect();
            if let [tries, runs, ran, failed] = numbers[..] {
                return Record { tries, ran, runs, failed };
            }
        }
    }

    pub fn await_more(&self, before: Record) {
        eventually("more attempts", || {
            let now = self.read();
            now.tries > before.tries + AFTERWARDS && now.runs > before.runs + AFTERWARDS
        });
    }

    /// Lets something happen, which has an end. Neither pod may notice.
    pub fn during(&mut self, fault: &str, happens: impl FnOnce(&Rig)) {
        let (before, begun) = (self.read(), Instant::now());
        happens(self.rig);
        self.await_more(self.read());
        self.row(fault, before, begun.elapsed(), false);
    }

    /// A row of the table. What ran is wrong unless it `may`.
    pub fn row(&mut self, fault: &str, before: Record, took: Duration, may: bool) {
        let now = self.read();
        let (ran, failed) = (now.ran - before.ran, now.failed - before.failed);
        let row = format!(
            "{fault:<58} {:>7} {ran:>5} {:>7} {failed:>7} {:>8.0}{}",
            now.tries - before.tries,
            now.runs - before.runs,
            took.as_secs_f64(),
            if may { "  allowed" } else { "" },
        );
        println!("{row}");
        if (ran > 0 && !may) || failed > 0 {
            self.wrong.push(row.clone());
        }
        self.table.push(row);
    }

    /// The table; an error when a record was not empty, or a pod did not live through it all.
    pub fn end(self) {
        println!("\n{}\n", self.table.join("\n"));
        let failed = self.rig.on_node(&format!("head -n 20 {RECORDS}/failed"));
        let pods = self.rig.admin.json(&["get", "pods", "-n", SPACE]).unwrap()["items"].clone();
        for pod in pods.as_array().unwrap() {
            let status = &pod["status"]["containerStatuses"][0];
            assert_eq!(status["restartCount"], 0, "{pod}");
        }
        assert!(self.wrong.is_empty(), "{}\n{failed}", self.wrong.join("\n"));
    }
}
