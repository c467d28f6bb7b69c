//! All patterns of a node as one deterministic automaton, which the kernel walks once for each name.
//!
//! Made by the subset construction: a state is the set of the places in patterns that a path may have come to. What a path costs
//! depends on its length only, however many patterns there are; what it costs is the table, whose size is bounded.

use std::collections::{BTreeSet, HashMap};

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

/// A place in a pattern: before its token of this number. `Inside`: amid a component that `**` skips.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct Place {
    pattern: usize,
    token: usize,
    inside: bool,
}

impl Automaton {
    /// Compiles patterns.
    ///
    /// # Errors
    /// When the table would have more than [`MAX_PATTERN_STATES`] states, patterns name more than [`MAX_PATTERN_BYTES`] different
    /// bytes, or the states were made of so many places that it would take long to find out.
    pub fn of<'a>(patterns: impl IntoIterator<Item = &'a Pattern>) -> Result<Self, TooLarge> {
        let patterns: Vec<Vec<Token>> = patterns.into_iter().map(Pattern::tokens).collect();
        let mut named: BTreeSet<u8> = [b'/'].into();
        named.extend(patterns.iter().flatten().filter_map(|token| match token {
            Token::Byte(byte) => Some(*byte),
            _ => None,
        }));
        if named.len() > MAX_PATTERN_BYTES {
            return Err(TooLarge);
        }
        let mut classes = vec![0; 256];
        for (class, byte) in (1..).zip(&named) {
            classes[usize::from(*byte)] = class;
        }
        let mut building = Building { patterns: &patterns, numbers: HashMap::new(), sets: Vec::new(), places: 0 };
        building.number(BTreeSet::new())?;
        let begin = (0..patterns.len()).map(|pattern| Place { pattern, token: 0, inside: false });
        let start = building.closed(begin);
        // Without patterns the start is the dead state, too.
        if building.number(start)? == DEAD {
            building.sets.push(BTreeSet::new());
        }
        let mut next = Vec::new();
        while let Some(places) = building.sets.get(next.len()).cloned() {
            // None stands for the bytes that no pattern names.
            let bytes = std::iter::once(None).chain(named.iter().copied().map(Some));
            next.push(bytes.map(|byte| building.step(&places, byte)).collect::<Result<Vec<_>, _>>()?);
        }
        let matches = building.sets.iter().map(|places| building.matching(places)).collect();
        Ok(Self { classes, next, matches })
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

struct Building<'a> {
    patterns: &'a [Vec<Token>],
    numbers: HashMap<BTreeSet<Place>, u16>,
    sets: Vec<BTreeSet<Place>>,
    places: usize,
}

impl Building<'_> {
    fn number(&mut self, set: BTreeSet<Place>) -> Result<u16, TooLarge> {
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
        self.patterns.get(place.pattern)?.get(place.token).copied()
    }

    /// With the places that are come to without a byte.
    fn closed(&self, places: impl IntoIterator<Item = Place>) -> BTreeSet<Place> {
        let mut all = BTreeSet::new();
        for mut place in places {
            while all.insert(place) && !place.inside && matches!(self.token(place), Some(Token::Star | Token::Folders)) {
                place.token += 1;
            }
        }
        all
    }

    fn step(&mut self, places: &BTreeSet<Place>, byte: Option<u8>) -> Result<u16, TooLarge> {
        let slash = byte == Some(b'/');
        let after = places.iter().filter_map(|place| match self.token(*place)? {
            Token::Byte(wanted) => (byte == Some(wanted)).then_some(Place { token: place.token + 1, ..*place }),
            Token::Star => (!slash).then_some(*place),
            Token::Folders if slash => place.inside.then_some(Place { inside: false, ..*place }),
            Token::Folders => Some(Place { inside: true, ..*place }),
            Token::Below => Some(*place),
        });
        let set = self.closed(after.collect::<Vec<_>>());
        self.number(set)
    }

    fn matching(&self, places: &BTreeSet<Place>) -> Vec<usize> {
        let ends = places.iter().filter(|place| matches!(self.token(**place), None | Some(Token::Below)));
        ends.map(|place| place.pattern).collect()
    }
}
