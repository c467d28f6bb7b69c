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
    /// What objects had counted that were deleted.
    deleted: BTreeMap<EventName, i64>,
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

    fn delete(&mut self, name: &EventName) {
        *self.deleted.entry(name.clone()).or_default() += self.count(name);
        self.objects.remove(name);
    }

    /// What was ever told of an event.
    fn told(&self, name: &EventName) -> i64 {
        self.count(name) + self.deleted.get(name).copied().unwrap_or_default()
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
        // What each event's life has counted, and what it counted in all.
        let mut lives: BTreeMap<usize, (i64, i64)> = BTreeMap::new();
        let mut totals: BTreeMap<usize, i64> = BTreeMap::new();
        let mut answers_lost = false;
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
                Step::AnswersLost => {
                    answers_lost = true;
                    turn(&mut desk, &mut server, now, |_| Outcome::Away);
                }
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
                Step::Deleted { event } => server.delete(&name(event)),
            }
            turn(&mut desk, &mut server, now, |outcome| outcome);
        }
        settle(&mut desk, &mut server, &mut now);
        prop_assert_eq!(desk.untold().lost, 0);
        for (index, total) in totals {
            let told = server.told(&name(index));
            // What was written without the desk's hearing of it, and then deleted, is told once more.
            let again = answers_lost && server.deleted.contains_key(&name(index));
            prop_assert!(told == total || again && told > total, "{index}: {told} of {total}");
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
fn what_retention_deletes_comes_back_late_and_counts_what_is_new() {
    let (mut desk, mut server, mut now) = (Desk::new("node1"), Server::default(), seconds(1));
    let mut count = 0;
    let mut happen = |desk: &mut Desk, server: &mut Server, now: Duration| {
        count += 1;
        desk.take(name(0), event(count, 1));
        turn(desk, server, now, |outcome| outcome);
    };
    happen(&mut desk, &mut server, now);
    // It goes on happening, and whatever is made is deleted at once, for a day.
    for _ in 0..24 * 60 {
        server.delete(&name(0));
        now += seconds(60);
        happen(&mut desk, &mut server, now);
    }
    // 10, 20, … minutes, and then every 6 hours.
    assert!((6..=10).contains(&server.creates.len()), "{:?}", server.creates);
    assert!(server.updates.len() <= server.creates.len());
    for (one, next) in server.creates.iter().zip(&server.creates[1..]) {
        assert!(next.saturating_sub(*one) >= HELD_BACK);
    }
    // The agent's end is the last chance to tell it.
    desk.end();
    turn(&mut desk, &mut server, now, |outcome| outcome);
    assert_eq!((server.told(&name(0)), desk.untold().lost), (1 + 24 * 60, 0));
}

#[test]
fn where_the_breaker_is_open_violations_are_numbers_and_the_api_server_is_asked_seldom() {
    let (mut desk, mut server, mut now) = (Desk::new("node1"), Server::default(), seconds(1));
    let other = ("other".to_owned(), "event".to_owned());
    desk.take(name(0), event(5, 1));
    turn(&mut desk, &mut server, now, |outcome| outcome);
    // Another name each second for half an hour, and one event in a namespace that is not refused.
    let mut asked = Vec::new();
    for index in 1..=1800 {
        now += seconds(1);
        desk.take(name(index), event(2, i64::try_from(index).unwrap()));
        desk.take(other.clone(), event(i64::try_from(index).unwrap(), 1));
        while let Some((name, job)) = desk.next(now) {
            let refused = matches!(job, Job::Create(_)) && name.0 == "payments";
            let outcome = if refused { Outcome::BreakerOpen } else { server.perform(&name, &job, now) };
            asked.extend(refused.then_some(now));
            desk.done(&name, &job, outcome, now);
        }
        assert_eq!(desk.open(now).collect::<Vec<_>>(), ["payments"]);
    }
    assert!((6..=9).contains(&asked.len()), "{asked:?}");
    assert_eq!(desk.untold(), Untold { lost: 0, suppressed: 3600 });
    assert!(server.count(&other) > 1700);
    // What has an object is counted there.
    desk.take(name(0), event(9, 1));
    now += seconds(10);
    turn(&mut desk, &mut server, now, |outcome| outcome);
    assert_eq!(server.count(&name(0)), 9);
    // Nobody else comes: what is known of it ends all the same, and a new try is taken.
    let end = desk.next_due(now).unwrap();
    assert_eq!(desk.open(end).count(), 0);
    desk.take(name(1), event(6, 1));
    turn(&mut desk, &mut server, end, |outcome| outcome);
    assert_eq!((server.count(&name(1)), desk.open.len()), (4, 0), "what was counted is not told again");
}

#[test]
fn what_expired_comes_back_at_once() {
    let (mut desk, mut server, now) = (Desk::new("node1"), Server::default(), seconds(1));
    desk.take(name(0), event(5, 1));
    turn(&mut desk, &mut server, now, |outcome| outcome);
    server.delete(&name(0));
    desk.take(name(0), event(7, 1));
    turn(&mut desk, &mut server, now + seconds(24 * 3600), |outcome| outcome);
    assert_eq!(server.count(&name(0)), 2);
    let status = server.objects[&name(0)].status.as_ref().unwrap();
    assert!(status.first_seen.0 > at(1), "what was told already has its own beginning");
}

#[test]
fn a_clock_that_is_set_back_makes_no_end_before_a_beginning() {
    let (mut desk, mut server, now) = (Desk::new("node1"), Server::default(), seconds(1));
    desk.take(name(0), event(5, 100_000));
    turn(&mut desk, &mut server, now, |outcome| outcome);
    desk.take(name(0), event(2, 10));
    turn(&mut desk, &mut server, now, |outcome| outcome);
    let status = server.objects[&name(0)].status.as_ref().unwrap();
    assert_eq!(status.count, 7);
    assert!(status.first_seen.0 <= status.last_seen.0);
}

#[test]
fn what_is_refused_is_counted_and_does_not_hold_up_the_rest() {
    let (mut desk, mut server, now) = (Desk::new("node1"), Server::default(), seconds(1));
    desk.take(name(0), event(5, 1));
    desk.take(name(1), event(1, 2));
    let (refused, job) = desk.next(now).unwrap();
    desk.done(&refused, &job, Outcome::Refused, now);
    turn(&mut desk, &mut server, now, |outcome| outcome);
    assert_eq!((desk.untold().lost, server.count(&name(0)), server.count(&name(1))), (5, 0, 1));
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
    assert_eq!((tries, desk.untold().lost), (TRIES, 3));
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
fn what_was_refused_is_not_told_twice() {
    let (mut desk, mut server, now) = (Desk::new("node1"), Server::default(), seconds(1));
    desk.take(name(0), event(5, 1));
    let (refused, job) = desk.next(now).unwrap();
    desk.done(&refused, &job, Outcome::Refused, now);
    desk.take(name(0), event(8, 1));
    turn(&mut desk, &mut server, now, |outcome| outcome);
    assert_eq!((desk.untold().lost, server.count(&name(0))), (5, 3));
}

#[test]
fn memory_is_bounded_while_the_api_server_is_away() {
    let mut desk = Desk::new("node1");
    for index in 0..5000 {
        desk.take(name(index), event(2, i64::try_from(index).unwrap()));
    }
    assert!(desk.waiting.len() <= WAITING_MAX && desk.objects.len() <= REMEMBERED_MAX + WAITING_MAX);
    assert_eq!(desk.untold().lost, (5000 - u64::try_from(WAITING_MAX).unwrap()) * 2);
}
