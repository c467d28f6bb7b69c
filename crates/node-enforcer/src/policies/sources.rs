//! Which files hold policies, and their text.

use std::ffi::OsStr;
use std::fs::{self, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use nix::libc;

use super::LoadError;

/// Bytes of one file.
pub const FILE_BYTES_MAX: u64 = 1 << 20;
/// Bytes of all files of a folder.
pub const TOTAL_BYTES_MAX: u64 = 8 << 20;
/// Files of a folder.
pub const FILES_MAX: usize = 1024;

/// The files that a path stands for.
#[derive(Debug, Default)]
pub(super) struct Sources {
    pub(super) is_folder: bool,
    /// Sorted by name.
    pub(super) files: Vec<PathBuf>,
}

/// Whether a folder's entry is one of its policies.
pub(super) fn is_policy_name(name: &OsStr) -> bool {
    let Some(name) = name.to_str() else {
        return false;
    };
    let extension = Path::new(name).extension().and_then(OsStr::to_str);
    !name.starts_with('.') && matches!(extension, Some("yaml" | "yml" | "json"))
}

/// The files that `path` stands for: itself, or a folder's policies.
pub(super) fn find(path: &Path) -> Result<Sources, LoadError> {
    let kind = fs::metadata(path).map_err(|error| system(path, &error))?;
    if !kind.is_dir() {
        return Ok(Sources { is_folder: false, files: vec![path.to_owned()] });
    }
    let mut files = Vec::new();
    for entry in fs::read_dir(path).map_err(|error| system(path, &error))? {
        let entry = entry.map_err(|error| system(path, &error))?;
        if is_policy_name(&entry.file_name()) {
            files.push(entry.path());
        }
        if files.len() > FILES_MAX {
            let message =
                format!("the folder holds more than {FILES_MAX} policy files: a node takes 64 policies; remove some");
            return Err(LoadError::of_file(path, &message));
        }
    }
    files.sort_unstable();
    Ok(Sources { is_folder: true, files })
}

/// A file's text, if it is a regular file of UTF-8 within the limits. Nothing else is opened for long: a FIFO without a writer
/// would hang, a device never ends.
pub(super) fn read_text(path: &Path, budget: &mut u64) -> Result<String, LoadError> {
    let error = |error: &io::Error| system(path, error);
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY)
        .open(path)
        .map_err(|e| error(&e))?;
    let kind = file.metadata().map_err(|e| error(&e))?;
    if !kind.is_file() {
        let what = if kind.is_dir() { "a folder" } else { "a device, pipe or socket" };
        return Err(LoadError::of_file(
            path,
            &format!("is {what}, not a file: put a regular file there, or name another"),
        ));
    }
    check_length(path, kind.len(), *budget)?;
    let mut bytes = Vec::with_capacity(usize::try_from(kind.len()).unwrap_or_default());
    // It may grow while it is read.
    file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(|e| error(&e))?;
    check_length(path, bytes.len() as u64, *budget)?;
    *budget -= bytes.len() as u64;
    let text = String::from_utf8(bytes).map_err(|error| {
        let offset = error.utf8_error().valid_up_to();
        LoadError::of_file(path, &format!("is not UTF-8 from byte {offset} on: save the file as UTF-8"))
    })?;
    Ok(match text.strip_prefix('\u{feff}') {
        Some(rest) => rest.to_owned(),
        None => text,
    })
}

fn check_length(path: &Path, length: u64, budget: u64) -> Result<(), LoadError> {
    let message = if length > FILE_BYTES_MAX {
        format!(
            "is {length} bytes long, and a policy file may have {FILE_BYTES_MAX}: split it, or remove what is no policy"
        )
    } else if length > budget {
        format!("brings the folder's policy files to more than {TOTAL_BYTES_MAX} bytes: remove some")
    } else {
        return Ok(());
    };
    Err(LoadError::of_file(path, &message))
}

/// The system's answer with what to do about it.
fn system(path: &Path, error: &io::Error) -> LoadError {
    let fix = match error.kind() {
        io::ErrorKind::NotFound if path.symlink_metadata().is_ok() => {
            return LoadError::of_file(path, "is a link to a file that does not exist: repair the link, or remove it");
        }
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => "create it, or give --policies another path",
        io::ErrorKind::PermissionDenied => "give the enforcer's user the right to read it",
        _ => "repair the link or the filesystem, or give --policies another path",
    };
    LoadError::of_file(path, &format!("cannot be read ({error}): {fix}"))
}
