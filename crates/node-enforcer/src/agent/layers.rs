//! Which file of an image's layers a path stands for, as overlayfs sees it: what a layer has deleted, or replaced by another
//! folder, is not in the image, although a layer below still has it
//! (Documentation/filesystems/overlayfs.rst, "whiteouts and opaque directories").

use std::fs::{self, Metadata};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Component, Path, PathBuf};

/// Names of overlayfs's attributes: of a mount by root, and of one in a user namespace (`userxattr`).
const PREFIXES: [&str; 2] = ["trusted.overlay.", "user.overlay."];

/// What one layer says of a path.
enum Said {
    /// Nothing: ask the next layer.
    Nothing,
    /// It has the file.
    Has(PathBuf),
    /// The image does not have it, whatever is below; or another file stands for it, which is not looked for.
    HasNot,
}

/// The regular file that the image has at `path`, from its topmost layer down.
pub(crate) fn file_in(layers: &[PathBuf], path: &Path) -> Option<PathBuf> {
    for layer in layers {
        match ask(layer, path) {
            Said::Nothing => {}
            Said::Has(file) => return Some(file),
            Said::HasNot => return None,
        }
    }
    None
}

fn ask(layer: &Path, path: &Path) -> Said {
    let mut place = layer.to_path_buf();
    // Set by a folder that hides what the layers below have in it.
    let mut nothing = Said::Nothing;
    let mut names = path.components().filter(|name| *name != Component::RootDir).peekable();
    while let Some(name) = names.next() {
        let Component::Normal(name) = name else { return Said::HasNot };
        place.push(name);
        // A layer that cannot be read must not let one below speak for it.
        let metadata = match fs::symlink_metadata(&place) {
            Ok(metadata) => metadata,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return nothing,
            Err(_) => return Said::HasNot,
        };
        if names.peek().is_none() {
            // Without data of its own: that lies elsewhere.
            let is_whole = metadata.is_file() && !is_whiteout(&place, &metadata) && !has(&place, "metacopy");
            return if is_whole { Said::Has(place) } else { Said::HasNot };
        }
        // In a renamed folder the layers below have other names.
        if !metadata.is_dir() || has(&place, "redirect") {
            return Said::HasNot;
        }
        if attribute(&place, "opaque").is_some_and(|value| value == b"y") {
            nothing = Said::HasNot;
        }
    }
    Said::HasNot
}

fn is_whiteout(path: &Path, metadata: &Metadata) -> bool {
    (metadata.file_type().is_char_device() && metadata.rdev() == 0) || has(path, "whiteout")
}

fn has(path: &Path, name: &str) -> bool {
    attribute(path, name).is_some()
}

/// What cannot be asked counts as set: the answer is then that the image does not have the file.
fn attribute(path: &Path, name: &str) -> Option<Vec<u8>> {
    PREFIXES.iter().find_map(|prefix| match xattr::get(path, format!("{prefix}{name}")) {
        Ok(value) => value,
        Err(error) if error.kind() == std::io::ErrorKind::Unsupported => None,
        Err(_) => Some(b"y".to_vec()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::containers::scratch::Scratch;
    use nix::sys::stat::{Mode, SFlag, mknod};

    fn found(scratch: &Scratch, path: &str) -> Option<String> {
        let layers = ["top", "middle", "bottom"].map(|name| scratch.folder(name));
        let file = file_in(&layers, Path::new(path))?;
        Some(file.strip_prefix(scratch.path()).unwrap().to_str().unwrap().to_owned())
    }

    #[test]
    fn the_topmost_layer_that_has_it() {
        let scratch = Scratch::new();
        scratch.write("bottom/bin/tool", "1");
        assert_eq!(found(&scratch, "/bin/tool").as_deref(), Some("bottom/bin/tool"));
        scratch.write("middle/bin/tool", "2");
        assert_eq!(found(&scratch, "/bin/tool").as_deref(), Some("middle/bin/tool"));
        assert_eq!(found(&scratch, "/bin/other"), None);
        assert_eq!(found(&scratch, "/bin"), None);
        assert_eq!(found(&scratch, "/../bottom/bin/tool"), None);
    }

    #[test]
    fn what_the_image_deleted_is_not_in_it() {
        let scratch = Scratch::new();
        for path in ["bottom/bin/gone", "bottom/opt/gone/tool", "bottom/link/tool", "bottom/file/tool"] {
            scratch.write(path, "1");
        }
        scratch.folder("middle/bin");
        mknod(&scratch.at("middle/bin/gone"), SFlag::S_IFCHR, Mode::empty(), 0).unwrap();
        scratch.folder("middle/opt");
        mknod(&scratch.at("middle/opt/gone"), SFlag::S_IFCHR, Mode::empty(), 0).unwrap();
        std::os::unix::fs::symlink("/elsewhere", scratch.folder("middle").join("link")).unwrap();
        scratch.write("middle/file", "");
        for path in ["/bin/gone", "/opt/gone/tool", "/link/tool", "/file/tool"] {
            assert_eq!(found(&scratch, path), None, "{path}");
        }
    }

    #[test]
    fn a_folder_that_was_made_anew_hides_the_one_below() {
        let scratch = Scratch::new();
        scratch.write("bottom/opt/tool", "1");
        scratch.write("middle/opt/new", "1");
        assert_eq!(found(&scratch, "/opt/tool").as_deref(), Some("bottom/opt/tool"));
        xattr::set(scratch.at("middle/opt"), "user.overlay.opaque", b"y").unwrap();
        assert_eq!(found(&scratch, "/opt/tool"), None);
        assert_eq!(found(&scratch, "/opt/new").as_deref(), Some("middle/opt/new"));
        xattr::set(scratch.at("middle/opt/new"), "user.overlay.metacopy", b"").unwrap();
        assert_eq!(found(&scratch, "/opt/new"), None);
    }
}
