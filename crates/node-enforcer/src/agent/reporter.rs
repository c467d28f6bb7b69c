//! From the kernel's records to events. Nothing here changes a verdict.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use mooring_crd::{ActionResult, ContainerAction, DriftEvent, HeldBackAction, OTHER_PATHS};
use mooring_policy::{Class, RuleSet, SlotMask, Use};

use super::facts::Facts;
use super::floods::{Counted, Floods, LOOKS};
use super::roster::Roster;
use super::sink::Sink;
use crate::containers::Container;
use crate::kernel::{Counters, Kernel, KernelError, Record};
use crate::report::{Aggregator, Quoted, Timestamp, Violation};
use crate::response::{Answer, Responder, since_start};

/// How often counts are taken out of the kernel while there are any.
const DRAIN: Duration = Duration::from_secs(1);
/// The same at the end: longer than a program runs that began to count before the tables changed turns.
const LAST_DRAIN: Duration = Duration::from_millis(20);
/// How often it is said that something was left out.
const LEFT_OUT: Duration = Duration::from_secs(10);
/// Rule sets kept for records that were decided by an earlier one.
const GENERATIONS_MAX: usize = 4;
/// Reports that wait for their container to be resolved.
const WAITING_MAX: usize = 1024;

/// What became of violations without an event of their own.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct LeftOut {
    kernel: Counters,
    /// Refused by a listener, which could not tell of them.
    elsewhere: u64,
    /// Beyond the events that the node may have.
    suppressed: u64,
    /// Their container was not found out.
    without_container: u64,
}

/// Everything between the ring buffer and the sink.
pub(super) struct Reporter {
    sink: Box<dyn Sink>,
    aggregator: Aggregator,
    floods: Floods,
    generations: VecDeque<(u64, Arc<RuleSet>)>,
    waiting: Vec<Counted>,
    epoch: Instant,
    drained: Instant,
    /// By the names of policies in force.
    violations: BTreeMap<String, u64>,
    left_out: LeftOut,
    told: (LeftOut, Option<Instant>),
    /// The programs kill what they cannot refuse.
    kills: bool,
    responder: Responder,
    /// Ids of containers that are paused, as the sink knows them.
    paused: BTreeSet<String>,
}

impl Reporter {
    /// Tells no more.
    pub(super) fn into_sink(self) -> Box<dyn Sink> {
        self.sink
    }

    pub(super) fn new(node: String, sink: Box<dyn Sink>, kills: bool, responder: Responder) -> Self {
        Self {
            aggregator: Aggregator::new(node, sink.limits()),
            sink,
            floods: Floods::new(),
            generations: VecDeque::new(),
            waiting: Vec::new(),
            epoch: Instant::now(),
            drained: Instant::now(),
            violations: BTreeMap::new(),
            left_out: LeftOut::default(),
            told: (LeftOut::default(), None),
            kills,
            responder,
            paused: BTreeSet::new(),
        }
    }

    /// What acts on containers.
    pub(super) fn responder(&mut self) -> &mut Responder {
        &mut self.responder
    }

    /// Goes on with what was begun, and tells what has become of it.
    pub(super) fn respond(&mut self) {
        self.responder.turn(since_start());
        self.tell_outcomes();
    }

    /// In how many milliseconds [`Reporter::respond`] has something to do.
    pub(super) fn next_response(&self) -> Option<u16> {
        let now = since_start();
        let pause = self.responder.next_due(now)?.saturating_sub(now);
        u16::try_from(pause.as_millis() + 1).ok()
    }

    fn tell_outcomes(&mut self) {
        for told in self.responder.take_told() {
            let events = self.aggregator.acted(&told.container.id, &told.outcome, self.epoch.elapsed());
            let is_told = events.is_some();
            self.sink.take(events.unwrap_or_default());
            self.sink.acted(&told, is_told);
        }
        let paused: BTreeSet<String> = self.responder.paused().map(|container| container.id.clone()).collect();
        if paused != self.paused {
            self.sink.paused(self.responder.paused().cloned().collect());
            self.paused = paused;
        }
    }

    /// These rules decide from now on.
    pub(super) fn rules_in_force(&mut self, generation: u64, rules: Arc<RuleSet>) {
        self.violations.retain(|name, _| rules.policies().iter().any(|policy| policy.name == *name));
        self.generations.push_back((generation, rules));
        if self.generations.len() > GENERATIONS_MAX {
            self.generations.pop_front();
        }
    }

    /// A first report of its kind.
    pub(super) fn reported(&mut self, record: Record, roster: &Roster) {
        let counted = self.floods.reported(record);
        self.tell(counted, roster);
    }

    /// What waited for a container may be told now.
    pub(super) fn resolved(&mut self, roster: &Roster) {
        for counted in std::mem::take(&mut self.waiting) {
            self.tell(counted, roster);
        }
    }

