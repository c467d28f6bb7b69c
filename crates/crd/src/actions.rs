//! What a policy does about a violation.
#![allow(clippy::doc_markdown)] // `kubectl explain` shows these comments as plain text.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{limits, rules, words::ContainerAction};

/// What is done about a violation. A policy that writes nothing here only reports.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(extend("x-kubernetes-validations" = rules::actions()))]
pub struct Actions {
    /// Refuse the execution in the kernel, before the first instruction runs. Where several policies match a container,
    /// one that prevents is enough.
    pub prevent: bool,

    /// What is done to the container, whatever became of the execution: None, Kill (SIGKILL to every process), Stop (the pod's
    /// lifecycle.stopSignal for it, or SIGTERM, to its first process, ten seconds of grace, then as Kill) or Pause (every process is
    /// frozen until somebody resumes it, or pauseTimeout is over). Once in a container's life, Pause once per pause. Where several
    /// policies are violated, the strongest wins (Kill, then Stop, then Pause). Whoever can write a file in the container can bring it
    /// about.
    pub container: ContainerAction,

    /// After how long a paused container goes on, as a number and a unit: 90s, 10m or 2h. Only with container: Pause; 10m unless
    /// written. Where several policies pause, the longest counts.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "rules::pause_timeout")]
    pub pause_timeout: Option<String>,

    /// Record what the container did around the violation. Not implemented yet: a policy that sets it is not accepted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub capture: Option<Capture>,

    /// Names of the NotificationChannels that are told, at most once in five minutes of the same thing. At most 16, each
    /// once. Not implemented yet: a policy that sets it is not accepted.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "rules::channel_names")]
    pub notify: Vec<String>,
}

/// What [`Actions::pause_timeout`] is where it is not written.
pub const DEFAULT_PAUSE_TIMEOUT: Duration = Duration::from_mins(10);

impl Actions {
    /// After how long a paused container goes on. What the schema would refuse counts as not written.
    #[must_use]
    pub fn pause_timeout(&self) -> Duration {
        self.pause_timeout.as_deref().and_then(parse_duration).unwrap_or(DEFAULT_PAUSE_TIMEOUT)
    }
}

fn parse_duration(text: &str) -> Option<Duration> {
    let unit = match text.chars().next_back()? {
        's' => 1,
        'm' => 60,
        'h' => 3600,
        _ => return None,
    };
    let number: u64 = text.get(..text.len() - 1)?.parse().ok()?;
    Some(Duration::from_secs(number.checked_mul(unit)?)).filter(|duration| !duration.is_zero())
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pause_lasts_as_long_as_is_written_and_ten_minutes_otherwise() {
        let of = |text: Option<&str>| {
            Actions { pause_timeout: text.map(str::to_owned), ..Actions::default() }.pause_timeout().as_secs()
        };
        assert_eq!([of(Some("90s")), of(Some("10m")), of(Some("2h")), of(None)], [90, 600, 7200, 600]);
        for bad in ["", "0s", "m", "10", "1d", "-1s", "99999999999999999999h"] {
            assert_eq!(of(Some(bad)), 600, "{bad}");
        }
    }
}
