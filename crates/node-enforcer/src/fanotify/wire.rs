//! What the agent and the listener tell each other: JSON, each message after its length.

use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::path::PathBuf;

use mooring_policy::{NodePolicy, RuleSet, SlotMask};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::containers::Container;
use crate::kernel::{Key, Record};

/// A node's rules have at most 1 MiB, and 8,192 containers their masks.
const BYTES_MAX: usize = 16 << 20;

/// To the listener.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Order {
    /// These rules from now on.
    Rules {
        /// Slots are the agent's: both compile the same list.
        policy: NodePolicy,
        /// The agent's number of these rules.
        generation: u64,
        /// The slots of each container, by its cgroup's id.
        members: Vec<(u64, u64)>,
        /// The slots that prevent: a switch of the agent may hold back what the policies say.
        prevents: u64,
    },
    /// A container is new, or is described anew.
    Enter(Tracked),
    /// It is gone.
    Leave(u64),
    /// Do so when the agent has gone.
    EndWithAgent,
    /// Let everything go, and end.
    End,
}

impl Order {
    /// These rules, as they are in force.
    pub(super) fn rules(rules: &RuleSet, generation: u64, members: Vec<(u64, u64)>) -> Self {
        let policy = NodePolicy::of(rules, generation);
        Self::Rules { policy, generation, members, prevents: rules.prevents().bits() }
    }
}

/// The rules of [`Order::Rules`].
pub(super) fn rules_of(policy: &NodePolicy, prevents: u64) -> RuleSet {
    let mut rules = policy.compile().rules;
    rules.prevent_only(SlotMask::from_bits(prevents));
    rules
}

/// From the listener.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Report {
    /// It listens, and its guard watches.
    Ready,
    /// What it was told so far is in force.
    Entered {
        /// The container's cgroup.
        cgroup: u64,
        /// Why it is not, or not all of it.
        problem: Option<String>,
    },
    /// A program was refused, so many times since the last report of it.
    Denied(Denied, u64),
    /// Something for the log.
    Said(String),
    /// So many refusals could not be told, in all.
    Lost(u64),
}

/// What the listener has to know of a container.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Tracked {
    /// Its cgroup's id: its name.
    pub(super) cgroup: u64,
    /// That cgroup's path below the hierarchy's mount.
    pub(super) path: String,
    /// The slots of its policies.
    pub(super) member: u64,
    /// Its first process, where that is known.
    pub(super) init: Option<u32>,
    /// The root: where the host sees it, the superblock, the inode.
    pub(super) root: PathBuf,
    /// See [`crate::containers::FileId::dev`].
    pub(super) dev: u32,
    /// The root folder's inode number.
    pub(super) ino: u64,
    /// Whether it is an overlay.
    pub(super) overlay: bool,
    /// The upper folder.
    pub(super) upper: Option<PathBuf>,
    /// The layers below, uppermost first.
    pub(super) lower: Vec<PathBuf>,
    /// See [`crate::containers::Root::user_xattrs`].
    pub(super) user_xattrs: bool,
    /// Declared mounts: where, and the superblock and the inode of their roots.
    pub(super) volumes: Vec<(String, u32, u64)>,
}

impl Tracked {
    /// Of a container with policies.
    pub(super) fn of(container: &Container, member: u64) -> Self {
        let root = &container.root;
        let volume = |volume: &crate::containers::Volume| {
            let file = volume.file?;
            Some((volume.destination.clone(), file.dev, file.ino))
        };
        Self {
            cgroup: container.cgroup_id,
            path: container.cgroup.clone(),
            member,
            init: container.init_pid,
            root: root.path.clone(),
            dev: root.dev,
            ino: root.ino,
            overlay: root.overlay,
            upper: root.upper_dir.clone(),
            lower: root.lower_dirs.clone(),
            user_xattrs: root.user_xattrs,
            volumes: container.volumes.iter().filter_map(volume).collect(),
        }
    }
}

/// A refusal.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Denied {
    pub(super) cgroup: u64,
    pub(super) dev: u32,
    pub(super) ino: u64,
    pub(super) generation: u64,
    pub(super) drift: u64,
    pub(super) prohibited: u64,
    pub(super) refusing: u64,
    pub(super) class: u16,
    pub(super) path: Vec<u8>,
    pub(super) lower_path: Option<Vec<u8>>,
    pub(super) pid: u32,
    pub(super) uid: u32,
    pub(super) parent_pid: u32,
    pub(super) comm: Vec<u8>,
    pub(super) parent_comm: Vec<u8>,
}

impl From<Denied> for Record {
    fn from(denied: Denied) -> Self {
        Self {
            denied: Some(denied.refusing),
            aggregated: false,
            pid: denied.pid,
            uid: denied.uid,
            parent_pid: denied.parent_pid,
            comm: denied.comm,
            parent_comm: denied.parent_comm,
            path: denied.path,
            lower_path: denied.lower_path,
            ..Self::lost(Key {
                container: denied.cgroup,
                dev: denied.dev,
                inode: denied.ino,
                generation: denied.generation,
                drift: denied.drift,
                prohibited: denied.prohibited,
                prohibited_process: 0,
                class: denied.class,
                usage: 0,
            })
        }
    }
}

/// A message as it is sent.
///
/// # Errors
/// For what JSON cannot say: a path that is no text.
pub(super) fn encode(message: &impl Serialize) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; 4];
    serde_json::to_writer(&mut bytes, message)?;
    let length = u32::try_from(bytes.len() - 4).map_err(io::Error::other)?;
    bytes[..4].copy_from_slice(&length.to_le_bytes());
    Ok(bytes)
}

