//! A control plane: etcd, kube-apiserver, kube-controller-manager and kube-scheduler on this machine's loopback.

use std::fs;
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::sys::signal::Signal;
use serde::{Deserialize, Serialize};

use super::audit::{self, Request};
use super::certificates::{Authority, Pair, kubeconfig};
use super::component::{self, Component, Home, Ports};
use super::daemon::{self, Daemon, Starter};
use super::error::{Error, Result};
use super::kubectl::Kubectl;
use super::programs::{self, Programs};
use crate::vm::apt::Mirror;
use crate::vm::cache::{self, Cache, Scratch};
use crate::vm::{self, process};

/// How long a part of the control plane may take to answer, on a machine that is busy with other things.
const ANSWER: Duration = Duration::from_mins(3);
/// How often the control plane is started whose ports another process took first.
const STARTS: u32 = 3;
/// A cluster's folder is known by this file.
const STATE: &str = "cluster.json";

/// What a control plane is to be.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// Whether it has a controller manager and a scheduler; without, it is an API server for objects only.
    pub controllers: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self { controllers: true }
    }
}

/// What other processes must know of a cluster.
#[derive(Debug, Serialize, Deserialize)]
struct State {
    ports: Ports,
}

/// A cluster's control plane. Several can run at once.
#[derive(Debug)]
pub struct Cluster {
    pub(super) home: Home,
    pub(super) cache: Cache,
    pub(super) programs: Programs,
    pub(super) starter: Starter,
    ports: Ports,
    /// The folder of a cluster that ends with this value.
    scratch: Option<Scratch>,
}

impl Cluster {
    /// Starts a control plane that ends when the value is dropped, and with this process however that ends.
    ///
    /// # Errors
    /// When its programs cannot be built or do not come to answer.
    pub fn start(options: Options) -> Result<Self> {
        let cache = Cache::of_user();
        let programs = Programs::ensure(&cache, &Mirror::of_machine)?;
        let scratch = cache.scratch("cluster")?;
        let home = Home(scratch.path().to_owned());
        let mut cluster = Self {
            home,
            cache,
            programs,
            starter: Starter::bound(),
            ports: Ports { etcd: 0, api: 0 },
            scratch: Some(scratch),
        };
        cluster.begin(options)?;
        Ok(cluster)
    }

    /// Starts a control plane in `folder` that runs until [`down`](Self::down), and outlives this process.
    ///
    /// # Errors
    /// As [`start`](Self::start), and when the folder holds a cluster or other things.
    pub fn up(
        folder: &Path,
        options: Options,
        mirror: &dyn Fn() -> std::result::Result<Mirror, vm::Error>,
    ) -> Result<Self> {
        let cache = Cache::of_user();
        if folder.join(STATE).exists() {
            return Err(Error::Present(folder.to_owned()));
        }
        if fs::read_dir(folder).is_ok_and(|mut entries| entries.next().is_some()) {
            return Err(Error::Foreign(folder.to_owned()));
        }
        cache::make_folder(folder)?;
        let folder = folder.canonicalize().map_err(vm::Error::io("find", folder))?;
        let programs = Programs::ensure(&cache, mirror)?;
        let ports = Ports { etcd: 0, api: 0 };
        let home = Home(folder);
        let mut cluster = Self { home, cache, programs, starter: Starter::free(), ports, scratch: None };
        cluster.begin(options)?;
        Ok(cluster)
    }

    /// The cluster in `folder`, which [`up`](Self::up) started.
    ///
    /// # Errors
    /// [`Error::Absent`], or when its programs are gone from the cache and cannot be built.
    pub fn open(folder: &Path, mirror: &dyn Fn() -> std::result::Result<Mirror, vm::Error>) -> Result<Self> {
        let state = folder.join(STATE);
        let text = fs::read_to_string(&state).map_err(|_| Error::Absent(folder.to_owned()))?;
        let State { ports } = serde_json::from_str(&text).map_err(|source| Error::Format { path: state, source })?;
        let folder = folder.canonicalize().map_err(vm::Error::io("find", folder))?;
        let cache = Cache::of_user();
        let programs = Programs::ensure(&cache, mirror)?;
        Ok(Self { home: Home(folder), cache, programs, starter: Starter::free(), ports, scratch: None })
    }

    /// Ends every process of the cluster in `folder` and removes the folder. Nothing of it need still run.
    ///
    /// # Errors
    /// [`Error::Absent`], or when the folder cannot be removed.
    pub fn down(folder: &Path) -> Result<()> {
        // The state is written last, so a cluster that did not come up is known by its records.
        if !folder.join(STATE).exists() && !folder.join("pid").exists() {
            return Err(Error::Absent(folder.to_owned()));
        }
        end_all(&folder.join("pid"));
        Ok(fs::remove_dir_all(folder).map_err(vm::Error::io("remove", folder))?)
    }

