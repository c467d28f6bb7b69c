//! The kernels that are tested: Debian's `cloud` images, as they are in the index today.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::apt::{Index, Mirror};
use super::cache::{self, Cache};
use super::progress::{Step, say};
use super::{Error, modules};

/// How long a resolved build is used before the index is asked again.
const FRESH: Duration = Duration::from_hours(7 * 24);

/// The package that always depends on a suite's newest kernel.
const NEWEST: &str = "linux-image-cloud-amd64";

/// How the modules' files begin, by who loads them.
const EVERY: &str = "guest-";
const NODE: &str = "node-";

/// Raised when other files are kept of a kernel: what an older revision kept is then not used.
const REVISION: u32 = 4;

/// A kernel by its version, and the Debian suites that have it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Kernel {
    /// The version as people call it; also its folder in the cache.
    pub name: &'static str,
    suites: &'static [&'static str],
    /// Whether the suite has no end: when it moves on, the kernel that it moved on to is tested, and that is said.
    rolling: bool,
}

/// Every kernel that the matrix runs on, oldest first.
pub const KERNELS: [Kernel; 4] = [
    Kernel { name: "5.10", suites: &["bullseye", "bullseye-security"], rolling: false },
    Kernel { name: "6.1", suites: &["bookworm", "bookworm-security"], rolling: false },
    Kernel { name: "6.12", suites: &["trixie", "trixie-security"], rolling: false },
    Kernel { name: "7.2", suites: &["sid"], rolling: true },
];

/// A kernel in the cache.
#[derive(Debug, Clone)]
pub struct Cached {
    /// The kernel.
    pub kernel: Kernel,
    /// Its release, as `uname -r` says.
    pub release: String,
    folder: PathBuf,
}

impl Cached {
    /// The kernel's image.
    #[must_use]
    pub fn image(&self) -> PathBuf {
        self.folder.join("vmlinuz")
    }

    /// A static busybox of the same suite.
    #[must_use]
    pub fn busybox(&self) -> PathBuf {
        self.folder.join("busybox")
    }

    /// The modules that every guest loads, in that order.
    ///
    /// # Errors
    /// When the cache cannot be read.
    pub fn modules(&self) -> Result<Vec<PathBuf>, Error> {
        self.modules_of(EVERY)
    }

    /// The modules that a cluster's node loads besides, in that order.
    ///
    /// # Errors
    /// When the cache cannot be read.
    pub fn node_modules(&self) -> Result<Vec<PathBuf>, Error> {
        self.modules_of(NODE)
    }

    fn modules_of(&self, whose: &str) -> Result<Vec<PathBuf>, Error> {
        let mut found = Vec::new();
        for entry in fs::read_dir(&self.folder).map_err(Error::io("read", &self.folder))? {
            let path = entry.map_err(Error::io("read", &self.folder))?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            if name.starts_with(whose) && name.ends_with(".ko") {
                found.push(path);
            }
        }
        found.sort();
        Ok(found)
    }
}

impl std::str::FromStr for Kernel {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let names = KERNELS.map(|kernel| kernel.name).join(", ");
        KERNELS.into_iter().find(|kernel| kernel.name == name).ok_or(format!("no kernel `{name}`; there are {names}"))
    }
}

/// The kernel from the cache where a good and recent one is there, or else from the mirror.
///
/// # Errors
/// When neither has it.
pub fn ensure(cache: &Cache, kernel: Kernel, mirror: &dyn Fn() -> Result<Mirror, Error>) -> Result<Cached, Error> {
    let folder = cache.path("kernels").join(kernel.name);
    let current = folder.join("current");
    let mut lock = None;
    let cached = loop {
        let cached = from_cache(kernel, &folder, &current);
        if let Some(cached) = &cached
            && cache::fresh(&current, FRESH)
        {
            return Ok(cached.clone());
        }
        if lock.is_some() {
            break cached;
        }
        // Another run may have fetched it while this one waited: look again with the lock held.
        lock = Some(cache.lock("download")?);
    };
    let step = Step::begin(format!("kernel {}: asking the package index", kernel.name));
    let outcome = mirror().and_then(|mirror| Index::update(cache, &mirror, kernel.suites));
    let (index, cached) = match (outcome, cached) {
        (Ok(index), cached) => (index, cached),
        (Err(error), Some(cached)) => {
            say(format!("kernel {}: {} of the cache is used, because {error}", kernel.name, cached.release));
            return Ok(cached);
        }
        (Err(error), None) => return Err(error),
    };
    step.done();
    let (release, packages) = resolve(kernel, &|name| index.show(name))?;
    if cached.is_some_and(|cached| cached.release == release) {
        mark(&current, &release)?;
        return from_cache(kernel, &folder, &current).ok_or_else(|| lost(&folder));
    }
    let step = Step::begin(format!("kernel {}: downloading {release}", kernel.name));
    download(cache, &index, &packages, &release, &folder.join(kept_as(&release)))?;
    mark(&current, &release)?;
    step.done();
    from_cache(kernel, &folder, &current).ok_or_else(|| lost(&folder))
}

