//! The containers that the agent knows, and those that it has yet to find out about.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use mooring_policy::{RuleSet, SlotMask};

use super::adopt::started;
use super::again::Again;
use super::links::{Links, PathNumbers};
use crate::containers::{Container, Finder, FinderConfig};
use crate::response::StopSignal;

/// How often a bundle that is being written is read again.
const TRIES: u32 = 50;
/// How long the runtime may take from the container's cgroup to its mounts.
const SET_UP: Duration = Duration::from_mins(1);

/// A container that the agent knows.
pub(super) struct Known {
    /// What its runtime says.
    pub(super) container: Arc<Container>,
    /// Its start, in seconds of the epoch.
    pub(super) started: u64,
    /// The slots of its policies, as they are in the kernel.
    pub(super) member: SlotMask,
    /// Those of them that are not only guessed: see [`super::Surroundings::certain`].
    pub(super) certain: SlotMask,
    /// As its pod says, where that is known.
    pub(super) stop_signal: StopSignal,
    links: Links,
    /// Some of its volumes are made by the runtime later, and are looked for.
    incomplete: Option<Again>,
}

impl Known {
    /// Prohibited paths and the files that they lead to in its root, for the policies of `member`.
    pub(super) fn targets<'a>(
        &'a mut self,
        numbers: &mut PathNumbers,
        rules: &RuleSet,
        member: SlotMask,
    ) -> impl Iterator<Item = (&'a str, &'a str)> + use<'a> {
        if !(member & rules.prohibit_lists()).is_empty() {
            let prohibited = rules.paths().filter(|(_, masks)| !(masks.prohibited & member).is_empty());
            self.links.look_for(&self.container.root.path, prohibited.map(|(path, _)| path.as_str()), numbers);
            let patterns = rules.patterns().filter(|(_, masks)| !(masks.prohibited & member).is_empty());
            self.links.look_for_patterns(&self.container.root.path, patterns.map(|(pattern, _)| pattern), numbers);
        }
        self.links.targets()
    }
}

struct Unresolved {
    cgroup: u64,
    path: String,
    maker: Option<u32>,
    tries: u32,
    again: Again,
}

/// All of them, by cgroup id.
pub(super) struct Roster {
    finder: Finder,
    known: BTreeMap<u64, Known>,
    unresolved: Vec<Unresolved>,
}

impl Roster {
    pub(super) fn new() -> Self {
        Self { finder: Finder::new(FinderConfig::default()), known: BTreeMap::new(), unresolved: Vec::new() }
    }

    pub(super) fn get(&self, cgroup: u64) -> Option<&Known> {
        self.known.get(&cgroup)
    }

    pub(super) fn get_mut(&mut self, cgroup: u64) -> Option<&mut Known> {
        self.known.get_mut(&cgroup)
    }

    pub(super) fn all(&self) -> impl ExactSizeIterator<Item = (u64, &Known)> {
        self.known.iter().map(|(cgroup, known)| (*cgroup, known))
    }

    pub(super) fn all_mut(&mut self) -> impl Iterator<Item = (u64, &mut Known)> {
        self.known.iter_mut().map(|(cgroup, known)| (*cgroup, known))
    }

    /// The containers of a pod.
    pub(super) fn of_pod(&self, uid: &str) -> impl Iterator<Item = u64> {
        self.all().filter(move |(_, known)| known.container.pod_uid.as_deref() == Some(uid)).map(|(cgroup, _)| cgroup)
    }

    /// The containers in a namespace.
    pub(super) fn in_namespace(&self, name: &str) -> impl Iterator<Item = u64> {
        self.all().filter(move |(_, known)| known.container.namespace == name).map(|(cgroup, _)| cgroup)
    }

    /// Whether it is still to be found out what this cgroup is.
    pub(super) fn is_unresolved(&self, cgroup: u64) -> bool {
        self.unresolved.iter().any(|unresolved| unresolved.cgroup == cgroup)
    }

    /// When [`Roster::look_again`] may find something.
    pub(super) fn next_look(&self) -> Option<Instant> {
        let unresolved = self.unresolved.iter().map(|unresolved| &unresolved.again);
        unresolved.chain(self.known.values().filter_map(|known| known.incomplete.as_ref())).map(Again::due).min()
    }

