//! A relay on loopback between an agent and the real API server, for what goes wrong on the way: watches that repeat themselves, that
//! go on from what the API server no longer has, and that are late. What is said is the API server's own; the relay only chooses when.
//!
//! `kubectl proxy` brings the agent's token and TLS, so that all here is plain HTTP, one request a connection.

use std::fs;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use mooring_e2e::cluster::Kubectl;
use serde_json::json;

/// The collection that the agent's rules are in.
const RULES: &str = "/api/v1/namespaces/mooring-nodes/configmaps";
/// When a line of a watch comes again.
const AGAIN: Duration = Duration::from_millis(300);
/// What a node's pods are watched by.
const PODS: &str = "/api/v1/pods?";

#[derive(Default)]
struct Faults {
    /// Lines of watches come more than once.
    repeats: bool,
    /// Where watches of rules go on from, whatever is asked, until the rules are read anew.
    expired: Option<String>,
    /// News of pods does not come.
    holds_pods: bool,
    /// The watches of rules that are under way.
    watches: Vec<TcpStream>,
    /// What was asked about rules, and what a watch of them was refused with, in their order.
    told: Vec<String>,
    /// How many lines were said again that were not the newest.
    outdated: usize,
}

/// It ends, and every connection with it, when the value is dropped.
pub struct Relay {
    proxy: Child,
    kubeconfig: PathBuf,
    faults: Arc<Mutex<Faults>>,
}

impl Relay {
    /// Between an account and the API server; `folder` is for its files.
    pub fn before(account: &Kubectl, folder: &Path) -> Self {
        let mut proxy = account.command();
        // The second is what a guest calls this machine's loopback by.
        let hosts = "--accept-hosts=^127[.]0[.]0[.]1$,^10[.]0[.]2[.]2$";
        proxy.args(["proxy", "--port=0", hosts]).stdin(Stdio::null()).stdout(Stdio::piped());
        let mut proxy = proxy.spawn().unwrap();
        let mut line = String::new();
        BufReader::new(proxy.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let upstream: u16 = line.trim().rsplit_once(':').unwrap().1.parse().unwrap();
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let server = format!("http://{}", listener.local_addr().unwrap());
        let config = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "relay", "users": [{"name": "nobody", "user": {}}],
            "clusters": [{"name": "relay", "cluster": {"server": server}}],
            "contexts": [{"name": "relay", "context": {"cluster": "relay", "user": "nobody"}}],
        });
        fs::create_dir_all(folder).unwrap();
        let kubeconfig = folder.join("kubeconfig");
        fs::write(&kubeconfig, config.to_string()).unwrap();
        let faults: Arc<Mutex<Faults>> = Arc::default();
        thread::spawn({
            let faults = Arc::clone(&faults);
            move || {
                for client in listener.incoming().map_while(Result::ok) {
                    let faults = Arc::clone(&faults);
                    // Whoever goes away in the middle is no matter.
                    thread::spawn(move || pass(&client, upstream, &faults).is_ok());
                }
            }
        });
        Self { proxy, kubeconfig, faults }
    }

    /// For an agent on this machine.
    pub fn kubeconfig(&self) -> &Path {
        &self.kubeconfig
    }

    /// For one in a guest, where this machine's loopback has another address.
    pub fn kubeconfig_in_guest(&self) -> String {
        let text = fs::read_to_string(&self.kubeconfig).unwrap().replace("127.0.0.1", "10.0.2.2");
        let mut config: serde_json::Value = serde_json::from_str(&text).unwrap();
        // A client wants some, and a guest has none of a system's.
        config["clusters"][0]["cluster"]["certificate-authority"] = "/etc/kubernetes/ca.crt".into();
        config.to_string()
    }

    /// Holds news of pods back, or lets all of it go.
    pub fn hold_pods(&self, holds: bool) {
        self.faults.lock().unwrap().holds_pods = holds;
    }

    /// From now on each line of a watch comes twice, and with each about rules all that came before it, the newest first.
    pub fn repeat(&self) {
        self.faults.lock().unwrap().repeats = true;
    }

    /// Ends the watches of rules; the next go on from version `old`, as after a long sleep, until the rules are read anew.
    pub fn expire(&self, old: &str) {
        let mut faults = self.faults.lock().unwrap();
        faults.expired = Some(old.to_owned());
        faults.told.clear();
        for watch in faults.watches.drain(..) {
            let _ = watch.shutdown(Shutdown::Both);
        }
    }

    /// What was asked about rules since they expired, and what a watch was refused with.
    pub fn told(&self) -> Vec<String> {
        self.faults.lock().unwrap().told.clone()
    }

    /// How many lines were said again after newer ones.
    pub fn outdated(&self) -> usize {
        self.faults.lock().unwrap().outdated
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        let _ = self.proxy.kill();
        let _ = self.proxy.wait();
    }
}

