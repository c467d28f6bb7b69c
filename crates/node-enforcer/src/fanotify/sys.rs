//! System calls that no safe wrapper here has.
#![allow(unsafe_code)]

use std::fs::{File, Metadata};
use std::io;
use std::mem::{MaybeUninit, size_of};
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::fs::MetadataExt;

use libbpf_rs::libbpf_sys::{bpf_prog_test_run_opts, bpf_test_run_opts};
use nix::errno::Errno;
use nix::libc;
use rustix::process::{PidfdFlags, Signal, getpid, pidfd_open, pidfd_send_signal, setpriority_process};

/// What the system says of an open file, in one call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Seen {
    /// The id of the mount that it was opened on.
    pub(super) mount: u64,
    /// `st_dev`, major in the upper 12 bits, minor in the lower 20. On an overlay whose layers are on several filesystems it is not
    /// the overlay's own.
    pub(super) dev: u32,
    /// Inode number.
    pub(super) ino: u64,
    /// Names; 0: it was deleted.
    pub(super) links: u32,
    /// Bytes.
    pub(super) size: u64,
    /// When the inode last changed, which nobody can set: seconds and nanoseconds.
    pub(super) changed: (i64, u32),
    /// When the content last changed, as far as it was not set to something else.
    pub(super) modified: (i64, u32),
}

impl Seen {
    /// Asks (statx(2); the mount's id since 5.8).
    ///
    /// # Errors
    /// The system's.
    pub(super) fn of(file: impl AsFd) -> io::Result<Self> {
        let mut buffer = MaybeUninit::<libc::statx>::zeroed();
        let mask = libc::STATX_BASIC_STATS | libc::STATX_MNT_ID;
        let descriptor = file.as_fd().as_raw_fd();
        // SAFETY: the path is an empty string that lives long enough, and the kernel writes one `statx` into the buffer.
        let result = unsafe { libc::statx(descriptor, c"".as_ptr(), libc::AT_EMPTY_PATH, mask, buffer.as_mut_ptr()) };
        Errno::result(result)?;
        // SAFETY: zeroes are a valid `statx`, and the kernel has filled it in.
        let said = unsafe { buffer.assume_init() };
        if said.stx_mask & libc::STATX_MNT_ID == 0 {
            return Err(io::Error::from(io::ErrorKind::Unsupported));
        }
        Ok(Self {
            mount: said.stx_mnt_id,
            dev: said.stx_dev_major << 20 | said.stx_dev_minor,
            ino: said.stx_ino,
            links: said.stx_nlink,
            size: said.stx_size,
            changed: (said.stx_ctime.tv_sec, said.stx_ctime.tv_nsec),
            modified: (said.stx_mtime.tv_sec, said.stx_mtime.tv_nsec),
        })
    }

    /// Whether a layer's file is the one that the overlay shows: overlayfs hands these three through from it, and the first cannot be set.
    pub(super) fn is(&self, metadata: &Metadata) -> bool {
        metadata.is_file()
            && self.size == metadata.size()
            && self.changed == (metadata.ctime(), nanoseconds(metadata.ctime_nsec()))
            && self.modified == (metadata.mtime(), nanoseconds(metadata.mtime_nsec()))
    }
}

fn nanoseconds(number: i64) -> u32 {
    u32::try_from(number).unwrap_or_default()
}

/// A descriptor of this process, for [`kill`].
///
/// # Errors
/// The system's.
pub(super) fn own_pidfd() -> io::Result<OwnedFd> {
    Ok(pidfd_open(getpid(), PidfdFlags::empty())?)
}

/// SIGKILL to the process of a pidfd, and to no other that has got its number since.
///
/// # Errors
/// The system's.
pub(super) fn kill(pidfd: impl AsFd) -> io::Result<()> {
    Ok(pidfd_send_signal(pidfd, Signal::KILL)?)
}

/// Runs a BPF program of type `raw_tp` on these words; gives what it returns.
///
/// # Errors
/// The system's.
pub(super) fn run_program(program: impl AsFd, words: &[u64; 4]) -> io::Result<u32> {
    let mut options = bpf_test_run_opts {
        sz: size_of::<bpf_test_run_opts>() as _,
        ctx_in: words.as_ptr().cast(),
        ctx_size_in: u32::try_from(size_of_val(words)).map_err(io::Error::other)?,
        ..bpf_test_run_opts::default()
    };
    // SAFETY: the options say their own size, and the words and their size, which outlive the call.
    let result = unsafe { bpf_prog_test_run_opts(program.as_fd().as_raw_fd(), &raw mut options) };
    if result == 0 { Ok(options.retval) } else { Err(io::Error::from_raw_os_error(-result)) }
}

/// What comes first in a `struct file_handle`, which has `f_handle` after it.
#[repr(C)]
struct Handle {
    bytes: u32,
    kind: i32,
    opaque: [u8; libc::MAX_HANDLE_SZ as usize],
}

const _: () = assert!(size_of::<Handle>() == 8 + libc::MAX_HANDLE_SZ as usize);

/// Opens a file by its handle, without reading it (`open_by_handle_at(2)`); `mount` is anything on its filesystem.
///
/// # Errors
/// The system's: `ESTALE` where it is gone, or of another filesystem.
pub(super) fn open_by_handle(mount: &File, kind: u8, bytes: &[u8]) -> io::Result<File> {
    let mut handle = Handle { bytes: 0, kind: kind.into(), opaque: [0; libc::MAX_HANDLE_SZ as usize] };
    let room = handle.opaque.get_mut(..bytes.len()).ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))?;
    room.copy_from_slice(bytes);
    handle.bytes = u32::try_from(bytes.len()).map_err(io::Error::other)?;
    let flags = libc::O_PATH | libc::O_CLOEXEC;
    // SAFETY: `handle` begins as `struct file_handle` does, and has as many bytes after it as it says.
    let result = unsafe {
        libc::syscall(libc::SYS_open_by_handle_at, mount.as_raw_fd(), std::ptr::from_mut(&mut handle), flags)
    };
    let descriptor = i32::try_from(Errno::result(result)?).map_err(io::Error::other)?;
    // SAFETY: the kernel has just made it, and nobody else has it.
    Ok(unsafe { File::from_raw_fd(descriptor) })
}

/// Runs before what is merely busy: an exec waits. Without the right to it goes on as it is.
pub(super) fn hurry() {
    const FIRST: i32 = -20;
    let _ = setpriority_process(None, FIRST);
}

/// Keeps what is touched in memory, so that a wait for a disk does not delay it (mlockall(2)). Without the right to it may be delayed.
pub(super) fn stay_in_memory() {
    // Not what is mapped in future: beyond the limit that could then not be mapped at all.
    let flags = libc::MCL_CURRENT | libc::MCL_ONFAULT;
    // SAFETY: it takes a number.
    let _ = unsafe { libc::mlockall(flags) };
}
