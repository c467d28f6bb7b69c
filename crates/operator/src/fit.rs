//! What a node is to apply, of the policies that concern it.

use std::sync::Arc;

use mooring_policy::limits::MAX_POLICIES;

use crate::content::{Fragment, NoRoom, check_room};

/// A policy that concerns a node.
#[derive(Clone, Debug)]
pub struct Candidate<P> {
    /// Which policy, for whoever asks.
    pub policy: P,
    /// What it says now; none where that was refused.
    pub wanted: Option<Arc<Fragment>>,
    /// What the node was given of it last.
    pub last_good: Option<Arc<Fragment>>,
}

/// What was made of the candidates.
#[derive(Clone, Debug)]
pub struct Fit<P> {
    /// What the node applies, by slot.
    pub fragments: Vec<Arc<Fragment>>,
    /// The policies whose present wording it does not apply. Their last good one is among the fragments, unless there is none or
    /// they are beyond the slots.
    pub refused: Vec<(P, NoRoom)>,
}

/// Fits candidates, which come oldest first, into a node's room.
///
/// Slots go to the oldest. For bytes and paths it is the change that has to fit: what is in force already stays, and a policy whose
/// new wording finds no room keeps its last good one. The same candidates, with what came of them as last good, come to the same.
#[must_use]
pub fn fit<P: Copy>(candidates: &[Candidate<P>]) -> Fit<P> {
    let some: Vec<&Candidate<P>> =
        candidates.iter().filter(|one| one.wanted.is_some() || one.last_good.is_some()).collect();
    let (inside, beyond) = some.split_at(some.len().min(MAX_POLICIES));
    let mut refused: Vec<(P, NoRoom)> = beyond.iter().map(|one| (one.policy, NoRoom::Slots)).collect();
    let mut chosen: Vec<Option<&Arc<Fragment>>> =
        inside.iter().map(|one| one.wanted.as_ref().or(one.last_good.as_ref())).collect();
    if check_room(chosen.iter().flatten().copied()).is_err() {
        chosen = vec![None; inside.len()];
        for (place, one) in inside.iter().enumerate() {
            // All of them were in force together, so that they fit unless the limits are others now.
            let _ = try_one(&mut chosen, place, one.last_good.as_ref());
        }
        // One that shrinks may make room for one that came before it.
        let mut changed = true;
        while changed {
            changed = false;
            for (place, one) in inside.iter().enumerate() {
                if !is_chosen(chosen[place], one.wanted.as_ref()) {
                    changed |= try_one(&mut chosen, place, one.wanted.as_ref()).is_ok();
                }
            }
        }
        for (place, one) in inside.iter().enumerate() {
            if !is_chosen(chosen[place], one.wanted.as_ref()) {
                let why = try_one(&mut chosen, place, one.wanted.as_ref()).err().unwrap_or(NoRoom::Bytes);
                refused.push((one.policy, why));
            }
        }
    }
    Fit { fragments: chosen.into_iter().flatten().cloned().collect(), refused }
}

fn is_chosen(chosen: Option<&Arc<Fragment>>, wanted: Option<&Arc<Fragment>>) -> bool {
    match (chosen, wanted) {
        (Some(chosen), Some(wanted)) => Arc::ptr_eq(chosen, wanted),
        // Refused for what it says, which is told elsewhere.
        (_, None) => true,
        (None, Some(_)) => false,
    }
}

/// Puts a fragment in its place, if all fit then.
fn try_one<'a>(
    chosen: &mut [Option<&'a Arc<Fragment>>],
    place: usize,
    fragment: Option<&'a Arc<Fragment>>,
) -> Result<(), NoRoom> {
    let before = std::mem::replace(&mut chosen[place], fragment);
    let room = check_room(chosen.iter().flatten().copied());
    if room.is_err() {
        chosen[place] = before;
    }
    room
}
