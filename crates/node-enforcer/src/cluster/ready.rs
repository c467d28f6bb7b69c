//! Whether the agent's rules are in force, for its pod's readiness: a file that is there while they are. The agent listens on nothing,
//! and its pod shares the host's network, where a port could be somebody else's.

use std::fs;
use std::io;
use std::path::Path;

use super::mailbox::Mailbox;
use crate::agent::Facts;

/// Where the file is unless told otherwise.
pub const DEFAULT_READY_FILE: &str = "/run/mooring/ready";

const READINESS: &str = "readiness";

/// Keeps the file true until the agent ends, and then removes it.
pub(super) async fn tell(mailbox: &Mailbox, file: &Path) {
    let mut facts = mailbox.facts();
    loop {
        let told = if is_ready(&facts.borrow_and_update()) { put(file) } else { remove(file) };
        let problem =
            |error| format!("{}: {error}; give the agent's container a folder there that it can write", file.display());
        mailbox.say(READINESS, told.err().map(problem));
        let changed = Box::pin(facts.changed());
        if let futures::future::Either::Left(_) = futures::future::select(Box::pin(mailbox.ended()), changed).await {
            let _ = remove(file);
            return;
        }
    }
}

/// Rules of this agent's own are in force. Newer ones that could not be brought into force do not change that: the node's
/// `DriftNode` tells of them.
fn is_ready(facts: &Facts) -> bool {
    facts.enforcing && facts.applied.is_some()
}

fn put(file: &Path) -> io::Result<()> {
    if let Some(folder) = file.parent() {
        fs::create_dir_all(folder)?;
    }
    fs::write(file, "")
}

/// What an agent that was killed has left says nothing of the next one.
pub(super) fn remove(file: &Path) -> io::Result<()> {
    match fs::remove_file(file) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
