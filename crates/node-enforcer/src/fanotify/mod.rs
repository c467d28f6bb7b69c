//! The backend for kernels that refuse BPF trampolines: executions are refused by a fanotify permission group.
//!
//! Three processes. The agent tells the listener what is in force (`link`); the listener is asked by the kernel about each execution on
//! the containers' filesystems, and answers (`listener`, `marks`, `decide`); the guard ends the listener when it does not (`guard`). What
//! fanotify does not see, and what happens while there is no listener, the backend Kill judges, whose programs are always beneath.

mod beat;
mod decide;
mod guard;
mod link;
mod listener;
mod marks;
mod origin;
mod prove;
mod sys;
mod tell;
mod wire;
mod work;

use std::io;

pub use guard::run as guard;
pub use link::{Heard, Link, release};
pub use listener::run as listen;

/// What is in the way of a group, as far as it can be seen without marking anything.
#[must_use]
pub fn obstacle() -> Option<io::Error> {
    marks::Marks::new().err()
}
