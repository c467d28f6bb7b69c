//! What a node may have besides the guests' root image: files of Debian's packages, which are carried in.

use std::fs;
use std::path::Path;

use crate::vm::apt::{Index, Mirror};
use crate::vm::boot::Payload;
use crate::vm::cache::{self, Cache};
use crate::vm::progress::Step;
use crate::vm::{Error, process};

/// Files of some packages.
#[derive(Debug)]
pub(crate) struct Carried {
    what: &'static str,
    suite: &'static str,
    packages: &'static [&'static str],
    files: &'static [&'static str],
    /// Where a node finds them; `None` is where their package puts them.
    inside: Option<&'static str>,
}

/// A newer container runtime than the guests' own: user namespaces of pods and image volumes need containerd 2 and runc 1.2. Its
/// programs run with the guests' own libraries, and are found before the guests' own.
pub(crate) const NEWER_RUNTIME: Carried = Carried {
    what: "containerd and runc",
    suite: "sid",
    packages: &["containerd", "runc"],
    files: &["usr/bin/containerd", "usr/bin/containerd-shim-runc-v2", "usr/bin/ctr", "usr/sbin/runc"],
    inside: Some("/usr/local/bin"),
};

/// A process 1 that makes cgroups for whoever asks it: the systemd cgroup driver. Of the guests' own suite, whose libraries it uses.
pub(crate) const SYSTEMD: Carried = Carried {
    what: "systemd",
    suite: "trixie",
    packages: &["systemd", "libsystemd-shared", "libapparmor1"],
    files: &[
        "usr/lib/systemd/systemd",
        "usr/lib/systemd/systemd-executor",
        "usr/lib/x86_64-linux-gnu/systemd/libsystemd-core-257.so",
        "usr/lib/x86_64-linux-gnu/systemd/libsystemd-shared-257.so",
        "usr/lib/x86_64-linux-gnu/libapparmor.so.1",
    ],
    inside: None,
};

impl Carried {
    /// The files, from the cache or fetched now. A suite moves on; what was fetched once stays.
    ///
    /// # Errors
    /// When they cannot be fetched.
    pub(crate) fn ensure(
        &self,
        cache: &Cache,
        mirror: &dyn Fn() -> Result<Mirror, Error>,
    ) -> Result<Vec<Payload>, Error> {
        let key = process::sha256(format!("{self:?}").as_bytes())?;
        let folder = cache.path("carried").join(format!("{}-{}", self.suite, &key[..8]));
        if !cache::unchanged(&folder) {
            let _lock = cache.lock("download")?;
            if !cache::unchanged(&folder) {
                self.fetch(cache, &mirror()?, &folder)?;
            }
        }
        let payload = |file: &&str| Payload { file: folder.join(name(file)), path: self.inside(file) };
        Ok(self.files.iter().map(payload).collect())
    }

    fn inside(&self, file: &str) -> String {
        self.inside.map_or_else(|| format!("/{file}"), |folder| format!("{folder}/{}", name(file)))
    }

    fn fetch(&self, cache: &Cache, mirror: &Mirror, folder: &Path) -> Result<(), Error> {
        let step = Step::begin(format!("{}: downloading {}'s", self.what, self.suite));
        let scratch = cache.scratch("carried")?;
        let tree = scratch.path().join("tree");
        let index = Index::update(cache, mirror, &[self.suite])?;
        let packages: Vec<String> = self.packages.iter().map(|&package| package.to_owned()).collect();
        index.unpack(&packages, &scratch.path().join("deb"), &tree)?;
        let built = scratch.folder("built")?;
        for file in self.files {
            let from = tree.join(file);
            fs::copy(&from, built.join(name(file))).map_err(Error::io("copy", &from))?;
        }
        cache::publish(&built, folder)?;
        step.done();
        Ok(())
    }
}

/// The last part of a path; no two files of one set share it.
fn name(file: &str) -> &str {
    file.rsplit_once('/').map_or(file, |(_, name)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_a_node_finds_them() {
        assert_eq!(NEWER_RUNTIME.inside("usr/sbin/runc"), "/usr/local/bin/runc");
        assert_eq!(SYSTEMD.inside("usr/lib/systemd/systemd"), "/usr/lib/systemd/systemd");
    }
}
