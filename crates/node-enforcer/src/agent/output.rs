//! Events on standard output.

use std::io::{self, Write};

use clap::ValueEnum;
use mooring_crd::DriftEvent;

use crate::report::{write_json, write_text, write_yaml};

/// How events are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people.
    Text,
    /// One object a line.
    Json,
    /// One document an object.
    Yaml,
}

/// Prints events at once: whoever reads the other end must not wait for a full buffer.
///
/// # Errors
/// When standard output is closed.
pub(super) fn print(events: &[DriftEvent], format: Format) -> io::Result<()> {
    if events.is_empty() {
        return Ok(());
    }
    let mut out = io::stdout().lock();
    for event in events {
        match format {
            Format::Text => write_text(&mut out, event)?,
            Format::Json => write_json(&mut out, event)?,
            Format::Yaml => write_yaml(&mut out, event)?,
        }
    }
    out.flush()
}
