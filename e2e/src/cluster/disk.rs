//! The disk that every node gets besides the guests' root image: the kubelet, network plugins, and a filled image store.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::error::Result;
use super::image;
use super::programs::Programs;
use crate::vm::apt::{Index, Mirror};
use crate::vm::boot::{Job, Payload};
use crate::vm::cache::{self, Cache, Scratch};
use crate::vm::kernels::Cached;
use crate::vm::machine::{Disk, Machine};
use crate::vm::oci::Image;
use crate::vm::progress::Step;
use crate::vm::run::{self, Guest};
use crate::vm::{Error, process};

/// Raised when the code below builds something else of the same parts.
const REVISION: u32 = 1;
/// What a node can hold; the file is sparse.
const SIZE: &str = "2G";
/// The suite that the network plugins are of: the guests' own.
const SUITE: &str = "trixie";
/// What pods' networks are made with.
const PLUGINS: [&str; 3] = ["bridge", "host-local", "loopback"];
/// Fills the image store.
const BAKE: &str = include_str!("../../guest-root/bake.sh");

/// The nodes' disk, from the cache or built now. It is never written to: what a node writes is gone with it.
///
/// # Errors
/// When it cannot be built.
pub(crate) fn ensure(
    cache: &Cache,
    programs: &Programs,
    kernel: &Cached,
    root: &Path,
    mirror: &dyn Fn() -> std::result::Result<Mirror, Error>,
) -> Result<PathBuf> {
    let parts = [programs.folder(), root].map(|path| path.display().to_string()).join(" ");
    let key = process::sha256(format!("{REVISION} {SIZE} {SUITE} {PLUGINS:?} {BAKE} {parts}").as_bytes())?;
    let folder = cache.path("node").join(&key[..16]);
    let disk = folder.join("node.ext4");
    if cache::unchanged(&folder) {
        return Ok(disk);
    }
    let _lock = cache.lock("node")?;
    if cache::unchanged(&folder) {
        return Ok(disk);
    }
    let step = Step::begin("nodes' disk: kubelet, network plugins, images");
    let scratch = cache.scratch("node")?;
    let tree = scratch.folder("tree")?;
    for part in ["bin", "cni", "images"] {
        cache::make_folder(&tree.join(part))?;
    }
    let kubelet = programs.kubernetes("kubelet");
    fs::copy(&kubelet, tree.join("bin/kubelet")).map_err(Error::io("copy", &kubelet))?;
    plugins(cache, &scratch, &tree.join("cni"), mirror)?;
    let pause = Image { name: "registry.k8s.io/pause:3.10", entrypoint: &["/pause".to_owned()], ..Image::default() };
    let program = Payload { file: programs.pause(), path: "/pause".to_owned() };
    image::write_image(&tree.join("images/pause.tar"), &pause, &[program])?;

    let built = scratch.folder("built")?;
    let new = built.join("node.ext4");
    let mut format = process::as_root("mke2fs");
    format.args(["-q", "-t", "ext4", "-m", "0", "-E", "lazy_itable_init=0,lazy_journal_init=0,root_owner=0:0", "-d"]);
    process::output(format.arg(&tree).arg(&new).arg(SIZE))?;
    bake(cache, kernel, root, &new, &scratch)?;
    cache::publish(&built, &folder)?;
    step.done();
    Ok(disk)
}

fn plugins(
    cache: &Cache,
    scratch: &Scratch,
    target: &Path,
    mirror: &dyn Fn() -> std::result::Result<Mirror, Error>,
) -> Result<()> {
    let unpacked = scratch.path().join("plugins");
    let _lock = cache.lock("download")?;
    let index = Index::update(cache, &mirror()?, &[SUITE])?;
    index.unpack(&["containernetworking-plugins".to_owned()], &scratch.path().join("deb"), &unpacked)?;
    for plugin in PLUGINS {
        let from = unpacked.join("usr/lib/cni").join(plugin);
        fs::copy(&from, target.join(plugin)).map_err(Error::io("copy", &from))?;
    }
    Ok(())
}

/// Boots a guest that imports the images with the containerd that will run them.
fn bake(cache: &Cache, kernel: &Cached, root: &Path, disk: &Path, scratch: &Scratch) -> Result<()> {
    let script = scratch.path().join("bake.sh");
    fs::write(&script, BAKE).map_err(Error::io("write", &script))?;
    let guest = Guest {
        kernel,
        root,
        machine: Machine {
            memory: 1024,
            disks: vec![Disk { file: disk.to_owned(), kept: true }],
            ..Machine::default()
        },
        job: Job {
            command: vec!["bash".to_owned(), "/run/mooring/bake.sh".to_owned()],
            payload: vec![Payload { file: script, path: "/run/mooring/bake.sh".to_owned() }],
            ..Job::default()
        },
        timeout: Duration::from_mins(10),
        out: None,
        console: None,
    };
    let ended = run::run(cache, &guest)?;
    if ended.code != 0 {
        let failed = std::io::Error::other(format!("the guest's script ended with {}", ended.code));
        return Err(Error::io("fill", disk)(failed).into());
    }
    Ok(())
}
