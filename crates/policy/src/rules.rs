//! The rule set: all policies of a node as masks, ready to be encoded for the kernel.

use std::collections::BTreeMap;

use mooring_crd::ContainerDriftPolicySpec;

use crate::limits::MAX_TABLE_PATHS;
use crate::mask::{Slot, SlotMask};
use crate::node_policy::NodeDefaults;
use crate::path::ListPath;
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
    except_lists: SlotMask,
    prohibit_lists: SlotMask,
    paths: BTreeMap<ListPath, PathMasks>,
}

impl RuleSet {
    /// The rule set of these policies, each in its slot, with their lists. Only `compile` makes one.
    pub(crate) fn new(policies: Vec<(SlotPolicy, PolicyPaths)>, defaults: NodeDefaults) -> Self {
        let mut rules = Self { defaults, ..Self::default() };
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
            if !paths.excepted.is_empty() {
                rules.except_lists.insert(slot);
            }
            if !paths.prohibited.is_empty() {
                rules.prohibit_lists.insert(slot);
            }
            for path in paths.excepted {
                rules.paths.entry(path).or_default().excepted.insert(slot);
            }
            for path in paths.prohibited {
                rules.paths.entry(path).or_default().prohibited.insert(slot);
            }
            rules.policies.push(policy);
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
        self.except_lists
    }

    /// The slots that have prohibited binaries.
    #[must_use]
    pub fn prohibit_lists(&self) -> SlotMask {
        self.prohibit_lists
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
        self.paths.get(path).copied().unwrap_or_default()
    }
}

/// What the switches of a node's agent change ([`crate::action::Switches`]).
impl RuleSet {
    /// As if no policy prevented: what violates them is still told.
    pub(crate) fn hold_back_prevention(&mut self) {
        self.prevents = SlotMask::EMPTY;
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
    pub(crate) excepted: Vec<ListPath>,
    pub(crate) prohibited: Vec<ListPath>,
}
