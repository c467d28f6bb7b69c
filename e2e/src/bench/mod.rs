//! What `make bench` makes of the numbers that guests measured: bounds, and a table of how they are kept. Pure but for the files.

mod bounds;
mod document;

pub use bounds::{Judged, judge, judge_agent, judge_native, judge_operator, judge_responses};
pub use document::{document, table};

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// What was measured in one place, by name.
#[derive(Debug, Clone, Default, serde::Deserialize)]
pub struct Numbers {
    /// The kernel's release, where that counts.
    #[serde(default)]
    pub kernel: String,
    /// Instructions, milliseconds, KiB: the name says of what.
    pub numbers: BTreeMap<String, f64>,
}

/// Why there is no table.
#[derive(Debug, thiserror::Error)]
pub enum BenchError {
    /// A file of results cannot be read.
    #[error("{path}: {source}", path = path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// It is not what a guest writes.
    #[error("{path}: {source}", path = path.display())]
    Json {
        /// Which.
        path: PathBuf,
        /// Why.
        source: serde_json::Error,
    },
    /// A bound has nothing to be compared with.
    #[error("{0:?} was not measured")]
    Missing(String),
}

impl Numbers {
    /// Reads what a guest wrote.
    ///
    /// # Errors
    /// If the file cannot be read or is something else.
    pub fn read(path: &Path) -> Result<Numbers, BenchError> {
        let text =
            std::fs::read_to_string(path).map_err(|source| BenchError::File { path: path.to_owned(), source })?;
        serde_json::from_str(&text).map_err(|source| BenchError::Json { path: path.to_owned(), source })
    }

    fn get(&self, name: &str) -> Result<f64, BenchError> {
        self.numbers.get(name).copied().ok_or_else(|| BenchError::Missing(name.to_owned()))
    }
}
