//! Properties of the pure parts.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::jiff::Timestamp;
use mooring_crd::{ContainerDriftPolicySpec, ContainerDriftPolicyStatus, LabelSelector, ProhibitedBinary, Scope};
use mooring_operator::content::{Content, Fragment, Fragments, NoRoom, check_room};
use mooring_operator::fit::{Candidate, fit};
use mooring_operator::index::{Index, Write};
use mooring_operator::lease::{Decision, Lease, Seen, acts_until, decide};
use mooring_operator::objects::{Change, ConfigMapObject, EventObject, Kind, PolicyObject};
use mooring_operator::retention::{Caps, Events};
use mooring_policy::{NodeDefaults, NodePolicy, NodePolicyEntry, NodeRules};
use proptest::prelude::*;

/// A policy with so many prohibited paths of its own, for nodes with `pool=POOL` or for all.
fn spec(seed: usize, paths: usize, pool: Option<u8>) -> ContainerDriftPolicySpec {
    let mut spec = ContainerDriftPolicySpec { description: Some(seed.to_string()), ..Default::default() };
    spec.detect.prohibited_binaries =
        (0..paths).map(|n| ProhibitedBinary { path: format!("/p{seed}/{n}{}", "x".repeat(200)) }).collect();
    let selector = |pool: u8| LabelSelector {
        match_labels: [("pool".to_owned(), pool.to_string())].into(),
        ..LabelSelector::default()
    };
    spec.scope = Scope { node_selector: pool.map(selector), ..Scope::default() };
    spec
}

fn entry(name: &str, spec: ContainerDriftPolicySpec) -> NodePolicyEntry {
    NodePolicyEntry { name: name.to_owned(), uid: Some(format!("uid-{name}")), spec }
}

fn fragment(fragments: &mut Fragments, name: &str, seed: usize, paths: usize) -> Arc<Fragment> {
    fragments.of_entry(entry(name, spec(seed, paths, None)), NodeDefaults::default()).unwrap().unwrap()
}

#[test]
fn content_is_byte_for_byte_what_the_policy_crate_writes() {
    let mut fragments = Fragments::default();
    let entries: Vec<_> = (0..3).map(|n| entry(&format!("p{n}"), spec(n, n, Some(1)))).collect();
    let policy =
        NodePolicy { revision: 7, defaults: NodeDefaults { volume_binaries: true }, policies: entries.clone() };
    let defaults = policy.defaults;
    let content = Content {
        defaults,
        fragments: entries.into_iter().map(|entry| fragments.of_entry(entry, defaults).unwrap().unwrap()).collect(),
    };
    let rules = content.encode(7).unwrap();
    assert_eq!(rules, NodeRules::encode(&policy).unwrap());
    let (decoded, digest) = Content::decode(&rules.clone().into_data(), &mut fragments).unwrap();
    assert_eq!((decoded.revision, decoded.content.as_deref(), digest), (7, Some(&content), rules.digest.clone()));
    let edited = NodeRules { policies: rules.policies.replace("/p2/", "/q2/"), ..rules };
    assert!(Content::decode(&edited.into_data(), &mut fragments).is_err());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    /// Policies are so many and so long that slots and bytes run out.
    #[test]
    fn what_fits_stays_and_what_does_not_keeps_its_last_good(
        sizes in proptest::collection::vec((0_usize..200, any::<bool>(), any::<bool>()), 0..90),
        more in proptest::collection::vec(0_usize..400, 90),
    ) {
        let mut fragments = Fragments::default();
        let first: Vec<_> = sizes.iter().enumerate().map(|(place, (paths, ..))| Candidate {
            policy: place,
            wanted: Some(fragment(&mut fragments, &format!("p{place}"), place, *paths)),
            last_good: None,
        }).collect();
        let before = fit(&first);
        prop_assert_eq!(check_room(before.fragments.iter()), Ok(()));
        prop_assert!(before.fragments.len() <= 64);
        // Some of them are edited, some of these so that they are refused.
        let second: Vec<_> = sizes.iter().enumerate().map(|(place, (_, edited, refused))| {
            let name = format!("p{place}");
            let last_good = before.fragments.iter().find(|one| one.name() == name).cloned();
            let wanted = if !edited { first[place].wanted.clone() } else if *refused { None } else {
                Some(fragment(&mut fragments, &name, 1000 + place, more[place]))
            };
            Candidate { policy: place, wanted, last_good }
        }).collect();
        let after = fit(&second);
        prop_assert_eq!(check_room(after.fragments.iter()), Ok(()));
        for one in second.iter().filter(|one| one.wanted.is_some() || one.last_good.is_some()).take(64) {
            let there = |wanted: &Option<Arc<Fragment>>| wanted.as_ref().is_some_and(|w| after.fragments.iter().any(|f| Arc::ptr_eq(f, w)));
            let refused = after.refused.iter().any(|(place, _)| *place == one.policy);
            // It applies what it says, or it is told why not and what was in force stays.
            prop_assert!(there(&one.wanted) || one.last_good.is_none() || there(&one.last_good));
            prop_assert_eq!(refused, one.wanted.is_some() && !there(&one.wanted));
        }
        let slots: Vec<_> = after.fragments.iter().map(|one| one.name()[1..].parse::<usize>().unwrap()).collect();
        prop_assert!(slots.is_sorted(), "{:?}", slots);
        // Once more from there: nothing moves.
        let third: Vec<_> = second.iter().map(|one| {
            let name = format!("p{}", one.policy);
            Candidate { last_good: after.fragments.iter().find(|f| f.name() == name).cloned(), ..one.clone() }
        }).collect();
        let again = fit(&third);
        prop_assert!(again.fragments.iter().zip(&after.fragments).all(|(a, b)| Arc::ptr_eq(a, b)));
        prop_assert_eq!(again.fragments.len(), after.fragments.len());
        prop_assert_eq!(again.refused, after.refused);
    }
}

