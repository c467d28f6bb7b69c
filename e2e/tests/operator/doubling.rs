//! Watches that say everything twice, or late: between the operator and the real API server stands a proxy that repeats each event, and
//! can hold them back.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use mooring_crd::access::Binary;
use mooring_e2e::cluster::Kubectl;
use mooring_e2e::testing::eventually;
use mooring_policy::{NodePolicy, NodeRules};
use serde_json::json;

use super::retention::event;
use super::rig::Rig;

/// `kubectl proxy` speaks TLS with the API server, in the operator's name.
struct Upstream(Child, u16);

impl Upstream {
    fn begin(kubectl: &Kubectl) -> Self {
        let mut child = Command::new("setpriv")
            .args(["--pdeathsig", "KILL", "--"])
            .arg(kubectl.command().get_program())
            .args(["proxy", "--port=0", "--address=127.0.0.1", "--kubeconfig"])
            .arg(kubectl.kubeconfig())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        // Starting to serve on 127.0.0.1:PORT
        let mut line = String::new();
        BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        let port = line.trim().rsplit(':').next().unwrap().parse().unwrap();
        Self(child, port)
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// What the proxy does and did.
#[derive(Default)]
struct Watches {
    /// Events that it has repeated.
    repeated: AtomicUsize,
    /// Whether it holds back those of `ConfigMap`s.
    held: AtomicBool,
}

/// Listens on loopback.
fn doubling(upstream: u16) -> (u16, Arc<Watches>) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let (port, watches) = (listener.local_addr().unwrap().port(), Arc::<Watches>::default());
    let shared = watches.clone();
    thread::spawn(move || {
        for client in listener.incoming().flatten() {
            let shared = shared.clone();
            thread::spawn(move || forward(&client, upstream, &shared));
        }
    });
    (port, watches)
}

/// One request of a connection, which then ends.
fn forward(mut client: &TcpStream, upstream: u16, watches: &Watches) -> Option<()> {
    let mut from = BufReader::new(client);
    let (head, length) = head(&mut from)?;
    let mut body = vec![0; length.unwrap_or_default()];
    from.read_exact(&mut body).ok()?;
    let mut server = TcpStream::connect((Ipv4Addr::LOCALHOST, upstream)).ok()?;
    server.write_all(&[head.as_bytes(), &body].concat()).ok()?;
    let mut from = BufReader::new(server);
    let asked = head.lines().next()?.to_owned();
    if asked.contains("watch=true") {
        let (head, _) = self::head(&mut from)?;
        client.write_all(head.as_bytes()).ok()?;
        if head.starts_with("HTTP/1.1 200") {
            while let Some(line) = line_of_chunks(&mut from) {
                let chunk = format!("{:x}\r\n{line}\r\n", line.len());
                // At the end of a watch an error may be said; once is enough.
                let times = if line.contains("\"type\":\"ERROR\"") { 1 } else { 2 };
                while asked.contains("configmaps") && watches.held.load(Ordering::Relaxed) {
                    thread::sleep(Duration::from_millis(20));
                }
                watches.repeated.fetch_add(times - 1, Ordering::Relaxed);
                client.write_all(chunk.repeat(times).as_bytes()).ok()?;
            }
            client.write_all(b"0\r\n\r\n").ok()?;
        } else {
            std::io::copy(&mut from, &mut client).ok()?;
        }
    } else {
        std::io::copy(&mut from, &mut client).ok()?;
    }
    client.shutdown(Shutdown::Both).ok()
}

/// The head of a request or an answer, made to be the last of its connection, and the length of its body.
fn head(from: &mut impl std::io::BufRead) -> Option<(String, Option<usize>)> {
    let (mut head, mut length) = (String::new(), None);
    loop {
        let mut line = String::new();
        from.read_line(&mut line).ok().filter(|read| *read > 0)?;
        let lower = line.to_ascii_lowercase();
        if let Some(value) = lower.strip_prefix("content-length:") {
            length = value.trim().parse().ok();
        }
        if line == "\r\n" {
            head.push_str("Connection: close\r\n\r\n");
            return Some((head, length));
        }
        if !lower.starts_with("connection:") {
            head.push_str(&line);
        }
    }
}

/// The next line of a chunked body, across chunks; nothing at its end.
fn line_of_chunks(from: &mut impl std::io::BufRead) -> Option<String> {
    let mut line = String::new();
    // The API server writes each event as one or more chunks that end with a line's end.
    while !line.ends_with('\n') {
        let mut size = String::new();
        from.read_line(&mut size).ok().filter(|read| *read > 0)?;
        let size = usize::from_str_radix(size.trim(), 16).ok().filter(|size| *size > 0)?;
        let mut chunk = vec![0; size + 2];
        from.read_exact(&mut chunk).ok()?;
        line.push_str(std::str::from_utf8(&chunk[..size]).ok()?);
    }
    Some(line)
}

/// The way to the API server.
struct Proxy {
    kubeconfig: PathBuf,
    watches: Arc<Watches>,
    _upstream: Upstream,
}

impl Proxy {
    fn begin(rig: &Rig) -> Self {
        let upstream = Upstream::begin(rig.operator_kubectl());
        let (port, watches) = doubling(upstream.1);
        let kubeconfig = rig.cluster.folder().join("doubling.json");
        let config = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "doubling",
            "clusters": [{"name": "doubling", "cluster": {"server": format!("http://127.0.0.1:{port}")}}],
            "users": [{"name": "nobody", "user": {}}],
            "contexts": [{"name": "doubling", "context": {"cluster": "doubling", "user": "nobody"}}],
        });
        std::fs::write(&kubeconfig, config.to_string()).unwrap();
        Self { kubeconfig, watches, _upstream: upstream }
    }
}

