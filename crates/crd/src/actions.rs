//! What a policy does about a violation.
#![allow(clippy::doc_markdown)] // `kubectl explain` shows these comments as plain text.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{limits, rules, words::ContainerAction};

/// What is done about a violation. A policy that writes nothing here only reports.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Actions {
    /// Refuse the execution in the kernel, before the first instruction runs. Where several policies match a container,
    /// one that prevents is enough.
    pub prevent: bool,

    /// What is done to the container: None, Kill, Stop or Pause. Where several policies match, the strongest wins (Kill,
    /// then Stop, then Pause). Anything but None is not implemented yet: a policy that sets it is not accepted.
    pub container: ContainerAction,

    /// Record what the container did around the violation. Not implemented yet: a policy that sets it is not accepted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub capture: Option<Capture>,

    /// Names of the NotificationChannels that are told, at most once in five minutes of the same thing. At most 16, each
    /// once. Not implemented yet: a policy that sets it is not accepted.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "rules::channel_names")]
    pub notify: Vec<String>,
}

/// How long a recording is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(extend("x-kubernetes-validations" = rules::capture()))]
pub struct Capture {
    /// Seconds before the violation, 0 to 120.
    #[schemars(range(min = 0, max = limits::MAX_CAPTURE_SECONDS))]
    pub seconds_before: u32,

    /// Seconds after the violation, 0 to 120.
    #[schemars(range(min = 0, max = limits::MAX_CAPTURE_SECONDS))]
    pub seconds_after: u32,
}

impl Default for Capture {
    fn default() -> Self {
        Self { seconds_before: 10, seconds_after: 10 }
    }
}