fn refused_for(specs: Vec<ContainerDriftPolicySpec>) -> Vec<(usize, NoRoom)> {
    let mut fragments = Fragments::default();
    let candidates: Vec<_> = specs
        .into_iter()
        .enumerate()
        .map(|(place, spec)| {
            let wanted = fragments.of_entry(entry(&format!("p{place}"), spec), NodeDefaults::default()).unwrap();
            Candidate { policy: place, wanted, last_good: None }
        })
        .collect();
    let fit = fit(&candidates);
    assert_eq!(fit.fragments.len() + fit.refused.len(), candidates.len());
    fit.refused
}

#[test]
fn more_paths_and_larger_patterns_than_a_node_takes_are_refused_and_the_others_stay() {
    let listed = |paths: Vec<String>| {
        let mut spec = ContainerDriftPolicySpec::default();
        spec.detect.prohibited_binaries = paths.into_iter().map(|path| ProhibitedBinary { path }).collect();
        spec
    };
    let short = |seed: usize| listed((0..9000).map(|n| format!("/{seed}/{n}")).collect());
    assert_eq!(refused_for(vec![short(0), short(1), listed(vec!["/nc".into()]), short(0)]), [(1, NoRoom::Paths)]);
    let patterns =
        |letters: std::ops::RangeInclusive<char>| listed(letters.map(|c| format!("/**/{c}/**/{c}{c}")).collect());
    let specs = vec![patterns('a'..='g'), patterns('h'..='n'), listed(vec!["/opt/*".into()]), patterns('a'..='f')];
    assert_eq!(refused_for(specs), [(1, NoRoom::Patterns)]);
}

fn policy_object(name: &str, generation: i64, spec: ContainerDriftPolicySpec) -> Change {
    Change::Policy(Box::new(PolicyObject {
        uid: Some(format!("uid-{name}")),
        created: Some(Timestamp::UNIX_EPOCH),
        generation,
        resource_version: generation.to_string(),
        spec: Ok(Box::new(spec)),
        status: ContainerDriftPolicyStatus::default(),
    }))
}

#[derive(Clone, Debug)]
enum Step {
    Policy(u8, usize, Option<u8>, bool),
    NoPolicy(u8),
    Node(u8, u8),
    NoNode(u8),
    /// The operator writes what is due; or somebody edits a `ConfigMap`; or somebody deletes one.
    Write(u8),
    Edit(u8),
    NoMap(u8),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        (0_u8..5, 0_usize..9, proptest::option::of(0_u8..2), any::<bool>())
            .prop_map(|(p, s, pool, e)| Step::Policy(p, s, pool, e)),
        (0_u8..5).prop_map(Step::NoPolicy),
        (0_u8..4, 0_u8..2).prop_map(|(n, pool)| Step::Node(n, pool)),
        (0_u8..4).prop_map(Step::NoNode),
        (0_u8..4).prop_map(Step::Write),
        (0_u8..4).prop_map(Step::Edit),
        (0_u8..4).prop_map(Step::NoMap),
    ]
}

