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
    /// The policies whose present wording it does not apply. Their last good one is among the fragments, unless there is none.
    pub refused: Vec<(P, NoRoom)>,
}

/// Fits candidates, which come oldest first, into a node's room.
///
/// It is the change that has to fit: what is in force already stays. Slots go to what has one, then to the oldest; a policy whose
/// new wording finds no room keeps its last good one. The same candidates, with what came of them as last good, come to the same.
#[must_use]
pub fn fit<P: Copy>(candidates: &[Candidate<P>]) -> Fit<P> {
    let some: Vec<&Candidate<P>> =
        candidates.iter().filter(|one| one.wanted.is_some() || one.last_good.is_some()).collect();
    let in_force = some.iter().filter(|one| one.last_good.is_some()).count();
    let mut free = MAX_POLICIES.saturating_sub(in_force);
    let (inside, beyond): (Vec<_>, Vec<_>) = some.into_iter().partition(|one| {
        let has_slot = one.last_good.is_some() || free > 0;
        if one.last_good.is_none() {
            free = free.saturating_sub(1);
        }
        has_slot
    });
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::content::Fragments;
    use mooring_policy::{NodeDefaults, NodePolicyEntry};

    #[test]
    fn an_older_policy_that_comes_later_takes_no_slot_away() {
        let mut fragments = Fragments::default();
        let entry =
            |place| NodePolicyEntry { name: format!("p{place}"), uid: None, spec: serde_json::from_str("{}").unwrap() };
        let mut candidates: Vec<_> = (0..=MAX_POLICIES)
            .map(|place| {
                let wanted = fragments.of_entry(entry(place), NodeDefaults::default()).unwrap();
                // The oldest is the one that has just come.
                let last_good = wanted.clone().filter(|_| place > 0);
                Candidate { policy: place, wanted, last_good }
            })
            .collect();
        let now = fit(&candidates);
        assert_eq!(now.refused, [(0, NoRoom::Slots)]);
        assert_eq!(now.fragments.len(), MAX_POLICIES);
        // One that goes makes room for it, and it stands where its age puts it.
        candidates.pop();
        let then = fit(&candidates);
        assert_eq!(then.refused, []);
        assert_eq!(then.fragments.first().unwrap().name(), "p0");
    }
}
