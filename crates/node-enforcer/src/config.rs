//! The agent's own configuration: a file that is read again when it changes.
//!
//! It says what the agent of this node must not do, whatever policies ask for. What is wrong in it is refused as a whole, by field and with what to
//! write instead; the last good one stays in force.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use mooring_policy::Switches;
use nix::fcntl::{AtFlags, OFlag, open, openat};
use nix::sys::stat::{Mode, fstatat};
use serde_json::{Map, Value};

use crate::policies::documents;
use crate::response::ProtectedPod;

/// Bytes of the file.
const FILE_MAX: u64 = 64 << 10;
/// Entries in `protectedPods`.
const PROTECTED_MAX: usize = 64;
/// Characters of a pattern.
const PATTERN_MAX: usize = 253;

/// What the file says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Configuration {
    /// What is held back.
    pub switches: Switches,
    /// Pods that are never acted on.
    pub protected_pods: Vec<ProtectedPod>,
}

/// Nothing is held back, and of all pods those that the node's own files make in `kube-system` are protected: the control plane's, where
/// it runs in pods.
impl Default for Configuration {
    fn default() -> Self {
        let control_plane =
            ProtectedPod { namespace: Some("kube-system".to_owned()), name: None, is_static: Some(true) };
        Self { switches: Switches::default(), protected_pods: vec![control_plane] }
    }
}

/// Why a configuration is not in force.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{file}: {problem}")]
pub struct ConfigurationRefused {
    file: String,
    problem: String,
}

impl Configuration {
    /// Reads a configuration.
    ///
    /// # Errors
    /// All that is wrong, by field and with what to write.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut parsed = documents::parse(Path::new(""), text);
        let mut read = match parsed.next() {
            None => return Ok(Self::default()),
            Some(Ok((_, Value::Object(fields)))) => Reader { fields, problems: Vec::new() },
            Some(Ok(_)) => return Err("must be fields and values: write them as in ignoreActions: false".to_owned()),
            Some(Err(errors)) => {
                let said: Vec<String> = errors
                    .into_iter()
                    .map(|e| if e.field.is_empty() { e.message } else { format!("{}: {}", e.field, e.message) })
                    .collect();
                return Err(said.join("; "));
            }
        };
        if parsed.next().is_some() {
            return Err("has more than one document: write one".to_owned());
        }
        let switches = Switches {
            ignore_container_actions: read.switch("ignoreContainerActions"),
            ignore_actions: read.switch("ignoreActions"),
            deny_execution_from_volumes: read.switch("denyExecutionFromVolumes"),
        };
        let protected_pods = read.protected();
        read.unknown("ignoreContainerActions, ignoreActions, denyExecutionFromVolumes, protectedPods", "");
        if read.problems.is_empty() { Ok(Self { switches, protected_pods }) } else { Err(read.problems.join("; ")) }
    }
}

/// Takes known fields out; what is left is not known.
struct Reader {
    fields: Map<String, Value>,
    problems: Vec<String>,
}

impl Reader {
    fn switch(&mut self, name: &str) -> bool {
        match self.fields.remove(name) {
            None => false,
            Some(Value::Bool(on)) => on,
            Some(_) => {
                self.problems.push(format!("{name}: must be a boolean: write true or false, without quotes"));
                false
            }
        }
    }

    fn protected(&mut self) -> Vec<ProtectedPod> {
        let entries = match self.fields.remove("protectedPods") {
            None => return Configuration::default().protected_pods,
            Some(Value::Array(entries)) if entries.len() <= PROTECTED_MAX => entries,
            Some(_) => {
                self.problems
                    .push(format!("protectedPods: must be a list of at most {PROTECTED_MAX}: write [] for none"));
                return Vec::new();
            }
        };
        entries.into_iter().enumerate().map(|(index, entry)| self.protected_pod(index, entry)).collect()
    }