/// What the API server holds, played.
#[derive(Default)]
struct World {
    version: u64,
    policies: BTreeMap<u8, (i64, ContainerDriftPolicySpec)>,
    nodes: BTreeMap<u8, (u64, u8)>,
    maps: BTreeMap<u8, ConfigMapObject>,
}

impl World {
    fn step(&mut self, step: &Step, index: &mut Index) {
        self.version += 1;
        match step {
            Step::Policy(p, seed, pool, enabled) => {
                let spec = ContainerDriftPolicySpec { enabled: *enabled, ..spec(*seed, 1, *pool) };
                let generation = self.policies.get(p).map_or(1, |(generation, _)| generation + 1);
                self.policies.insert(*p, (generation, spec.clone()));
                index.apply(&format!("p{p}"), policy_object(&format!("p{p}"), generation, spec));
            }
            Step::NoPolicy(p) => {
                if self.policies.remove(p).is_some() {
                    index.delete(Kind::Policy, &format!("p{p}"));
                }
            }
            Step::Node(n, pool) => {
                let uid = self.nodes.get(n).map_or(self.version, |(uid, _)| *uid);
                self.nodes.insert(*n, (uid, *pool));
                index.apply(&format!("n{n}"), node(uid, *pool));
            }
            Step::NoNode(n) => {
                if self.nodes.remove(n).is_some() {
                    index.delete(Kind::Node, &format!("n{n}"));
                }
            }
            Step::NoMap(n) => {
                if self.maps.remove(n).is_some() {
                    index.delete(Kind::ConfigMap, &format!("n{n}"));
                }
            }
            Step::Edit(n) => {
                if let Some(map) = self.maps.get_mut(n) {
                    map.resource_version = self.version.to_string();
                    map.data.insert("policies.json".to_owned(), "{}".to_owned());
                    index.apply(&format!("n{n}"), Change::ConfigMap(Box::new(map.clone())));
                }
            }
            Step::Write(n) => {
                index.plan();
                self.write(*n, index);
            }
        }
    }

    /// Does what the index asks for, as the API server would.
    fn write(&mut self, n: u8, index: &mut Index) -> bool {
        self.version += 1;
        let name = format!("n{n}");
        let Some(write) = index.nodes().get(&name).and_then(mooring_operator::index::Node::write) else { return false };
        let map = |owner: String, content: &Content, revision, uid: String, version: u64| ConfigMapObject {
            uid,
            resource_version: version.to_string(),
            owner: Some(owner),
            foreign: None,
            labelled: true,
            data: content.encode(revision).unwrap().into_data(),
        };
        let new = match write {
            Write::Create { owner, revision, content } => {
                assert!(!self.maps.contains_key(&n));
                map(owner, &content, revision, format!("map-{}", self.version), self.version)
            }
            Write::Replace { owner, revision, content, resource_version } => {
                let old = &self.maps[&n];
                assert_eq!(old.resource_version, resource_version);
                map(owner, &content, revision, old.uid.clone(), self.version)
            }
            Write::Delete { uid, .. } => {
                assert_eq!(self.maps.remove(&n).unwrap().uid, uid);
                index.delete(Kind::ConfigMap, &name);
                return true;
            }
        };
        self.maps.insert(n, new.clone());
        index.apply(&name, Change::ConfigMap(Box::new(new)));
        true
    }

    fn settle(&mut self, index: &mut Index) {
        for _ in 0..3 {
            index.plan();
            for n in 0..4 {
                self.write(n, index);
            }
        }
    }
}

fn node(uid: u64, pool: u8) -> Change {
    Change::Node { uid: uid.to_string(), labels: [("pool".to_owned(), pool.to_string())].into() }
}

