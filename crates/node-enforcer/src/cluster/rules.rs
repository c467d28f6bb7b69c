//! Whether a node's `ConfigMap` is believed.

use std::collections::BTreeMap;

use mooring_crd::{AppliedRules, RulesSource};
use mooring_policy::{NodeRules, NodeRulesError};

use crate::agent::Rules;

/// Rules that are believed, and their text as it is kept.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Accepted {
    /// What comes into force.
    pub(super) rules: Rules,
    /// As the `ConfigMap` has them.
    pub(super) raw: NodeRules,
}

/// Checks and compiles the data of a node's `ConfigMap`; `resource_version` is None where they come from disk.
pub(super) fn accept(
    data: &BTreeMap<String, String>,
    resource_version: Option<&str>,
) -> Result<Accepted, NodeRulesError> {
    let raw = NodeRules::from_data(data)?;
    let policy = raw.decode()?;
    let compiled = policy.compile();
    let stamp = AppliedRules {
        revision: i64::try_from(policy.revision).unwrap_or(i64::MAX),
        digest: raw.digest.clone(),
        resource_version: resource_version.map(str::to_owned),
        source: if resource_version.is_some() { RulesSource::ConfigMap } else { RulesSource::Disk },
    };
    Ok(Accepted { rules: Rules { set: compiled.rules, stamp: Some(stamp), refused: compiled.refused }, raw })
}

/// Whether the version `a` is older than `b`. Versions are numbers that only go up, so says the API since Kubernetes 1.35; what is
/// none is not compared.
pub(super) fn is_older(a: &str, b: &str) -> bool {
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    is_number(a) && is_number(b) && (a.len(), a) < (b.len(), b)
}

#[cfg(test)]
mod tests {
    use super::*;
    use mooring_policy::{NodePolicy, NodePolicyEntry};

    fn data(revision: u64) -> BTreeMap<String, String> {
        let entry = |name: &str, spec: &str| NodePolicyEntry {
            name: name.to_owned(),
            uid: None,
            spec: serde_json::from_str(spec).unwrap(),
        };
        let policies = vec![
            entry("good", r#"{"actions": {"prevent": true}}"#),
            entry("bad", r#"{"detect": {"prohibitedBinaries": [{"path": "nc"}]}}"#),
        ];
        let policy = NodePolicy { revision, policies, ..NodePolicy::default() };
        NodeRules::encode(&policy).unwrap().into_data()
    }

    #[test]
    fn a_policy_that_is_refused_does_not_stop_the_others() {
        let accepted = accept(&data(7), Some("12")).unwrap();
        assert_eq!(accepted.rules.set.policies().len(), 1);
        assert_eq!(accepted.rules.refused.first().unwrap().policy, "bad");
        let stamp = accepted.rules.stamp.unwrap();
        assert_eq!((stamp.revision, stamp.resource_version.as_deref()), (7, Some("12")));
        assert_eq!(stamp.source, RulesSource::ConfigMap);
        assert_eq!(accept(&data(7), None).unwrap().rules.stamp.unwrap().source, RulesSource::Disk);
    }

    #[test]
    fn what_the_digest_does_not_say_is_not_believed() {
        let mut edited = data(7);
        for text in edited.values_mut() {
            *text = text.replace("\"prevent\":true", "\"prevent\":false");
        }
        assert!(matches!(accept(&edited, Some("13")), Err(NodeRulesError::Digest { .. })));
        edited.clear();
        assert!(matches!(accept(&edited, Some("14")), Err(NodeRulesError::Missing(_))));
    }

    #[test]
    fn versions_are_compared_as_numbers() {
        assert!(is_older("9", "10") && is_older("10", "11"));
        assert!(!is_older("10", "9") && !is_older("10", "10") && !is_older("", "1") && !is_older("a", "b"));
        assert!(is_older("99999999999999999999998", "99999999999999999999999"));
    }
}
