//! A rule set as the kernel's tables. Encoding is pure; the tables are new maps, filled before anyone sees them.

use std::collections::BTreeMap;
use std::mem::size_of;

use libbpf_rs::libbpf_sys::{BPF_F_NO_PREALLOC, bpf_map_create_opts};
use libbpf_rs::{MapCore, MapFlags, MapHandle, MapType};
use mooring_bpf::wire::{MAX_CONTAINERS, Wire, path_key, path_key_of, path_rule, pattern_state, rules};

use mooring_policy::limits::{MAX_PATTERN_BYTES, MAX_PATTERN_STATES, MAX_TABLE_PATHS};
use mooring_policy::{Class, PathMasks, RuleSet, Use};

use super::KernelError;

/// Classes of bytes in the table of patterns (`PATTERN_CLASSES` in `wire.h`).
const PATTERN_CLASSES: usize = MAX_PATTERN_BYTES + 1;

/// The policies of each container, by cgroup id.
pub type Members = BTreeMap<u64, u64>;

/// A rule set, encoded.
#[derive(Clone)]
pub struct Tables {
    /// The masks.
    pub rules: rules,
    /// What the lists say of each path.
    pub paths: Vec<(path_key, path_rule)>,
    /// What patterns are compiled into, by state; empty where there are none.
    pub patterns: Vec<pattern_state>,
}

impl Tables {
    /// Encodes masks and lists.
    #[must_use]
    pub fn encode(rule_set: &RuleSet, generation: u64, unknown_member: u64) -> Self {
        let paths = rule_set
            .paths()
            .filter_map(|(path, masks)| Some((path_key_of(path.as_bytes())?, path_rule_of(masks))))
            .collect();
        Self {
            rules: rules {
                detects: Use::ALL.map(|usage| Class::ALL.map(|class| rule_set.detects(usage, class).bits())),
                prevents: rule_set.prevents().bits(),
                except_lists: rule_set.except_lists().bits(),
                prohibit_lists: rule_set.prohibit_lists().bits(),
                except_process_lists: rule_set.except_process_lists().bits(),
                prohibit_process_lists: rule_set.prohibit_process_lists().bits(),
                pattern_lists: rule_set.pattern_lists().bits(),
                unknown_member,
                generation,
                pattern_classes: rule_set.automaton().classes.as_slice().try_into().unwrap_or([0; 256]),
            },
            paths,
            patterns: pattern_states(rule_set),
        }
    }
}

fn pattern_states(rule_set: &RuleSet) -> Vec<pattern_state> {
    let masks: Vec<PathMasks> = rule_set.patterns().map(|(_, masks)| masks).collect();
    let automaton = rule_set.automaton();
    let states = automaton.next.iter().zip(&automaton.matches).map(|(row, matches)| {
        let said = matches.iter().filter_map(|pattern| masks.get(*pattern));
        let mut state = pattern_state {
            next: [0; PATTERN_CLASSES],
            rule: path_rule_of(said.fold(PathMasks::default(), |all, one| all | *one)),
        };
        for (place, next) in state.next.iter_mut().zip(row) {
            *place = *next;
        }
        state
    });
    states.collect()
}

pub(super) fn path_rule_of(masks: PathMasks) -> path_rule {
    path_rule {
        excepted: masks.excepted.bits(),
        prohibited: masks.prohibited.bits(),
        excepted_process: masks.excepted_process.bits(),
        prohibited_process: masks.prohibited_process.bits(),
    }
}

fn create(
    kind: MapType,
    name: &str,
    key: usize,
    value: usize,
    entries: usize,
    flags: u32,
) -> Result<MapHandle, KernelError> {
    let options = bpf_map_create_opts {
        sz: size_of::<bpf_map_create_opts>() as _,
        map_flags: flags,
        ..bpf_map_create_opts::default()
    };
    let size = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
    MapHandle::create(kind, Some(name), size(key), size(value), size(entries), &options)
        .map_err(KernelError::bpf(format!("make a {name} table")))
}

pub(super) fn new_rules_table(rules: &rules) -> Result<MapHandle, KernelError> {
    let table = create(MapType::Array, "rules_table", size_of::<u32>(), size_of_val(rules), 1, 0)?;
    table.update(&0_u32.to_ne_bytes(), rules.as_bytes(), MapFlags::ANY).map_err(KernelError::bpf("fill the rules"))?;
    Ok(table)
}

pub(super) fn new_paths_table(paths: &[(path_key, path_rule)]) -> Result<MapHandle, KernelError> {
    let table = create(
        MapType::Hash,
        "paths_table",
        size_of::<path_key>(),
        size_of::<path_rule>(),
        MAX_TABLE_PATHS,
        BPF_F_NO_PREALLOC,
    )?;
    for (key, rule) in paths {
        table
            .update(key.as_bytes(), rule.as_bytes(), MapFlags::ANY)
            .map_err(KernelError::bpf("fill the lists of paths"))?;
    }
    Ok(table)
}

/// `None` where there are no patterns: then there is nothing to ask.
pub(super) fn new_patterns_table(states: &[pattern_state]) -> Result<Option<MapHandle>, KernelError> {
    if states.is_empty() {
        return Ok(None);
    }
    let value = size_of::<pattern_state>();
    let table = create(MapType::Array, "patterns_table", size_of::<u32>(), value, MAX_PATTERN_STATES, 0)?;
    for (number, state) in (0_u32..).zip(states) {
        table
            .update(&number.to_ne_bytes(), state.as_bytes(), MapFlags::ANY)
            .map_err(KernelError::bpf("fill the table of patterns"))?;
    }
    Ok(Some(table))
}

pub(super) fn new_members_table(members: &Members) -> Result<MapHandle, KernelError> {
    let key = size_of::<u64>();
    let table = create(MapType::Hash, "members_table", key, size_of::<u64>(), MAX_CONTAINERS, BPF_F_NO_PREALLOC)?;
    for (cgroup, member) in members {
        table
            .update(&cgroup.to_ne_bytes(), &member.to_ne_bytes(), MapFlags::ANY)
            .map_err(KernelError::bpf("fill the containers' policies"))?;
    }
    Ok(table)
}
