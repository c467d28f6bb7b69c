//! Leading: what [`crate::lease`] decides, done.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use k8s_openapi::api::coordination::v1::{Lease as Object, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use k8s_openapi::jiff::Timestamp;
use kube::api::PostParams;
use kube::{Api, Client};
use mooring_crd::access::{SYSTEM_NAMESPACE, grants::LEASE};
use tokio::sync::watch;

use crate::lease::{Decision, Lease, Seen, acts_until, decide};

/// This process's own clock.
#[derive(Clone, Copy, Debug)]
pub struct Clock(Instant);

impl Clock {
    /// Begins at zero.
    #[must_use]
    pub fn start() -> Self {
        Self(Instant::now())
    }

    /// Since the start.
    #[must_use]
    pub fn now(self) -> Duration {
        self.0.elapsed()
    }

    /// The instant of a time.
    #[must_use]
    pub fn at(self, time: Duration) -> Instant {
        self.0 + time
    }
}

/// Whether this process leads, for those who act.
#[derive(Clone, Debug)]
pub struct Leadership {
    clock: Clock,
    /// Milliseconds of the clock until which it may act.
    until: Arc<AtomicU64>,
    /// Milliseconds of the clock when the API server last answered.
    answered: Arc<AtomicU64>,
    /// Milliseconds of the clock when it was last looked after, whatever the API server said.
    tended: Arc<AtomicU64>,
}

impl Leadership {
    /// Nobody leads.
    #[must_use]
    pub fn new(clock: Clock) -> Self {
        Self { clock, until: Arc::default(), answered: Arc::default(), tended: Arc::default() }
    }

    /// Whether it may act now. To be asked right before each write: a process that was frozen finds that it may not.
    #[must_use]
    pub fn holds(&self) -> bool {
        self.clock.now() < Duration::from_millis(self.until.load(Ordering::Acquire))
    }

    /// How long ago the API server last answered.
    #[must_use]
    pub fn silent_for(&self) -> Duration {
        self.since(&self.answered)
    }

    /// How long ago the Lease was last looked after: the task that also plans and writes got round to it.
    #[must_use]
    pub fn untended_for(&self) -> Duration {
        self.since(&self.tended)
    }

    fn since(&self, cell: &AtomicU64) -> Duration {
        self.clock.now().saturating_sub(Duration::from_millis(cell.load(Ordering::Acquire)))
    }

    fn set(cell: &AtomicU64, time: Duration) {
        cell.store(u64::try_from(time.as_millis()).unwrap_or(u64::MAX), Ordering::Release);
    }
}

/// A candidate.
pub struct Candidate {
    api: Api<Object>,
    me: String,
    duration: Duration,
    leadership: Leadership,
    seen: Option<Seen>,
    acquired: Option<Timestamp>,
    /// How often it has taken the lease: the number of its present term.
    term: u64,
}

impl Candidate {
    /// A candidate that is called `me`.
    #[must_use]
    pub fn new(client: Client, me: String, duration: Duration, leadership: Leadership) -> Self {
        let api = Api::namespaced(client, SYSTEM_NAMESPACE);
        Self { api, me, duration, leadership, seen: None, acquired: None, term: 0 }
    }

    /// Whether it leads, for those who act.
    #[must_use]
    pub fn leadership(&self) -> Leadership {
        self.leadership.clone()
    }

    /// Stands for as long as it runs; `leads` says in which term it leads, if it does. A lease that was taken anew is another term: what
    /// was known in the one before may be old. Between two looks it waits a fifth of the lease's duration.
    pub async fn stand(&mut self, leads: &watch::Sender<Option<u64>>) {
        loop {
            Leadership::set(&self.leadership.tended, self.leadership.clock.now());
            let limit = self.duration / 3;
            match tokio::time::timeout(limit, self.look_and_write()).await {
                Ok(Ok(())) => {
                    Leadership::set(&self.leadership.answered, self.leadership.clock.now());
                }
                Ok(Err(error)) => tracing::warn!(%error, "the Lease could not be read or written; it is tried again"),
                Err(_) => tracing::warn!("no answer about the Lease; it is tried again"),
            }
            let term = self.leadership.holds().then_some(self.term);
            leads.send_if_modified(|leads| {
                let changed = *leads != term;
                if changed {
                    tracing::info!(leader = term.is_some(), me = self.me, "leadership");
                }
                *leads = term;
                changed
            });
            tokio::time::sleep(self.duration / 5).await;
        }
    }

