//! Ways to execute a file.

use super::namespaces::become_command;
use super::sys;
use super::{Outcome, PayloadError, Tried};
use nix::fcntl::{AT_FDCWD, AtFlags, OFlag, open, openat};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::stat::Mode;
use nix::unistd::{execv, execveat};
use std::convert::Infallible;
use std::ffi::{CStr, CString};
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, AsRawFd};
use std::path::Path;
use std::process::Command;

pub(super) fn c_string(text: &str) -> Result<CString, PayloadError> {
    CString::new(text).map_err(|_| PayloadError::Usage(format!("{text:?} has a NUL byte")))
}

fn never(result: nix::Result<Infallible>, what: &str) -> Outcome {
    match result {
        Ok(never) => match never {},
        Err(errno) => Err(io::Error::from(errno)).tried(what),
    }
}

fn exec_fd(fd: impl AsFd, what: &str) -> Outcome {
    let arguments: [&CStr; 1] = [c"x"];
    let environment: [&CStr; 0] = [];
    let flags = AtFlags::AT_EMPTY_PATH;
    never(execveat(fd, c"", &arguments, &environment, flags), what)
}

fn exec_proc_fd(fd: impl AsFd, what: &str) -> Outcome {
    let path = c_string(&format!("/proc/self/fd/{}", fd.as_fd().as_raw_fd()))?;
    let arguments: [&CStr; 1] = [c"x"];
    never(execv(&path, &arguments), what)
}

/// `execveat` with a directory's descriptor and a name in it.
pub(super) fn at_directory(path: &str) -> Outcome {
    let path = Path::new(path);
    let (Some(dir), Some(name)) = (path.parent(), path.file_name().and_then(|n| n.to_str())) else {
        return Err(PayloadError::Usage("exec-at-dir FILE".into()));
    };
    let dir = File::open(dir).tried("open the folder")?;
    let arguments: [&CStr; 1] = [c"x"];
    let environment: [&CStr; 0] = [];
    never(execveat(&dir, &c_string(name)?, &arguments, &environment, AtFlags::empty()), "execveat")
}

/// `execveat` with `AT_EMPTY_PATH`.
pub(super) fn empty_path(path: &str) -> Outcome {
    exec_fd(File::open(path).tried("open")?, "execveat AT_EMPTY_PATH")
}

/// Has the kernel call this process the program `program`, where that can be, and executes the command.
pub(super) fn as_program(program: &str, command: &[&str]) -> Outcome {
    let file = File::open(program).tried("open the program")?;
    match sys::become_program_of(&file) {
        Ok(()) => eprintln!("this is {:?} now", std::fs::read_link("/proc/self/exe")),
        Err(error) => eprintln!("this stays what it is: {error}"),
    }
    become_command(command)
}

/// By `/proc/self/fd/N`, of a descriptor for reading or an `O_PATH` one.
pub(super) fn proc_fd(path: &str, only_path: bool) -> Outcome {
    let flags = if only_path { OFlag::O_PATH } else { OFlag::O_RDONLY };
    let fd = open(path, flags, Mode::empty()).tried("open")?;
    exec_proc_fd(fd, "execve /proc/self/fd")
}

/// Opens, unlinks, executes what is left.
pub(super) fn unlinked(path: &str) -> Outcome {
    let file = open(path, OFlag::O_RDONLY, Mode::empty()).tried("open")?;
    std::fs::remove_file(path).tried("unlink")?;
    exec_proc_fd(file, "execve of an unlinked file")
}

/// A file made with `O_TMPFILE` in `dir`, with the content of `source`.
pub(super) fn nameless(dir: &str, source: &str) -> Outcome {
    let mode = Mode::from_bits_truncate(0o755);
    let writer = open(dir, OFlag::O_TMPFILE | OFlag::O_WRONLY, mode).tried("open O_TMPFILE")?;
    let content = std::fs::read(source).tried("read the source")?;
    let path = format!("/proc/self/fd/{}", writer.as_raw_fd());
    let reader = open(path.as_str(), OFlag::O_RDONLY, Mode::empty()).tried("open for reading")?;
    File::from(writer).write_all(&content).tried("write")?;
    exec_fd(reader, "execveat of a nameless file")
}

/// A memfd called `name`, executed as `how`: `execveat`, `proc-fd` or `sealed`.
pub(super) fn memfd(name: &str, source: &str, how: &str) -> Outcome {
    let content = std::fs::read(source).tried("read the source")?;
    // The descriptor must survive the exec where an interpreter or /proc/self/fd looks for it again.
    let flags = if how == "sealed" { MFdFlags::MFD_ALLOW_SEALING } else { MFdFlags::empty() };
    let mut file = File::from(memfd_create(name, flags).tried("memfd_create")?);
    file.write_all(&content).tried("write the memfd")?;
    match how {
        "proc-fd" => exec_proc_fd(file, "execve of a memfd"),
        "execveat" => exec_fd(file, "execveat of a memfd"),
        "sealed" => {
            use nix::fcntl::{FcntlArg, SealFlag, fcntl};
            let seals =
                SealFlag::F_SEAL_SEAL | SealFlag::F_SEAL_SHRINK | SealFlag::F_SEAL_GROW | SealFlag::F_SEAL_WRITE;
            fcntl(&file, FcntlArg::F_ADD_SEALS(seals)).tried("seal the memfd")?;
            exec_fd(file, "execveat of a sealed memfd")
        }
        _ => Err(PayloadError::Usage("exec-memfd NAME SOURCE execveat|proc-fd|sealed".into())),
    }
}

/// Through a clone of its mount that is attached nowhere.
pub(super) fn detached_mount(path: &str) -> Outcome {
    let path = Path::new(path);
    let (Some(dir), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(PayloadError::Usage("exec-detached FILE".into()));
    };
    let mount = sys::clone_mount(&c_string(&dir.to_string_lossy())?).tried("open_tree")?;
    let file = openat(&mount, name, OFlag::O_RDONLY, Mode::empty()).tried("open in the clone")?;
    exec_fd(file, "execveat through a detached mount")
}

/// From a thread that is not the process's first.
pub(super) fn in_thread(path: &str) -> Outcome {
    let path = c_string(path)?;
    let thread = std::thread::spawn(move || {
        let arguments: [&CStr; 1] = [c"x"];
        let environment: [&CStr; 0] = [];
        never(execveat(AT_FDCWD, &path, &arguments, &environment, AtFlags::empty()), "execve in a thread")
    });
    thread.join().map_err(|_| PayloadError::Unexpected("the thread panicked".into()))?
}

/// By `posix_spawn`, which is a vfork inside.
pub(super) fn spawn(path: &str) -> Outcome {
    finish(Command::new(path), "posix_spawn")
}

/// By fork and exec.
pub(super) fn fork_exec(path: &str) -> Outcome {
    let mut command = Command::new(path);
    sys::forking(&mut command);
    finish(command, "exec after fork")
}

fn finish(mut command: Command, what: &str) -> Outcome {
    let status = command.status().tried(what)?;
    if status.success() {
        return Ok(());
    }
    Err(PayloadError::Unexpected(format!("{what}: {status}")))
}
