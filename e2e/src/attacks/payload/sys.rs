//! The few system calls that neither the standard library nor nix wraps safely.
#![allow(unsafe_code)] // mappings, fork, shared memory and open_tree have no safe wrapper

use nix::libc;
use nix::sys::mman::{MapFlags, ProtFlags, mmap, mmap_anonymous, mprotect, munmap};
use std::ffi::{CStr, c_void};
use std::fs::File;
use std::io;
use std::num::NonZeroUsize;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::ptr::NonNull;

/// A mapping of a file or of memory. Unmapped on drop.
pub(super) struct Page {
    address: NonNull<c_void>,
    length: NonZeroUsize,
}

pub(super) const PAGE: NonZeroUsize = NonZeroUsize::MIN.saturating_add(4095);
/// A huge page of the usual size.
pub(super) const HUGE: NonZeroUsize = NonZeroUsize::MIN.saturating_add((2 << 20) - 1);

impl Page {
    /// Maps the first page of `file`.
    pub(super) fn of(file: &File, protection: ProtFlags, flags: MapFlags) -> nix::Result<Page> {
        Page::first(file, PAGE, protection, flags)
    }

    /// Maps the first `length` bytes of `file`.
    pub(super) fn first(
        file: &File,
        length: NonZeroUsize,
        protection: ProtFlags,
        flags: MapFlags,
    ) -> nix::Result<Page> {
        // SAFETY: a new mapping at an address of the kernel's choice touches no memory of ours.
        let address = unsafe { mmap(None, length, protection, flags, file, 0) }?;
        Ok(Page { address, length })
    }

    /// Maps `length` bytes that no descriptor stands for, `MAP_ANONYMOUS` besides `flags`.
    pub(super) fn anonymous(length: NonZeroUsize, protection: ProtFlags, flags: MapFlags) -> nix::Result<Page> {
        // SAFETY: as in `first`.
        let address = unsafe { mmap_anonymous(None, length, protection, flags | MapFlags::MAP_ANONYMOUS) }?;
        Ok(Page { address, length })
    }

    /// Attaches a new System V shared memory segment, for reading and writing unless `flags` say otherwise.
    pub(super) fn shared_segment(length: NonZeroUsize, flags: libc::c_int) -> io::Result<Page> {
        // SAFETY: no pointer is passed.
        let id = unsafe { libc::shmget(libc::IPC_PRIVATE, length.get(), libc::IPC_CREAT | 0o700) };
        if id < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the kernel chooses the address.
        let address = unsafe { libc::shmat(id, std::ptr::null(), flags) };
        let attached = io::Error::last_os_error();
        // SAFETY: IPC_RMID ignores the buffer.
        unsafe { libc::shmctl(id, libc::IPC_RMID, std::ptr::null_mut()) };
        let address = NonNull::new(address).filter(|address| address.addr().get() != usize::MAX).ok_or(attached)?;
        // Unmapping a segment's pages detaches it.
        Ok(Page { address, length })
    }

    /// Changes its protection.
    pub(super) fn protect(&self, protection: ProtFlags) -> nix::Result<()> {
        // SAFETY: the page is ours and no reference into it exists.
        unsafe { mprotect(self.address, self.length.get(), protection) }
    }

    /// Writes `byte` at `offset`, which must be below the file's size; beyond the mapping nothing is written.
    pub(super) fn write(&self, offset: usize, byte: u8) {
        if offset >= self.length.get() {
            return;
        }
        // SAFETY: the offset is within the mapping, and every caller mapped it writable over a file longer than `offset`.
        let target = unsafe { self.address.as_ptr().cast::<u8>().add(offset) };
        // SAFETY: as above; volatile, because the file is what reads it.
        unsafe { target.write_volatile(byte) };
    }

    /// Its link in a process's folder `map_files`.
    pub(super) fn link(&self) -> String {
        let start = self.address.addr().get();
        format!("{start:x}-{:x}", start + self.length.get().next_multiple_of(PAGE.get()))
    }
}

