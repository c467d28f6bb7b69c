//! Where the programs and tables live while no agent runs.
//!
//! ```text
//! <pin dir>/v<wire version>/maps/<map>
//! <pin dir>/v<wire version>/links/<instance>/<program>
//! <pin dir>/v<wire version>/rules -> <digest of the rules in force, where they came from a cluster>
//! ```
//!
//! The control map says which instance decides; the others return at once. So a new load is attached beside the old one, one
//! write hands over, and only then the old links go. A crash at any point leaves exactly one instance that decides.
//!
//! An agent of another wire version shares no map with this one. It goes on deciding until this version knows every container;
//! only then is it taken down ([`Pins::retire_other_versions`]), whether it is older or newer.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io;
use std::path::{self, Path, PathBuf};
use std::thread;
use std::time::Duration;

use libbpf_rs::{MapCore, MapFlags, MapHandle};
use mooring_bpf::wire::WIRE_VERSION;
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use nix::sys::statfs::{BPF_FS_MAGIC, statfs};

use super::KernelError;

/// How long another enforcer may take to start.
const START_WAIT: Duration = Duration::from_millis(100);
const START_TRIES: u32 = 600;

/// See [`Pins::name_rules`]. A link that leads nowhere: the file system of pins has no files.
const RULES: &str = "rules";

/// Where the agent pins unless told otherwise.
pub const DEFAULT_PIN_DIR: &str = "/sys/fs/bpf/mooring";

/// The folders of one wire version below the pin folder.
#[derive(Debug, Clone)]
pub struct Pins {
    top: PathBuf,
}

impl Pins {
    /// # Errors
    /// When the folder is not on a bpf file system, or cannot be made.
    pub fn open(top: &Path) -> Result<Self, KernelError> {
        let top = path::absolute(top).map_err(|error| KernelError::pins(top, error))?;
        let pins = Self { top };
        require_bpf_file_system(pins.top.parent().unwrap_or(&pins.top))?;
        for folder in [pins.maps(), pins.links()] {
            fs::create_dir_all(&folder).map_err(|error| KernelError::pins(&folder, error))?;
        }
        Ok(pins)
    }

    /// Held while an enforcer starts: two that start at once would take each other for the one before.
    ///
    /// # Errors
    /// When another one has been starting for a minute.
    pub fn start_alone(&self) -> Result<Flock<File>, KernelError> {
        for _ in 0..START_TRIES {
            if let Some(lock) = self.start_alone_now()? {
                return Ok(lock);
            }
            thread::sleep(START_WAIT);
        }
        Err(KernelError::AnotherStarts { path: self.top.clone() })
    }

    /// The same without waiting; None: another one starts.
    ///
    /// # Errors
    /// When the folder cannot be locked.
    pub fn start_alone_now(&self) -> Result<Option<Flock<File>>, KernelError> {
        let folder = File::open(&self.top).map_err(|error| KernelError::pins(&self.top, error))?;
        match Flock::lock(folder, FlockArg::LockExclusiveNonblock) {
            Ok(lock) => Ok(Some(lock)),
            Err((_, Errno::EWOULDBLOCK)) => Ok(None),
            Err((_, error)) => Err(KernelError::pins(&self.top, error.into())),
        }
    }

    /// Whether an agent of any wire version has anything in force. False where nothing can be read.
    #[must_use]
    pub fn is_enforced(top: &Path) -> bool {
        versions_in(top).is_ok_and(|versions| versions.iter().any(|version| is_in_force(version)))
    }

    /// Whether another wire version has anything in force.
    #[must_use]
    pub fn is_another_enforced(&self) -> bool {
        let own = self.version();
        let others = versions_in(&self.top).unwrap_or_default();
        others.iter().any(|version| *version != own && is_in_force(version))
    }

    /// Says which rules are in force, for as long as they can be; None where they have no digest.
    ///
    /// # Errors
    /// When it cannot be said.
    pub fn name_rules(&self, digest: Option<&str>) -> Result<(), KernelError> {
        let (path, new) = (self.version().join(RULES), self.version().join("rules-new"));
        let error = |error| KernelError::pins(&path, error);
        for left in [&new].into_iter().chain(digest.is_none().then_some(&path)) {
            match fs::remove_file(left) {
                Err(source) if source.kind() != io::ErrorKind::NotFound => return Err(error(source)),
                _ => {}
            }
        }
        let Some(digest) = digest else { return Ok(()) };
        std::os::unix::fs::symlink(digest, &new).and_then(|()| fs::rename(&new, &path)).map_err(error)
    }