    fn begin(&mut self, options: Options) -> Result<()> {
        for part in ["log", "pid", "kubeconfig"] {
            cache::make_folder(&self.home.path(part))?;
        }
        let authority = Authority::create(&self.home.path("pki"))?;
        let kubernetes =
            ["kubernetes", "kubernetes.default", "kubernetes.default.svc", "kubernetes.default.svc.cluster.local"];
        let mut names: Vec<String> = kubernetes.iter().map(|name| format!("DNS:{name}")).collect();
        names.push("DNS:localhost".to_owned());
        names.extend(["127.0.0.1", component::HOST_OF_GUESTS, component::SERVICE].map(|ip| format!("IP:{ip}")));
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        authority.server("kube-apiserver", &names)?;
        authority.user("kubelet-client", "kube-apiserver-kubelet-client", &["system:masters"])?;
        let policy = self.home.path("audit-policy.yaml");
        fs::write(&policy, component::AUDIT_POLICY).map_err(vm::Error::io("write", &policy))?;
        let mut starts = 1;
        loop {
            self.ports = free_ports()?;
            match self.serve(&authority) {
                Err(Error::Ended { tail, .. }) if starts < STARTS && tail.contains("address already in use") => {
                    starts += 1;
                    end_all(&self.home.path("pid"));
                }
                other => break other?,
            }
        }
        if options.controllers {
            self.start_component(Component::ControllerManager)?;
            self.start_component(Component::Scheduler)?;
            // Without it no pod can be created.
            let account = ["get", "serviceaccount", "default", "--namespace", "default"];
            self.await_that("the default service account", Component::ControllerManager, |kubectl| {
                kubectl.run(&account).is_ok()
            })?;
        }
        let state = self.home.path(STATE);
        let text = serde_json::json!(State { ports: self.ports }).to_string();
        Ok(fs::write(&state, text).map_err(vm::Error::io("write", &state))?)
    }

    /// Starts etcd and the API server, and waits for it.
    fn serve(&self, authority: &Authority) -> Result<()> {
        for (name, user, group) in [
            ("admin", "admin", "system:masters"),
            (Component::ControllerManager.name(), "system:kube-controller-manager", ""),
            (Component::Scheduler.name(), "system:kube-scheduler", ""),
        ] {
            let groups = if group.is_empty() { vec![] } else { vec![group] };
            self.write_kubeconfig(name, &authority.user(name, user, &groups)?)?;
        }
        self.start_component(Component::Etcd)?;
        self.start_component(Component::ApiServer)?;
        self.await_api()
    }

    fn write_kubeconfig(&self, name: &str, user: &Pair) -> Result<PathBuf> {
        let path = self.home.kubeconfig(name);
        let text = kubeconfig(&self.server(), &self.home.pki("ca.crt"), user);
        fs::write(&path, text).map_err(vm::Error::io("write", &path))?;
        Ok(path)
    }

    /// Waits until the API server is ready; after [`start_component`](Self::start_component) of it or etcd.
    ///
    /// # Errors
    /// When it ends or does not answer in time.
    pub fn await_api(&self) -> Result<()> {
        self.await_that("a ready API server", Component::ApiServer, |kubectl| {
            kubectl.run(&["get", "--raw", "/readyz"]).is_ok()
        })
    }

    fn await_that(&self, what: &str, component: Component, done: impl Fn(&Kubectl) -> bool) -> Result<()> {
        let (kubectl, log) = (self.kubectl(), self.home.log(component.name()));
        let mut gone = None;
        let came = daemon::wait(ANSWER, || {
            gone = [Component::Etcd, component].into_iter().find(|component| self.component(*component).is_none());
            gone.is_some() || done(&kubectl)
        });
        match gone {
            Some(gone) => Err(daemon::ended(gone.name(), &self.home.log(gone.name()))),
            None if came => Ok(()),
            None => Err(daemon::late(what, ANSWER, &log)),
        }
    }

    /// The API server's address, for a client on this machine.
    #[must_use]
    pub fn server(&self) -> String {
        format!("https://127.0.0.1:{}", self.ports.api)
    }

    /// The API server's port.
    pub(super) fn api_port(&self) -> u16 {
        self.ports.api
    }

