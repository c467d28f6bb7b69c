//! A newer container runtime than the guests' own: user namespaces of pods and image volumes need containerd 2 and runc 1.2.

use std::fs;
use std::path::Path;

use crate::vm::apt::{Index, Mirror};
use crate::vm::boot::Payload;
use crate::vm::cache::{self, Cache};
use crate::vm::progress::Step;
use crate::vm::{Error, process};

/// The suite that it is taken from. Its programs run with the guests' own libraries.
const SUITE: &str = "sid";
/// Packages, and what of them a node needs. `runc` lies where its package puts it.
const PACKAGES: [&str; 2] = ["containerd", "runc"];
const PROGRAMS: [&str; 4] = ["containerd", "containerd-shim-runc-v2", "ctr", "runc"];
/// Where a node finds them before its own.
const INSIDE: &str = "/usr/local/bin";

/// The programs, from the cache or fetched now. The suite moves on; what was fetched once stays.
///
/// # Errors
/// When they cannot be fetched.
pub(crate) fn ensure(cache: &Cache, mirror: &dyn Fn() -> Result<Mirror, Error>) -> Result<Vec<Payload>, Error> {
    let key = process::sha256(format!("{SUITE} {PACKAGES:?} {PROGRAMS:?}").as_bytes())?;
    let folder = cache.path("runtime").join(format!("{SUITE}-{}", &key[..8]));
    if !cache::unchanged(&folder) {
        let _lock = cache.lock("download")?;
        if !cache::unchanged(&folder) {
            fetch(cache, &mirror()?, &folder)?;
        }
    }
    let payload = |name: &&str| Payload { file: folder.join(name), path: format!("{INSIDE}/{name}") };
    Ok(PROGRAMS.iter().map(payload).collect())
}

fn fetch(cache: &Cache, mirror: &Mirror, folder: &Path) -> Result<(), Error> {
    let step = Step::begin(format!("containerd and runc: downloading {SUITE}'s"));
    let scratch = cache.scratch("runtime")?;
    let tree = scratch.path().join("tree");
    let index = Index::update(cache, mirror, &[SUITE])?;
    index.unpack(&PACKAGES.map(str::to_owned), &scratch.path().join("deb"), &tree)?;
    let built = scratch.folder("built")?;
    for program in PROGRAMS {
        let from = ["usr/bin", "usr/sbin"].map(|folder| tree.join(folder).join(program));
        let from = from.iter().find(|path| path.exists()).unwrap_or(&from[0]);
        fs::copy(from, built.join(program)).map_err(Error::io("copy", from))?;
    }
    cache::publish(&built, folder)?;
    step.done();
    Ok(())
}
