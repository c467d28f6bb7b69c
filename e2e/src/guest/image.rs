//! The test image: busybox, a few dynamically linked tools, the probe, and what the tables of attacks refer to.

use super::HarnessError;
use super::error::{OnFile, Result};
use super::system::{find_program, run};
use crate::attacks::case::{C_LIBRARY, LOADER};
use crate::attacks::{TOKEN, copy_ups, elf, matrix};
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

/// The folder that is every container's lower layer.
#[derive(Debug, Clone)]
pub(crate) struct Image {
    pub(crate) root: PathBuf,
    /// The root filesystem that it was made of.
    pub(crate) busybox: PathBuf,
}

impl Image {
    /// Makes the image below `work`, of busybox in the folder `images`.
    pub(crate) fn build(work: &Path, images: &Path) -> Result<Image> {
        let image = Image { root: work.join("image"), busybox: images.join("busybox/rootfs") };
        let root = image.root.to_string_lossy().into_owned();
        fs::create_dir_all(&image.root).on("create", &image.root)?;
        run("cp", &["-a", &format!("{}/.", image.busybox.display()), &root])?;
        let me = std::env::current_exe().on("find", "the guest binary")?;
        image.copy(&me, "/usr/bin/probe")?;
        image.folders()?;
        image.programs()?;
        image.glibc_tools()?;
        Ok(image)
    }

    /// A path of the image, as the host sees it.
    pub(crate) fn path(&self, inside: &str) -> PathBuf {
        self.root.join(inside.trim_start_matches('/'))
    }

