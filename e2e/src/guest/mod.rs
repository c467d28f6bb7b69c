//! What runs inside a booted guest, as root: containers, the enforcer under test, and the suites that put them together.

mod bench;
mod bundle;
mod containerd;
mod context;
mod enforcer;
mod error;
mod event;
mod excused;
mod image;
mod oci;
mod profiles;
mod recorded;
mod report;
mod runtime;
mod session;
mod suites;
mod system;

pub use bench::{Bench, bench};
pub use context::{Context, Places, RuntimeKind};
pub use enforcer::{Settings, use_settings};
pub use error::HarnessError;
pub use report::Report;
pub use suites::{list, run};
