//! Counts that the kernel kept: how often each kind of violation happened since the last look.

use std::collections::HashMap;

use libbpf_rs::{MapCore, MapFlags};
use mooring_bpf::wire::{Wire, flood, flood_key};

use crate::kernel::{Kernel, KernelError, Key, Record};

/// Kinds whose details are kept, for counts that come later. A flood of more is counted without them.
const DETAILS_MAX: usize = 1024;
/// Entries that one call into the kernel takes out.
const BATCH: u32 = 256;
/// Both tables, and once more for reports that never come.
pub(super) const LOOKS: u8 = 3;

/// What was reported, until its counts have come.
pub(super) struct Floods {
    reported: HashMap<Key, Reported>,
    details: usize,
    /// Counts whose report is still in the ring buffer, or was lost.
    early: HashMap<Key, u64>,
    /// Looks that may still find something in the kernel's tables.
    looks_due: u8,
}

#[derive(Default)]
struct Reported {
    record: Option<Record>,
    /// How much of the next counts has been told already.
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
    /// Nothing is known of what happened before.
    pub(super) fn new() -> Self {
        Self { reported: HashMap::new(), details: 0, early: HashMap::new(), looks_due: LOOKS }
    }

    /// Takes a first report, and gives what can be told of it at once.
    pub(super) fn reported(&mut self, record: Record) -> Counted {
        if !record.aggregated {
            return Counted { record, count: 1 };
        }
        self.looks_due = LOOKS;
        let early = self.early.remove(&record.key);
        let reported = self.reported.entry(record.key).or_default();
        reported.told += u64::from(early.is_none());
        if reported.record.is_none() && self.details < DETAILS_MAX {
            reported.record = Some(record.clone());
            self.details += 1;
        }
        Counted { record, count: early.unwrap_or(1) }
    }

    /// Whether a look at the kernel's table is due.
    #[must_use]
    pub(super) fn is_pending(&self) -> bool {
        self.looks_due > 0
    }

    /// Takes the counts out of the kernel's table that is not counted in any more, and lets the two change turns.
    ///
    /// # Errors
    /// When the tables cannot be read; the counts stay there.
    pub(super) fn drain(&mut self, kernel: &Kernel) -> Result<Vec<Counted>, KernelError> {
        let maps = &kernel.skeleton().maps;
        let first = 0_u32.to_ne_bytes();
        let turn = maps.floods_turn.lookup(&first, MapFlags::ANY).map_err(failed())?;
        let turn = turn.is_some_and(|bytes| bytes != 0_u32.to_ne_bytes());
        let resting = if turn { &maps.floods_0 } else { &maps.floods_1 };
        let entries = resting.lookup_and_delete_batch(BATCH, MapFlags::ANY, MapFlags::ANY).map_err(failed())?;
        let counts = entries.filter_map(|(key, value)| {
            Some((Key::from(&flood_key::from_bytes(&key)?), flood::from_bytes(&value)?.count))
        });
        let counted = self.counted(counts);
        maps.floods_turn.update(&first, &u32::from(!turn).to_ne_bytes(), MapFlags::ANY).map_err(failed())?;
        Ok(counted)
    }

    fn counted(&mut self, counts: impl Iterator<Item = (Key, u64)>) -> Vec<Counted> {
        // No report has come for them since the last look: it was lost.
        let lost = std::mem::take(&mut self.early).into_iter();
        let mut counted: Vec<_> = lost.map(|(key, count)| Counted { record: Record::lost(key), count }).collect();
        self.looks_due = self.looks_due.saturating_sub(1);
        for (key, count) in counts {
            self.looks_due = LOOKS;
            let Some(reported) = self.reported.get_mut(&key) else {
                *self.early.entry(key).or_default() += count;
                continue;
            };
            let told = reported.told.min(count);
            reported.told -= told;
            if count > told {
                let count = count - told;
                counted.push(Counted { record: reported.record.clone().unwrap_or_else(|| Record::lost(key)), count });
            }
        }
        if self.looks_due == 0 {
            self.reported.clear();
            self.details = 0;
        }
        counted
    }
}

fn failed() -> impl FnOnce(libbpf_rs::Error) -> KernelError {
    KernelError::bpf("take the counts of violations")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(inode: u64) -> Key {
        Key {
            container: 1,
            dev: 2,
            inode,
            generation: 1,
            drift: 1,
            prohibited: 0,
            prohibited_process: 0,
            class: 1,
            usage: 0,
        }
    }

    fn record(inode: u64) -> Record {
        Record { path: format!("/{inode}").into_bytes(), denied: Some(1), ..Record::lost(key(inode)) }
    }

    fn paths(counted: &[Counted]) -> Vec<(String, u64)> {
        counted.iter().map(|c| (String::from_utf8(c.record.path.clone()).unwrap(), c.count)).collect()
    }

    #[test]
    fn the_first_is_told_at_once_and_not_again() {
        let mut floods = Floods::new();
        assert_eq!(floods.reported(record(7)).count, 1);
        assert_eq!(paths(&floods.counted([(key(7), 5)].into_iter())), [("/7".to_owned(), 4)]);
        assert_eq!(paths(&floods.counted([(key(7), 2)].into_iter())), [("/7".to_owned(), 2)]);
    }

    #[test]
    fn a_kind_that_is_in_both_tables_is_told_once_each() {
        let mut floods = Floods::new();
        assert_eq!(floods.reported(record(7)).count + floods.reported(record(7)).count, 2);
        let counts: u64 = [1, 5].iter().flat_map(|n| floods.counted([(key(7), *n)].into_iter())).map(|c| c.count).sum();
        assert_eq!(counts, 4);
    }

    #[test]
    fn a_count_waits_for_its_report_once() {
        let mut floods = Floods::new();
        assert!(floods.counted([(key(7), 5), (key(8), 3)].into_iter()).is_empty());
        assert_eq!(floods.reported(record(7)).count, 5);
        assert_eq!(paths(&floods.counted([].into_iter())), [(String::new(), 3)], "the report of 8 was lost");
        (0..LOOKS).for_each(|_| drop(floods.counted([].into_iter())));
        assert!(!floods.is_pending());
    }

    #[test]
    fn beyond_the_details_every_count_stays_right() {
        let mut floods = Floods::new();
        let kinds = DETAILS_MAX as u64 + 500;
        let told: u64 = (0..kinds).map(|inode| floods.reported(record(inode)).count).sum();
        let rest: u64 = floods.counted((0..kinds).map(|inode| (key(inode), 3))).iter().map(|c| c.count).sum();
        assert_eq!(told + rest, 3 * kinds);
    }
}
