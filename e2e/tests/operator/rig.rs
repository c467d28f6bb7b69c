//! The control plane, operators that run against it, and what the tests make and look at.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, MutexGuard, OnceLock};
use std::thread;
use std::time::{Duration, Instant};

use mooring_crd::access::Binary;
use mooring_e2e::cluster::{Cluster, Kubectl, Options, Request};
use mooring_e2e::testing::{LIMIT, condition, eventually, policy};
use mooring_policy::{NodePolicy, NodeRules};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

/// Where the binary is that is built with these tests.
pub fn program() -> PathBuf {
    // The one that is shipped, where its size counts.
    if let Some(path) = std::env::var_os("MOORING_OPERATOR") {
        return path.into();
    }
    let exe = std::env::current_exe().unwrap();
    let path = exe.parent().and_then(Path::parent).unwrap().join("mooring-operator");
    assert!(path.exists(), "{} is missing: cargo build -p mooring-operator", path.display());
    path
}

/// The control plane, for one test at a time.
pub struct Rig {
    pub cluster: &'static Cluster,
    pub kubectl: Kubectl,
    account: Kubectl,
    /// Requests in the audit log that are of earlier tests.
    earlier: usize,
    _turn: MutexGuard<'static, ()>,
}

impl Rig {
    /// With nothing in it that an earlier test left.
    pub fn begin() -> Self {
        static TURN: Mutex<()> = Mutex::new(());
        static CLUSTER: OnceLock<Cluster> = OnceLock::new();
        let turn = TURN.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let cluster = CLUSTER.get_or_init(|| {
            let cluster = Cluster::start(Options::default()).unwrap();
            cluster.install_api().unwrap();
            cluster
        });
        let kubectl = cluster.kubectl();
        let operator = cluster.kubectl_of_account("mooring-system", "mooring-operator", None).unwrap();
        for kind in ["cdp", "nodes", "driftnodes", "drifteventbreakers"] {
            kubectl.run(&["delete", kind, "--all", "--wait"]).unwrap();
        }
        kubectl.run(&["delete", "driftevents", "--all", "--all-namespaces"]).unwrap();
        kubectl.run(&["delete", "events.events.k8s.io", "--all", "--all-namespaces"]).unwrap();
        kubectl.run(&["delete", "lease", "mooring-operator", "-n", "mooring-system", "--ignore-not-found"]).unwrap();
        kubectl.run(&["delete", "pods", "--all", "-n", "mooring-system", "--force"]).unwrap();
        // Of what never had a Node, and of which no operator heard.
        let its = "app.kubernetes.io/managed-by=mooring-operator";
        // An API server that has just started denies everything at first.
        eventually("the end of these", || {
            operator.run(&["delete", "configmaps", "-n", "mooring-nodes", "-l", its]).is_ok()
        });
        let earlier = cluster.audit().unwrap().len();
        let rig = Self { cluster, kubectl, account: operator, earlier, _turn: turn };
        eventually("the garbage collection of what an earlier test left", || rig.maps().is_empty());
        rig
    }

    /// kubectl under the operator's account.
    pub fn operator_kubectl(&self) -> &Kubectl {
        &self.account
    }

    /// Starts an operator.
    pub fn operator(&self, name: &str, arguments: &[&str]) -> Operator {
        self.operator_with(self.account.kubeconfig(), name, arguments)
    }

    /// Starts an operator that asks the API server in another way.
    pub fn operator_with(&self, kubeconfig: &Path, name: &str, arguments: &[&str]) -> Operator {
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port();
        let log = self.cluster.log(&format!("{name}.{port}"));
        let file = File::create(&log).unwrap();
        let lease: &[&str] = if arguments.contains(&"--lease-seconds") { &[] } else { &["--lease-seconds", "3"] };
        let child = self
            .command()
            .args(["--name", name, "--listen", &format!("127.0.0.1:{port}")])
            .args(lease)
            .args(arguments)
            .env("KUBECONFIG", kubeconfig)
            .env("RUST_LOG", "info,mooring_operator=debug,kube_client=error")
            .stdin(Stdio::null())
            .stdout(file.try_clone().unwrap())
            .stderr(file)
            .spawn()
            .unwrap();
        Operator { child, port, log }
    }

