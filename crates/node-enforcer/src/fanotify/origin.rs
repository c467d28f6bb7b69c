//! Which file of the image a copied-up file was made from, as overlayfs has written it down
//! (fs/overlayfs/overlayfs.h, `struct ovl_fb`). The workload cannot write the attributes of its own overlay's kind through it, but those of
//! the other: `user.overlay.*` on a mount without `userxattr` is anybody's.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nix::libc;

use super::sys;
use crate::agent::find_by_number;

const TRUSTED: &str = "trusted.overlay.origin";
/// Of a mount with `userxattr`.
const USER: &str = "user.overlay.origin";
/// `OVL_FH_MAGIC`, and where the kind and the handle's bytes are: version, magic, length, flags, kind, uuid of 16 bytes.
const MAGIC: u8 = 0xfb;
const KIND: usize = 4;
const HANDLE: usize = 21;
/// Entries of the image's layers that are looked through for one file whose path the kernel does not tell.
const ENTRIES_MAX: usize = 500_000;

fn attribute(file: &File, user_xattrs: bool) -> io::Result<Option<Vec<u8>>> {
    let path = format!("/proc/self/fd/{}", file.as_raw_fd());
    match xattr::get_deref(path, if user_xattrs { USER } else { TRUSTED }) {
        Err(error) if error.kind() == io::ErrorKind::Unsupported => Ok(None),
        other => other,
    }
}

/// The path of the image's file, in one of the layers. None: overlayfs knows of none.
///
/// # Errors
/// When it knows of one that cannot be found: its layer's filesystem is another one now, the handle is not understood, or this process may
/// not ask by it (`CAP_DAC_READ_SEARCH`).
pub(super) fn of(file: &File, layers: &[PathBuf], user_xattrs: bool) -> io::Result<Option<PathBuf>> {
    let Some(origin) = attribute(file, user_xattrs)?.filter(|value| !value.is_empty()) else { return Ok(None) };
    let (kind, bytes) = parse(&origin).ok_or_else(|| io::Error::from(io::ErrorKind::InvalidData))?;
    for layer in layers {
        let folder = OpenOptions::new().read(true).custom_flags(libc::O_DIRECTORY).open(layer)?;
        let found = match sys::open_by_handle(&folder, kind, bytes) {
            Ok(found) => found,
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => return Err(error),
            Err(_) => continue,
        };
        if let Some(path) = path_of(&found, layers)? {
            return Ok(Some(path));
        }
    }
    Err(io::Error::from(io::ErrorKind::NotFound))
}

fn parse(origin: &[u8]) -> Option<(u8, &[u8])> {
    let length = usize::from(*origin.get(2)?);
    (*origin.get(1)? == MAGIC).then_some((*origin.get(KIND)?, origin.get(HANDLE..length)?))
}

/// The kernel tells a file's path where its folder is in memory, as it is while the overlay uses it; else the layers are searched.
fn path_of(found: &File, layers: &[PathBuf]) -> io::Result<Option<PathBuf>> {
    let wanted = found.metadata()?;
    let is_it =
        |path: &Path| fs::symlink_metadata(path).is_ok_and(|it| (it.dev(), it.ino()) == (wanted.dev(), wanted.ino()));
    if !wanted.is_file() {
        return Ok(None);
    }
    let told = fs::read_link(format!("/proc/self/fd/{}", found.as_raw_fd()))?;
    if layers.iter().any(|layer| told.starts_with(layer)) && is_it(&told) {
        return Ok(Some(told));
    }
    let mut entries = ENTRIES_MAX;
    Ok(layers.iter().filter_map(|layer| find_by_number(layer, wanted.ino(), &mut entries)).find(|path| is_it(path)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::containers::scratch::Scratch;

    #[test]
    fn what_anybody_can_write_is_not_believed() {
        let scratch = Scratch::new();
        scratch.write("layer/tool", "x");
        scratch.write("upper", "x");
        let (layers, upper) = ([scratch.at("layer")], File::open(scratch.at("upper")).unwrap());
        xattr::set(scratch.at("upper"), USER, &[0, MAGIC, 0]).unwrap();
        assert_eq!(of(&upper, &layers, false).unwrap(), None, "its own overlay has written nothing");
        assert!(of(&upper, &layers, true).is_err(), "it is not read where it counts");
    }

    #[test]
    fn a_path_is_believed_only_where_the_file_is() {
        let scratch = Scratch::new();
        scratch.write("bottom/tool", "x");
        scratch.folder("top");
        let layers = [scratch.at("top"), scratch.at("bottom")];
        let found = File::open(scratch.at("bottom/tool")).unwrap();
        let told = || path_of(&found, &layers).unwrap();
        assert_eq!(told(), Some(scratch.at("bottom/tool")));
        // Of one that has lost the name that it was opened by the kernel tells what no file is called.
        fs::hard_link(scratch.at("bottom/tool"), scratch.at("bottom/other")).unwrap();
        fs::remove_file(scratch.at("bottom/tool")).unwrap();
        assert_eq!(told(), Some(scratch.at("bottom/other")));
        scratch.write("bottom/tool (deleted)", "y");
        assert_eq!(told(), Some(scratch.at("bottom/other")));
        fs::remove_file(scratch.at("bottom/other")).unwrap();
        assert_eq!(told(), None);
    }

    #[test]
    fn a_handle_is_what_follows_the_uuid() {
        let mut origin = vec![0, MAGIC, 29, 0, 1];
        origin.extend([7; 16]);
        origin.extend([1, 2, 3, 4, 5, 6, 7, 8]);
        assert_eq!(parse(&origin), Some((1, &[1, 2, 3, 4, 5, 6, 7, 8][..])));
        origin[1] = 0;
        assert_eq!(parse(&origin), None);
        assert_eq!(parse(&[0, MAGIC]), None);
        assert_eq!(parse(&[0, MAGIC, 200, 0, 1]), None);
    }
}