/// Passes on one request and its answer.
fn pass(mut client: &TcpStream, upstream: u16, faults: &Mutex<Faults>) -> io::Result<()> {
    let mut from = BufReader::new(client);
    let head = head(&mut from)?;
    let (request, headers) = head.split_first().ok_or(io::ErrorKind::UnexpectedEof)?;
    let (line, _) = request.rsplit_once(" HTTP/").ok_or(io::ErrorKind::InvalidData)?;
    let (is_rules, is_pods, is_watch) = (line.contains(RULES), line.contains(PODS), line.contains("watch=true"));
    let mut line = line.to_owned();
    let mut server = TcpStream::connect((Ipv4Addr::LOCALHOST, upstream))?;
    if is_rules {
        let mut faults = faults.lock().unwrap();
        faults.told.push(if is_watch { "watch" } else { "read" }.to_owned());
        match faults.expired.clone() {
            Some(old) if is_watch => line = from_version(&line, &old),
            _ => faults.expired = None,
        }
        if is_watch {
            faults.watches.push(server.try_clone()?);
        }
    }
    // HTTP/1.0: the answer comes in one piece, and its end is the connection's.
    write!(server, "{line} HTTP/1.0\r\n")?;
    let length = |line: &String| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse().ok())?
    };
    for header in headers.iter().filter(|header| !header.to_ascii_lowercase().starts_with("connection:")) {
        write!(server, "{header}\r\n")?;
    }
    write!(server, "\r\n")?;
    io::copy(&mut from.take(headers.iter().find_map(length).unwrap_or(0)), &mut server)?;

    let mut answers = BufReader::new(server);
    let answer = self::head(&mut answers)?;
    let (status, headers) = answer.split_first().ok_or(io::ErrorKind::UnexpectedEof)?;
    write!(client, "{}\r\n", status.replacen("HTTP/1.0", "HTTP/1.1", 1))?;
    for header in headers.iter().filter(|header| !header.to_ascii_lowercase().starts_with("connection:")) {
        write!(client, "{header}\r\n")?;
    }
    write!(client, "Connection: close\r\n\r\n")?;
    if !is_watch {
        return io::copy(&mut answers, &mut client).map(drop);
    }
    let mut before: Vec<String> = Vec::new();
    loop {
        let mut line = String::new();
        if answers.read_line(&mut line)? == 0 {
            return Ok(());
        }
        while is_pods && faults.lock().unwrap().holds_pods {
            thread::sleep(Duration::from_millis(50));
        }
        client.write_all(line.as_bytes())?;
        if is_rules && line.contains("\"ERROR\"") {
            faults.lock().unwrap().told.push(line.clone());
        }
        before.insert(0, line);
        if !faults.lock().unwrap().repeats {
            continue;
        }
        let again = if is_rules { before.len() } else { 1 };
        faults.lock().unwrap().outdated += again - 1;
        // The first has been heard by then: what comes at once is one to the agent, too.
        thread::sleep(AGAIN);
        for line in &before[..again] {
            client.write_all(line.as_bytes())?;
        }
    }
}

/// The lines before the empty one.
fn head(from: &mut impl BufRead) -> io::Result<Vec<String>> {
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        from.read_line(&mut line)?;
        match line.trim_end() {
            "" => return Ok(lines),
            line => lines.push(line.to_owned()),
        }
    }
}

/// A watch's request, going on from another version.
fn from_version(line: &str, version: &str) -> String {
    let (before, rest) = line.split_once("resourceVersion=").unwrap();
    let rest = rest.trim_start_matches(|letter: char| letter.is_ascii_digit());
    format!("{before}resourceVersion={version}{rest}")
}
