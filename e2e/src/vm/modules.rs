//! Kernel modules: which a guest needs, what they depend on, in which order they load.
//!
//! The dependencies are read from the modules themselves, so that nothing of the host's own kernel tools is needed.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use super::{Error, process};

/// What every guest wants. What a kernel has built in (7.2 has most) is skipped.
const WANTED: [&str; 6] = ["virtio_pci", "virtio_blk", "virtio_console", "overlay", "loop", "fuse"];

/// What a cluster's node wants besides: a network, a bridge with pods on it, and the rules that lead them to the API server.
const WANTED_BY_NODE: [&str; 8] =
    ["virtio_net", "bridge", "veth", "nf_tables", "nft_chain_nat", "nft_nat", "nft_masq", "nft_reject_ipv4"];

/// The names that a module depends on, from the `depends=` entry of its `.modinfo` section.
#[must_use]
pub fn depends(module: &[u8]) -> Vec<String> {
    const KEY: &[u8] = b"\0depends=";
    let Some(at) = module.windows(KEY.len()).position(|window| window == KEY) else {
        return Vec::new();
    };
    let value = &module[at + KEY.len()..];
    let end = value.iter().position(|byte| *byte == 0).unwrap_or(value.len());
    let value = String::from_utf8_lossy(&value[..end]);
    value.split(',').filter(|name| !name.is_empty()).map(normal).collect()
}

/// Modules' names and file names differ in `-` and `_`.
fn normal(name: &str) -> String {
    name.replace('-', "_")
}

/// The module's name, where `path` is one's file: `virtio_blk` for `.../virtio-blk.ko.xz`.
fn name_of(path: &Path) -> Option<String> {
    let file = path.file_name()?.to_str()?;
    let stem = file.strip_suffix(".ko").or_else(|| file.strip_suffix(".ko.xz"))?;
    Some(normal(stem))
}

fn collect(folder: &Path, found: &mut BTreeMap<String, PathBuf>) -> Result<(), Error> {
    for entry in fs::read_dir(folder).map_err(Error::io("read", folder))? {
        let path = entry.map_err(Error::io("read", folder))?.path();
        if path.is_dir() && !path.is_symlink() {
            collect(&path, found)?;
        } else if let Some(name) = name_of(&path) {
            found.insert(name, path);
        }
    }
    Ok(())
}

fn read(path: &Path) -> Result<Vec<u8>, Error> {
    if path.extension().is_some_and(|extension| extension == "xz") {
        process::output(process::tool("xz").arg("--decompress").arg("--stdout").arg(path))
    } else {
        fs::read(path).map_err(Error::io("read", path))
    }
}

fn add(name: &str, found: &BTreeMap<String, PathBuf>, ordered: &mut Vec<(String, Vec<u8>)>) -> Result<(), Error> {
    if ordered.iter().any(|(there, _)| there == name) {
        return Ok(());
    }
    let Some(path) = found.get(name) else {
        return Ok(());
    };
    let module = read(path)?;
    for needed in depends(&module) {
        add(&needed, found, ordered)?;
    }
    ordered.push((name.to_owned(), module));
    Ok(())
}

/// Modules by name, uncompressed, each after those that it depends on.
pub type Modules = Vec<(String, Vec<u8>)>;

/// The modules below `tree` that every guest wants, and those that a node wants besides.
///
/// # Errors
/// When a file cannot be read or unpacked.
pub fn for_guest(tree: &Path) -> Result<(Modules, Modules), Error> {
    let mut found = BTreeMap::new();
    collect(tree, &mut found)?;
    let mut ordered = Vec::new();
    for name in WANTED {
        add(name, &found, &mut ordered)?;
    }
    let every = ordered.len();
    for name in WANTED_BY_NODE {
        add(name, &found, &mut ordered)?;
    }
    let node = ordered.split_off(every);
    Ok((ordered, node))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dependencies_are_read_from_modinfo() {
        assert_eq!(depends(b"ELF\0license=GPL\0depends=virtio,virtio-ring\0name=x\0"), ["virtio", "virtio_ring"]);
        assert!(depends(b"ELF\0depends=\0name=x\0").is_empty());
        assert!(depends(b"no module").is_empty());
    }

    #[test]
    fn file_names() {
        assert_eq!(name_of(Path::new("/k/virtio-blk.ko.xz")).as_deref(), Some("virtio_blk"));
        assert_eq!(name_of(Path::new("/k/overlay.ko")).as_deref(), Some("overlay"));
        assert_eq!(name_of(Path::new("/k/modules.builtin")), None);
    }

    #[test]
    fn a_module_comes_after_what_it_depends_on() {
        let folder = std::env::temp_dir().join(format!("mooring-modules-{}", std::process::id()));
        fs::create_dir_all(folder.join("a")).unwrap();
        fs::write(folder.join("virtio_blk.ko"), b"\0depends=virtio\0").unwrap();
        fs::write(folder.join("a/virtio.ko"), b"\0depends=\0").unwrap();
        fs::write(folder.join("virtio_net.ko"), b"\0depends=virtio,failover\0").unwrap();
        fs::write(folder.join("failover.ko"), b"\0depends=\0").unwrap();
        let (every, node) = for_guest(&folder).unwrap();
        fs::remove_dir_all(&folder).unwrap();
        let names = |modules: Modules| modules.into_iter().map(|(name, _)| name).collect::<Vec<_>>();
        assert_eq!(names(every), ["virtio", "virtio_blk"]);
        assert_eq!(names(node), ["failover", "virtio_net"]);
    }
}
