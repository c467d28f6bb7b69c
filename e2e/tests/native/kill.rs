//! The backend Kill: what was dropped is killed before its first instruction, which is to print.

use std::os::unix::process::ExitStatusExt;
use std::process::Output;

use serde_json::json;

use crate::rig::{Rig, TOKEN, wait_for};

fn ran(output: &Output) -> bool {
    String::from_utf8_lossy(&output.stdout).contains(TOKEN)
}

/// As the runtime tells it of the first process of an exec.
fn was_killed(output: &Output) -> bool {
    output.status.code() == Some(128 + 9) || output.status.signal() == Some(9)
}

#[test]
#[ignore = "needs root, and packages from Debian's archive"]
fn what_a_container_drops_is_killed_before_its_first_instruction() {
    let mut rig = Rig::new();
    let other = rig.container("mooring-native-other");
    rig.policy("native", json!({"scope": {"containers": ["mooring-native-after"]}, "actions": {"prevent": true}}));
    let enforcer = rig.enforcer(&["--backend", "Kill"]);
    assert!(enforcer.said("enforcing: ").unwrap().contains("backend=Kill"));
    let after = rig.container("mooring-native-after");

    for container in [&after, &other] {
        assert!(ran(&container.execute(&["/bin/tiny"])), "the image's own program does not run");
        let copied = container.run("cp /bin/tiny /dropped; cp /bin/other /bin/swapped; /bin/true");
        assert!(copied.status.success(), "{copied:?}");
    }
    assert!(ran(&other.execute(&["/dropped"])), "a container that the policy is not for is disturbed");

    // As the runtime's own first process, and as a child of a shell.
    for output in [after.execute(&["/dropped"]), after.run("/dropped")] {
        assert!(was_killed(&output) && !ran(&output), "{output:?}");
    }
    let event = enforcer.event_of("/dropped");
    let spec = &event["spec"];
    assert_eq!(
        [&spec["verdict"], &spec["reason"], &spec["container"]],
        ["Killed", "NewBinary", "mooring-native-after"],
        "{event}"
    );

    // An image's program that was copied up runs once it was compared, and is killed again after a write.
    let changed = after.run("chmod 700 /bin/tiny; /bin/tiny");
    assert!(!ran(&changed), "nobody can know yet that it is still the image's: {changed:?}");
    wait_for("a comparison", || ran(&after.execute(&["/bin/tiny"])));
    let written = after.run("echo more >> /bin/tiny; /bin/tiny");
    assert!(!ran(&written), "{written:?}");
    assert_eq!(enforcer.event_of("/bin/tiny")["spec"]["reason"], "ModifiedBinary");

    // Without the agent what is in force stays so; released, everything runs.
    drop(enforcer);
    assert!(!ran(&after.execute(&["/dropped"])), "enforcement ended with the agent");
    rig.release();
    assert!(ran(&after.execute(&["/dropped"])), "it does not run by itself either: this tests nothing");
}
