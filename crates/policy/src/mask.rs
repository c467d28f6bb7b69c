//! Slots and sets of slots.

use std::fmt;
use std::ops::{BitAnd, BitOr, BitOrAssign, Not};

use crate::limits::MAX_POLICIES;

/// The place of a policy on a node: 0 to 63.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Slot(u8);

impl Slot {
    /// The slot of this number; `None` beyond the last.
    #[must_use]
    pub fn new(number: usize) -> Option<Self> {
        u8::try_from(number).ok().filter(|_| number < MAX_POLICIES).map(Self)
    }

    /// Its number.
    #[must_use]
    pub const fn number(self) -> usize {
        self.0 as usize
    }
}

impl fmt::Display for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A set of slots, one bit each.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SlotMask(u64);

impl SlotMask {
    /// No slot.
    pub const EMPTY: Self = Self(0);

    /// The set of these bits, as the kernel has it.
    #[must_use]
    pub const fn from_bits(bits: u64) -> Self {
        Self(bits)
    }

    /// Its bits, as the kernel has them.
    #[must_use]
    pub const fn bits(self) -> u64 {
        self.0
    }

    /// Whether no slot is in it.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Whether the slot is in it.
    #[must_use]
    pub const fn contains(self, slot: Slot) -> bool {
        self.0 & (1 << slot.0) != 0
    }

    /// Adds the slot.
    pub const fn insert(&mut self, slot: Slot) {
        self.0 |= 1 << slot.0;
    }

    /// Its slots, lowest first.
    pub fn slots(self) -> impl Iterator<Item = Slot> {
        (0..MAX_POLICIES).filter_map(Slot::new).filter(move |slot| self.contains(*slot))
    }
}

impl From<Slot> for SlotMask {
    fn from(slot: Slot) -> Self {
        Self(1 << slot.0)
    }
}

impl FromIterator<Slot> for SlotMask {
    fn from_iter<I: IntoIterator<Item = Slot>>(slots: I) -> Self {
        slots.into_iter().fold(Self::EMPTY, |mask, slot| mask | slot.into())
    }
}

impl BitOr for SlotMask {
    type Output = Self;
    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl BitOrAssign for SlotMask {
    fn bitor_assign(&mut self, other: Self) {
        self.0 |= other.0;
    }
}

impl BitAnd for SlotMask {
    type Output = Self;
    fn bitand(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }
}

impl Not for SlotMask {
    type Output = Self;
    fn not(self) -> Self {
        Self(!self.0)
    }
}

impl fmt::Debug for SlotMask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SlotMask({:#018x})", self.0)
    }
}
