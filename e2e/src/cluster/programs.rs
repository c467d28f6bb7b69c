//! The programs of a control plane and its users: Kubernetes' own, kwok and Helm, built from source with Go, and Debian's etcd.
//!
//! All are built or fetched once and kept in the cache by what they are made of, for every checkout.

use std::fs;
use std::path::{Path, PathBuf};

use super::error::Result;
use super::helm;
use crate::vm::apt::{Index, Mirror};
use crate::vm::cache::{self, Cache};
use crate::vm::progress::Step;
use crate::vm::{Error, process};

/// Raised when the code below builds something else from the same module files.
const REVISION: u32 = 1;

/// A Go module whose `tool` lines name what is built.
#[derive(Debug, Clone, Copy)]
struct Module {
    name: &'static str,
    file: &'static str,
    sums: &'static str,
    /// How long a build takes with nothing cached, for the person who waits.
    cold: &'static str,
}

const KUBERNETES: Module = Module {
    name: "kubernetes",
    file: include_str!("../../cluster/kubernetes/go.mod"),
    sums: include_str!("../../cluster/kubernetes/go.sum"),
    cold: "6 to 10 minutes the first time",
};

const KWOK: Module = Module {
    name: "kwok",
    file: include_str!("../../cluster/kwok/go.mod"),
    sums: include_str!("../../cluster/kwok/go.sum"),
    cold: "2 to 4 minutes the first time",
};

const HELM: Module = Module {
    name: "helm",
    file: include_str!("../../cluster/helm/go.mod"),
    sums: include_str!("../../cluster/helm/go.sum"),
    cold: "4 to 5 minutes the first time",
};

const HELM3: Module = Module {
    name: "helm3",
    file: include_str!("../../cluster/helm3/go.mod"),
    sums: include_str!("../../cluster/helm3/go.sum"),
    cold: "4 to 5 minutes the first time",
};

const MONITORING: Module = Module {
    name: "monitoring",
    file: include_str!("../../cluster/monitoring/go.mod"),
    sums: include_str!("../../cluster/monitoring/go.sum"),
    cold: "seconds the first time",
};

/// The kinds of Prometheus' operator that the chart's options use.
const MONITORING_KINDS: [&str; 2] = ["podmonitors", "prometheusrules"];

/// What kwok's module says a node and a pod do; kwok exits without.
const KWOK_STAGES: [&str; 5] = [
    "node/fast/node-initialize.yaml",
    "node/heartbeat-with-lease/node-heartbeat-with-lease.yaml",
    "pod/fast/pod-ready.yaml",
    "pod/fast/pod-complete.yaml",
    "pod/fast/pod-delete.yaml",
];

/// Debian's suite that etcd is taken from, whatever this machine runs: older suites' etcd lacks what a current API server asks for.
const ETCD_SUITE: &str = "trixie";

/// Kubernetes' programs and etcd, in folders of the cache.
#[derive(Debug, Clone)]
pub struct Programs {
    kubernetes: PathBuf,
    etcd: PathBuf,
}

impl Programs {
    /// The programs from the cache, or built and fetched now.
    ///
    /// # Errors
    /// When they cannot be built or fetched.
    pub fn ensure(cache: &Cache, mirror: &dyn Fn() -> std::result::Result<Mirror, Error>) -> Result<Self> {
        let kubernetes = KUBERNETES.ensure(cache, |_, _| Ok(()))?;
        Ok(Self { kubernetes, etcd: etcd(cache, mirror)? })
    }

    /// The folder with Kubernetes' programs; its name changes with their content.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.kubernetes
    }

    /// One of Kubernetes' programs: `kubectl`, `kubelet`, …
    #[must_use]
    pub fn kubernetes(&self, name: &str) -> PathBuf {
        self.kubernetes.join(name)
    }

    /// etcd.
    #[must_use]
    pub fn etcd(&self) -> PathBuf {
        self.etcd.join("etcd")
    }

    /// Kubernetes' own pause program, which is one C file.
    #[must_use]
    pub fn pause(&self) -> PathBuf {
        self.kubernetes.join("pause")
    }
}

