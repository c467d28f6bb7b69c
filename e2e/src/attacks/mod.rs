//! The attacks: what a case is, the tables of cases, and the payloads that perform them from inside a container.
//!
//! The tables are data. They know nothing of runtimes, enforcers or kernels: `crate::guest` runs them.

pub(crate) mod case;
pub(crate) mod copy_up;
pub mod elf;
pub(crate) mod exceptions;
pub(crate) mod fileless;
pub(crate) mod foreign_mount;
pub(crate) mod library;
pub(crate) mod modified_binary;
pub(crate) mod new_binary;
pub mod payload;
pub(crate) mod prohibited;
pub(crate) mod volume;

use case::Case;

/// What a payload prints once it runs. Nothing else may print it.
pub(crate) const TOKEN: &str = "PAYLOAD-RAN";

/// The cases of the verdict's reasons, in the order of the reasons.
pub(crate) fn matrix() -> impl Iterator<Item = &'static Case> {
    [
        new_binary::CASES,
        modified_binary::CASES,
        volume::CASES,
        fileless::CASES,
        foreign_mount::CASES,
        prohibited::CASES,
        library::CASES,
        exceptions::CASES,
    ]
    .into_iter()
    .flatten()
}

/// The metadata copy-ups, which must stay allowed or become so.
pub(crate) fn copy_ups() -> impl Iterator<Item = &'static Case> {
    copy_up::CASES.iter()
}

#[cfg(test)]
mod tests {
    use super::case::{Expect, Profile, Twin};
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn names_are_unique_and_safe_in_paths() {
        let mut seen = HashSet::new();
        for case in matrix().chain(copy_ups()) {
            assert!(seen.insert(case.name), "{} is there twice", case.name);
            let slug = case.slug();
            assert!(slug.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-'), "{slug}");
        }
    }

    #[test]
    fn every_refusal_has_a_twin_or_says_why_not() {
        for case in matrix() {
            if let (Expect::Refused(_), Twin::None(why)) = (case.expect, case.twin) {
                assert!(!why.is_empty(), "{} has no twin and no reason", case.name);
            }
        }
    }

    #[test]
    fn every_profile_has_cases() {
        for profile in Profile::ALL {
            assert!(matrix().chain(copy_ups()).any(|c| c.profile == *profile), "{profile:?}");
        }
    }
}
