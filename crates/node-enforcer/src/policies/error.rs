//! What is wrong with a set of policies.

use std::fmt;
use std::path::{Path, PathBuf};

/// More errors than this help no one; the rest is counted.
const ERRORS_MAX: usize = 64;

/// One thing that is wrong, where, and what to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoadError {
    /// The file or folder.
    pub file: PathBuf,
    /// Which of the file's documents, from 1; None for the file as a whole.
    pub document: Option<usize>,
    /// The field's path, as in `spec.detect.exceptions[0].path`; empty where it is no field's.
    pub field: String,
    /// What is wrong and what to write instead.
    pub message: String,
}

impl LoadError {
    pub(super) fn of_file(file: &Path, message: &str) -> Self {
        Self { file: file.to_owned(), document: None, field: String::new(), message: message.to_owned() }
    }
}

/// One line: control characters in file names, fields and quoted values are escaped.
impl fmt::Display for LoadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", OneLine(&self.file.to_string_lossy()))?;
        if let Some(document) = self.document {
            write!(f, "document {document}: ")?;
        }
        if !self.field.is_empty() {
            write!(f, "{}: ", OneLine(&self.field))?;
        }
        write!(f, "{}", OneLine(&self.message))
    }
}

impl std::error::Error for LoadError {}

struct OneLine<'a>(&'a str);

impl fmt::Display for OneLine<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        crate::report::write_escaped(f, self.0.as_bytes())
    }
}

/// All that is wrong with a set, at least one thing where it is returned as an error. Displayed as one line, the errors
/// separated by `; `.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LoadErrors {
    errors: Vec<LoadError>,
    more: usize,
}

impl LoadErrors {
    /// The errors, at most 64, in the order of files and documents.
    #[must_use]
    pub fn errors(&self) -> &[LoadError] {
        &self.errors
    }

    /// How many more there are.
    #[must_use]
    pub fn more(&self) -> usize {
        self.more
    }

    pub(super) fn add(&mut self, error: LoadError) {
        if self.errors.len() < ERRORS_MAX {
            self.errors.push(error);
        } else {
            self.more += 1;
        }
    }

    /// Notes an error in place of something there is none of.
    pub(super) fn none<T: Default>(&mut self, error: LoadError) -> T {
        self.add(error);
        T::default()
    }

    pub(super) fn or<T>(self, value: T) -> Result<T, Self> {
        if self.errors.is_empty() { Ok(value) } else { Err(self) }
    }
}

impl fmt::Display for LoadErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, error) in self.errors.iter().enumerate() {
            write!(f, "{}{error}", if index == 0 { "" } else { "; " })?;
        }
        if self.more > 0 {
            write!(f, "; and {} more", self.more)?;
        }
        Ok(())
    }
}

impl std::error::Error for LoadErrors {}
