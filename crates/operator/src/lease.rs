//! Who leads. Pure: time comes as an argument, on this process's own clock that nobody can set.
//!
//! A candidate does not compare the Lease's times with its own clock: it takes a Lease for expired when it has seen the same
//! version of it for as long as its holder promised to renew it in. Whoever writes carries the version that was read, so of two
//! candidates one wins.

use std::time::Duration;

/// A Lease, as it is at the API server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lease {
    /// Its version.
    pub resource_version: String,
    /// Who holds it; none where it was released.
    pub holder: Option<String>,
    /// How long the holder may go without renewing it.
    pub duration: Duration,
    /// How often it changed hands.
    pub transitions: i32,
}

/// A Lease, and when this process first saw that version of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// The Lease.
    pub lease: Lease,
    /// When.
    pub since: Duration,
}

impl Seen {
    /// After another look.
    #[must_use]
    pub fn look(before: Option<Self>, lease: Lease, now: Duration) -> Self {
        match before {
            Some(before) if before.lease == lease => before,
            _ => Self { lease, since: now },
        }
    }
}

/// What a candidate does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// There is none: make one.
    Create,
    /// It is this one's: write it again, as it is.
    Renew,
    /// It is nobody's, or its holder is gone: write it in this one's name.
    Take,
    /// It is another's: look again, at the latest then.
    Wait(Duration),
}

/// What `me` does with the lease as it was seen.
#[must_use]
pub fn decide(seen: Option<&Seen>, me: &str, now: Duration) -> Decision {
    let Some(Seen { lease, since }) = seen else { return Decision::Create };
    match &lease.holder {
        Some(holder) if holder == me => Decision::Renew,
        None => Decision::Take,
        Some(_) => {
            let expires = since.saturating_add(lease.duration);
            if now > expires { Decision::Take } else { Decision::Wait(expires) }
        }
    }
}

/// Until when a leader may act whose last renewal was sent at `sent`: well before another may take over, who sees the
/// renewal after it was sent.
#[must_use]
pub fn acts_until(sent: Duration, duration: Duration) -> Duration {
    sent.saturating_add(duration * 2 / 3)
}
