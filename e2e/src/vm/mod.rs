//! The host's side: gets kernels and a root image from Debian, boots guests in QEMU, runs one command in each.
//!
//! Everything that is downloaded or built lives in a cache outside the checkout and is published there by one
//! rename, so a run that was interrupted leaves nothing half-made behind.

pub mod apt;
pub mod boot;
pub mod cache;
pub mod console;
pub mod cpio;
mod error;
pub mod kernels;
pub mod machine;
pub mod modules;
pub mod oci;
pub mod process;
pub mod progress;
pub mod root;
pub mod run;

pub use error::Error;
