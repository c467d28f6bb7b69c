//! The cache: folders that are complete or absent, and say so about their own contents.

use std::fs::{self, File};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use super::{Error, process};

/// The list of checksums in every cached folder.
const SUMS: &str = "SHA256SUMS";
/// The list of sizes and times: what changes when anybody writes to a file.
const STAMPS: &str = "stamps";

/// The cache's folder.
#[derive(Debug, Clone)]
pub struct Cache {
    root: PathBuf,
}

/// Held while a part of the cache is built, so that two runs do not build the same; released when dropped.
#[derive(Debug)]
pub struct Lock {
    _file: File,
}

impl Cache {
    /// The user's cache: `$XDG_CACHE_HOME/mooring`, or else `~/.cache/mooring`.
    #[must_use]
    pub fn of_user() -> Self {
        let variable = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        let base = variable("XDG_CACHE_HOME")
            .or_else(|| variable("HOME").map(|home| home.join(".cache")))
            .unwrap_or_else(std::env::temp_dir);
        Self::at(base.join("mooring"))
    }

    /// A cache in the given folder, which is made when first needed.
    #[must_use]
    pub fn at(root: PathBuf) -> Self {
        Self { root }
    }

    /// The path of a part of the cache.
    pub fn path(&self, part: impl AsRef<Path>) -> PathBuf {
        self.root.join(part)
    }

    /// Waits for, then holds, the lock of `name`.
    ///
    /// # Errors
    /// When the cache is not writable.
    pub fn lock(&self, name: &str) -> Result<Lock, Error> {
        make_folder(&self.root)?;
        let path = self.path(format!("{name}.lock"));
        let file = File::create(&path).map_err(Error::io("create", &path))?;
        file.lock().map_err(Error::io("lock", &path))?;
        Ok(Lock { _file: file })
    }

    /// A new empty folder to build in, on the cache's file system. It is gone when dropped.
    ///
    /// # Errors
    /// When the cache is not writable.
    pub fn scratch(&self, purpose: &str) -> Result<Scratch, Error> {
        let base = self.path("scratch");
        make_folder(&base)?;
        sweep(&base);
        let pid = std::process::id();
        for number in 0..u32::MAX {
            let path = base.join(format!("{pid}-{purpose}-{number}"));
            match fs::create_dir(&path) {
                Ok(()) => return Ok(Scratch { path }),
                Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(Error::io("create", &path)(error)),
            }
        }
        Err(Error::io("create a folder in", &base)(std::io::ErrorKind::AlreadyExists.into()))
    }
}

/// A folder for work in progress.
#[derive(Debug)]
pub struct Scratch {
    path: PathBuf,
}

impl Scratch {
    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A folder in it, made if it does not exist.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn folder(&self, name: &str) -> Result<PathBuf, Error> {
        let path = self.path.join(name);
        make_folder(&path)?;
        Ok(path)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // What cannot be removed now is swept by a later run.
        let _ = fs::remove_dir_all(&self.path);
    }
}