    fn protected_pod(&mut self, index: usize, entry: Value) -> ProtectedPod {
        let place = format!("protectedPods[{index}]");
        let Value::Object(fields) = entry else {
            self.problems.push(format!("{place}: must be an object: write the fields namespace, name, static"));
            return ProtectedPod::default();
        };
        if fields.is_empty() {
            self.problems.push(format!("{place}: must say something: write namespace, name or static"));
        }
        let mut inner = Self { fields, problems: Vec::new() };
        let mut text = |name: &str| match inner.fields.remove(name) {
            None => None,
            Some(Value::String(text)) if !text.is_empty() && text.len() <= PATTERN_MAX => Some(text),
            Some(_) => {
                inner.problems.push(format!(
                    "{place}.{name}: must be a name, where * stands for any characters: write 1 to {PATTERN_MAX} of them, as in kube-*"
                ));
                None
            }
        };
        let (namespace, name) = (text("namespace"), text("name"));
        let is_static = match inner.fields.remove("static") {
            None => None,
            Some(Value::Bool(is_static)) => Some(is_static),
            Some(_) => {
                inner.problems.push(format!("{place}.static: must be a boolean: write true or false, without quotes"));
                None
            }
        };
        inner.unknown("namespace, name, static", &format!("{place}."));
        self.problems.append(&mut inner.problems);
        ProtectedPod { namespace, name, is_static }
    }

    fn unknown(&mut self, known: &str, place: &str) {
        for name in self.fields.keys().take(8) {
            let name = name.escape_default();
            self.problems.push(format!("{place}{name}: is not a field: remove it; the fields here are {known}"));
        }
    }
}

/// A file's identity and times: a change of it is a change of one of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp {
    file: (u64, u64),
    size: i64,
    times: [i64; 4],
}

/// The file, by its folder, which is held: the agent's loop sees the host's file tree and not that of the container in which the folder is mounted.
/// A `ConfigMap` changes by a link in that folder that leads to another one (`..data`).
#[derive(Debug)]
pub struct ConfigFile {
    folder: OwnedFd,
    name: PathBuf,
    path: PathBuf,
    seen: Option<Stamp>,
}

impl ConfigFile {
    /// Holds the file's folder.
    ///
    /// # Errors
    /// When there is none.
    pub fn open(path: &Path) -> Result<Self, ConfigurationRefused> {
        let refused = |problem: String| ConfigurationRefused { file: path.display().to_string(), problem };
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let name = path.file_name().ok_or_else(|| refused("is no file's path".to_owned()))?;
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let folder = open(folder, flags, Mode::empty()).map_err(|error| {
            refused(format!("its folder cannot be opened: {}; make it, or leave --config out", error.desc()))
        })?;
        Ok(Self { folder, name: name.into(), path: path.to_owned(), seen: None })
    }

    /// What it says, if it has changed since this was asked last.
    ///
    /// # Errors
    /// What is wrong with it, once.
    pub fn changed(&mut self) -> Option<Result<Configuration, ConfigurationRefused>> {
        let refused = |problem: String| ConfigurationRefused { file: self.path.display().to_string(), problem };
        let stamp = self.stamp();
        if self.seen == Some(stamp) {
            return None;
        }
        self.seen = Some(stamp);
        let read = self
            .read()
            .map_err(|error| refused(format!("cannot be read: {error}; write it, if only with ignoreActions: false")));
        Some(read.and_then(|text| Configuration::parse(&text).map_err(refused)))
    }

    /// Of a file that is not there all is 0.
    fn stamp(&self) -> Stamp {
        fstatat(&self.folder, &self.name, AtFlags::empty()).map_or(
            Stamp { file: (0, 0), size: 0, times: [0; 4] },
            |found| Stamp {
                file: (found.st_dev, found.st_ino),
                size: found.st_size,
                times: [found.st_mtime, found.st_mtime_nsec, found.st_ctime, found.st_ctime_nsec],
            },
        )
    }

