//! From policies to the rule set of a node.

use std::collections::{BTreeMap, BTreeSet};

use mooring_crd::{ContainerDriftPolicy, ContainerDriftPolicySpec, FieldError};

use crate::automaton::Automaton;
use crate::limits::{MAX_PATHS, MAX_PATTERN_STATES, MAX_POLICIES};
use crate::mask::Slot;
use crate::node_policy::NodeDefaults;
use crate::path::{ListPath, ListPathError};
use crate::pattern::{ListEntry, Pattern};
use crate::rules::{PathMasks, PolicyPaths, RuleSet, SlotPolicy};

/// What became of the policies.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Compiled {
    /// The rules of those that were accepted and are enabled.
    pub rules: RuleSet,
    /// Those that were refused, by name. They do not affect the others.
    pub refused: Vec<Refusal>,
}

/// A policy that was refused, and everything that is wrong with it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Refusal {
    /// Its name.
    pub policy: String,
    /// What is wrong, at least one.
    pub errors: Vec<FieldError>,
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "policy {}", self.policy)?;
        for (index, error) in self.errors.iter().enumerate() {
            write!(f, "{}{error}", if index == 0 { ": " } else { "; " })?;
        }
        Ok(())
    }
}

impl std::error::Error for Refusal {}

/// A policy on its way in.
#[derive(Clone, Copy)]
pub(crate) struct Candidate<'a> {
    pub(crate) name: &'a str,
    pub(crate) uid: Option<&'a str>,
    pub(crate) spec: &'a ContainerDriftPolicySpec,
}

/// Compiles policies, whatever their order: slots go by creation time, then name. Policies without a creation time
/// (from files) come after those that have one.
///
/// Expects objects that `mooring_crd::validate_policy` or an API server accepted, but trusts only their types: what it
/// relies on is checked again.
#[must_use]
pub fn compile(policies: &[ContainerDriftPolicy], defaults: NodeDefaults) -> Compiled {
    let mut sorted: Vec<_> = policies
        .iter()
        .map(|policy| {
            let metadata = &policy.metadata;
            let created = metadata.creation_timestamp.as_ref().map(|time| time.0);
            let candidate = Candidate {
                name: metadata.name.as_deref().unwrap_or_default(),
                uid: metadata.uid.as_deref(),
                spec: &policy.spec,
            };
            ((created.is_none(), created, candidate.name), candidate)
        })
        .collect();
    sorted.sort_by_key(|(order, _)| *order);
    compile_in_order(sorted.into_iter().map(|(_, c)| c).collect(), defaults)
}

/// As [`compile`], with slots in the order given.
pub(crate) fn compile_in_order(candidates: Vec<Candidate<'_>>, defaults: NodeDefaults) -> Compiled {
    let mut times_named: BTreeMap<&str, usize> = BTreeMap::new();
    for candidate in &candidates {
        *times_named.entry(candidate.name).or_default() += 1;
    }
    let mut accepted = Vec::new();
    let mut refused: BTreeMap<&str, Vec<FieldError>> = BTreeMap::new();
    let mut distinct: BTreeSet<ListPath> = BTreeSet::new();
    let mut patterns: BTreeMap<Pattern, PathMasks> = BTreeMap::new();
    let checked: Vec<_> = candidates.into_iter().map(|candidate| (candidate, check(candidate.spec))).collect();
    let mut every = BTreeMap::new();
    for paths in checked.iter().filter_map(|(_, paths)| paths.as_ref().ok()) {
        paths.add_patterns(&mut every);
    }
    // Fewer patterns need no more states.
    let whole = Automaton::of(every.keys()).ok();
    for (candidate, checked) in checked {
        let name = candidate.name;
        if let Some(error) = name_error(name, times_named.get(name).copied().unwrap_or_default()) {
            refused.insert(name, vec![error]);
            continue;
        }
        let paths = match checked {
            Ok(paths) => paths,
            Err(errors) => {
                refused.insert(name, errors);
                continue;
            }
        };
        if !candidate.spec.enabled {
            continue;
        }
        let Some(slot) = Slot::new(accepted.len()) else {
            let message = format!(
                "is beyond the {MAX_POLICIES} policies that a node applies, oldest first: delete or disable one that came before, merge some, or narrow their nodeSelector"
            );
            refused.insert(name, vec![FieldError::new("", message)]);
            continue;
        };
        let literal =
            || paths.all().filter_map(|entry| if let ListEntry::Path(path) = entry { Some(path) } else { None });
        let added: BTreeSet<&ListPath> = literal().collect();
        let new = added.into_iter().filter(|path| !distinct.contains(*path)).count();
        if distinct.len() + new > MAX_PATHS {
            let message = format!(
                "its lists bring {new} more paths to the {} of the policies before it, and a node holds {MAX_PATHS}: shorten its lists or narrow its nodeSelector",
                distinct.len()
            );
            refused.insert(name, vec![FieldError::new("spec.detect", message)]);
            continue;
        }
        if whole.is_none() {
            let mut with_its = patterns.clone();
            paths.add_patterns(&mut with_its);
            if with_its.len() > patterns.len() && Automaton::of(with_its.keys()).is_err() {
                let message = format!(
                    "its patterns, with those of the policies before it, need a table of more than the {MAX_PATTERN_STATES} states that a node has: write fewer patterns, with fewer '*' and '**' in each, or narrow its nodeSelector"
                );
                refused.insert(name, vec![FieldError::new("spec.detect", message)]);
                continue;
            }
            patterns = with_its;
        }
        distinct.extend(literal().cloned());
        let policy = SlotPolicy {
            slot,
            name: name.to_owned(),
            uid: candidate.uid.map(str::to_owned),
            spec: candidate.spec.clone(),
            volume_binaries: candidate.spec.detect.volume_binaries.unwrap_or(defaults.volume_binaries),
        };
        accepted.push((policy, paths));
    }
    Compiled {
        rules: RuleSet::new(accepted, defaults, whole.map(|whole| (every.len(), whole))),
        refused: refused.into_iter().map(|(policy, errors)| Refusal { policy: policy.to_owned(), errors }).collect(),
    }
}