    /// Nobody will ever know whose these were.
    pub(super) fn not_a_container(&mut self, cgroup: u64) {
        let (lost, waiting) = std::mem::take(&mut self.waiting)
            .into_iter()
            .partition::<Vec<_>, _>(|counted| counted.record.key.container == cgroup);
        self.waiting = waiting;
        self.left_out.without_container += lost.iter().map(|counted| counted.count).sum::<u64>();
        for counted in lost {
            let path = String::from_utf8_lossy(&counted.record.path).into_owned();
            eprintln!(
                "cgroup {cgroup}: {path:?} was judged by every policy before it was known that no runtime knows the cgroup"
            );
        }
    }

    /// What was refused elsewhere than in the kernel's programs, so many times.
    pub(super) fn refused(&mut self, record: Record, count: u64, roster: &Roster) {
        self.tell(Counted { record, count }, roster);
    }

    /// So many of those were lost, in all.
    pub(super) fn lost_elsewhere(&mut self, count: u64) {
        self.left_out.elsewhere = count;
    }

    /// A container is gone: its last counts are told.
    pub(super) fn forget(&mut self, container: &Container) {
        self.responder.released(container.cgroup_id, since_start());
        self.tell_outcomes();
        let last = self.aggregator.forget(&container.id, self.epoch.elapsed());
        self.sink.take(last);
    }

    /// Adds what became of violations.
    pub(super) fn add_to(&self, facts: &mut Facts) {
        facts.add_violations(&self.violations);
        let lost = self.left_out.kernel.lost_reports.saturating_add(self.left_out.elsewhere);
        facts.lost = lost.saturating_add(self.left_out.without_container);
        facts.suppressed = self.left_out.suppressed;
    }

    /// Tells what the node does.
    pub(super) fn tell_state(&mut self, facts: &Facts) {
        self.sink.state(facts);
    }

    /// Takes the kernel's counts when they are due, and tells what is due.
    ///
    /// # Errors
    /// When the kernel's table cannot be read; the counts stay there.
    pub(super) fn turn(&mut self, kernel: &Kernel, roster: &Roster, ends: bool) -> Result<(), KernelError> {
        if ends {
            // What goes on being refused is left to the next agent: the tables are pinned.
            for _ in 0..=LOOKS {
                self.drain(kernel, roster)?;
                thread::sleep(LAST_DRAIN);
            }
        } else if self.floods.is_pending() && self.drained.elapsed() >= DRAIN {
            self.drain(kernel, roster)?;
        }
        let now = self.epoch.elapsed();
        let due = if ends { self.aggregator.flush(now) } else { self.aggregator.due(now) };
        self.sink.take(due);
        self.say_what_was_left_out(ends);
        Ok(())
    }

    fn drain(&mut self, kernel: &Kernel, roster: &Roster) -> Result<(), KernelError> {
        for counted in self.floods.drain(kernel)? {
            self.tell(counted, roster);
        }
        self.left_out.kernel = kernel.counters()?;
        self.drained = Instant::now();
        Ok(())
    }

    /// Whether [`Reporter::turn`] has something to do soon.
    pub(super) fn is_pending(&self) -> bool {
        self.floods.is_pending() || self.aggregator.next_due().is_some() || self.left_out != self.told.0
    }

    fn say_what_was_left_out(&mut self, ends: bool) {
        self.left_out.suppressed = self.aggregator.suppressed();
        let (told, when) = self.told;
        if self.left_out == told || (!ends && when.is_some_and(|when| when.elapsed() < LEFT_OUT)) {
            return;
        }
        let LeftOut { kernel, elsewhere, suppressed, without_container } = self.left_out;
        eprintln!(
            "left out of the events so far: {suppressed} violations beyond the events that a node may have, \
             {without_container} without a container; since the programs were loaded: \
             {} reports lost, {} cgroup reports lost, {} names not resolved, {} containers without room",
            kernel.lost_reports + elsewhere,
            kernel.lost_lifecycle,
            kernel.unresolved_names,
            kernel.containers_full
        );
        self.told = (self.left_out, Some(Instant::now()));
    }

    fn tell(&mut self, counted: Counted, roster: &Roster) {
        let key = counted.record.key;
        let Some(known) = roster.get(key.container) else {
            if self.waiting.len() < WAITING_MAX {
                self.waiting.push(counted);
            } else {
                self.left_out.without_container += counted.count;
            }
            return;
        };
        let Some(newest) = self.generations.back().map(|(_, rules)| Arc::clone(rules)) else { return };
        let rules = judged_by(&self.generations, key.generation).map_or_else(|| Arc::clone(&newest), Arc::clone);
        let mut record = counted.record;
        // A lost one does not say.
        record.killed |= record.denied.is_none() && self.kills;
        let Some(mut violation) = violation_of(&known.container, record, counted.count, &rules) else { return };
        let violating = violation.judgement().violating;
        // First: each moment that it is told sooner is one that the container has longer.
        let violated = in_newest(&self.generations, key.generation, violating);
        let asked = newest.response(violated & known.certain);
        let possible = newest.response(violated).action;
        let answer = self.responder.violated(&known.container, asked, known.stop_signal, since_start());
        violation.answer = answer.or_else(|| (possible != ContainerAction::None).then(|| Answer::not_yet(possible)));
        for policy in violating.slots().filter_map(|slot| rules.policy(slot)) {
            let count = self.violations.entry(policy.name.clone()).or_default();
            *count = count.saturating_add(violation.count.max(1));
        }
        let events = self.aggregator.record(&violation, &rules, self.epoch.elapsed());
        events.iter().for_each(say_held_back);
        self.sink.take(events);
        self.tell_outcomes();
    }
}

