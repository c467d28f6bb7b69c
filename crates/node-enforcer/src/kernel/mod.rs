//! The programs and their tables: the only part that loads, attaches, pins or decides what is in force.

mod error;
mod load;
pub mod pins;
mod prove;
mod records;
mod tables;

pub use error::KernelError;
pub use load::{Counters, Kernel, LoadOptions};
pub use prove::Proof;
pub use records::{Key, Lifecycle, ProofRequest, Record};
pub use tables::{Members, Tables};
