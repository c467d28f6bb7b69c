//! Writes what is generated from the API types: `crdgen [--check] ROOT`, where ROOT is the repository.
//!
//! With `--check` nothing is written: it fails where a committed file differs, and names the file and the command.
//! An example rather than a binary, so that the YAML writer is a dependency of this program only, not of the library.

use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::{env, fs};

use mooring_crd::{policy_definition, reference::policy_reference};

const HEADER: &str = "# Generated from crates/crd by `make gen`: edit the types there.\n";

fn main() -> ExitCode {
    match run() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(e) => {
            eprintln!("crdgen: {e}");
            ExitCode::from(2)
        }
    }
}

/// Whether all is as it should be.
fn run() -> Result<bool, Box<dyn Error>> {
    let mut arguments: Vec<String> = env::args().skip(1).collect();
    let check = arguments.first().is_some_and(|a| a == "--check");
    if check {
        arguments.remove(0);
    }
    let [root] = arguments.as_slice() else {
        return Err("usage: crdgen [--check] ROOT".into());
    };
    let mut good = true;
    for (path, content) in files(Path::new(root))? {
        if check {
            if fs::read_to_string(&path).is_ok_and(|committed| committed == content) {
                continue;
            }
            good = false;
            eprintln!("{} is not what the types generate: run `make gen`", path.display());
        } else {
            if let Some(folder) = path.parent() {
                fs::create_dir_all(folder)?;
            }
            fs::write(&path, content)?;
            eprintln!("wrote {}", path.display());
        }
    }
    Ok(good)
}

/// Every generated file, with its content.
fn files(root: &Path) -> Result<[(PathBuf, String); 2], Box<dyn Error>> {
    let definition = policy_definition()?;
    let yaml = serde_saphyr::to_string(&definition)?;
    Ok([
        (root.join("deploy/crds/mooring.dev_containerdriftpolicies.yaml"), format!("{HEADER}{}\n", yaml.trim_end())),
        (root.join("docs/reference/containerdriftpolicy.md"), policy_reference(&definition)),
    ])
}
