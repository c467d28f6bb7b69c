mod files;
mod hostile;
mod watching;

use std::path::Path;

use mooring_policy::NodeDefaults;

use super::{LoadErrors, PolicySet, load};
pub(super) use crate::containers::scratch::Scratch;

/// A policy of this name that says nothing else.
pub(super) fn policy(name: &str) -> String {
    format!("apiVersion: mooring.dev/v1alpha1\nkind: ContainerDriftPolicy\nmetadata:\n  name: {name}\nspec: {{}}\n")
}

pub(super) fn load_here(path: &Path) -> Result<PolicySet, LoadErrors> {
    load(path, NodeDefaults::default())
}

/// The errors as printed, the scratch folder's name left out.
pub(super) fn refusal(scratch: &Scratch, path: &Path) -> Vec<String> {
    let errors = load_here(path).expect_err("it should be refused");
    let here = scratch.path().display().to_string();
    errors.errors().iter().map(|error| error.to_string().replace(&here, "")).collect()
}

pub(super) fn refusal_of(content: impl AsRef<[u8]>) -> String {
    let scratch = Scratch::new();
    let file = scratch.write("p.yaml", content);
    refusal(&scratch, &file).join(" | ")
}

pub(super) fn with_detect(detect: &str) -> String {
    policy("p").replace("spec: {}", &format!("spec:\n  detect:\n{detect}"))
}
