//! The kernel programs' skeleton, and the types that they and the agent share.
//!
//! Everything in the skeleton is generated at build time from `src/bpf`; the wire header says what each field means.

// Generated: it calls libbpf and maps global data.
#[allow(unsafe_code, missing_docs, unreachable_pub, dead_code, warnings)]
#[allow(clippy::all, clippy::pedantic, clippy::undocumented_unsafe_blocks, clippy::multiple_unsafe_ops_per_block)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod skeleton {
    include!(concat!(env!("OUT_DIR"), "/mooring.skel.rs"));
}

pub mod hooks;
pub mod wire;

pub use skeleton::{MooringSkel, MooringSkelBuilder, OpenMooringSkel};
