//! The state folder: what the agent enforces from when the API server cannot be reached.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use mooring_policy::{NodeRules, NodeRulesError};
use serde::{Deserialize, Serialize};

use super::directory::PodFacts;
use super::rules::{Accepted, accept};
use crate::agent::Labels;

const RULES_FILE: &str = "rules.json";
const LABELS_FILE: &str = "labels.json";
/// Rules are at most 1 MiB, and twice that when every character is escaped; the labels of a node's pods are less.
const FILE_BYTES_MAX: u64 = 16 << 20;

/// Why the state folder could not be read or written.
#[derive(Debug, thiserror::Error)]
pub(super) enum StateError {
    /// The system refused.
    #[error("{path:?} in the state folder: {source}; give the agent a folder that it can write, with 32 MiB to spare")]
    System {
        /// The file.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
    /// What was kept is damaged.
    #[error("{path:?} in the state folder is damaged ({what}): it is not used, and written again with the next rules")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        what: String,
    },
    /// The rules that were kept are not believed.
    #[error("the rules in the state folder are not used: {0}")]
    Rules(#[from] NodeRulesError),
}

/// Labels as they are kept.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct KeptLabels {
    pub(super) pods: BTreeMap<String, PodFacts>,
    pub(super) namespaces: BTreeMap<String, Labels>,
}

/// The folder. Its clones are one.
#[derive(Debug, Clone)]
pub(super) struct StateFolder {
    path: PathBuf,
    forgotten: Arc<AtomicBool>,
}

impl StateFolder {
    pub(super) fn new(path: &Path) -> Self {
        Self { path: path.to_owned(), forgotten: Arc::default() }
    }

    /// The last good rules; None where there never were any.
    pub(super) fn rules(&self) -> Result<Option<Accepted>, StateError> {
        let data: Option<BTreeMap<String, String>> = self.read(RULES_FILE)?;
        Ok(data.map(|data| accept(&data, None)).transpose()?)
    }

    /// The labels that were known last.
    pub(super) fn labels(&self) -> Result<KeptLabels, StateError> {
        Ok(self.read(LABELS_FILE)?.unwrap_or_default())
    }

    pub(super) fn keep_rules(&self, rules: &NodeRules) -> Result<(), StateError> {
        self.write(RULES_FILE, &rules.clone().into_data())
    }

    pub(super) fn keep_labels(&self, labels: &KeptLabels) -> Result<(), StateError> {
        self.write(LABELS_FILE, labels)
    }

    /// Keeps again what it is given.
    pub(super) fn remember(&self) {
        self.forgotten.store(false, Ordering::Release);
    }

    /// Removes everything that was kept, and keeps nothing any more. The folder itself is its mount's.
    pub(super) fn forget(&self) -> Result<(), StateError> {
        self.forgotten.store(true, Ordering::Release);
        for name in [RULES_FILE, LABELS_FILE] {
            for path in [self.path.join(name), self.new_file(name)] {
                match fs::remove_file(&path) {
                    Err(source) if source.kind() != io::ErrorKind::NotFound => {
                        return Err(StateError::System { path, source });
                    }
                    _ => {}
                }
            }
        }
        Ok(())
    }

    /// Whether nothing is to be kept.
    pub(super) fn is_forgotten(&self) -> bool {
        self.forgotten.load(Ordering::Acquire)
    }

    fn new_file(&self, name: &str) -> PathBuf {
        self.path.join(format!(".{name}.new"))
    }

