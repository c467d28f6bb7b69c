//! Kernel bytes to facts.

use mooring_bpf::wire::{
    Wire, flood_key, lifecycle_kind, lifecycle_record, name_index, name_state, right_aligned, violation_record,
    zero_terminated,
};

/// The first report of a kind of violation. How often it happened comes from the floods table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Container (cgroup id), file, use and outcome.
    pub key: Key,
    /// Slots that refused it; not known where the record itself was lost.
    pub denied: Option<u64>,
    /// What was denied could not be refused: the process was killed.
    pub killed: bool,
    /// Nanoseconds since boot.
    pub time: u64,
    /// False: the floods table was full, and this record stands for itself.
    pub aggregated: bool,
    /// The process, in the host's pid namespace.
    pub pid: u32,
    /// Its user.
    pub uid: u32,
    /// Its parent.
    pub parent_pid: u32,
    /// Its name before the exec.
    pub comm: Vec<u8>,
    /// Its parent's name.
    pub parent_comm: Vec<u8>,
    /// The file's path; empty when it could not be found out.
    pub path: Vec<u8>,
    /// The image file's own path, when it was copied up.
    pub lower_path: Option<Vec<u8>>,
    /// The name that it was executed by.
    pub invoked: Option<Vec<u8>>,
    /// The arguments, each ended by a NUL, cut.
    pub arguments: Vec<u8>,
}

/// What makes two violations the same (`struct flood_key`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key {
    /// Cgroup id.
    pub container: u64,
    /// Superblock.
    pub dev: u32,
    /// Inode number.
    pub inode: u64,
    /// Of the tables that decided.
    pub generation: u64,
    /// Slots whose detection it violates.
    pub drift: u64,
    /// Slots that prohibit it.
    pub prohibited: u64,
    /// `enum file_class`.
    pub class: u16,
    /// `enum file_use`.
    pub usage: u16,
}

impl From<&flood_key> for Key {
    fn from(key: &flood_key) -> Self {
        Self {
            container: key.container,
            dev: key.dev,
            inode: key.inode,
            generation: key.generation,
            drift: key.drift,
            prohibited: key.prohibited,
            class: key.file_class,
            usage: key.r#use,
        }
    }
}

fn name_of(record: &violation_record, index: name_index) -> Option<Vec<u8>> {
    let index = usize::try_from(index.0).ok()?;
    let (state, name) = (record.name_states.get(index)?, record.names.get(index)?);
    (*state != name_state::NAME_NONE.0).then(|| right_aligned(&name.bytes).to_vec())
}

impl Record {
    /// What is known of a kind whose record was lost: what it is counted under.
    #[must_use]
    pub fn lost(key: Key) -> Self {
        Self {
            key,
            denied: None,
            killed: false,
            time: 0,
            aggregated: true,
            pid: 0,
            uid: 0,
            parent_pid: 0,
            comm: Vec::new(),
            parent_comm: Vec::new(),
            path: Vec::new(),
            lower_path: None,
            invoked: None,
            arguments: Vec::new(),
        }
    }

    /// `None` when the bytes are no record.
    #[must_use]
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let record = &violation_record::from_bytes(bytes)?;
        Some(Self {
            key: Key::from(&record.key),
            denied: Some(record.denied),
            killed: record.killed != 0,
            time: record.time,
            aggregated: record.aggregated != 0,
            pid: record.pid,
            uid: record.uid,
            parent_pid: record.parent_pid,
            comm: zero_terminated(&record.comm).to_vec(),
            parent_comm: zero_terminated(&record.parent_comm).to_vec(),
            path: name_of(record, name_index::NAME_INDEX_PATH).unwrap_or_default(),
            lower_path: name_of(record, name_index::NAME_INDEX_LOWER),
            invoked: name_of(record, name_index::NAME_INDEX_INVOKED),
            arguments: record.args.get(..record.args_len as usize).unwrap_or_default().to_vec(),
        })
    }
}

/// What happens to cgroups and files, apart from violations.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Lifecycle {
    /// A cgroup that is in no container was made.
    CgroupMade {
        /// Its id.
        cgroup: u64,
        /// Its path below the hierarchy's root.
        path: String,
        /// Who made it.
        maker: u32,
    },
    /// A container's cgroup is gone, and so is its entry in the tables.
    CgroupReleased {
        /// Its id.
        cgroup: u64,
    },
    /// A container that is not resolved yet executed its first program.
    UnknownContainer {
        /// Its cgroup.
        cgroup: u64,
    },
    /// A copied-up file was used whose content has to be compared with the image's.
    Prove(ProofRequest),
}

/// Which file is to be compared with which.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProofRequest {
    /// The container's cgroup.
    pub cgroup: u64,
    /// The image file's superblock and inode number; number 0 where the kernel does not know it.
    pub lower: (u32, u64),
    /// Path in the container's root.
    pub path: Vec<u8>,
    /// Path in the layer, when it could be found out.
    pub lower_path: Vec<u8>,
}

impl Lifecycle {
    /// `None` when the bytes are no record of a known kind.
    #[must_use]
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let record = lifecycle_record::from_bytes(bytes)?;
        Some(match lifecycle_kind(record.kind) {
            lifecycle_kind::LIFECYCLE_CGROUP_MADE => Self::CgroupMade {
                cgroup: record.cgroup,
                path: String::from_utf8_lossy(zero_terminated(&record.path)).into_owned(),
                maker: record.pid,
            },
            lifecycle_kind::LIFECYCLE_CGROUP_RELEASED => Self::CgroupReleased { cgroup: record.cgroup },
            lifecycle_kind::LIFECYCLE_UNKNOWN_CONTAINER => Self::UnknownContainer { cgroup: record.cgroup },
            lifecycle_kind::LIFECYCLE_PROVE => Self::Prove(ProofRequest {
                cgroup: record.cgroup,
                lower: (record.lower_dev, record.lower_inode),
                path: right_aligned(&record.path).to_vec(),
                lower_path: right_aligned(&record.lower_path).to_vec(),
            }),
            _ => return None,
        })
    }
}
