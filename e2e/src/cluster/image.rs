//! Container images of a few files and nothing else, as `FROM scratch` makes them: no registry, no daemon.

use std::fs;
use std::path::Path;

use super::error::Result;
use crate::vm::boot::Payload;
use crate::vm::cache::{self, Cache};
use crate::vm::{Error, oci};

pub use crate::vm::oci::Image;

/// Writes an image of `files` to the tar file `target`, which [`Node::load`](super::Node::load) gives to a node.
/// The same files give the same image, byte for byte.
///
/// # Errors
/// When a file cannot be read or written.
pub fn write_image(target: &Path, image: &Image, files: &[Payload]) -> Result<()> {
    let cache = Cache::of_user();
    let scratch = cache.scratch("image")?;
    let root = scratch.folder("root")?;
    for file in files {
        let inside = root.join(file.path.trim_start_matches('/'));
        if let Some(folder) = inside.parent() {
            cache::make_folder(folder)?;
        }
        fs::copy(&file.file, &inside).map_err(Error::io("copy", &file.file))?;
    }
    // A half-written image must not be taken for a whole one.
    let new = scratch.path().join("image.tar");
    oci::write(&new, &root, image)?;
    fs::copy(&new, target).map_err(Error::io("write", target))?;
    Ok(())
}
