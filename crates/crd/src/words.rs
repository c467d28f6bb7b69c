//! The closed sets of words that policies, events and nodes share.
#![allow(clippy::doc_markdown)] // `kubectl explain` shows some of these comments as plain text.

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
    /// The stop signal to the container's init (its pod's, or SIGTERM), ten seconds of grace, then as `Kill`.
    Stop,
    /// SIGKILL to every process of the container.
    Kill,
}

/// Whether a container action is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
pub enum ActionResult {
    /// It has begun: processes are being ended, or have their grace.
    UnderWay,
    /// It is done; a pause may be over since.
    Done,
    /// It was not done: see heldBack, or the outcome.
    HeldBack,
    /// It could not be done.
    Failed,
}

/// What a switch can hold back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
pub enum HeldBackAction {
    /// `actions.prevent`.
    Prevent,
    /// `actions.container: Pause`.
    Pause,
    /// `actions.container: Stop`.
    Stop,
    /// `actions.container: Kill`.
    Kill,
}

/// A field of the agent's configuration that changes what policies do on its node, by its name there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Switch {
    /// No container is killed, stopped or paused.
    IgnoreContainerActions,
    /// Nothing is done about a violation but to report it, prevention included.
    IgnoreActions,
    /// `detect.volumeBinaries` is on where a policy leaves it unset.
    DenyExecutionFromVolumes,
    /// Containers of these pods are neither killed nor stopped nor paused.
    ProtectedPods,
}

impl Switch {
    /// The field's name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::IgnoreContainerActions => "ignoreContainerActions",
            Self::IgnoreActions => "ignoreActions",
            Self::DenyExecutionFromVolumes => "denyExecutionFromVolumes",
            Self::ProtectedPods => "protectedPods",
        }
    }
}

impl fmt::Display for Switch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
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
    /// The program that executes the file is on the policy's list of programs that may execute nothing.
    ProhibitedProcess,
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

/// How a node stops an execution, best first: BpfLsm, FmodRet, Fanotify, Kill; None where the kernel lacks what every one of
/// them needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
pub enum Backend {
    /// BPF LSM programs refuse it.
    BpfLsm,
    /// BPF programs that change the result of the kernel's own hooks refuse it.
    FmodRet,
    /// The agent refuses it, asked by the kernel through fanotify.
    Fanotify,
    /// It cannot be refused: the process is killed from the kernel.
    Kill,
    /// Nothing: this kernel lacks what every backend needs.
    None,
}

/// What came of a self-test.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
pub enum SelfTestResult {
    /// A drifted file was refused (with Kill: killed before its first instruction), and a file of the image ran.
    Passed,
    /// The kernel did not do what the programs asked of it.
    Failed,
    /// The test itself could not be made.
    NotRun,
}

/// Where a node has its rules from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
pub enum RulesSource {
    /// The node's ConfigMap.
    ConfigMap,
    /// The copy that the agent keeps on the node.
    Disk,
}

/// What a node may be able to do, one word for each thing that a policy can ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
pub enum Feature {
    /// `actions.prevent`.
    Prevent,
    /// `detect.driftedBinaries`.
    DriftedBinaries,
    /// `detect.volumeBinaries`.
    VolumeBinaries,
    /// `detect.driftedLibraries`.
    DriftedLibraries,
    /// `detect.driftedScripts`.
    DriftedScripts,
    /// `detect.prohibitedBinaries`.
    ProhibitedBinaries,
    /// `detect.processExceptions`.
    ProcessExceptions,
    /// `detect.prohibitedProcesses`.
    ProhibitedProcesses,
    /// Metadata changes of image files are told apart from changed content.
    MetadataCopyUps,
    /// `actions.container`.
    ContainerActions,
    /// `actions.capture`.
    Capture,
}

/// Where a notification channel leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
pub enum ChannelType {
    /// A Slack channel, by its incoming webhook.
    Slack,
    /// Any HTTPS endpoint that takes a POST of JSON.
    Webhook,
    /// Mail by SMTP.
    Email,
}

/// How a connection to a mail server is protected. There is no way to go without.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
pub enum MailTls {
    /// Begins in clear text and must be upgraded before anything is said (usually port 587).
    #[default]
    StartTls,
    /// TLS from the first byte (usually port 465).
    Implicit,
}

words!(Severity { Info, Low, Medium, High });
words!(ContainerAction { None, Pause, Stop, Kill });
words!(ActionResult { UnderWay, Done, HeldBack, Failed });
words!(HeldBackAction { Prevent, Pause, Stop, Kill });
words!(Reason {
    NewBinary,
    ModifiedBinary,
    VolumeBinary,
    Fileless,
    ForeignMount,
    ProhibitedBinary,
    ProhibitedProcess,
    DriftedLibrary,
    DriftedScript,
});
words!(Verdict { Denied, Killed, Detected });
words!(Backend { BpfLsm, FmodRet, Fanotify, Kill, None });
words!(SelfTestResult { Passed, Failed, NotRun });
words!(RulesSource { ConfigMap, Disk });
words!(Feature {
    Prevent,
    DriftedBinaries,
    VolumeBinaries,
    DriftedLibraries,
    DriftedScripts,
    ProhibitedBinaries,
    ProcessExceptions,
    ProhibitedProcesses,
    MetadataCopyUps,
    ContainerActions,
    Capture,
});
words!(ChannelType { Slack, Webhook, Email });
words!(MailTls { StartTls, Implicit });

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_words_are_spelt_as_they_are_serialised() {
        use Switch::{DenyExecutionFromVolumes, IgnoreActions, IgnoreContainerActions, ProtectedPods};
        fn spelt<T: Serialize + fmt::Display>(words: &[T]) {
            for word in words {
                assert_eq!(serde_json::to_value(word).unwrap(), word.to_string());
            }
        }
        spelt(Severity::ALL);
        spelt(ContainerAction::ALL);
        spelt(ActionResult::ALL);
        spelt(HeldBackAction::ALL);
        spelt(&[DenyExecutionFromVolumes, IgnoreActions, IgnoreContainerActions, ProtectedPods]);
        spelt(Reason::ALL);
        spelt(Verdict::ALL);
        spelt(Backend::ALL);
        spelt(SelfTestResult::ALL);
        spelt(RulesSource::ALL);
        spelt(Feature::ALL);
        spelt(ChannelType::ALL);
        spelt(MailTls::ALL);
    }

    #[test]
    fn kill_is_the_strongest_action_and_none_the_weakest() {
        use ContainerAction::{Kill, None, Pause, Stop};
        assert!(Kill > Stop && Stop > Pause && Pause > None);
    }
}
