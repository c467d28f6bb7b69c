//! The thread that talks to the API server.

use std::path::PathBuf;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use futures::future::{join, join3, select};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use mooring_crd::{SelfTest, SelfTestResult};

use super::directory::Directory;
use super::mailbox::{ClusterSink, ClusterSource, Mailbox};
use super::pace::Backoff;
use super::state::StateFolder;
use super::{event_writer, follow, keep, node_writer, outcomes, ready};
use crate::agent::Facts;

/// How long a request may take.
pub(super) const REQUEST: Duration = Duration::from_secs(15);
/// How long the last writes may take when the agent ends.
const LAST_WRITES: Duration = Duration::from_secs(5);

/// Which cluster and which node.
#[derive(Debug, Clone)]
pub struct Options {
    /// How to reach the API server; None: as a pod does.
    pub kubeconfig: Option<PathBuf>,
    /// The node's name.
    pub node: String,
    /// Where the last good rules are kept.
    pub state_dir: PathBuf,
    /// A file that is there while the agent's rules are in force.
    pub ready_file: PathBuf,
}

/// Why the thread could not be started.
#[derive(Debug, thiserror::Error)]
#[error("start the thread that talks to the API server: {0}")]
pub struct ConnectionError(#[from] std::io::Error);

/// The running thread.
#[derive(Debug)]
pub struct Connection {
    mailbox: Arc<Mailbox>,
    thread: JoinHandle<()>,
}

/// Starts the thread. The source begins with what the state folder has.
///
/// # Errors
/// When the system refuses a thread or a descriptor; an API server that cannot be reached is no error.
pub fn connect(options: Options) -> Result<(ClusterSource, ClusterSink, Connection), ConnectionError> {
    if let Err(error) = ready::remove(&options.ready_file) {
        eprintln!(
            "{}: {error}: an earlier agent's readiness may be taken for this one's",
            options.ready_file.display()
        );
    }
    let folder = StateFolder::new(&options.state_dir);
    let mut directory = Directory::default();
    match folder.labels() {
        Ok(kept) => {
            for (name, labels) in kept.namespaces {
                directory.namespace(&name, labels);
            }
            for (uid, facts) in kept.pods {
                directory.pod(uid, facts);
            }
        }
        Err(error) => eprintln!("{error}"),
    }
    let mailbox = Arc::new(Mailbox::new(options.node.clone(), directory)?);
    let kept = folder.rules().unwrap_or_else(|error| {
        eprintln!("{error}");
        None
    });
    let digest = kept.as_ref().map(|kept| kept.raw.digest.clone());
    if let Some(kept) = kept {
        mailbox.give_rules(kept.rules);
    }
    let thread = thread::Builder::new().name("api".to_owned()).spawn({
        let mailbox = Arc::clone(&mailbox);
        move || run(&options, &mailbox, folder, digest)
    })?;
    let connection = Connection { mailbox: Arc::clone(&mailbox), thread };
    Ok((ClusterSource(Arc::clone(&mailbox)), ClusterSink(mailbox), connection))
}

impl Connection {
    /// Tells the cluster that this node cannot enforce, and why.
    pub fn tell_failure(&self, why: &str, self_test_failed: bool) {
        let self_test =
            self_test_failed.then(|| SelfTest { result: SelfTestResult::Failed, message: Some(why.to_owned()) });
        self.mailbox.tell(Facts { self_test, problems: vec![why.to_owned()], ..Facts::default() });
    }

    /// Writes what is left, within some seconds, and ends the thread.
    pub fn end(self) {
        self.mailbox.end();
        if self.thread.join().is_err() {
            eprintln!("the thread that talks to the API server ended early");
        }
    }
}

fn run(options: &Options, mailbox: &Mailbox, folder: StateFolder, kept: Option<String>) {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_io().enable_time().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            mailbox.say("API server", Some(format!("not talked to: {error}")));
            return;
        }
    };
    let (for_keeping, accepted) = tokio::sync::watch::channel(None);
    runtime.block_on(async {
        let keeping = keep::keep(mailbox, folder.clone(), accepted, kept);
        let talking = async {
            let client = client(options, mailbox).await;
            let following = async {
                let rules = follow::rules(&client, mailbox, folder, for_keeping);
                let names = join(follow::pods(&client, mailbox), follow::namespaces(&client, mailbox));
                join3(rules, names, outcomes::look_for_resumes(&client, mailbox)).await
            };
            let writing =
                async { join(event_writer::write(&client, mailbox), node_writer::write(&client, mailbox)).await };
            // The writers end when the agent does, the others never.
            select(Box::pin(following), Box::pin(writing)).await;
        };
        let limit = async {
            mailbox.ended().await;
            tokio::time::sleep(LAST_WRITES).await;
        };
        let readiness = ready::tell(mailbox, &options.ready_file);
        select(Box::pin(join3(keeping, talking, readiness)), Box::pin(limit)).await;
    });
}

/// A client, however long the files that say how to reach the API server take to be there.
async fn client(options: &Options, mailbox: &Mailbox) -> Client {
    let mut backoff = Backoff::new(Duration::from_secs(1), Duration::from_mins(1), &options.node);
    loop {
        match try_client(options).await {
            Ok(client) => return client,
            Err(problem) => mailbox.say("API server", Some(problem)),
        }
        tokio::time::sleep(backoff.next()).await;
    }
}

async fn try_client(options: &Options) -> Result<Client, String> {
    let config = match &options.kubeconfig {
        Some(path) => {
            let read = async {
                let kubeconfig = Kubeconfig::read_from(path)?;
                Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await
            };
            read.await.map_err(|error| format!("{} does not say how to reach it: {error}", path.display()))?
        }
        None => Config::incluster().map_err(|error| {
            format!("its address and the service account are not there: {error}; run as a pod, or give --kubeconfig")
        })?,
    };
    Client::try_from(config).map_err(|error| format!("no client can be made: {error}"))
}

/// What the API server says, without the rest of its answer.
pub(super) fn said(error: &kube::Error) -> String {
    match error {
        // A pod's token ends with the Node that it was bound to, and is read again when the kubelet has renewed it.
        kube::Error::Api(status) if status.code == 401 => {
            "the agent's token is no longer good, as after its Node was deleted and made \
            anew: delete the agent's pod, and the next one has a token of its own"
                .to_owned()
        }
        kube::Error::Api(status) => status.message.clone(),
        kube::Error::Service(source) => {
            // The cause is at the end of the chain.
            let mut cause: &dyn std::error::Error = source.as_ref();
            while let Some(next) = cause.source() {
                cause = next;
            }
            cause.to_string()
        }
        other => other.to_string(),
    }
}

/// A request with its limit.
pub(super) async fn within<T>(request: impl Future<Output = Result<T, kube::Error>>) -> Result<T, kube::Error> {
    tokio::time::timeout(REQUEST, request)
        .await
        .unwrap_or_else(|_| Err(kube::Error::Service("no answer in time".into())))
}
