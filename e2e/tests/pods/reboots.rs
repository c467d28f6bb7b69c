//! A node's reboot, measured: pods run from the first moment that the kubelet starts them, and what they dropped runs until the agent's pod,
//! which is one of them, has put the rules in force again.

use std::fmt::Write as _;

use mooring_e2e::cluster::Images;
use mooring_e2e::testing::{eventually, is_true};
use serde_json::json;

use crate::faults::process;
use crate::manifests::{container, pod, policy};
use crate::rig::{NODE, Rig, SYSTEM, soaks};

const SPACE: &str = "reboots";
const POLICY: &str = "reboots";
/// What gives the agent its rights in the API.
const BINDING: &str = "mooring-enforcer";
const PODS: usize = 5;
/// On the node's disk, which it keeps.
const RECORDS: &str = "/var/lib/reboots";
/// What may be tried again before the end of a measurement.
const AFTERWARDS: usize = 20;

/// Says when it began, when what it dropped ran, when that was first refused, and what was neither: in seconds since the boot, in files by
/// boot and pod. Only the shell itself waits.
const DROPS: &str = "read began rest </proc/uptime; read boot </proc/sys/kernel/random/boot_id
mkdir -p /tmp/d /records/$boot; cp /bin/busybox /tmp/d/; mkfifo /tmp/never; exec 3<>/tmp/never
to=/records/$boot/$NAME; echo $began >$to.began; n=0; first=1
while :; do
    read up rest </proc/uptime
    /tmp/d/busybox true 2>/dev/shm/said; code=$?; read -r said </dev/shm/said
    case \"$code $said\" in
    '0 '*) echo $up >>$to.ran; [ -n \"$first\" ] || echo $up ran after a refusal >>$to.failed ;;
    '126 '*'Operation not permitted') [ -z \"$first\" ] || { read up rest </proc/uptime; echo $up >$to.refused; first=; } ;;
    *) echo $up $code $said >>$to.failed ;;
    esac
    /bin/busybox true || echo $up image $? >>$to.failed
    said=; n=$((n + 1)); echo $n >$to.tries; read -t 0.01 -u 3 never
done";

/// What the pods have recorded since the node's boot; seconds since then.
#[derive(Debug)]
struct Boot {
    began: f64,
    ran: Vec<f64>,
    /// When the last of them was refused for the first time; none before each was.
    refused: Option<f64>,
    tries: usize,
    failed: String,
}

#[test]
#[ignore = "boots a guest: make test-pods"]
fn a_reboot_measured() {
    if !soaks() {
        println!("left out: MOORING_SOAK=1 has it");
        return;
    }
    let rig = Rig::start(true);
    rig.run(SPACE, || {
        let scope = json!({"namespaceSelector": {"matchLabels": {"team": SPACE}}});
        rig.protect(SPACE, &[policy(POLICY, &scope, &json!({}))]);
        rig.on_node(&format!("mkdir -p {RECORDS}"));
        for number in 0..PODS {
            let name = format!("drops-{number}");
            let more = json!({"command": ["sh", "-c", DROPS], "env": [{"name": "NAME", "value": name}],
                "volumeMounts": [{"name": "records", "mountPath": "/records"}]});
            let volumes = json!({"volumes": [{"name": "records", "hostPath": {"path": RECORDS}}]});
            rig.admin.apply(&pod(SPACE, &name, &[container("main", "/tmp/d", &more)], &volumes).to_string()).unwrap();
        }
        let protected = await_refusals(&rig);
        assert!(protected.ran.is_empty() && protected.failed.is_empty(), "{protected:?}");

        let mut table = format!(
            "{:<42} {:>10} {:>10} {:>11} {:>10} {:>7}\n",
            "reboot (seconds since the boot)", "first exec", "agent", "all refused", "last ran", "ran"
        );
        switched_off_and_on(&rig);
        row(&rig, &mut table, "all is there");
        // What the agent may not read can only come from the disk.
        let mut binding = rig.admin.json(&["get", "clusterrolebinding", BINDING]).unwrap();
        rig.admin.run(&["delete", "clusterrolebinding", BINDING]).unwrap();
        switched_off_and_on(&rig);
        row(&rig, &mut table, "the agent may read nothing of the API");
        for field in ["resourceVersion", "uid", "creationTimestamp", "managedFields"] {
            binding["metadata"].as_object_mut().unwrap().remove(field);
        }
        rig.admin.apply(&binding.to_string()).unwrap();
        rig.await_enforced(POLICY);
        without_the_image(&rig, &mut table);
        println!("\n{table}");
    });
}

/// The plug is pulled; what was written is on the disk by then.
fn switched_off_and_on(rig: &Rig) {
    rig.on_node("sync");
    rig.node.stop();
    rig.cluster.switch_on(&rig.node).unwrap();
    eventually("an answer of the node", || rig.node.run(&["true"]).is_ok());
}

/// The seconds since the node's boot.
fn uptime(rig: &Rig) -> f64 {
    rig.on_node("cut -d ' ' -f 1 /proc/uptime").trim().parse().unwrap()
}

