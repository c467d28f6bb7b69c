//! The backend Kill: what was dropped is killed before its first instruction, which is to print.

use std::os::unix::process::ExitStatusExt;
use std::process::Output;

use crate::rig::{Rig, ran, wait_for};

/// As the runtime tells it of the first process of an exec.
fn was_killed(output: &Output) -> bool {
    output.status.code() == Some(128 + 9) || output.status.signal() == Some(9)
}

#[test]
#[ignore = "needs root, and packages from Debian's archive"]
fn what_a_container_drops_is_killed_before_its_first_instruction() {
    let mut rig = Rig::new();
    let (enforcer, after) = rig.protecting("Kill");

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