    /// The operator's program, under its own account.
    pub fn command(&self) -> Command {
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "--"]).arg(program()).env("KUBECONFIG", self.account.kubeconfig());
        command
    }

    /// What the operator was denied in this test. An API server that starts denies everything until it has read the roles, so that
    /// those before, which stop it, do not count.
    pub fn denied(&self) -> Vec<Request> {
        let user = Binary::Operator.user();
        let requests = self.cluster.audit().unwrap().into_iter().skip(self.earlier);
        requests.filter(|one| one.user == user && one.denied()).collect()
    }

    pub fn node(&self, name: &str, labels: Value) {
        let node = json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name, "labels": labels}});
        self.kubectl.apply(&node.to_string()).unwrap();
    }

    pub fn policy(&self, name: &str, spec: Value) {
        self.kubectl.apply(&policy(name, spec).to_string()).unwrap();
    }

    /// The names of all nodes' `ConfigMap`s.
    pub fn maps(&self) -> BTreeSet<String> {
        let list = self.kubectl.json(&["get", "configmaps", "-n", "mooring-nodes"]).unwrap();
        let names =
            list["items"].as_array().unwrap().iter().map(|map| map["metadata"]["name"].as_str().unwrap().to_owned());
        names.filter(|name| name != "kube-root-ca.crt").collect()
    }

    /// A node's `ConfigMap`.
    pub fn map(&self, node: &str) -> Option<Value> {
        self.kubectl.json(&["get", "configmap", node, "-n", "mooring-nodes"]).ok()
    }

    /// What a node is handed, as its agent would read it: nothing where it would not believe it.
    pub fn rules(&self, node: &str) -> Option<NodePolicy> {
        let data = serde_json::from_value(self.map(node)?["data"].clone()).ok()?;
        NodeRules::from_data(&data).ok()?.decode().ok()
    }

    /// Waits until a node is handed exactly these policies.
    #[track_caller]
    pub fn await_policies(&self, node: &str, policies: &[&str]) -> NodePolicy {
        let mut rules = None;
        eventually(&format!("{policies:?} on {node}"), || {
            rules = self.rules(node);
            rules.as_ref().is_some_and(|rules| rules.policies.iter().map(|policy| &policy.name).eq(policies))
        });
        rules.unwrap()
    }

    /// A policy's condition: its status word, its reason and its message.
    pub fn condition(&self, policy: &str, kind: &str) -> Option<(String, String, String)> {
        let object = self.kubectl.json(&["get", "cdp", policy]).unwrap();
        let found = condition(&object, kind)?;
        assert!(found["observedGeneration"].is_i64(), "{found}");
        let text = |field: &str| found[field].as_str().unwrap_or_default().to_owned();
        Some((text("status"), text("reason"), text("message")))
    }

    #[track_caller]
    pub fn await_condition(&self, policy: &str, kind: &str, status: &str, reason: &str) -> String {
        let mut found = None;
        let begun = Instant::now();
        loop {
            found = self.condition(policy, kind).or(found);
            if let Some((_, _, message)) = found.as_ref().filter(|(s, r, _)| s == status && r == reason) {
                return message.clone();
            }
            assert!(begun.elapsed() < LIMIT, "{kind} of {policy} is {found:?}");
            thread::sleep(Duration::from_millis(100));
        }
    }

    /// What an agent would write: that it applies what its node's `ConfigMap` says now.
    pub fn report(&self, node: &str, with: Value) {
        let rules = self.map(node).unwrap();
        let applied: Value = serde_json::from_str(rules["data"]["policies.json"].as_str().unwrap()).unwrap();
        let object =
            json!({"apiVersion": "mooring.dev/v1alpha1", "kind": "DriftNode", "metadata": {"name": node}, "spec": {}});
        self.kubectl.apply(&object.to_string()).unwrap();
        let mut status = json!({"backend": "BpfLsm", "applied": {
            "revision": applied["revision"], "digest": rules["data"]["digest"], "source": "ConfigMap",
        }});
        for (key, value) in with.as_object().unwrap() {
            status[key] = value.clone();
        }
        let patch = json!({"status": status}).to_string();
        self.kubectl.run(&["patch", "driftnode", node, "--subresource=status", "--type=merge", "-p", &patch]).unwrap();
    }

    /// An agent's pod on a node, ready or not.
    pub fn agent(&self, node: &str, ready: bool) {
        let name = format!("agent-{node}");
        let pod = json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": name, "namespace": "mooring-system", "labels": {"app.kubernetes.io/name": "mooring-enforcer"}},
            "spec": {"nodeName": node, "tolerations": [{"operator": "Exists"}], "containers": [{"name": "agent", "image": "agent"}]},
        });
        self.kubectl.apply(&pod.to_string()).unwrap();
        let word = if ready { "True" } else { "False" };
        let patch = json!({"status": {"conditions": [{"type": "Ready", "status": word}]}}).to_string();
        self.kubectl
            .run(&["patch", "pod", &name, "-n", "mooring-system", "--subresource=status", "--type=merge", "-p", &patch])
            .unwrap();
    }

    /// The reasons of all Events that the operator wrote about an object.
    pub fn told(&self, kind: &str, name: &str) -> Vec<String> {
        let list = self.kubectl.json(&["get", "events.events.k8s.io", "--all-namespaces"]).unwrap();
        let of = |event: &&Value| {
            event["regarding"]["kind"] == kind
                && event["regarding"]["name"] == name
                && event["reportingController"] == "mooring.dev/operator"
        };
        let events = list["items"].as_array().unwrap().iter().filter(of);
        events.map(|event| event["reason"].as_str().unwrap().to_owned()).collect()
    }
}

/// An operator that runs. It is killed when the value is dropped.
pub struct Operator {
    child: Child,
    port: u16,
    log: PathBuf,
}

impl Operator {
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(i32::try_from(self.child.id()).unwrap()), signal).unwrap();
    }

    /// Ends it as a kubelet does; its exit status.
    pub fn end(mut self) -> Option<i32> {
        self.signal(Signal::SIGTERM);
        self.child.wait().unwrap().code()
    }

    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    pub fn get(&self, path: &str) -> String {
        let Ok(mut stream) = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)) else { return String::new() };
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        let _ = write!(stream, "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        let mut answer = String::new();
        let _ = stream.read_to_string(&mut answer);
        answer
    }

    /// A metric's value; 0 where it was never counted.
    pub fn metric(&self, name: &str) -> f64 {
        let text = self.get("/metrics");
        let line = text.lines().find_map(|line| line.strip_prefix(name));
        line.and_then(|value| value.trim().parse().ok()).unwrap_or_default()
    }

    pub fn leads(&self) -> bool {
        self.metric("mooring_operator_leader ") > 0.0
    }
}

impl Drop for Operator {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if thread::panicking() {
            let log = self.log();
            let lines: Vec<&str> = log.lines().collect();
            eprintln!("the operator's last words:\n{}", lines[lines.len().saturating_sub(25)..].join("\n"));
        }
    }
}
