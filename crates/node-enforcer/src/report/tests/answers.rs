use std::time::Duration;

use mooring_crd::{
    ActionResult, ContainerAction, ContainerActionOutcome, DriftEvent, HeldBack, HeldBackAction, Kind, Switch,
    policy_from_value, validate,
};
use mooring_policy::{NodeDefaults, RuleSet, SlotMask, Switches, compile};
use serde_json::json;

use super::violation;
use crate::report::{Aggregator, Limits, Violation, events_of, write_text};
use crate::response::Answer;

/// The first kills, the second prevents and does nothing to the container.
fn rules() -> RuleSet {
    let policy = |name: &str, actions: serde_json::Value| {
        policy_from_value(json!({"apiVersion": "mooring.dev/v1alpha1", "kind": "ContainerDriftPolicy", "metadata": {"name": name}, "spec": {"actions": actions}})).unwrap()
    };
    let policies = [policy("a", json!({"container": "Kill"})), policy("b", json!({"prevent": true}))];
    compile(&policies, NodeDefaults::default()).rules
}

fn outcome(result: ActionResult) -> ContainerActionOutcome {
    ContainerActionOutcome {
        action: ContainerAction::Kill,
        result,
        outcome: "every process was killed".to_owned(),
        duration_milliseconds: Some(12),
    }
}

fn answered(result: ActionResult, by: Option<Switch>) -> Violation {
    let mut violation = violation(b"/tmp/x");
    (violation.drift, violation.denied) = (SlotMask::from_bits(3), SlotMask::EMPTY);
    violation.answer = Some(Answer { outcome: outcome(result), by });
    violation
}

fn statuses(events: &[DriftEvent]) -> Vec<(Option<ActionResult>, Vec<HeldBack>)> {
    let of = |event: &DriftEvent| {
        assert_eq!(validate(Kind::DriftEvent, &mut serde_json::to_value(event).unwrap()), Ok(()));
        let status = event.status.clone().unwrap();
        (status.container_action.map(|done| done.result), status.held_back)
    };
    events.iter().map(of).collect()
}

#[test]
fn an_outcome_is_in_the_events_of_policies_that_asked_for_it() {
    let events = events_of(&answered(ActionResult::Done, None), &rules(), "node1");
    let events: Vec<DriftEvent> = events.into_iter().map(|(_, event)| event).collect();
    assert_eq!(statuses(&events), [(Some(ActionResult::Done), vec![]), (None, vec![])]);
    let mut line = Vec::new();
    write_text(&mut line, &events[0]).unwrap();
    let line = String::from_utf8(line).unwrap();
    assert!(line.contains(" action=Kill:Done took=12ms outcome=\"every process was killed\" "), "{line}");
}

#[test]
fn what_was_held_back_is_in_the_event_of_whoever_asked_for_it() {
    let switches = Switches { ignore_actions: true, ..Switches::default() };
    let rules = switches.apply(rules());
    let events = events_of(&answered(ActionResult::HeldBack, Some(Switch::IgnoreActions)), &rules, "node1");
    let events: Vec<DriftEvent> = events.into_iter().map(|(_, event)| event).collect();
    let by = |what| vec![HeldBack { what, by: Switch::IgnoreActions }];
    assert_eq!(
        statuses(&events),
        [(Some(ActionResult::HeldBack), by(HeldBackAction::Kill)), (None, by(HeldBackAction::Prevent))]
    );
}

#[test]
fn another_outcome_is_told_at_once_in_the_events_that_say_one() {
    let (rules, second) = (rules(), Duration::from_secs(1));
    let mut events = Aggregator::new("node1".to_owned(), Limits::default());
    let told = events.record(&answered(ActionResult::UnderWay, None), &rules, second);
    assert_eq!(told.len(), 2);
    let told = events.acted("c1", &outcome(ActionResult::Done), second).unwrap();
    assert_eq!(statuses(&told), [(Some(ActionResult::Done), vec![])]);
    assert_eq!(events.acted("c1", &outcome(ActionResult::Done), second), Some(vec![]), "that is told");
    assert_eq!(events.acted("c2", &outcome(ActionResult::Done), second), None, "an earlier agent's");
    // A violation that brings another outcome is told at once, too.
    let told = events.record(&answered(ActionResult::Failed, None), &rules, second * 3);
    assert_eq!(statuses(&told), [(Some(ActionResult::Failed), vec![])]);
}
