//! Flights: one look-up per question, however many ask.
//!
//! Misses arrive through a queue, so that those who serve never wait for a lock that a look-up holds. One task sorts
//! them: join a flight, or answer at once (no zone, a limit, a remembered failure, an answer that came meanwhile), or
//! start a flight. A flight is a task of its own: no client's going away can end it. The table's key holds the
//! store's generation, so that a query that came after a flush never joins a flight from before it.

use super::failures::{Failure, Failures};
use super::zones::{Zone, Zones};
use super::{Limits, Miss, Outcome, source_of};
use crate::cache::entry::About;
use crate::cache::{Entry, Flags, Store, policy};
use crate::observe::limit::RateLimit;
use crate::observe::metrics::{DropReason, Metrics};
use crate::observe::queries::Source;
use crate::sys::clock::{Clock, Moment};
use crate::upstream::{Endpoint, Query, Reply, Transport};
use crate::wire::edns::{OPT_LEN, ede};
use crate::wire::header::rcode;
use crate::wire::question::Question;
use crate::wire::reply;
use crate::wire::validate::{self, Class};
use arc_swap::ArcSwap;
use smallvec::SmallVec;
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;
use tokio::sync::mpsc;

/// Time beyond the deadline that an upstream gets to say that it failed, before it is said for it.
const GRACE: Duration = Duration::from_millis(250);
/// Misses sorted before other tasks get their turn.
const BATCH: usize = 64;

type Waiters = SmallVec<[Miss; 1]>;
type Random = foldhash::quality::RandomState;

/// Who waits, and for what.
#[derive(Default)]
struct Book {
    flights: HashMap<Arc<[u8]>, Waiters, Random>,
    clients: HashMap<IpAddr, usize, Random>,
}

/// Resolves misses. Cheap to clone.
#[derive(Clone)]
pub struct Resolver {
    queue: mpsc::UnboundedSender<Miss>,
    inner: Arc<Inner>,
}

struct Inner {
    store: Arc<Store>,
    zones: ArcSwap<Zones>,
    limits: ArcSwap<Limits>,
    metrics: Arc<Metrics>,
    clock: Clock,
    book: Mutex<Book>,
    failures: Failures,
    upstreams: RwLock<HashMap<Endpoint, u16, Random>>,
}

impl Resolver {
    /// A resolver that runs on the current tokio runtime and stops with it.
    pub fn start(store: Arc<Store>, zones: Zones, limits: Limits, metrics: Arc<Metrics>, clock: Clock) -> Resolver {
        let inner = Arc::new(Inner {
            store,
            zones: ArcSwap::from_pointee(zones),
            limits: ArcSwap::from_pointee(limits),
            metrics,
            clock,
            book: Mutex::default(),
            failures: Failures::new(),
            upstreams: RwLock::default(),
        });
        let (queue, arrivals) = mpsc::unbounded_channel();
        tokio::spawn(sort(Arc::clone(&inner), arrivals));
        Resolver { queue, inner }
    }

    /// Replaces zones and limits; flights under way go on as they began.
    pub fn reconfigure(&self, zones: Zones, limits: Limits) {
        self.inner.zones.store(Arc::new(zones));
        self.inner.limits.store(Arc::new(limits));
    }

    /// Hands a miss over. Any thread may call this; it neither waits nor locks.
    ///
    /// # Errors
    /// Gives the miss back when too many are under way.
    pub fn submit(&self, miss: Miss) -> Result<(), Box<Miss>> {
        let most = i64::try_from(self.inner.limits.load().in_flight).unwrap_or(i64::MAX);
        if self.inner.metrics.in_flight.add(1) > most {
            self.inner.metrics.in_flight.add(-1);
            self.inner.metrics.dropped(DropReason::InFlight);
            return Err(Box::new(miss));
        }
        self.queue.send(miss).map_err(|refused| {
            self.inner.metrics.in_flight.add(-1);
            Box::new(refused.0)
        })
    }

    /// How many queries wait for an answer.
    pub fn in_flight(&self) -> i64 {
        self.inner.metrics.in_flight.get()
    }
}

/// Sorts misses as they arrive, until the last [`Resolver`] is gone.
async fn sort(inner: Arc<Inner>, mut arrivals: mpsc::UnboundedReceiver<Miss>) {
    let mut batch = Vec::with_capacity(BATCH);
    while arrivals.recv_many(&mut batch, BATCH).await > 0 {
        let zones = inner.zones.load_full();
        let limits = inner.limits.load_full();
        for miss in batch.drain(..) {
            inner.place(miss, &zones, &limits);
        }
        // Answers that are ready go out before more questions come in.
        tokio::task::yield_now().await;
    }
}

