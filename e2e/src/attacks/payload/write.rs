//! Ways to change a file, or only to look as if.

use super::execute::c_string;
use super::sys::{self, Page};
use super::{Outcome, PayloadError, Tried};
use nix::fcntl::AT_FDCWD;
use nix::sys::mman::{MapFlags, ProtFlags};
use nix::sys::stat::{UtimensatFlags, utimensat};
use nix::sys::time::TimeSpec;
use std::fs::{File, OpenOptions, Permissions};
use std::io::{Seek, SeekFrom, Write};
use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, SystemTime};

fn open_for_both(path: &str) -> Result<File, PayloadError> {
    OpenOptions::new().read(true).write(true).open(path).tried(format!("open {path} for writing"))
}

/// The last byte of a test program is its salt: it still runs when that is changed.
fn last_byte(file: &File) -> Result<usize, PayloadError> {
    let size = file.metadata().tried("fstat")?.len();
    usize::try_from(size)
        .ok()
        .and_then(|size| size.checked_sub(1))
        .filter(|last| *last < sys::PAGE.get())
        .ok_or_else(|| PayloadError::Unexpected(format!("{size} bytes: not a test program")))
}

fn write_last_byte_by_map(file: &File) -> Result<Page, PayloadError> {
    last_byte(file)?;
    Page::of(file, ProtFlags::PROT_READ | ProtFlags::PROT_WRITE, MapFlags::MAP_SHARED).tried("mmap for writing")
}

/// By a shared writable mapping.
pub(super) fn through_map(path: &str) -> Outcome {
    let file = open_for_both(path)?;
    let page = write_last_byte_by_map(&file)?;
    page.write(last_byte(&file)?, b'#');
    Ok(())
}

/// By a shared writable mapping whose descriptor was closed long before the write.
pub(super) fn through_late_map(path: &str, seconds: &str) -> Outcome {
    let seconds: u64 = seconds.parse().map_err(|_| PayloadError::Usage("map-write-late FILE SECONDS".into()))?;
    let file = open_for_both(path)?;
    let last = last_byte(&file)?;
    let page = write_last_byte_by_map(&file)?;
    drop(file);
    std::fs::set_permissions(path, Permissions::from_mode(0o755)).tried("chmod")?;
    // Somebody who compares in the meantime must see that a writer is left.
    std::thread::sleep(Duration::from_secs(seconds));
    page.write(last, b'#');
    Ok(())
}

/// By a descriptor that was opened before a chmod.
pub(super) fn after_chmod(path: &str) -> Outcome {
    let mut file = open_for_both(path)?;
    std::fs::set_permissions(path, Permissions::from_mode(0o755)).tried("chmod")?;
    let last = last_byte(&file)?;
    file.seek(SeekFrom::Start(last as u64)).tried("seek")?;
    file.write_all(b"#").tried("write")
}

/// `truncate(2)`: no open at all.
pub(super) fn truncate_path(path: &str, more: &str) -> Outcome {
    let more: i64 = more.parse().map_err(|_| PayloadError::Usage("truncate-path FILE MORE".into()))?;
    let size = std::fs::metadata(path).tried("stat")?.len();
    let size = i64::try_from(size).map_err(|_| PayloadError::Unexpected("the file is too large".into()))?;
    nix::unistd::truncate(path, size + more).tried("truncate")
}

/// What GNU touch does: opens for writing, writes nothing, sets the times.
pub(super) fn open_touch(path: &str) -> Outcome {
    let file = OpenOptions::new().write(true).open(path).tried("open for writing")?;
    file.set_modified(SystemTime::now()).tried("futimens")
}

/// Sets the times without an open.
pub(super) fn set_times(path: &str) -> Outcome {
    let time = TimeSpec::new(1_000_000_000, 0);
    utimensat(AT_FDCWD, path, &time, &time, UtimensatFlags::NoFollowSymlink).tried("utimensat")
}

/// Sets an attribute; an upper filesystem without user attributes has copied the file up all the same.
pub(super) fn set_attribute(path: &str) -> Outcome {
    match sys::set_attribute(&c_string(path)?, c"user.mooring", b"1") {
        Err(error) if error.raw_os_error() == Some(nix::libc::EOPNOTSUPP) => Ok(()),
        result => result.tried("setxattr"),
    }
}

/// An access list that lets user 1234 execute, as setfacl writes it (`include/uapi/linux/posix_acl_xattr.h`).
pub(super) fn set_access_list(path: &str) -> Outcome {
    const NOBODY: u32 = u32::MAX;
    // Tag, permissions, id: the owner, user 1234, the group, the mask, others.
    let entries = [(0x01, 7, NOBODY), (0x02, 5, 1234), (0x04, 5, NOBODY), (0x10, 5, NOBODY), (0x20, 5, NOBODY)];
    let mut value = 2_u32.to_le_bytes().to_vec();
    for (tag, permissions, id) in entries {
        value.extend(u16::to_le_bytes(tag));
        value.extend(u16::to_le_bytes(permissions));
        value.extend(u32::to_le_bytes(id));
    }
    sys::set_attribute(&c_string(path)?, c"system.posix_acl_access", &value).tried("set the access list")
}

/// As `chattr +A`. Over a tmpfs nothing can have flags.
pub(super) fn set_flag(path: &str) -> Outcome {
    match sys::set_noatime_flag(&std::fs::File::open(path).tried("open")?) {
        Err(error) if error.raw_os_error() == Some(nix::libc::EOPNOTSUPP) => Ok(()),
        result => result.tried("set the flag"),
    }
}
