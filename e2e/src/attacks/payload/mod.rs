//! The program `/usr/bin/probe` of the test images: an image binary that performs, from inside a container, what a shell cannot.
//!
//! It is this package's `guest` binary under another name, so that nothing has to be compiled in a guest.

mod execute;
mod loops;
mod map;
mod measure;
mod namespaces;
pub(crate) mod serve;
mod sys;
mod write;

use std::ffi::OsString;
use std::io;

/// What a payload could not do, and the system's word for it.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PayloadError {
    /// A system call was refused or failed.
    #[error("probe: {what}: {cause}")]
    Failed {
        what: String,
        #[source]
        cause: io::Error,
    },
    /// The command line is not one of a payload.
    #[error("probe: usage: {0}")]
    Usage(String),
    /// Something is not as the payload expected.
    #[error("probe: {0}")]
    Unexpected(String),
}

type Outcome = Result<(), PayloadError>;

/// Attaches what was tried to a failed system call.
trait Tried<T> {
    fn tried(self, what: impl Into<String>) -> Result<T, PayloadError>;
}

impl<T, E: Into<io::Error>> Tried<T> for Result<T, E> {
    fn tried(self, what: impl Into<String>) -> Result<T, PayloadError> {
        self.map_err(|cause| PayloadError::Failed { what: what.into(), cause: cause.into() })
    }
}

/// Whether this process was started as the probe, by its name.
#[must_use]
pub fn is_probe(argv0: Option<&OsString>) -> bool {
    argv0.map(std::path::Path::new).and_then(|path| path.file_name()).is_some_and(|name| name == "probe")
}

/// Runs one payload; `arguments` begin with its name. Returns the exit status (126 when it was refused something).
pub fn main(arguments: &[OsString]) -> u8 {
    let words: Vec<String> = arguments.iter().map(|word| word.to_string_lossy().into_owned()).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match dispatch(&words) {
        Ok(()) => 0,
        Err(error) => {
            eprintln!("{error}");
            126
        }
    }
}

fn dispatch(words: &[&str]) -> Outcome {
    match words {
        ["ok"] => {
            println!("{}", super::TOKEN);
            Ok(())
        }
        ["serve"] => serve::serve(),
        ["exec-at-dir", path] => execute::at_directory(path),
        ["exec-empty-path", path] => execute::empty_path(path),
        ["exec-proc-fd", path] => execute::proc_fd(path, false),
        ["exec-opath-fd", path] => execute::proc_fd(path, true),
        ["exec-unlinked", path] => execute::unlinked(path),
        ["exec-otmpfile", dir, source] => execute::nameless(dir, source),
        ["exec-memfd", name, source, how] => execute::memfd(name, source, how),
        ["exec-detached", path] => execute::detached_mount(path),
        ["exec-in-thread", path] => execute::in_thread(path),
        ["spawn", path] => execute::spawn(path),
        ["fork-exec", path] => execute::fork_exec(path),
        ["as-program", program, command @ ..] => execute::as_program(program, command),
        ["as-uid", uid, command @ ..] => namespaces::as_uid(uid, command),
        ["in-cgroup", name, command @ ..] => namespaces::in_cgroup(name, command),
        ["in-deep-folder", command @ ..] => namespaces::in_deep_folder(command),
        ["unshare", flags, command @ ..] => namespaces::unshare(flags, command),
        ["mmap-exec", path] => map::executable(path),
        ["mmap-shared-exec", path] => map::shared_executable(path),
        ["mmap-by-personality", path] => map::by_personality(path),
        ["mprotect-exec", path] => map::protect_later(path),
        ["map-after-failed-exec", path, source] => map::after_failed_exec(path, source),
        ["memfd-map", source] => map::memfd(source),
        ["shmat-exec"] => map::shared_memory(),
        ["memfd-exec", name, pages, how] => map::named_memfd(name, pages, how),
        ["anonymous-exec"] => map::anonymous(),
        ["shared-anonymous-exec"] => map::shared_anonymous(),
        ["huge-anonymous-exec"] => map::huge_anonymous(),
        ["exec-memory", kind, source] => map::execute_memory(kind, source),
        ["load-memory", kind, source, loader, argument] => map::load_memory(kind, source, loader, argument),
        ["mmap-write", path] => write::through_map(path),
        ["map-write-late", path, seconds] => write::through_late_map(path, seconds),
        ["write-after-chmod", path] => write::after_chmod(path),
        ["truncate-path", path, size] => write::truncate_path(path, size),
        ["open-touch", path] => write::open_touch(path),
        ["utimes", path] => write::set_times(path),
        ["setxattr", path] => write::set_attribute(path),
        ["setfacl", path] => write::set_access_list(path),
        ["chattr", path] => write::set_flag(path),
        ["flood", times, path] => loops::flood(times, path),
        ["flood-folder", files, folder] => loops::flood_folder(files, folder),
        ["oracle", dropped, image, stop] => {
            loops::oracle(dropped, image, stop);
            Ok(())
        }
        ["timed-oracle", dropped, image, stop] => {
            loops::timed_oracle(dropped, image, stop);
            Ok(())
        }
        ["measure", what, path, samples] => measure::measure(what, path, samples),
        ["try-every", millis, times, path] => loops::try_every(millis, times, path),
        _ => Err(PayloadError::Usage(words.join(" "))),
    }
}
