//! The other half of the self-test: makes itself the scratch container.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, BufRead, Seek, SeekFrom, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::Signal;
use nix::unistd::{chdir, chroot};

use super::SelfTest;
use crate::containers::identity_of;

/// What a program of the self-test prints, and nothing else does.
pub const TOKEN: &str = "mooring-self-test-token";

/// Joins the cgroup, mounts the overlay, says which root it has, waits for a line, and tries.
///
/// # Errors
/// When a step fails; the parent says so.
pub fn run(cgroup: &Path, folder: &Path) -> io::Result<()> {
    set_pdeathsig(Signal::SIGKILL)?;
    fs::write(cgroup.join("cgroup.procs"), std::process::id().to_string())?;
    unshare(CloneFlags::CLONE_NEWNS)?;
    mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>)?;
    mount(Some("tmpfs"), folder, Some("tmpfs"), MsFlags::empty(), None::<&str>)?;
    let [lower, upper, work, root] = ["lower", "upper", "work", "root"].map(|name| folder.join(name));
    for path in [&lower, &upper, &work, &root] {
        fs::create_dir(path)?;
    }
    for program in ["image", "chmod", "written", "open"] {
        fs::copy("/proc/self/exe", lower.join(program))?;
    }
    let options = format!("lowerdir={},upperdir={},workdir={}", lower.display(), upper.display(), work.display());
    mount(Some("overlay"), &root, Some("overlay"), MsFlags::empty(), Some(options.as_str()))?;
    let identity = identity_of(&root).map_err(io::Error::other)?;
    say(&(identity.dev, identity.ino))?;
    chroot(&root)?;
    chdir("/")?;
    io::stdin().lock().read_line(&mut String::new())?;
    fs::copy("/image", "/dropped")?;
    fs::set_permissions("/chmod", Permissions::from_mode(0o700))?;
    write_in_place("/written")?;
    say(&SelfTest {
        image_binary_runs: runs("/image"),
        dropped_binary_refused: is_refused("/dropped"),
        metadata_change_allowed: runs("/chmod"),
        modified_binary_refused: is_refused("/written"),
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
fn runs(program: &str) -> bool {
    Command::new(program)
        .arg("self-test-token")
        .stdin(Stdio::inherit())
        .output()
        .is_ok_and(|output| output.status.success() && output.stdout.starts_with(TOKEN.as_bytes()))
}

/// A program that somebody has open for writing must not start, nor be opened for writing once it has: else what was judged is not
/// what runs. Linux 6.11.0 to 6.11.10 and 6.12.0 to 6.12.1 allow it.
fn is_busy_while_open(program: &str) -> io::Result<bool> {
    let _writer = OpenOptions::new().append(true).open(program)?;
    let result = Command::new(program).arg("self-test-token").stdin(Stdio::inherit()).output();
    Ok(result.is_err_and(|error| error.kind() == io::ErrorKind::ExecutableFileBusy))
}

fn is_refused(program: &str) -> bool {
    let result = Command::new(program).arg("self-test-token").stdin(Stdio::inherit()).output();
    result.is_err_and(|error| error.kind() == io::ErrorKind::PermissionDenied)
}
