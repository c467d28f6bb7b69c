//! A control plane: etcd, kube-apiserver, kube-controller-manager and kube-scheduler on this machine's loopback.

use std::fs;
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::sys::signal::Signal;
use serde::{Deserialize, Serialize};

use super::audit::{self, Request};
use super::certificates::Authority;
use super::component::{self, Component, Home, Ports};
use super::daemon::{self, Daemon, Starter};
use super::error::{Error, Result};
use super::kubectl::Kubectl;
use super::programs::{self, Programs};
use crate::vm;
use crate::vm::apt::Mirror;
use crate::vm::cache::{self, Cache, Scratch};
use crate::vm::progress::{Step, say};

/// How long a part of the control plane may take to answer, on a machine that is busy with other things.
const ANSWER: Duration = Duration::from_mins(3);
/// How often the control plane is started whose ports another process took first.
const STARTS: u32 = 3;
/// What other processes must know, written when the control plane is up.
const STATE: &str = "cluster.json";
/// The folder of the processes' records.
pub(super) const RECORDS: &str = "pid";

/// What a control plane is to be.
#[derive(Debug, Clone)]
pub struct Options {
    /// Whether it has a controller manager and a scheduler; without, it is an API server for objects only.
    pub controllers: bool,
    /// More arguments of its components; where one is given twice, the later counts.
    pub arguments: Vec<(Component, String)>,
    /// Where Debian's packages come from; this machine's own mirror where it is not said.
    pub mirror: Option<Mirror>,
}

impl Default for Options {
    fn default() -> Self {
        Self { controllers: true, arguments: Vec::new(), mirror: None }
    }
}

/// What other processes must know of a cluster.
#[derive(Debug, Serialize, Deserialize)]
struct State {
    ports: Ports,
    arguments: Vec<(Component, String)>,
}

/// A cluster's control plane. Several can run at once.
#[derive(Debug)]
pub struct Cluster {
    pub(super) home: Home,
    pub(super) cache: Cache,
    pub(super) programs: Programs,
    pub(super) starter: Starter,
    ports: Ports,
    arguments: Vec<(Component, String)>,
    mirror: Option<Mirror>,
    /// The folder of a cluster that ends with this value.
    scratch: Option<Scratch>,
}

impl Cluster {
    /// Starts a control plane that ends when the value is dropped, and with this process however that ends.
    ///
    /// # Errors
    /// When its programs cannot be built or do not come to answer.
    pub fn start(options: Options) -> Result<Self> {
        let scratch = Cache::of_user().scratch("cluster")?;
        let mut cluster = Self::in_folder(scratch.path(), Starter::bound(), options.mirror)?;
        cluster.scratch = Some(scratch);
        cluster.arguments = options.arguments;
        cluster.begin(options.controllers)?;
        Ok(cluster)
    }

    /// Starts a control plane in `folder` that runs until [`down`](Self::down), and outlives this process.
    ///
    /// # Errors
    /// As [`start`](Self::start), and when the folder holds a cluster or other things.
    pub fn up(folder: &Path, options: Options) -> Result<Self> {
        if is_cluster(folder) {
            return Err(Error::Present(folder.to_owned()));
        }
        if fs::read_dir(folder).is_ok_and(|mut entries| entries.next().is_some()) {
            return Err(Error::Foreign(folder.to_owned()));
        }
        cache::make_folder(folder)?;
        let mut cluster = Self::in_folder(folder, Starter::free(), options.mirror)?;
        cluster.arguments = options.arguments;
        if let Err(error) = cluster.begin(options.controllers) {
            end_all(&cluster.home.path(RECORDS));
            say(format!("the logs of what did not come up are in {}", cluster.home.path("log").display()));
            return Err(error);
        }
        Ok(cluster)
    }

    /// The cluster in `folder`, which [`up`](Self::up) started.
    ///
    /// # Errors
    /// [`Error::Absent`], or when its programs are gone from the cache and cannot be built.
    pub fn open(folder: &Path) -> Result<Self> {
        let state = folder.join(STATE);
        let text = fs::read_to_string(&state).map_err(|_| Error::Absent(folder.to_owned()))?;
        let State { ports, arguments } =
            serde_json::from_str(&text).map_err(|source| Error::Format { path: state, source })?;
        let mut cluster = Self::in_folder(folder, Starter::free(), None)?;
        cluster.ports = ports;
        cluster.arguments = arguments;
        Ok(cluster)
    }

