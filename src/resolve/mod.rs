//! A miss: zone → rules before the cache → flight → rules behind it, or upstream → policy → cache.
//!
//! Whoever serves clients hands over a [`Miss`] and forgets it; sooner or later, and at the latest after the patience
//! of a client ([`Limits::patience`]), its [`Waiter`] is answered. Of many misses for one question the first starts a
//! flight, which belongs to none of them; the others wait on it. A flight that fails answers all its waiters, and the
//! failure is remembered for a moment (RFC 9520 §3.2), so that a dead upstream is not asked once per client.
//!
//! Where an expired answer is held, nobody waits for a failing upstream longer than `clientWait` (RFC 8767 §5; the rules
//! stand in `cache::policy`): the flight goes on for the cache's sake, and who waits, or comes later, is given the old
//! answer. So it is at once while a failure of this question is remembered, or when all servers are known to be down.
//! After `recheck` one flight goes out again; if the last one failed not long before, still nobody waits for it. A
//! question without an old answer is asked again, for up to two seconds, when its servers refuse and have answered just
//! before: so it is when the pods of a Service are replaced.
//!
//! An answer that is asked for late in its life starts a flight without waiters: a prefetch.

mod before;
mod behind;
mod failures;
mod flight;
mod inside;
pub mod local;
mod lookup;
mod loops;
mod numbers;
mod stale;
mod wording;
mod zones;

pub use before::Before;
pub use behind::Behind;
pub use flight::Resolver;
pub use loops::{Probe, Probes};
pub use stale::Staleness;
pub use zones::{Keep, Zone, Zones, fingerprint};

use crate::cache::{Entry, Flags};
use crate::observe::coredns::cells::Plugin;
use crate::observe::queries::{Proto, QueryCells, Source};
use crate::sys::clock::Moment;
use crate::wire::edns::ede;
use crate::wire::header::rcode;
use crate::wire::reply::{self, Ttl};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

/// How much may be under way at once.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Queries waiting for an upstream, in all.
    pub in_flight: usize,
    /// Of these, from one client address.
    pub in_flight_per_client: usize,
    /// How long a client is kept waiting at most. Stub resolvers give up after five seconds.
    pub patience: Duration,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits { in_flight: 10_000, in_flight_per_client: 500, patience: Duration::from_millis(4500) }
    }
}

/// A query that the cache could not answer.
pub struct Miss {
    /// Lower-case QNAME, QTYPE, QCLASS.
    pub question: Box<[u8]>,
    /// DO and CD.
    pub flags: Flags,
    /// RD.
    pub recursion_desired: bool,
    /// Who asks.
    pub client: SocketAddr,
    /// Where the query came in.
    pub place: SocketAddr,
    /// When it came; for a look-up of a rule's, the query that it is for.
    pub arrived: Moment,
    /// Over what that query came.
    pub proto: Proto,
    /// How many rules have led here; 0 for a client's question.
    pub depth: u8,
    /// Where it is counted; cells that many threads may write.
    pub cells: Arc<QueryCells>,
    /// Who gets the answer.
    pub waiter: Box<dyn Waiter>,
}

/// Somebody who waits for an answer.
pub trait Waiter: Send {
    /// Takes the answer. Must not block.
    fn answer(self: Box<Self>, outcome: &Outcome);

    /// Learns that there will be no answer.
    fn dismiss(self: Box<Self>) {}

    /// Is it a rule in the midst of a look-up? Others may wait for that: it is answered however late it is.
    fn is_rule(&self) -> bool {
        false
    }
}

/// The source that a hit counts as.
#[inline]
pub fn source_of(entry: &Entry) -> Source {
    if entry.about().negative { Source::NegativeHit } else { Source::Hit }
}

/// What became of a miss.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// What the upstream said; `None` when it said nothing that can be used.
    pub entry: Option<Entry>,
    /// The RCODE.
    pub rcode: u16,
    /// An extended error that goes with it: code and text (RFC 8914).
    pub error: Option<(u16, Arc<str>)>,
    /// Why it is given although it has expired, if it has.
    pub stale: Option<Staleness>,
    /// Does it show the TTLs that it came with?
    pub whole_ttl: bool,
    /// How the answer came about.
    pub source: Source,
    /// Which rule wrote it, if any did.
    pub plugin: Option<Plugin>,
    /// Label of the zone.
    pub zone: u16,
    /// When it was ready.
    pub at: Moment,
}

impl Outcome {
    /// An answer that is as good as its entry.
    fn of(entry: Entry, source: Source, at: Moment) -> Outcome {
        let (rcode, zone) = (entry.about().rcode, entry.about().zone);
        Outcome {
            entry: Some(entry),
            rcode,
            error: None,
            stale: None,
            whole_ttl: false,
            source,
            plugin: None,
            zone,
            at,
        }
    }

    /// What its TTLs show.
    pub fn ttl(&self, entry: &Entry) -> Ttl {
        match self.stale {
            Some(stale) => Ttl::Fixed(stale.ttl),
            None => Ttl::Aged(if self.whole_ttl { 0 } else { entry.age(self.at) }),
        }
    }

    /// Its message as a client would see it, TTLs and all; `None` when it has no records.
    fn message(&self) -> Option<Vec<u8>> {
        self.entry.as_ref().map(|entry| reply::showing(&entry.as_stored(), self.ttl(entry)))
    }

    /// A refusal, with its reason.
    pub fn refused(zone: u16, at: Moment, why: &str) -> Outcome {
        let error = Some((ede::PROHIBITED, why.into()));
        Outcome::empty(rcode::REFUSED, error, Source::Refused, zone, at)
    }

    /// A failure, with its RCODE and an extended error.
    fn failure(rcode: u16, error: (u16, Arc<str>), source: Source, zone: u16, at: Moment) -> Outcome {
        Outcome::empty(rcode, Some(error), source, zone, at)
    }

    /// An answer without records.
    fn empty(rcode: u16, error: Option<(u16, Arc<str>)>, source: Source, zone: u16, at: Moment) -> Outcome {
        Outcome { entry: None, rcode, error, stale: None, whole_ttl: false, source, plugin: None, zone, at }
    }
}
