//! The name of a `DriftEvent`'s object.

use sha2::{Digest, Sha256};

use crate::words::Reason;

/// Characters of a name: 100 bits, so that nobody finds two paths with one name, and short enough that
/// `kubectl get driftevents -A`, which prints the name first, has room for the rest.
const LENGTH: usize = 20;
/// Five bits each; all are allowed anywhere in a DNS label.
const ALPHABET: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";

/// The name of the object that counts this violation: the same for the same arguments, on every machine and in every version, so
/// that an agent finds its object again; another one wherever one of them differs. A workload chooses `path` (its bytes, not
/// what is shown of them), so the hash is a cryptographic one.
///
/// `pod` is the pod's uid; outside a cluster the container's id.
#[must_use]
pub fn event_name(policy: &str, pod: &str, container: &str, path: &[u8], reason: Reason) -> String {
    let mut hash = Sha256::new();
    for part in [policy.as_bytes(), pod.as_bytes(), container.as_bytes(), path, reason.as_str().as_bytes()] {
        // With its length before it no part can pass for the end of another and the beginning of the next.
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part);
    }
    let digest = hash.finalize();
    let bits = digest.iter().flat_map(|byte| (0..8).rev().map(move |bit| usize::from(byte >> bit & 1)));
    let bits: Vec<usize> = bits.take(LENGTH * 5).collect();
    bits.chunks(5)
        .filter_map(|chunk| ALPHABET.get(chunk.iter().fold(0, |value, bit| value << 1 | bit)))
        .map(|letter| char::from(*letter))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashMap;

    #[test]
    fn a_name_never_changes() {
        // printf '\0\0\0\0\0\0\0\1p\0\0\0\0\0\0\0\3u-1\0\0\0\0\0\0\0\3api\0\0\0\0\0\0\0\6/tmp/x\0\0\0\0\0\0\0\11NewBinary' |
        //     openssl dgst -sha256 -binary | base32 | cut -c-20 | tr A-Z a-z
        assert_eq!(event_name("p", "u-1", "api", b"/tmp/x", Reason::NewBinary), "6n6k556cmgryogzv3r26");
    }

    proptest! {
        #[test]
        fn names_are_labels_and_differ_with_every_argument(
            keys in proptest::collection::vec(
                ("[ab]{0,3}", "[ab]{0,3}", "[ab]{0,3}", proptest::collection::vec(any::<u8>(), 0..3), 0_usize..8),
                1..40,
            ),
        ) {
            let mut names = HashMap::new();
            for key in keys {
                let (policy, pod, container, path, reason) = &key;
                let name = event_name(policy, pod, container, path, Reason::ALL[*reason]);
                prop_assert!(name.len() == LENGTH && name.bytes().all(|b| ALPHABET.contains(&b)), "{name}");
                let earlier = names.entry(name).or_insert_with(|| key.clone());
                prop_assert_eq!(&*earlier, &key);
            }
        }
    }
}