    /// Looks at this cgroup next: something happens in it.
    pub(super) fn hurry(&mut self, cgroup: u64) {
        for unresolved in self.unresolved.iter_mut().filter(|unresolved| unresolved.cgroup == cgroup) {
            unresolved.again.hurry(Instant::now());
        }
    }

    /// Learns containers that are not known yet; gives their cgroups.
    pub(super) fn scan(&mut self) -> Vec<u64> {
        let (containers, errors) = self.finder.scan();
        for error in errors {
            eprintln!("container not resolved: {error}");
        }
        let new: Vec<_> = containers.into_iter().filter(|found| !self.known.contains_key(&found.cgroup_id)).collect();
        new.into_iter().map(|container| self.learn(container)).collect()
    }

    /// A cgroup was made by process `maker` (0: not known). Gives it once it is known to be a container's.
    pub(super) fn made(&mut self, cgroup: u64, path: String, maker: u32) -> Option<u64> {
        let again = Again::from(Instant::now());
        self.resolve(Unresolved { cgroup, path, maker: (maker != 0).then_some(maker), tries: 0, again })
    }

    /// Whether a container's cgroup is no longer there, though nobody has told.
    pub(super) fn is_gone(&self, cgroup: u64) -> bool {
        self.known.get(&cgroup).is_none_or(|known| !self.finder.is_there(&known.container))
    }

    /// Those of which that is so.
    pub(super) fn gone(&self) -> Vec<u64> {
        self.known.keys().copied().filter(|cgroup| self.is_gone(*cgroup)).collect()
    }

    /// A cgroup is gone.
    pub(super) fn released(&mut self, cgroup: u64) -> Option<Known> {
        self.unresolved.retain(|unresolved| unresolved.cgroup != cgroup);
        self.known.remove(&cgroup)
    }

    /// Looks again at what was not there before; gives the containers that are new, or have more volumes than before.
    pub(super) fn look_again(&mut self) -> Vec<u64> {
        let now = Instant::now();
        let due = self.unresolved.extract_if(.., |unresolved| unresolved.again.due() <= now);
        let due: Vec<_> = due.collect();
        let mut found: Vec<u64> = due.into_iter().filter_map(|unresolved| self.resolve(unresolved)).collect();
        for (cgroup, known) in &mut self.known {
            let Some(again) = known.incomplete.as_mut().filter(|again| again.due() <= now) else { continue };
            let mut container = Container::clone(&known.container);
            if container.init_pid.is_none()
                && let Ok(Some(now)) = self.finder.resolve(&container.cgroup, None)
            {
                container.init_pid = now.init_pid;
            }
            let left = match container.init_pid {
                Some(pid) => self.finder.resolve_tmpfs(&mut container, pid).unwrap_or(usize::MAX),
                None => usize::MAX,
            };
            if left == 0 || again.looked(now) > SET_UP {
                known.incomplete = None;
            }
            if container.volumes != known.container.volumes {
                found.push(*cgroup);
            }
            known.container = Arc::new(container);
        }
        found
    }

    fn resolve(&mut self, mut unresolved: Unresolved) -> Option<u64> {
        if self.known.contains_key(&unresolved.cgroup) {
            return None;
        }
        match self.finder.resolve(&unresolved.path, unresolved.maker) {
            Ok(found) => found.map(|container| self.learn(container)),
            Err(error) if error.is_transient() && unresolved.tries < TRIES => {
                unresolved.tries += 1;
                unresolved.again.looked(Instant::now());
                self.unresolved.push(unresolved);
                None
            }
            Err(error) => {
                eprintln!("container not resolved: {error}");
                None
            }
        }
    }

    fn learn(&mut self, mut container: Container) -> u64 {
        let left = match container.init_pid {
            Some(pid) => self.finder.resolve_tmpfs(&mut container, pid).unwrap_or(usize::MAX),
            None => container.volumes.iter().filter(|volume| volume.file.is_none()).count(),
        };
        if !container.root.overlay {
            eprintln!(
                "container {}: its root is no overlay; files are judged by their change time against its start",
                container.id
            );
        }
        let cgroup = container.cgroup_id;
        let known = Known {
            started: started(&container),
            container: Arc::new(container),
            member: SlotMask::default(),
            certain: SlotMask::default(),
            stop_signal: StopSignal::default(),
            links: Links::default(),
            // What stays unknown is a foreign mount until it is known.
            incomplete: (left > 0).then(|| Again::from(Instant::now())),
        };
        self.known.insert(cgroup, known);
        cgroup
    }
}
