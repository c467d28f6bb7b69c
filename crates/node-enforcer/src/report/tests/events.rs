use std::collections::BTreeSet;
use std::sync::Arc;

use mooring_crd::{DriftEvent, Kind, Reason, Verdict, validate};
use mooring_policy::{Class, SlotMask, Use};
use proptest::prelude::*;

use super::{at, container, rules, violation};
use crate::report::{Violation, events_of};

fn events(violation: &Violation) -> Vec<DriftEvent> {
    events_of(violation, &rules(), "node1").into_iter().map(|(_, event)| event).collect()
}

#[test]
fn each_violated_policy_gets_an_event() {
    let events = events(&violation(b"/tmp/x"));
    let [first, second] = events.as_slice() else { panic!("{events:?}") };
    assert_eq!((first.spec.policy.as_str(), second.spec.policy.as_str()), ("a-detects", "b-prevents"));
    assert_eq!((first.spec.severity.as_str(), second.spec.severity.as_str()), ("Low", "High"));
    assert_eq!(first.spec.runbook_url.as_deref(), Some("https://example.com/a"));
    // What became of the execution does not depend on whose event it is.
    assert_eq!((first.spec.verdict, second.spec.verdict), (Verdict::Denied, Verdict::Denied));
    assert_eq!(first.spec.reason, Reason::NewBinary);
    assert_eq!(first.metadata.namespace.as_deref(), Some("payments"));
    assert_eq!(
        (first.spec.node.as_str(), first.spec.pod.name.as_str(), first.spec.container.as_str()),
        ("node1", "api-x", "api")
    );
    assert_eq!((first.spec.pod.uid.as_deref(), first.spec.container_id.as_str()), (Some("u-1"), "c1"));
    assert_eq!(first.spec.path, "/tmp/x");
    assert_eq!(first.spec.invoked_as, None, "it is the path");
    let process = &first.spec.process;
    assert_eq!((process.pid, process.uid, process.command_line.as_deref()), (7, 1000, Some("/tmp/x -o pool")));
    let parent = process.parent.as_ref().unwrap();
    assert_eq!((parent.pid, parent.name.as_deref()), (6, Some("sh")));
    let status = first.status.as_ref().unwrap();
    assert_eq!((status.count, status.first_seen.0, status.last_seen.0), (1, at(0), at(0)));
}

#[test]
fn times_are_in_order_whatever_a_clock_did() {
    for times in [(at(4), at(9)), (at(9), at(4))] {
        let mut some = violation(b"/tmp/x");
        (some.first_seen, some.last_seen) = times;
        let status = events(&some)[0].status.clone().unwrap();
        assert_eq!((status.first_seen.0, status.last_seen.0), (at(4), at(9)));
    }
}

#[test]
fn what_could_not_be_refused_was_killed_and_is_never_called_denied() {
    let killed = Violation { killed: true, ..violation(b"/tmp/x") };
    assert!(events(&killed).iter().all(|event| event.spec.verdict == Verdict::Killed));
}

#[test]
fn what_ran_is_detected_and_nothing_violated_is_nothing() {
    let mut ran = violation(b"/tmp/x");
    (ran.drift, ran.denied) = (SlotMask::from_bits(1), SlotMask::EMPTY);
    assert_eq!(events(&ran)[0].spec.verdict, Verdict::Detected);
    ran.killed = true;
    assert_eq!(events(&ran)[0].spec.verdict, Verdict::Detected, "nothing prevents it, so nobody was killed");
    ran.drift = SlotMask::EMPTY;
    assert_eq!(events(&ran), []);
    ran.drift = SlotMask::from_bits(1 << 40);
    assert_eq!(events(&ran), [], "a slot without a policy has no one to tell");
}

#[test]
fn the_reason_is_each_slots_own() {
    let mut both = violation(b"/usr/bin/nc");
    (both.drift, both.prohibited, both.class) = (SlotMask::from_bits(1), SlotMask::from_bits(2), Class::ModifiedBinary);
    let reasons: Vec<_> = events(&both).iter().map(|event| event.spec.reason).collect();
    assert_eq!(reasons, [Reason::ModifiedBinary, Reason::ProhibitedBinary]);
    both.usage = Use::Map;
    assert_eq!(events(&both)[0].spec.reason, Reason::DriftedLibrary);
}

