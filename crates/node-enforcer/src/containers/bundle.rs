//! From a container's folder to its description.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::cgroup_path::{fits, likely};
use super::finder::FinderConfig;
use super::located::{self, Located};
use super::oci::Spec;
use super::places::{Found, PlaceKind, entries, on_host};
use super::runtime_state::{self, EngineRecord, State};
use super::volumes::Declared;
use super::{Container, ContainerError, FileId, Root, Runtime, Volume, files, identity, volumes};

/// More than any pod declares.
const VOLUMES_MAX: usize = 1024;

/// A container's bundle and what is known of it besides.
#[derive(Debug, Clone)]
pub(super) struct Bundle {
    pub(super) id: String,
    /// The host's path of the folder.
    pub(super) folder: PathBuf,
    /// The host's path of its `config.json`.
    pub(super) config: PathBuf,
    /// Who called the runtime, as far as the place tells.
    pub(super) runtime: Runtime,
    pub(super) containerd_namespace: Option<String>,
    pub(super) state: State,
}

impl Bundle {
    /// A bundle at a path given by a runtime's command line or state: the path may tell whose it is.
    pub(super) fn at(id: String, folder: PathBuf, config: PathBuf, runtime: Runtime, state: State) -> Self {
        let parts: Vec<&str> = folder.iter().filter_map(|part| part.to_str()).collect();
        let containerd_namespace =
            parts.windows(3).find(|w| w[0] == "io.containerd.runtime.v2.task").map(|w| w[1].to_owned());
        let runtime = match &containerd_namespace {
            Some(namespace) if namespace == "moby" => Runtime::Docker,
            Some(_) => Runtime::Containerd,
            None if parts.contains(&"overlay-containers") => Runtime::Podman,
            None => runtime,
        };
        Self { id, folder, config, runtime, containerd_namespace, state }
    }

    /// What a known place holds; None if it has gone meanwhile.
    pub(super) fn of_place(found: &Found, config: &FinderConfig) -> Result<Option<Self>, ContainerError> {
        let (runtime, state) = match found.kind {
            PlaceKind::Containerd { .. } | PlaceKind::Podman => {
                let userdata = matches!(found.kind, PlaceKind::Podman);
                let folder = if userdata { found.folder.join("userdata") } else { found.folder.clone() };
                let pid = runtime_state::pid_file(&folder.join(if userdata { "pidfile" } else { "init.pid" }));
                let folder = config.off_host(&folder);
                let state = State { init_pid: pid, ..State::default() };
                let json = folder.join("config.json");
                return Ok(Some(Self::at(found.id.clone(), folder, json, Runtime::Other, state)));
            }
            PlaceKind::Runc => (Runtime::Runc, runtime_state::runc(&found.folder, &config.cgroups)?),
            PlaceKind::Crun => (Runtime::Crun, runtime_state::crun(&found.folder)?),
        };
        let Some(state) = state else { return Ok(None) };
        let Some(folder) = state.bundle.clone() else {
            return Ok(None);
        };
        let json = folder.join("config.json");
        Ok(Some(Self::at(found.id.clone(), folder, json, runtime, state)))
    }

    /// Describes the container if it lives in `cgroup`; where that is not given, in the cgroup that its bundle or process
    /// names. None if it does not, or has no cgroup any more.
    pub(super) fn describe(
        self,
        config: &FinderConfig,
        cgroup: Option<&str>,
    ) -> Result<Option<Container>, ContainerError> {
        let json = config.on_host(&self.config);
        let Some(spec) = files::read_json::<Spec>(&json, files::CONFIG_LIMIT)? else {
            // The shim makes the folder first.
            let error = || ContainerError::Transient { path: json, reason: "the bundle has no config.json".to_owned() };
            return if self.folder_exists(config) { Err(error()) } else { Ok(None) };
        };
        let Some((cgroup, cgroup_id)) = self.cgroup(config, &spec, cgroup) else {
            return Ok(None);
        };
        let record = self.engine_record(config)?;
        let runtime = match spec.annotations.0.get("io.container.manager").map(String::as_str) {
            Some("cri-o") => Runtime::CriO,
            _ => self.runtime,
        };
        let in_pod = spec.annotations.0.keys().any(|key| key.starts_with("io.kubernetes."));
        let mounts = spec.mounts.unwrap_or_default();
        let declared = volumes::declared(&mounts, &self.folder, in_pod, &config.host_root);
        drop(mounts);
        let root = spec.root.map(|root| self.folder.join(root.path));
        let (root, volumes) = Self::filesystems(config, json, root, declared)?;
        let identity =
            identity::identify(&self.id, runtime, self.containerd_namespace.as_deref(), spec.annotations, record);
        let is_alive = |pid: &u32| runtime_state::is_alive(&config.proc, *pid, self.state.init_start);
        Ok(Some(Container {
            id: self.id,
            runtime,
            namespace: identity.namespace,
            pod: identity.pod,
            pod_uid: identity.pod_uid,
            name: identity.name,
            sandbox: identity.sandbox,
            image: identity.image,
            labels: identity.labels,
            labels_known: identity.labels_known,
            cgroup,
            cgroup_id,
            init_pid: self.state.init_pid.filter(is_alive),
            root,
            volumes,
        }))
    }