/// kwok and its configuration, from the cache or built now.
///
/// # Errors
/// When it cannot be built.
pub(super) fn kwok(cache: &Cache) -> Result<(PathBuf, PathBuf)> {
    let folder = KWOK.ensure(cache, |source, built| {
        let stages = module_folder(source, "sigs.k8s.io/kwok")?.join("kustomize/stage");
        let mut config = String::new();
        for stage in KWOK_STAGES {
            let path = stages.join(stage);
            config.push_str("---\n");
            config.push_str(&fs::read_to_string(&path).map_err(Error::io("read", &path))?);
        }
        let path = built.join("kwok.yaml");
        fs::write(&path, config).map_err(Error::io("write", &path))
    })?;
    Ok((folder.join("kwok"), folder.join("kwok.yaml")))
}

/// Helm, from the cache or built now.
///
/// # Errors
/// When it cannot be built.
pub(super) fn helm(cache: &Cache, version: helm::Version) -> Result<PathBuf> {
    let module = match version {
        helm::Version::Four => HELM,
        helm::Version::Three => HELM3,
    };
    Ok(module.ensure(cache, |_, _| Ok(()))?.join("helm"))
}

/// The definitions of the kinds of Prometheus' operator that the chart's options use: a folder of YAML files.
///
/// # Errors
/// When its module cannot be fetched.
pub(super) fn monitoring(cache: &Cache) -> Result<PathBuf> {
    let folder = MONITORING.ensure(cache, |source, built| {
        let module = module_folder(source, "github.com/prometheus-operator/prometheus-operator")?;
        for kind in MONITORING_KINDS {
            let name = format!("monitoring.coreos.com_{kind}.yaml");
            let from = module.join("example/prometheus-operator-crd").join(&name);
            fs::copy(&from, built.join(&name)).map_err(Error::io("copy", &from))?;
        }
        Ok(())
    })?;
    Ok(folder)
}

impl Module {
    /// The packages on the `tool` lines.
    fn tools(&self) -> Vec<&'static str> {
        let mut tools = Vec::new();
        let mut inside = false;
        for line in self.file.lines().map(str::trim) {
            match line.strip_prefix("tool ") {
                Some("(") => inside = true,
                Some(tool) => tools.push(tool),
                None if line == ")" => inside = false,
                None if inside => tools.push(line),
                None => {}
            }
        }
        tools
    }

    /// The version that the module file requires of `module`: `v1.36.3`.
    fn version(&self, module: &str) -> &'static str {
        let required = |line: &'static str| {
            let line = line.trim();
            line.strip_prefix("require ").unwrap_or(line).strip_prefix(module)?.strip_prefix(' ')
        };
        let version = self.file.lines().find_map(required).unwrap_or_default();
        version.split_whitespace().next().unwrap_or_default()
    }

    /// Some print odd versions without, and the API server's decides what clients believe.
    fn linker_flags(&self) -> String {
        for helm in ["helm.sh/helm/v4", "helm.sh/helm/v3"] {
            let version = self.version(helm);
            if !version.is_empty() {
                return format!("-s -w -X {helm}/internal/version.version={version}");
            }
        }
        let version = self.version("k8s.io/kubernetes");
        if version.is_empty() {
            return "-s -w".to_owned();
        }
        let mut numbers = version.trim_start_matches('v').split('.');
        let (major, minor) = (numbers.next().unwrap_or_default(), numbers.next().unwrap_or_default());
        let place = "k8s.io/component-base/version";
        format!(
            "-s -w -X {place}.gitVersion={version} -X {place}.gitMajor={major} -X {place}.gitMinor={minor} -X {place}.gitTreeState=clean"
        )
    }

    fn key(&self) -> std::result::Result<String, Error> {
        let recipe = format!("{REVISION} {} {} {}", self.linker_flags(), self.file, self.sums);
        Ok(process::sha256(recipe.as_bytes())?[..16].to_owned())
    }

    /// The folder with the module's tools. `complete` adds what else belongs there, given the module's and the new folder.
    fn ensure(
        &self,
        cache: &Cache,
        complete: impl Fn(&Path, &Path) -> std::result::Result<(), Error>,
    ) -> std::result::Result<PathBuf, Error> {
        let folder = cache.path("go").join(format!("{}-{}", self.name, self.key()?));
        if cache::unchanged(&folder) {
            return Ok(folder);
        }
        let _lock = cache.lock("go")?;
        // Another run may have built it while this one waited.
        if cache::unchanged(&folder) {
            return Ok(folder);
        }
        // Says what to install where there is none; `nice` below would not.
        process::output(process::tool("go").arg("version"))?;
        let step = Step::begin(format!("{}: building with Go ({})", self.name, self.cold));
        let scratch = cache.scratch("go")?;
        let source = scratch.folder("source")?;
        for (name, text) in [("go.mod", self.file), ("go.sum", self.sums)] {
            let path = source.join(name);
            fs::write(&path, text).map_err(Error::io("write", &path))?;
        }
        let built = scratch.folder("built")?;
        let tools = self.tools();
        if tools.is_empty() {
            process::output(process::tool("go").args(["mod", "download"]).current_dir(&source))?;
        } else {
            // Minutes of all processors: whatever else runs here goes first.
            let mut go = process::tool("nice");
            go.args(["-n", "5", "go", "build", "-trimpath", "-ldflags", &self.linker_flags(), "-o"]).arg(&built);
            process::output(go.args(tools).env("CGO_ENABLED", "0").current_dir(&source))?;
        }
        if self.name == KUBERNETES.name {
            pause(&source, &built)?;
        }
        complete(&source, &built)?;
        cache::publish(&built, &folder)?;
        step.done();
        Ok(folder)
    }
}