#[test]
#[ignore = "starts a control plane: make test-operator"]
fn watches_that_say_everything_twice_change_nothing() {
    let rig = Rig::begin();
    let proxy = Proxy::begin(&rig);
    let earlier = rig.cluster.audit().unwrap().len();
    let operator = rig.operator_with(&proxy.kubeconfig, "one", &["--events-per-namespace", "5"]);
    eventually("the operator to lead", || operator.leads());
    for number in 0..5 {
        rig.node(&format!("n{number}"), json!({}));
    }
    rig.policy("p", json!({"description": "before"}));
    rig.await_policies("n4", &["p"]);
    rig.await_policies("n0", &["p"]);
    rig.report("n0", json!({"policies": [{"name": "p", "matched": 3, "protected": 3, "violations": 7}]}));
    rig.agent("n0", true);
    let status = || rig.kubectl.json(&["get", "cdp", "p"]).unwrap()["status"].clone();
    eventually("one node that enforces", || status()["nodes"]["enforcing"] == 1 && status()["violations"] == 7);
    rig.policy("p", json!({"description": "after"}));
    let has = |node: &str| rig.rules(node).and_then(|rules| rules.policies.first()?.spec.description.clone());
    eventually("the edit", || (0..5).all(|number| has(&format!("n{number}")).as_deref() == Some("after")));
    rig.report("n0", json!({}));
    eventually("the node to enforce it", || status()["nodes"]["enforcing"] == 1);
    // An agent that came twice and goes once is gone.
    rig.agent("n0", false);
    eventually("one node unattended", || status()["nodes"]["unattended"] == 1);
    let flood: Vec<String> = (0..20).map(|number| event("default", &format!("e{number}")).to_string()).collect();
    rig.kubectl.run_with(&["create", "-f", "-"], &flood.join("\n")).unwrap();
    let events = || rig.kubectl.run(&["get", "driftevents", "-o", "name"]).unwrap().lines().count();
    eventually("the cap", || events() == 5);
    thread::sleep(Duration::from_secs(4));
    assert_eq!(events(), 5, "no further than to the cap");
    rig.kubectl.run(&["delete", "node", "n4"]).unwrap();
    eventually("the end of its ConfigMap", || rig.map("n4").is_none());
    assert_eq!(rig.told("ConfigMap", "n4"), [""; 0]);
    // Each ConfigMap was made once, got the policy, and its edit.
    let user = Binary::Operator.user();
    let requests: Vec<_> = rig.cluster.audit().unwrap().into_iter().skip(earlier).collect();
    let writes = |verb: &str| {
        let of = |one: &&mooring_e2e::cluster::Request| {
            one.user == user && one.verb == verb && one.resource == "configmaps" && one.namespace == "mooring-nodes"
        };
        requests.iter().filter(of).count()
    };
    assert_eq!((writes("create"), writes("update")), (5, 10));
    let accepted = rig.told("ContainerDriftPolicy", "p").into_iter().filter(|reason| reason == "Accepted").count();
    assert!((1..=2).contains(&accepted), "{accepted} Events for two wordings");
    let repeated = proxy.watches.repeated.load(Ordering::Relaxed);
    assert!(repeated > 40, "{repeated} events were repeated");
    assert_eq!(operator.end(), Some(0));
}

#[test]
#[ignore = "starts a control plane: make test-operator"]
fn an_old_view_meets_a_conflict_and_does_not_win() {
    let rig = Rig::begin();
    let proxy = Proxy::begin(&rig);
    // A new term would look anew.
    let operator = rig.operator_with(&proxy.kubeconfig, "one", &["--lease-seconds", "120"]);
    rig.node("n1", json!({}));
    rig.policy("p", json!({"description": "before"}));
    let mut rules = rig.await_policies("n1", &["p"]);
    thread::sleep(Duration::from_secs(1));
    // Another operator writes a newer revision, and this one does not hear of it.
    proxy.watches.held.store(true, Ordering::Relaxed);
    rules.revision = 50;
    let mut map = rig.map("n1").unwrap();
    map["data"] = json!(NodeRules::encode(&rules).unwrap().into_data());
    let put = ["replace", "--raw", "/api/v1/namespaces/mooring-nodes/configmaps/n1", "-f", "-"];
    rig.operator_kubectl().run_with(&put, &map.to_string()).unwrap();
    rig.policy("p", json!({"description": "after"}));
    let conflicts = || operator.metric("mooring_operator_writes_total{object=\"ConfigMap\",result=\"Conflict\"}");
    eventually("a conflict", || {
        assert_eq!(rig.rules("n1").unwrap().revision, 50, "the old view has won");
        conflicts() > 1.5
    });
    proxy.watches.held.store(false, Ordering::Relaxed);
    let wording = |rules: &NodePolicy| rules.policies[0].spec.description.clone();
    eventually("the edit", || rig.rules("n1").is_some_and(|rules| wording(&rules).as_deref() == Some("after")));
    assert_eq!(rig.rules("n1").unwrap().revision, 51);
    assert_eq!(operator.end(), Some(0));
}
