//! The listener: a process that is asked about each execution on the containers' filesystems, and answers.
//!
//! It outlives its agent and goes on by the last rules that it was given; the next agent ends it when its own listens.

mod waiting;

use std::collections::{BTreeMap, HashMap};
use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::FileExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use mooring_policy::{Attempt, Class, Judgement, Name, RuleSet, SlotMask, Use, judge};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::fanotify::{FanotifyEvent, MaskFlags};

use super::beat::{Beats, Whose};
use super::decide::{Examined, Place, name_of, place_of};
use super::guard;
use super::marks::{Kind, Marks, Mounts};
use super::prove::Prover;
use super::sys::{self, Seen};
use super::tell::Teller;
use super::wire::{Denied, Inbox, Order, Report, Tracked, rules_of};
use super::work::{Done, Key, Workers};
use waiting::{COMPARE, Waiting};

/// The hidden subcommand.
pub(super) const COMMAND: &str = "fanotify-listener";
/// How often it says that it lives, in milliseconds, when nothing happens.
const IDLE: u16 = 100;
/// Answers that are remembered; then it begins anew.
const ANSWERS_MAX: usize = 16_384;

/// An answer, and what is told of it where it is a refusal.
#[derive(Debug, Clone)]
enum Answer {
    Allow,
    /// It runs, and is told of.
    Notice(Arc<Denied>),
    Deny(Arc<Denied>),
}

struct Listener {
    beats: Arc<Beats>,
    beat: u64,
    marks: Marks,
    workers: Workers,
    teller: Teller,
    agent: Option<UnixStream>,
    inbox: Inbox,
    ends_with_agent: bool,
    /// Where the next agent finds this one.
    next: UnixListener,
    containers: BTreeMap<u64, Arc<Tracked>>,
    /// Those whose roots are marked, by superblock.
    marked: HashMap<u32, u64>,
    rules: RuleSet,
    generation: u64,
    answers: HashMap<Key, Answer>,
    waiting: HashMap<Key, Waiting>,
}

/// Listens until it is told to end. Its standard input is the agent, its standard output the program that is told of proofs; `folder` is where the next agent looks for it.
///
/// # Errors
/// When the system refuses what it needs: then nothing waits for it either.
pub fn run(folder: &Path) -> io::Result<()> {
    sys::hurry();
    let agent = UnixStream::from(io::stdin().as_fd().try_clone_to_owned()?);
    agent.set_nonblocking(true)?;
    let prover = Prover::new(io::stdout().as_fd().try_clone_to_owned()?);
    let beats = Arc::new(Beats::new()?);
    guard::keep(Arc::clone(&beats))?;
    beats.beat(Whose::Listener, 1)?;
    let place = folder.join(std::process::id().to_string());
    let _ = fs::remove_file(&place);
    let next = UnixListener::bind(&place)?;
    next.set_nonblocking(true)?;
    let mut listener = Listener {
        beats,
        beat: 1,
        marks: Marks::new()?,
        workers: Workers::start(prover)?,
        teller: Teller::default(),
        agent: Some(agent),
        inbox: Inbox::default(),
        ends_with_agent: false,
        next,
        containers: BTreeMap::new(),
        marked: HashMap::new(),
        rules: RuleSet::default(),
        generation: 0,
        answers: HashMap::new(),
        waiting: HashMap::new(),
    };
    listener.teller.tell(&Report::Ready);
    sys::stay_in_memory();
    while listener.turn()? {}
    let _ = fs::remove_file(&place);
    listener.say_the_rest();
    Ok(())
}

impl Listener {
    /// Says that it lives: after each thing that it has done.
    fn lives(&mut self) -> io::Result<()> {
        self.beat += 1;
        self.beats.beat(Whose::Listener, self.beat)
    }

    /// False: it is to end.
    fn turn(&mut self) -> io::Result<bool> {
        self.lives()?;
        let [asked, worked, next, said] = self.wait()?;
        if asked {
            for event in self.marks.events()? {
                self.asked(event);
                self.lives()?;
            }
        }
        if worked {
            let done: Vec<_> = self.workers.done().collect();
            for done in done {
                self.worked(done);
                self.lives()?;
            }
        }
        self.give_up_waiting();
        if next && let Ok((agent, _)) = self.next.accept() {
            agent.set_nonblocking(true)?;
            self.agent = Some(agent);
            self.inbox = Inbox::default();
            self.teller.begin_anew();
        }
        let goes_on = !said || self.follow_agent();
        self.teller.tell_counts();
        if let Some(agent) = &mut self.agent
            && self.teller.send(agent).is_err()
        {
            self.agent = None;
        }
        Ok(goes_on)
    }

