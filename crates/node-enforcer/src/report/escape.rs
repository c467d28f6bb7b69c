//! Untrusted text on its way to a terminal or a log.
//!
//! A workload chooses file names and arguments. None of them may end a line, move a cursor, reverse what a person reads,
//! or look like another field; and what they were must stay readable.

use std::fmt::{self, Write as _};
use std::io;

use mooring_crd::text::is_unsafe;
use serde::Serialize;
use serde_json::ser::{CompactFormatter, Formatter};

/// Writes text with everything unsafe escaped: `\n`, `\t`, `\u{202e}`, and `\xff` for a byte that is no character.
///
/// # Errors
/// Those of the writer.
pub fn write_escaped(f: &mut fmt::Formatter<'_>, bytes: &[u8]) -> fmt::Result {
    escape_with(f, bytes, |_| false)
}

fn escape_with(f: &mut fmt::Formatter<'_>, bytes: &[u8], also: impl Fn(char) -> bool) -> fmt::Result {
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            match c {
                '\n' | '\r' | '\t' | '\0' => write!(f, "{}", c.escape_default())?,
                c if is_unsafe(c) => write!(f, "\\u{{{:x}}}", u32::from(c))?,
                c if also(c) => write!(f, "\\{c}")?,
                c => f.write_char(c)?,
            }
        }
        for byte in chunk.invalid() {
            write!(f, "\\x{byte:02x}")?;
        }
    }
    Ok(())
}

/// One field of a line for people: bare where nothing in it can be taken for something else, else in double quotes with every
/// quote and backslash escaped, so that it can be read back.
pub struct Quoted<'a>(pub &'a [u8]);

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let is_plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"/._-+:@%,~#".contains(byte);
        if !self.0.is_empty() && self.0.iter().all(is_plain) {
            return write_escaped(f, self.0);
        }
        f.write_char('"')?;
        escape_with(f, self.0, |c| matches!(c, '"' | '\\'))?;
        f.write_char('"')
    }
}

/// JSON in one line; everything unsafe as `\uXXXX`, so that any parser reads the same text and no terminal is fooled.
///
/// # Errors
/// Those of the writer.
pub fn write_json(out: &mut impl io::Write, value: &impl Serialize) -> io::Result<()> {
    let mut serializer = serde_json::Serializer::with_formatter(&mut *out, SafeStrings);
    value.serialize(&mut serializer)?;
    out.write_all(b"\n")
}

/// `serde_json` escapes what JSON demands; this adds what terminals demand.
struct SafeStrings;

impl Formatter for SafeStrings {
    fn write_string_fragment<W: io::Write + ?Sized>(&mut self, writer: &mut W, fragment: &str) -> io::Result<()> {
        let mut rest = fragment;
        while let Some((at, c)) = rest.char_indices().find(|(_, c)| is_unsafe(*c)) {
            CompactFormatter.write_string_fragment(writer, rest.get(..at).unwrap_or_default())?;
            for unit in c.encode_utf16(&mut [0; 2]) {
                write!(writer, "\\u{unit:04x}")?;
            }
            rest = rest.get(at + c.len_utf8()..).unwrap_or_default();
        }
        CompactFormatter.write_string_fragment(writer, rest)
    }
}
