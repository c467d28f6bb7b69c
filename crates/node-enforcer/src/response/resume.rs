//! Ending pauses without the agent.

use super::cgroup::{Cgroup, CgroupError};
use super::memory::Memory;
use crate::containers::{Container, Finder, FinderConfig, Hierarchy};

/// Why a container was not resumed.
#[derive(Debug, thiserror::Error)]
pub enum ResumeError {
    /// No container has this name or id.
    #[error("no container is called {0}, and no container's id begins so; see mooring-enforcer explain")]
    Unknown(String),
    /// Several are.
    #[error("{name} is not one container only; write the beginning of the id of one of {ids}")]
    Ambiguous {
        /// What was asked for.
        name: String,
        /// Whose names or ids fit.
        ids: String,
    },
    /// It is not paused, or not by Mooring.
    #[error("container {0} is not paused by Mooring")]
    NotPaused(String),
    /// The kernel refuses.
    #[error("container {id}: {source}")]
    Cgroup {
        /// Which one.
        id: String,
        /// What was refused.
        source: CgroupError,
    },
}

/// Ends the pause of a container, by its name or the beginning of its id; of several that fit, of the one that is paused. Gives its id.
///
/// # Errors
/// When no such container is paused by Mooring, or more than one is.
pub fn resume(wanted: &str) -> Result<String, ResumeError> {
    let config = FinderConfig::default();
    let cgroups = config.cgroups.clone();
    let (containers, _) = Finder::new(config).scan();
    let fits = |container: &&Container| container.name == wanted || container.id.starts_with(wanted);
    let fitting: Vec<&Container> = containers.iter().filter(fits).collect();
    let mut paused: Vec<(&Container, Cgroup)> =
        fitting.iter().filter_map(|container| Some((*container, paused(&cgroups, container)?))).collect();
    let Some((container, cgroup)) = paused.pop() else {
        return Err(fitting.first().map_or_else(
            || ResumeError::Unknown(wanted.to_owned()),
            |container| ResumeError::NotPaused(container.id.clone()),
        ));
    };
    if !paused.is_empty() {
        let ids: Vec<&str> =
            paused.iter().map(|(container, _)| container.id.as_str()).chain([container.id.as_str()]).collect();
        return Err(ResumeError::Ambiguous { name: wanted.to_owned(), ids: ids.join(", ") });
    }
    go_on(&cgroup).map_err(|source| ResumeError::Cgroup { id: container.id.clone(), source })?;
    Ok(container.id.clone())
}

/// Ends every pause: Mooring is being removed.
///
/// # Errors
/// The first that could not be ended; the others are.
pub fn resume_all() -> Result<(), ResumeError> {
    let config = FinderConfig::default();
    let cgroups = config.cgroups.clone();
    let (containers, _) = Finder::new(config).scan();
    let mut failed = Ok(());
    for container in &containers {
        if let Some(cgroup) = paused(&cgroups, container)
            && let Err(source) = go_on(&cgroup)
        {
            failed = failed.and(Err(ResumeError::Cgroup { id: container.id.clone(), source }));
        }
    }
    failed
}

fn paused(cgroups: &Hierarchy, container: &Container) -> Option<Cgroup> {
    let cgroup = Cgroup::open(cgroups, &container.cgroup, container.cgroup_id).ok()?;
    matches!(Memory::of(&cgroup), Ok(Memory::Paused { .. })).then_some(cgroup)
}

/// What is remembered first: the agent would take a container that goes on while it is remembered as paused for one that somebody else
/// has resumed.
fn go_on(cgroup: &Cgroup) -> Result<(), CgroupError> {
    let before = Memory::of(cgroup).unwrap_or_default();
    // Where it cannot be forgotten, the agent says that somebody else did it.
    let _ = Memory::Nothing.keep(cgroup);
    match cgroup.freeze(false) {
        Err(CgroupError::Gone) | Ok(()) => Ok(()),
        Err(error) => {
            // It is still paused, and must not be so for ever.
            let _ = before.keep(cgroup);
            Err(error)
        }
    }
}