    fn wait(&self) -> io::Result<[bool; 4]> {
        let due = self.waiting.values().filter_map(|waiting| waiting.until).min();
        let left = due.map(|due| due.saturating_duration_since(Instant::now()).as_millis() + 1);
        let timeout = left.and_then(|left| u16::try_from(left).ok()).unwrap_or(IDLE).min(IDLE);
        let (group, worked) = (self.marks.descriptor(), self.workers.descriptor());
        let mut polled = vec![
            PollFd::new(group.as_fd(), PollFlags::POLLIN),
            PollFd::new(worked.as_fd(), PollFlags::POLLIN),
            PollFd::new(self.next.as_fd(), PollFlags::POLLIN),
        ];
        if let Some(agent) = &self.agent {
            let also = if self.teller.is_empty() { PollFlags::empty() } else { PollFlags::POLLOUT };
            polled.push(PollFd::new(agent.as_fd(), PollFlags::POLLIN | also));
        }
        match poll(&mut polled, PollTimeout::from(timeout)) {
            Ok(_) | Err(nix::errno::Errno::EINTR) => {}
            Err(error) => return Err(error.into()),
        }
        let readable = |index: usize| {
            let events = polled.get(index).and_then(PollFd::revents).unwrap_or(PollFlags::empty());
            events.intersects(PollFlags::POLLIN | PollFlags::POLLHUP | PollFlags::POLLERR)
        };
        Ok([readable(0), readable(1), readable(2), readable(3)])
    }

    /// One question.
    fn asked(&mut self, event: FanotifyEvent) {
        let Some(descriptor) = event.fd() else { return };
        if !event.mask().contains(MaskFlags::FAN_OPEN_EXEC_PERM) {
            return;
        }
        let seen = Seen::of(descriptor);
        // One that is longer than the kernel tells leads nowhere.
        let path = fs::read_link(format!("/proc/self/fd/{}", descriptor.as_raw_fd())).unwrap_or_default();
        let Ok(seen) = seen else {
            // Nothing can be said of it: as of a file whose container is not known.
            let answer = self.of_unknown();
            return self.answer(&event, &answer);
        };
        let key = (seen, path);
        if let Some(answer) = self.answers.get(&key).cloned() {
            return self.answer(&event, &answer);
        }
        if let Some(waiting) = self.waiting.get_mut(&key) {
            waiting.until.get_or_insert(Instant::now() + COMPARE);
            return waiting.events.push(event);
        }
        self.resolve(event, key);
    }

    fn resolve(&mut self, event: FanotifyEvent, key: Key) {
        let pid = u32::try_from(event.pid()).unwrap_or_default();
        let (seen, path) = &key;
        let mounts = Mounts::of(pid);
        let mount = self.marks.mount_of(&mounts, seen);
        let named = mount.as_ref().map(|mount| mount.cgroup).filter(|cgroup| *cgroup != 0);
        let on = |dev: u32| self.marked.get(&dev).copied();
        let cgroup = named.or_else(|| on(mount.as_ref()?.dev)).or_else(|| on(seen.dev));
        let Some(container) = cgroup.and_then(|cgroup| self.containers.get(&cgroup)).map(Arc::clone) else {
            // It is on some container's file system, most likely on that of who executes it.
            let answer = match self.container_of(pid) {
                Some(container) => self.judge(&container, seen, Class::NewBinary, Name::Unresolved, None),
                None => self.of_unknown(),
            };
            return self.answer(&event, &answer);
        };
        // Before it goes on: its mount namespace may be new, and what is mounted there not yet asked about.
        let surveyed = self.marks.survey(&container, pid, &mounts);
        let mount = if surveyed.is_some() { self.marks.mount_of(&mounts, seen) } else { mount };
        for problem in surveyed.into_iter().flatten() {
            let report = Report::Entered { cgroup: container.cgroup, problem: Some(problem) };
            self.teller.tell(&report);
        }
        let (kind, subtree) = mount.map_or((Kind::Root, PathBuf::from("/")), |mount| (mount.kind, mount.subtree));
        let nameless = Name::Unresolved;
        let (class, name) = match kind {
            _ if seen.links == 0 => (Class::Fileless, nameless),
            Kind::Foreign => (Class::ForeignMount, Name::None),
            Kind::Volume(number) => {
                let destination = container.volumes.get(number).map(|(destination, ..)| destination.as_str());
                let is_on = destination.is_some_and(|destination| path.starts_with(destination));
                (Class::VolumeBinary, if is_on { Name::Path(path.as_os_str().as_encoded_bytes()) } else { nameless })
            }
            Kind::Root => match place_of(&container, seen, path, &subtree) {
                Place::Image(found) => {
                    let answer = self.judge(&container, seen, Class::Image, Name::Path(&name_of(&found)), None);
                    return self.settle(event, key, answer, true);
                }
                Place::Upper(found) => return self.examine(event, key, &container, found),
                Place::Nowhere => (Class::NewBinary, nameless),
            },
        };
        let lasts = !matches!((class, name), (Class::NewBinary, _) | (_, Name::Unresolved));
        let shown = if let Name::None = name { name_of(path) } else { Vec::new() };
        let mut answer = self.judge(&container, seen, class, name, None);
        if let (Answer::Deny(denied) | Answer::Notice(denied), false) = (&mut answer, shown.is_empty()) {
            Arc::make_mut(denied).path = shown;
        }
        self.settle(event, key, answer, lasts);
    }

