//! The types of `src/bpf/wire.h`, and their bytes.
//!
//! The structures are generated from the kernel programs' BTF, so a field that moves there moves here.
#![allow(unsafe_code)] // Viewing a structure as the bytes that cross the kernel's boundary.

use std::mem::{MaybeUninit, size_of};
use std::slice;

pub use crate::skeleton::types::{
    container, container_flag, control, counter, executing, file_class, file_use, flood, flood_key, lifecycle_kind,
    lifecycle_record, mark, name, name_index, name_state, path_key, path_rule, pattern_state, prove_step, rules,
    scratch, verdict, verdict_case, violation_record, volume, volume_key,
};

/// Length of every name buffer, in bytes (`NAME_LEN`).
pub const NAME_LEN: usize = 256;
/// Containers that a node has room for (`MAX_CONTAINERS`).
pub const MAX_CONTAINERS: usize = 8192;
/// Scratch buffers a CPU (`SCRATCH_SLOTS_PER_CPU`).
pub const SCRATCH_SLOTS_PER_CPU: u32 = 4;
/// Changes with every change of a pinned map's meaning or layout (`MOORING_WIRE_VERSION`).
pub const WIRE_VERSION: u32 = 3;

/// A wire structure: plain integers and arrays of them, without padding.
///
/// # Safety
/// Every bit pattern of `size_of::<Self>()` bytes is a valid value, and no byte of a value is padding.
pub unsafe trait Wire: Copy {
    /// The structure as the kernel sees it.
    fn as_bytes(&self) -> &[u8] {
        // SAFETY: by the trait's contract all of the bytes are initialised; the lifetime is that of `self`.
        unsafe { slice::from_raw_parts(std::ptr::from_ref(self).cast(), size_of::<Self>()) }
    }

    /// A copy of what the kernel wrote; `None` when the length is another one.
    #[must_use]
    fn from_bytes(bytes: &[u8]) -> Option<Self> {
        if bytes.len() != size_of::<Self>() {
            return None;
        }
        let mut value = MaybeUninit::<Self>::uninit();
        // SAFETY: both are valid for that many bytes and do not overlap.
        unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), value.as_mut_ptr().cast(), bytes.len()) };
        // SAFETY: all bytes were written, and every pattern is a value by the trait's contract.
        Some(unsafe { value.assume_init() })
    }
}

macro_rules! wire {
    ($($type:ty),+ $(,)?) => {
        $(
            // SAFETY: integers and arrays of them; the layout test finds padding.
            unsafe impl Wire for $type {}
        )+
    };
}

wire!(
    container,
    control,
    flood,
    flood_key,
    lifecycle_record,
    path_key,
    path_rule,
    pattern_state,
    rules,
    verdict,
    verdict_case,
    violation_record,
    volume,
    volume_key,
);

/// A name as the kernel writes it: at the right end of its buffer, zeros before it. `None` when it does not fit.
#[must_use]
pub fn path_key_of(path: &[u8]) -> Option<path_key> {
    let mut key = path_key { bytes: [0; NAME_LEN] };
    let start = NAME_LEN.checked_sub(path.len())?;
    if path.is_empty() || start == 0 {
        return None;
    }
    key.bytes[start..].copy_from_slice(path);
    Some(key)
}

/// The name in a right-aligned buffer.
#[must_use]
pub fn right_aligned(bytes: &[u8]) -> &[u8] {
    let start = bytes.iter().position(|byte| *byte != 0).unwrap_or(bytes.len());
    &bytes[start..]
}

/// The name in a buffer that a zero ends.
#[must_use]
pub fn zero_terminated(bytes: &[u8]) -> &[u8] {
    let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    &bytes[..end]
}