proptest! {
    #[test]
    fn whatever_happens_each_node_comes_to_have_what_concerns_it(steps in proptest::collection::vec(step(), 0..60)) {
        let mut index = Index::new(NodeDefaults::default());
        let mut world = World::default();
        for step in &steps {
            world.step(step, &mut index);
        }
        world.settle(&mut index);
        prop_assert_eq!(world.maps.keys().collect::<Vec<_>>(), world.nodes.keys().collect::<Vec<_>>());
        for (n, (uid, pool)) in &world.nodes {
            let map = &world.maps[n];
            prop_assert_eq!(map.owner.as_ref(), Some(&uid.to_string()));
            let rules = NodeRules::from_data(&map.data).unwrap().decode().unwrap();
            let concerns = |spec: &ContainerDriftPolicySpec| {
                spec.enabled && spec.scope.node_selector.as_ref().is_none_or(|s| s.match_labels["pool"] == pool.to_string())
            };
            let expected: Vec<_> = world.policies.iter().filter(|(_, (_, spec))| concerns(spec))
                .map(|(p, (_, spec))| entry(&format!("p{p}"), spec.clone())).collect();
            prop_assert_eq!(&rules.policies, &expected);
        }
        // Nothing is left to write, and a list of the same objects changes nothing.
        let there: BTreeSet<String> = world.nodes.keys().map(|n| format!("n{n}")).collect();
        for kind in [Kind::Node, Kind::ConfigMap] {
            index.reset(kind, &there);
        }
        for (n, (uid, pool)) in &world.nodes {
            index.apply(&format!("n{n}"), node(*uid, *pool));
            index.apply(&format!("n{n}"), Change::ConfigMap(Box::new(world.maps[n].clone())));
        }
        index.plan();
        prop_assert!(index.nodes().values().all(mooring_operator::index::Node::is_settled));

        // A new operator comes to the same, without a write.
        let mut fresh = Index::new(NodeDefaults::default());
        for (n, map) in &world.maps {
            fresh.apply(&format!("n{n}"), Change::ConfigMap(Box::new(map.clone())));
        }
        for (n, (uid, pool)) in &world.nodes {
            fresh.apply(&format!("n{n}"), node(*uid, *pool));
        }
        for (p, (generation, spec)) in &world.policies {
            fresh.apply(&format!("p{p}"), policy_object(&format!("p{p}"), *generation, spec.clone()));
        }
        fresh.plan();
        prop_assert!(fresh.nodes().values().all(mooring_operator::index::Node::is_settled));
    }

    #[test]
    fn an_older_version_of_a_config_map_is_not_taken_in(first in 1_u64..100, second in 1_u64..100) {
        let mut index = Index::new(NodeDefaults::default());
        index.apply("n0", node(1, 0));
        index.plan();
        let of = |version: u64| ConfigMapObject { uid: "m".into(), resource_version: version.to_string(), ..Default::default() };
        for version in [first, second] {
            index.apply("n0", Change::ConfigMap(Box::new(of(version))));
        }
        let held = index.nodes()["n0"].observed.as_ref().unwrap().resource_version.clone();
        prop_assert_eq!(held, first.max(second).to_string());
    }

    /// Candidates that are frozen and thawed at any moment never act at the same time.
    #[test]
    fn two_never_lead_at_once(moves in proptest::collection::vec((0_usize..3, 0_u64..6000), 1..200), release in any::<bool>()) {
        let duration = Duration::from_secs(15);
        let names = ["a", "b", "c"];
        let mut stored: Option<Lease> = None;
        let mut version = 0_u64;
        // Each candidate: what it saw, and what it is about to write: sent when, on which version.
        let mut seen: [Option<Seen>; 3] = [None, None, None];
        let mut under_way: [Option<(Duration, Option<String>)>; 3] = [None, None, None];
        let mut acts = [Duration::ZERO; 3];
        let mut now = Duration::ZERO;
        for (who, wait) in moves {
            now += Duration::from_millis(wait);
            if let Some((sent, expected)) = under_way[who].take() {
                // The write arrives now, however long ago it was decided.
                if stored.as_ref().map(|lease| lease.resource_version.clone()) == expected {
                    version += 1;
                    stored = Some(Lease { resource_version: version.to_string(), holder: Some(names[who].into()), duration, transitions: 0 });
                    seen[who] = stored.clone().map(|lease| Seen { lease, since: sent });
                    acts[who] = acts_until(sent, duration);
                }
            } else {
                seen[who] = stored.clone().map(|lease| Seen::look(seen[who].take(), lease, now));
                match decide(seen[who].as_ref(), names[who], now) {
                    Decision::Wait(until) => prop_assert!(until >= now),
                    _ => under_way[who] = Some((now, seen[who].as_ref().map(|seen| seen.lease.resource_version.clone()))),
                }
            }
            let leaders = acts.iter().filter(|until| now < **until).count();
            prop_assert!(leaders <= 1, "{:?} at {:?}", acts, now);
            if release && now < acts[who] {
                acts[who] = Duration::ZERO;
                version += 1;
                stored = Some(Lease { resource_version: version.to_string(), holder: None, duration, transitions: 0 });
            }
        }
    }

    #[test]
    fn events_are_trimmed_to_the_caps_and_no_further(
        events in proptest::collection::vec((0_u8..4, 0_i64..2000), 0..200),
        namespace in 1_usize..40,
        cluster in 1_usize..90,
    ) {
        let caps = Caps { time_to_live: Duration::from_mins(25), namespace, cluster };
        let now = Timestamp::from_second(2000).unwrap();
        let mut all = Events::default();
        for (number, (ns, written)) in events.iter().enumerate() {
            let event = EventObject { uid: number.to_string(), written: Timestamp::from_second(*written).unwrap() };
            all.apply(&format!("ns{ns}/{number:04}"), event);
        }
        let surplus = all.surplus(now, caps);
        let gone: BTreeSet<_> = surplus.iter().map(|one| one.key.clone()).collect();
        prop_assert_eq!(gone.len(), surplus.len());
        let alive = |only: Option<u8>| events.iter().enumerate()
            .filter(|(_, (ns, _))| only.is_none_or(|only| only == *ns))
            .map(|(number, (ns, written))| (*written, format!("ns{ns}/{number:04}")))
            .collect::<Vec<_>>();
        let left = |only| alive(only).into_iter().filter(|(_, key)| !gone.contains(key)).collect::<Vec<_>>();
        prop_assert!(left(None).len() <= cluster);
        let young = |only| alive(only).into_iter().filter(|(written, _)| *written >= 500).count();
        let capped: usize = (0..4).map(|ns| young(Some(ns)).min(namespace)).sum();
        // At most as many too few as there are namespaces: they are lowered to one level.
        prop_assert!(left(None).len() + 4 > capped.min(cluster));
        for ns in 0..4 {
            let left = left(Some(ns));
            prop_assert!(left.len() <= namespace && left.iter().all(|(written, _)| *written >= 500));
            let newest_gone = alive(Some(ns)).into_iter().filter(|(_, key)| gone.contains(key)).max();
            prop_assert!(newest_gone.is_none_or(|gone| left.iter().all(|one| *one > gone)));
        }
        for one in &surplus {
            all.delete(&one.key);
        }
        prop_assert!(all.surplus(now, caps).is_empty());
    }
}

