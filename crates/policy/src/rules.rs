//! The rule set: all policies of a node as masks, ready to be encoded for the kernel.

use std::collections::BTreeMap;
use std::ops::BitOr;
use std::sync::Arc;

use mooring_crd::ContainerDriftPolicySpec;

use crate::automaton::Automaton;
use crate::limits::MAX_TABLE_PATHS;
use crate::mask::{Slot, SlotMask};
use crate::node_policy::NodeDefaults;
use crate::path::ListPath;
use crate::pattern::{ListEntry, Pattern};
use crate::verdict::{Class, Use};

/// A policy in its slot.
#[derive(Clone, Debug, PartialEq)]
pub struct SlotPolicy {
    /// Its slot.
    pub slot: Slot,
    /// Its name.
    pub name: String,
    /// Its uid, where it came from an API server.
    pub uid: Option<String>,
    /// Everything that it says: severity, runbook, description, scope, lists, actions.
    pub spec: ContainerDriftPolicySpec,
    /// Whether it treats binaries on volumes as drifted: what it says itself, or else the node's default.
    pub volume_binaries: bool,
}

impl SlotPolicy {
    /// Whether this policy regards such a use of such a file as drift, lists apart.
    ///
    /// A library on a volume is drift only where both `driftedLibraries` and `volumeBinaries` are on.
    #[must_use]
    pub fn detects(&self, usage: Use, class: Class) -> bool {
        let detect = &self.spec.detect;
        match (usage, class) {
            (_, Class::Image) => false,
            (Use::Execute, Class::VolumeBinary) => self.volume_binaries,
            (Use::Execute, _) => detect.drifted_binaries,
            (Use::Map, Class::VolumeBinary) => detect.drifted_libraries && self.volume_binaries,
            (Use::Map, _) => detect.drifted_libraries,
        }
    }
}

/// Which slots have a path in which of their lists.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PathMasks {
    /// The slots that except the path.
    pub excepted: SlotMask,
    /// The slots that prohibit the path.
    pub prohibited: SlotMask,
    /// The slots for which the program at the path may execute drifted files.
    pub excepted_process: SlotMask,
    /// The slots for which the program at the path may execute nothing.
    pub prohibited_process: SlotMask,
}

impl BitOr for PathMasks {
    type Output = Self;
    fn bitor(self, other: Self) -> Self {
        Self {
            excepted: self.excepted | other.excepted,
            prohibited: self.prohibited | other.prohibited,
            excepted_process: self.excepted_process | other.excepted_process,
            prohibited_process: self.prohibited_process | other.prohibited_process,
        }
    }
}

/// A node's table has no room for what a prohibited link stands for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{alias} does not fit: the node's table holds {MAX_TABLE_PATHS} paths; prohibit fewer paths that are links in images"
)]
pub struct NoRoom {
    /// What does not fit: see [`RuleSet::prohibit_alias`].
    pub alias: ListPath,
}

/// All policies of a node. An edit makes a new one.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RuleSet {
    policies: Vec<SlotPolicy>,
    defaults: NodeDefaults,
    detects: [[SlotMask; Class::COUNT]; Use::COUNT],
    prevents: SlotMask,
    /// Which slots have an entry in which of their lists.
    lists: PathMasks,
    pattern_lists: SlotMask,
    paths: BTreeMap<ListPath, PathMasks>,
    patterns: Arc<Patterns>,
}

/// The patterns of a node and what they are compiled into.
#[derive(Debug, Default, PartialEq)]
struct Patterns {
    masks: BTreeMap<Pattern, PathMasks>,
    automaton: Automaton,
}

