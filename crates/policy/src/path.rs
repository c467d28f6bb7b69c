//! Paths as policies list them.

use std::borrow::Borrow;
use std::fmt;

use mooring_crd::limits::MAX_WILDCARDS;
use serde::{Deserialize, Serialize};

use crate::limits::{MAX_MEMFD_NAME_BYTES, MAX_PATH_BYTES, MIN_PATH_BYTES};

/// What an anonymous file's path begins with.
const MEMFD: &str = "memfd:";

/// A path of a list: absolute and clean, 2 to 255 bytes; or `memfd:NAME`, which only exceptions may be.
///
/// Two of them are equal exactly where the kernel's keys are: byte by byte.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ListPath(Box<str>);

/// Why a text is no path of a list. Says what to write instead.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ListPathError {
    /// Shorter than 2 or longer than 255 bytes.
    #[error("must be 2 to 255 bytes: write the full path, as in /usr/bin/nc")]
    Length,
    /// It does not begin with a slash.
    #[error("must be an absolute path: begin it with '/', as in /usr/bin/nc")]
    Relative,
    /// An empty component, `.`, `..`, or a slash at the end.
    #[error("must be a clean path: leave out '//', '/./', '/../' and a '/' at the end")]
    Unclean,
    /// A NUL byte.
    #[error("must not hold a NUL byte: remove it")]
    Nul,
    /// `memfd:` without a proper name.
    #[error("must name the anonymous file: write memfd:NAME, where NAME is 1 to 249 bytes without '/'")]
    Memfd,
    /// `memfd:NAME` where only a path may be.
    #[error(
        "must be a path: an anonymous file cannot be prohibited by its name, which the program chooses; drifted ones are refused by driftedBinaries"
    )]
    MemfdProhibited,
    /// `memfd:NAME` with a `*`.
    #[error("must name the anonymous file in full: '*' is for paths only")]
    MemfdPattern,
    /// `?` or `[` in a path.
    #[error(
        "must not hold '?' or '[': the only patterns are '*' within a component and '**' for any number of them, as in /usr/bin/python3.*"
    )]
    Reserved,
    /// `**` beside other bytes, or twice in a row.
    #[error(
        "must have '**' as a component by itself, and not twice in a row: write it between slashes or at the end, as in /opt/app/**"
    )]
    Folders,
    /// More wildcards than one pattern may have.
    #[error("must have at most {MAX_WILDCARDS} '*' or '**': write more than one pattern")]
    Wildcards,
}

impl ListPath {
    /// A path that may be excepted: a path, or `memfd:NAME`.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn excepted(text: &str) -> Result<Self, ListPathError> {
        let Some(name) = text.strip_prefix(MEMFD) else {
            return Self::absolute(text);
        };
        if text.contains('\0') {
            return Err(ListPathError::Nul);
        }
        if name.is_empty() || name.len() > MAX_MEMFD_NAME_BYTES || name.contains('/') {
            return Err(ListPathError::Memfd);
        }
        Ok(Self(text.into()))
    }

    /// A path that may be prohibited: a path.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn prohibited(text: &str) -> Result<Self, ListPathError> {
        if text.starts_with(MEMFD) {
            return Err(ListPathError::MemfdProhibited);
        }
        Self::absolute(text)
    }

    fn absolute(text: &str) -> Result<Self, ListPathError> {
        if !(MIN_PATH_BYTES..=MAX_PATH_BYTES).contains(&text.len()) {
            return Err(ListPathError::Length);
        }
        if text.contains('\0') {
            return Err(ListPathError::Nul);
        }
        let components = text.strip_prefix('/').ok_or(ListPathError::Relative)?;
        if components.split('/').any(|c| matches!(c, "" | "." | "..")) {
            return Err(ListPathError::Unclean);
        }
        Ok(Self(text.into()))
    }

    /// The path as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The path as the kernel compares it, without a NUL at the end.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

impl fmt::Display for ListPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

// Texts are ordered by their bytes, so that a map of these can be asked with the bytes that the kernel saw.
impl Borrow<[u8]> for ListPath {
    fn borrow(&self) -> &[u8] {
        self.as_bytes()
    }
}

impl TryFrom<String> for ListPath {
    type Error = ListPathError;
    fn try_from(text: String) -> Result<Self, Self::Error> {
        Self::excepted(&text)
    }
}

impl From<ListPath> for String {
    fn from(path: ListPath) -> Self {
        path.0.into()
    }
}