/// Where Go keeps the source of a module that `source` requires.
fn module_folder(source: &Path, module: &str) -> std::result::Result<PathBuf, Error> {
    let mut go = process::tool("go");
    go.args(["list", "-m", "-f", "{{.Dir}}", module]).current_dir(source);
    Ok(PathBuf::from(String::from_utf8_lossy(&process::output(&mut go)?).trim()))
}

fn pause(source: &Path, built: &Path) -> std::result::Result<(), Error> {
    let code = module_folder(source, "k8s.io/kubernetes")?.join("build/pause/linux/pause.c");
    let mut gcc = process::tool("gcc");
    gcc.args(["-Os", "-static", "-s", "-DVERSION=mooring", "-o"]).arg(built.join("pause")).arg(code);
    process::output(&mut gcc).map(drop)
}

fn etcd(cache: &Cache, mirror: &dyn Fn() -> std::result::Result<Mirror, Error>) -> std::result::Result<PathBuf, Error> {
    let folder = cache.path("etcd").join(format!("{ETCD_SUITE}-{REVISION}"));
    if cache::unchanged(&folder) {
        return Ok(folder);
    }
    let _lock = cache.lock("download")?;
    if cache::unchanged(&folder) {
        return Ok(folder);
    }
    let step = Step::begin(format!("etcd: downloading {ETCD_SUITE}'s"));
    let scratch = cache.scratch("etcd")?;
    let tree = scratch.path().join("tree");
    Index::update(cache, &mirror()?, &[ETCD_SUITE])?.unpack(
        &["etcd-server".to_owned()],
        &scratch.path().join("deb"),
        &tree,
    )?;
    let built = scratch.folder("built")?;
    let from = tree.join("usr/bin/etcd");
    fs::copy(&from, built.join("etcd")).map_err(Error::io("copy", &from))?;
    cache::publish(&built, &folder)?;
    step.done();
    Ok(folder)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_module_files_say() {
        let tools = KUBERNETES.tools();
        for tool in ["kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubectl", "kubelet"] {
            assert!(tools.contains(&format!("k8s.io/kubernetes/cmd/{tool}").as_str()), "{tool}: {tools:?}");
        }
        assert_eq!(tools.len(), 5);
        assert_eq!(KWOK.tools(), ["sigs.k8s.io/kwok/cmd/kwok"]);
        assert!(KUBERNETES.linker_flags().contains("gitVersion=v1.36.3 "), "{}", KUBERNETES.linker_flags());
        assert_eq!(KWOK.linker_flags(), "-s -w");
        assert_eq!(HELM.tools(), ["helm.sh/helm/v4/cmd/helm"]);
        assert_eq!(HELM.linker_flags(), "-s -w -X helm.sh/helm/v4/internal/version.version=v4.3.1");
        assert_eq!(HELM3.linker_flags(), "-s -w -X helm.sh/helm/v3/internal/version.version=v3.22.0");
    }

    #[test]
    fn staging_modules_go_with_the_version() {
        let staging = KUBERNETES.version("k8s.io/kubernetes").replacen("v1.", "v0.", 1);
        let replaces: Vec<&str> = KUBERNETES.file.lines().filter(|line| line.contains(" => ")).collect();
        assert!(replaces.len() > 30, "{replaces:?}");
        for line in replaces {
            assert!(line.ends_with(&format!(" {staging}")), "{line}");
        }
    }
}
