//! The backend Fanotify: what was dropped is refused, and no execution waits for whoever refuses.

use std::process::Output;

use serde_json::json;

use crate::rig::{Rig, TOKEN};

fn ran(output: &Output) -> bool {
    String::from_utf8_lossy(&output.stdout).contains(TOKEN)
}

/// As a shell tells it of a program that it may not execute (EPERM).
fn was_refused(output: &Output) -> bool {
    let said = String::from_utf8_lossy(&output.stderr);
    !ran(output) && output.status.code() == Some(126) && said.contains("Operation not permitted")
}

#[test]
#[ignore = "needs root, and packages from Debian's archive"]
fn what_a_container_drops_is_refused() {
    let mut rig = Rig::new();
    let other = rig.container("mooring-native-other");
    rig.policy("native", json!({"scope": {"containers": ["mooring-native-after"]}, "actions": {"prevent": true}}));
    let enforcer = rig.enforcer(&["--backend", "Fanotify"]);
    assert!(enforcer.said("enforcing: ").unwrap().contains("backend=Fanotify"));
    let after = rig.container("mooring-native-after");

    for container in [&after, &other] {
        assert!(ran(&container.execute(&["/bin/tiny"])), "the image's own program does not run");
        let copied = container.run("cp /bin/tiny /dropped; cp /bin/other /bin/swapped; /bin/true");
        assert!(copied.status.success(), "{copied:?}");
    }
    assert!(ran(&other.execute(&["/dropped"])), "a container that the policy is not for is disturbed");

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
