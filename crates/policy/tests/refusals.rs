//! Policies that are refused: by name, by field, with a fix, and without harm to the others.
#![allow(missing_docs, unreachable_pub, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use mooring_crd::{ContainerDriftPolicy, ContainerDriftPolicySpec};
use mooring_policy::{Compiled, ListPath, ListPathError, NodeDefaults, NodePolicy, compile, limits};
use serde_json::{Value, json};

fn spec(value: Value) -> ContainerDriftPolicySpec {
    serde_json::from_value(value).unwrap()
}

fn policy(name: &str, value: Value) -> ContainerDriftPolicy {
    ContainerDriftPolicy::new(name, spec(value))
}

fn compiled(policies: &[ContainerDriftPolicy]) -> Compiled {
    compile(policies, NodeDefaults::default())
}

fn names(compiled: &Compiled) -> Vec<&str> {
    compiled.rules.policies().iter().map(|policy| policy.name.as_str()).collect()
}

fn refusals(compiled: &Compiled) -> Vec<String> {
    compiled.refused.iter().map(ToString::to_string).collect()
}

#[test]
fn fields_that_are_not_implemented_are_refused_by_name() {
    let sha256 = "0".repeat(64);
    let cases = [
        (
            json!({"detect": {"driftedScripts": true}}),
            "spec.detect.driftedScripts: is not implemented in this version: write false, or leave it out",
        ),
        (
            json!({"detect": {"exceptions": [{"path": "/a"}, {"path": "/b", "sha256": sha256}]}}),
            "spec.detect.exceptions[1].sha256: is not implemented in this version: leave it out; without it, whoever can write the path is excepted",
        ),
        (
            json!({"actions": {"container": "Kill"}}),
            "spec.actions.container: is not implemented in this version: write None, or leave it out",
        ),
        (
            json!({"actions": {"container": "Pause"}}),
            "spec.actions.container: is not implemented in this version: write None, or leave it out",
        ),
        (json!({"actions": {"capture": {}}}), "spec.actions.capture: is not implemented in this version: leave it out"),
        (
            json!({"actions": {"notify": ["x"]}}),
            "spec.actions.notify: is not implemented in this version: leave it out, or write an empty list",
        ),
    ];
    for (value, expected) in cases {
        let found = compiled(&[policy("bad", value), policy("good", json!({}))]);
        assert_eq!(refusals(&found), [format!("policy bad: {expected}")]);
        assert_eq!(names(&found), ["good"]);
    }
}

#[test]
fn everything_that_is_wrong_is_listed() {
    let value = json!({"detect": {"driftedScripts": true, "prohibitedBinaries": [{"path": "nc"}]}, "actions": {"container": "Stop"}});
    let found = compiled(&[policy("bad", value)]);
    let fields: Vec<&str> = found.refused[0].errors.iter().map(|e| e.field.as_str()).collect();
    assert_eq!(
        fields,
        ["spec.detect.driftedScripts", "spec.actions.container", "spec.detect.prohibitedBinaries[0].path"]
    );
}

#[test]
fn a_disabled_policy_takes_no_slot_and_is_checked_all_the_same() {
    let found = compiled(&[
        policy("a", json!({"enabled": false, "detect": {"exceptions": [{"path": "/a"}]}})),
        policy("b", json!({})),
        policy("c", json!({"enabled": false, "actions": {"capture": {}}})),
    ]);
    assert_eq!(names(&found), ["b"]);
    assert_eq!(found.rules.policies()[0].slot.number(), 0);
    assert_eq!(found.rules.paths().len(), 0);
    assert_eq!(found.refused.len(), 1);
}

#[test]
fn policies_of_one_name_are_all_refused() {
    let found = compiled(&[policy("a", json!({})), policy("b", json!({})), policy("a", json!({"enabled": false}))]);
    assert_eq!(
        refusals(&found),
        ["policy a: metadata.name: 2 policies are named a, and none of them is applied: give each a name of its own"]
    );
    assert_eq!(names(&found), ["b"]);
}

