use mooring_crd::{AppliedRules, DriftNode, DriftNodeSpec, Kind, validate};

use super::*;
use crate::agent::PolicyFacts;
use crate::report::tests::at;

fn facts() -> Facts {
    Facts {
        enforcing: true,
        backend: Some(Backend::BpfLsm),
        applied: Some(AppliedRules {
            revision: 7,
            digest: "sha256:0".to_owned(),
            resource_version: Some("12".to_owned()),
            source: RulesSource::ConfigMap,
        }),
        self_test: Some(SelfTest { result: SelfTestResult::Passed, message: None }),
        seen: 5,
        matched: 3,
        protected: 3,
        policies: vec![PolicyFacts {
            name: "p".to_owned(),
            matched: 3,
            protected: 3,
            violations: 9,
            ..PolicyFacts::default()
        }],
        ..Facts::default()
    }
}

fn status(facts: &Facts, problems: &[(&'static str, &str)], before: Option<&DriftNodeStatus>) -> DriftNodeStatus {
    let fixed = Fixed { version: "0.1.0".to_owned(), kernel: "6.12".to_owned() };
    let problems = problems.iter().map(|(about, problem)| (*about, (*problem).to_owned())).collect();
    let now = Time(at(i64::from(before.is_some()) * 60));
    let status = status_of(&fixed, facts, &problems, Untold { lost: 2, suppressed: 3 }, before, &now);
    // The API server would take it.
    let mut node = DriftNode::new("node1", DriftNodeSpec::default());
    node.status = Some(status.clone());
    assert_eq!(validate(Kind::DriftNode, &mut serde_json::to_value(node).unwrap()), Ok(()));
    status
}

fn told(status: &DriftNodeStatus) -> Vec<(&str, &str, &str)> {
    status.conditions.iter().map(|c| (c.type_.as_str(), c.status.as_str(), c.reason.as_str())).collect()
}

#[test]
fn a_node_that_does_all() {
    let status = status(&facts(), &[], None);
    let all = [("Ready", "True", "Enforcing"), ("Degraded", "False", "AllHonoured"), ("Reporting", "True", "AsAsked")];
    assert_eq!(told(&status), all);
    assert_eq!(status.backend, Some(Backend::BpfLsm));
    assert_eq!(status.containers.unwrap().summary.as_deref(), Some("3/3"));
    assert_eq!(status.events, Some(NodeEvents { lost: 2, suppressed: 3 }));
    assert_eq!(status.policies.first().unwrap().violations, 9);
}

#[test]
fn why_no_better_backend_is_used() {
    assert_eq!(status(&facts(), &[], None).backend_reason, None);
    let why = "BpfLsm: not among the LSMs";
    let facts = Facts { backend: Some(Backend::FmodRet), backend_reason: Some(why.to_owned()), ..facts() };
    let second_best = status(&facts, &[], None);
    assert_eq!((second_best.backend, second_best.backend_reason.as_deref()), (Some(Backend::FmodRet), Some(why)));
    let nothing = status(&Facts { enforcing: false, ..facts }, &[], None);
    assert_eq!(nothing.backend, Some(Backend::None));
}

#[test]
fn what_a_backend_cannot_do_is_told_with_what_happens_instead() {
    let mut facts = Facts { backend: Some(Backend::Kill), ..facts() };
    facts.policies[0].unsupported = vec![Feature::Prevent, Feature::DriftedLibraries];
    let status = status(&facts, &[], None);
    let feature = |name| status.features.iter().find(|feature| feature.name == name).unwrap();
    let prevent = feature("Prevent");
    assert!(!prevent.supported && prevent.message.as_ref().unwrap().contains("killed"), "{prevent:?}");
    assert!(feature("DriftedBinaries").supported);
    assert_eq!(status.policies[0].unsupported, ["Prevent", "DriftedLibraries"]);
    let degraded = status.conditions.iter().find(|condition| condition.type_ == "Degraded").unwrap();
    assert!(degraded.message.contains("DriftedLibraries: "), "{}", degraded.message);
}

#[test]
fn each_fault_has_its_word() {
    type Change = fn(&mut Facts);
    let unprotected: Change = |facts| facts.protected = 2;
    let not_in_force: Change = |facts| facts.problems.push("no room".to_owned());
    let refused: Change = |facts| {
        facts.policies.push(PolicyFacts {
            name: "q".to_owned(),
            problem: Some("q: wrong".to_owned()),
            ..PolicyFacts::default()
        });
    };
    let no_rules: Change = |facts| facts.applied = None;
    let killed: Change = |facts| {
        facts.backend = Some(Backend::Kill);
        facts.policies[0].unsupported = vec![Feature::Prevent];
    };
    for (change, problems, ready, degraded) in [
        (unprotected, &[][..], "ContainersUnprotected", "True"),
        (not_in_force, &[], "RulesNotInForce", "True"),
        (refused, &[], "PoliciesRefused", "True"),
        (no_rules, &[], "NoRules", "False"),
        (killed, &[], "FeaturesMissing", "True"),
        (|_| {}, &[("rules", "refused: digest")], "RulesRefused", "True"),
        (no_rules, &[("ConfigMap", "there is none")], "NoConfigMap", "True"),
        (|_| {}, &[("state folder", "full")], "StateNotKept", "True"),
        // What only the reports suffer from is no fault of enforcement.
        (|_| {}, &[("events", "away")], "Enforcing", "False"),
    ] {
        let mut facts = facts();
        change(&mut facts);
        let status = status(&facts, problems, None);
        let [(_, is_ready, reason), (_, is_degraded, _), _] = told(&status)[..] else { panic!("{status:?}") };
        assert_eq!((reason, is_degraded), (ready, degraded));
        assert_eq!(is_ready == "True", ready == "Enforcing");
    }
}

#[test]
fn a_kernel_that_does_not_refuse_is_told_of() {
    let failed = Facts {
        self_test: Some(SelfTest { result: SelfTestResult::Failed, message: Some("a dropped program ran".to_owned()) }),
        problems: vec!["a dropped program ran".to_owned()],
        ..Facts::default()
    };
    let status = status(&failed, &[], None);
    assert_eq!(told(&status)[..2], [("Ready", "False", "SelfTestFailed"), ("Degraded", "True", "SelfTestFailed")]);
    assert_eq!(
        (status.backend, status.backend_reason.as_deref()),
        (Some(Backend::None), Some("a dropped program ran"))
    );
    assert!(status.features.iter().all(|feature| !feature.supported && feature.message.is_some()));
}

#[test]
fn conditions_keep_their_time_until_they_change() {
    let first = status(&facts(), &[], None);
    let mut later = facts();
    later.seen = 6;
    let second = status(&later, &[], Some(&first));
    assert_eq!(first.conditions, second.conditions);
    assert!(!is_urgent(&first, &second));
    let third = status(&later, &[("rules", "refused")], Some(&second));
    let moved: Vec<bool> = (third.conditions.iter().zip(&second.conditions))
        .map(|(a, b)| a.last_transition_time != b.last_transition_time)
        .collect();
    assert_eq!(moved, [true, true, false]);
    assert!(is_urgent(&second, &third));
}

#[test]
fn an_open_breaker_is_told_and_is_no_fault_of_enforcement() {
    let open = status(&facts(), &[(BREAKER, "more come than the caps allow in payments")], None);
    assert_eq!(told(&open)[0], ("Ready", "True", "Enforcing"));
    assert_eq!(told(&open)[2], ("Reporting", "False", "BreakerOpen"));
    assert!(open.conditions[2].message.contains("payments"));
    assert!(is_urgent(&status(&facts(), &[], None), &open));
}

#[test]
fn words_of_any_length_fit() {
    let mut facts = facts();
    facts.problems.push("ö".repeat(10_000));
    facts.policies = (0..100)
        .map(|number| PolicyFacts {
            name: format!("p{number}"),
            problem: Some("x".repeat(5000)),
            ..PolicyFacts::default()
        })
        .collect();
    facts.enforcing = false;
    status(&facts, &[], None);
}
