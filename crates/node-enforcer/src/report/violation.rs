//! One record of the kernel, with what user space knows besides.

use std::sync::Arc;

use mooring_policy::{Class, Judgement, SlotMask, Use};

use super::Timestamp;
use crate::containers::Container;

/// One or more uses of one file that violated policies, as one kernel record tells of them.
///
/// All texts are bytes as the workload chose them: nothing may be assumed of them, and only this module's writers print them.
#[derive(Debug, Clone)]
pub struct Violation {
    /// Whose process it was.
    pub container: Arc<Container>,
    /// When the first of them happened.
    pub first_seen: Timestamp,
    /// When the last of them happened; the same where it was one.
    pub last_seen: Timestamp,
    /// How many there were; 0 is taken as 1.
    pub count: u64,
    /// Slots for which the file drifted.
    pub drift: SlotMask,
    /// Slots that prohibit it.
    pub prohibited: SlotMask,
    /// Violated slots that prevent; none: it ran.
    pub denied: SlotMask,
    /// It could not be refused: whoever executed it was killed.
    pub killed: bool,
    /// What the file is.
    pub class: Class,
    /// What was done with it.
    pub usage: Use,
    /// The file's path in the container, or `memfd:NAME`; empty where it could not be found out.
    pub path: Vec<u8>,
    /// The image file's own path where the file was renamed or linked; empty where it is the same or unknown.
    pub lower_path: Vec<u8>,
    /// The name as the caller wrote it; empty where it is not known.
    pub invoked: Vec<u8>,
    /// The process, as the host numbers it.
    pub pid: u32,
    /// Its parent.
    pub parent_pid: u32,
    /// Its user, as the host numbers it.
    pub uid: u32,
    /// The name that the process gave itself, without NULs.
    pub comm: Vec<u8>,
    /// The same of its parent; empty where it is not known.
    pub parent_comm: Vec<u8>,
    /// The arguments, each ended by a NUL as in `/proc/<pid>/cmdline`; empty where they could not be read.
    pub argv: Vec<u8>,
}

impl Violation {
    /// The masks as the policy crate judges by them.
    #[must_use]
    pub fn judgement(&self) -> Judgement {
        Judgement {
            drift: self.drift,
            prohibited: self.prohibited,
            violating: self.drift | self.prohibited,
            denied: self.denied,
        }
    }
}