impl Inner {
    fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Finds a miss its place: a flight, or an answer at once.
    fn place(self: &Arc<Self>, miss: Miss, zones: &Zones, limits: &Limits) {
        let now = self.clock.now();
        let Some(question) = Question::read(&miss.question) else {
            return self.settle(miss, &Outcome::refused(0, now, ""));
        };
        let Some(zone) = zones.find(question.name()) else {
            miss.cells.query(0, question.qtype());
            return self.settle(miss, &Outcome::refused(0, now, "no zone is configured for this name"));
        };
        miss.cells.query(zone.label, question.qtype());
        let generation = self.store.generation();
        let key = key(&miss, generation);
        let mut book = self.book();
        let waiting = book.clients.entry(miss.client).or_default();
        if *waiting >= limits.in_flight_per_client {
            drop(book);
            self.metrics.dropped(DropReason::InFlightPerClient);
            return self
                .settle(miss, &Outcome::refused(zone.label, now, "too many queries of this client are in flight"));
        }
        *waiting += 1;
        if let Some(waiters) = book.flights.get_mut(&key) {
            self.metrics.coalesced.add(1);
            waiters.push(miss);
            return;
        }
        // A flight may have landed since the miss was found to be one; its answer was stored before it left the table.
        let at_hand = self.at_hand(&miss, &key, zone, now);
        if let Some(outcome) = at_hand {
            release(&mut book, miss.client);
            drop(book);
            return self.settle(miss, &outcome);
        }
        let (flags, recursion) = (miss.flags, miss.recursion_desired);
        let message = reply::upstream_query(&miss.question, recursion, flags.checking_disabled(), flags.dnssec_ok());
        book.flights.insert(Arc::clone(&key), SmallVec::from_iter([miss]));
        drop(book);
        let flight =
            Flight { inner: Arc::clone(self), zone: Arc::clone(zone), key, generation, question, flags, recursion };
        tokio::spawn(flight.run(message, limits.patience));
    }

    /// An answer that needs no upstream after all.
    fn at_hand(&self, miss: &Miss, key: &[u8], zone: &Zone, now: Moment) -> Option<Outcome> {
        let asked = self.store.key(&miss.question, miss.flags);
        if self.store.contains(&asked)
            && let Some(entry) = self.store.get(&asked, now)
        {
            let source = source_of(&entry);
            return Some(Outcome::of(entry, source, now));
        }
        let failure = self.failures.get(without_generation(key), now)?;
        let error = Some((ede::CACHED_ERROR, failure.text));
        Some(Outcome {
            entry: None,
            rcode: failure.rcode,
            error,
            source: Source::NegativeHit,
            zone: zone.label,
            at: now,
        })
    }

    /// Answers a miss that is in no flight, and counts it.
    fn settle(&self, miss: Miss, outcome: &Outcome) {
        miss.cells.response(outcome.zone, outcome.rcode, outcome.source);
        miss.cells.duration(outcome.zone, outcome.source, outcome.at.since(miss.arrived), 1);
        // Before the answer: whoever has it may ask again at once, and must find its place free.
        self.metrics.in_flight.add(-1);
        miss.waiter.answer(outcome);
    }

    /// The number of an upstream in metrics and entries.
    fn upstream(&self, server: &Endpoint) -> u16 {
        if let Some(&label) = self.upstreams.read().unwrap_or_else(PoisonError::into_inner).get(server) {
            return label;
        }
        let label = self.metrics.upstreams.intern(&server.to_string());
        // The registry is bounded; this table must be as well, however often addresses change.
        let mut known = self.upstreams.write().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= 1024 {
            known.clear();
        }
        known.insert(server.clone(), label);
        label
    }
}

/// One client's count goes down; a client that waits for nothing is forgotten.
fn release(book: &mut Book, client: IpAddr) {
    if let Some(waiting) = book.clients.get_mut(&client) {
        *waiting = waiting.saturating_sub(1);
        if *waiting == 0 {
            book.clients.remove(&client);
        }
    }
}