fn judged_by(generations: &VecDeque<(u64, Arc<RuleSet>)>, generation: u64) -> Option<&Arc<RuleSet>> {
    generations.iter().find(|(known, _)| *known == generation).map(|(_, rules)| rules)
}

/// The slots that violated policies have in the newest rules, from those that they had in the rules of `generation`. None of rules that are
/// not known: their slots may have been any policies'.
fn in_newest(generations: &VecDeque<(u64, Arc<RuleSet>)>, generation: u64, violating: SlotMask) -> SlotMask {
    let (Some(then), Some((_, now))) = (judged_by(generations, generation), generations.back()) else {
        return SlotMask::default();
    };
    let policies = violating.slots().filter_map(|slot| then.policy(slot));
    let names: BTreeSet<&str> = policies.map(|policy| policy.name.as_str()).collect();
    now.policies().iter().filter(|policy| names.contains(policy.name.as_str())).map(|policy| policy.slot).collect()
}

/// Each thing that was not done, with what, why and which switch; as often as its event is told anew.
fn say_held_back(event: &DriftEvent) {
    let Some(status) = &event.status else { return };
    let (spec, path) = (&event.spec, Quoted(event.spec.path.as_bytes()));
    let place = || format!("{} in container {} ({}), policy {}", path, spec.container, spec.container_id, spec.policy);
    for held in &status.held_back {
        eprintln!("held back: {} for {}: {} is set in the agent's configuration", held.what, place(), held.by);
    }
    // Its own container is held back by no switch.
    let own = status.container_action.as_ref().filter(|done| done.result == ActionResult::HeldBack);
    if let Some(done) = own.filter(|_| !status.held_back.iter().any(|held| held.what != HeldBackAction::Prevent)) {
        eprintln!("held back: {} for {}: {}", done.action, place(), done.outcome);
    }
}

/// A violation, from the kernel's record of its first time and how often it happened. `rules` are those that it was judged by; None when
/// the record says what no kernel part of this version writes.
#[must_use]
pub fn violation_of(container: &Arc<Container>, record: Record, count: u64, rules: &RuleSet) -> Option<Violation> {
    let violating = SlotMask::from_bits(record.key.violating());
    let now = Timestamp::now();
    Some(Violation {
        container: Arc::clone(container),
        first_seen: now,
        last_seen: now,
        count,
        drift: SlotMask::from_bits(record.key.drift),
        prohibited: SlotMask::from_bits(record.key.prohibited),
        prohibited_process: SlotMask::from_bits(record.key.prohibited_process),
        denied: record.denied.map_or(violating & rules.prevents(), SlotMask::from_bits),
        killed: record.killed,
        class: *Class::ALL.get(usize::from(record.key.class))?,
        usage: *Use::ALL.get(usize::from(record.key.usage))?,
        path: if record.denied.is_some() { record.path } else { OTHER_PATHS.into() },
        lower_path: record.lower_path.unwrap_or_default(),
        invoked: record.invoked.unwrap_or_default(),
        pid: record.pid,
        parent_pid: record.parent_pid,
        uid: record.uid,
        comm: record.comm,
        parent_comm: record.parent_comm,
        argv: record.arguments,
        answer: None,
    })
}

#[cfg(test)]
mod tests {
    use mooring_crd::ContainerDriftPolicy;
    use mooring_policy::{NodeDefaults, compile};
    use serde_json::json;

    use super::*;

    fn rules(names: &[&str]) -> RuleSet {
        let policy = |name: &&str| ContainerDriftPolicy::new(name, serde_json::from_value(json!({})).unwrap());
        compile(&names.iter().map(policy).collect::<Vec<_>>(), NodeDefaults::default()).rules
    }

    fn names(rules: &RuleSet, slots: SlotMask) -> Vec<&str> {
        slots.slots().filter_map(|slot| rules.policy(slot)).map(|policy| policy.name.as_str()).collect()
    }

    #[test]
    fn nothing_is_done_for_a_policy_that_took_anothers_slot() {
        let (then, now) = (rules(&["a", "b", "c"]), rules(&["b", "c", "d"]));
        let generations = VecDeque::from([(7, Arc::new(then.clone())), (8, Arc::new(now.clone()))]);
        let violated = SlotMask::from_bits(0b011);
        assert_eq!(names(&then, violated), ["a", "b"]);
        assert_eq!(names(&now, in_newest(&generations, 7, violated)), ["b"]);
        assert_eq!(names(&now, in_newest(&generations, 8, violated)), ["b", "c"]);
        assert_eq!(in_newest(&generations, 6, violated), SlotMask::default(), "a predecessor's rules");
    }
}
