use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use mooring_crd::{DriftEvent, Verdict};
use mooring_policy::SlotMask;
use proptest::prelude::*;

use super::{at, container, rules, violation};
use crate::containers::Container;
use crate::report::{Aggregator, Limits, Violation};

const SECOND: Duration = Duration::from_secs(1);

fn aggregator() -> Aggregator {
    Aggregator::new("node1".to_owned(), Limits::default())
}

/// One violation of one policy.
fn of(container_id: &str, path: &str) -> Violation {
    let mut one = violation(path.as_bytes());
    // Outside a cluster: the id tells containers apart.
    one.container = Arc::new(Container { pod_uid: None, ..container(container_id) });
    (one.drift, one.denied) = (SlotMask::from_bits(1), SlotMask::EMPTY);
    one
}

fn count(event: &DriftEvent) -> i64 {
    event.status.as_ref().unwrap().count
}

#[test]
fn the_first_is_told_at_once_and_the_rest_counted() {
    let (rules, mut events) = (rules(), aggregator());
    let told = events.record(&of("c1", "/x"), &rules, SECOND);
    assert_eq!(told.iter().map(count).collect::<Vec<_>>(), [1]);
    assert_eq!(events.next_due(), None);
    for second in 2..=5 {
        let mut more = of("c1", "/x");
        (more.count, more.first_seen, more.last_seen) = (100, at(second), at(second));
        assert_eq!(events.record(&more, &rules, SECOND), []);
    }
    assert_eq!(events.due(SECOND * 10), []);
    assert_eq!(events.next_due(), Some(SECOND * 11));
    let due = events.due(SECOND * 11);
    let status = due[0].status.as_ref().unwrap();
    assert_eq!((status.count, status.first_seen.0, status.last_seen.0), (401, at(0), at(5)));
    // The clock was set back.
    let mut earlier = of("c1", "/x");
    (earlier.first_seen, earlier.last_seen) = (at(-9), at(-9));
    events.record(&earlier, &rules, SECOND * 12);
    let status = events.due(SECOND * 22).remove(0).status.unwrap();
    assert_eq!((status.count, status.first_seen.0, status.last_seen.0), (402, at(0), at(5)));
    assert_eq!(events.due(SECOND * 100), [], "nothing new");
    assert_eq!(due[0].metadata.name, told[0].metadata.name);
}

#[test]
fn a_changed_verdict_is_told_at_once_but_not_for_ever() {
    let (rules, mut events) = (rules(), aggregator());
    events.record(&of("c1", "/x"), &rules, SECOND);
    let mut refused = of("c1", "/x");
    refused.denied = SlotMask::from_bits(1);
    let told = events.record(&refused, &rules, SECOND * 3);
    assert_eq!((told[0].spec.verdict, count(&told[0])), (Verdict::Denied, 2));
    let allowed = of("c1", "/x");
    let turns = [&allowed, &refused].into_iter().cycle().take(100);
    let flapping: usize = turns.map(|turn| events.record(turn, &rules, SECOND * 3).len()).sum();
    assert_eq!(flapping, 0);
}

#[test]
fn a_flood_in_one_container_hides_no_other() {
    let (rules, mut events) = (rules(), aggregator());
    let told: usize = (0..1000).map(|i| events.record(&of("flood", &format!("/{i}")), &rules, SECOND).len()).sum();
    assert_eq!((told, events.len(), events.suppressed()), (11, 11, 0));
    let last = events.flush(SECOND);
    assert_eq!((last[0].spec.path.as_str(), count(&last[0])), ("(other paths)", 990));
    assert_eq!(events.record(&of("other", "/x"), &rules, SECOND).len(), 1);
    let told: usize = (0..1000).map(|i| events.record(&of(&format!("c{i}"), "/x"), &rules, SECOND).len()).sum();
    assert_eq!((told, events.len()), (188, 200));
    assert_eq!(events.suppressed(), 812);
}

#[test]
fn what_is_gone_or_idle_makes_room() {
    let (rules, mut events) = (rules(), aggregator());
    for i in 0..10 {
        events.record(&of("c1", &format!("/{i}")), &rules, SECOND);
    }
    events.record(&of("c1", "/0"), &rules, SECOND * 400);
    let late = SECOND * 602;
    assert_eq!(events.record(&of("c1", "/new"), &rules, late).len(), 1);
    assert_eq!(events.len(), 2, "all that were idle and told are gone");
    assert_eq!(events.forget("c1", late).len(), 1, "the count that was not told yet");
    assert!(events.is_empty());
    for i in 0..10 {
        assert_eq!(events.record(&of("c1", &format!("/{i}")), &rules, late).len(), 1);
    }
}

#[test]
fn the_end_tells_everything() {
    let (rules, mut events) = (rules(), aggregator());
    events.record(&violation(b"/x"), &rules, SECOND);
    events.record(&violation(b"/x"), &rules, SECOND);
    assert_eq!(events.flush(SECOND).iter().map(count).collect::<Vec<_>>(), [2, 2]);
    assert_eq!(events.flush(SECOND), []);
}

proptest! {
    #[test]
    fn every_violation_is_told_or_counted_and_bounds_hold(
        steps in proptest::collection::vec((0_u8..6, 0_u8..20, 1_u64..5, 0_u64..40), 0..200),
    ) {
        let limits = Limits { per_container: 3, per_node: 8, repeat: SECOND * 10, idle: SECOND * 60 };
        let (rules, mut events) = (rules(), Aggregator::new("n".to_owned(), limits));
        let (mut now, mut sent) = (Duration::ZERO, 0);
        // The last told count of each life of an event, which begins when it was first seen.
        let mut lives = BTreeMap::new();
        let mut hear = |told: Vec<DriftEvent>| {
            for event in told {
                let first = event.status.as_ref().unwrap().first_seen.0;
                lives.insert((event.metadata.name.clone().unwrap(), first), count(&event));
            }
        };
        for (second, (container, path, times, wait)) in (1..).zip(steps) {
            now += Duration::from_secs(wait);
            let mut next = of(&format!("c{container}"), &format!("/{path}"));
            (next.count, next.first_seen, next.last_seen) = (times, at(second), at(second));
            sent += times;
            hear(events.record(&next, &rules, now));
            if wait % 4 == 0 {
                hear(events.due(now));
            }
            prop_assert!(events.len() <= 8);
        }
        hear(events.flush(now));
        let told: i64 = lives.values().sum();
        prop_assert_eq!(u64::try_from(told).unwrap() + events.suppressed(), sent);
    }
}
