//! What the listener tells its agent. Nothing here delays an answer.

use std::collections::HashMap;
use std::fs;
use std::io::{self, Write};
use std::time::{Duration, Instant};

use super::wire::{Denied, Outbox, Report, encode};

/// How often counts are told.
const COUNTS: Duration = Duration::from_secs(1);
/// Kinds of refusals that are counted apart, and messages that wait for an agent. More is lost, and counted.
const KINDS_MAX: usize = 1024;
const MESSAGES_MAX: usize = 4096;

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Kind {
    cgroup: u64,
    dev: u32,
    ino: u64,
    generation: u64,
    class: u16,
    path: Vec<u8>,
}

/// Refusals of one kind: the first is told at once, the others once a second.
#[derive(Debug)]
struct Flood {
    first: Denied,
    untold: u64,
}

/// Everything between the answers and the agent.
#[derive(Debug)]
pub(super) struct Teller {
    outbox: Outbox,
    floods: HashMap<Kind, Flood>,
    counted: Instant,
    lost: u64,
    lost_told: u64,
}

impl Default for Teller {
    fn default() -> Self {
        Self { outbox: Outbox::default(), floods: HashMap::new(), counted: Instant::now(), lost: 0, lost_told: 0 }
    }
}

impl Teller {
    /// Whether all is sent.
    pub(super) fn is_empty(&self) -> bool {
        self.outbox.len() == 0
    }

    /// Another agent listens.
    pub(super) fn begin_anew(&mut self) {
        self.outbox.begin_anew();
    }

    /// One message.
    pub(super) fn tell(&mut self, report: &Report) {
        match encode(report) {
            Ok(message) if self.outbox.len() < MESSAGES_MAX => self.outbox.push(message),
            _ => self.lost += 1,
        }
    }

    /// A refusal, of a process that still waits.
    pub(super) fn denied(&mut self, denied: &Denied, pid: i32) {
        if denied.cgroup == 0 {
            self.lost += 1;
            return;
        }
        let Denied { cgroup, dev, ino, generation, class, .. } = *denied;
        let kind = Kind { cgroup, dev, ino, generation, class, path: denied.path.clone() };
        if let Some(flood) = self.floods.get_mut(&kind) {
            flood.untold += 1;
            return;
        }
        let first = with_process(denied.clone(), pid);
        self.tell(&Report::Denied(first.clone(), 1));
        if self.floods.len() < KINDS_MAX {
            self.floods.insert(kind, Flood { first, untold: 0 });
        }
    }

    /// The others, when it is time.
    pub(super) fn tell_counts(&mut self) {
        if self.counted.elapsed() >= COUNTS {
            self.tell_everything();
        }
    }

    /// The others, now.
    pub(super) fn tell_everything(&mut self) {
        self.counted = Instant::now();
        let mut floods = std::mem::take(&mut self.floods);
        // What did not happen again is told at once when it does.
        floods.retain(|_, flood| flood.untold > 0);
        for flood in floods.values_mut() {
            if self.outbox.len() < MESSAGES_MAX {
                self.tell(&Report::Denied(flood.first.clone(), std::mem::take(&mut flood.untold)));
            }
        }
        self.floods = floods;
        if self.lost != self.lost_told && self.outbox.len() < MESSAGES_MAX {
            self.lost_told = self.lost;
            self.tell(&Report::Lost(self.lost));
        }
    }

    /// Sends what the agent takes.
    ///
    /// # Errors
    /// When it has ended.
    pub(super) fn send(&mut self, agent: &mut impl Write) -> io::Result<()> {
        self.outbox.flush(agent)
    }
}

/// The process as it is before the exec.
fn with_process(mut denied: Denied, pid: i32) -> Denied {
    denied.pid = u32::try_from(pid).unwrap_or_default();
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map(str::trim);
    let number = |text: Option<&str>| text?.split_whitespace().next()?.parse().ok();
    denied.uid = number(field("Uid")).unwrap_or_default();
    denied.parent_pid = number(field("PPid")).unwrap_or_default();
    let comm = |pid: i64| {
        let mut name = fs::read(format!("/proc/{pid}/comm")).unwrap_or_default();
        name.truncate(name.strip_suffix(b"\n").map_or(name.len(), <[u8]>::len));
        name
    };
    denied.comm = comm(pid.into());
    denied.parent_comm = if denied.parent_pid == 0 { Vec::new() } else { comm(denied.parent_pid.into()) };
    denied
}

#[cfg(test)]
mod tests {
    use super::super::wire::Inbox;
    use super::*;

    fn told(teller: &mut Teller) -> Vec<(Vec<u8>, u64)> {
        let mut sent = Vec::new();
        teller.send(&mut sent).unwrap();
        let mut inbox = Inbox::of(sent);
        let mut told = Vec::new();
        while let Some(report) = inbox.take().unwrap() {
            match report {
                Report::Denied(denied, count) => told.push((denied.path, count)),
                Report::Lost(count) => told.push((b"lost".to_vec(), count)),
                other => panic!("{other:?}"),
            }
        }
        told
    }

    fn denied(path: &str) -> Denied {
        Denied { cgroup: 1, path: path.into(), ..Denied::default() }
    }

    #[test]
    fn the_first_is_told_at_once_and_the_others_are_counted() {
        let mut teller = Teller::default();
        for _ in 0..5 {
            teller.denied(&denied("/a"), 0);
        }
        teller.denied(&denied("/b"), 0);
        assert_eq!(told(&mut teller), [(b"/a".to_vec(), 1), (b"/b".to_vec(), 1)]);
        teller.tell_everything();
        assert_eq!(told(&mut teller), [(b"/a".to_vec(), 4)]);
        teller.tell_everything();
        assert_eq!(told(&mut teller), []);
        teller.denied(&denied("/a"), 0);
        assert_eq!(told(&mut teller), [(b"/a".to_vec(), 1)], "it begins anew");
    }

    #[test]
    fn without_an_agent_what_finds_no_room_is_counted_as_lost() {
        let mut teller = Teller::default();
        for number in 0..MESSAGES_MAX + 3 {
            teller.denied(&denied(&number.to_string()), 0);
        }
        assert_eq!(told(&mut teller).len(), MESSAGES_MAX);
        teller.tell_everything();
        assert_eq!(told(&mut teller), [(b"lost".to_vec(), 3)]);
    }
}
