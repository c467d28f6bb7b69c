//! The few system calls that neither the standard library nor nix wraps safely.
#![allow(unsafe_code)] // mappings, fork, shared memory and open_tree have no safe wrapper

use nix::libc;
use nix::sys::mman::{MapFlags, ProtFlags, mmap, mprotect, munmap};
use std::ffi::{CStr, c_void};
use std::fs::File;
use std::io;
use std::num::NonZeroUsize;
use std::os::fd::{FromRawFd, OwnedFd};
use std::ptr::NonNull;

/// A mapping of the first page of a file, or of anonymous memory. Unmapped on drop.
pub(super) struct Page(NonNull<c_void>);

pub(super) const PAGE: NonZeroUsize = NonZeroUsize::MIN.saturating_add(4095);

impl Page {
    /// Maps the first page of `file`.
    pub(super) fn of(file: &File, protection: ProtFlags, flags: MapFlags) -> nix::Result<Page> {
        // SAFETY: a new mapping at an address of the kernel's choice touches no memory of ours.
        let address = unsafe { mmap(None, PAGE, protection, flags, file, 0) }?;
        Ok(Page(address))
    }

    /// Maps one anonymous page.
    pub(super) fn anonymous(protection: ProtFlags) -> nix::Result<Page> {
        // SAFETY: as in `of`.
        let address = unsafe {
            nix::sys::mman::mmap_anonymous(None, PAGE, protection, MapFlags::MAP_PRIVATE | MapFlags::MAP_ANONYMOUS)
        }?;
        Ok(Page(address))
    }

    /// Changes its protection.
    pub(super) fn protect(&self, protection: ProtFlags) -> nix::Result<()> {
        // SAFETY: the page is ours and no reference into it exists.
        unsafe { mprotect(self.0, PAGE.get(), protection) }
    }

    /// Writes `byte` at `offset`, which must be below the file's size; beyond the page nothing is written.
    pub(super) fn write(&self, offset: usize, byte: u8) {
        if offset >= PAGE.get() {
            return;
        }
        // SAFETY: the offset is within the page, and every caller mapped it writable over a file longer than `offset`.
        let target = unsafe { self.0.as_ptr().cast::<u8>().add(offset) };
        // SAFETY: as above; volatile, because the file is what reads it.
        unsafe { target.write_volatile(byte) };
    }
}

impl Drop for Page {
    fn drop(&mut self) {
        // SAFETY: mapped by us, and no reference into it is left.
        let _ = unsafe { munmap(self.0, PAGE.get()) };
    }
}

/// Attaches a new System V shared memory page with `SHM_EXEC`.
pub(super) fn attach_executable_shared_memory() -> io::Result<()> {
    // SAFETY: no pointer is passed.
    let id = unsafe { libc::shmget(libc::IPC_PRIVATE, PAGE.get(), libc::IPC_CREAT | 0o700) };
    if id < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel chooses the address.
    let address = unsafe { libc::shmat(id, std::ptr::null(), libc::SHM_EXEC) };
    let attached = io::Error::last_os_error();
    // SAFETY: IPC_RMID ignores the buffer.
    unsafe { libc::shmctl(id, libc::IPC_RMID, std::ptr::null_mut()) };
    if address.addr() == usize::MAX {
        return Err(attached);
    }
    Ok(())
}

/// `open_tree(path, OPEN_TREE_CLONE)`: a mount of `path` that is attached nowhere.
pub(super) fn clone_mount(path: &CStr) -> io::Result<OwnedFd> {
    let flags = 1 | libc::O_CLOEXEC; // OPEN_TREE_CLONE is 1
    // SAFETY: the path is a live C string; the call returns a descriptor or an error.
    let fd = unsafe { libc::syscall(libc::SYS_open_tree, libc::AT_FDCWD, path.as_ptr(), flags) };
    match i32::try_from(fd) {
        // SAFETY: the kernel has just given us this descriptor, and nobody else has it.
        Ok(fd) if fd >= 0 => Ok(unsafe { OwnedFd::from_raw_fd(fd) }),
        _ => Err(io::Error::last_os_error()),
    }
}

/// `setxattr(path, "user.mooring", "1")`.
pub(super) fn set_user_attribute(path: &CStr) -> io::Result<()> {
    let value = b"1";
    // SAFETY: both strings and the value are live, and the length is the value's.
    let result =
        unsafe { libc::setxattr(path.as_ptr(), c"user.mooring".as_ptr(), value.as_ptr().cast(), value.len(), 0) };
    if result != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// A command that is started by fork and exec, not by `posix_spawn`.
pub(super) fn forking(command: &mut std::process::Command) {
    use std::os::unix::process::CommandExt;
    // SAFETY: the closure does nothing; its presence alone makes the standard library fork.
    unsafe { command.pre_exec(|| Ok(())) };
}
