//! Keeps in the state folder what is in force, and the labels that it was chosen by.

use std::time::Duration;

use tokio::sync::watch;

use super::mailbox::Mailbox;
use super::pace::Backoff;
use super::rules::Accepted;
use super::state::{KeptLabels, StateError, StateFolder};

/// How often it is looked whether labels have changed.
const LOOK: Duration = Duration::from_secs(2);

pub(super) const STATE: &str = "state folder";

/// Writes what is new until the agent ends. A folder that takes nothing is told of and tried again; nothing else depends on it.
/// `kept` is the digest of the rules that are there.
pub(super) async fn keep(
    mailbox: &Mailbox,
    folder: StateFolder,
    accepted: watch::Receiver<Option<Accepted>>,
    kept: Option<String>,
) {
    let mut keeper = Keeper { mailbox, folder, accepted, kept, version: u64::MAX, labels: None };
    let mut backoff = Backoff::new(LOOK, Duration::from_mins(5), mailbox.node());
    loop {
        let wait = match keeper.turn() {
            Ok(()) => {
                mailbox.say(STATE, None);
                backoff.reset();
                LOOK
            }
            Err(error) => {
                mailbox.say(STATE, Some(error.to_string()));
                backoff.next()
            }
        };
        if tokio::time::timeout(wait, mailbox.ended()).await.is_ok() {
            if let Err(error) = keeper.turn() {
                mailbox.say(STATE, Some(error.to_string()));
            }
            return;
        }
    }
}

struct Keeper<'a> {
    mailbox: &'a Mailbox,
    folder: StateFolder,
    accepted: watch::Receiver<Option<Accepted>>,
    kept: Option<String>,
    /// Of the directory that was kept.
    version: u64,
    labels: Option<KeptLabels>,
}

impl Keeper<'_> {
    fn turn(&mut self) -> Result<(), StateError> {
        if self.folder.is_forgotten() {
            // Whatever was there is written anew if it is to be kept again.
            (self.kept, self.labels, self.version) = (None, None, u64::MAX);
            return self.folder.forget();
        }
        self.keep_rules()?;
        // Without rules they are for nothing, and where Mooring is removed nobody would take them away.
        if self.kept.is_none() {
            return Ok(());
        }
        self.keep_labels()
    }

    /// Rules are kept once they are in force.
    fn keep_rules(&mut self) -> Result<(), StateError> {
        let applied = self.mailbox.facts().borrow().applied.as_ref().map(|applied| applied.digest.clone());
        let raw = self.accepted.borrow().as_ref().map(|accepted| accepted.raw.clone());
        let Some(raw) = raw.filter(|raw| applied.as_ref() == Some(&raw.digest) && self.kept != applied) else {
            return Ok(());
        };
        self.folder.keep_rules(&raw)?;
        self.kept = applied;
        Ok(())
    }

    fn keep_labels(&mut self) -> Result<(), StateError> {
        let Some((version, (pods, namespaces))) =
            self.mailbox.directory_since(self.version, super::Directory::to_be_kept)
        else {
            return Ok(());
        };
        let labels = KeptLabels { pods, namespaces };
        // Most changes are in namespaces that no pod here is in.
        if self.labels.as_ref() != Some(&labels) {
            self.folder.keep_labels(&labels)?;
            self.labels = Some(labels);
        }
        self.version = version;
        Ok(())
    }
}
