//! What the tests of the laws are fed with: policies and attempts over few words, so that they often meet. The comparison
//! with the kernel's verdict (an example of `mooring-node-enforcer`) is fed with the same.
#![allow(dead_code)] // Each test program uses its part.

use std::collections::BTreeMap;
use std::fmt;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use mooring_crd::{
    ContainerDriftPolicy, ContainerDriftPolicySpec, Detect, Exception, LabelSelector, Operator, ProcessPath,
    ProhibitedBinary, Requirement, Scope, Severity,
};
use mooring_policy::limits::MAX_POLICIES;
use mooring_policy::{Attempt, Class, Name, Program, SlotMask, Use};
use proptest::collection::{btree_map, vec};
use proptest::option;
use proptest::prelude::*;
use proptest::sample::{select, subsequence};

/// A path of this many bytes: 255 are the most that a list may hold.
fn long(bytes: usize) -> String {
    format!("/{}", "l".repeat(bytes - 1))
}

fn texts(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

fn excepted() -> Vec<String> {
    let mut paths =
        texts(&["/a", "/usr/bin/nc", "/tmp/x", "memfd:x", "/\u{e9}", "/a/**", "/tmp/*", "/**/x", "/\u{e9}*"]);
    paths.extend([long(254), long(255)]);
    paths
}

fn prohibited() -> Vec<String> {
    let mut paths = texts(&["/b", "/usr/bin/nc", "/tmp/x", "/c", "/usr/*/nc", "/usr/**", "/l*"]);
    paths.extend([long(254), long(255)]);
    paths
}

/// Names that lists never hold, most of them nearly one that they do.
fn unlisted() -> Vec<String> {
    let mut names =
        texts(&["", "/", "a", "/aa", "/a/", "/a/a", "//a", "memfd:", "/other", "/tmp/a/x", "/usr/nc", "/usr/a/b/nc"]);
    names.extend([long(253), long(256), long(255).replace('/', "l")]);
    names
}

/// A name and owned bytes for it.
#[derive(Clone)]
pub enum Seen {
    None,
    Path(Vec<u8>),
    TooLong,
    Unresolved,
}

impl fmt::Debug for Seen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => f.write_str("None"),
            Self::Path(path) => write!(f, "\"{}\"", path.escape_ascii()),
            Self::TooLong => f.write_str("TooLong"),
            Self::Unresolved => f.write_str("Unresolved"),
        }
    }
}

impl Seen {
    pub fn name(&self) -> Name<'_> {
        match self {
            Self::None => Name::None,
            Self::Path(path) => Name::Path(path),
            Self::TooLong => Name::TooLong,
            Self::Unresolved => Name::Unresolved,
        }
    }
}

/// An attempt that owns what it says.
#[derive(Clone, Debug)]
pub struct Tried {
    pub member: u64,
    pub usage: Use,
    pub class: Class,
    pub names: [Seen; 4],
    /// Class, path and lower path of the program that executes.
    pub caller: Option<(Class, [Seen; 2])>,
}

impl Tried {
    pub fn attempt(&self) -> Attempt<'_> {
        Attempt {
            member: SlotMask::from_bits(self.member),
            usage: self.usage,
            class: self.class,
            path: self.names[0].name(),
            lower_path: self.names[1].name(),
            invoked: self.names[2].name(),
            alias: self.names[3].name(),
            caller: self.caller.as_ref().map(|(class, [path, lower_path])| Program {
                class: *class,
                path: path.name(),
                lower_path: lower_path.name(),
            }),
        }
    }
}

fn seen() -> impl Strategy<Value = Seen> {
    prop_oneof![
        2 => Just(Seen::None),
        5 => select([excepted(), prohibited()].concat()).prop_map(|path| Seen::Path(path.into_bytes())),
        2 => select(unlisted()).prop_map(|name| Seen::Path(name.into_bytes())),
        1 => Just(Seen::TooLong),
        1 => Just(Seen::Unresolved),
    ]
}

pub fn tried() -> impl Strategy<Value = Tried> {
    // Among many policies there is nearly always one with a list: only few of them show what comes of none.
    let member = prop_oneof![Just(u64::MAX), any::<u64>(), (0..16).prop_map(|slot| 1_u64 << slot)];
    let usage = select(&Use::ALL[..]);
    let class = select(&Class::ALL[..]);
    // An exception is the image's own program's only.
    let classes = prop_oneof![Just(Class::Image), select(&Class::ALL[..])];
    let caller = option::weighted(
        0.8,
        (classes, seen(), prop_oneof![Just(Seen::None), seen()])
            .prop_map(|(class, path, lower)| (class, [path, lower])),
    );
    (member, usage, class, [seen(), seen(), seen(), seen()], caller)
        .prop_map(|(member, usage, class, names, caller)| Tried { member, usage, class, names, caller })
}

pub fn labels() -> impl Strategy<Value = BTreeMap<String, String>> {
    btree_map("[ab]", "[xyz]", 0..3)
}

