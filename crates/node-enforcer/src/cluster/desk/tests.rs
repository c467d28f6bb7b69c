use std::collections::BTreeMap;

use mooring_crd::{DriftEvent, Verdict};
use proptest::prelude::*;

use super::*;
use crate::report::events_of;
use crate::report::tests::{at, rules, violation};

fn name(index: usize) -> EventName {
    ("payments".to_owned(), format!("event-{index}"))
}

fn event(count: i64, life: i64) -> DriftEvent {
    let (_, mut event) = events_of(&violation(b"/tmp/x"), &rules(), "node1").remove(0);
    let status = event.status.as_mut().unwrap();
    status.count = count;
    status.first_seen = MicroTime(at(life));
    status.last_seen = MicroTime(at(life + 1000));
    event
}

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// What an API server keeps.
#[derive(Default)]
struct Server {
    objects: BTreeMap<EventName, DriftEvent>,
    creates: Vec<Duration>,
    updates: Vec<Duration>,
}

impl Server {
    fn perform(&mut self, name: &EventName, job: &Job, now: Duration) -> Outcome {
        let there = self.objects.get(name);
        match (job, there) {
            (Job::Create(_), Some(there)) => {
                self.creates.push(now);
                let status = there.status.as_ref().unwrap();
                Outcome::Exists { count: status.count, first_seen: status.first_seen.clone() }
            }
            (Job::Create(event), None) => {
                self.creates.push(now);
                self.objects.insert(name.clone(), (**event).clone());
                Outcome::Done
            }
            (Job::Update(_), None) => {
                self.updates.push(now);
                Outcome::Gone
            }
            (Job::Update(event), Some(there)) => {
                self.updates.push(now);
                assert!(event.status.as_ref().unwrap().count >= there.status.as_ref().unwrap().count, "it falls");
                self.objects.insert(name.clone(), (**event).clone());
                Outcome::Done
            }
        }
    }

    fn count(&self, name: &EventName) -> i64 {
        self.objects.get(name).map_or(0, |event| event.status.as_ref().unwrap().count)
    }
}

/// Everything that may be written by `now`.
fn turn(desk: &mut Desk, server: &mut Server, now: Duration, answer: impl Fn(Outcome) -> Outcome) {
    while let Some((name, job)) = desk.next(now) {
        let outcome = answer(server.perform(&name, &job, now));
        desk.done(&name, &job, outcome, now);
    }
}

/// Until nothing waits.
fn settle(desk: &mut Desk, server: &mut Server, now: &mut Duration) {
    while let Some(due) = desk.next_due(*now) {
        *now = due.max(*now);
        turn(desk, server, *now, |outcome| outcome);
    }
}

#[derive(Debug, Clone)]
enum Step {
    Happens {
        event: usize,
        times: i64,
    },
    /// The aggregator forgets it.
    Forgotten {
        event: usize,
    },
    Passes {
        seconds: u64,
    },
    /// The API server does as asked, and its answer is lost.
    AnswersLost,
    Away,
    /// Everything is written, and another agent begins.
    Restart,
    /// Retention takes it away.
    Deleted {
        event: usize,
    },
}

fn step() -> impl Strategy<Value = Step> {
    let event = 0..40_usize;
    prop_oneof![
        8 => (event.clone(), 1..1000_i64).prop_map(|(event, times)| Step::Happens { event, times }),
        2 => event.clone().prop_map(|event| Step::Forgotten { event }),
        4 => (1..60_u64).prop_map(|seconds| Step::Passes { seconds }),
        1 => Just(Step::AnswersLost),
        1 => Just(Step::Away),
        1 => Just(Step::Restart),
        1 => event.prop_map(|event| Step::Deleted { event }),
    ]
}

