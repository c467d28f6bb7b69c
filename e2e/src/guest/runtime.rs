//! What the suites need of a container runtime.

use super::error::Result;
use super::session::Session;
use super::system::Ended;

/// Where a container's upper layer lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Upper {
    /// On the guest's disk.
    Ext4,
    /// On a tmpfs.
    Tmpfs,
}

/// A program that an image deletes in a layer of its own, and another with the same content.
pub(crate) const DELETED: &str = "/fix/spare-ld.so";
pub(crate) const KEPT: &str = "/fix/kept";

/// How a container is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shape {
    /// Over an overlay of the image, as engines make it.
    Overlay(Upper),
    /// Over an overlay with a layer above the image that deletes [`DELETED`] and has its content as [`KEPT`], and in which folders of
    /// the image may be renamed.
    Layered,
    /// In a copy of the image: no overlay.
    Plain,
    /// In a user namespace whose root is user 100000 of the host.
    UserNamespace,
    /// With the host's `/` as the volume `/host`.
    HostRoot,
    /// In the host's pid namespace.
    HostProcesses,
}

impl Shape {
    /// The host's user that is the container's root.
    pub(crate) fn root_user(self) -> u32 {
        if self == Shape::UserNamespace { 100_000 } else { 0 }
    }
}

/// A way to start containers of the test image.
pub(crate) trait Runtime {
    /// The upper layers that it can have.
    fn uppers(&self) -> &'static [Upper];

    /// Starts a container whose first process serves scripts.
    fn start(&self, id: &str, shape: Shape) -> Result<Session>;

    /// Starts a container that runs `arguments`, detached.
    fn start_command(&self, id: &str, arguments: &[&str]) -> Result<()>;

    /// Runs a process in a running container.
    fn exec(&self, id: &str, arguments: &[&str]) -> Result<Ended>;

    /// Kills a running container; that this works is tested, so a failure is an error.
    fn kill(&self, id: &str) -> Result<()>;

    /// Deletes a container, whether it still runs or not.
    fn remove(&self, id: &str) -> Result<()>;
}
