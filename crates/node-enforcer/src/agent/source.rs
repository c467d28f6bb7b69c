//! Where the agent's rules come from: the seam between a node on its own and one of a cluster.

use std::collections::BTreeSet;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use mooring_policy::{NodeDefaults, Refusal, RuleSet};

use super::membership::Surroundings;
use super::run::AgentError;
use crate::containers::Container;
use crate::policies::{self, PolicySet, Watch};

/// How long nothing must happen in the folder before it is read, and how long that is waited for.
const SETTLE: Duration = Duration::from_millis(100);
const SETTLE_MOST: Duration = Duration::from_millis(500);

/// A good set of rules.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Rules {
    /// What comes into force.
    pub set: RuleSet,
    /// Where the set came from, as its `DriftNode` says it; nothing without a cluster.
    pub stamp: Option<mooring_crd::AppliedRules>,
    /// Policies of the set that this node refuses. They do not affect the others.
    pub refused: Vec<Refusal>,
}

impl Rules {
    /// The digest by which a cluster's rules are known.
    pub(super) fn digest(&self) -> Option<&str> {
        self.stamp.as_ref().map(|stamp| stamp.digest.as_str())
    }
}

/// What is new since it was asked last.
#[derive(Debug, Default)]
pub struct Changes {
    /// The newest set.
    pub rules: Option<Rules>,
    /// Everything is to be taken down, for as long as this is so.
    pub release: bool,
    /// Why there is none, though something has changed.
    pub refused: Option<String>,
    /// Uids of pods whose labels or stop signals are new.
    pub pods: BTreeSet<String>,
    /// Names of namespaces whose labels are new.
    pub namespaces: BTreeSet<String>,
    /// Ids of containers whose pause is to end.
    pub resumed: BTreeSet<String>,
}

/// Gives rules, and what containers are surrounded by. Nothing here waits for anyone.
pub trait Source {
    /// Becomes readable when [`Source::changes`] may have something.
    fn descriptor(&self) -> BorrowedFd<'_>;

    /// What is new. The first call gives the set to begin with, if there is one.
    fn changes(&mut self) -> Changes;

    /// Whether to be asked again soon, whatever the descriptor says.
    fn is_settling(&self) -> bool {
        false
    }

    /// What is known round a container.
    fn surroundings(&self, container: &Container) -> Surroundings;

    /// The set that was given last could not be brought into force.
    fn was_refused(&mut self) {}

    /// These pods have no container here (any more).
    fn without_containers(&mut self, pods: &[&str]);
}

/// Policies from files, for a node on its own.
#[derive(Debug)]
pub struct Files {
    path: PathBuf,
    node: String,
    watch: Watch,
    first: Option<Rules>,
    given: Option<PolicySet>,
    /// The first and the last change since the folder was read.
    edited: Option<(Instant, Instant)>,
}

impl Files {
    /// Reads the policies of a file or folder, and watches it.
    ///
    /// # Errors
    /// Everything that is wrong with them, or when they cannot be watched.
    pub fn open(path: PathBuf, node: String) -> Result<Self, AgentError> {
        // Before the policies are read, so that no edit is missed; bad input is told first.
        let watch = Watch::new(&path);
        let loaded = policies::load(&path, NodeDefaults::default())?;
        let first = Rules { set: loaded.rules.clone(), ..Rules::default() };
        Ok(Self { path, node, watch: watch?, first: Some(first), given: Some(loaded), edited: None })
    }

    fn reload(&mut self) -> Changes {
        let mut changes = Changes::default();
        match policies::load(&self.path, NodeDefaults::default()) {
            Ok(loaded) if self.given.as_ref() == Some(&loaded) => {}
            Ok(loaded) => {
                changes.rules = Some(Rules { set: loaded.rules.clone(), ..Rules::default() });
                self.given = Some(loaded);
            }
            Err(errors) => changes.refused = Some(errors.to_string().replace('\n', "; ")),
        }
        changes
    }
}

impl Source for Files {
    fn descriptor(&self) -> BorrowedFd<'_> {
        self.watch.as_fd()
    }

    fn changes(&mut self) -> Changes {
        if let Some(rules) = self.first.take() {
            return Changes { rules: Some(rules), ..Changes::default() };
        }
        match self.watch.drain() {
            Ok(true) => {
                let now = Instant::now();
                self.edited = Some((self.edited.map_or(now, |(first, _)| first), now));
            }
            Ok(false) => {}
            Err(error) => eprintln!("{error}; the policies in force stay"),
        }
        if self.edited.is_some_and(|(first, last)| last.elapsed() >= SETTLE || first.elapsed() >= SETTLE_MOST) {
            self.edited = None;
            return self.reload();
        }
        Changes::default()
    }

    fn is_settling(&self) -> bool {
        self.edited.is_some()
    }

    fn surroundings(&self, container: &Container) -> Surroundings {
        Surroundings::of(container, &self.node)
    }

    fn was_refused(&mut self) {
        // The same again is tried again.
        self.given = None;
    }

    fn without_containers(&mut self, _: &[&str]) {}
}
