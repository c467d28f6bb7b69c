//! What runtimes and engines keep beside the bundle: the first process, the cgroup, names and labels.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, SeqAccess, Visitor};

use super::files::{self, CONFIG_LIMIT, SMALL_LIMIT};
use super::oci::Labels;
use super::{ContainerError, Hierarchy, cgroup_path};

/// A running container's state.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct State {
    pub(super) bundle: Option<PathBuf>,
    pub(super) init_pid: Option<u32>,
    /// Field 22 of the process's `stat`, to tell it from a later process of the same id.
    pub(super) init_start: Option<u64>,
    /// Absolute path in the host's file tree.
    pub(super) cgroup_folder: Option<String>,
    /// Path below the cgroup mount.
    pub(super) cgroup: Option<String>,
}

/// runc's `state.json`; None where it is absent.
pub(super) fn runc(folder: &Path, cgroups: &Hierarchy) -> Result<Option<State>, ContainerError> {
    #[derive(Deserialize)]
    struct Written {
        #[serde(default)]
        init_process_pid: u32,
        #[serde(default)]
        init_process_start: u64,
        #[serde(default)]
        cgroup_paths: Option<BTreeMap<String, String>>,
        #[serde(default)]
        config: Option<Config>,
    }
    #[derive(Deserialize)]
    struct Config {
        #[serde(default)]
        labels: Option<Vec<String>>,
    }
    let Some(written) = files::read_json::<Written>(&folder.join("state.json"), CONFIG_LIMIT)? else {
        return Ok(None);
    };
    let labels = written.config.and_then(|config| config.labels).unwrap_or_default();
    Ok(Some(State {
        bundle: labels.iter().find_map(|label| label.strip_prefix("bundle=")).map(PathBuf::from),
        init_pid: Some(written.init_process_pid).filter(|pid| *pid != 0),
        init_start: Some(written.init_process_start).filter(|start| *start != 0),
        // The unified hierarchy has no name, others have their controllers'.
        cgroup_folder: written.cgroup_paths.and_then(|mut paths| {
            paths.remove(cgroups.controller.as_ref().map_or("", |(_, controller)| controller.as_str()))
        }),
        cgroup: None,
    }))
}

/// crun's `status`; None where it is absent.
pub(super) fn crun(folder: &Path) -> Result<Option<State>, ContainerError> {
    #[derive(Deserialize)]
    struct Written {
        #[serde(default)]
        pid: u32,
        #[serde(default, rename = "process-start-time")]
        start: u64,
        #[serde(default, rename = "cgroup-path")]
        cgroup: Option<String>,
        #[serde(default)]
        bundle: Option<PathBuf>,
    }
    let written = files::read_json::<Written>(&folder.join("status"), SMALL_LIMIT)?;
    Ok(written.map(|written| State {
        bundle: written.bundle,
        init_pid: Some(written.pid).filter(|pid| *pid != 0),
        init_start: Some(written.start).filter(|start| *start != 0),
        cgroup_folder: None,
        cgroup: written.cgroup.filter(|path| !path.is_empty()).map(|path| cgroup_path::clean(&path)),
    }))
}

/// The pid that containerd's shim (`init.pid`) or conmon (`pidfile`) wrote.
pub(super) fn pid_file(path: &Path) -> Option<u32> {
    let bytes = files::read(path, 64).ok().flatten()?;
    std::str::from_utf8(&bytes).ok()?.trim().parse().ok().filter(|pid| *pid != 0)
}

/// Whether that process lives: same id, and the same start where that is known.
pub(super) fn is_alive(proc: &Path, pid: u32, started: Option<u64>) -> bool {
    let Ok(Some(stat)) = files::read(&proc.join(pid.to_string()).join("stat"), 4096) else {
        return false;
    };
    // The name may hold spaces and parentheses: fields are counted from behind it. State is field 3, start field 22.
    let Some(end) = stat.iter().rposition(|b| *b == b')') else {
        return false;
    };
    let Ok(rest) = std::str::from_utf8(&stat[end + 1..]) else {
        return false;
    };
    let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
    let dead = fields.first().is_none_or(|state| matches!(*state, "Z" | "X"));
    !dead && started.is_none_or(|started| fields.get(19).and_then(|field| field.parse().ok()) == Some(started))
}

/// What an engine calls its container.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct EngineRecord {
    pub(super) name: Option<String>,
    pub(super) image: Option<String>,
    /// None where the engine keeps its labels elsewhere.
    pub(super) labels: Option<Labels>,
}

/// Docker's `config.v2.json`; None where it is absent.
pub(super) fn docker(folder: &Path) -> Result<Option<EngineRecord>, ContainerError> {
    #[derive(Deserialize)]
    struct Written {
        #[serde(default, rename = "Name")]
        name: Option<String>,
        #[serde(default, rename = "Config")]
        config: Option<Config>,
    }
    #[derive(Deserialize)]
    struct Config {
        #[serde(default, rename = "Image")]
        image: Option<String>,
        #[serde(default, rename = "Labels")]
        labels: Labels,
    }
    let Some(written) = files::read_json::<Written>(&folder.join("config.v2.json"), CONFIG_LIMIT)? else {
        return Ok(None);
    };
    let config = written.config.unwrap_or(Config { image: None, labels: Labels::default() });
    Ok(Some(EngineRecord {
        name: written.name.map(|name| name.trim_start_matches('/').to_owned()).filter(|name| !name.is_empty()),
        image: config.image.filter(|image| !image.is_empty()),
        labels: Some(config.labels),
    }))
}

/// Podman's entry of `containers.json`; None where there is none. Its labels are only in its database.
pub(super) fn podman(storage: &Path, id: &str) -> Result<Option<EngineRecord>, ContainerError> {
    #[derive(Deserialize, Default)]
    struct Metadata {
        #[serde(default, rename = "image-name")]
        image: Option<String>,
        #[serde(default)]
        name: Option<String>,
    }
    let path = storage.join("containers.json");
    let Some(PickById { entry, .. }) = files::read_json_seed(&path, CONFIG_LIMIT, PickById { id, entry: None })? else {
        return Ok(None);
    };
    let Some(entry) = entry else { return Ok(None) };
    let metadata: Metadata = entry.metadata.and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default();
    Ok(Some(EngineRecord {
        name: metadata.name.or_else(|| entry.names.and_then(|names| names.into_iter().next())),
        image: metadata.image.filter(|image| !image.is_empty()),
        labels: None,
    }))
}

#[derive(Deserialize)]
struct PodmanEntry {
    id: String,
    #[serde(default)]
    names: Option<Vec<String>>,
    #[serde(default)]
    metadata: Option<String>,
}

/// Keeps one entry of a long array.
struct PickById<'a> {
    id: &'a str,
    entry: Option<PodmanEntry>,
}

impl<'de> DeserializeSeed<'de> for PickById<'_> {
    type Value = Self;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for PickById<'_> {
    type Value = Self;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array of containers")
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut seq: A) -> Result<Self, A::Error> {
        while let Some(entry) = seq.next_element::<PodmanEntry>()? {
            if entry.id == self.id {
                self.entry = Some(entry);
                while seq.next_element::<IgnoredAny>()?.is_some() {}
                break;
            }
        }
        Ok(self)
    }
}
