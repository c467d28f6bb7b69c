//! A node's `ConfigMap`: how the operator hands a [`NodePolicy`] to the node's agent, and how the agent keeps it on its disk.
//!
//! It lies in the namespace of the nodes' rules and has its node's name. Its digest finds damage, not forgery: who may write it is
//! the API server's to say.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use sha2::{Digest, Sha256};

use crate::node_policy::NodePolicy;

/// The key of the policies, as JSON.
pub const POLICIES_KEY: &str = "policies.json";
/// The key of their digest: `sha256:` and 64 hexadecimal digits, of the text under [`POLICIES_KEY`].
pub const DIGEST_KEY: &str = "digest";
/// The key that says, by [`RELEASE_VALUE`], that the node is to take everything down, whatever its policies are.
pub const RELEASE_KEY: &str = "release";
/// See [`RELEASE_KEY`].
pub const RELEASE_VALUE: &str = "true";
/// Bytes that an API server takes for the data of one `ConfigMap` (`MaxSecretSize` in Kubernetes' validation is 1 MiB for both).
pub const MAX_BYTES: usize = 1024 * 1024;

/// The data of a node's `ConfigMap`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeRules {
    /// The policies, as JSON.
    pub policies: String,
    /// Their digest.
    pub digest: String,
}

/// Why a node's rules are not believed.
#[derive(Debug, thiserror::Error)]
pub enum NodeRulesError {
    /// A key is missing.
    #[error("the ConfigMap has no {0}: the operator writes it; delete the ConfigMap to have it written again")]
    Missing(&'static str),
    /// The policies are not what the digest says.
    #[error("{POLICIES_KEY} has the digest {found}, but {DIGEST_KEY} says {stated}: it was damaged or edited by hand")]
    Digest {
        /// Of the text that was found.
        found: String,
        /// What was stated.
        stated: String,
    },
    /// The policies cannot be read.
    #[error("{POLICIES_KEY} cannot be read: {0}; is the agent older than the operator?")]
    Unreadable(#[from] serde_json::Error),
}

impl NodeRules {
    /// What a node is handed.
    ///
    /// # Errors
    /// When the policies cannot be written as JSON, which no policy does that was read from it.
    pub fn encode(policy: &NodePolicy) -> Result<Self, NodeRulesError> {
        Ok(Self::of(serde_json::to_string(policy)?))
    }

    /// What a node is handed, from a [`NodePolicy`] that was written as JSON already.
    #[must_use]
    pub fn of(policies: String) -> Self {
        let digest = digest_of(&policies);
        Self { policies, digest }
    }

    /// The same as a `ConfigMap` has it.
    ///
    /// # Errors
    /// When a key is missing. The digest is checked by [`NodeRules::decode`].
    pub fn from_data(data: &BTreeMap<String, String>) -> Result<Self, NodeRulesError> {
        let of = |key: &'static str| data.get(key).cloned().ok_or(NodeRulesError::Missing(key));
        Ok(Self { policies: of(POLICIES_KEY)?, digest: of(DIGEST_KEY)? })
    }

    /// As a `ConfigMap` has it.
    #[must_use]
    pub fn into_data(self) -> BTreeMap<String, String> {
        [(POLICIES_KEY.to_owned(), self.policies), (DIGEST_KEY.to_owned(), self.digest)].into()
    }

    /// The policies, if they are what the digest says.
    ///
    /// # Errors
    /// When they are not, or cannot be read.
    pub fn decode(&self) -> Result<NodePolicy, NodeRulesError> {
        Ok(serde_json::from_str(self.verified()?)?)
    }

    /// The policies as JSON, if they are what the digest says.
    ///
    /// # Errors
    /// When they are not.
    pub fn verified(&self) -> Result<&str, NodeRulesError> {
        let found = digest_of(&self.policies);
        if found != self.digest {
            return Err(NodeRulesError::Digest { found, stated: self.digest.clone() });
        }
        Ok(&self.policies)
    }

    /// What counts against [`MAX_BYTES`].
    #[must_use]
    pub fn bytes(&self) -> usize {
        POLICIES_KEY.len() + self.policies.len() + DIGEST_KEY.len() + self.digest.len()
    }
}

/// Whether the data of a node's `ConfigMap` asks the node to take everything down. It is honoured even where the rules beside it
/// cannot be read: Mooring is being removed.
#[must_use]
pub fn asks_for_release(data: &BTreeMap<String, String>) -> bool {
    data.get(RELEASE_KEY).is_some_and(|value| value == RELEASE_VALUE)
}

fn digest_of(text: &str) -> String {
    let mut digest = String::from("sha256:");
    for byte in Sha256::digest(text) {
        // Writing to a String cannot fail.
        let _ = write!(digest, "{byte:02x}");
    }
    digest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_edited_is_not_believed() {
        let rules = NodeRules::encode(&NodePolicy { revision: 7, ..NodePolicy::default() }).unwrap();
        assert_eq!(rules.decode().unwrap().revision, 7);
        let data = rules.clone().into_data();
        assert_eq!(NodeRules::from_data(&data).unwrap(), rules);
        let edited = NodeRules { policies: rules.policies.replace('7', "8"), ..rules };
        assert!(matches!(edited.decode(), Err(NodeRulesError::Digest { .. })));
    }

    #[test]
    fn a_missing_key_is_named() {
        let error = NodeRules::from_data(&BTreeMap::new()).unwrap_err().to_string();
        assert!(error.contains(POLICIES_KEY), "{error}");
    }
}
