//! Policies from files: read, checked and compiled as one set, and watched for edits.
//!
//! A set is good or it is refused as a whole, with everything that is wrong with it: half a folder must never come into
//! force. The rules for one object are `mooring-crd`'s, those between objects `mooring-policy`'s; here are only those of
//! files.

pub(crate) mod documents;
mod error;
mod sources;
mod strict;
#[cfg(test)]
mod tests;
mod watch;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use mooring_crd::{ContainerDriftPolicy, policy_from_value};
use mooring_policy::{NodeDefaults, RuleSet, compile};

pub use error::{LoadError, LoadErrors};
pub use sources::{FILE_BYTES_MAX, FILES_MAX, TOTAL_BYTES_MAX};
pub use watch::{Watch, WatchError};

/// A policy and where it was written.
#[derive(Debug, Clone, PartialEq)]
pub struct LoadedPolicy {
    /// The policy, defaults filled in.
    pub policy: ContainerDriftPolicy,
    /// The file.
    pub file: PathBuf,
    /// Which of the file's documents, from 1.
    pub document: usize,
}

impl LoadedPolicy {
    /// Its name; never empty once it was accepted.
    #[must_use]
    pub fn name(&self) -> &str {
        self.policy.metadata.name.as_deref().unwrap_or_default()
    }
}

/// A good set of policies.
#[derive(Debug, Clone, PartialEq)]
pub struct PolicySet {
    /// What comes into force.
    pub rules: RuleSet,
    /// All policies, disabled ones included, in the order of files and documents.
    pub policies: Vec<LoadedPolicy>,
}

/// Reads all policies of a file, or of a folder's `*.yaml`, `*.yml` and `*.json` files (not those below it, nor hidden ones),
/// and compiles them.
///
/// # Errors
/// Everything that is wrong, with file, document, field and what to write instead. Nothing is in force from such a set.
pub fn load(path: &Path, defaults: NodeDefaults) -> Result<PolicySet, LoadErrors> {
    let policies = read(path)?;
    let objects: Vec<ContainerDriftPolicy> = policies.iter().map(|loaded| loaded.policy.clone()).collect();
    let compiled = compile(&objects, defaults);
    drop(objects);
    let mut errors = LoadErrors::default();
    for refusal in &compiled.refused {
        let source = policies.iter().find(|loaded| loaded.name() == refusal.policy);
        let (file, document) = source.map_or((path, None), |loaded| (loaded.file.as_path(), Some(loaded.document)));
        for error in &refusal.errors {
            errors.add(LoadError { document, field: error.field.clone(), ..LoadError::of_file(file, &error.message) });
        }
    }
    errors.or(PolicySet { rules: compiled.rules, policies })
}

/// Reads and checks the policies one by one, and that their names differ.
///
/// # Errors
/// As [`load`].
pub fn read(path: &Path) -> Result<Vec<LoadedPolicy>, LoadErrors> {
    let mut errors = LoadErrors::default();
    let mut policies: Vec<LoadedPolicy> = Vec::new();
    let found = sources::find(path);
    let folder_is_empty = found.as_ref().is_ok_and(|sources| sources.is_folder && sources.files.is_empty());
    if folder_is_empty {
        errors.add(LoadError::of_file(
            path,
            "the folder holds no policy: put a file there whose name ends in .yaml, .yml or .json, with kind: ContainerDriftPolicy",
        ));
    }
    let mut budget = TOTAL_BYTES_MAX;
    for file in found.map_or_else(|error| errors.none(error), |sources| sources.files) {
        match sources::read_text(&file, &mut budget) {
            Ok(text) => read_file(&file, &text, &mut policies, &mut errors),
            Err(error) => errors.add(error),
        }
    }
    refuse_duplicates(&policies, &mut errors);
    errors.or(policies)
}

fn read_file(file: &Path, text: &str, policies: &mut Vec<LoadedPolicy>, errors: &mut LoadErrors) {
    let mut documents = 0;
    for parsed in documents::parse(file, text) {
        documents += 1;
        let loaded = parsed.and_then(|(document, object)| {
            let policy = policy_from_value(object).map_err(|found| {
                found
                    .into_iter()
                    .map(|e| LoadError {
                        document: Some(document),
                        field: e.field,
                        ..LoadError::of_file(file, &e.message)
                    })
                    .collect::<Vec<_>>()
            })?;
            Ok(LoadedPolicy { policy, file: file.to_owned(), document })
        });
        match loaded {
            Ok(loaded) => policies.push(loaded),
            Err(found) => found.into_iter().for_each(|error| errors.add(error)),
        }
    }
    if documents == 0 {
        errors.add(LoadError::of_file(
            file,
            "the file is empty: write a ContainerDriftPolicy, beginning with apiVersion: mooring.dev/v1alpha1, or remove the file",
        ));
    }
}

fn refuse_duplicates(policies: &[LoadedPolicy], errors: &mut LoadErrors) {
    let mut first: BTreeMap<&str, &LoadedPolicy> = BTreeMap::new();
    for loaded in policies {
        let Some(earlier) = first.get(loaded.name()) else {
            first.insert(loaded.name(), loaded);
            continue;
        };
        let message = format!(
            "{} is also the name of document {} of {}: give one of them another name, or remove one",
            loaded.name(),
            earlier.document,
            earlier.file.display()
        );
        errors.add(LoadError {
            document: Some(loaded.document),
            field: "metadata.name".to_owned(),
            ..LoadError::of_file(&loaded.file, &message)
        });
    }
}