/// Question, flags, RD, generation: what two misses must share to share a flight.
fn key(miss: &Miss, generation: u64) -> Arc<[u8]> {
    let bits = u8::from(miss.flags.dnssec_ok())
        | u8::from(miss.flags.checking_disabled()) << 1
        | u8::from(miss.recursion_desired) << 2;
    [&miss.question[..], &[bits], &generation.to_be_bytes()].concat().into()
}

/// A key's part that outlives a flush.
fn without_generation(key: &[u8]) -> &[u8] {
    key.get(..key.len().saturating_sub(8)).unwrap_or_default()
}

/// One look-up under way.
struct Flight {
    inner: Arc<Inner>,
    zone: Arc<Zone>,
    key: Arc<[u8]>,
    /// The store's, when the flight was started.
    generation: u64,
    question: Question,
    flags: Flags,
    recursion: bool,
}

impl Flight {
    /// Asks, stores, and answers everybody who waits.
    async fn run(self, message: Vec<u8>, patience: Duration) {
        let deadline = tokio::time::Instant::now() + patience;
        let query = Query { message: &message, opt_len: OPT_LEN };
        let exchange = self.zone.upstream.exchange(query, deadline);
        let result = tokio::time::timeout_at(deadline + GRACE, exchange).await;
        let now = self.inner.clock.now();
        let outcome = match result {
            Ok(Ok(reply)) => self.judge(reply, now),
            Ok(Err(error)) => self.failed(error.ede(), &error.to_string(), now),
            Err(_) => self.failed(ede::NO_REACHABLE_AUTHORITY, "no upstream answered in time", now),
        };
        if let Some(entry) = &outcome.entry {
            self.inner.store.insert(entry.clone(), self.generation);
        }
        self.land(&outcome);
    }

    /// Makes of an upstream's reply what clients get and the store keeps.
    fn judge(&self, reply: Reply, now: Moment) -> Outcome {
        let Reply { message, server, transport, .. } = reply;
        let mut reply = match validate::reply(message, &self.question) {
            Ok(reply) => reply,
            Err(invalid) => return self.failed(ede::OTHER, &format!("upstream {server}: {invalid}"), now),
        };
        if reply.class == Class::Truncated && transport != Transport::Udp {
            return self.failed(ede::OTHER, &format!("upstream {server} truncated its reply over TCP"), now);
        }
        let lifetime = policy::apply(&mut reply, &self.zone.ttls);
        let about = About {
            stored: now,
            // What was asked without RD may be all that the upstream had at hand: not for others.
            lifetime: if self.recursion { lifetime } else { 0 },
            rcode: reply.rcode,
            negative: matches!(reply.class, Class::NxDomain(_) | Class::NoData(_)),
            flags: self.flags,
            zone: self.zone.label,
            upstream: self.inner.upstream(&server),
        };
        let mut outcome = Outcome::of(Entry::new(&reply.message, about), Source::Miss, now);
        if reply.class == Class::Failure {
            outcome.error = Some((reply.ede.unwrap_or(ede::OTHER), format!("upstream {server} answered so").into()));
            self.remember(&outcome, now);
        } else {
            self.inner.failures.clear(without_generation(&self.key), now);
        }
        outcome
    }

    /// SERVFAIL, with the reason.
    fn failed(&self, code: u16, why: &str, now: Moment) -> Outcome {
        static LINE: RateLimit = RateLimit::new(Duration::from_secs(1));
        if let Some(suppressed) = LINE.allow(now) {
            tracing::warn!(question = ?self.question, why, suppressed, "a look-up failed");
        }
        let error = Some((code, why.into()));
        let zone = self.zone.label;
        let outcome = Outcome { entry: None, rcode: rcode::SERVFAIL, error, source: Source::Miss, zone, at: now };
        self.remember(&outcome, now);
        outcome
    }

    fn remember(&self, outcome: &Outcome, now: Moment) {
        let text = outcome.error.as_ref().map_or_else(|| "".into(), |(_, text)| Arc::clone(text));
        let failure = Failure { rcode: outcome.rcode, text };
        self.inner.failures.add(without_generation(&self.key), failure, self.zone.ttls.failure, now);
    }

    /// Takes the flight from the table and answers its waiters.
    fn land(self, outcome: &Outcome) {
        let mut book = self.inner.book();
        let waiters = book.flights.remove(&self.key).unwrap_or_default();
        waiters.iter().for_each(|miss| release(&mut book, miss.client));
        drop(book);
        for miss in waiters {
            self.inner.settle(miss, outcome);
        }
    }
}

#[cfg(test)]
mod tests;