    fn settle(&mut self, event: FanotifyEvent, key: Key, answer: Answer, lasts: bool) {
        self.answer(&event, &answer);
        drop(event);
        if lasts {
            self.remember(key, answer);
        }
    }

    fn remember(&mut self, key: Key, answer: Answer) {
        if self.answers.len() >= ANSWERS_MAX {
            self.answers.clear();
        }
        self.answers.insert(key, answer);
    }

    fn worked(&mut self, done: Done) {
        match done {
            Done::Admitted(container, problem) => self.admitted(&container, problem),
            Done::Examined(key, container, path, Examined { class, lower_path, lasts }) => {
                let lower = lower_path.filter(|lower| *lower != path).map(|lower| name_of(&lower));
                let answer = self.judge(&container, &key.0, class, Name::Path(&name_of(&path)), lower.as_deref());
                for event in self.waiting.remove(&key).into_iter().flat_map(|waiting| waiting.events) {
                    self.answer(&event, &answer);
                }
                // Of a container that is gone, or is described anew, nothing is kept.
                let is_there =
                    self.containers.get(&container.cgroup).is_some_and(|known| Arc::ptr_eq(known, &container));
                if lasts && is_there {
                    self.remember(key, answer);
                }
                self.examine_next(container.cgroup);
            }
        }
    }

    fn judge(&self, container: &Tracked, seen: &Seen, class: Class, path: Name<'_>, lower: Option<&[u8]>) -> Answer {
        let member = SlotMask::from_bits(container.member);
        let lower_path = lower.map_or(Name::None, Name::Path);
        // The name that it is invoked by is not known here, nor surely which program executes it.
        let attempt = Attempt {
            member,
            usage: Use::Execute,
            class,
            path,
            lower_path,
            invoked: Name::None,
            alias: Name::None,
            caller: None,
        };
        let Judgement { drift, prohibited, violating, denied, .. } = judge(&self.rules, &attempt);
        if violating.is_empty() {
            return Answer::Allow;
        }
        let as_told = if denied.is_empty() { Answer::Notice } else { Answer::Deny };
        as_told(Arc::new(Denied {
            cgroup: container.cgroup,
            dev: seen.dev,
            ino: seen.ino,
            generation: self.generation,
            drift: drift.bits(),
            prohibited: prohibited.bits(),
            refusing: denied.bits(),
            class: class as u16,
            path: if let Name::Path(path) = path { path.to_vec() } else { Vec::new() },
            lower_path: lower.map(<[u8]>::to_vec),
            ..Denied::default()
        }))
    }