    /// The cluster's folder: `log/`, `audit.log`, `pki/`, `kubeconfig/`.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.home.0
    }

    /// The file that a component or a node writes its log to.
    #[must_use]
    pub fn log(&self, name: &str) -> PathBuf {
        self.home.log(name)
    }

    /// kubectl as the administrator, who may do everything.
    #[must_use]
    pub fn kubectl(&self) -> Kubectl {
        self.kubectl_with(self.home.kubeconfig("admin"))
    }

    fn kubectl_with(&self, kubeconfig: PathBuf) -> Kubectl {
        Kubectl { program: self.programs.kubernetes("kubectl"), kubeconfig, cache: self.home.path("kubectl-cache") }
    }

    /// kubectl as any user with any groups; what it may do is for RBAC to say. A kubelet is `system:node:NAME` in `system:nodes`.
    ///
    /// # Errors
    /// When no certificate can be made.
    pub fn kubectl_as(&self, user: &str, groups: &[&str]) -> Result<Kubectl> {
        let name = self.user_name(user, groups)?;
        let pair = self.authority().user(&name, user, groups)?;
        Ok(self.kubectl_with(self.write_kubeconfig(&name, &pair)?))
    }

    pub(super) fn authority(&self) -> Authority {
        Authority::at(&self.home.path("pki"))
    }

    /// What a user's files are called: readable, and another for other groups.
    fn user_name(&self, user: &str, groups: &[&str]) -> Result<String> {
        let readable: String =
            user.chars().map(|letter| if letter.is_ascii_alphanumeric() { letter } else { '-' }).collect();
        let digest = process::sha256(format!("{user} {groups:?}").as_bytes())?;
        Ok(format!("user-{readable}-{}", &digest[..8]))
    }

    /// Every request that the API server has answered so far. An answer reaches its client a moment before the log.
    ///
    /// # Errors
    /// When the log cannot be read.
    pub fn audit(&self) -> Result<Vec<Request>> {
        audit::read(&self.home.audit())
    }

    /// The process of a component, if it runs.
    fn component(&self, component: Component) -> Option<Daemon> {
        Daemon::recorded(&self.home.path("pid").join(component.name()))
    }

    /// The process id of a component, if it runs.
    #[must_use]
    pub fn process(&self, component: Component) -> Option<i32> {
        self.component(component).map(Daemon::pid)
    }

    /// Starts a component (again), with the data and the port that it had.
    ///
    /// # Errors
    /// When it cannot be started; whether it then serves is another matter.
    pub fn start_component(&self, component: Component) -> Result<()> {
        if self.component(component).is_some() {
            return Ok(());
        }
        let (program, config) = match component {
            Component::Etcd => (self.programs.etcd(), PathBuf::new()),
            Component::Kwok => programs::kwok(&self.cache)?,
            other => (self.programs.kubernetes(other.name()), PathBuf::new()),
        };
        let arguments = component::arguments(component, &self.home, self.ports, &config);
        let record = self.home.path("pid").join(component.name());
        self.starter.start(&program, &arguments, &self.home.log(component.name()), &record).map(drop)
    }

    /// Ends a component: a fault, to be seen by everything that depends on it.
    pub fn stop_component(&self, component: Component) {
        if let Some(daemon) = self.component(component) {
            daemon.end();
        }
    }

    /// Sends a component a signal: SIGSTOP and SIGCONT freeze and thaw it, SIGKILL crashes it.
    pub fn signal_component(&self, component: Component, signal: Signal) {
        if let Some(daemon) = self.component(component) {
            daemon.signal(signal);
        }
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        let Some(scratch) = self.scratch.take() else {
            return;
        };
        end_all(&self.home.path("pid"));
        if std::thread::panicking() {
            // Removed by the first run of anything after this process has ended.
            eprintln!("the cluster's logs are in {} for as long as this process runs", scratch.path().display());
            std::mem::forget(scratch);
        }
    }
}

/// Ends what is recorded in a folder: guests and clients first, the database last.
fn end_all(records: &Path) {
    let mut names: Vec<PathBuf> =
        fs::read_dir(records).into_iter().flatten().flatten().map(|entry| entry.path()).collect();
    let rank = |path: &PathBuf| match path.file_name().unwrap_or_default().to_string_lossy().as_ref() {
        "etcd" => 2,
        "kube-apiserver" => 1,
        _ => 0,
    };
    names.sort_by_key(rank);
    for rank_now in 0..=2 {
        let some: Vec<Daemon> =
            names.iter().filter(|path| rank(path) == rank_now).filter_map(|path| Daemon::recorded(path)).collect();
        std::thread::scope(|scope| {
            for daemon in some {
                scope.spawn(move || daemon.end());
            }
        });
    }
}

/// Ports that nobody listens on now.
fn free_ports() -> Result<Ports> {
    let [etcd, api] = free()?;
    Ok(Ports { etcd, api })
}

/// As many different ports of 127.0.0.1 as are asked for.
pub(super) fn free<const COUNT: usize>() -> Result<[u16; COUNT]> {
    let mut ports = [0; COUNT];
    let mut held = Vec::new();
    for port in &mut ports {
        let place = Path::new("127.0.0.1");
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).map_err(vm::Error::io("listen on", place))?;
        *port = listener.local_addr().map_err(vm::Error::io("listen on", place))?.port();
        held.push(listener);
    }
    Ok(ports)
}
