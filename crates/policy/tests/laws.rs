//! The laws of policies that meet on one container, on generated cases.
#![allow(missing_docs, unreachable_pub, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::cell::RefCell;
use std::collections::{BTreeSet, HashMap};

use common::{Seen, Tried, policies, policy, spec, tried};
use mooring_crd::{ContainerAction, ContainerDriftPolicy, ContainerDriftPolicySpec, Reason, policy_from_value};
use mooring_policy::{
    Automaton, Class, Compiled, Judgement, ListEntry, ListPath, Name, NodeDefaults, NodePolicy, PathMasks, Pattern,
    Slot, SlotMask, Use, compile, judge, strongest,
};
use proptest::prelude::*;

fn compiled(policies: &[ContainerDriftPolicy], volume_binaries: bool) -> Compiled {
    let compiled = compile(policies, NodeDefaults { volume_binaries });
    assert_eq!(compiled.refused, []);
    compiled
}

/// Whether an entry of a list means a path, written as the documentation has it: by a regular expression.
fn means(entry: &str, path: &[u8]) -> bool {
    thread_local! {
        static COMPILED: RefCell<HashMap<String, regex_lite::Regex>> = RefCell::default();
    }
    if !entry.contains('*') {
        return entry.as_bytes() == path;
    }
    let path = std::str::from_utf8(path).unwrap();
    COMPILED.with_borrow_mut(|compiled| {
        compiled
            .entry(entry.to_owned())
            .or_insert_with(|| regex_lite::Regex::new(&expression(entry)).unwrap())
            .is_match(path)
    })
}

fn expression(entry: &str) -> String {
    let component = |component: &str| {
        if component == "**" {
            return "(?:/[^/]*)*".to_owned();
        }
        format!("/{}", component.split('*').map(regex_lite::escape).collect::<Vec<_>>().join("[^/]*"))
    };
    let components: String = entry.split('/').skip(1).map(component).collect();
    // One or more at the end.
    format!("(?s)^{components}$").replace("(?:/[^/]*)*$", "(?:/[^/]*)+$")
}

/// What one policy makes of an attempt, written from the API's documentation and not from the code: whether it is
/// drift, whether it is prohibited, and whether it is prohibited to the program that executes it.
fn oracle(spec: &ContainerDriftPolicySpec, node_volumes: bool, tried: &Tried) -> (bool, bool, bool) {
    let [path, lower, invoked, alias] = tried.attempt_names();
    let path = if tried.class == Class::ForeignMount { Name::None } else { path };
    let detect = &spec.detect;
    let on_volumes = match detect.volume_binaries {
        Some(own) => own,
        None => node_volumes,
    };
    let watched = if tried.class == Class::Image {
        false
    } else if tried.usage == Use::Execute {
        if tried.class == Class::VolumeBinary { on_volumes } else { detect.drifted_binaries }
    } else if tried.class == Class::VolumeBinary {
        detect.drifted_libraries && on_volumes
    } else {
        detect.drifted_libraries
    };
    let is = |name: Name<'_>, entry: &str| matches!(name, Name::Path(path) if means(entry, path));
    let excepted = detect.exceptions.iter().any(|exception| is(path, &exception.path));
    let prohibited = [path, lower, invoked, alias]
        .into_iter()
        .take(if tried.usage == Use::Execute { usize::MAX } else { 2 })
        .any(|name| detect.prohibited_binaries.iter().any(|binary| is(name, &binary.path) || name == Name::Unresolved));
    let (mut may, mut may_not) = (false, false);
    if let (Some((class, names)), Use::Execute) = (&tried.caller, tried.usage) {
        let [path, lower] = names.each_ref().map(Seen::name);
        let in_the_image = if lower == Name::None { path } else { lower };
        may = *class == Class::Image && detect.process_exceptions.iter().any(|process| is(in_the_image, &process.path));
        may_not = *class != Class::ForeignMount
            && [path, lower].into_iter().any(|name| {
                detect.prohibited_processes.iter().any(|process| is(name, &process.path) || name == Name::Unresolved)
            });
    }
    (watched && !excepted && !may, prohibited, may_not)
}

impl Tried {
    fn attempt_names(&self) -> [Name<'_>; 4] {
        self.names.each_ref().map(Seen::name)
    }
}