/// Removes what runs left behind that were killed.
fn sweep(base: &Path) {
    for entry in fs::read_dir(base).into_iter().flatten().flatten() {
        let owner = entry.file_name().to_string_lossy().split('-').next().and_then(|pid| pid.parse::<u32>().ok());
        if owner.is_some_and(|pid| !Path::new("/proc").join(pid.to_string()).exists()) {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

/// Makes a folder and its parents.
///
/// # Errors
/// When it cannot be made.
pub fn make_folder(path: &Path) -> Result<(), Error> {
    fs::create_dir_all(path).map_err(Error::io("create", path))
}

/// Writes the checksums and stamps of the files in `folder`, then moves it to `target`, replacing what was there.
///
/// # Errors
/// When a checksum cannot be taken or the folder cannot be moved.
pub fn publish(folder: &Path, target: &Path) -> Result<(), Error> {
    let mut names = files(folder)?;
    names.retain(|name| name != SUMS && name != STAMPS);
    let stamps: Option<String> = names.iter().map(|name| stamp_of(folder, name)).collect();
    let list = folder.join(STAMPS);
    fs::write(&list, stamps.unwrap_or_default()).map_err(Error::io("write", &list))?;
    let sums = process::output(process::tool("sha256sum").arg("--").args(&names).current_dir(folder))?;
    let list = folder.join(SUMS);
    fs::write(&list, sums).map_err(Error::io("write", &list))?;
    if let Some(parent) = target.parent() {
        make_folder(parent)?;
    }
    if target.exists() {
        fs::remove_dir_all(target).map_err(Error::io("remove", target))?;
    }
    fs::rename(folder, target).map_err(Error::io("publish", target))
}

/// Whether `folder` is there and holds what was published, byte for byte.
#[must_use]
pub fn verify(folder: &Path) -> bool {
    folder.join(SUMS).is_file()
        && process::output(
            process::tool("sha256sum").args(["--check", "--status", "--strict", SUMS]).current_dir(folder),
        )
        .is_ok()
}

/// Whether `folder` is there and nobody has written to its files since: a quick look where [`verify`] would read for seconds.
#[must_use]
pub fn unchanged(folder: &Path) -> bool {
    let Ok(stamps) = fs::read_to_string(folder.join(STAMPS)) else {
        return false;
    };
    let same = |line: &str| {
        let name = line.splitn(3, ' ').nth(2).unwrap_or_default();
        stamp_of(folder, name).is_some_and(|stamp| stamp.trim_end() == line)
    };
    !stamps.is_empty() && stamps.lines().all(same)
}

fn stamp_of(folder: &Path, name: &str) -> Option<String> {
    let data = fs::metadata(folder.join(name)).ok()?;
    Some(format!("{} {}.{:09} {name}\n", data.len(), data.mtime(), data.mtime_nsec()))
}

/// Whether `file` was written less than `age` ago.
#[must_use]
pub fn fresh(file: &Path, age: Duration) -> bool {
    let written = fs::metadata(file).and_then(|metadata| metadata.modified());
    written.is_ok_and(|written| SystemTime::now().duration_since(written).unwrap_or_default() < age)
}

fn files(folder: &Path) -> Result<Vec<String>, Error> {
    let mut names = Vec::new();
    for entry in fs::read_dir(folder).map_err(Error::io("read", folder))? {
        names.push(entry.map_err(Error::io("read", folder))?.file_name().to_string_lossy().into_owned());
    }
    names.sort();
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cache(name: &str) -> Cache {
        let root = std::env::temp_dir().join(format!("mooring-cache-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&root);
        Cache::at(root)
    }

    #[test]
    fn what_was_published_is_verified_and_damage_is_noticed() {
        let cache = cache("verify");
        let scratch = cache.scratch("test").unwrap();
        let built = scratch.folder("built").unwrap();
        fs::write(built.join("vmlinuz"), "kernel").unwrap();
        fs::write(built.join("busybox"), "box").unwrap();
        let target = cache.path("kernels/1");
        assert!(!verify(&target) && !unchanged(&target), "nothing there yet");
        publish(&built, &target).unwrap();
        assert!(verify(&target) && unchanged(&target));
        fs::write(target.join("vmlinuz"), "kernem").unwrap();
        assert!(!verify(&target) && !unchanged(&target), "changed");
        fs::remove_file(target.join("vmlinuz")).unwrap();
        assert!(!verify(&target) && !unchanged(&target), "gone");
        fs::remove_dir_all(cache.path("")).unwrap();
    }

    #[test]
    fn scratch_is_swept_when_its_owner_is_gone() {
        let cache = cache("sweep");
        // Larger than any process id can be.
        let left = cache.path("scratch/99999999-run-0");
        make_folder(&left).unwrap();
        let kept = cache.scratch("run").unwrap();
        assert!(!left.exists() && kept.path().exists());
        let path = kept.path().to_owned();
        drop(kept);
        assert!(!path.exists());
        fs::remove_dir_all(cache.path("")).unwrap();
    }
}