#[test]
fn a_volume_is_the_one_with_the_longest_destination() {
    for (path, mount) in [
        ("/data/x", Some("/data")),
        ("/data/in/x", Some("/data/in")),
        ("/database/x", Some("/database")),
        ("/dat/x", None),
    ] {
        let mut on_volume = violation(path.as_bytes());
        on_volume.class = Class::VolumeBinary;
        let volume = events(&on_volume)[0].spec.volume.clone();
        assert_eq!(volume.as_ref().map(|v| v.mount_path.as_str()), mount, "{path}");
        assert_eq!(events(&violation(path.as_bytes()))[0].spec.volume, None);
    }
}

#[test]
fn other_names_and_missing_facts_are_told_as_they_are() {
    let mut renamed = violation(b"/tmp/n");
    renamed.lower_path = b"/usr/bin/nc".to_vec();
    assert_eq!(events(&renamed)[0].spec.invoked_as.as_deref(), Some("/usr/bin/nc"));
    renamed.invoked = b"./n".to_vec();
    assert_eq!(events(&renamed)[0].spec.invoked_as.as_deref(), Some("./n"));
    let mut bare = violation(b"");
    (bare.argv, bare.comm, bare.parent_pid, bare.invoked, bare.count) =
        (Vec::new(), b"kworker".to_vec(), 0, Vec::new(), 0);
    let event = &events(&bare)[0];
    assert_eq!((event.spec.path.as_str(), event.spec.invoked_as.as_deref()), ("", None));
    assert_eq!((event.spec.process.command_line.as_deref(), &event.spec.process.parent), (Some("kworker"), &None));
    assert_eq!(event.status.as_ref().unwrap().count, 1);
}

#[test]
fn names_of_objects_differ_with_every_part_of_the_key() {
    let mut names = BTreeSet::new();
    let mut add = |violation: &Violation| {
        for event in events(violation) {
            assert!(names.insert(event.metadata.name.unwrap()));
        }
    };
    add(&violation(b"/tmp/x"));
    // Lossy texts are equal, the bytes are not.
    add(&violation(b"/tmp/\xff"));
    add(&violation(b"/tmp/\xfe"));
    let mut other = violation(b"/tmp/x");
    other.class = Class::Fileless;
    add(&other);
    let mut other = violation(b"/tmp/x");
    Arc::make_mut(&mut other.container).name = "b".to_owned();
    add(&other);
    let mut other = violation(b"/tmp/x");
    Arc::make_mut(&mut other.container).pod_uid = None;
    add(&other);
    assert_eq!(names.len(), 12);
    let again = events(&violation(b"/tmp/x"))[0].metadata.name.clone().unwrap();
    assert_eq!(again, "jxdetgedulve4i4yp3i3", "a restarted agent must find its objects again");
}

proptest! {
    #[test]
    fn no_bytes_break_an_event(
        path in proptest::collection::vec(any::<u8>(), 0..5000),
        argv in proptest::collection::vec(any::<u8>(), 0..6000),
        image in "\\PC{0,1500}",
        bits in any::<[u64; 3]>(),
    ) {
        let mut any = violation(&path);
        let mut whose = container("c");
        whose.image = Some(image);
        any.container = Arc::new(whose);
        any.argv = argv;
        [any.drift, any.prohibited, any.denied] = bits.map(SlotMask::from_bits);
        for mut event in events(&any) {
            let line = event.spec.process.command_line.as_deref().unwrap_or_default();
            prop_assert!(line.len() <= 4096 && !line.contains('\0'));
            event.fit_for_api_server();
            // An event that the API server refused would be lost.
            let mut object = serde_json::to_value(&event).unwrap();
            prop_assert_eq!(validate(Kind::DriftEvent, &mut object), Ok(()));
        }
    }
}
