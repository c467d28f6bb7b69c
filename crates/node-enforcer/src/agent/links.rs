//! Where prohibited paths lead in a container's root.

use std::fs;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use nix::fcntl::{OFlag, OpenHow, ResolveFlag, open, openat2};
use nix::sys::stat::Mode;

/// A container's root, held open.
pub(super) struct OpenRoot {
    folder: OwnedFd,
    path: PathBuf,
}

impl OpenRoot {
    /// `None` when the root cannot be opened: it is gone, or not mounted yet.
    pub(super) fn open(root: &Path) -> Option<Self> {
        let folder = open(root, OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty()).ok()?;
        let path = path_of(&folder)?;
        Some(Self { folder, path })
    }

    /// The file that `path` leads to, where it is another one than the path says: a symbolic link, or a path through one.
    pub(super) fn target(&self, path: &str) -> Option<String> {
        let how = OpenHow::new()
            .flags(OFlag::O_PATH | OFlag::O_CLOEXEC)
            .resolve(ResolveFlag::RESOLVE_IN_ROOT | ResolveFlag::RESOLVE_NO_MAGICLINKS);
        let found = path_of(&openat2(&self.folder, path, how).ok()?)?;
        let inside = found.strip_prefix(&self.path).ok()?;
        let target = format!("/{}", inside.to_str()?);
        (target != path).then_some(target)
    }
}

fn path_of(descriptor: &OwnedFd) -> Option<PathBuf> {
    fs::read_link(format!("/proc/thread-self/fd/{}", descriptor.as_raw_fd())).ok()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;
    use crate::containers::scratch::Scratch;

    #[test]
    fn a_link_leads_to_its_file_and_never_out_of_the_root() {
        let scratch = Scratch::new();
        let root = scratch.path().join("root");
        fs::create_dir_all(root.join("usr/bin")).unwrap();
        fs::write(root.join("usr/bin/busybox"), "").unwrap();
        symlink("usr/bin", root.join("bin")).unwrap();
        symlink("busybox", root.join("usr/bin/nc")).unwrap();
        symlink("../../../../usr/bin/busybox", root.join("usr/bin/out")).unwrap();
        symlink("/nowhere", root.join("usr/bin/dangling")).unwrap();
        let root = OpenRoot::open(&root).unwrap();
        let target = |path: &str| root.target(path);
        assert_eq!(target("/usr/bin/busybox"), None);
        assert_eq!(target("/usr/bin/nc").as_deref(), Some("/usr/bin/busybox"));
        assert_eq!(target("/bin/nc").as_deref(), Some("/usr/bin/busybox"));
        assert_eq!(target("/bin/busybox").as_deref(), Some("/usr/bin/busybox"));
        assert_eq!(target("/usr/bin/out").as_deref(), Some("/usr/bin/busybox"));
        assert_eq!(target("/usr/bin/dangling"), None);
        assert_eq!(target("/usr/bin/absent"), None);
    }
}
