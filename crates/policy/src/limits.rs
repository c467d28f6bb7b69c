//! How much one node applies; the kernel's tables have room for it. What one object may hold is in `mooring_crd::limits`.

/// Policies a node, each in a slot of its own: the bits of a mask.
pub const MAX_POLICIES: usize = 64;
/// Distinct paths in all lists of all policies of a node.
pub const MAX_PATHS: usize = 16384;
/// Distinct paths that a node's table has room for: those of the lists, and what prohibited links stand for in containers' roots.
pub const MAX_TABLE_PATHS: usize = 32768;
/// Bytes in a path of a list, at least.
pub const MIN_PATH_BYTES: usize = 2;
/// Bytes in a path of a list, at most.
pub const MAX_PATH_BYTES: usize = 255;
/// Bytes in the name of an anonymous file, at most: the kernel's own limit (`MFD_NAME_MAX_LEN`).
pub const MAX_MEMFD_NAME_BYTES: usize = 249;
/// States of the table that a node's patterns are compiled into (`MAX_PATTERN_STATES` in the kernel programs' `wire.h`).
pub const MAX_PATTERN_STATES: usize = 4096;
/// Different bytes that a node's patterns may name; one class more is that of all others (`PATTERN_CLASSES` in `wire.h`).
pub const MAX_PATTERN_BYTES: usize = 127;
/// Places in patterns that all states together are made of: a bound on the time that it takes to make them.
pub const MAX_PATTERN_PLACES: usize = 131_072;