fn read(rig: &Rig) -> Option<Boot> {
    let script = format!(
        "cd {RECORDS}/$(cat /proc/sys/kernel/random/boot_id) || exit 0
        for file in *; do busybox sed \"s/^/${{file#*.}} /\" $file; done"
    );
    let text = rig.node.run(&["bash", "-c", &script]).ok()?;
    let of = |kind: &str| {
        let words = text.lines().filter_map(|line| line.split_once(' ')).filter(|(what, _)| *what == kind);
        words.map(|(_, value)| value.to_owned()).collect::<Vec<_>>()
    };
    let numbers = |kind: &str| of(kind).iter().filter_map(|word| word.parse::<f64>().ok()).collect::<Vec<_>>();
    let (began, refused) = (numbers("began"), numbers("refused"));
    Some(Boot {
        began: began.into_iter().reduce(f64::min)?,
        ran: numbers("ran"),
        refused: (refused.len() == PODS).then(|| refused.into_iter().fold(0.0, f64::max)),
        tries: of("tries").iter().filter_map(|word| word.parse::<usize>().ok()).sum(),
        failed: of("failed").join("\n"),
    })
}

/// Waits until each pod is refused, and for more attempts of theirs.
fn await_refusals(rig: &Rig) -> Boot {
    let refused = |boot: &Boot| boot.refused.is_some();
    eventually("a refusal in each pod", || read(rig).as_ref().is_some_and(refused));
    let before = read(rig).unwrap().tries;
    eventually("more attempts", || read(rig).is_some_and(|boot| boot.tries > before + PODS * AFTERWARDS));
    read(rig).unwrap()
}

/// Once each is refused, none runs any more, and the image's own programs always have.
fn row(rig: &Rig, table: &mut String, what: &str) {
    let boot = await_refusals(rig);
    let ticks = rig.on_node(&format!("cut -d ' ' -f 22 /proc/{}/stat", process(rig)));
    let agent = ticks.trim().parse::<f64>().unwrap() / 100.0;
    let last = boot.ran.iter().copied().fold(boot.began, f64::max);
    let row = format!(
        "{what:<42} {:>10.1} {agent:>10.1} {:>11.1} {last:>10.1} {:>7}\n",
        boot.began,
        boot.refused.unwrap(),
        boot.ran.len()
    );
    print!("{row}");
    table.push_str(&row);
    assert_eq!(boot.failed, "");
    assert!(last <= boot.refused.unwrap(), "{boot:?}");
}

/// The agent's pod cannot start, the others do, and nothing is enforced until the image is there again.
fn without_the_image(rig: &Rig, table: &mut String) {
    rig.on_node("ctr -n k8s.io images ls -q | grep mooring/enforcer | xargs ctr -n k8s.io images rm --sync");
    switched_off_and_on(rig);
    let mut told = |what: &str, since: f64, now: f64| {
        let line = format!("    {what}: {:.0} s later\n", now - since);
        print!("{line}");
        table.push_str(&line);
    };
    eventually("the first pod", || read(rig).is_some_and(|boot| !boot.ran.is_empty()));
    let began = read(rig).unwrap().began;
    eventually("an agent without an image", || {
        let waits = rig.agent()["status"]["containerStatuses"][0]["state"]["waiting"]["reason"].clone();
        ["ErrImagePull", "ImagePullBackOff"].iter().any(|reason| waits == *reason)
    });
    told("without the image: the first exec; the agent's pod says ErrImagePull", began, uptime(rig));
    eventually("a policy that says that the node is not attended", || {
        let object = rig.admin.json(&["get", "cdp", POLICY]).unwrap();
        object["status"]["nodes"]["unattended"] == 1 && !is_true(&object, "Enforcing")
    });
    told("... the policy says that its node is unattended", began, uptime(rig));
    println!("{}", rig.admin.run(&["get", "cdp,driftnodes", "-o", "wide"]).unwrap());
    println!("{}", rig.admin.json(&["get", "cdp", POLICY]).unwrap()["status"]["nodes"]);
    println!("{}", rig.admin.json(&["get", "driftnode", NODE]).unwrap()["status"]["conditions"]);
    let boot = read(rig).unwrap();
    eventually("what goes on running", || read(rig).is_some_and(|now| now.ran.len() > boot.ran.len() + AFTERWARDS));
    assert!(read(rig).unwrap().refused.is_none(), "nothing is enforced");

    rig.node.load(&Images::built().unwrap().enforcer).unwrap();
    let loaded = uptime(rig);
    let boot = await_refusals(rig);
    told("... the image is there again; enforcing", loaded, boot.refused.unwrap());
    assert_eq!(boot.failed, "");
    assert!(boot.ran.iter().all(|ran| *ran <= boot.refused.unwrap()), "{boot:?}");
    rig.await_enforced(POLICY);
    told("... the policy says that it is enforced", loaded, uptime(rig));
    let _ = writeln!(table, "    while it was away {} of {} attempts ran", boot.ran.len(), boot.tries);
    rig.admin.run(&["wait", "--for=condition=Ready", "pod", "-n", SYSTEM, "--all", "--timeout=300s"]).unwrap();
}
