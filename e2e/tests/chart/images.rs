//! The images: what is in them, and that they are the same whenever they are built.

use std::path::Path;
use std::process::Command;

use mooring_e2e::cluster::Images;
use mooring_e2e::testing::repository;
use serde_json::Value;

const TARGET: &str = "x86_64-unknown-linux-gnu";

/// Reads a file of a tar archive.
fn read(archive: &Path, file: &str) -> Vec<u8> {
    let output =
        Command::new("tar").arg("--to-stdout").arg("--extract").arg("--file").arg(archive).arg(file).output().unwrap();
    assert!(output.status.success(), "{}: {}", archive.display(), String::from_utf8_lossy(&output.stderr));
    output.stdout
}

fn blob(archive: &Path, digest: &Value) -> Vec<u8> {
    read(archive, &format!("blobs/{}", digest.as_str().unwrap().replace(':', "/")))
}

fn json(bytes: &[u8]) -> Value {
    serde_json::from_slice(bytes).unwrap()
}

/// Its manifest's digest, and the manifest.
fn manifest(archive: &Path) -> (String, Value) {
    let index = json(&read(archive, "index.json"));
    let digest = &index["manifests"][0]["digest"];
    (digest.as_str().unwrap().to_owned(), json(&blob(archive, digest)))
}

#[test]
#[ignore = "needs the images: make test-chart"]
fn they_hold_a_static_program_and_what_it_is_made_of() {
    let images = Images::built().unwrap();
    for (archive, name, user) in
        [(&images.enforcer, "mooring-enforcer", ""), (&images.operator, "mooring-operator", "65532:65532")]
    {
        let (_, manifest) = manifest(archive);
        let config = json(&blob(archive, &manifest["config"]["digest"]));
        assert_eq!((&config["architecture"], &config["os"]), (&"amd64".into(), &"linux".into()));
        let config = &config["config"];
        assert_eq!(config["Entrypoint"], serde_json::json!([format!("/{name}")]));
        assert_eq!(config["User"].as_str().unwrap_or_default(), user);
        let labels = &config["Labels"];
        assert_eq!(labels["org.opencontainers.image.title"], *name);
        assert_eq!(labels["org.opencontainers.image.version"], env!("CARGO_PKG_VERSION"));
        assert_eq!(labels["org.opencontainers.image.licenses"], "Apache-2.0");
        assert_eq!(manifest["layers"].as_array().unwrap().len(), 1);
        let folder = std::env::temp_dir().join(format!("mooring-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let layer = folder.join("layer");
        std::fs::write(&layer, blob(archive, &manifest["layers"][0]["digest"])).unwrap();
        let listed = Command::new("tar").arg("-tvf").arg(&layer).output().unwrap();
        let listed = String::from_utf8(listed.stdout).unwrap();
        let files: Vec<(&str, &str)> = listed
            .lines()
            .map(|line| (line.split(' ').next().unwrap(), line.rsplit(' ').next().unwrap()))
            .filter(|(mode, _)| mode.starts_with('-'))
            .collect();
        assert_eq!(files, [("-rwxr-xr-x", name), ("-rw-r--r--", "sbom.cdx.json")], "{listed}");
        let program = folder.join(name);
        std::fs::write(&program, read(&layer, name)).unwrap();
        let kind = Command::new("readelf").args(["--program-headers", "--wide"]).arg(&program).output().unwrap();
        let headers = String::from_utf8(kind.stdout).unwrap();
        assert!(headers.contains("LOAD") && !headers.contains("INTERP"), "{headers}");
        let materials = json(&read(&layer, "sbom.cdx.json"));
        assert_eq!(
            (&materials["bomFormat"], &materials["metadata"]["component"]["name"]),
            (&"CycloneDX".into(), &name.into())
        );
        let named = |wanted: &str| materials["components"].as_array().unwrap().iter().any(|one| one["name"] == *wanted);
        assert!(named("kube-client") && named("rustls"), "{materials}");
        // The agent's BPF loader is no part of the operator.
        assert_eq!(named("libbpf-sys"), name == "mooring-enforcer");
        std::fs::remove_dir_all(&folder).unwrap();
    }
}

#[test]
#[ignore = "needs the images: make test-chart"]
fn two_builds_give_the_same_digests() {
    let folder = std::env::temp_dir().join(format!("mooring-again-{}", std::process::id()));
    // Whatever umask whoever builds has.
    let mut again = Command::new("sh");
    again.args(["-c", "umask 077 && exec \"$0\" \"$@\""]).arg(repository("scripts/images")).arg(TARGET).arg(&folder);
    let built = again.output().unwrap();
    assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
    let (first, second) = (Images::built().unwrap(), Images::in_folder(&folder).unwrap());
    assert_eq!(manifest(&first.enforcer).0, manifest(&second.enforcer).0);
    assert_eq!(manifest(&first.operator).0, manifest(&second.operator).0);
    std::fs::remove_dir_all(&folder).unwrap();
}
