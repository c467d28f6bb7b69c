//! Text that a workload chose, in an object that people and programs read.
//!
//! `kubectl` prints most of it as it is, and cannot print a list as YAML at all once one of its objects holds certain control
//! characters: a file's name must not be able to hide the events of a namespace.

use std::fmt::Write as _;

/// Whether a character must not reach a terminal or a line of a log as it is: control characters (C1 included), those that
/// end lines, those that are invisible, those that change the direction of text, and those that are none.
#[must_use]
pub fn is_unsafe(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{3164}' | '\u{feff}' | '\u{ffa0}' | '\u{fff9}'..='\u{fffb}'
            | '\u{fffe}' | '\u{ffff}' | '\u{e0000}'..='\u{e0fff}')
}

/// The same as a regular expression in a CEL string; a test compares the two.
pub(crate) const UNSAFE: &str = r"[\\x00-\\x1f\\x7f-\\x{9f}\\x{ad}\\x{61c}\\x{180e}\\x{200b}-\\x{200f}\\x{2028}-\\x{202e}\\x{2060}-\\x{206f}\\x{3164}\\x{feff}\\x{ffa0}\\x{fff9}-\\x{fffb}\\x{fffe}\\x{ffff}\\x{e0000}-\\x{e0fff}]";

/// Writes everything unsafe as `\n`, `\r`, `\t` or `\u{1b}`, and cuts at a character what is then longer than `most`.
pub(crate) fn make_printable(text: &mut String, most: u64) {
    if text.contains(is_unsafe) {
        let mut escaped = String::with_capacity(text.len() + 16);
        for c in text.chars() {
            match c {
                '\n' | '\r' | '\t' => escaped.extend(c.escape_default()),
                c if is_unsafe(c) => {
                    // Writing to a String cannot fail.
                    let _ = write!(escaped, "\\u{{{:x}}}", u32::from(c));
                }
                c => escaped.push(c),
            }
        }
        *text = escaped;
    }
    let most = usize::try_from(most).unwrap_or(usize::MAX);
    if let Some((end, _)) = text.char_indices().nth(most) {
        text.truncate(end);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_expression_is_the_function() {
        let expression = regex_lite::Regex::new(&UNSAFE.replace(r"\\", r"\")).unwrap();
        for c in '\0'..=char::MAX {
            assert_eq!(expression.is_match(c.encode_utf8(&mut [0; 4])), is_unsafe(c), "{:x}", u32::from(c));
        }
    }

    #[test]
    fn what_is_unsafe_is_written_and_what_is_long_is_cut() {
        for (text, most, expected) in [
            ("/tmp/x y é\\", 20, "/tmp/x y é\\"),
            ("/a\n\t\r\0\u{1b}[2J\u{202e}", 99, "/a\\n\\t\\r\\u{0}\\u{1b}[2J\\u{202e}"),
            ("/a\n\n", 5, "/a\\n\\"),
            ("éé", 1, "é"),
        ] {
            let mut printable = text.to_owned();
            make_printable(&mut printable, most);
            assert_eq!(printable, expected);
        }
    }
}
