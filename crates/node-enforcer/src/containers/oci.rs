//! The few fields of an OCI bundle's `config.json` that matter here.

use std::collections::BTreeMap;
use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, Error, MapAccess, Visitor};

/// Runtimes write at most some dozens.
const LABELS_MAX: usize = 4096;
/// A selector's value has at most 63 characters, so nothing that can match is lost.
const LABEL_VALUE_MAX: usize = 4096;

#[derive(Debug, Default, Deserialize)]
pub(super) struct Spec {
    #[serde(default)]
    pub(super) root: Option<SpecRoot>,
    #[serde(default)]
    pub(super) mounts: Option<Vec<SpecMount>>,
    #[serde(default)]
    pub(super) annotations: Labels,
    #[serde(default)]
    linux: Option<SpecLinux>,
}

impl Spec {
    /// `linux.cgroupsPath`, where it says something.
    pub(super) fn cgroups_path(&self) -> Option<&str> {
        self.linux.as_ref()?.cgroups_path.as_deref().filter(|path| !path.is_empty())
    }
}

#[derive(Debug, Deserialize)]
pub(super) struct SpecRoot {
    pub(super) path: String,
}

#[derive(Debug, Default, Deserialize)]
pub(super) struct SpecMount {
    pub(super) destination: String,
    #[serde(default, rename = "type")]
    pub(super) kind: Option<String>,
    #[serde(default)]
    pub(super) source: Option<String>,
    #[serde(default)]
    pub(super) options: Option<Vec<String>>,
}

#[derive(Debug, Deserialize)]
struct SpecLinux {
    #[serde(default, rename = "cgroupsPath")]
    cgroups_path: Option<String>,
}

/// Annotations or labels, bounded; `null` is none.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct Labels(pub(super) BTreeMap<String, String>);

impl<'de> Deserialize<'de> for Labels {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(LabelsVisitor)
    }
}

struct LabelsVisitor;

impl<'de> Visitor<'de> for LabelsVisitor {
    type Value = Labels;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object of strings")
    }

    fn visit_unit<E: Error>(self) -> Result<Labels, E> {
        Ok(Labels::default())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Labels, A::Error> {
        let mut labels = BTreeMap::new();
        while let Some((key, mut value)) = map.next_entry::<String, String>()? {
            if labels.len() == LABELS_MAX {
                return Err(A::Error::custom(format_args!("more than {LABELS_MAX} labels")));
            }
            let end = (0..=LABEL_VALUE_MAX).rev().find(|end| value.is_char_boundary(*end)).unwrap_or_default();
            if value.len() > LABEL_VALUE_MAX {
                value.truncate(end);
                value.shrink_to_fit();
            }
            labels.insert(key, value);
        }
        Ok(Labels(labels))
    }
}