fn lost(folder: &Path) -> Error {
    Error::io("verify what was just written to", folder)(std::io::ErrorKind::InvalidData.into())
}

fn mark(current: &Path, release: &str) -> Result<(), Error> {
    let new = current.with_extension("new");
    fs::write(&new, release).map_err(Error::io("write", &new))?;
    fs::rename(&new, current).map_err(Error::io("publish", current))
}

fn from_cache(kernel: Kernel, folder: &Path, current: &Path) -> Option<Cached> {
    let release = fs::read_to_string(current).ok()?.trim().to_owned();
    let folder = folder.join(kept_as(&release));
    if release.is_empty() {
        return None;
    }
    if !folder.exists() {
        return None;
    }
    if !cache::verify(&folder) {
        say(format!("kernel {}: {release} in the cache is damaged and will be fetched again", kernel.name));
        return None;
    }
    Some(Cached { kernel, release, folder })
}

/// The release that a suite has now, and the packages it is made of: one, or from 7.x on several.
fn resolve(
    kernel: Kernel,
    show: &dyn Fn(&str) -> Result<super::apt::Stanza, Error>,
) -> Result<(String, Vec<String>), Error> {
    let mut packages: Vec<String> = Vec::new();
    let mut left = vec![NEWEST.to_owned()];
    while let Some(name) = left.pop() {
        for depends in show(&name)?.depends() {
            if release_of(&depends).is_some() && !packages.contains(&depends) {
                packages.push(depends.clone());
                left.push(depends);
            }
        }
    }
    packages.sort();
    let release = packages.iter().find_map(|name| release_of(name)).unwrap_or_default().to_owned();
    let ends = |rest: &str| !rest.starts_with(|letter: char| letter.is_ascii_digit());
    if release.strip_prefix(kernel.name).is_some_and(ends) {
        return Ok((release, packages));
    }
    if kernel.rolling && !release.is_empty() {
        say(format!("kernel {}: {} has moved on to {release}, which is used", kernel.name, kernel.suites.join(", ")));
        return Ok((release, packages));
    }
    Err(Error::NotInSuite {
        suite: kernel.suites.join(", "),
        wanted: format!("kernel {}", kernel.name),
        offered: packages.join(" "),
    })
}

/// The name of a release's folder in the cache.
fn kept_as(release: &str) -> String {
    format!("{release}.{REVISION}")
}

/// The release in a kernel package's name: `6.12.1+deb13-cloud-amd64` of `linux-image-6.12.1+deb13-cloud-amd64`.
fn release_of(package: &str) -> Option<&str> {
    let kinds = ["linux-image-", "linux-binary-", "linux-modules-", "linux-base-"];
    let release = kinds.iter().find_map(|kind| package.strip_prefix(kind))?;
    (release.starts_with(|letter: char| letter.is_ascii_digit()) && release.ends_with("-cloud-amd64"))
        .then_some(release)
}

