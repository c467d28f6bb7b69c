//! Ways to get executable memory out of a file.

use super::sys::{Page, attach_executable_shared_memory};
use super::{Outcome, Tried};
use crate::attacks::TOKEN;
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::mman::{MapFlags, ProtFlags};
use std::fs::File;
use std::io::Write;

fn map_executable(file: &File, flags: MapFlags) -> Outcome {
    let _page = Page::of(file, ProtFlags::PROT_READ | ProtFlags::PROT_EXEC, flags).tried("mmap PROT_EXEC")?;
    println!("{TOKEN}");
    Ok(())
}

/// `mmap(PROT_READ | PROT_EXEC, MAP_PRIVATE)`.
pub(super) fn executable(path: &str) -> Outcome {
    map_executable(&File::open(path).tried("open")?, MapFlags::MAP_PRIVATE)
}

/// `mmap(PROT_READ | PROT_EXEC, MAP_SHARED)`.
pub(super) fn shared_executable(path: &str) -> Outcome {
    map_executable(&File::open(path).tried("open")?, MapFlags::MAP_SHARED)
}

/// Mapped for reading, made executable afterwards.
pub(super) fn protect_later(path: &str) -> Outcome {
    let file = File::open(path).tried("open")?;
    let page = Page::of(&file, ProtFlags::PROT_READ, MapFlags::MAP_PRIVATE).tried("mmap")?;
    drop(file);
    page.protect(ProtFlags::PROT_READ | ProtFlags::PROT_EXEC).tried("mprotect PROT_EXEC")?;
    println!("{TOKEN}");
    Ok(())
}

/// A memfd with the content of `source`.
pub(super) fn memfd(source: &str) -> Outcome {
    let content = std::fs::read(source).tried("read the source")?;
    let fd = memfd_create("mapped", MFdFlags::MFD_CLOEXEC).tried("memfd_create")?;
    let mut file = File::from(fd);
    file.write_all(&content).tried("write the memfd")?;
    map_executable(&file, MapFlags::MAP_PRIVATE)
}

/// System V shared memory attached with `SHM_EXEC`.
pub(super) fn shared_memory() -> Outcome {
    attach_executable_shared_memory().tried("shmat SHM_EXEC")?;
    println!("{TOKEN}");
    Ok(())
}

/// Anonymous memory made executable, as every JIT does: never a file, never drift.
pub(super) fn anonymous() -> Outcome {
    let page = Page::anonymous(ProtFlags::PROT_READ | ProtFlags::PROT_WRITE).tried("mmap")?;
    page.protect(ProtFlags::PROT_READ | ProtFlags::PROT_EXEC).tried("mprotect PROT_EXEC")?;
    println!("{TOKEN}");
    Ok(())
}

/// Writes the content of `source` over `path`, which this process has tried to execute, and maps it.
pub(super) fn after_failed_exec(path: &str, source: &str) -> Outcome {
    let name = std::ffi::CString::new(path).tried("name the program")?;
    // Not execvp: that runs a shell instead.
    let Err(error) = nix::unistd::execv(&name, &[&name]);
    if error != nix::errno::Errno::ENOEXEC {
        return Err(super::PayloadError::Unexpected(format!("execve of {path}: {error}")));
    }
    let content = std::fs::read(source).tried("read the source")?;
    std::fs::write(path, content).tried(format!("write {path}"))?;
    executable(path)
}
