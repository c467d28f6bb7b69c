//! Patterns of paths: `*` for any bytes within one component, `**` for any number of components.

use std::fmt;

use mooring_crd::limits::MAX_WILDCARDS;

use crate::path::{ListPath, ListPathError};

/// A pattern of a list: an absolute, clean path in which `*` stands for any bytes but `/`, and `**`, which is a component by itself,
/// for any number of components: none or more before another one, one or more at the end. Every other byte stands for itself.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Pattern(ListPath);

/// A piece of a pattern.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Token {
    /// This byte.
    Byte(u8),
    /// Any bytes but `/`.
    Star,
    /// Any number of whole components, each with the slash behind it.
    Folders,
    /// Any bytes, up to the end.
    Below,
}

/// An entry of a list.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ListEntry {
    /// One path.
    Path(ListPath),
    /// Many.
    Pattern(Pattern),
}

impl ListEntry {
    /// An entry that may be excepted: a path, a pattern, or `memfd:NAME`.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn excepted(text: &str) -> Result<Self, ListPathError> {
        Self::of(text, ListPath::excepted(text)?)
    }

    /// An entry that may be prohibited, or name a program: a path or a pattern.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn prohibited(text: &str) -> Result<Self, ListPathError> {
        Self::of(text, ListPath::prohibited(text)?)
    }

    fn of(text: &str, path: ListPath) -> Result<Self, ListPathError> {
        if !text.starts_with('/') {
            return if text.contains('*') { Err(ListPathError::MemfdPattern) } else { Ok(Self::Path(path)) };
        }
        let components = || text.split('/');
        // "[" and "[[" are programs.
        if components().any(|it| it.contains('?') || (it.contains('[') && !matches!(it, "[" | "[["))) {
            return Err(ListPathError::Reserved);
        }
        let doubled = |it: &str| it.contains("**") && it != "**";
        if components().any(doubled) || components().zip(components().skip(1)).any(|pair| pair == ("**", "**")) {
            return Err(ListPathError::Folders);
        }
        match components().map(|it| if it == "**" { 1 } else { it.matches('*').count() }).sum() {
            0_usize => Ok(Self::Path(path)),
            1..=MAX_WILDCARDS => Ok(Self::Pattern(Pattern(path))),
            _ => Err(ListPathError::Wildcards),
        }
    }
}

impl Pattern {
    /// The pattern as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }

    /// Its pieces.
    pub(crate) fn tokens(&self) -> Vec<Token> {
        let mut tokens = Vec::new();
        let mut components = self.as_str().split('/').skip(1).peekable();
        while let Some(component) = components.next() {
            // The slash behind the folders is theirs.
            if tokens.last() != Some(&Token::Folders) {
                tokens.push(Token::Byte(b'/'));
            }
            match (component, components.peek()) {
                ("**", Some(_)) => tokens.push(Token::Folders),
                ("**", None) => tokens.push(Token::Below),
                _ => tokens.extend(component.bytes().map(|byte| match byte {
                    b'*' => Token::Star,
                    other => Token::Byte(other),
                })),
            }
        }
        tokens
    }

    /// Whether a path is one of those that are meant. The kernel asks a table that is made of all patterns, and must say the same;
    /// this takes its time.
    #[must_use]
    pub fn matches(&self, path: &[u8]) -> bool {
        let text = self.as_str().as_bytes();
        let components = |of: &[u8]| of.split(|byte| *byte == b'/').skip(1).map(<[u8]>::to_vec).collect::<Vec<_>>();
        path.starts_with(b"/") && components_match(&components(text), &components(path))
    }
}

fn components_match(pattern: &[Vec<u8>], path: &[Vec<u8>]) -> bool {
    match pattern.split_first() {
        None => path.is_empty(),
        // At the end at least one.
        Some((first, [])) if first == b"**" => !path.is_empty(),
        Some((first, rest)) if first == b"**" => {
            (0..=path.len()).any(|skipped| path.get(skipped..).is_some_and(|left| components_match(rest, left)))
        }
        Some((first, rest)) => match path.split_first() {
            Some((component, left)) => component_matches(first, component) && components_match(rest, left),
            None => false,
        },
    }
}

fn component_matches(pattern: &[u8], component: &[u8]) -> bool {
    match pattern.split_first() {
        None => component.is_empty(),
        Some((b'*', rest)) => (0..=component.len())
            .any(|skipped| component.get(skipped..).is_some_and(|left| component_matches(rest, left))),
        Some((byte, rest)) => {
            component.split_first().is_some_and(|(first, left)| first == byte && component_matches(rest, left))
        }
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