fn name_error(name: &str, times: usize) -> Option<FieldError> {
    let message = match (name, times) {
        ("", _) => "is missing: write a name, as in payments-immutable".to_owned(),
        (_, 0 | 1) => return None,
        _ => format!("{times} policies are named {name}, and none of them is applied: give each a name of its own"),
    };
    Some(FieldError::new("metadata.name", message))
}

/// Checks one policy on its own.
fn check(spec: &ContainerDriftPolicySpec) -> Result<PolicyPaths, Vec<FieldError>> {
    let mut errors = Vec::new();
    unimplemented(spec, &mut errors);
    let detect = &spec.detect;
    let paths = PolicyPaths {
        excepted: list(
            "spec.detect.exceptions",
            detect.exceptions.iter().map(|e| e.path.as_str()),
            ListEntry::excepted,
            &mut errors,
        ),
        prohibited: list(
            "spec.detect.prohibitedBinaries",
            detect.prohibited_binaries.iter().map(|p| p.path.as_str()),
            ListEntry::prohibited,
            &mut errors,
        ),
        excepted_processes: list(
            "spec.detect.processExceptions",
            detect.process_exceptions.iter().map(|p| p.path.as_str()),
            ListEntry::prohibited,
            &mut errors,
        ),
        prohibited_processes: list(
            "spec.detect.prohibitedProcesses",
            detect.prohibited_processes.iter().map(|p| p.path.as_str()),
            ListEntry::prohibited,
            &mut errors,
        ),
    };
    if errors.is_empty() { Ok(paths) } else { Err(errors) }
}

fn list<'a>(
    field: &str,
    texts: impl Iterator<Item = &'a str>,
    parse: impl Fn(&str) -> Result<ListEntry, ListPathError>,
    errors: &mut Vec<FieldError>,
) -> Vec<ListEntry> {
    let mut paths = Vec::new();
    for (index, text) in texts.enumerate() {
        match parse(text) {
            Ok(path) => paths.push(path),
            Err(e) => errors.push(FieldError::new(format!("{field}[{index}].path"), format!("{text:?} {e}"))),
        }
    }
    paths
}

/// Fields that the API has and this version does not honour. To ignore one would be to promise what nobody keeps.
fn unimplemented(spec: &ContainerDriftPolicySpec, errors: &mut Vec<FieldError>) {
    let mut refuse = |field: String, fix: &str| {
        errors.push(FieldError::new(field, format!("is not implemented in this version: {fix}")));
    };
    if spec.detect.drifted_scripts {
        refuse("spec.detect.driftedScripts".to_owned(), "write false, or leave it out");
    }
    for (index, exception) in spec.detect.exceptions.iter().enumerate() {
        if exception.sha256.is_some() {
            refuse(
                format!("spec.detect.exceptions[{index}].sha256"),
                "leave it out; without it, whoever can write the path is excepted",
            );
        }
    }
    if spec.actions.capture.is_some() {
        refuse("spec.actions.capture".to_owned(), "leave it out");
    }
    if !spec.actions.notify.is_empty() {
        refuse("spec.actions.notify".to_owned(), "leave it out, or write an empty list");
    }
}
