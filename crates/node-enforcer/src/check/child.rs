//! The other half of the self-test: makes itself the scratch container.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, BufRead, Seek, SeekFrom, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::Signal;
use nix::unistd::{chdir, chroot};

use super::{SelfTest, program};
use crate::containers::identity_of;

/// Joins the cgroup, mounts the overlay, says which root it has, waits for a line, and tries. `killed`: what drifted is not refused, but
/// must not run either.
///
/// # Errors
/// When a step fails; the parent says so.
pub fn run(cgroup: &Path, folder: &Path, killed: bool) -> io::Result<()> {
    set_pdeathsig(Signal::SIGKILL)?;
    fs::write(cgroup.join("cgroup.procs"), std::process::id().to_string())?;
    unshare(CloneFlags::CLONE_NEWNS)?;
    mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>)?;
    mount(Some("tmpfs"), folder, Some("tmpfs"), MsFlags::empty(), None::<&str>)?;
    let [lower, upper, work, root] = ["lower", "upper", "work", "root"].map(|name| folder.join(name));
    for path in [&lower, &upper, &work, &root] {
        fs::create_dir(path)?;
    }
    for name in ["image", "chmod", "written", "open"] {
        let path = lower.join(name);
        fs::write(&path, program::ends_at_once())?;
        fs::set_permissions(&path, Permissions::from_mode(0o755))?;
    }
    let options = format!("lowerdir={},upperdir={},workdir={}", lower.display(), upper.display(), work.display());
    mount(Some("overlay"), &root, Some("overlay"), MsFlags::empty(), Some(options.as_str()))?;
    let identity = identity_of(&root).map_err(io::Error::other)?;
    let layers = File::open(folder)?;
    say(&((identity.dev, identity.ino), layers.as_raw_fd()))?;
    chroot(&root)?;
    chdir("/")?;
    io::stdin().lock().read_line(&mut String::new())?;
    fs::copy("/image", "/dropped")?;
    fs::set_permissions("/chmod", Permissions::from_mode(0o700))?;
    write_in_place("/written")?;
    let is_stopped = if killed { is_killed } else { is_refused };
    say(&SelfTest {
        image_binary_runs: runs("/image"),
        killed,
        dropped_binary_refused: is_stopped("/dropped"),
        metadata_change_allowed: runs("/chmod"),
        modified_binary_refused: is_stopped("/written"),
        writers_shut_out: is_busy_while_open("/open")?,
    })
}

fn say(value: &impl serde::Serialize) -> io::Result<()> {
    let mut out = io::stdout().lock();
    serde_json::to_writer(&mut out, value)?;
    out.write_all(b"\n")?;
    out.flush()
}

/// The same bytes again: what counts is that it was written.
fn write_in_place(path: &str) -> io::Result<()> {
    let mut file: File = OpenOptions::new().append(true).open(path)?;
    file.seek(SeekFrom::End(0))?;
    file.write_all(b"\n")
}

// The scratch root has no /dev/null, which is what standard input would be by default.
fn execute(path: &str) -> io::Result<Output> {
    Command::new(path).stdin(Stdio::inherit()).stderr(Stdio::inherit()).output()
}

fn runs(path: &str) -> bool {
    execute(path).is_ok_and(|it| it.status.code() == Some(program::STATUS.into()) && it.stdout == program::SAID)
}

/// A program that somebody has open for writing must not start, nor be opened for writing once it has: else what was judged is not
/// what runs. Linux 6.11.0 to 6.11.10 and 6.12.0 to 6.12.1 allow it.
fn is_busy_while_open(path: &str) -> io::Result<bool> {
    let _writer = OpenOptions::new().append(true).open(path)?;
    Ok(execute(path).is_err_and(|error| error.kind() == io::ErrorKind::ExecutableFileBusy))
}

/// The first thing that the program does is to write.
fn is_killed(path: &str) -> bool {
    execute(path).is_ok_and(|it| it.status.signal() == Some(Signal::SIGKILL as i32) && it.stdout.is_empty())
}

fn is_refused(path: &str) -> bool {
    execute(path).is_err_and(|error| error.kind() == io::ErrorKind::PermissionDenied)
}