    fn read<T: serde::de::DeserializeOwned>(&self, name: &str) -> Result<Option<T>, StateError> {
        let path = self.path.join(name);
        let length = match fs::metadata(&path) {
            Ok(metadata) => metadata.len(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(StateError::System { path, source }),
        };
        if length > FILE_BYTES_MAX {
            return Err(StateError::Damaged { path, what: format!("{length} bytes") });
        }
        let text = fs::read(&path).map_err(|source| StateError::System { path: path.clone(), source })?;
        serde_json::from_slice(&text).map_err(|error| StateError::Damaged { path, what: error.to_string() })
    }

    /// What was there stays until the new text is on the disk.
    fn write(&self, name: &str, value: &impl Serialize) -> Result<(), StateError> {
        if self.is_forgotten() {
            return Ok(());
        }
        let path = self.path.join(name);
        let new = self.new_file(name);
        let write = || {
            fs::create_dir_all(&self.path)?;
            let mut file = File::create(&new)?;
            let text = serde_json::to_vec(value).map_err(io::Error::other)?;
            file.write_all(&text)?;
            file.sync_all()?;
            fs::rename(&new, &path)?;
            File::open(&self.path)?.sync_all()
        };
        let written = write();
        if written.is_err() {
            // A full folder has no room for a half-written file either.
            let _ = fs::remove_file(&new);
        }
        written.map_err(|source| StateError::System { path, source })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::containers::scratch::Scratch;
    use mooring_policy::NodePolicy;

    fn rules(revision: u64) -> NodeRules {
        NodeRules::encode(&NodePolicy { revision, ..NodePolicy::default() }).unwrap()
    }

    #[test]
    fn what_is_kept_is_read_again() {
        let scratch = Scratch::new();
        let folder = StateFolder::new(&scratch.path().join("made/by/it"));
        assert!(folder.rules().unwrap().is_none());
        assert_eq!(folder.labels().unwrap(), KeptLabels::default());
        folder.keep_rules(&rules(1)).unwrap();
        folder.keep_rules(&rules(2)).unwrap();
        let labels = KeptLabels {
            pods: [("u-1".to_owned(), PodFacts { name: "api".to_owned(), ..PodFacts::default() })].into(),
            namespaces: [("payments".to_owned(), Labels::new())].into(),
        };
        folder.keep_labels(&labels).unwrap();
        assert_eq!(folder.rules().unwrap().unwrap().raw, rules(2));
        assert_eq!(folder.labels().unwrap(), labels);
    }

    #[test]
    fn damage_is_told_and_not_believed() {
        let scratch = Scratch::new();
        let folder = StateFolder::new(scratch.path());
        folder.keep_rules(&rules(1)).unwrap();
        let path = scratch.path().join(RULES_FILE);
        let text = fs::read_to_string(&path).unwrap();
        fs::write(&path, text.replace("revision\\\":1", "revision\\\":2")).unwrap();
        assert!(matches!(folder.rules(), Err(StateError::Rules(_))));
        fs::write(&path, text.get(..20).unwrap()).unwrap();
        assert!(matches!(folder.rules(), Err(StateError::Damaged { .. })));
    }

    #[test]
    fn what_is_forgotten_is_gone_and_stays_so() {
        let scratch = Scratch::new();
        let folder = StateFolder::new(scratch.path());
        folder.keep_rules(&rules(1)).unwrap();
        folder.keep_labels(&KeptLabels::default()).unwrap();
        let keeper = folder.clone();
        folder.forget().unwrap();
        keeper.keep_rules(&rules(2)).unwrap();
        keeper.keep_labels(&KeptLabels::default()).unwrap();
        assert_eq!(fs::read_dir(scratch.path()).unwrap().count(), 0);
        folder.forget().unwrap();
        folder.remember();
        keeper.keep_rules(&rules(3)).unwrap();
        assert_eq!(folder.rules().unwrap().unwrap().raw, rules(3));
    }

    #[test]
    fn a_folder_that_takes_nothing_leaves_what_was_there() {
        let scratch = Scratch::new();
        let folder = StateFolder::new(scratch.path());
        folder.keep_rules(&rules(1)).unwrap();
        // A folder in the new file's place: nothing can be written there, even by root.
        fs::create_dir(scratch.path().join(format!(".{RULES_FILE}.new"))).unwrap();
        assert!(matches!(folder.keep_rules(&rules(2)), Err(StateError::System { .. })));
        assert_eq!(folder.rules().unwrap().unwrap().raw, rules(1));
    }
}
