//! The root image that all guests share: a small Debian with container runtimes, and images for containers.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use super::apt::{Index, Mirror};
use super::cache::{self, Cache};
use super::oci::{self, Image};
use super::progress::{Step, say};
use super::{Error, process};

/// The suite that the image is made of. Its runc executes itself from a memfd, the case that is easiest to get wrong.
const SUITE: &str = "trixie";

/// What the guest needs; maintainer scripts do not run, dependencies are taken along.
const PACKAGES: &str = "attr,base-files,bash,bpftool,busybox-static,containerd,coreutils,crun,diffutils,e2fsprogs,findutils,\
    fuse-overlayfs,grep,gzip,hostname,iproute2,kmod,libc-bin,libcap2-bin,mount,nftables,procps,runc,sed,strace,tar,util-linux";

/// Other suites' runc, which executes itself in other ways; in `/opt/runc-<suite>/runc`.
const OTHER_RUNC: [(&str, &[&str]); 2] = [("bookworm", &["bookworm", "bookworm-security"]), ("sid", &["sid"])];

/// Programs of the image `tools`: dynamically linked, unlike busybox.
const TOOLS: [&str; 22] = [
    "bash", "cat", "chmod", "chown", "cp", "dd", "echo", "env", "id", "ln", "ls", "mkdir", "mount", "mv", "rm", "sh",
    "sleep", "stat", "touch", "true", "umount", "unshare",
];

/// The image's size; it is sparse.
const SIZE: &str = "1G";

/// Files that maintainer scripts would have made.
const FILES: [(&str, &str); 6] = [
    ("etc/passwd", "root:x:0:0:root:/root:/bin/bash\nnobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n"),
    ("etc/group", "root:x:0:\ntty:x:5:\nnogroup:x:65534:\n"),
    ("etc/hostname", "mooring\n"),
    ("etc/hosts", "127.0.0.1 localhost mooring\n"),
    // Some things want a machine id, and it must not differ from run to run.
    ("etc/machine-id", "6d6f6f72696e67006d6f6f72696e6700\n"),
    ("etc/mtab", ""),
];

/// Raised when the code below builds something else from the same lists.
const REVISION: u32 = 1;

/// The root image, from the cache or built anew.
///
/// With `thorough` the cached image is read in full to compare its checksum; without, its size and time are compared.
///
/// # Errors
/// When it can be neither found nor built.
pub fn ensure(cache: &Cache, mirror: &dyn Fn() -> Result<Mirror, Error>, thorough: bool) -> Result<PathBuf, Error> {
    let recipe = format!("{REVISION} {SUITE} {PACKAGES} {OTHER_RUNC:?} {TOOLS:?} {SIZE} {FILES:?}");
    let key = process::sha256(recipe.as_bytes())?;
    let folder = cache.path("root").join(&key[..16]);
    let image = folder.join("root.ext4");
    let good = || cache::unchanged(&folder) && (!thorough || cache::verify(&folder));
    if good() {
        return Ok(image);
    }
    let _lock = cache.lock("download")?;
    if good() {
        return Ok(image);
    }
    if folder.exists() {
        say("the root image in the cache is damaged and will be built again");
    }
    build(cache, &mirror()?, &folder)?;
    Ok(image)
}

fn build(cache: &Cache, mirror: &Mirror, target: &Path) -> Result<(), Error> {
    let scratch = cache.scratch("root")?;
    let tree = scratch.folder("tree")?;

    let step = Step::begin(format!("root image: packages of {SUITE}"));
    let archive = scratch.path().join("root.tar");
    let mut bootstrap = process::tool("mmdebstrap");
    bootstrap.args([
        "--quiet",
        "--variant=extract",
        "--architectures=amd64",
        "--aptopt=Acquire::Check-Valid-Until \"false\"",
    ]);
    bootstrap.arg(format!("--include={PACKAGES}")).arg(SUITE).arg(&archive).arg("-");
    process::output_with_input(&mut bootstrap, mirror.sources(&[SUITE])?.as_bytes())?;
    let mut unpack = process::as_root("tar");
    unpack.args([
        "--extract",
        "--no-same-owner",
        "--preserve-permissions",
        "--exclude=./dev/*",
        "--exclude=./usr/share/doc/*",
    ]);
    unpack.args(["--exclude=./usr/share/man/*", "--exclude=./usr/share/locale/*", "--exclude=./var/cache/apt/*"]);
    unpack.args(["--exclude=./var/lib/apt/*", "--file"]).arg(&archive).arg("--directory").arg(&tree);
    process::output(&mut unpack)?;
    fs::remove_file(&archive).map_err(Error::io("remove", &archive))?;
    step.done();

    let step = Step::begin("root image: other suites' runc");
    for (suite, suites) in OTHER_RUNC {
        let index = Index::update(cache, mirror, suites)?;
        let unpacked = scratch.path().join(suite);
        index.unpack(&["runc".to_owned()], &scratch.path().join("deb"), &unpacked)?;
        let folder = tree.join(format!("opt/runc-{suite}"));
        cache::make_folder(&folder)?;
        let from = ["usr/sbin/runc", "usr/bin/runc"].map(|path| unpacked.join(path));
        let from = from.iter().find(|path| path.exists()).unwrap_or(&from[0]);
        fs::copy(from, folder.join("runc")).map_err(Error::io("copy", from))?;
    }
    step.done();

    let step = Step::begin("root image: container images, file system");
    complete(&tree)?;
    let built = scratch.folder("built")?;
    let image = built.join("root.ext4");
    // 5.10 must be able to mount what a newer mke2fs makes; and nothing is to be initialised later, behind a benchmark.
    let mut format = process::as_root("mke2fs");
    format.args(["-q", "-t", "ext4", "-m", "0", "-O", "^orphan_file,^metadata_csum_seed", "-E"]);
    format.args(["lazy_itable_init=0,lazy_journal_init=0,root_owner=0:0", "-d"]).arg(&tree).arg(&image).arg(SIZE);
    process::output(&mut format)?;
    cache::publish(&built, target)?;
    step.done();
    Ok(())
}

