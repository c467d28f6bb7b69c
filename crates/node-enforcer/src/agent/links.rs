//! Where prohibited paths lead in a container's root.

use std::collections::BTreeMap;
use std::fs;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use fixedbitset::FixedBitSet;
use mooring_policy::Pattern;
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, open, openat2};
use nix::sys::stat::Mode;

/// Names in one folder that are held against a pattern.
const NAMES_MAX: usize = 8192;

/// Every path or pattern that was ever prohibited on this node has a number, so that a container need not keep the paths themselves.
#[derive(Default)]
pub(super) struct PathNumbers(BTreeMap<Box<str>, usize>);

impl PathNumbers {
    fn of(&mut self, path: &str) -> usize {
        if let Some(number) = self.0.get(path) {
            return *number;
        }
        let number = self.0.len();
        self.0.insert(path.into(), number);
        number
    }
}

/// What prohibited paths lead to in one container's root: as first seen, whatever it makes of them later.
#[derive(Default)]
pub(super) struct Links {
    looked_for: FixedBitSet,
    targets: Vec<(Box<str>, Box<str>)>,
}

impl Links {
    /// Looks for those of the paths that were not looked for before.
    pub(super) fn look_for<'a>(
        &mut self,
        root: &Path,
        paths: impl Iterator<Item = &'a str>,
        numbers: &mut PathNumbers,
    ) {
        let new: Vec<_> = paths
            .map(|path| (path, numbers.of(path)))
            .filter(|(_, number)| !self.looked_for.contains(*number))
            .collect();
        if new.is_empty() {
            return;
        }
        let Some(root) = OpenRoot::open(root) else { return };
        for (path, number) in new {
            self.looked_for.grow_and_insert(number);
            self.targets.extend(root.target(path).map(|target| (path.into(), target.into())));
        }
    }

    /// Looks for the links that those of the patterns mean which were not looked for before: where the folder is written in full.
    pub(super) fn look_for_patterns<'a>(
        &mut self,
        root: &Path,
        patterns: impl Iterator<Item = &'a Pattern>,
        numbers: &mut PathNumbers,
    ) {
        for pattern in patterns {
            let number = numbers.of(pattern.as_str());
            if self.looked_for.contains(number) {
                continue;
            }
            let Some(root) = OpenRoot::open(root) else { return };
            self.looked_for.grow_and_insert(number);
            let Some((folder, _)) = pattern.as_str().rsplit_once('/').filter(|(folder, _)| !folder.contains('*'))
            else {
                continue;
            };
            for path in root.names_in(folder).filter(|path| pattern.matches(path.as_bytes())) {
                self.targets.extend(root.target(&path).map(|target| (path.into(), target.into())));
            }
        }
    }

    /// The paths that lead to another file, and that file.
    pub(super) fn targets(&self) -> impl Iterator<Item = (&str, &str)> {
        self.targets.iter().map(|(path, target)| (&**path, &**target))
    }
}

/// A container's root, held open.
struct OpenRoot {
    folder: OwnedFd,
    path: PathBuf,
}

impl OpenRoot {
    /// `None` when the root cannot be opened: it is gone, or not mounted yet.
    fn open(root: &Path) -> Option<Self> {
        let folder = open(root, OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty()).ok()?;
        let path = path_of(&folder)?;
        Some(Self { folder, path })
    }

    fn open_inside(&self, path: &str) -> Option<OwnedFd> {
        let how = OpenHow::new()
            .flags(OFlag::O_PATH | OFlag::O_CLOEXEC)
            .resolve(ResolveFlag::RESOLVE_IN_ROOT | ResolveFlag::RESOLVE_NO_MAGICLINKS);
        openat2(&self.folder, path, how).ok()
    }

    /// The paths of what is in a folder, as the folder is written.
    fn names_in(&self, folder: &str) -> impl Iterator<Item = String> {
        let opened = self.open_inside(if folder.is_empty() { "/" } else { folder });
        let entries =
            opened.and_then(|opened| fs::read_dir(format!("/proc/thread-self/fd/{}", opened.as_raw_fd())).ok());
        let names = entries.into_iter().flatten().take(NAMES_MAX).flatten();
        names.filter_map(move |entry| Some(format!("{folder}/{}", entry.file_name().to_str()?)))
    }

    /// The file that `path` leads to, where it is another one than the path says: a symbolic link, or a path through one.
    fn target(&self, path: &str) -> Option<String> {
        let found = path_of(&self.open_inside(path)?)?;
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
    use mooring_policy::ListEntry;

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

    #[test]
    fn a_pattern_finds_the_links_in_its_folder() {
        let scratch = Scratch::new();
        let root = scratch.path().join("root");
        fs::create_dir_all(root.join("usr/bin")).unwrap();
        fs::write(root.join("usr/bin/busybox"), "").unwrap();
        fs::write(root.join("usr/bin/nano"), "").unwrap();
        symlink("usr/bin", root.join("bin")).unwrap();
        for name in ["nc", "netstat", "wget"] {
            symlink("busybox", root.join("usr/bin").join(name)).unwrap();
        }
        let patterns = ["/bin/n*t*", "/usr/bin/nc*", "/usr/*/w*", "/*"].map(|text| match ListEntry::prohibited(text) {
            Ok(ListEntry::Pattern(pattern)) => pattern,
            other => panic!("{other:?}"),
        });
        let (mut links, mut numbers) = (Links::default(), PathNumbers::default());
        links.look_for_patterns(&root, patterns.iter(), &mut numbers);
        links.look_for_patterns(&root, patterns.iter(), &mut numbers);
        let told: Vec<_> = links.targets().collect();
        assert_eq!(
            told,
            [("/bin/netstat", "/usr/bin/busybox"), ("/usr/bin/nc", "/usr/bin/busybox"), ("/bin", "/usr/bin")]
        );
    }

    #[test]
    fn what_was_looked_for_once_stays_as_it_was_then() {
        let scratch = Scratch::new();
        let root = scratch.path().join("root");
        let mut numbers = PathNumbers::default();
        let mut links = Links::default();
        let told = |links: &Links| links.targets().map(|(a, b)| format!("{a} {b}")).collect::<Vec<_>>();
        links.look_for(&root, ["/nc"].into_iter(), &mut numbers);
        fs::create_dir_all(&root).unwrap();
        symlink("busybox", root.join("nc")).unwrap();
        fs::write(root.join("busybox"), "").unwrap();
        assert!(told(&links).is_empty(), "a root that was not there yet says nothing");
        links.look_for(&root, ["/nc", "/wget"].into_iter(), &mut numbers);
        symlink("busybox", root.join("wget")).unwrap();
        fs::remove_file(root.join("nc")).unwrap();
        links.look_for(&root, ["/nc", "/wget"].into_iter(), &mut numbers);
        assert_eq!(told(&links), ["/nc /busybox"]);
        symlink("busybox", root.join("curl")).unwrap();
        links.look_for(&root, ["/curl"].into_iter(), &mut numbers);
        assert_eq!(told(&links), ["/nc /busybox", "/curl /busybox"]);
        let mut other = Links::default();
        other.look_for(&root, ["/wget", "/nc"].into_iter(), &mut numbers);
        assert_eq!(told(&other), ["/wget /busybox"]);
    }
}
