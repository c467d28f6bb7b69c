//! Writes what is generated from the API types: `crdgen [--check] ROOT`, where ROOT is the repository.
//!
//! With `--check` nothing is written: it fails where a committed file differs, and names the file and the command.
//! An example rather than a binary, so that the YAML writer is a dependency of this program only, not of the library.

use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::{env, fs};

use mooring_crd::{GROUP, Kind, access, reference::reference};
use serde_json::Value;

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
fn files(root: &Path) -> Result<Vec<(PathBuf, String)>, Box<dyn Error>> {
    let mut files = Vec::new();
    let chart = root.join("deploy/helm/mooring");
    for kind in Kind::ALL {
        let definition = kind.definition()?;
        let plural = kind.plural();
        files.push((chart.join(format!("files/crds/{GROUP}_{plural}.yaml")), yaml(&[&kept(&definition)])?));
        let page = format!("docs/reference/{}.md", kind.as_str().to_lowercase());
        files.push((root.join(page), reference(kind, &definition)));
    }
    for manifest in access::manifests() {
        let objects: Vec<&Value> = manifest.objects.iter().collect();
        let mut template = yaml(&objects)?;
        if template.contains("{{") {
            return Err(format!("{}: Helm would take `{{{{` for its own", manifest.file).into());
        }
        if let Some(condition) = manifest.condition {
            template = format!("{{{{- if .Values.{condition} }}}}\n{template}{{{{- end }}}}\n");
        }
        files.push((chart.join("templates").join(manifest.file), template));
    }
    files.push((root.join("docs/reference/rights.md"), access::reference()));
    Ok(files)
}

/// A definition that Helm does not delete with the release, for all policies would go with it.
fn kept(definition: &Value) -> Value {
    let mut definition = definition.clone();
    definition["metadata"]["annotations"]["helm.sh/resource-policy"] = "keep".into();
    definition
}

/// Objects as one file.
fn yaml(objects: &[&Value]) -> Result<String, Box<dyn Error>> {
    let mut text = HEADER.to_owned();
    for (index, object) in objects.iter().enumerate() {
        if index > 0 {
            text.push_str("---\n");
        }
        text.push_str(serde_saphyr::to_string(object)?.trim_end());
        text.push('\n');
    }
    Ok(text)
}
