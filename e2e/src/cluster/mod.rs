//! A real cluster for tests and the daily loop: Kubernetes' own control plane on this machine's loopback, guests as nodes.
//!
//! [`Cluster::start`] is what a test calls: the control plane ends with the value. [`Cluster::up`], [`Cluster::open`] and
//! [`Cluster::down`] are the same for people, by the program `cluster`.

mod audit;
mod certificates;
mod component;
mod control;
mod daemon;
mod error;
mod kubectl;
mod programs;

pub use audit::Request;
pub use component::Component;
pub use control::{Cluster, Options};
pub use error::{Error, Result};
pub use kubectl::Kubectl;
pub use programs::Programs;