    /// The container that a process is in, by the path of its cgroup.
    fn container_of(&self, pid: u32) -> Option<Arc<Tracked>> {
        let cgroups = fs::read_to_string(format!("/proc/{pid}/cgroup")).ok()?;
        let is_in = |path: &str| {
            cgroups
                .lines()
                .filter_map(|line| line.splitn(3, ':').nth(2)?.strip_prefix(path))
                .any(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        let of_some = self.containers.values().filter(|container| !container.path.is_empty());
        of_some.filter(|container| is_in(&container.path)).max_by_key(|container| container.path.len()).cloned()
    }

    /// Only what is a container's is asked about, so it is some container's: refused where any policy prevents.
    fn of_unknown(&self) -> Answer {
        let members = self.containers.values().fold(0, |all, container| all | container.member);
        if (SlotMask::from_bits(members) & self.rules.prevents()).is_empty() {
            return Answer::Allow;
        }
        Answer::Deny(Arc::new(Denied::default()))
    }

    fn answer(&mut self, event: &FanotifyEvent, answer: &Answer) {
        // First: the process is still as it was.
        match answer {
            Answer::Deny(denied) => self.teller.denied(denied, event.pid()),
            // What runs is seen by the programs beneath, which tell of it: all but a script, of which they see the interpreter only.
            Answer::Notice(denied) if is_script(event) => self.teller.denied(denied, event.pid()),
            Answer::Notice(_) | Answer::Allow => {}
        }
        self.marks.answer(event, matches!(answer, Answer::Deny(_)));
    }

    /// False: it is to end.
    fn follow_agent(&mut self) -> bool {
        let Some(agent) = &mut self.agent else { return true };
        let is_there = self.inbox.fill(agent).unwrap_or(false);
        loop {
            match self.inbox.take() {
                Ok(Some(Order::End)) => return false,
                Ok(Some(order)) => self.obey(order),
                Ok(None) => break,
                Err(error) => {
                    // It may be of another version. This one is ended by it, or by the next.
                    self.teller.tell(&Report::Said(format!("the listener does not understand its agent: {error}")));
                    self.agent = None;
                    return true;
                }
            }
        }
        if !is_there {
            self.agent = None;
        }
        is_there || !self.ends_with_agent
    }

    fn obey(&mut self, order: Order) {
        self.answers.clear();
        match order {
            Order::Rules { policy, generation, members, prevents } => {
                self.rules = rules_of(&policy, prevents);
                self.generation = generation;
                let members: HashMap<_, _> = members.into_iter().collect();
                let changed: Vec<_> = self.containers.values().cloned().collect();
                for container in changed {
                    let member = members.get(&container.cgroup).copied().unwrap_or_default();
                    if member != container.member {
                        self.enter(Tracked { member, ..Tracked::clone(&container) });
                    }
                }
            }
            Order::Enter(container) => self.enter(container),
            Order::Leave(cgroup) => {
                if let Some(container) = self.containers.remove(&cgroup) {
                    self.unmark(&container);
                    self.marks.forget(cgroup);
                }
            }
            Order::EndWithAgent => self.ends_with_agent = true,
            Order::End => {}
        }
    }

    fn enter(&mut self, container: Tracked) {
        let container = Arc::new(container);
        let before = self.containers.insert(container.cgroup, Arc::clone(&container));
        if before.as_ref().is_some_and(|before| before.volumes != container.volumes) {
            self.marks.survey_again(container.cgroup);
        }
        if container.member == 0 {
            // Without a policy nothing is asked.
            if let Some(before) = before {
                self.unmark(&before);
            }
            return self.teller.tell(&Report::Entered { cgroup: container.cgroup, problem: None });
        }
        if self.marked.get(&container.dev) == Some(&container.cgroup) {
            return self.admitted(&container, None);
        }
        self.workers.admit(container);
    }

    fn admitted(&mut self, container: &Arc<Tracked>, mut problem: Option<String>) {
        if !self.containers.get(&container.cgroup).is_some_and(|known| Arc::ptr_eq(known, container)) {
            return;
        }
        if problem.is_none() {
            // Before it is asked about.
            self.marked.insert(container.dev, container.cgroup);
            problem = self.marks.mark_root(container).err().map(|error| error.to_string());
        }
        if let (None, Some(init)) = (&problem, container.init) {
            let problems = self.marks.survey(container, init, &Mounts::of(init));
            problem = problems.filter(|problems| !problems.is_empty()).map(|problems| problems.join("; "));
        }
        self.teller.tell(&Report::Entered { cgroup: container.cgroup, problem });
    }

    fn unmark(&mut self, container: &Tracked) {
        if self.marked.get(&container.dev) == Some(&container.cgroup) {
            self.marks.unmark_root(container);
            self.marked.remove(&container.dev);
        }
    }

    /// What was not told yet, to an agent who has asked it to end.
    fn say_the_rest(mut self) {
        // Nobody waits any more.
        drop(self.waiting);
        drop(self.marks);
        self.teller.tell_everything();
        if let Some(mut agent) = self.agent {
            let _ = agent.set_nonblocking(false);
            let _ = agent.set_write_timeout(Some(Duration::from_secs(1)));
            let _ = self.teller.send(&mut agent);
        }
    }
}

fn is_script(event: &FanotifyEvent) -> bool {
    let mut begin = [0; 2];
    let file = event.fd().and_then(|descriptor| descriptor.try_clone_to_owned().ok()).map(File::from);
    file.is_some_and(|file| file.read_exact_at(&mut begin, 0).is_ok()) && &begin == b"#!"
}
