//! The documents of a file as plain values.

use std::cell::RefCell;
use std::ffi::OsStr;
use std::path::Path;

use mooring_crd::FieldError;
use serde::de::DeserializeSeed;
use serde_json::Value;
use serde_saphyr::options::DuplicateKeyPolicy;
use serde_saphyr::{DefaultMessageFormatter, MessageFormatter, Options};

use super::LoadError;
use super::strict::Strict;

/// A policy as long as the API lets it be has some thousand nodes.
const NODES_MAX: usize = 20_000;
/// The API's deepest field lies at seven.
const DEPTH_MAX: usize = 32;

/// Parses a file's documents, empty ones left out; each with its number, from 1, or what is wrong with it.
pub(crate) fn parse<'a>(
    file: &'a Path,
    text: &'a str,
) -> impl Iterator<Item = Result<(usize, Value), Vec<LoadError>>> + 'a {
    let is_json = file.extension() == Some(OsStr::new("json"));
    let documents = if is_json { vec![Document { number: 1, line: 1, text }] } else { split(text) };
    documents.into_iter().filter_map(move |document| {
        let duplicate = RefCell::new(None);
        let parsed = if is_json { json(document.text, &duplicate) } else { yaml(&document, &duplicate) };
        match parsed {
            Ok(Value::Null) => None,
            Ok(value) => Some(Ok((document.number, value))),
            Err(error) => {
                let error = duplicate.into_inner().unwrap_or(error);
                Some(Err(vec![LoadError {
                    document: Some(document.number),
                    field: error.field,
                    ..LoadError::of_file(file, &error.message)
                }]))
            }
        }
    })
}

struct Document<'a> {
    number: usize,
    /// The line of the file that it begins at, from 1.
    line: usize,
    text: &'a str,
}

/// Splits at the lines that begin with `---`: YAML allows them nowhere else, block scalars included. So one broken
/// document hides none of the others, and each keeps its number.
fn split(text: &str) -> Vec<Document<'_>> {
    let mut starts = vec![(0, 1)];
    let mut offset = 0;
    for (index, line) in text.split_inclusive('\n').enumerate() {
        let is_marker =
            line.strip_prefix("---").is_some_and(|rest| rest.is_empty() || rest.starts_with([' ', '\t', '\n', '\r']));
        if is_marker && offset > 0 {
            starts.push((offset, index + 1));
        }
        offset += line.len();
    }
    let ends = starts.iter().skip(1).map(|(start, _)| *start).chain([text.len()]);
    let mut chunks: Vec<Document<'_>> = starts
        .iter()
        .zip(ends)
        .map(|((start, line), end)| Document {
            number: 0,
            line: *line,
            text: text.get(*start..end).unwrap_or_default(),
        })
        .collect();
    // What stands before the first marker is a document only if it says something; directives belong to the next one.
    let says_nothing = |line: &str| line.trim().is_empty() || line.starts_with(['#', '%']);
    if chunks.len() > 1 && chunks[0].text.lines().all(says_nothing) {
        chunks.remove(0);
    }
    for (index, chunk) in chunks.iter_mut().enumerate() {
        chunk.number = index + 1;
    }
    chunks
}

fn yaml(document: &Document<'_>, duplicate: &RefCell<Option<FieldError>>) -> Result<Value, FieldError> {
    if document.text.lines().all(|line| line.trim().is_empty() || line.starts_with('#')) {
        return Ok(Value::Null);
    }
    let parsed = serde_saphyr::with_deserializer_from_str_with_options(document.text, options(), |deserializer| {
        Strict::new(duplicate).deserialize(deserializer)
    });
    parsed.map_err(|error| {
        let error = error.without_snippet();
        let message = DefaultMessageFormatter.format_message(error).into_owned();
        let place = error.location().map_or_else(String::new, |place| {
            let line = usize::try_from(place.line()).unwrap_or_default() + document.line - 1;
            format!(" at line {line}, column {}", place.column())
        });
        FieldError::new("", format!("is not YAML that can be read{place}: {message}; correct it there"))
    })
}

fn options() -> Options {
    serde_saphyr::options! {
        budget: serde_saphyr::budget! {
            max_depth: DEPTH_MAX,
            max_nodes: NODES_MAX,
            max_events: 4 * NODES_MAX,
            max_aliases: 1000,
            max_anchors: 1000,
            max_documents: 2,
        },
        alias_limits: serde_saphyr::alias_limits! {
            max_total_replayed_events: NODES_MAX,
            max_replay_stack_depth: 16,
        },
        // Found by `Strict`, which knows the field's path.
        duplicate_keys: DuplicateKeyPolicy::PassThrough,
        strict_booleans: true,
        with_snippet: false,
    }
}

fn json(text: &str, duplicate: &RefCell<Option<FieldError>>) -> Result<Value, FieldError> {
    if text.trim().is_empty() {
        return Ok(Value::Null);
    }
    let mut deserializer = serde_json::Deserializer::from_str(text);
    Strict::new(duplicate)
        .deserialize(&mut deserializer)
        .and_then(|value| deserializer.end().map(|()| value))
        .map_err(|error| FieldError::new("", format!("is not JSON that can be read: {error}; correct it there")))
}