/// What packages do not bring: files of maintainer scripts, the linker's cache, containers' images.
fn complete(tree: &Path) -> Result<(), Error> {
    for folder in ["etc", "proc", "sys", "dev", "run", "tmp", "root", "out", "images"] {
        cache::make_folder(&tree.join(folder))?;
    }
    for (path, text) in FILES {
        let path = tree.join(path);
        fs::write(&path, text).map_err(Error::io("write", &path))?;
    }
    let shell = tree.join("usr/bin/sh");
    std::os::unix::fs::symlink("bash", &shell).map_err(Error::io("link", &shell))?;
    process::output(process::as_root("chroot").arg(tree).arg("/usr/sbin/ldconfig"))?;
    let images = tree.join("images");
    let busybox = images.join("busybox/rootfs");
    busybox_root(&tree.join("usr/bin/busybox"), &busybox)?;
    let image = |name, command: &str, root: &Path, file: &str| {
        let image = Image { name, command: &[command.to_owned()], ..Image::default() };
        oci::write(&images.join(file), root, &image)
    };
    image("docker.io/library/busybox:test", "sh", &busybox, "busybox.tar")?;
    let tools = images.join("tools/rootfs");
    tools_root(tree, &tools)?;
    image("docker.io/library/tools:test", "bash", &tools, "tools.tar")
}

fn container_folders(root: &Path) -> Result<(), Error> {
    for folder in ["dev", "etc", "proc", "root", "sys", "tmp", "usr/bin", "usr/lib", "var"] {
        cache::make_folder(&root.join(folder))?;
    }
    let tmp = root.join("tmp");
    fs::set_permissions(&tmp, fs::Permissions::from_mode(0o1777)).map_err(Error::io("open to all", &tmp))?;
    for (path, text) in &FILES[..2] {
        let path = root.join(path);
        fs::write(&path, text).map_err(Error::io("write", &path))?;
    }
    Ok(())
}

/// A root of one static program under many names, all hard links, as the well-known image has them.
fn busybox_root(program: &Path, root: &Path) -> Result<(), Error> {
    container_folders(root)?;
    let bin = root.join("bin");
    cache::make_folder(&bin)?;
    let busybox = bin.join("busybox");
    fs::copy(program, &busybox).map_err(Error::io("copy", program))?;
    let applets = process::output(process::tool(&busybox.to_string_lossy()).arg("--list"))?;
    for applet in String::from_utf8_lossy(&applets).lines().filter(|applet| *applet != "busybox") {
        let path = bin.join(applet);
        fs::hard_link(&busybox, &path).map_err(Error::io("link", &path))?;
    }
    let env = root.join("usr/bin/env");
    fs::hard_link(&busybox, &env).map_err(Error::io("link", &env))
}

/// A root of dynamically linked programs with exactly the libraries that they need.
fn tools_root(tree: &Path, root: &Path) -> Result<(), Error> {
    container_folders(root)?;
    for (link, to) in [("bin", "usr/bin"), ("sbin", "usr/bin"), ("lib", "usr/lib"), ("lib64", "usr/lib64")] {
        let path = root.join(link);
        std::os::unix::fs::symlink(to, &path).map_err(Error::io("link", &path))?;
    }
    let programs = TOOLS.map(|tool| format!("/usr/bin/{tool}"));
    let mut files = Vec::from(programs.clone());
    for program in &programs {
        let mut loader = process::as_root("chroot");
        let listed = process::output(loader.arg(tree).args(["/lib64/ld-linux-x86-64.so.2", "--list", program]))?;
        files.extend(libraries(&String::from_utf8_lossy(&listed)));
    }
    files.sort();
    files.dedup();
    for file in files {
        let from = tree.join(file.trim_start_matches('/'));
        // The links of a merged /usr are in both roots.
        let to = root.join(
            file.trim_start_matches('/')
                .trim_start_matches("usr/")
                .split_once('/')
                .map_or_else(|| file.clone(), |(folder, rest)| format!("usr/{folder}/{rest}")),
        );
        if let Some(parent) = to.parent() {
            cache::make_folder(parent)?;
        }
        fs::copy(&from, &to).map_err(Error::io("copy", &from))?;
    }
    Ok(())
}

/// The files in the loader's list of what a program needs.
fn libraries(listed: &str) -> Vec<String> {
    listed
        .lines()
        .filter_map(|line| line.split_whitespace().find(|word| word.starts_with('/')))
        .map(str::to_owned)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libraries_of_a_program() {
        let listed = "\tlinux-vdso.so.1 (0x7ffc)\n\tlibtinfo.so.6 => /lib/x86_64-linux-gnu/libtinfo.so.6 (0x7f1)\n\
            \t/lib64/ld-linux-x86-64.so.2 (0x7f2)\n";
        assert_eq!(libraries(listed), ["/lib/x86_64-linux-gnu/libtinfo.so.6", "/lib64/ld-linux-x86-64.so.2"]);
    }
}