impl RuleSet {
    /// The rule set of these policies, each in its slot, with their lists. Only `compile` makes one. `whole` is what so many
    /// patterns, all of theirs among them, are compiled into.
    pub(crate) fn new(
        policies: Vec<(SlotPolicy, PolicyPaths)>,
        defaults: NodeDefaults,
        whole: Option<(usize, Automaton)>,
    ) -> Self {
        let mut rules = Self { defaults, ..Self::default() };
        let mut patterns: BTreeMap<Pattern, PathMasks> = BTreeMap::new();
        for (policy, paths) in policies {
            let slot = policy.slot;
            for usage in Use::ALL {
                for class in Class::ALL {
                    if policy.detects(usage, class) {
                        rules.detects[usage.index()][class.index()].insert(slot);
                    }
                }
            }
            if policy.spec.actions.prevent {
                rules.prevents.insert(slot);
            }
            for (entry, masks) in paths.masks(slot) {
                rules.lists = rules.lists | masks;
                match entry {
                    ListEntry::Path(path) => {
                        let there = rules.paths.entry(path).or_default();
                        *there = *there | masks;
                    }
                    ListEntry::Pattern(pattern) => {
                        rules.pattern_lists.insert(slot);
                        let there = patterns.entry(pattern).or_default();
                        *there = *there | masks;
                    }
                }
            }
            rules.policies.push(policy);
        }
        // Without patterns there is no table.
        if !patterns.is_empty() {
            let automaton = match whole {
                Some((number, automaton)) if number == patterns.len() => automaton,
                // They were found to fit before: see `compile`.
                _ => Automaton::of(patterns.keys()).unwrap_or_default(),
            };
            rules.patterns = Arc::new(Patterns { masks: patterns, automaton });
        }
        rules
    }

    /// The policies, by slot.
    #[must_use]
    pub fn policies(&self) -> &[SlotPolicy] {
        &self.policies
    }

    /// The policy in a slot.
    #[must_use]
    pub fn policy(&self, slot: Slot) -> Option<&SlotPolicy> {
        // Slots are given without gaps.
        self.policies.get(slot.number())
    }

    /// The node's defaults that it was compiled with.
    #[must_use]
    pub fn defaults(&self) -> NodeDefaults {
        self.defaults
    }

    /// The slots that regard such a use of such a file as drift.
    #[must_use]
    pub fn detects(&self, usage: Use, class: Class) -> SlotMask {
        self.detects[usage.index()][class.index()]
    }

    /// The slots that prevent.
    #[must_use]
    pub fn prevents(&self) -> SlotMask {
        self.prevents
    }

    /// The slots that have exceptions.
    #[must_use]
    pub fn except_lists(&self) -> SlotMask {
        self.lists.excepted
    }

    /// The slots that have prohibited binaries.
    #[must_use]
    pub fn prohibit_lists(&self) -> SlotMask {
        self.lists.prohibited
    }

    /// The slots that have programs that may execute drifted files.
    #[must_use]
    pub fn except_process_lists(&self) -> SlotMask {
        self.lists.excepted_process
    }

    /// The slots that have programs that may execute nothing.
    #[must_use]
    pub fn prohibit_process_lists(&self) -> SlotMask {
        self.lists.prohibited_process
    }

    /// The slots that have a pattern in any of their lists.
    #[must_use]
    pub fn pattern_lists(&self) -> SlotMask {
        self.pattern_lists
    }

    /// The patterns of all lists, in the order of their bytes, which is the automaton's.
    #[must_use]
    pub fn patterns(&self) -> impl ExactSizeIterator<Item = (&Pattern, PathMasks)> {
        self.patterns.masks.iter().map(|(pattern, masks)| (pattern, *masks))
    }

    /// What the patterns are compiled into; without states where there are none.
    #[must_use]
    pub fn automaton(&self) -> &Automaton {
        &self.patterns.automaton
    }

    /// The paths of all lists, in the order of their bytes.
    #[must_use]
    pub fn paths(&self) -> impl ExactSizeIterator<Item = (&ListPath, PathMasks)> {
        self.paths.iter().map(|(path, masks)| (path, *masks))
    }