    /// Takes the Lease from whoever holds it, for what must be done without the operators; gives how long the one before may still
    /// act. From then on it stands as any other.
    ///
    /// # Errors
    /// When the API server does not take it.
    pub async fn take_over(&mut self) -> kube::Result<Duration> {
        loop {
            let found = self.api.get_opt(LEASE).await?;
            let now = self.leadership.clock.now();
            self.seen = found.map(|object| Seen::look(None, lease(&object, self.duration), now));
            let before = self.seen.as_ref().filter(|seen| seen.lease.holder.is_some());
            let wait = before.map_or(Duration::ZERO, |seen| seen.lease.duration);
            self.acquired = Some(Timestamp::now());
            match self.write(self.seen.as_ref()).await {
                Ok(object) => {
                    Leadership::set(&self.leadership.until, acts_until(now, self.duration));
                    self.seen = Some(Seen { lease: lease(&object, self.duration), since: now });
                    return Ok(wait);
                }
                // It has just been renewed.
                Err(kube::Error::Api(status)) if status.code == 409 => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Renews the Lease for so long, and stands no more: a process that has done its work keeps others from acting for a while.
    ///
    /// # Errors
    /// When the API server does not take it; the lease then runs out as before.
    pub async fn leave_held(&mut self, duration: Duration) -> kube::Result<()> {
        self.duration = duration;
        self.look_and_write().await
    }

    async fn look_and_write(&mut self) -> kube::Result<()> {
        let now = self.leadership.clock.now();
        let found = self.api.get_opt(LEASE).await?;
        // When the answer came, or later: nobody renewed it after that as far as is known.
        self.seen = found
            .map(|object| Seen::look(self.seen.take(), lease(&object, self.duration), self.leadership.clock.now()));
        let decision = decide(self.seen.as_ref(), &self.me, self.leadership.clock.now());
        if decision != Decision::Renew {
            self.acquired = Some(Timestamp::now());
        }
        let written = match decision {
            Decision::Wait(_) => return Ok(()),
            Decision::Create => self.write(None).await,
            Decision::Renew | Decision::Take => self.write(self.seen.as_ref()).await,
        };
        match written {
            Ok(object) => {
                if decision != Decision::Renew {
                    self.term += 1;
                }
                Leadership::set(&self.leadership.until, acts_until(now, self.duration));
                self.seen = Some(Seen { lease: lease(&object, self.duration), since: now });
                Ok(())
            }
            // Another was first.
            Err(kube::Error::Api(status)) if status.code == 409 => Ok(()),
            Err(error) => Err(error),
        }
    }

    async fn write(&self, seen: Option<&Seen>) -> kube::Result<Object> {
        let mine = seen.is_some_and(|seen| seen.lease.holder.as_ref() == Some(&self.me));
        let transitions = seen.map_or(0, |seen| seen.lease.transitions + i32::from(!mine));
        let object = self.object(seen, Some(self.me.clone()), transitions);
        match seen {
            None => self.api.create(&PostParams::default(), &object).await,
            Some(_) => self.api.replace(LEASE, &PostParams::default(), &object).await,
        }
    }

    fn object(&self, seen: Option<&Seen>, holder: Option<String>, transitions: i32) -> Object {
        Object {
            metadata: ObjectMeta {
                name: Some(LEASE.to_owned()),
                namespace: Some(SYSTEM_NAMESPACE.to_owned()),
                resource_version: seen.map(|seen| seen.lease.resource_version.clone()),
                ..ObjectMeta::default()
            },
            spec: Some(LeaseSpec {
                holder_identity: holder,
                lease_duration_seconds: i32::try_from(self.duration.as_secs().max(1)).ok(),
                lease_transitions: Some(transitions),
                // For people: candidates go by their own clocks.
                renew_time: Some(MicroTime(Timestamp::now())),
                acquire_time: self.acquired.map(MicroTime),
                ..LeaseSpec::default()
            }),
        }
    }

    /// Gives the lease back, if it is this process's.
    ///
    /// # Errors
    /// When the API server does not take it; the lease then runs out.
    pub async fn release(&mut self) -> kube::Result<()> {
        Leadership::set(&self.leadership.until, Duration::ZERO);
        let Some(seen) = self.seen.take().filter(|seen| seen.lease.holder.as_ref() == Some(&self.me)) else {
            return Ok(());
        };
        let object = self.object(Some(&seen), None, seen.lease.transitions);
        self.api.replace(LEASE, &PostParams::default(), &object).await.map(drop)
    }
}

fn lease(object: &Object, ours: Duration) -> Lease {
    let spec = object.spec.as_ref();
    let seconds = spec.and_then(|spec| spec.lease_duration_seconds).and_then(|seconds| u64::try_from(seconds).ok());
    Lease {
        resource_version: object.metadata.resource_version.clone().unwrap_or_default(),
        holder: spec.and_then(|spec| spec.holder_identity.clone()).filter(|holder| !holder.is_empty()),
        duration: seconds.map_or(ours, Duration::from_secs),
        transitions: spec.and_then(|spec| spec.lease_transitions).unwrap_or_default(),
    }
}