/// Puts messages together from what has come so far.
#[derive(Debug, Default)]
pub(super) struct Inbox(Vec<u8>);

impl Inbox {
    /// Of all that will ever come.
    pub(super) fn of(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }

    /// Reads what there is from a socket that does not block. False: the other has ended.
    ///
    /// # Errors
    /// The system's.
    pub(super) fn fill(&mut self, from: &mut impl Read) -> io::Result<bool> {
        let mut buffer = [0; 16 << 10];
        loop {
            match from.read(&mut buffer) {
                Ok(0) => return Ok(false),
                Ok(length) => self.0.extend_from_slice(&buffer[..length]),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(true),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::ConnectionReset => return Ok(false),
                Err(error) => return Err(error),
            }
        }
    }

    /// The next message that has come in full.
    ///
    /// # Errors
    /// For what is none: the rest cannot be read either.
    pub(super) fn take<T: DeserializeOwned>(&mut self) -> io::Result<Option<T>> {
        let Some(length) = self.0.first_chunk::<4>() else { return Ok(None) };
        let length = usize::try_from(u32::from_le_bytes(*length)).map_err(io::Error::other)?;
        if length > BYTES_MAX {
            return Err(io::Error::from(io::ErrorKind::InvalidData));
        }
        let Some(bytes) = self.0.get(4..4 + length) else { return Ok(None) };
        let message = serde_json::from_slice(bytes)?;
        self.0.drain(..4 + length);
        Ok(Some(message))
    }
}

/// Messages on their way to one who may be slow, or gone.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    waiting: VecDeque<Vec<u8>>,
    /// Bytes of the first that are sent.
    sent: usize,
}

impl Outbox {
    /// Messages that wait.
    pub(super) fn len(&self) -> usize {
        self.waiting.len()
    }

    /// One more.
    pub(super) fn push(&mut self, message: Vec<u8>) {
        self.waiting.push_back(message);
    }

    /// Whoever was sent a part of the first has not got it.
    pub(super) fn begin_anew(&mut self) {
        self.sent = 0;
    }

    /// Sends what the socket takes without blocking.
    ///
    /// # Errors
    /// When the other has ended; what waits stays.
    pub(super) fn flush(&mut self, to: &mut impl Write) -> io::Result<()> {
        while let Some(first) = self.waiting.front() {
            match to.write(first.get(self.sent..).unwrap_or_default()) {
                Ok(length) => self.sent += length,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
            if self.sent >= first.len() {
                self.waiting.pop_front();
                self.sent = 0;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use mooring_crd::policy_from_value;
    use mooring_policy::{Class, NodeDefaults, Switches, Use, compile};
    use serde_json::json;

    /// Takes a byte at a time, and breaks after so many.
    struct Slow(Vec<u8>, usize);

    impl Write for Slow {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.1 = self.1.checked_sub(1).ok_or(io::ErrorKind::BrokenPipe)?;
            self.0.extend(bytes.first());
            Ok(1)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn rules_arrive_as_they_are_in_force_whatever_the_policies_say() {
        let policy = json!({"apiVersion": mooring_crd::API_VERSION, "kind": mooring_crd::POLICY_KIND,
            "metadata": {"name": "p"}, "spec": {"actions": {"prevent": true}}});
        let rules = compile(&[policy_from_value(policy).unwrap()], NodeDefaults::default()).rules;
        let [none, all] = [Switches::default(), Switches { ignore_actions: true, ..Switches::default() }];
        let volumes = Switches { deny_execution_from_volumes: true, ..Switches::default() };
        for switches in [none, all, volumes] {
            let rules = switches.apply(rules.clone());
            let bytes = encode(&Order::rules(&rules, 3, Vec::new())).unwrap();
            let Some(Order::Rules { policy, prevents, .. }) = Inbox::of(bytes).take().unwrap() else { panic!() };
            let arrived = rules_of(&policy, prevents);
            assert_eq!(arrived.prevents(), rules.prevents(), "{switches:?}");
            let of_volumes = |rules: &RuleSet| rules.detects(Use::Execute, Class::VolumeBinary);
            assert_eq!(of_volumes(&arrived), of_volumes(&rules), "{switches:?}");
        }
    }

    #[test]
    fn what_one_agent_got_a_part_of_the_next_gets_whole() {
        let mut outbox = Outbox::default();
        let (first, second) = (encode(&Report::Lost(7)).unwrap(), encode(&Report::Ready).unwrap());
        let length = first.len();
        outbox.push(first);
        outbox.push(second);
        assert!(outbox.flush(&mut Slow(Vec::new(), length + 3)).is_err());
        outbox.begin_anew();
        let mut next = Slow(Vec::new(), usize::MAX);
        outbox.flush(&mut next).unwrap();
        assert!(outbox.len() == 0);
        let mut inbox = Inbox::of(next.0);
        assert!(matches!(inbox.take().unwrap(), Some(Report::Ready)), "the first was told already");
        assert!(inbox.take::<Report>().unwrap().is_none());
    }

    #[test]
    fn a_message_waits_until_it_is_whole_and_nonsense_is_an_error() {
        let bytes = encode(&Order::Leave(3)).unwrap();
        let mut inbox = Inbox::of(bytes[..bytes.len() - 1].to_vec());
        assert!(inbox.take::<Order>().unwrap().is_none());
        assert!(inbox.fill(&mut &bytes[bytes.len() - 1..]).is_ok_and(|goes_on| !goes_on));
        assert!(matches!(inbox.take().unwrap(), Some(Order::Leave(3))));
        assert!(Inbox::of(vec![0xff; 8]).take::<Order>().is_err());
        assert!(Inbox::of(vec![1, 0, 0, 0, b'{']).take::<Order>().is_err());
    }
}
