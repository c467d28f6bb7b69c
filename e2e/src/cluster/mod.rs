//! A real cluster for tests and the daily loop: Kubernetes' own control plane on this machine's loopback, guests as nodes.
//!
//! [`Cluster::start`] is what a test calls: the control plane ends with the value. [`Cluster::up`], [`Cluster::open`] and
//! [`Cluster::down`] are the same for people, by the program `cluster`.

mod audit;
mod carried;
mod certificates;
mod component;
mod control;
mod daemon;
mod disk;
mod error;
mod exec;
mod helm;
mod image;
mod install;
mod kubectl;
mod kwok;
mod node;
mod programs;
mod users;

pub use audit::Request;
pub use component::{Component, KWOK_KEY};
pub use control::{Cluster, Options};
pub use error::{Error, Result};
pub use exec::Ended;
pub use helm::{CHART, Helm, RELEASE, Version as HelmVersion};
pub use image::{Image, write_image};
pub use install::Images;
pub use kubectl::Kubectl;
pub use node::{CgroupDriver, Node, NodeOptions, Parts};
pub use programs::Programs;
