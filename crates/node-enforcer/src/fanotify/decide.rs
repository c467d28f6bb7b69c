//! What an executed file is to its container, as far as user space can tell: from the layers of its root overlay.
//!
//! A layer's file is known by what nobody can set: overlayfs hands the change time through from it. So a path that was forged, by a
//! mount over it, leads to another file, and is not believed.

use std::fs::File;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use mooring_policy::Class;
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, openat2};
use nix::sys::statfs::{TMPFS_MAGIC, fstatfs};

use super::origin;
use super::prove::Prover;
use super::sys::Seen;
use super::wire::Tracked;
use crate::agent::{file_in, same_content};
use crate::containers::{FileId, identity_of};
use crate::kernel::Proof;

/// Components of a path that are tried.
const COMPONENTS_MAX: usize = 64;
/// The kernel's clock for files moves in steps of up to 10 ms; what changes twice within one looks as after the first.
const TICK: Duration = Duration::from_millis(20);
const SECOND: Duration = Duration::from_millis(1100);
/// Larger files stay what they are: modified.
const BYTES_MAX: u64 = 256 << 20;

/// Where a file of the root lies, and its path there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Place {
    /// In a layer of the image.
    Image(PathBuf),
    /// In the upper folder.
    Upper(PathBuf),
    /// It was not found under any of its names.
    Nowhere,
}

/// Finds the file that `seen` describes, which was opened by a path that the kernel gives as `path`, on a mount of `subtree` of the root.
pub(super) fn place_of(container: &Tracked, seen: &Seen, path: &Path, subtree: &Path) -> Place {
    for candidate in candidates(path, subtree) {
        if let Some(upper) = &container.upper {
            match open_beneath(upper, &candidate).and_then(|file| file.metadata()) {
                Ok(metadata) if seen.is(&metadata) => return Place::Upper(candidate),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                // Whatever is there hides what the image has.
                Ok(_) | Err(_) => continue,
            }
        }
        let lower = file_in(&container.lower, &candidate).and_then(|place| place.symlink_metadata().ok());
        if lower.is_some_and(|metadata| seen.is(&metadata)) {
            return Place::Image(candidate);
        }
    }
    Place::Nowhere
}

/// The paths in the root that a file may have: the kernel says where it lies in the mount namespace, the mount what part of the root it
/// shows, and where it is mounted is not known of a process in a chroot.
fn candidates(path: &Path, subtree: &Path) -> impl Iterator<Item = PathBuf> {
    let names: Vec<_> = path.components().filter(|name| *name != Component::RootDir).collect();
    let begins = names.len().saturating_sub(COMPONENTS_MAX)..=names.len();
    begins.filter_map(move |begin| {
        let candidate: PathBuf = subtree.components().chain(names.get(begin..)?.iter().copied()).collect();
        let is_clean = candidate.components().all(|name| matches!(name, Component::RootDir | Component::Normal(_)));
        (is_clean && candidate != Path::new("/")).then_some(candidate)
    })
}

/// Opens without reading, and through no link: the folders of the upper are the workload's.
fn open_beneath(folder: &Path, path: &Path) -> io::Result<File> {
    let top = File::from(nix::fcntl::open(
        folder,
        OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC,
        nix::sys::stat::Mode::empty(),
    )?);
    let how = OpenHow::new()
        .flags(OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC)
        .resolve(ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_SYMLINKS | ResolveFlag::RESOLVE_NO_MAGICLINKS);
    Ok(File::from(openat2(&top, path.strip_prefix("/").unwrap_or(path), how)?))
}

/// What a file of the upper folder is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Examined {
    /// The image's, with the same content; the image's, with another; or new.
    pub(super) class: Class,
    /// Its path in the image, where it has one.
    pub(super) lower_path: Option<PathBuf>,
    /// Whether the answer stands until the file changes.
    pub(super) lasts: bool,
}

/// Compares a file of the upper folder with the image's: off the thread that answers, for it reads. `file` is the overlay's own. What cannot be
/// looked at counts as changed.
pub(super) fn examine(prover: &Prover, container: &Tracked, seen: &Seen, file: &File, path: &Path) -> Examined {
    let modified = Examined { class: Class::ModifiedBinary, lower_path: None, lasts: false };
    let Some(upper) = &container.upper else { return modified };
    let Ok(above) = open_beneath(upper, path) else { return modified };
    if !above.metadata().is_ok_and(|metadata| seen.is(&metadata)) {
        return modified;
    }
    // With other content than the image's.
    let mut otherwise = Class::ModifiedBinary;
    let lower = match origin::of(&above, &container.lower, container.user_xattrs) {
        Ok(Some(lower)) => Some(lower),
        // A copy-up whose origin the filesystem could not keep, or a file that was made where the image has one.
        Ok(None) => {
            let lower = file_in(&container.lower, path);
            // Of a file with several names overlayfs writes down no origin.
            let is_alone = lower.as_ref().is_some_and(|it| it.symlink_metadata().is_ok_and(|it| it.nlink() == 1));
            otherwise = if is_alone { Class::NewBinary } else { Class::ModifiedBinary };
            lower
        }
        // Without the right to ask, it is the file of the same path, or the kernel does not take it.
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => file_in(&container.lower, path),
        Err(_) => return modified,
    };
    let Some(lower) = lower else { return Examined { class: Class::NewBinary, lower_path: None, lasts: true } };
    let lower_path =
        container.lower.iter().find_map(|layer| Some(Path::new("/").join(lower.strip_prefix(layer).ok()?)));
    let compared = compare(prover, seen, file, &lower);
    let class = if let Ok(Some(true)) = compared { Class::Image } else { otherwise };
    // Through a shared map a tmpfs is written without a trace.
    let keeps_times = fstatfs(&above).is_ok_and(|said| said.filesystem_type() != TMPFS_MAGIC);
    let lasts = match compared {
        Ok(Some(equal)) => keeps_times || !equal,
        Ok(None) | Err(_) => false,
    };
    Examined { class, lower_path, lasts }
}

