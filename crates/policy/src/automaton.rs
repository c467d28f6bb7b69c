//! All patterns of a node as one deterministic automaton, which the kernel walks once for each name.
//!
//! Made by the subset construction: a state is the set of the places in patterns that a path may have come to. What a path costs
//! depends on its length only, however many patterns there are; what it costs is the table, whose size is bounded.

use std::collections::BTreeMap;

use crate::limits::{MAX_PATTERN_BYTES, MAX_PATTERN_PLACES, MAX_PATTERN_STATES};
use crate::pattern::{Pattern, Token};

/// The state from which no pattern can match any more.
pub const DEAD: u16 = 0;
/// The state before the first byte.
pub const START: u16 = 1;

/// The table: what state each byte leads to from each, and the patterns that match what ends there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Automaton {
    /// The class of each byte. Bytes that no pattern tells apart are in one class: 0 is that of those that none names.
    pub classes: Vec<u8>,
    /// By state, then by class: the next state. Row 0 is [`DEAD`], row 1 [`START`].
    pub next: Vec<Vec<u16>>,
    /// By state: the patterns that match there, by their place in the order that they were given in.
    pub matches: Vec<Vec<usize>>,
}

/// The patterns need a larger table than a node has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooLarge;

/// A place in a pattern, the tokens of all of them being behind each other: before a token, or, beside it, amid a component that `**` skips.
type Place = u32;

impl Automaton {
    /// Compiles patterns.
    ///
    /// # Errors
    /// When the table would have more than [`MAX_PATTERN_STATES`] states, patterns name more than [`MAX_PATTERN_BYTES`] different
    /// bytes, or the states were made of so many places that it would take long to find out.
    pub fn of<'a>(patterns: impl IntoIterator<Item = &'a Pattern>) -> Result<Self, TooLarge> {
        build(patterns.into_iter().map(Pattern::tokens).collect())
    }

    /// The state after a path, as the kernel walks it.
    #[must_use]
    pub fn walk(&self, path: &[u8]) -> u16 {
        path.iter().fold(START, |state, byte| {
            let class = self.classes.get(usize::from(*byte)).copied().unwrap_or_default();
            let row = self.next.get(usize::from(state));
            row.and_then(|row| row.get(usize::from(class))).copied().unwrap_or(DEAD)
        })
    }
}

fn build(patterns: Vec<Vec<Token>>) -> Result<Automaton, TooLarge> {
    let mut starts: Vec<Place> = Vec::new();
    let mut tokens: Vec<Option<Token>> = Vec::new();
    let mut ends: Vec<Place> = Vec::new();
    let mut is_named = [false; 256];
    is_named[usize::from(b'/')] = true;
    for pattern in patterns {
        starts.push(place(tokens.len()));
        for token in &pattern {
            if let Token::Byte(byte) = token {
                is_named[usize::from(*byte)] = true;
            }
        }
        // A path that ends there, or amid what `**` at the end stands for, is matched.
        let below = usize::from(pattern.last() == Some(&Token::Below));
        tokens.extend(pattern.into_iter().map(Some));
        ends.push(place(tokens.len() - below));
        tokens.push(None);
    }
    let mut classes = vec![0; 256];
    let mut named = 0;
    for (class, _) in classes.iter_mut().zip(is_named).filter(|(_, is_named)| *is_named) {
        named += 1;
        *class = u8::try_from(named).map_err(|_| TooLarge)?;
    }
    if named > MAX_PATTERN_BYTES {
        return Err(TooLarge);
    }
    let mut building = Building { tokens: &tokens, numbers: BTreeMap::new(), sets: Vec::new(), places: 0 };
    building.number(Vec::new())?;
    // Without patterns it is the dead state, too.
    let start = building.closed(&starts);
    if building.number(start)? == DEAD {
        building.sets.push(Vec::new());
    }
    let mut next = Vec::new();
    while let Some(places) = building.sets.get(next.len()).cloned() {
        let others = building.step(&places, None)?;
        let mut row = vec![others; named + 1];
        // Of the bytes that patterns name, those that matter here.
        let mut matters = [false; 256];
        matters[usize::from(b'/')] = true;
        for place in &places {
            if let Some(Token::Byte(byte)) = building.token(*place) {
                matters[usize::from(byte)] = true;
            }
        }
        for byte in (0..=u8::MAX).filter(|byte| matters[usize::from(*byte)]) {
            row[usize::from(classes[usize::from(byte)])] = building.step(&places, Some(byte))?;
        }
        next.push(row);
    }
    let matching = |places: &Vec<Place>| places.iter().filter_map(|place| ends.binary_search(place).ok()).collect();
    let matches = building.sets.iter().map(matching).collect();
    Ok(Automaton { classes, next, matches })
}

/// Of a token; the other places are [`inside`].
fn place(token: usize) -> Place {
    // Beyond that many there is no table.
    u32::try_from(token).map_or(Place::MAX, |token| token.saturating_mul(2))
}

const fn inside(place: Place) -> Place {
    place | 1
}

struct Building<'a> {
    /// Of all patterns behind each other, each with a `None` at its end.
    tokens: &'a [Option<Token>],
    numbers: BTreeMap<Vec<Place>, u16>,
    sets: Vec<Vec<Place>>,
    places: usize,
}

impl Building<'_> {
    fn number(&mut self, set: Vec<Place>) -> Result<u16, TooLarge> {
        if let Some(number) = self.numbers.get(&set) {
            return Ok(*number);
        }
        self.places += set.len();
        let number = u16::try_from(self.sets.len()).map_err(|_| TooLarge)?;
        if self.sets.len() >= MAX_PATTERN_STATES || self.places > MAX_PATTERN_PLACES {
            return Err(TooLarge);
        }
        self.sets.push(set.clone());
        self.numbers.insert(set, number);
        Ok(number)
    }

    fn token(&self, place: Place) -> Option<Token> {
        self.tokens.get(place as usize / 2).copied().flatten()
    }

    /// In order, with the places that are come to without a byte.
    fn closed(&self, places: &[Place]) -> Vec<Place> {
        let mut all = Vec::with_capacity(places.len());
        for place in places {
            let mut place = *place;
            all.push(place);
            while place.is_multiple_of(2) && matches!(self.token(place), Some(Token::Star | Token::Folders)) {
                place += 2;
                all.push(place);
            }
        }
        all.sort_unstable();
        all.dedup();
        all
    }

    /// `None` is a byte that no pattern names.
    fn step(&mut self, places: &[Place], byte: Option<u8>) -> Result<u16, TooLarge> {
        let slash = byte == Some(b'/');
        let after = places.iter().filter_map(|place| match self.token(*place)? {
            Token::Byte(wanted) => (byte == Some(wanted)).then_some(*place + 2),
            Token::Star => (!slash).then_some(*place),
            Token::Folders if slash => (!place.is_multiple_of(2)).then_some(*place - 1),
            Token::Folders => Some(inside(*place)),
            Token::Below => Some(*place),
        });
        let after: Vec<Place> = after.collect();
        let set = self.closed(&after);
        self.number(set)
    }
}