    /// Prohibits the program at `target`, invoked by the last component of `listed`, to the slots that prohibit `listed`: a
    /// prohibited path that is a link in a container's root (`/bin/nc`, a link to `/bin/busybox`) stands for this. Gives the entry
    /// where it is new or has changed. An alias that is longer than a path may be is left out: no kernel key holds it.
    ///
    /// # Errors
    /// When the table would not hold the entry; the rule set is as before.
    pub fn prohibit_alias(&mut self, listed: &str, target: &str) -> Result<Option<(ListPath, PathMasks)>, NoRoom> {
        let alias = listed.rsplit_once('/').map(|(_, name)| ListPath::prohibited(&format!("{target}/{name}")));
        let Some(Ok(alias)) = alias else { return Ok(None) };
        let prohibited = self.path(listed.as_bytes()).prohibited;
        let entry = self.paths.get(alias.as_bytes()).copied();
        let masks = entry.unwrap_or_default();
        let changed = PathMasks { prohibited: masks.prohibited | prohibited, ..masks };
        if changed == masks {
            return Ok(None);
        }
        if entry.is_none() && self.paths.len() >= MAX_TABLE_PATHS {
            return Err(NoRoom { alias });
        }
        self.paths.insert(alias.clone(), changed);
        Ok(Some((alias, changed)))
    }

    /// What the lists say of a path; nothing for one that is in none.
    #[must_use]
    pub fn path(&self, path: &[u8]) -> PathMasks {
        let matching = self.patterns.masks.iter().filter(|(pattern, _)| pattern.matches(path));
        matching.fold(self.paths.get(path).copied().unwrap_or_default(), |all, (_, masks)| all | *masks)
    }
}

/// What the switches of a node's agent change ([`crate::action::Switches`]).
impl RuleSet {
    /// As if no other slots than these prevented: what violates the others is still told.
    pub fn prevent_only(&mut self, slots: SlotMask) {
        self.prevents = self.prevents & slots;
    }

    /// Policies that leave `volumeBinaries` unset have it on.
    pub(crate) fn detect_volume_binaries_by_default(&mut self) {
        self.defaults.volume_binaries = true;
        for policy in self.policies.iter_mut().filter(|policy| policy.spec.detect.volume_binaries.is_none()) {
            policy.volume_binaries = true;
            for usage in Use::ALL {
                if policy.detects(usage, Class::VolumeBinary) {
                    self.detects[usage.index()][Class::VolumeBinary.index()].insert(policy.slot);
                }
            }
        }
    }
}

/// The checked lists of one policy.
#[derive(Clone, Debug, Default)]
pub(crate) struct PolicyPaths {
    pub(crate) excepted: Vec<ListEntry>,
    pub(crate) prohibited: Vec<ListEntry>,
    pub(crate) excepted_processes: Vec<ListEntry>,
    pub(crate) prohibited_processes: Vec<ListEntry>,
}

impl PolicyPaths {
    /// Every entry.
    pub(crate) fn all(&self) -> impl Iterator<Item = &ListEntry> {
        let lists = [&self.excepted, &self.prohibited, &self.excepted_processes, &self.prohibited_processes];
        lists.into_iter().flatten()
    }

    /// Adds the patterns among them.
    pub(crate) fn add_patterns(&self, patterns: &mut BTreeMap<Pattern, PathMasks>) {
        for entry in self.all() {
            if let ListEntry::Pattern(pattern) = entry {
                patterns.entry(pattern.clone()).or_default();
            }
        }
    }

    /// Every entry with what it is to the policy in this slot.
    fn masks(self, slot: Slot) -> impl Iterator<Item = (ListEntry, PathMasks)> {
        let none = PathMasks::default();
        let own = SlotMask::from(slot);
        let lists = [
            (self.excepted, PathMasks { excepted: own, ..none }),
            (self.prohibited, PathMasks { prohibited: own, ..none }),
            (self.excepted_processes, PathMasks { excepted_process: own, ..none }),
            (self.prohibited_processes, PathMasks { prohibited_process: own, ..none }),
        ];
        lists.into_iter().flat_map(|(list, masks)| list.into_iter().map(move |entry| (entry, masks)))
    }
}