#[test]
fn a_policy_without_a_name_is_refused() {
    let found = compiled(&[policy("", json!({}))]);
    assert_eq!(refusals(&found), ["policy : metadata.name: is missing: write a name, as in payments-immutable"]);
}

#[test]
fn policies_beyond_the_slots_are_refused_and_the_others_stay() {
    let many: Vec<_> = (0..66).map(|i| policy(&format!("p{i:02}"), json!({}))).collect();
    let found = compiled(&many);
    assert_eq!(found.rules.policies().len(), limits::MAX_POLICIES);
    assert_eq!(found.refused.len(), 2);
    assert!(
        refusals(&found)[0]
            .starts_with("policy p64: is beyond the 64 policies that a node applies, oldest first: delete")
    );
    let mut fewer = many;
    fewer[3].spec.enabled = false;
    assert_eq!(compiled(&fewer).refused.len(), 1);
}

#[test]
fn lists_beyond_the_paths_of_a_node_are_refused_and_the_others_stay() {
    let paths = |name: &str, from: usize, to: usize| {
        let list: Vec<Value> = (from..to).map(|i| json!({"path": format!("/bin/{i}")})).collect();
        policy(name, json!({"detect": {"prohibitedBinaries": list}}))
    };
    let found = compiled(&[paths("a", 0, 16360), paths("b", 16350, 16385), paths("c", 16300, 16384)]);
    assert_eq!(names(&found), ["a", "c"]);
    assert_eq!(found.rules.paths().len(), limits::MAX_PATHS);
    assert_eq!(
        refusals(&found),
        [
            "policy b: spec.detect: its lists bring 25 more paths to the 16360 of the policies before it, and a node holds 16384: shorten its lists or narrow its nodeSelector"
        ]
    );
}

#[test]
fn a_path_that_is_none_is_refused_by_its_place() {
    let found = compiled(&[policy("bad", json!({"detect": {"exceptions": [{"path": "/a"}, {"path": "/a/../b"}]}}))]);
    assert_eq!(
        refusals(&found),
        [
            "policy bad: spec.detect.exceptions[1].path: \"/a/../b\" must be a clean path: leave out '//', '/./', '/../' and a '/' at the end"
        ]
    );
}

#[test]
fn list_paths_say_what_is_wrong() {
    use ListPathError::{Length, Memfd, MemfdProhibited, Nul, Relative, Unclean};
    let long = format!("/{}", "x".repeat(255));
    let longest_memfd = format!("memfd:{}", "x".repeat(249));
    let cases = [
        ("", Length),
        ("/", Length),
        (long.as_str(), Length),
        ("usr/bin", Relative),
        ("//", Unclean),
        ("/a//b", Unclean),
        ("/a/", Unclean),
        ("/./a", Unclean),
        ("/a/.", Unclean),
        ("/../a", Unclean),
        ("/a/..", Unclean),
        ("/a\0", Nul),
        ("memfd:", Memfd),
        ("memfd:a/b", Memfd),
        ("memfd:a\0", Nul),
    ];
    for (text, expected) in cases {
        assert_eq!(ListPath::excepted(text), Err(expected), "{text:?}");
    }
    assert_eq!(ListPath::excepted(&format!("{longest_memfd}x")), Err(Memfd));
    assert_eq!(ListPath::prohibited("memfd:x"), Err(MemfdProhibited));
    for good in ["/a", "/.a", "/..a", "/...", &long[..255], "/a b", "/é"] {
        assert_eq!(ListPath::prohibited(good).unwrap().as_str(), good);
    }
    assert_eq!(ListPath::excepted(&longest_memfd).unwrap().as_str(), longest_memfd);
}

#[test]
fn a_node_policy_that_was_tampered_with_is_refused() {
    let text = r#"{"revision": 1, "policies": [{"name": "a", "spec": {"actions": {"notify": ["x"]}}}]}"#;
    let node: NodePolicy = serde_json::from_str(text).unwrap();
    assert_eq!(node.compile().refused.len(), 1);
    let misspelt = r#"{"revision": 1, "policy": []}"#;
    assert!(serde_json::from_str::<NodePolicy>(misspelt).is_err());
}

