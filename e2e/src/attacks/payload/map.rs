//! Ways to get executable memory out of a file.

use super::sys::{HUGE, PAGE, Page};
use super::{Outcome, PayloadError, Tried};
use crate::attacks::TOKEN;
use nix::libc;
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::mman::{MapFlags, ProtFlags};
use nix::sys::personality::{self, Persona};
use std::fs::File;
use std::io::Write;
use std::num::NonZeroUsize;
use std::process::Command;

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

/// Mapped for reading, by a process whose personality makes that executable.
pub(super) fn by_personality(path: &str) -> Outcome {
    personality::set(Persona::READ_IMPLIES_EXEC).tried("personality")?;
    let _page =
        Page::of(&File::open(path).tried("open")?, ProtFlags::PROT_READ, MapFlags::MAP_PRIVATE).tried("mmap")?;
    let maps = std::fs::read_to_string("/proc/self/maps").tried("read the mappings")?;
    if !maps.lines().any(|line| line.contains(" r-xp ") && line.ends_with(path)) {
        return Err(PayloadError::Unexpected(format!("{path} is not executable in {maps}")));
    }
    println!("{TOKEN}");
    Ok(())
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

/// A memfd called `name`, of huge pages or not, mapped for execution at once or made executable afterwards.
pub(super) fn named_memfd(name: &str, pages: &str, how: &str) -> Outcome {
    let (flags, length) = match pages {
        "huge" => (MFdFlags::MFD_HUGETLB, HUGE),
        _ => (MFdFlags::empty(), PAGE),
    };
    let file = File::from(memfd_create(name, flags).tried("memfd_create")?);
    file.set_len(length.get() as u64).tried("size the memfd")?;
    let executable = ProtFlags::PROT_READ | ProtFlags::PROT_EXEC;
    let first = if how == "at-once" { executable } else { ProtFlags::PROT_READ };
    let page = Page::first(&file, length, first, MapFlags::MAP_SHARED).tried("mmap")?;
    page.protect(executable).tried("mprotect PROT_EXEC")?;
    println!("{TOKEN}");
    Ok(())
}

/// System V shared memory attached with `SHM_EXEC`, and made executable afterwards.
pub(super) fn shared_memory() -> Outcome {
    Page::shared_segment(PAGE, libc::SHM_EXEC).tried("shmat SHM_EXEC")?;
    later_executable(&Page::shared_segment(PAGE, 0).tried("shmat")?)
}

fn later_executable(page: &Page) -> Outcome {
    page.write(0, 0xc3);
    page.protect(ProtFlags::PROT_READ | ProtFlags::PROT_EXEC).tried("mprotect PROT_EXEC")?;
    println!("{TOKEN}");
    Ok(())
}

const WRITABLE: ProtFlags = ProtFlags::PROT_READ.union(ProtFlags::PROT_WRITE);

/// Anonymous memory made executable, as every JIT does: never a file, never drift.
pub(super) fn anonymous() -> Outcome {
    later_executable(&Page::anonymous(PAGE, WRITABLE, MapFlags::MAP_PRIVATE).tried("mmap")?)
}

/// The same, shared with children: the kernel keeps it in a file of its own.
pub(super) fn shared_anonymous() -> Outcome {
    later_executable(&Page::anonymous(PAGE, WRITABLE, MapFlags::MAP_SHARED).tried("mmap MAP_SHARED")?)
}

/// The same, of huge pages.
pub(super) fn huge_anonymous() -> Outcome {
    let flags = MapFlags::MAP_PRIVATE | MapFlags::MAP_HUGETLB;
    Page::anonymous(HUGE, WRITABLE | ProtFlags::PROT_EXEC, flags).tried("mmap MAP_HUGETLB PROT_EXEC")?;
    later_executable(&Page::anonymous(HUGE, WRITABLE, flags).tried("mmap MAP_HUGETLB")?)
}

/// Shared memory with the content of `source`, `anonymous` or a `segment`.
fn filled(kind: &str, source: &str) -> Result<Page, PayloadError> {
    let content = std::fs::read(source).tried("read the source")?;
    let length = NonZeroUsize::new(content.len()).unwrap_or(PAGE);
    let page = match kind {
        "segment" => Page::shared_segment(length, 0).tried("shmat")?,
        _ => Page::anonymous(length, WRITABLE, MapFlags::MAP_SHARED).tried("mmap MAP_SHARED")?,
    };
    for (offset, byte) in content.into_iter().enumerate() {
        page.write(offset, byte);
    }
    Ok(page)
}

/// Executes shared memory by its link in `/proc/PID/map_files`.
pub(super) fn execute_memory(kind: &str, source: &str) -> Outcome {
    let page = filled(kind, source)?;
    let program = std::ffi::CString::new(format!("/proc/self/map_files/{}", page.link())).tried("name the program")?;
    let Err(error) = nix::unistd::execv(&program, &[&program]);
    Err(error).tried("execve of shared memory")
}

/// Gives shared memory to the loader as the program to load.
pub(super) fn load_memory(kind: &str, source: &str, loader: &str, argument: &str) -> Outcome {
    let page = filled(kind, source)?;
    let program = format!("/proc/{}/map_files/{}", std::process::id(), page.link());
    let status = Command::new(loader).args([program.as_str(), argument]).status().tried("start the loader")?;
    if status.success() { Ok(()) } else { Err(PayloadError::Unexpected(format!("the loader: {status}"))) }
}

/// Writes the content of `source` over `path`, which this process has tried to execute, and maps it.
pub(super) fn after_failed_exec(path: &str, source: &str) -> Outcome {
    let name = std::ffi::CString::new(path).tried("name the program")?;
    // Not execvp: that runs a shell instead.
    let Err(error) = nix::unistd::execv(&name, &[&name]);
    if error != nix::errno::Errno::ENOEXEC {
        return Err(PayloadError::Unexpected(format!("execve of {path}: {error}")));
    }
    let content = std::fs::read(source).tried("read the source")?;
    std::fs::write(path, content).tried(format!("write {path}"))?;
    executable(path)
}