    /// The digest of the rules that are in force, by an agent of any wire version; None where nobody has said.
    #[must_use]
    pub fn named_rules(top: &Path) -> Option<String> {
        let named = versions_in(top).ok()?.into_iter().find_map(|version| fs::read_link(version.join(RULES)).ok())?;
        named.to_str().map(str::to_owned)
    }

    fn version(&self) -> PathBuf {
        self.top.join(format!("v{WIRE_VERSION}"))
    }

    /// Where the maps of this wire version are pinned.
    #[must_use]
    pub fn maps(&self) -> PathBuf {
        self.version().join("maps")
    }

    fn links(&self) -> PathBuf {
        self.version().join("links")
    }

    /// Where the links of one instance are pinned.
    #[must_use]
    pub fn links_of(&self, instance: u16) -> PathBuf {
        self.links().join(instance.to_string())
    }

    /// Instances that have pinned links.
    ///
    /// # Errors
    /// When the folder cannot be read.
    pub fn instances(&self) -> Result<Vec<u16>, KernelError> {
        let links = self.links();
        let entries = fs::read_dir(&links).map_err(|error| KernelError::pins(&links, error))?;
        Ok(entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect())
    }

    /// Takes the links of every instance but this one away, which detaches their programs.
    ///
    /// # Errors
    /// When one cannot be removed.
    pub fn keep_only(&self, instance: u16) -> Result<(), KernelError> {
        for other in self.instances()? {
            if other != instance {
                remove_tree(&self.links_of(other))?;
            }
        }
        Ok(())
    }

    /// Takes down what agents of other wire versions have left in force, once this version protects every container that
    /// there is. `fresh` is this version's map of cgroups that may yet become containers: what the others saw being made is
    /// entered there first, so that none falls between.
    ///
    /// # Errors
    /// When one of them cannot be taken down: it goes on deciding beside this one.
    pub fn retire_other_versions(&self, fresh: &impl MapCore) -> Result<(), KernelError> {
        let own = self.version();
        for version in versions_in(&self.top)?.into_iter().filter(|version| *version != own) {
            adopt_fresh_cgroups(&version.join("maps"), fresh)?;
            take_down(&version)?;
        }
        Ok(())
    }

    /// Removes maps that nothing was in force with: no program has watched since when what they say is true, as after a removal that
    /// was cut short. A file could have been written under its clean mark.
    ///
    /// # Errors
    /// When one cannot be removed.
    pub fn forget_maps(&self) -> Result<(), KernelError> {
        let maps = self.maps();
        remove_tree(&maps)?;
        fs::create_dir_all(&maps).map_err(|error| KernelError::pins(&maps, error))
    }

    /// Takes everything of this wire version down.
    ///
    /// # Errors
    /// When something cannot be removed; what could be is gone.
    pub fn withdraw(&self) -> Result<(), KernelError> {
        take_down(&self.version())
    }

    /// Tells the agent that is in force, if there is one, that a cgroup will be no container's. The cgroup's name could not tell it:
    /// whoever makes a container may choose any. These maps only the host's root reaches.
    ///
    /// # Errors
    /// When a pinned map cannot be changed.
    pub fn never_a_container(top: &Path, cgroup: u64) -> Result<(), KernelError> {
        if !top.exists() {
            return Ok(());
        }
        for version in versions_in(top)? {
            let path = version.join("maps").join("fresh_cgroups");
            let key = cgroup.to_ne_bytes();
            if !path.exists() {
                continue;
            }
            let fresh = MapHandle::from_pinned_path(&path).map_err(KernelError::bpf("open the new cgroups"))?;
            if usize::try_from(fresh.key_size()) == Ok(key.len()) {
                // Not there is as good as deleted.
                let _ = fresh.delete(&key);
            }
        }
        Ok(())
    }

    /// Takes everything down, of every wire version.
    ///
    /// # Errors
    /// When something cannot be removed; what could be is gone.
    pub fn release(top: &Path) -> Result<(), KernelError> {
        if !top.exists() {
            return Ok(());
        }
        require_bpf_file_system(top)?;
        for version in versions_in(top)? {
            take_down(&version)?;
        }
        match fs::remove_dir(top) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(KernelError::pins(top, error)),
            _ => Ok(()),
        }
    }
}

/// Whatever is removed is a pin, so nobody's files are, whichever folder is named.
fn require_bpf_file_system(path: &Path) -> Result<(), KernelError> {
    let file_system = statfs(path).map_err(|error| KernelError::pins(path, error.into()))?;
    if file_system.filesystem_type() == BPF_FS_MAGIC {
        return Ok(());
    }
    Err(KernelError::NoBpfFileSystem { path: path.to_path_buf() })
}

