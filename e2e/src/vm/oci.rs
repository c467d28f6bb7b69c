//! Writes OCI images of one layer, as `ctr images import` takes them: no registry, no daemon.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use super::{Error, process};

/// What an image is called and runs.
#[derive(Debug, Clone, Copy, Default)]
pub struct Image<'a> {
    /// The full reference, which is the name that it is imported under.
    pub name: &'a str,
    /// What every container of it runs, before its arguments.
    pub entrypoint: &'a [String],
    /// The arguments, or else the whole command, of a container that names none.
    pub command: &'a [String],
    /// `UID` or `UID:GID`; empty for root.
    pub user: &'a str,
}

/// A blob's place in a manifest or an index.
fn descriptor(kind: &str, digest: &str, size: usize) -> Value {
    json!({"mediaType": format!("application/vnd.oci.image.{kind}"), "digest": format!("sha256:{digest}"), "size": size})
}

fn config(image: &Image, layer: &str) -> Value {
    json!({
        "architecture": "amd64",
        "os": "linux",
        "config": {
            "Env": ["PATH=/usr/local/bin:/usr/bin:/bin"],
            "Entrypoint": image.entrypoint,
            "Cmd": image.command,
            "User": image.user,
        },
        "rootfs": {"type": "layers", "diff_ids": [format!("sha256:{layer}")]},
    })
}

fn index(image: &Image, mut manifest: Value) -> Value {
    manifest["annotations"] =
        json!({"io.containerd.image.name": image.name, "org.opencontainers.image.ref.name": image.name});
    manifest["platform"] = json!({"architecture": "amd64", "os": "linux"});
    json!({"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": [manifest]})
}

/// Writes the image of the root file system in `root` to the tar file `target`.
///
/// # Errors
/// When a file cannot be read or written.
pub fn write(target: &Path, root: &Path, image: &Image) -> Result<(), Error> {
    let layout = target.with_extension("layout");
    let blobs = layout.join("blobs/sha256");
    super::cache::make_folder(&blobs)?;
    let blob = |data: &[u8]| -> Result<String, Error> {
        let digest = process::sha256(data)?;
        let path = blobs.join(&digest);
        fs::write(&path, data).map_err(Error::io("write", &path))?;
        Ok(digest)
    };
    let layer = process::output(archive(root).args(["--file=-", "."]))?;
    let layer_digest = blob(&layer)?;
    let config = config(image, &layer_digest).to_string();
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": descriptor("config.v1+json", &blob(config.as_bytes())?, config.len()),
        "layers": [descriptor("layer.v1.tar", &layer_digest, layer.len())],
    })
    .to_string();
    let manifest = descriptor("manifest.v1+json", &blob(manifest.as_bytes())?, manifest.len());
    for (name, text) in [("index.json", index(image, manifest)), ("oci-layout", json!({"imageLayoutVersion": "1.0.0"}))]
    {
        let path = layout.join(name);
        fs::write(&path, text.to_string()).map_err(Error::io("write", &path))?;
    }
    process::output(archive(&layout).arg("--file").arg(target).args(["blobs", "index.json", "oci-layout"]))?;
    fs::remove_dir_all(&layout).map_err(Error::io("remove", &layout))
}

/// `tar`, the same for the same contents whoever calls it.
fn archive(folder: &Path) -> std::process::Command {
    let mut tar = process::tool("tar");
    tar.arg("--directory").arg(folder);
    tar.args(["--create", "--sort=name", "--numeric-owner", "--owner=0", "--group=0", "--mtime=@0"]);
    tar
}

#[cfg(test)]
mod tests {
    use super::*;

    const IMAGE: Image = Image { name: "docker.io/library/x:test", entrypoint: &[], command: &[], user: "65532" };

    #[test]
    fn every_reference_leads_to_a_blob_of_that_digest() {
        let folder = std::env::temp_dir().join(format!("mooring-oci-{}", std::process::id()));
        fs::create_dir_all(folder.join("root")).unwrap();
        fs::write(folder.join("root/file"), "x").unwrap();
        write(&folder.join("x.tar"), &folder.join("root"), &IMAGE).unwrap();
        process::output(process::tool("tar").args(["-xf", "x.tar"]).current_dir(&folder)).unwrap();
        let blob = |descriptor: &Value| {
            let digest = descriptor["digest"].as_str().unwrap().strip_prefix("sha256:").unwrap().to_owned();
            let data = fs::read(folder.join("blobs/sha256").join(&digest)).unwrap();
            assert_eq!(process::sha256(&data).unwrap(), digest);
            assert_eq!(descriptor["size"], data.len());
            data
        };
        let index: Value = serde_json::from_slice(&fs::read(folder.join("index.json")).unwrap()).unwrap();
        assert_eq!(index["manifests"][0]["annotations"]["io.containerd.image.name"], IMAGE.name);
        let manifest: Value = serde_json::from_slice(&blob(&index["manifests"][0])).unwrap();
        let config: Value = serde_json::from_slice(&blob(&manifest["config"])).unwrap();
        blob(&manifest["layers"][0]);
        assert_eq!(config["config"]["User"], "65532");
        assert_eq!(config["rootfs"]["diff_ids"][0], manifest["layers"][0]["digest"]);
        fs::remove_dir_all(&folder).unwrap();
    }
}
