//! Broken policies, as texts; each with what a person must be told.

use crate::guest::error::{Result, ensure};

/// A policy file that must be refused.
pub(crate) struct Bad {
    pub(crate) name: &'static str,
    pub(crate) text: &'static str,
    /// What the message must contain, beside the file's name: the field, or the document, or the reason.
    says: &'static [&'static str],
}

impl Bad {
    /// Whether a message names the file and says what it must.
    pub(crate) fn is_explained_by(&self, message: &str, file: &str) -> Result<()> {
        for word in self.says.iter().chain(&[file]) {
            ensure(message.contains(word), || format!("{}: the message does not say {word:?}: {message}", self.name))?;
        }
        Ok(())
    }
}

const fn bad(name: &'static str, says: &'static [&'static str], text: &'static str) -> Bad {
    Bad { name, text, says }
}

macro_rules! policy {
    ($name:literal, $spec:literal) => {
        concat!(
            "apiVersion: mooring.dev/v1alpha1\nkind: ContainerDriftPolicy\nmetadata: {name: ",
            $name,
            "}\nspec: ",
            $spec,
            "\n"
        )
    };
}

/// Every text that can stand in a folder of policies.
pub(crate) const TEXTS: &[Bad] = &[
    bad("unknown field", &["spec.detect.driftedBinary"], policy!("bad", "{detect: {driftedBinary: true}}")),
    bad("unknown field of the spec", &["prevent"], policy!("bad", "{prevent: true}")),
    bad("wrong type", &["spec.enabled"], policy!("bad", "{enabled: perhaps}")),
    bad("wrong type of a list", &["spec.detect.exceptions"], policy!("bad", "{detect: {exceptions: /a/b}}")),
    bad("unknown severity", &["spec.severity", "High"], policy!("bad", "{severity: Extreme}")),
    bad(
        "relative path",
        &["spec.detect.exceptions[0].path"],
        policy!("bad", "{detect: {exceptions: [{path: bin/x}]}}"),
    ),
    bad(
        "empty path",
        &["spec.detect.prohibitedBinaries[1].path"],
        policy!("bad", "{detect: {prohibitedBinaries: [{path: /bin/nc}, {path: ''}]}}"),
    ),
    bad(
        "path with ..",
        &["spec.detect.exceptions[0].path"],
        policy!("bad", "{detect: {exceptions: [{path: /opt/../bin/x}]}}"),
    ),
    bad(
        "path with //",
        &["spec.detect.exceptions[0].path"],
        policy!("bad", "{detect: {exceptions: [{path: /opt//x}]}}"),
    ),
    bad(
        "path with a trailing slash",
        &["spec.detect.exceptions[0].path"],
        policy!("bad", "{detect: {exceptions: [{path: /opt/x/}]}}"),
    ),
    bad(
        "memfd that is prohibited",
        &["spec.detect.prohibitedBinaries[0].path"],
        policy!("bad", "{detect: {prohibitedBinaries: [{path: 'memfd:x'}]}}"),
    ),
    bad("feature that is not there yet", &["driftedScripts"], policy!("bad", "{detect: {driftedScripts: true}}")),
    bad(
        "no name",
        &["metadata.name"],
        "apiVersion: mooring.dev/v1alpha1\nkind: ContainerDriftPolicy\nmetadata: {}\nspec: {}\n",
    ),
    bad("another kind", &["kind"], "apiVersion: mooring.dev/v1alpha1\nkind: Policy\nmetadata: {name: bad}\nspec: {}\n"),
    bad(
        "another version",
        &["apiVersion"],
        "apiVersion: mooring.dev/v9\nkind: ContainerDriftPolicy\nmetadata: {name: bad}\nspec: {}\n",
    ),
    bad("not YAML", &[], "apiVersion: [\n"),
    bad("an empty file", &[], ""),
    bad(
        "second document broken",
        &["document 2", "spec.enabled"],
        concat!(
            "apiVersion: mooring.dev/v1alpha1\nkind: ContainerDriftPolicy\nmetadata: {name: good}\nspec: {}\n---\n",
            "apiVersion: mooring.dev/v1alpha1\nkind: ContainerDriftPolicy\nmetadata: {name: bad}\nspec: {enabled: 7}\n"
        ),
    ),
    bad(
        "two of one name",
        &["same-name"],
        concat!(
            "apiVersion: mooring.dev/v1alpha1\nkind: ContainerDriftPolicy\nmetadata: {name: same-name}\nspec: {}\n---\n",
            "apiVersion: mooring.dev/v1alpha1\nkind: ContainerDriftPolicy\nmetadata: {name: same-name}\nspec: {}\n"
        ),
    ),
];
