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

/// Where a run finds what it needs, and where it works.
#[derive(Clone, Debug, clap::Args)]
pub struct Places {
    /// The folder of the images' root filesystems.
    #[arg(long, value_name = "DIR", default_value = IMAGES)]
    images: PathBuf,
    /// A folder of this run's own, EMPTIED FIRST. It must be on ext4, which upper layers are to be on.
    #[arg(long, value_name = "DIR", default_value = WORK)]
    work: PathBuf,
    /// The program of runc or crun; found in the usual folders when left out.
    #[arg(long, value_name = "PATH")]
    runtime_program: Option<PathBuf>,
}

const IMAGES: &str = "/images";
const WORK: &str = "/var/lib/mooring-e2e";

impl Default for Places {
    /// A guest's.
    fn default() -> Self {
        Self { images: IMAGES.into(), work: WORK.into(), runtime_program: None }
    }
}

impl Context {
    /// Builds the image and starts what the runtime needs. Without `enforcer` only the suite `control` can be run.
    ///
    /// # Errors
    /// If the guest lacks something, which is named.
    pub fn new(kind: RuntimeKind, places: &Places, enforcer: Option<PathBuf>) -> Result<Context> {
        let work = places.work.clone();
        if work.exists() {
            fs::remove_dir_all(&work).on("remove", &work)?;
        }
        fs::create_dir_all(&work).on("create", &work)?;
        let kind_of_disk = statfs(&work).during("statfs")?.filesystem_type();
        if kind_of_disk != EXT4_SUPER_MAGIC {
            return Err(HarnessError::Missing(format!("{} must be on ext4, not {kind_of_disk:?}", work.display())));
        }
        mount_if_missing("/sys/fs/bpf", "bpf")?;
        mount_if_missing("/sys/kernel/security", "securityfs")?;
        let image = Image::build(&work, &places.images)?;
        let runtime = start_runtime(kind, places, &image)?;
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

fn start_runtime(kind: RuntimeKind, places: &Places, image: &Image) -> Result<Box<dyn Runtime>> {
    let work = &places.work;
    let find = |name: &str| {
        let given = places.runtime_program.clone();
        given
            .or_else(|| system::find_program(&[name]))
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
