//! What every suite is given: the guest, its runtime, the image, the enforcer's binary.

use super::containerd::Containerd;
use super::error::{During, HarnessError, OnFile, Result};
use super::image::Image;
use super::oci::OciRuntime;
use super::runtime::{Runtime, Shape, Upper};
use super::session::Session;
use super::system;
use nix::mount::{MsFlags, mount};
use nix::sys::statfs::{EXT4_SUPER_MAGIC, statfs};
use std::fs;
use std::path::{Path, PathBuf};

/// The runtimes that suites can be run with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum RuntimeKind {
    /// The runc in the guest's path.
    Runc,
    /// The crun in the guest's path.
    Crun,
    /// containerd with the runc in the guest's path.
    Containerd,
}

/// Everything a suite needs of its surroundings.
pub struct Context {
    pub(crate) kind: RuntimeKind,
    pub(crate) runtime: Box<dyn Runtime>,
    pub(crate) image: Image,
    pub(crate) work: PathBuf,
    /// (major, minor).
    pub(crate) kernel: (u32, u32),
    enforcer: Option<PathBuf>,
}

/// On the guest's disk: overlay uppers there are on ext4.
const WORK: &str = "/var/lib/mooring-e2e";

impl Context {
    /// Builds the image and starts what the runtime needs. Without `enforcer` only the suite `control` can be run.
    ///
    /// # Errors
    /// If the guest lacks something, which is named.
    pub fn new(kind: RuntimeKind, enforcer: Option<PathBuf>) -> Result<Context> {
        let work = PathBuf::from(WORK);
        if work.exists() {
            fs::remove_dir_all(&work).on("remove", &work)?;
        }
        fs::create_dir_all(&work).on("create", &work)?;
        let kind_of_disk = statfs(&work).during("statfs")?.filesystem_type();
        if kind_of_disk != EXT4_SUPER_MAGIC {
            return Err(HarnessError::Missing(format!("{WORK} must be on ext4, not {kind_of_disk:?}")));
        }
        mount_if_missing("/sys/fs/bpf", "bpf")?;
        mount_if_missing("/sys/kernel/security", "securityfs")?;
        let image = Image::build(&work)?;
        let runtime = start_runtime(kind, &work, &image)?;
        Ok(Context { kind, runtime, image, work, kernel: system::kernel()?, enforcer })
    }

    /// The enforcer's binary.
    pub(crate) fn enforcer(&self) -> Result<&Path> {
        self.enforcer.as_deref().ok_or_else(|| HarnessError::Missing("this suite needs --enforcer PATH".into()))
    }

    /// An empty folder for policies.
    pub(crate) fn policies(&self, name: &str) -> Result<PathBuf> {
        let folder = self.work.join("policies").join(name);
        if folder.exists() {
            fs::remove_dir_all(&folder).on("remove", &folder)?;
        }
        fs::create_dir_all(&folder).on("create", &folder)?;
        Ok(folder)
    }

    /// Starts a container that takes scripts; it is removed on drop.
    pub(crate) fn container(&self, id: &str, upper: Upper) -> Result<Running<'_>> {
        self.container_of(id, Shape::Overlay(upper))
    }

    /// The same, of any shape.
    pub(crate) fn container_of(&self, id: &str, shape: Shape) -> Result<Running<'_>> {
        let session = self.runtime.start(id, shape)?;
        Ok(Running { context: self, id: id.to_owned(), session })
    }
}

/// A container under test.
pub(crate) struct Running<'a> {
    context: &'a Context,
    pub(crate) id: String,
    pub(crate) session: Session,
}

impl Running<'_> {
    /// Drops a program that is not in the image as `/drop/NAME` and returns its path.
    pub(crate) fn drop_program(&mut self, name: &str) -> Result<String> {
        let path = format!("/drop/{name}");
        self.session.must(&format!("rm -f {path}; cp /fix/tiny {path}"))?;
        Ok(path)
    }

    /// Whether executing `path` in the container works.
    pub(crate) fn runs(&mut self, path: &str) -> Result<bool> {
        Ok(self.session.run(path)?.output.contains(crate::attacks::TOKEN))
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        if let Err(error) = self.context.runtime.remove(&self.id) {
            eprintln!("cannot remove container {}: {error}", self.id);
        }
    }
}

fn mount_if_missing(target: &str, kind: &str) -> Result<()> {
    let mounts = fs::read_to_string("/proc/mounts").on("read", "/proc/mounts")?;
    if mounts.lines().any(|line| line.split(' ').nth(1) == Some(target)) {
        return Ok(());
    }
    mount(Some(kind), target, Some(kind), MsFlags::empty(), None::<&str>).during(format!("mount {kind} on {target}"))
}

fn start_runtime(kind: RuntimeKind, work: &Path, image: &Image) -> Result<Box<dyn Runtime>> {
    let find = |name: &str| {
        system::find_program(&[name])
            .ok_or_else(|| HarnessError::Missing(format!("the guest has no {name} in its path")))
    };
    Ok(match kind {
        RuntimeKind::Runc => Box::new(OciRuntime::new(&find("runc")?, &[], work, image)),
        RuntimeKind::Crun => {
            let options = ["--cgroup-manager=cgroupfs"];
            Box::new(OciRuntime::new(&find("crun")?, &options, work, image))
        }
        RuntimeKind::Containerd => Box::new(Containerd::start(work, image)?),
    })
}
