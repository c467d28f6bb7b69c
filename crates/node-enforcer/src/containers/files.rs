//! Bounded reading of files that somebody else may be writing, replacing or abusing.

use std::fs::{File, OpenOptions};
use std::io::{self, BufReader, Read};
use std::marker::PhantomData;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use nix::libc;
use serde::de::{DeserializeOwned, DeserializeSeed};

use super::ContainerError;

/// Enough for a bundle with thousands of mounts and variables.
pub(super) const CONFIG_LIMIT: u64 = 16 << 20;
/// Small files of runtimes: pids, states of crun.
pub(super) const SMALL_LIMIT: u64 = 1 << 20;

/// Whether the file (or a folder on its way) does not exist.
pub(super) fn is_absent(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
        // The process of a `/proc` file ended while it was read.
        || error.raw_os_error() == Some(libc::ESRCH)
}

fn unreadable(path: &Path, source: io::Error) -> ContainerError {
    ContainerError::Unreadable { path: path.to_owned(), source }
}

/// Opens a regular file; None where it does not exist. A FIFO or a device neither blocks nor is read.
pub(super) fn open(path: &Path) -> Result<Option<File>, ContainerError> {
    let file = match OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY).open(path) {
        Ok(file) => file,
        Err(error) if is_absent(&error) => return Ok(None),
        Err(error) => return Err(unreadable(path, error)),
    };
    let kind = file.metadata().map_err(|error| unreadable(path, error))?;
    if !kind.is_file() {
        return Err(ContainerError::Malformed { path: path.to_owned(), reason: "it is not a regular file".to_owned() });
    }
    Ok(Some(file))
}

/// Reads at most `limit` bytes; None where the file does not exist.
pub(super) fn read(path: &Path, limit: u64) -> Result<Option<Vec<u8>>, ContainerError> {
    let Some(file) = open(path)? else {
        return Ok(None);
    };
    let mut bytes = Vec::new();
    match file.take(limit + 1).read_to_end(&mut bytes) {
        Ok(_) if bytes.len() as u64 > limit => Err(ContainerError::TooLarge { path: path.to_owned(), limit }),
        Ok(_) => Ok(Some(bytes)),
        Err(error) if is_absent(&error) => Ok(None),
        Err(error) => Err(unreadable(path, error)),
    }
}

/// Parses a JSON file as it is read; None where it does not exist. What ends too early is [`ContainerError::Transient`].
pub(super) fn read_json<T: DeserializeOwned>(path: &Path, limit: u64) -> Result<Option<T>, ContainerError> {
    read_json_seed(path, limit, PhantomData::<T>)
}

/// As [`read_json`], into a seed.
pub(super) fn read_json_seed<V, S>(path: &Path, limit: u64, seed: S) -> Result<Option<V>, ContainerError>
where
    S: for<'de> DeserializeSeed<'de, Value = V>,
{
    let Some(file) = open(path)? else {
        return Ok(None);
    };
    let mut reader = BufReader::with_capacity(16 << 10, file.take(limit + 1));
    let mut json = serde_json::Deserializer::from_reader(&mut reader);
    let parsed = seed.deserialize(&mut json).and_then(|value| json.end().map(|()| value));
    if reader.get_ref().limit() == 0 {
        return Err(ContainerError::TooLarge { path: path.to_owned(), limit });
    }
    match parsed {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.is_eof() => {
            Err(ContainerError::Transient { path: path.to_owned(), reason: "the JSON ends early".to_owned() })
        }
        Err(error) if error.is_io() => Err(unreadable(path, error.into())),
        Err(error) => Err(ContainerError::Malformed {
            path: path.to_owned(),
            // It quotes and escapes what it cites.
            reason: error.to_string(),
        }),
    }
}