    fn in_folder(folder: &Path, starter: Starter, mirror: Option<Mirror>) -> Result<Self> {
        let cache = Cache::of_user();
        // Kubernetes' programs and kubeconfigs are used from anywhere.
        let folder = folder.canonicalize().map_err(vm::Error::io("find", folder))?;
        let programs = Programs::ensure(&cache, &|| mirror_of(mirror.as_ref()))?;
        let ports = Ports { etcd: 0, api: 0 };
        Ok(Self { home: Home(folder), cache, programs, starter, ports, arguments: Vec::new(), mirror, scratch: None })
    }

    /// Where Debian's packages come from.
    pub(super) fn mirror(&self) -> std::result::Result<Mirror, vm::Error> {
        mirror_of(self.mirror.as_ref())
    }

    /// Ends every process of the cluster in `folder` and removes the folder. Nothing of it need still run.
    ///
    /// # Errors
    /// [`Error::Absent`], or when the folder cannot be removed.
    pub fn down(folder: &Path) -> Result<()> {
        if !is_cluster(folder) {
            return Err(Error::Absent(folder.to_owned()));
        }
        end_all(&folder.join(RECORDS));
        Ok(fs::remove_dir_all(folder).map_err(vm::Error::io("remove", folder))?)
    }

    fn begin(&mut self, controllers: bool) -> Result<()> {
        let step = Step::begin("control plane");
        for part in ["log", RECORDS, "kubeconfig"] {
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
                    end_all(&self.home.path(RECORDS));
                }
                other => break other?,
            }
        }
        if controllers {
            self.start_component(Component::ControllerManager)?;
            self.start_component(Component::Scheduler)?;
            // Without it no pod can be created.
            let account = ["get", "serviceaccount", "default", "--namespace", "default"];
            self.await_that("the default service account", Component::ControllerManager, |kubectl| {
                kubectl.run(&account).is_ok()
            })?;
        }
        let state = self.home.path(STATE);
        let text = serde_json::json!(State { ports: self.ports, arguments: self.arguments.clone() }).to_string();
        fs::write(&state, text).map_err(vm::Error::io("write", &state))?;
        step.done();
        Ok(())
    }

    /// Starts etcd and the API server, and waits for it.
    fn serve(&self, authority: &Authority) -> Result<()> {
        for (name, user, group) in [
            ("admin", "admin", "system:masters"),
            (Component::ControllerManager.name(), "system:kube-controller-manager", ""),
            (Component::Scheduler.name(), "system:kube-scheduler", ""),
        ] {
            let groups = if group.is_empty() { vec![] } else { vec![group] };
            self.write_kubeconfig(name, &authority.user(name, user, &groups)?.credentials())?;
        }
        self.start_component(Component::Etcd)?;
        self.start_component(Component::ApiServer)?;
        self.await_api()
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

    /// The file with every request and its answer; [`audit`](Self::audit) reads it.
    #[must_use]
    pub fn audit_log(&self) -> PathBuf {
        self.home.audit()
    }

    /// The folder with kubectl and Kubernetes' other programs.
    #[must_use]
    pub fn programs(&self) -> &Path {
        self.programs.folder()
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
        Daemon::recorded(&self.home.path(RECORDS).join(component.name()))
    }

    /// The process id of a component, if it runs: what it costs is under `/proc`.
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
        let mut arguments = component::arguments(component, &self.home, self.ports, &config);
        let more = self.arguments.iter().filter(|(of, _)| *of == component);
        arguments.extend(more.map(|(_, argument)| argument.clone()));
        let record = self.home.path(RECORDS).join(component.name());
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
        end_all(&self.home.path(RECORDS));
        if std::thread::panicking() {
            // Removed by the first run of anything after this process has ended.
            eprintln!("the cluster's logs are in {} for as long as this process runs", scratch.path().display());
            std::mem::forget(scratch);
        }
    }
}

fn mirror_of(mirror: Option<&Mirror>) -> std::result::Result<Mirror, vm::Error> {
    mirror.map_or_else(Mirror::of_machine, |mirror| Ok(mirror.clone()))
}

/// Whether a cluster, or what is left of one that did not come up, is in a folder.
fn is_cluster(folder: &Path) -> bool {
    folder.join(STATE).exists() || folder.join(RECORDS).exists()
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
