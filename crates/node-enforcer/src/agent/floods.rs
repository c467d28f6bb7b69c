//! Counts that the kernel kept: how often each kind of violation happened since the last look.

use std::collections::HashMap;

use libbpf_rs::{MapCore, MapFlags};
use mooring_bpf::wire::{Wire, flood, flood_key};

use crate::kernel::{Kernel, KernelError, Key, Record};

/// Kinds whose details are kept, for counts that come later. A flood of more is counted under none.
const DETAILS_MAX: usize = 1024;
/// Entries that one call into the kernel takes out.
const BATCH: u32 = 256;

/// Details of what was reported, until its counts have come.
#[derive(Default)]
pub(super) struct Floods {
    details: HashMap<Key, Detail>,
    /// Counts whose report is still in the ring buffer.
    early: HashMap<Key, u64>,
    /// Something may be in the kernel's table.
    pending: bool,
}

struct Detail {
    record: Record,
    /// How much of the next count has been told already.
    told: u64,
}

/// A violation and how often it happened.
pub(super) struct Counted {
    /// Its details.
    pub record: Record,
    /// How often since the last time.
    pub count: u64,
}

impl Floods {
    /// Takes a first report, and gives what can be told of it at once.
    pub(super) fn reported(&mut self, record: Record) -> Counted {
        if !record.aggregated {
            return Counted { record, count: 1 };
        }
        self.pending = true;
        let early = self.early.remove(&record.key);
        if self.details.len() < DETAILS_MAX || self.details.contains_key(&record.key) {
            let told = u64::from(early.is_none());
            self.details.insert(record.key, Detail { record: record.clone(), told });
        }
        Counted { record, count: early.unwrap_or(1) }
    }

    /// Whether a look at the kernel's table is due.
    #[must_use]
    pub(super) fn is_pending(&self) -> bool {
        self.pending
    }

    /// Takes the counts out of the kernel. What has no details any more is summed up as the second value.
    ///
    /// # Errors
    /// When the table cannot be read; the counts stay there.
    pub(super) fn drain(&mut self, kernel: &Kernel) -> Result<(Vec<Counted>, u64), KernelError> {
        let mut counted = Vec::new();
        let (mut without_details, mut seen) = (0, false);
        let entries = kernel
            .skeleton()
            .maps
            .floods
            .lookup_and_delete_batch(BATCH, MapFlags::ANY, MapFlags::ANY)
            .map_err(KernelError::bpf("take the counts of violations"))?;
        for (key, value) in entries {
            let (Some(key), Some(value)) = (flood_key::from_bytes(&key), flood::from_bytes(&value)) else { continue };
            let key = Key::from(&key);
            seen = true;
            match self.details.get_mut(&key) {
                Some(detail) => {
                    let count = value.count.saturating_sub(detail.told);
                    detail.told = 0;
                    if count > 0 {
                        counted.push(Counted { record: detail.record.clone(), count });
                    }
                }
                None if self.early.len() < DETAILS_MAX => *self.early.entry(key).or_default() += value.count,
                None => without_details += value.count,
            }
        }
        self.pending = seen;
        if !self.pending {
            self.details.clear();
        }
        Ok((counted, without_details))
    }
}