    /// Finds the root and the volumes on the host.
    fn filesystems(
        config: &FinderConfig,
        json: PathBuf,
        root: Option<PathBuf>,
        declared: Vec<Declared>,
    ) -> Result<(Root, Vec<Volume>), ContainerError> {
        let malformed = |reason: String| ContainerError::Malformed { path: json, reason };
        if declared.len() > VOLUMES_MAX {
            return Err(malformed(format!("more than {VOLUMES_MAX} declared mounts")));
        }
        let Some(root) = root else {
            return Err(malformed("root.path is missing".to_owned()));
        };
        let binds = declared.iter().filter(|volume| volume.bind);
        let mut paths = vec![config.on_host(&root)];
        paths.extend(binds.map(|volume| config.on_host(&volume.source)));
        let mut located = located::locate(&paths)?.into_iter();
        let Some(root_found) = located.next().flatten() else {
            return Err(ContainerError::Transient {
                path: paths.swap_remove(0),
                reason: "the root filesystem is not there".to_owned(),
            });
        };
        let volumes = declared.into_iter().map(|volume| Volume {
            file: if volume.bind { located.next().flatten().map(|found| found.file) } else { None },
            destination: volume.destination,
            kind: volume.kind,
            source: volume.source,
        });
        Ok((root_of(root, &root_found), volumes.collect()))
    }

    fn folder_exists(&self, config: &FinderConfig) -> bool {
        config.on_host(&self.folder).is_dir()
    }

    /// The container's cgroup and its id.
    fn cgroup(&self, config: &FinderConfig, spec: &Spec, asked: Option<&str>) -> Option<(String, u64)> {
        let recorded = self.state.cgroup.clone().or_else(|| {
            let folder = self.state.cgroup_folder.as_deref()?;
            let below = Path::new(folder).strip_prefix(&config.cgroups.mount).ok()?;
            Some(format!("/{}", below.to_str()?))
        });
        if let Some(asked) = asked {
            let is_it = match &recorded {
                Some(recorded) => recorded == asked,
                None => fits(spec.cgroups_path(), &self.id, asked),
            };
            return is_it.then(|| Some((asked.to_owned(), config.cgroup_id(asked)?))).flatten();
        }
        // What the runtime recorded, else where the bundle says, else where its first process is: a container that
        // runs an init system moves that process further down.
        let of_process = || {
            let pid = self.state.init_pid?;
            let table = files::read(&config.proc.join(pid.to_string()).join("cgroup"), files::SMALL_LIMIT).ok()??;
            let table = String::from_utf8(table).ok()?;
            let cgroup = config.cgroups.path_in(&table)?.to_owned();
            fits(spec.cgroups_path(), &self.id, &cgroup).then_some(cgroup)
        };
        let known = |cgroup: String| config.cgroup_id(&cgroup).map(|id| (cgroup, id));
        match recorded {
            Some(recorded) => known(recorded),
            None => of_process()
                .and_then(known)
                .or_else(|| likely(spec.cgroups_path(), &self.id).into_iter().find_map(known)),
        }
    }

    /// What docker or podman knows of it.
    fn engine_record(&self, config: &FinderConfig) -> Result<Option<EngineRecord>, ContainerError> {
        let folders = match self.runtime {
            Runtime::Docker => &config.places.docker,
            Runtime::Podman => &config.places.podman,
            _ => return Ok(None),
        };
        for folder in folders {
            let folder = config.on_host(folder);
            let record = match self.runtime {
                Runtime::Docker => runtime_state::docker(&folder.join(&self.id))?,
                _ => runtime_state::podman(&folder, &self.id)?,
            };
            if record.is_some() {
                return Ok(record);
            }
        }
        Ok(None)
    }
}

impl FinderConfig {
    fn on_host(&self, path: &Path) -> PathBuf {
        on_host(&self.host_root, path)
    }

    /// The host's name of a path that was found below `host_root`.
    fn off_host(&self, path: &Path) -> PathBuf {
        path.strip_prefix(&self.host_root).map_or_else(|_| path.to_owned(), |below| Path::new("/").join(below))
    }

    /// The kernel's id of a cgroup; None if there is none (any more).
    pub(super) fn cgroup_id(&self, cgroup: &str) -> Option<u64> {
        let folder = self.cgroups.mount.join(cgroup.strip_prefix('/')?);
        fs::symlink_metadata(folder).ok().filter(fs::Metadata::is_dir).map(|folder| folder.ino())
    }
}

fn root_of(path: PathBuf, located: &Located) -> Root {
    let FileId { dev, ino } = located.file;
    let overlay = located.mount.fs_type == "overlay" && located.is_mount_root;
    let (upper_dir, lower_dirs) =
        if overlay { (located.mount.upper_dir(), located.mount.lower_dirs()) } else { (None, Vec::new()) };
    let user_xattrs = overlay && located.mount.has_option("userxattr");
    Root { path, dev, ino, overlay, upper_dir, lower_dirs, user_xattrs }
}

/// The processes of runtimes that may be waiting for systemd to make this scope.
pub(super) fn waiting_runtimes(proc: &Path) -> Vec<u32> {
    entries(proc)
        .filter_map(|(name, folder)| Some((name.parse::<u32>().ok()?, folder)))
        .filter(|(_, folder)| {
            let comm = files::read(&folder.join("comm"), 64).ok().flatten().unwrap_or_default();
            matches!(comm.trim_ascii_end(), b"runc" | b"crun" | b"youki" | b"docker-runc")
        })
        .map(|(pid, _)| pid)
        .collect()
}
