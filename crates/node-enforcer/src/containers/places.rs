//! Where runtimes keep their state.

use std::fs;
use std::path::{Path, PathBuf};

use super::cgroup_path::is_id;

/// Folders of runtimes. All paths are the host's; see `FinderConfig::host_root`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Places {
    /// containerd's bundles: `<folder>/<namespace>/<id>/config.json`.
    pub containerd: Vec<PathBuf>,
    /// runc's `--root`: `<folder>/<id>/state.json`.
    pub runc: Vec<PathBuf>,
    /// Folders of such folders: `<folder>/<namespace>/<id>/state.json`.
    pub runc_nested: Vec<PathBuf>,
    /// crun's `--root`: `<folder>/<id>/status`.
    pub crun: Vec<PathBuf>,
    /// Docker's containers: `<folder>/<id>/config.v2.json`. Only names, images and labels come from there.
    pub docker: Vec<PathBuf>,
    /// Podman's and CRI-O's: `<folder>/<id>/userdata/config.json`, and `containers.json`.
    pub podman: Vec<PathBuf>,
}

impl Default for Places {
    fn default() -> Self {
        let paths = |paths: &[&str]| paths.iter().map(PathBuf::from).collect();
        Self {
            containerd: paths(&[
                "/run/containerd/io.containerd.runtime.v2.task",
                "/run/docker/containerd/daemon/io.containerd.runtime.v2.task",
                "/run/k3s/containerd/io.containerd.runtime.v2.task",
            ]),
            runc: paths(&["/run/runc"]),
            runc_nested: paths(&["/run/containerd/runc", "/run/docker/runtime-runc"]),
            crun: paths(&["/run/crun"]),
            docker: paths(&["/var/lib/docker/containers"]),
            podman: paths(&[
                "/var/lib/containers/storage/overlay-containers",
                "/run/containers/storage/overlay-containers",
            ]),
        }
    }
}

/// A container's folder in one of the places.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) kind: PlaceKind,
    pub(super) id: String,
    pub(super) folder: PathBuf,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum PlaceKind {
    Containerd { namespace: String },
    Runc,
    Crun,
    Podman,
}

impl PlaceKind {
    /// The file whose presence makes a folder a container.
    fn mark(&self) -> &'static str {
        match self {
            Self::Containerd { .. } => "config.json",
            Self::Runc => "state.json",
            Self::Crun => "status",
            Self::Podman => "userdata/config.json",
        }
    }
}

impl Places {
    /// Folders of containers, with the namespace in whose name they are kept. Bundles first: they say most.
    fn folders(&self, host_root: &Path) -> Vec<(PlaceKind, PathBuf)> {
        let mut folders = Vec::new();
        for place in &self.containerd {
            for (namespace, folder) in entries(&on_host(host_root, place)) {
                folders.push((PlaceKind::Containerd { namespace }, folder));
            }
        }
        let plain = |kind: PlaceKind, places: &[PathBuf]| -> Vec<(PlaceKind, PathBuf)> {
            places.iter().map(|place| (kind.clone(), on_host(host_root, place))).collect()
        };
        folders.extend(plain(PlaceKind::Podman, &self.podman));
        folders.extend(plain(PlaceKind::Runc, &self.runc));
        for place in &self.runc_nested {
            folders.extend(entries(&on_host(host_root, place)).map(|(_, folder)| (PlaceKind::Runc, folder)));
        }
        folders.extend(plain(PlaceKind::Crun, &self.crun));
        folders
    }

    /// The folders that hold a container of one of these ids.
    pub(super) fn find(&self, host_root: &Path, ids: &[&str]) -> Vec<Found> {
        let mut found = Vec::new();
        for (kind, folder) in if ids.is_empty() { Vec::new() } else { self.folders(host_root) } {
            for id in ids {
                let folder = folder.join(id);
                if folder.join(kind.mark()).symlink_metadata().is_ok() {
                    found.push(Found { kind: kind.clone(), id: (*id).to_owned(), folder });
                }
            }
        }
        found
    }

    /// All of them.
    pub(super) fn all(&self, host_root: &Path) -> Vec<Found> {
        let mut found = Vec::new();
        for (kind, folder) in self.folders(host_root) {
            for (id, folder) in entries(&folder) {
                if folder.join(kind.mark()).symlink_metadata().is_ok() {
                    found.push(Found { kind: kind.clone(), id, folder });
                }
            }
        }
        found
    }
}

/// A path of the host as this process reaches it.
pub(super) fn on_host(host_root: &Path, path: &Path) -> PathBuf {
    host_root.join(path.strip_prefix("/").unwrap_or(path))
}

/// The entries of a folder that could be containers or namespaces, in the order of their names; none if there is no folder.
pub(super) fn entries(folder: &Path) -> impl Iterator<Item = (String, PathBuf)> + use<> {
    let mut entries: Vec<(String, PathBuf)> = fs::read_dir(folder)
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| Some((entry.file_name().into_string().ok()?, entry.path())))
        .filter(|(name, _)| is_id(name))
        .collect();
    entries.sort_unstable();
    entries.into_iter()
}