proptest! {
    #[test]
    fn counts_are_exact_and_writes_are_bounded(steps in prop::collection::vec(step(), 1..120)) {
        let (mut desk, mut server, mut now) = (Desk::new("node1"), Server::default(), seconds(1));
        // What each event's life has counted, and what it counted in all; after a deletion at least what has not been written.
        let mut lives: BTreeMap<usize, (i64, i64)> = BTreeMap::new();
        let mut totals: BTreeMap<usize, i64> = BTreeMap::new();
        let mut deleted = std::collections::BTreeSet::new();
        let mut next_life = 0;
        for step in steps {
            match step {
                Step::Happens { event: index, times } => {
                    let (life, count) = lives.entry(index).or_insert_with(|| {
                        next_life += 1;
                        (next_life, 0)
                    });
                    *count += times;
                    *totals.entry(index).or_default() += times;
                    desk.take(name(index), event(*count, *life));
                }
                Step::Forgotten { event } => {
                    lives.remove(&event);
                }
                Step::Passes { seconds: more } => now += seconds(more),
                Step::AnswersLost => turn(&mut desk, &mut server, now, |_| Outcome::Away),
                Step::Away => {
                    if let Some((name, job)) = desk.next(now) {
                        desk.done(&name, &job, Outcome::Away, now);
                    }
                }
                Step::Restart => {
                    settle(&mut desk, &mut server, &mut now);
                    now += seconds(3600);
                    desk = Desk::new("node1");
                    lives.clear();
                }
                Step::Deleted { event } => {
                    server.objects.remove(&name(event));
                    deleted.insert(event);
                }
            }
            turn(&mut desk, &mut server, now, |outcome| outcome);
        }
        settle(&mut desk, &mut server, &mut now);
        prop_assert_eq!(desk.lost(), 0);
        for (index, total) in totals {
            let count = server.count(&name(index));
            prop_assert!(count == total || deleted.contains(&index) && count <= total, "{index}: {count} of {total}");
        }
        for (times, every, burst) in [(&server.creates, 1, 20), (&server.updates, 5, 20)] {
            for (begin, first) in times.iter().enumerate() {
                for (end, last) in times.iter().enumerate().skip(begin) {
                    let most = burst + last.saturating_sub(*first).as_secs() / every;
                    prop_assert!(u64::try_from(end - begin + 1).unwrap() <= most);
                }
            }
        }
    }
}

#[test]
fn what_is_refused_is_counted_and_does_not_hold_up_the_rest() {
    let (mut desk, mut server, now) = (Desk::new("node1"), Server::default(), seconds(1));
    desk.take(name(0), event(5, 1));
    desk.take(name(1), event(1, 2));
    let (refused, job) = desk.next(now).unwrap();
    desk.done(&refused, &job, Outcome::Refused, now);
    turn(&mut desk, &mut server, now, |outcome| outcome);
    assert_eq!((desk.lost(), server.count(&name(0)), server.count(&name(1))), (5, 0, 1));
    assert_eq!(desk.next_due(now), None);
}

#[test]
fn what_is_refused_for_now_is_tried_some_times_and_then_given_up() {
    let (mut desk, mut now, mut tries) = (Desk::new("node1"), seconds(1), 0);
    desk.take(name(0), event(3, 1));
    while let Some(due) = desk.next_due(now) {
        now = due;
        let (name, job) = desk.next(now).unwrap();
        desk.done(&name, &job, Outcome::NotNow, now);
        tries += 1;
    }
    assert_eq!((tries, desk.lost()), (TRIES, 3));
}

#[test]
fn a_new_verdict_is_written_too() {
    let (mut desk, mut server, now) = (Desk::new("node1"), Server::default(), seconds(1));
    desk.take(name(0), event(1, 1));
    let (taken, job) = desk.next(now).unwrap();
    let outcome = server.perform(&taken, &job, now);
    // While it is being written.
    let mut changed = event(1, 1);
    changed.spec.verdict = Verdict::Detected;
    desk.take(name(0), changed);
    desk.done(&taken, &job, outcome, now);
    turn(&mut desk, &mut server, now, |outcome| outcome);
    assert_eq!(server.objects.get(&name(0)).unwrap().spec.verdict, Verdict::Detected);
}

#[test]
fn memory_is_bounded_while_the_api_server_is_away() {
    let mut desk = Desk::new("node1");
    for index in 0..5000 {
        desk.take(name(index), event(2, i64::try_from(index).unwrap()));
    }
    assert!(desk.waiting.len() <= WAITING_MAX && desk.objects.len() <= REMEMBERED_MAX + WAITING_MAX);
    assert_eq!(desk.lost(), (5000 - u64::try_from(WAITING_MAX).unwrap()) * 2);
}
