//! What a container is: found by its cgroup and described by the bundle its runtime wrote.
//!
//! [`Finder`] answers two questions: which container has just got this cgroup ([`Finder::resolve`]) and which ones
//! exist now ([`Finder::scan`]). It only reads: the runtimes' state folders, `/proc` and the mount table. It trusts
//! what the runtimes wrote as root, within size limits, and nothing that lies inside a container's root.

mod bundle;
mod cgroup_path;
mod command_line;
mod error;
mod files;
mod finder;
mod hierarchy;
mod identity;
mod located;
mod mountinfo;
mod oci;
mod places;
mod runtime_state;
#[cfg(test)]
pub(crate) mod scratch;
#[cfg(test)]
mod tests;
mod volumes;

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

pub use error::ContainerError;
pub use finder::{Finder, FinderConfig};
pub use hierarchy::Hierarchy;
pub use located::{host_root_and_namespace, identity_of};
pub use mountinfo::{MountEntry, mounts_of};
pub use places::Places;
pub(crate) use volumes::name_in_pod;

/// Who made the container, as far as its bundle tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Runtime {
    /// containerd, through CRI, `ctr` or nerdctl.
    Containerd,
    /// CRI-O.
    CriO,
    /// `crun` called directly.
    Crun,
    /// Docker Engine.
    Docker,
    /// Podman.
    Podman,
    /// `runc` called directly.
    Runc,
    /// `youki` called directly.
    Youki,
    /// A runtime with runc's command line and a name that is not known here.
    Other,
}

impl Runtime {
    /// The name for people and events.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Containerd => "containerd",
            Self::CriO => "cri-o",
            Self::Crun => "crun",
            Self::Docker => "docker",
            Self::Podman => "podman",
            Self::Runc => "runc",
            Self::Youki => "youki",
            Self::Other => "other",
        }
    }
}

impl fmt::Display for Runtime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A file or folder as the kernel knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FileId {
    /// The superblock's `s_dev` in the kernel's own encoding: major in the upper 12 bits, minor in the lower 20. It
    /// comes from the mount table; `st_dev` is another number on btrfs.
    pub dev: u32,
    /// The inode number (`st_ino`).
    pub ino: u64,
}

/// A container's root filesystem.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Root {
    /// Where the host sees it.
    pub path: PathBuf,
    /// Superblock; see [`FileId::dev`].
    pub dev: u32,
    /// Inode number of the root folder.
    pub ino: u64,
    /// Whether the root is itself the root of an overlay mount. A folder that merely lies on one (a node whose own
    /// root is an overlay) is not: its layers say nothing of the image.
    pub overlay: bool,
    /// The overlay's `upperdir`; None also where it is read-only.
    pub upper_dir: Option<PathBuf>,
    /// The overlay's `lowerdir` entries, uppermost first; relative ones are as the mount was made.
    pub lower_dirs: Vec<PathBuf>,
    /// Whether the overlay keeps its notes in `user.overlay.*` (mounted with `userxattr`), where else whoever owns a file can write.
    pub user_xattrs: bool,
}

/// A mount that the pod or container declares.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Volume {
    /// Where the container sees it: absolute and clean.
    pub destination: String,
    /// `emptyDir`, `configMap`, `secret`, `projected`, `downwardAPI`, `hostPath`, `persistentVolumeClaim`, `image`, `volume`,
    /// `bind`, `tmpfs`, the runtime's own `etcHosts`, `resolvConf`, `hostname`, `terminationLog`, or a volume plugin's name.
    pub kind: String,
    /// Where the host sees what is mounted; for a filesystem made for the container, the OCI `source` as written.
    pub source: PathBuf,
    /// The root of the mount. None while it is not known: a tmpfs that the runtime has yet to make (see
    /// [`Finder::resolve_tmpfs`]), or a source that is gone.
    pub file: Option<FileId>,
}

/// One container, the sandbox ("pause") container of a pod included.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Container {
    /// The runtime's id: the bundle's.
    pub id: String,
    /// Who made it.
    pub runtime: Runtime,
    /// The pod's namespace, else the containerd namespace, else `default`.
    pub namespace: String,
    /// The pod's name, else the id.
    pub pod: String,
    /// The pod's uid where a kubelet made it.
    pub pod_uid: Option<String>,
    /// The container's name in its pod, else nerdctl's, docker's or podman's, else the id.
    pub name: String,
    /// Whether it is a pod's sandbox.
    pub sandbox: bool,
    /// The image's reference; None where only the runtime's database knows it.
    pub image: Option<String>,
    /// OCI annotations, and docker's labels.
    pub labels: BTreeMap<String, String>,
    /// False where the engine keeps labels that could not be read here (podman's database, docker's data folder
    /// elsewhere): then a label that is missing from `labels` may exist all the same.
    pub labels_known: bool,
    /// Path below the hierarchy's mount, with a leading `/`.
    pub cgroup: String,
    /// The kernel's 64-bit id of that cgroup (its folder's inode number).
    pub cgroup_id: u64,
    /// The container's first process, where the runtime has recorded it and it is alive.
    pub init_pid: Option<u32>,
    /// The root filesystem.
    pub root: Root,
    /// Declared mounts, in the order of the bundle (a later one may lie in or over an earlier one).
    pub volumes: Vec<Volume>,
}
