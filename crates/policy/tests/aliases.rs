//! What a prohibited path stands for where it is a link.
#![allow(missing_docs, clippy::unwrap_used)]

use mooring_crd::policy_from_value;
use mooring_policy::limits::MAX_TABLE_PATHS;
use mooring_policy::{Attempt, Class, Name, NodeDefaults, RuleSet, SlotMask, Use, compile, judge};
use serde_json::json;

fn rules() -> RuleSet {
    let policy = |name: &str, paths: &[&str]| {
        let prohibited: Vec<_> = paths.iter().map(|path| json!({"path": path})).collect();
        policy_from_value(json!({
            "apiVersion": mooring_crd::API_VERSION, "kind": mooring_crd::POLICY_KIND, "metadata": {"name": name},
            "spec": {"detect": {"prohibitedBinaries": prohibited}},
        }))
        .unwrap()
    };
    compile(&[policy("a", &["/bin/nc"]), policy("b", &["/usr/bin/nc", "/bin/wget"])], NodeDefaults::default()).rules
}

fn prohibited(rules: &RuleSet, alias: &str) -> u64 {
    let attempt = Attempt {
        member: SlotMask::from_bits(0b11),
        usage: Use::Execute,
        class: Class::Image,
        path: Name::Path(b"/bin/busybox"),
        lower_path: Name::None,
        invoked: Name::None,
        alias: Name::Path(alias.as_bytes()),
        caller: None,
    };
    judge(rules, &attempt).prohibited.bits()
}

#[test]
fn a_link_prohibits_its_program_by_its_name_and_by_no_other() {
    let mut rules = rules();
    assert_eq!(prohibited(&rules, "/bin/busybox/nc"), 0);
    assert!(rules.prohibit_alias("/bin/nc", "/bin/busybox").unwrap().is_some());
    assert_eq!(prohibited(&rules, "/bin/busybox/nc"), 0b01);
    assert_eq!(prohibited(&rules, "/bin/busybox/wget"), 0);
    assert_eq!(prohibited(&rules, "/bin/other/nc"), 0);
    assert_eq!(rules.prohibit_alias("/bin/nc", "/bin/busybox"), Ok(None), "nothing new");
    let (alias, masks) = rules.prohibit_alias("/usr/bin/nc", "/bin/busybox").unwrap().unwrap();
    assert_eq!((alias.as_str(), masks.prohibited.bits()), ("/bin/busybox/nc", 0b11));
}

#[test]
fn an_alias_that_is_itself_a_listed_path_stays_listed() {
    let policy = policy_from_value(json!({
        "apiVersion": mooring_crd::API_VERSION, "kind": mooring_crd::POLICY_KIND, "metadata": {"name": "a"},
        "spec": {"detect": {"exceptions": [{"path": "/bin/busybox/nc"}], "prohibitedBinaries": [{"path": "/bin/nc"}]}},
    }));
    let mut rules = compile(&[policy.unwrap()], NodeDefaults::default()).rules;
    let (_, masks) = rules.prohibit_alias("/bin/nc", "/bin/busybox").unwrap().unwrap();
    assert_eq!((masks.excepted.bits(), masks.prohibited.bits()), (1, 1));
}

#[test]
fn a_path_in_no_list_stands_for_nothing_and_a_long_one_fits_no_key() {
    let mut rules = rules();
    assert_eq!(rules.prohibit_alias("/bin/ls", "/bin/busybox"), Ok(None));
    assert_eq!(rules.prohibit_alias("/bin/nc", &format!("/{}", "d".repeat(254))), Ok(None));
}

#[test]
fn what_the_table_cannot_hold_is_named_and_leaves_the_rest_in_force() {
    let mut rules = rules();
    let room = MAX_TABLE_PATHS - rules.paths().len();
    for number in 0..room {
        assert!(rules.prohibit_alias("/bin/nc", &format!("/opt/{number}")).unwrap().is_some());
    }
    let error = rules.prohibit_alias("/bin/wget", "/bin/busybox").unwrap_err();
    assert_eq!(error.alias.as_str(), "/bin/busybox/wget");
    assert!(error.to_string().starts_with("/bin/busybox/wget does not fit"), "{error}");
    assert_eq!(rules.paths().len(), MAX_TABLE_PATHS);
    assert_eq!(prohibited(&rules, "/bin/busybox/wget"), 0);
    assert_eq!(prohibited(&rules, "/opt/0/nc"), 0b01);
    // What is there already may still get another slot.
    assert!(rules.prohibit_alias("/usr/bin/nc", "/opt/0").unwrap().is_some());
    assert_eq!(prohibited(&rules, "/opt/0/nc"), 0b11);
}