/// The bits of the policy of this name.
fn bits(compiled: &Compiled, judgement: &Judgement, name: &str) -> Option<[bool; 5]> {
    let slot = compiled.rules.policies().iter().find(|policy| policy.name == name)?.slot;
    let Judgement { drift, prohibited, prohibited_process, violating, denied } = judgement;
    Some([drift, prohibited, prohibited_process, violating, denied].map(|mask| mask.contains(slot)))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn the_verdict_is_what_each_policy_says(policies in policies(), volumes: bool, tried in tried()) {
        let all = compiled(&policies, volumes);
        let judgement = judge(&all.rules, &tried.attempt());
        for slot in (0..64).filter_map(Slot::new) {
            let member = tried.member & (1 << slot.number()) != 0;
            let (drift, prohibited, by_process) = match all.rules.policy(slot) {
                Some(policy) if member => oracle(&policy.spec, volumes, &tried),
                _ => (false, false, false),
            };
            prop_assert_eq!(judgement.drift.contains(slot), drift);
            prop_assert_eq!(judgement.prohibited.contains(slot), prohibited);
            prop_assert_eq!(judgement.prohibited_process.contains(slot), by_process);
            let violating = drift || prohibited || by_process;
            prop_assert_eq!(judgement.violating.contains(slot), violating);
            let prevents = all.rules.policy(slot).is_some_and(|policy| policy.spec.actions.prevent);
            prop_assert_eq!(judgement.denied.contains(slot), violating && prevents);
            let reason = match (drift, prohibited, tried.usage) {
                (true, false, Use::Map) => Some(Reason::DriftedLibrary),
                (true, _, Use::Execute) => tried.class.reason(),
                (_, true, _) => Some(Reason::ProhibitedBinary),
                (false, false, _) => by_process.then_some(Reason::ProhibitedProcess),
            };
            prop_assert_eq!(judgement.reason(slot, tried.usage, tried.class), reason);
        }
    }

    #[test]
    fn policies_add_up(policies in policies(), volumes: bool, mut tried in tried()) {
        tried.member = u64::MAX;
        let all = compiled(&policies, volumes);
        let together = judge(&all.rules, &tried.attempt());
        for policy in &policies {
            let one = compiled(std::slice::from_ref(policy), volumes);
            let alone = judge(&one.rules, &tried.attempt());
            let name = policy.metadata.name.as_deref().unwrap();
            prop_assert_eq!(bits(&one, &alone, name), bits(&all, &together, name));
        }
    }

    #[test]
    fn adding_a_policy_clears_no_bit(policies in policies(), added in spec(), age in proptest::option::of(0..3_i64), mut tried in tried()) {
        tried.member = u64::MAX;
        let before = compiled(&policies, false);
        let mut more = policies.clone();
        more.push(policy("m", age, added));
        let after = compiled(&more, false);
        let (was, is) = (judge(&before.rules, &tried.attempt()), judge(&after.rules, &tried.attempt()));
        for policy in before.rules.policies() {
            prop_assert_eq!(bits(&before, &was, &policy.name), bits(&after, &is, &policy.name));
        }
        prop_assert!(was.denied.is_empty() || !is.denied.is_empty());
    }

    #[test]
    fn a_prevent_by_any_denies(policies in policies(), tried in tried()) {
        let all = compiled(&policies, false);
        let judgement = judge(&all.rules, &tried.attempt());
        let any = judgement.violating.slots().any(|slot| all.rules.policy(slot).unwrap().spec.actions.prevent);
        let expected = match (any, judgement.violating.is_empty()) {
            (true, _) => Some(mooring_crd::Verdict::Denied),
            (false, false) => Some(mooring_crd::Verdict::Detected),
            (false, true) => None,
        };
        prop_assert_eq!(judgement.verdict(), expected);
    }

    // The kernel asks the lists only where these have a bit.
    #[test]
    fn a_slot_has_a_list_where_it_has_a_path(policies in policies()) {
        let rules = compiled(&policies, false).rules;
        let entries = || rules.paths().map(|(_, masks)| masks).chain(rules.patterns().map(|(_, masks)| masks));
        let of = |mask: fn(PathMasks) -> SlotMask| entries().fold(SlotMask::EMPTY, |all, masks| all | mask(masks));
        prop_assert_eq!(rules.except_lists(), of(|masks| masks.excepted));
        prop_assert_eq!(rules.prohibit_lists(), of(|masks| masks.prohibited));
        prop_assert_eq!(rules.except_process_lists(), of(|masks| masks.excepted_process));
        prop_assert_eq!(rules.prohibit_process_lists(), of(|masks| masks.prohibited_process));
        let patterned = rules.patterns().fold(PathMasks::default(), |all, (_, masks)| all | masks);
        let any = patterned.excepted | patterned.prohibited | patterned.excepted_process | patterned.prohibited_process;
        prop_assert_eq!(rules.pattern_lists(), any);
    }

    #[test]
    fn the_order_of_the_input_is_nothing((policies, shuffled) in policies().prop_flat_map(|p| (Just(p.clone()), Just(p).prop_shuffle()))) {
        prop_assert_eq!(compile(&policies, NodeDefaults::default()), compile(&shuffled, NodeDefaults::default()));
    }

    #[test]
    fn slots_go_by_age_then_name(policies in policies()) {
        let all = compiled(&policies, false);
        let ages: Vec<(bool, Option<String>, String)> = all.rules.policies().iter().map(|slotted| {
            let age = slotted.uid.as_ref().map(|uid| uid.rsplit_once('-').unwrap().1.to_owned());
            (age.is_none(), age, slotted.name.clone())
        }).collect();
        prop_assert!(ages.is_sorted(), "{:?}", ages);
        for (index, slotted) in all.rules.policies().iter().enumerate() {
            prop_assert_eq!(slotted.slot.number(), index);
            prop_assert!(slotted.spec.enabled);
        }
    }

    #[test]
    fn the_strongest_action_wins(actions in prop::collection::vec(prop::sample::select(ContainerAction::ALL), 0..6)) {
        let order = [ContainerAction::Kill, ContainerAction::Stop, ContainerAction::Pause];
        let expected = order.into_iter().find(|action| actions.contains(action)).unwrap_or(ContainerAction::None);
        prop_assert_eq!(strongest(actions), expected);
    }

    #[test]
    fn a_node_policy_comes_back(policies in policies(), volumes: bool, revision: u64) {
        let all = compiled(&policies, volumes);
        let node = NodePolicy::of(&all.rules, revision);
        let text = serde_json::to_string(&node).unwrap();
        let back: NodePolicy = serde_json::from_str(&text).unwrap();
        prop_assert_eq!(&back, &node);
        prop_assert_eq!(back.revision, revision);
        prop_assert_eq!(back.compile(), all);
    }

    #[test]
    fn a_spec_is_accepted_by_its_own_schema_and_comes_back(spec in spec()) {
        let written = serde_json::to_value(policy("p", None, spec.clone())).unwrap();
        prop_assert_eq!(policy_from_value(written).unwrap().spec, spec);
    }

    #[test]
    fn a_list_path_comes_back(text in "(/|/?[a./:\u{e9}]{0,9}|memfd:[a/\u{e9}]{0,3})") {
        if let Ok(path) = ListPath::excepted(&text) {
            let json = serde_json::to_string(&path).unwrap();
            prop_assert_eq!(serde_json::from_str::<ListPath>(&json).unwrap(), path.clone());
            prop_assert_eq!(path.as_bytes(), text.as_bytes());
            prop_assert_eq!(String::from(path), text);
        }
    }

    // The lists are written twice: as CEL for the API server, and as the type that the rules are made of.
    #[test]
    fn what_the_schema_accepts_is_an_entry(text in "(/|/?[a./:\u{e9}\0]{0,9}|/[a*/]{0,12}|/[a?/\\[*\\]]{0,6}|memfd:[a/*?\u{e9}]{0,3}|/a{252,257}|/\u{e9}{124,128}|memfd:[a\u{e9}]{124,252})") {
        for (list, parsed) in [
            ("exceptions", ListEntry::excepted(&text)),
            ("prohibitedBinaries", ListEntry::prohibited(&text)),
            ("processExceptions", ListEntry::prohibited(&text)),
            ("prohibitedProcesses", ListEntry::prohibited(&text)),
        ] {
            let object = serde_json::json!({
                "apiVersion": "mooring.dev/v1alpha1", "kind": "ContainerDriftPolicy", "metadata": {"name": "p"},
                "spec": {"detect": {list: [{"path": text}]}},
            });
            prop_assert_eq!(policy_from_value(object).is_ok(), parsed.is_ok(), "{:?} in {}: {:?}", text, list, parsed);
        }
    }

    // The kernel walks the table; what it must say is what the patterns say.
    #[test]
    fn the_automaton_says_what_the_patterns_say(
        texts in prop::collection::btree_set("(/([ab]|\\*|[ab]\\*|\\*[ab]|\\*\\*)){1,4}", 0..6),
        paths in prop::collection::vec("(/[abc]{1,3}){1,5}", 1..12),
    ) {
        let entries = texts.iter().filter_map(|text| ListEntry::prohibited(text).ok());
        let patterns: BTreeSet<Pattern> =
            entries.filter_map(|entry| if let ListEntry::Pattern(pattern) = entry { Some(pattern) } else { None }).collect();
        let automaton = Automaton::of(&patterns).unwrap();
        for path in &paths {
            let matches = &automaton.matches[usize::from(automaton.walk(path.as_bytes()))];
            for (index, pattern) in patterns.iter().enumerate() {
                prop_assert_eq!(matches.contains(&index), pattern.matches(path.as_bytes()), "{} and {}", pattern, path);
                prop_assert_eq!(pattern.matches(path.as_bytes()), means(pattern.as_str(), path.as_bytes()), "{} and {}", pattern, path);
            }
        }
    }
}
