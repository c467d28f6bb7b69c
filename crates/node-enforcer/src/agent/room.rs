//! What the kernel's tables have no room for: said by name, counted, and tried again.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use mooring_bpf::wire::MAX_CONTAINERS;

use crate::kernel::Members;

/// How often it is tried again.
const AGAIN: Duration = Duration::from_secs(1);

/// The masks that the table of members gets: those of the containers that the programs already know, then others while there is
/// room. A container without a mask would be judged as an unknown one.
pub(super) fn members_with_room(entered: &[u64], masks: BTreeMap<u64, u64>) -> Members {
    let mut members: Members = entered.iter().filter_map(|cgroup| Some((*cgroup, *masks.get(cgroup)?))).collect();
    for (cgroup, mask) in masks {
        if members.len() >= MAX_CONTAINERS {
            break;
        }
        members.insert(cgroup, mask);
    }
    members
}

/// What found no room.
#[derive(Debug)]
pub(super) struct Shortage {
    /// Cgroups of containers.
    unprotected: BTreeSet<u64>,
    /// Programs by the name of a prohibited link: see `RuleSet::prohibit_alias`.
    not_covered: BTreeSet<String>,
    /// A container that is gone may have taken its aliases with it.
    released: bool,
    tried: Instant,
}

impl Shortage {
    pub(super) fn none() -> Self {
        Self { unprotected: BTreeSet::new(), not_covered: BTreeSet::new(), released: false, tried: Instant::now() }
    }

    /// How many containers are unprotected.
    pub(super) fn unprotected(&self) -> usize {
        self.unprotected.len()
    }

    /// Whether a container found room.
    pub(super) fn has_room(&self, cgroup: u64) -> bool {
        !self.unprotected.contains(&cgroup)
    }

    /// True for a container that was protected until now.
    pub(super) fn left_out(&mut self, cgroup: u64) -> bool {
        self.unprotected.insert(cgroup)
    }

    /// It has been entered, or is gone. True when it was unprotected.
    pub(super) fn no_longer(&mut self, cgroup: u64) -> bool {
        self.unprotected.remove(&cgroup)
    }

    /// True when nobody has been told of this alias.
    pub(super) fn alias_left_out(&mut self, alias: &str) -> bool {
        self.not_covered.insert(alias.to_owned())
    }

    /// The tables are made anew: these are all that do not fit.
    pub(super) fn aliases_left_out(&mut self, aliases: BTreeSet<String>) {
        self.not_covered = aliases;
    }

    /// A container is gone.
    pub(super) fn released(&mut self) {
        self.released = true;
    }

    /// The containers to be tried again now.
    pub(super) fn due(&mut self) -> Vec<u64> {
        if self.tried.elapsed() < AGAIN {
            return Vec::new();
        }
        self.tried = Instant::now();
        self.unprotected.iter().copied().collect()
    }

    /// Whether tables that are made anew may hold more; once for whatever was released.
    pub(super) fn may_cover_more(&mut self) -> bool {
        std::mem::take(&mut self.released) && !self.not_covered.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_known_to_the_programs_keeps_the_place_of_a_newcomer() {
        let all = u64::try_from(MAX_CONTAINERS).unwrap() + 10;
        let masks: BTreeMap<u64, u64> = (0..all).map(|cgroup| (cgroup, cgroup + 1)).collect();
        // One that the agent knows nothing of has no mask.
        let entered = [all - 1, all - 2, all + 7];
        let members = members_with_room(&entered, masks);
        assert_eq!(members.len(), MAX_CONTAINERS);
        assert_eq!(members.get(&(all - 1)), Some(&all));
        assert_eq!(members.get(&(all - 2)), Some(&(all - 1)));
        assert_eq!(members.get(&(all - 3)), None);
        assert!(!members.contains_key(&(all + 7)));
    }

    #[test]
    fn what_has_been_told_is_not_told_again_until_it_fits() {
        let mut shortage = Shortage::none();
        assert!(shortage.left_out(7));
        assert!(!shortage.left_out(7));
        assert_eq!(shortage.unprotected(), 1);
        assert!(shortage.no_longer(7));
        assert!(!shortage.no_longer(7));
        assert!(shortage.alias_left_out("/bin/busybox/nc"));
        assert!(!shortage.alias_left_out("/bin/busybox/nc"));
        assert!(!shortage.may_cover_more());
        shortage.released();
        assert!(shortage.may_cover_more());
        assert!(!shortage.may_cover_more());
        shortage.released();
        shortage.aliases_left_out(BTreeSet::new());
        assert!(!shortage.may_cover_more());
    }
}