impl Drop for Page {
    fn drop(&mut self) {
        // SAFETY: mapped by us, and no reference into it is left.
        let _ = unsafe { munmap(self.address, self.length.get()) };
    }
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

/// `setxattr(path, name, value)`.
pub(super) fn set_attribute(path: &CStr, name: &CStr, value: &[u8]) -> io::Result<()> {
    // SAFETY: both strings and the value are live, and the length is the value's.
    let result = unsafe { libc::setxattr(path.as_ptr(), name.as_ptr(), value.as_ptr().cast(), value.len(), 0) };
    if result != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// Adds `FS_NOATIME_FL` to the file's flags, as chattr does.
pub(super) fn set_noatime_flag(file: &File) -> io::Result<()> {
    const NOATIME: libc::c_long = 0x80; // FS_NOATIME_FL
    let mut flags: libc::c_long = 0;
    // SAFETY: the kernel writes an int into a long.
    if unsafe { libc::ioctl(file.as_raw_fd(), libc::FS_IOC_GETFLAGS, &raw mut flags) } != 0 {
        return Err(io::Error::last_os_error());
    }
    flags |= NOATIME;
    // SAFETY: the kernel reads an int of a long.
    if unsafe { libc::ioctl(file.as_raw_fd(), libc::FS_IOC_SETFLAGS, &raw const flags) } != 0 {
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

/// `PR_SET_MM_EXE_FILE`, or `PR_SET_MM_MAP`, which a user namespace of one's own suffices for.
pub(super) fn become_program_of(file: &File) -> io::Result<()> {
    const EXE_FILE: libc::c_ulong = 13;
    const MAP: libc::c_ulong = 14;
    // The kernel takes this for the same.
    const MAP_IN_LOW_BITS: libc::c_ulong = 1 << 32 | MAP;
    let fd = u32::try_from(file.as_raw_fd()).unwrap_or(u32::MAX);
    // SAFETY: no pointer is passed.
    if unsafe { libc::prctl(libc::PR_SET_MM, EXE_FILE, libc::c_ulong::from(fd), 0, 0) } == 0 {
        return Ok(());
    }
    let map = MemoryMap::of_this_process(fd)?;
    let is_done = |what: libc::c_ulong| {
        // SAFETY: the kernel reads the structure, of the size that is passed, and nothing of it is changed but the program.
        unsafe { libc::prctl(libc::PR_SET_MM, what, &raw const map, size_of::<MemoryMap>(), 0) == 0 }
    };
    if is_done(MAP) || is_done(MAP_IN_LOW_BITS) { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// `struct prctl_mm_map` (include/uapi/linux/prctl.h).
#[repr(C)]
struct MemoryMap {
    /// Code and data, each from and to, the break likewise, the stack, arguments and environment, each from and to.
    addresses: [u64; 11],
    auxv: u64,
    auxv_size: u32,
    exe_fd: u32,
}

impl MemoryMap {
    /// As it is, by `/proc/self/stat` (`proc_pid_stat(5)`).
    fn of_this_process(exe_fd: u32) -> io::Result<MemoryMap> {
        let stat = std::fs::read_to_string("/proc/self/stat")?;
        let after_name = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
        let fields: Vec<u64> = after_name.split_whitespace().map(|field| field.parse().unwrap_or(0)).collect();
        // The first after the name is the third.
        let field = |number: usize| fields.get(number - 3).copied().unwrap_or(0);
        // SAFETY: an increment of nothing changes nothing.
        let end_of_break = unsafe { libc::sbrk(0) }.addr() as u64;
        let [code, code_end, stack, data, data_end, begin_of_break] = [26, 27, 28, 45, 46, 47].map(field);
        let [arguments, arguments_end, environment, environment_end] = [48, 49, 50, 51].map(field);
        let addresses = [
            code,
            code_end,
            data,
            data_end,
            begin_of_break,
            end_of_break,
            stack,
            arguments,
            arguments_end,
            environment,
            environment_end,
        ];
        Ok(MemoryMap { addresses, auxv: 0, auxv_size: 0, exe_fd })
    }
}