pub fn requirement() -> impl Strategy<Value = Requirement> {
    use Operator::{DoesNotExist, Exists, In, NotIn};
    let values = subsequence(vec!["x", "y", "z"], 1..3);
    ("[ab]", select(&[In, NotIn, Exists, DoesNotExist][..]), values).prop_map(|(key, operator, values)| {
        let values = match operator {
            In | NotIn => values.into_iter().map(str::to_owned).collect(),
            Exists | DoesNotExist => Vec::new(),
        };
        Requirement { key, operator, values }
    })
}

fn selector() -> impl Strategy<Value = LabelSelector> {
    (btree_map("[ab]", "[xyz]", 0..2), vec(requirement(), 0..2))
        .prop_map(|(match_labels, match_expressions)| LabelSelector { match_labels, match_expressions })
}

fn names(words: &'static [&'static str]) -> impl Strategy<Value = Vec<String>> {
    subsequence(words, 0..=words.len()).prop_map(|words| words.into_iter().map(str::to_owned).collect())
}

pub fn scope() -> impl Strategy<Value = Scope> {
    let selector = || option::weighted(0.3, selector());
    let containers = prop_oneof![3 => Just(Vec::new()), 1 => names(&["api", "worker"])];
    let images = prop_oneof![3 => Just(Vec::new()), 1 => names(&["*", "r/app:1", "r/*", "*:1"])];
    (selector(), selector(), selector(), containers, images).prop_map(
        |(namespace_selector, pod_selector, node_selector, containers, images)| Scope {
            namespace_selector,
            pod_selector,
            node_selector,
            containers,
            images,
        },
    )
}

fn detect() -> impl Strategy<Value = Detect> {
    let lists = (subsequence(excepted(), 0..=4), subsequence(prohibited(), 0..=4));
    let processes = (subsequence(prohibited(), 0..=3), subsequence(prohibited(), 0..=2));
    (any::<bool>(), option::of(any::<bool>()), any::<bool>(), lists, option::weighted(0.3, processes)).prop_map(
        |(drifted_binaries, volume_binaries, drifted_libraries, (excepted, prohibited), processes)| {
            let (may, may_not) = processes.unwrap_or_default();
            Detect {
                drifted_binaries,
                volume_binaries,
                drifted_libraries,
                drifted_scripts: false,
                exceptions: excepted
                    .iter()
                    // One object must not hold a path in both lists.
                    .filter(|path| !prohibited.contains(path))
                    .map(|path| Exception { path: path.clone(), sha256: None })
                    .collect(),
                prohibited_binaries: prohibited.into_iter().map(|path| ProhibitedBinary { path }).collect(),
                process_exceptions: may
                    .into_iter()
                    .filter(|path| !may_not.contains(path))
                    .map(|path| ProcessPath { path })
                    .collect(),
                prohibited_processes: may_not.into_iter().map(|path| ProcessPath { path }).collect(),
            }
        },
    )
}

pub fn spec() -> impl Strategy<Value = ContainerDriftPolicySpec> {
    let words = (option::of("[a-z ]{0,9}"), select(Severity::ALL), prop::bool::weighted(0.9));
    (words, scope(), detect(), any::<bool>()).prop_map(|((description, severity, enabled), scope, detect, prevent)| {
        let mut spec = ContainerDriftPolicySpec {
            description,
            enabled,
            severity,
            runbook_url: None,
            scope,
            detect,
            ..ContainerDriftPolicySpec::default()
        };
        spec.actions.prevent = prevent;
        spec
    })
}

/// A policy of this name and, where it came from an API server, age.
pub fn policy(name: &str, created: Option<i64>, spec: ContainerDriftPolicySpec) -> ContainerDriftPolicy {
    let mut policy = ContainerDriftPolicy::new(name, spec);
    policy.metadata.creation_timestamp =
        created.map(|second| Time(k8s_openapi::jiff::Timestamp::from_second(second).unwrap()));
    policy.metadata.uid = created.map(|second| format!("{name}-{second}"));
    policy
}

/// Up to seven policies of different names.
pub fn policies() -> impl Strategy<Value = Vec<ContainerDriftPolicy>> {
    btree_map("[a-g]", (option::of(0..3_i64), spec()), 0..7)
        .prop_map(|map| map.into_iter().map(|(name, (created, spec))| policy(&name, created, spec)).collect())
}

/// Up to as many policies as a node applies, of which only that is generated which a verdict depends on.
pub fn many_policies() -> impl Strategy<Value = Vec<ContainerDriftPolicy>> {
    vec((detect(), any::<bool>()), 0..=MAX_POLICIES).prop_map(|policies| {
        let policies = policies.into_iter().enumerate().map(|(index, (detect, prevent))| {
            let mut spec = ContainerDriftPolicySpec { detect, ..ContainerDriftPolicySpec::default() };
            spec.actions.prevent = prevent;
            policy(&format!("p{index}"), None, spec)
        });
        policies.collect()
    })
}
