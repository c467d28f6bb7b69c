//! The only part that talks to the kernel's BPF.

mod error;
mod load;
mod names;
pub mod pins;
mod prove;
mod records;
mod tables;

pub use error::KernelError;
pub use load::{Kernel, LoadOptions};
pub use prove::{Proof, compare};
pub use records::{Lifecycle, Record};
pub use tables::Members;