fn is_in_force(version: &Path) -> bool {
    let links = fs::read_dir(version.join("links")).into_iter().flatten().flatten();
    let attached = links.filter_map(|of| fs::read_dir(of.path()).ok()).flatten().next().is_some();
    attached && is_switched_on(&version.join("maps").join("control"))
}

fn is_wire_version(name: &OsStr) -> bool {
    let digits = name.to_str().and_then(|name| name.strip_prefix('v'));
    digits.is_some_and(|digits| !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit()))
}

/// The folders of all wire versions below the pin folder.
fn versions_in(top: &Path) -> Result<Vec<PathBuf>, KernelError> {
    let entries = fs::read_dir(top).map_err(|error| KernelError::pins(top, error))?;
    Ok(entries.flatten().filter(|entry| is_wire_version(&entry.file_name())).map(|entry| entry.path()).collect())
}

fn take_down(version: &Path) -> Result<(), KernelError> {
    // At once, whoever still holds a link: the kernel detaches an unpinned one only some time later.
    switch_off(&version.join("maps").join("control"))?;
    // Links first: programs without their maps would still hold them, but maps without programs enforce nothing.
    remove_tree(&version.join("links"))?;
    remove_tree(version)
}

/// No load has the instance number 0, in any version: the word is set to zeros, however long it is there.
fn switch_off(control_map: &Path) -> Result<(), KernelError> {
    if !control_map.exists() {
        return Ok(());
    }
    let map = MapHandle::from_pinned_path(control_map).map_err(KernelError::bpf("open the control word"))?;
    let nobody = vec![0; usize::try_from(map.value_size()).unwrap_or_default()];
    map.update(&0_u32.to_ne_bytes(), &nobody, MapFlags::ANY).map_err(KernelError::bpf("switch enforcement off"))
}

/// See [`switch_off`].
fn is_switched_on(control_map: &Path) -> bool {
    let word = MapHandle::from_pinned_path(control_map).and_then(|map| map.lookup(&0_u32.to_ne_bytes(), MapFlags::ANY));
    word.is_ok_and(|word| word.is_some_and(|bytes| bytes.iter().any(|byte| *byte != 0)))
}

/// Copies another version's `fresh_cgroups`, where it has the same form. Whatever it says of a cgroup that became a container is
/// harmless: that is known by now.
fn adopt_fresh_cgroups(maps: &Path, fresh: &impl MapCore) -> Result<(), KernelError> {
    let path = maps.join("fresh_cgroups");
    if !path.exists() {
        return Ok(());
    }
    let other = MapHandle::from_pinned_path(&path).map_err(KernelError::bpf("open another version's cgroups"))?;
    if (other.key_size(), other.value_size()) != (fresh.key_size(), fresh.value_size()) {
        return Ok(());
    }
    for cgroup in other.keys() {
        // Gone meanwhile: so is the cgroup.
        let Ok(Some(maker)) = other.lookup(&cgroup, MapFlags::ANY) else { continue };
        fresh.update(&cgroup, &maker, MapFlags::ANY).map_err(KernelError::bpf("enter another version's cgroups"))?;
    }
    Ok(())
}

fn remove_tree(path: &Path) -> Result<(), KernelError> {
    match fs::remove_dir_all(path) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(KernelError::pins(path, error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::containers::scratch::Scratch;

    #[test]
    fn rules_in_force_are_named() {
        let scratch = Scratch::new();
        let pins = Pins { top: scratch.path().to_path_buf() };
        fs::create_dir_all(pins.version()).unwrap();
        let named = || Pins::named_rules(scratch.path());
        pins.name_rules(None).unwrap();
        assert_eq!(named(), None);
        for digest in ["sha256:a", "sha256:b"] {
            pins.name_rules(Some(digest)).unwrap();
            assert_eq!(named().as_deref(), Some(digest));
        }
        pins.name_rules(None).unwrap();
        assert_eq!(named(), None);
    }

    #[test]
    fn release_touches_nothing_that_is_no_pin() {
        let scratch = Scratch::new();
        let file = scratch.path().join("v1/links/1/file");
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(&file, "").unwrap();
        let error = Pins::release(scratch.path()).unwrap_err();
        assert!(matches!(error, KernelError::NoBpfFileSystem { .. }), "{error}");
        assert!(file.exists());
        assert!(Pins::release(&scratch.path().join("absent")).is_ok());
    }

    #[test]
    fn only_wire_versions_are_ours() {
        for (name, ours) in [("v1", true), ("v12", true), ("v", false), ("other", false), ("v1x", false)] {
            assert_eq!(is_wire_version(OsStr::new(name)), ours, "{name}");
        }
    }
}