fn download(cache: &Cache, index: &Index, packages: &[String], release: &str, target: &Path) -> Result<(), Error> {
    let scratch = cache.scratch("kernel")?;
    let tree = scratch.path().join("tree");
    let mut wanted = packages.to_vec();
    wanted.push("busybox-static".to_owned());
    index.unpack(&wanted, &scratch.path().join("deb"), &tree)?;
    let built = scratch.folder("built")?;
    let copy = |from: &Path, name: &str| {
        let to = built.join(name);
        fs::copy(from, &to).map(drop).map_err(Error::io("copy", from))
    };
    let places = [
        format!("boot/vmlinuz-{release}"),
        format!("usr/lib/modules/{release}/vmlinuz"),
        format!("lib/modules/{release}/vmlinuz"),
    ];
    copy(&first(&tree, &places)?, "vmlinuz")?;
    copy(&first(&tree, &["bin/busybox".to_owned(), "usr/bin/busybox".to_owned()])?, "busybox")?;
    let places = [format!("usr/lib/modules/{release}"), format!("lib/modules/{release}")];
    let (every, node) = modules::for_guest(&first(&tree, &places)?)?;
    for (whose, modules) in [(EVERY, every), (NODE, node)] {
        for (number, (name, module)) in modules.into_iter().enumerate() {
            let path = built.join(format!("{whose}{number:02}-{name}.ko"));
            fs::write(&path, module).map_err(Error::io("write", &path))?;
        }
    }
    cache::publish(&built, target)
}

fn first(tree: &Path, places: &[String]) -> Result<PathBuf, Error> {
    places.iter().map(|place| tree.join(place)).find(|path| path.exists()).ok_or_else(|| Error::NotInSuite {
        suite: "the kernel's package".to_owned(),
        wanted: places.join(" or "),
        offered: "other files".to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vm::apt::stanzas;

    fn index(text: &'static str) -> impl Fn(&str) -> Result<crate::vm::apt::Stanza, Error> {
        move |name| {
            let found = stanzas(text).into_iter().find(|stanza| stanza.get("Package") == Some(name));
            found.ok_or_else(|| Error::NotInSuite {
                suite: String::new(),
                wanted: name.to_owned(),
                offered: String::new(),
            })
        }
    }

    const SPLIT: &str = "Package: linux-image-cloud-amd64\n\
        Depends: linux-base-cloud-amd64 (= 1), linux-image-7.2.13+deb14-cloud-amd64 (= 1)\n\n\
        Package: linux-image-7.2.13+deb14-cloud-amd64\n\
        Depends: dracut | x, linux-base-7.2.13+deb14-cloud-amd64, linux-binary-7.2.13+deb14-cloud-amd64, linux-modules-7.2.13+deb14-cloud-amd64\n\n\
        Package: linux-base-7.2.13+deb14-cloud-amd64\n\n\
        Package: linux-modules-7.2.13+deb14-cloud-amd64\nDepends: kmod\n\n\
        Package: linux-binary-7.2.13+deb14-cloud-amd64\nDepends: linux-base-7.2.13+deb14-cloud-amd64\n";

    #[test]
    fn a_split_kernel_is_found_through_its_dependencies() {
        let (release, packages) = resolve(KERNELS[3], &index(SPLIT)).unwrap();
        assert_eq!(release, "7.2.13+deb14-cloud-amd64");
        let kinds: Vec<&str> = packages.iter().map(|name| name.split('-').nth(1).unwrap()).collect();
        assert_eq!(kinds, ["base", "binary", "image", "modules"]);
    }

    #[test]
    fn a_suite_that_moved_on_is_named_with_what_it_has() {
        let error = resolve(KERNELS[1], &index(SPLIT)).unwrap_err().to_string();
        assert!(error.contains("bookworm") && error.contains("6.1") && error.contains("7.2.13"), "{error}");
        // 6.1 is not 6.12.
        let text = "Package: linux-image-cloud-amd64\nDepends: linux-image-6.12.1-cloud-amd64\n\nPackage: linux-image-6.12.1-cloud-amd64\n";
        assert!(resolve(KERNELS[1], &index(text)).is_err());
        assert!(resolve(KERNELS[2], &index(text)).is_ok());
    }
    #[test]
    fn sid_may_move_on() {
        let text = "Package: linux-image-cloud-amd64\nDepends: linux-image-7.3.1-cloud-amd64\n\nPackage: linux-image-7.3.1-cloud-amd64\n";
        assert_eq!(resolve(KERNELS[3], &index(text)).unwrap().0, "7.3.1-cloud-amd64");
        let empty = "Package: linux-image-cloud-amd64\n";
        assert!(resolve(KERNELS[3], &index(empty)).is_err());
    }
}
