//! What several policies do to a container together, and what switches hold back.
#![allow(missing_docs, unreachable_pub, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::time::Duration;

use mooring_crd::{ContainerAction, ContainerDriftPolicy, Switch};
use mooring_policy::{Class, NodeDefaults, RuleSet, SlotMask, Switches, Use, compile};
use serde_json::{Value, json};

fn rules(specs: &[Value]) -> RuleSet {
    let policies: Vec<ContainerDriftPolicy> = specs
        .iter()
        .enumerate()
        .map(|(n, spec)| ContainerDriftPolicy::new(&format!("p{n}"), serde_json::from_value(spec.clone()).unwrap()))
        .collect();
    let compiled = compile(&policies, NodeDefaults::default());
    assert_eq!(compiled.refused, []);
    compiled.rules
}

fn actions(value: &Value) -> Value {
    json!({"actions": value})
}

const ALL: SlotMask = SlotMask::from_bits(u64::MAX);

#[test]
fn the_strongest_action_of_those_that_are_violated_counts() {
    let rules = rules(&[
        actions(&json!({})),
        actions(&json!({"container": "Pause", "pauseTimeout": "30s"})),
        actions(&json!({"container": "Pause", "pauseTimeout": "2m"})),
        actions(&json!({"container": "Stop"})),
        actions(&json!({"container": "Kill"})),
    ]);
    for (violated, action, pause) in [
        (0b0_0001, ContainerAction::None, 0),
        (0b0_0011, ContainerAction::Pause, 30),
        (0b0_0111, ContainerAction::Pause, 120),
        (0b0_1010, ContainerAction::Stop, 30),
        (0b1_1111, ContainerAction::Kill, 120),
    ] {
        let response = rules.response(SlotMask::from_bits(violated));
        assert_eq!((response.action, response.pause), (action, Duration::from_secs(pause)), "{violated:b}");
    }
    assert_eq!(rules.acting(), SlotMask::from_bits(0b1_1110));
}

#[test]
fn prevention_that_is_held_back_refuses_nothing_and_is_told_of() {
    let written = rules(&[actions(&json!({"prevent": true})), actions(&json!({}))]);
    assert_eq!(Switches::default().apply(written.clone()), written);
    assert!(written.held_back().is_empty());
    let switches = Switches { ignore_actions: true, ..Switches::default() };
    let held = switches.apply(written.clone());
    assert!(held.prevents().is_empty());
    assert_eq!(held.held_back(), SlotMask::from_bits(1));
    let detects = |rules: &RuleSet| rules.detects(Use::Execute, Class::NewBinary) & ALL;
    assert_eq!(detects(&held), detects(&written), "what violates a policy is still told");
}

#[test]
fn volumes_are_denied_where_a_policy_leaves_it_to_the_node() {
    let written = rules(&[
        json!({}),
        json!({"detect": {"volumeBinaries": false}}),
        json!({"detect": {"driftedLibraries": false}}),
    ]);
    let switches = Switches { deny_execution_from_volumes: true, ..Switches::default() };
    let changed = switches.apply(written.clone());
    let of = |rules: &RuleSet, usage| rules.detects(usage, Class::VolumeBinary).bits();
    assert_eq!([of(&written, Use::Execute), of(&written, Use::Map)], [0, 0]);
    assert_eq!([of(&changed, Use::Execute), of(&changed, Use::Map)], [0b101, 0b001]);
    assert!(changed.defaults().volume_binaries && changed.policies()[0].volume_binaries);
    assert_eq!(switches.on().collect::<Vec<_>>(), [Switch::DenyExecutionFromVolumes]);
}