    fn read(&self) -> io::Result<String> {
        // A pipe must not keep the loop waiting.
        let flags = OFlag::O_RDONLY | OFlag::O_CLOEXEC | OFlag::O_NONBLOCK;
        let file = File::from(openat(&self.folder, &self.name, flags, Mode::empty())?);
        let mut text = String::new();
        file.take(FILE_MAX + 1).read_to_string(&mut text)?;
        // Who writes it in place has emptied it first; "nothing is held back" is {}.
        if text.is_empty() {
            return Err(io::Error::other("it is empty"));
        }
        if text.len() as u64 > FILE_MAX {
            return Err(io::Error::other(format!("it is longer than {FILE_MAX} bytes")));
        }
        Ok(text)
    }
}

/// The configuration in force, and the file that it comes from.
#[derive(Debug, Default)]
pub struct Configured {
    file: Option<ConfigFile>,
    /// What is in force.
    pub in_force: Configuration,
    /// Why the newest is not.
    pub refused: Option<String>,
}

impl Configured {
    /// Reads the file for the first time.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn begin(path: &Path) -> Result<Self, ConfigurationRefused> {
        let mut file = ConfigFile::open(path)?;
        let in_force = file.changed().transpose()?.unwrap_or_default();
        Ok(Self { file: Some(file), in_force, refused: None })
    }

    /// The same for an agent that must begin all the same: what the file protects is not known then, so nothing is done to containers until it is.
    #[must_use]
    pub fn begin_whatever(path: &Path) -> Self {
        let mut file = match ConfigFile::open(path) {
            Ok(file) => Some(file),
            Err(refused) => return Self::cautious(None, &refused),
        };
        match file.as_mut().and_then(ConfigFile::changed) {
            Some(Err(refused)) => Self::cautious(file, &refused),
            read => Self { file, in_force: read.and_then(Result::ok).unwrap_or_default(), refused: None },
        }
    }

    fn cautious(file: Option<ConfigFile>, refused: &ConfigurationRefused) -> Self {
        eprintln!("configuration refused: {refused}; no container is acted on until there is a good one");
        let mut in_force = Configuration::default();
        in_force.switches.ignore_container_actions = true;
        Self { file, in_force, refused: Some(refused.to_string()) }
    }

    /// Looks at the file; true: another configuration is in force now.
    pub fn turn(&mut self) -> bool {
        match self.file.as_mut().and_then(ConfigFile::changed) {
            None => false,
            Some(Ok(configuration)) => {
                self.refused = None;
                let is_new = configuration != self.in_force;
                self.in_force = configuration;
                is_new
            }
            Some(Err(refused)) => {
                eprintln!("configuration refused: {refused}; the last good one stays in force");
                self.refused = Some(refused.to_string());
                false
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;
    use crate::containers::scratch::Scratch;

    /// The document shows every field with what it is where it is not written.
    #[test]
    fn the_reference_shows_the_defaults() {
        let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/reference/agent-configuration.md");
        let text = fs::read_to_string(file).unwrap();
        let yaml = text.split("```yaml\n").nth(1).unwrap().split("```").next().unwrap();
        for field in ["ignoreContainerActions", "ignoreActions", "denyExecutionFromVolumes", "protectedPods"] {
            assert!(yaml.contains(&format!("{field}:")), "{field}");
        }
        assert_eq!(Configuration::parse(yaml).unwrap(), Configuration::default());
        assert_eq!(Configuration::parse("# nothing\n").unwrap(), Configuration::default());
    }

    #[test]
    fn everything_can_be_said() {
        let read = Configuration::parse(
            "ignoreContainerActions: true\nignoreActions: true\ndenyExecutionFromVolumes: true\n\
             protectedPods: [{namespace: a, name: 'b-*', static: false}, {name: c}]\n",
        );
        let read = read.unwrap();
        assert_eq!(read.switches.on().count(), 3);
        assert_eq!(read.protected_pods.len(), 2);
        assert_eq!(read.protected_pods[0].name.as_deref(), Some("b-*"));
        assert_eq!(read.protected_pods[0].is_static, Some(false));
        assert_eq!(Configuration::parse("protectedPods: []").unwrap().protected_pods, []);
    }

    #[test]
    fn what_is_wrong_is_said_by_field_and_with_a_fix() {
        for (text, said) in [
            (
                "ignoreAction: true",
                "ignoreAction: is not a field: remove it; the fields here are ignoreContainerActions, ",
            ),
            ("ignoreActions: 'true'", "ignoreActions: must be a boolean: write true or false, without quotes"),
            ("ignoreActions: yes", "ignoreActions: must be a boolean"),
            ("ignoreActions: true\nignoreActions: false", "ignoreActions"),
            ("- a", "must be fields and values"),
            ("ignoreActions: [", "is not YAML that can be read at line 1"),
            ("a: 1\n---\nb: 2\n", "has more than one document"),
            ("protectedPods: {}", "protectedPods: must be a list of at most 64: write [] for none"),
            ("protectedPods: [x]", "protectedPods[0]: must be an object: write the fields namespace, name, static"),
            ("protectedPods: [{}]", "protectedPods[0]: must say something"),
            ("protectedPods: [{name: ''}]", "protectedPods[0].name: must be a name"),
            ("protectedPods: [{static: 1}]", "protectedPods[0].static: must be a boolean"),
            (
                "protectedPods: [{nam: x}]",
                "protectedPods[0].nam: is not a field: remove it; the fields here are namespace",
            ),
        ] {
            let refused = Configuration::parse(text).unwrap_err();
            assert!(refused.contains(said), "{text}: {refused}");
        }
    }

    #[test]
    fn a_link_that_leads_elsewhere_is_a_change() {
        let scratch = Scratch::new();
        let folder = scratch.path();
        let of = |name: &str, text: &str| {
            fs::create_dir(folder.join(name)).unwrap();
            fs::write(folder.join(name).join("config.yaml"), text).unwrap();
        };
        of("..1", "ignoreActions: true");
        of("..2", "ignoreActions: false");
        symlink("..1", folder.join("..data")).unwrap();
        symlink("..data/config.yaml", folder.join("config.yaml")).unwrap();
        let mut file = ConfigFile::open(&folder.join("config.yaml")).unwrap();
        assert!(file.changed().unwrap().unwrap().switches.ignore_actions);
        assert!(file.changed().is_none());
        symlink("..2", folder.join("..new")).unwrap();
        fs::rename(folder.join("..new"), folder.join("..data")).unwrap();
        assert!(!file.changed().unwrap().unwrap().switches.ignore_actions);
        assert!(file.changed().is_none());
        fs::remove_file(folder.join("config.yaml")).unwrap();
        let missing = file.changed().unwrap().unwrap_err().to_string();
        assert!(missing.contains("config.yaml: cannot be read"), "{missing}");
        assert!(file.changed().is_none(), "said once");
    }

    #[test]
    fn an_empty_file_is_one_that_is_being_written() {
        let scratch = Scratch::new();
        let path = scratch.path().join("config.yaml");
        fs::write(&path, "").unwrap();
        assert!(Configured::begin(&path).unwrap_err().to_string().contains("it is empty"));
        assert!(Configured::begin_whatever(&path).in_force.switches.ignore_container_actions);
        fs::write(&path, "ignoreContainerActions: true").unwrap();
        let mut configured = Configured::begin(&path).unwrap();
        fs::write(&path, "").unwrap();
        assert!(!configured.turn() && configured.in_force.switches.ignore_container_actions);
        assert!(configured.refused.as_ref().is_some_and(|said| said.contains("it is empty")));
        fs::write(&path, "{}").unwrap();
        assert!(configured.turn() && configured.refused.is_none());
        assert_eq!(configured.in_force, Configuration::default());
    }
}