#[test]
fn a_volume_default_is_only_for_policies_that_leave_it_unset() {
    use mooring_policy::{Class, Use};
    let policies = [
        policy("a", json!({})),
        policy("b", json!({"detect": {"volumeBinaries": false}})),
        policy("c", json!({"detect": {"volumeBinaries": true, "driftedLibraries": false}})),
    ];
    for (volume_binaries, execute, map) in [(false, 0b100, 0b000), (true, 0b101, 0b001)] {
        let rules = compile(&policies, NodeDefaults { volume_binaries }).rules;
        assert_eq!(rules.detects(Use::Execute, Class::VolumeBinary).bits(), execute);
        assert_eq!(rules.detects(Use::Map, Class::VolumeBinary).bits(), map);
    }
}

#[test]
fn entries_say_what_is_wrong_with_a_pattern() {
    use ListPathError::{Folders, Length, MemfdPattern, Reserved, Unclean, Wildcards};
    use mooring_policy::ListEntry;
    for (text, expected) in [
        ("/usr/bin/python?", Reserved),
        ("/usr/bin/[a-z]", Reserved),
        ("/usr/bin/[[[", Reserved),
        ("/opt/app**", Folders),
        ("/opt/**app", Folders),
        ("/opt/***", Folders),
        ("/opt/**/**/a", Folders),
        ("/*/*/*/*/*", Wildcards),
        ("/**/*/*a*b*", Wildcards),
        ("/opt/*/", Unclean),
        ("/opt/../*", Unclean),
        ("memfd:a*", MemfdPattern),
    ] {
        assert_eq!(ListEntry::excepted(text), Err(expected), "{text:?}");
    }
    assert_eq!(ListEntry::prohibited(&format!("/{}*", "x".repeat(254))), Err(Length));
    for path in ["/usr/bin/[", "/bin/[[", "/a"] {
        assert!(matches!(ListEntry::prohibited(path), Ok(ListEntry::Path(_))), "{path}");
    }
    for pattern in ["/*", "/**", "/a*", "/**/a", "/a/**/b", "/*/*/*/*", "/opt/[/*"] {
        assert!(matches!(ListEntry::prohibited(pattern), Ok(ListEntry::Pattern(_))), "{pattern}");
    }
}

/// Whether each of many such patterns has been seen is so many bits of state.
fn expensive(name: &str, letters: std::ops::RangeInclusive<char>) -> ContainerDriftPolicy {
    let list: Vec<Value> = letters.map(|c| json!({"path": format!("/**/{c}/**/{c}{c}")})).collect();
    policy(name, json!({"detect": {"prohibitedProcesses": list}}))
}

#[test]
fn patterns_that_need_too_large_a_table_are_refused_and_the_others_stay() {
    let cheap = policy("d", json!({"detect": {"exceptions": [{"path": "/opt/*/bin"}]}}));
    let found = compiled(&[expensive("a", 'a'..='g'), expensive("b", 'a'..='z'), cheap]);
    assert_eq!(names(&found), ["a", "d"]);
    let said = "policy b: spec.detect: its patterns, with those of the policies before it, need a table of more than the 4096 states that a node has: write fewer patterns";
    assert!(refusals(&found)[0].starts_with(said), "{:?}", refusals(&found));
    assert_eq!(found.rules.patterns().len(), 8);
    assert!(found.rules.automaton().next.len() <= limits::MAX_PATTERN_STATES);
}

#[test]
fn many_plain_patterns_fit() {
    let list = |policy_number: usize| -> Vec<Value> {
        (0..16).map(|i| json!({"path": format!("/opt/app-{policy_number}/{i}/**")})).collect()
    };
    let policies: Vec<_> =
        (0..64).map(|i| policy(&format!("p{i}"), json!({"detect": {"exceptions": list(i)}}))).collect();
    let found = compiled(&policies);
    assert_eq!((refusals(&found).len(), found.rules.patterns().len()), (0, 1024));
}