#[test]
fn what_was_refused_and_is_then_disabled_goes_out_of_force() {
    let mut index = Index::new(NodeDefaults::default());
    let mut world = World::default();
    world.step(&Step::Node(0, 0), &mut index);
    let in_force = |index: &Index| index.nodes()["n0"].desired.as_ref().unwrap().fragments.len();
    let mut edit = |index: &mut Index, generation, change: fn(&mut ContainerDriftPolicySpec)| {
        let mut spec = spec(1, 1, None);
        change(&mut spec);
        index.apply("p", policy_object("p", generation, spec));
        world.settle(index);
        in_force(index)
    };
    assert_eq!(edit(&mut index, 1, |_| {}), 1);
    assert_eq!(edit(&mut index, 2, |spec| spec.detect.drifted_scripts = true), 1, "the last good one");
    assert_eq!(edit(&mut index, 3, |spec| spec.enabled = false), 0);
}

#[test]
fn a_last_good_wording_stays_where_its_own_selector_says() {
    let mut index = Index::new(NodeDefaults::default());
    let mut world = World::default();
    for n in 0..2 {
        world.step(&Step::Node(n, 0), &mut index);
    }
    index.apply("p", policy_object("p", 1, spec(1, 1, Some(0))));
    world.settle(&mut index);
    let in_force = |index: &Index, n: &str| index.nodes()[n].desired.as_ref().unwrap().fragments.len();
    assert_eq!((in_force(&index, "n0"), in_force(&index, "n1")), (1, 1));
    // Refused, and no policy asks for a pool any more: all that tells the nodes apart is what they had.
    let mut refused = spec(2, 1, None);
    refused.detect.drifted_scripts = true;
    index.apply("p", policy_object("p", 2, refused));
    world.step(&Step::Node(1, 1), &mut index);
    world.settle(&mut index);
    assert_eq!((in_force(&index, "n0"), in_force(&index, "n1")), (1, 0));
}