/// Whether a file has the content of the other. The kernel is told, and says whether anybody can have written it meanwhile: None.
fn compare(prover: &Prover, seen: &Seen, file: &File, lower: &Path) -> io::Result<Option<bool>> {
    if seen.size > BYTES_MAX {
        return Ok(Some(false));
    }
    let changed = Duration::new(u64::try_from(seen.changed.0).unwrap_or_default(), seen.changed.1);
    // Some filesystems count seconds only.
    let settled = UNIX_EPOCH + changed + if seen.changed.1 == 0 { SECOND } else { TICK };
    if let Ok(rest) = settled.duration_since(SystemTime::now()) {
        thread::sleep(rest.min(SECOND));
    }
    // On a mount of another namespace: then the number is the superblock's, except on btrfs, where the kernel does not take it.
    let id = match identity_of(lower) {
        Ok(id) => id,
        Err(_) => Seen::of(&File::open(lower)?).map(|seen| FileId { dev: seen.dev, ino: seen.ino })?,
    };
    if !prover.step(file, Proof::Begin(id))? {
        return Ok(None);
    }
    let equal = same_content(file, &File::open(lower)?)?;
    let is_told = prover.step(file, if equal { Proof::Commit } else { Proof::Refute })?;
    Ok((is_told || !equal).then_some(equal))
}

/// A path as the policies' lists have it; none where it cannot be told.
pub(super) fn name_of(path: &Path) -> Vec<u8> {
    path.as_os_str().as_bytes().to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::containers::scratch::Scratch;

    fn of(path: &str, subtree: &str) -> Vec<String> {
        candidates(Path::new(path), Path::new(subtree)).map(|path| path.display().to_string()).collect()
    }

    /// A container with these layers, without the overlay.
    fn container(scratch: &Scratch) -> Tracked {
        let [upper, top, bottom] = ["upper", "top", "bottom"].map(|name| scratch.folder(name));
        Tracked { upper: Some(upper), lower: vec![top, bottom], ..Tracked::default() }
    }

    fn seen(scratch: &Scratch, file: &str) -> Seen {
        Seen::of(File::open(scratch.at(file)).unwrap()).unwrap()
    }

    #[test]
    fn a_file_is_found_by_what_nobody_can_set() {
        let scratch = Scratch::new();
        let container = container(&scratch);
        for file in ["bottom/bin/tool", "bottom/bin/other", "upper/tmp/new", "upper/bin/other"] {
            scratch.write(file, "the same");
            // Another tick of the file system's clock for each.
            thread::sleep(TICK);
        }
        let place = |file: &str, path: &str, subtree: &str| {
            place_of(&container, &seen(&scratch, file), Path::new(path), Path::new(subtree))
        };
        let image = |path: &str| Place::Image(path.into());
        assert_eq!(place("bottom/bin/tool", "/bin/tool", "/"), image("/bin/tool"));
        assert_eq!(place("upper/tmp/new", "/tmp/new", "/"), Place::Upper("/tmp/new".into()));
        assert_eq!(place("upper/bin/other", "/bin/other", "/"), Place::Upper("/bin/other".into()));
        // In a chroot, and through a mount of a part.
        assert_eq!(place("bottom/bin/tool", "/jail/bin/tool", "/"), image("/bin/tool"));
        assert_eq!(place("bottom/bin/tool", "/mnt/tool", "/bin"), image("/bin/tool"));
        // A mount over an image's program does not make another file that program, nor does one that is hidden speak for it.
        assert_eq!(place("upper/tmp/new", "/bin/tool", "/"), Place::Nowhere);
        assert_eq!(place("upper/tmp/new", "/bin/tool", "/tmp/new"), Place::Upper("/tmp/new".into()));
        assert_eq!(place("bottom/bin/other", "/bin/other", "/"), Place::Nowhere);
    }

    #[test]
    fn no_link_of_the_workload_leads_out_of_its_upper_folder() {
        let scratch = Scratch::new();
        let container = container(&scratch);
        scratch.write("host/tool", "x");
        std::os::unix::fs::symlink(scratch.at("host"), scratch.at("upper/link")).unwrap();
        let seen = seen(&scratch, "host/tool");
        assert_eq!(place_of(&container, &seen, Path::new("/link/tool"), Path::new("/")), Place::Nowhere);
    }

    #[test]
    fn the_whole_path_comes_first_and_the_mount_alone_last() {
        assert_eq!(of("/a/b", "/"), ["/a/b", "/b"]);
        assert_eq!(of("/mnt/b", "/opt"), ["/opt/mnt/b", "/opt/b", "/opt"]);
        assert_eq!(of("/", "/"), Vec::<String>::new());
        assert_eq!(of("/a/../b", "/"), ["/b"]);
    }
}