    fn write(&self, inside: &str, content: &[u8], mode: u32) -> Result<()> {
        let path = self.path(inside);
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent).on("create", parent)?;
        }
        fs::write(&path, content).on("write", &path)?;
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).on("chmod", &path)
    }

    /// Puts a program of the guest into the image; containers that run already do not see it for certain.
    pub(crate) fn copy(&self, host: &Path, inside: &str) -> Result<()> {
        let content = fs::read(host).on("read", host)?;
        self.write(inside, &content, 0o755)
    }

    fn folders(&self) -> Result<()> {
        for inside in ["/proc", "/sys", "/dev", "/run", "/tmp", "/vol", "/drop", "/fix/covered"] {
            let path = self.path(inside);
            fs::create_dir_all(&path).on("create", &path)?;
        }
        // Other users work there too.
        for inside in ["/drop", "/tmp"] {
            let path = self.path(inside);
            fs::set_permissions(&path, fs::Permissions::from_mode(0o777)).on("chmod", &path)?;
        }
        self.write("/volfile", b"", 0o755)
    }

    fn programs(&self) -> Result<()> {
        let text = format!("{TOKEN}\n");
        let program = |inside: &str| self.write(inside, &elf::program(&text, inside), 0o755);
        program("/fix/tiny")?;
        for case in matrix().chain(copy_ups()) {
            let victim = case.victim();
            program(&victim)?;
            program(&format!("{victim}.twin"))?;
            // Overlayfs treats a file with several names differently: only where the case is about that.
            if case.setup.contains("$V.link") {
                let link = self.path(&format!("{victim}.link"));
                fs::hard_link(self.path(&victim), &link).on("link", &link)?;
            }
        }
        for name in
            ["by-path", "by-fd", "in-a-folder", "in-a-chroot", "renamed", "linked", "symlinked", "moved", "evicted"]
        {
            program(&format!("/fix/prohibited/{name}"))?;
        }
        for name in ["python3.11", "python3.12", "python3-config"] {
            program(&format!("/fix/prohibited/{name}"))?;
        }
        let busybox = self.path("/bin/busybox");
        for name in ["updater", "renamed", "chmodded", "overwritten", "other", "spare", "bound", "server", "served"] {
            self.copy(&busybox, &format!("/fix/process/busybox-{name}"))?;
        }
        for folder in ["one", "one/two"] {
            self.copy(&busybox, &format!("/fix/process/vendor/{folder}/busybox-tool"))?;
        }
        program("/fix/app/bin/server")?;
        program("/fix/app/lib/plugin")?;
        let script = format!("#!/bin/sh\necho {TOKEN}\n");
        self.write("/fix/script", script.as_bytes(), 0o755)?;
        self.write("/fix/needs-interpreter", b"#!/opt/late/interpreter\n", 0o755)?;
        self.write("/fix/token", text.as_bytes(), 0o644)?;
        for (program, interpreter) in [
            ("needs-elf-interpreter", "/opt/late/ld.so"),
            ("has-elf-interpreter", "/fix/ld.so"),
            ("has-spare-elf-interpreter", "/fix/spare-ld.so"),
        ] {
            let bytes = elf::program_with_interpreter("the program itself ran\n", interpreter);
            self.write(&format!("/fix/{program}"), &bytes, 0o755)?;
        }
        self.write("/fix/no-program", b"no program\n", 0o755)?;
        program("/fix/ld.so")?;
        program("/fix/spare-ld.so")?;
        let dangling = self.path("/fix/dangling");
        symlink("/opt/late/program", &dangling).on("link", &dangling)?;
        self.busybox_applets(&["nc", "wc", "mount", "umount", "chroot", "setsid", "fallocate"])
    }

    /// Links for applets that the root lacks: most busybox images have them as hard links, some have few.
    fn busybox_applets(&self, names: &[&str]) -> Result<()> {
        let busybox = self.path("/bin/busybox");
        if !busybox.exists() {
            return Err(HarnessError::Missing(format!("{}/bin/busybox is not there", self.busybox.display())));
        }
        for name in names {
            // Always a symlink: prohibiting a hard link would prohibit the whole of busybox.
            let path = self.path(&format!("/bin/{name}"));
            if fs::symlink_metadata(&path).is_ok() {
                fs::remove_file(&path).on("remove", &path)?;
            }
            symlink("busybox", &path).on("link", &path)?;
        }
        Ok(())
    }

    /// The guest's own bash and cat with all that they load.
    fn glibc_tools(&self) -> Result<()> {
        for (name, inside) in [("cat", "/bin/gcat"), ("bash", "/bin/gbash")] {
            let tool = dynamic_program(name)?;
            self.copy(&tool, inside)?;
            let listed = run(LOADER, &["--list", &tool.to_string_lossy()])?;
            for library in listed.split_whitespace().filter(|word| word.starts_with('/')) {
                let library = Path::new(library);
                let name = library.file_name().map(|n| n.to_string_lossy().into_owned());
                if let (Some(name), false) = (name, library == Path::new(LOADER)) {
                    self.copy(library, &format!("/lib/x86_64-linux-gnu/{name}"))?;
                }
            }
        }
        self.copy(Path::new(C_LIBRARY), C_LIBRARY)?;
        self.copy(Path::new(LOADER), LOADER)?;
        self.copy(&self.path("/bin/gcat"), "/fix/prohibited/cat")
    }

    /// The image as an archive that `ctr images import` takes, named `reference`.
    pub(crate) fn archive(&self, work: &Path, reference: &str) -> Result<PathBuf> {
        let folder = work.join("archive");
        fs::create_dir_all(&folder).on("create", &folder)?;
        let at = |name: &str| folder.join(name).to_string_lossy().into_owned();
        let root = self.root.to_string_lossy();
        run("tar", &["-C", &root, "-cf", &at("layer.tar"), "."])?;
        let sum = run("sha256sum", &[&at("layer.tar")])?;
        let digest = sum.split_whitespace().next().unwrap_or_default();
        let config = serde_json::json!({
            "architecture": "amd64", "os": "linux",
            "config": {"Env": ["PATH=/bin:/usr/bin:/sbin:/usr/sbin"]},
            "rootfs": {"type": "layers", "diff_ids": [format!("sha256:{digest}")]},
        });
        let manifest = serde_json::json!([{
            "Config": "config.json", "RepoTags": [reference], "Layers": ["layer.tar"],
        }]);
        fs::write(at("config.json"), config.to_string()).on("write", at("config.json"))?;
        fs::write(at("manifest.json"), manifest.to_string()).on("write", at("manifest.json"))?;
        let archive = work.join("image.tar");
        run(
            "tar",
            &[
                "-C",
                &folder.to_string_lossy(),
                "-cf",
                &archive.to_string_lossy(),
                "manifest.json",
                "config.json",
                "layer.tar",
            ],
        )?;
        fs::remove_dir_all(&folder).on("remove", &folder)?;
        Ok(archive)
    }
}

/// The guest's program `name`, if it is dynamically linked (busybox would not do).
fn dynamic_program(name: &str) -> Result<PathBuf> {
    let missing = || {
        HarnessError::Missing(format!(
            "the guest has no dynamically linked {name}: the root image must contain coreutils and bash"
        ))
    };
    let path = find_program(&[name]).ok_or_else(missing)?;
    let path = fs::canonicalize(&path).on("resolve", &path)?;
    let bytes = fs::read(&path).on("read", &path)?;
    let loader = LOADER.as_bytes();
    if bytes.windows(loader.len()).take(4096).any(|window| window == loader) { Ok(path) } else { Err(missing()) }
}
