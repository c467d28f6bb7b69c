//! Counts that the kernel kept: how often each kind of violation happened since the last look.

use std::collections::HashMap;

use libbpf_rs::{MapCore, MapFlags};
use mooring_bpf::wire::{Wire, flood, flood_key};

use crate::kernel::{Kernel, KernelError, Key, Record};

/// Kinds whose details are kept, for counts that come later. A flood of more is counted without them.
const DETAILS_MAX: usize = 1024;
/// Entries that one call into the kernel takes out.
const BATCH: u32 = 256;

/// What was reported, until its counts have come.
#[derive(Default)]
pub(super) struct Floods {
    reported: HashMap<Key, Reported>,
    details: usize,
    /// Counts whose report is still in the ring buffer, or was lost.
    early: HashMap<Key, u64>,
    /// Something may be in the kernel's table.
    pending: bool,
}

struct Reported {
    record: Option<Record>,
    /// How much of the next count has been told already.
    told: u64,
}

/// A violation and how often it happened.
pub(super) struct Counted {
    /// Its details.
    pub(super) record: Record,
    /// How often since the last time.
    pub(super) count: u64,
}

impl Floods {
    /// Takes a first report, and gives what can be told of it at once.
    pub(super) fn reported(&mut self, record: Record) -> Counted {
        if !record.aggregated {
            return Counted { record, count: 1 };
        }
        self.pending = true;
        let early = self.early.remove(&record.key);
        let details = (self.details < DETAILS_MAX).then(|| record.clone());
        let reported = Reported { record: details, told: u64::from(early.is_none()) };
        self.details += usize::from(reported.record.is_some());
        if let Some(before) = self.reported.insert(record.key, reported) {
            self.details -= usize::from(before.record.is_some());
        }
        Counted { record, count: early.unwrap_or(1) }
    }

    /// Whether a look at the kernel's table is due.
    #[must_use]
    pub(super) fn is_pending(&self) -> bool {
        self.pending
    }

    /// Takes the counts out of the kernel.
    ///
    /// # Errors
    /// When the table cannot be read; the counts stay there.
    pub(super) fn drain(&mut self, kernel: &Kernel) -> Result<Vec<Counted>, KernelError> {
        let entries = kernel
            .skeleton()
            .maps
            .floods
            .lookup_and_delete_batch(BATCH, MapFlags::ANY, MapFlags::ANY)
            .map_err(KernelError::bpf("take the counts of violations"))?;
        let counts = entries.filter_map(|(key, value)| {
            Some((Key::from(&flood_key::from_bytes(&key)?), flood::from_bytes(&value)?.count))
        });
        Ok(self.counted(counts))
    }

    fn counted(&mut self, counts: impl Iterator<Item = (Key, u64)>) -> Vec<Counted> {
        // No report has come for them since the last look: it was lost.
        let lost = std::mem::take(&mut self.early).into_iter();
        let mut counted: Vec<_> = lost.map(|(key, count)| Counted { record: Record::lost(key), count }).collect();
        self.pending = false;
        for (key, count) in counts {
            self.pending = true;
            let Some(reported) = self.reported.get_mut(&key) else {
                *self.early.entry(key).or_default() += count;
                continue;
            };
            let count = count.saturating_sub(std::mem::take(&mut reported.told));
            if count > 0 {
                counted.push(Counted { record: reported.record.clone().unwrap_or_else(|| Record::lost(key)), count });
            }
        }
        if !self.pending {
            self.reported.clear();
            self.details = 0;
        }
        counted
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(inode: u64) -> Key {
        Key { container: 1, dev: 2, inode, generation: 1, drift: 1, prohibited: 0, class: 1, usage: 0 }
    }

    fn record(inode: u64) -> Record {
        Record { path: format!("/{inode}").into_bytes(), denied: Some(1), ..Record::lost(key(inode)) }
    }

    fn paths(counted: &[Counted]) -> Vec<(String, u64)> {
        counted.iter().map(|c| (String::from_utf8(c.record.path.clone()).unwrap(), c.count)).collect()
    }

    #[test]
    fn the_first_is_told_at_once_and_not_again() {
        let mut floods = Floods::default();
        assert_eq!(floods.reported(record(7)).count, 1);
        assert_eq!(paths(&floods.counted([(key(7), 5)].into_iter())), [("/7".to_owned(), 4)]);
        assert_eq!(paths(&floods.counted([(key(7), 2)].into_iter())), [("/7".to_owned(), 2)]);
    }

    #[test]
    fn a_count_waits_for_its_report_once() {
        let mut floods = Floods::default();
        assert!(floods.counted([(key(7), 5), (key(8), 3)].into_iter()).is_empty());
        assert_eq!(floods.reported(record(7)).count, 5);
        assert_eq!(paths(&floods.counted([].into_iter())), [(String::new(), 3)], "the report of 8 was lost");
        assert!(!floods.is_pending());
    }

    #[test]
    fn beyond_the_details_every_count_stays_right() {
        let mut floods = Floods::default();
        let kinds = DETAILS_MAX as u64 + 500;
        let told: u64 = (0..kinds).map(|inode| floods.reported(record(inode)).count).sum();
        let rest: u64 = floods.counted((0..kinds).map(|inode| (key(inode), 3))).iter().map(|c| c.count).sum();
        assert_eq!(told + rest, 3 * kinds);
    }
}
