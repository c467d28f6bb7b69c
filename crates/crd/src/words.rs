//! The closed sets of words that policies and events share.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Implements the words' spelling once, for `Display` and for those that need a `&'static str` (metric labels).
macro_rules! words {
    ($name:ident { $($variant:ident),+ $(,)? }) => {
        impl $name {
            /// Every value, in declaration order.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// The word as the API spells it.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => stringify!($variant)),+ }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(self.as_str())
            }
        }
    };
}

/// How serious a violation is. It only labels events: it changes no verdict.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
pub enum Severity {
    /// For the record.
    Info,
    /// Look at it some day.
    Low,
    /// Look at it today.
    #[default]
    Medium,
    /// Look at it now.
    High,
}

/// What is done to the container of a violation. Ordered from weakest to strongest: where several policies match one
/// container, the strongest wins.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
pub enum ContainerAction {
    /// Nothing.
    #[default]
    None,
    /// Freeze every process of the container.
    Pause,
    /// SIGTERM to the container's init, ten seconds of grace, then as `Kill`.
    Stop,
    /// SIGKILL to every process of the container.
    Kill,
}

/// Why a file violates a policy. Where several reasons hold, the first in this order is reported.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
pub enum Reason {
    /// The file is not in the image: it exists only in the container's own layer.
    NewBinary,
    /// The file is in the image, and its content was changed.
    ModifiedBinary,
    /// The file is on a volume that the pod or container declares.
    VolumeBinary,
    /// The file is a memfd, or has no link left.
    Fileless,
    /// The file is neither on the root filesystem nor on a declared volume.
    ForeignMount,
    /// The file is on the policy's list of prohibited binaries.
    ProhibitedBinary,
    /// The drifted file is mapped executable: a library, or a program that the dynamic loader was given.
    DriftedLibrary,
    /// The file is a script that drifted.
    DriftedScript,
}

/// What became of the execution.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
pub enum Verdict {
    /// The kernel refused it: not one instruction of the file ran.
    Denied,
    /// It could not be refused; the process was killed.
    Killed,
    /// It was allowed, and reported.
    Detected,
}

words!(Severity { Info, Low, Medium, High });
words!(ContainerAction { None, Pause, Stop, Kill });
words!(Reason {
    NewBinary,
    ModifiedBinary,
    VolumeBinary,
    Fileless,
    ForeignMount,
    ProhibitedBinary,
    DriftedLibrary,
    DriftedScript,
});
words!(Verdict { Denied, Killed, Detected });

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_words_are_spelt_as_they_are_serialised() {
        for word in Severity::ALL {
            assert_eq!(serde_json::to_value(word).unwrap(), word.as_str());
        }
        for word in ContainerAction::ALL {
            assert_eq!(serde_json::to_value(word).unwrap(), word.as_str());
        }
        for word in Reason::ALL {
            assert_eq!(serde_json::to_value(word).unwrap(), word.as_str());
        }
        for word in Verdict::ALL {
            assert_eq!(serde_json::to_value(word).unwrap(), word.as_str());
        }
    }

    #[test]
    fn kill_is_the_strongest_action_and_none_the_weakest() {
        use ContainerAction::{Kill, None, Pause, Stop};
        assert!(Kill > Stop && Stop > Pause && Pause > None);
    }
}
