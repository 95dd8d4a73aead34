//! Flights: one look-up per question, however many ask.
//!
//! Misses arrive through a queue, so that those who serve never wait for a lock that a look-up holds. One task sorts
//! them: join a flight, or answer at once (no zone, a limit, a remembered failure, an answer that came meanwhile), or
//! start a flight. A flight is a task of its own ([`super::lookup`]): no client's going away can end it. The table's
//! key holds the store's generation, so that a query that came after a flush never joins a flight from before it.

mod key;
mod known;

pub(super) use key::without_generation;

use super::before::Verdict;
use super::failures::Failures;
use super::lookup::{Asker, Flight};
use super::loops::Probes;
use super::numbers::Numbers;
use super::stale::{Held, Overdue};
use super::zones::Zones;
use super::{Limits, Miss, Outcome};
use crate::cache::{Entry, Store};
use crate::observe::limit::RateLimit;
use crate::observe::metrics::{DropReason, Metrics, Prefetch};
use crate::observe::queries::{Proto, QueryCells};
use crate::sys::clock::{Clock, Moment};
use crate::upstream::{Condition, Endpoint};
use crate::wire::question::Question;
use crate::wire::reply;
use arc_swap::ArcSwap;
use key::key;
use known::Known;
use smallvec::SmallVec;
use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::mpsc;

/// Tasks sorted before others of the runtime get their turn.
const BATCH: usize = 64;
/// An answer over UDP later than this may be one of many that were saved up to be sent at once, to an address that never
/// asked (CVE-2024-33655).
const LATE: Duration = Duration::from_millis(1900);
/// For how many answers a client may wait and still get late ones.
const FEW: usize = 32;
/// Of so many queries that may be in flight, one may be a prefetch; but a few always.
const PREFETCH_SHARE: usize = 100;
/// Those few.
const PREFETCHES: usize = 8;
/// Who asks when an answer is renewed before anybody does.
const NOBODY: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0);

pub(super) type Waiters = SmallVec<[Miss; 1]>;
type Random = foldhash::quality::RandomState;

/// Who waits, and for what.
#[derive(Default)]
struct Book {
    flights: HashMap<Arc<[u8]>, Waiting, Random>,
    clients: HashMap<IpAddr, usize, Random>,
}

/// Who waits for one flight.
#[derive(Default)]
struct Waiting {
    misses: Waiters,
    /// What is given to those who come later, once it is.
    overdue: Option<Box<Overdue>>,
}

/// What goes through the queue.
enum Task {
    /// Somebody waits for an answer.
    Miss(Miss),
    /// An answer is to be renewed.
    Renew(Entry),
}

/// What holds for some misses that are sorted together.
struct InForce {
    /// The store's generation, read before all else: what was made by older zones is not kept once a flush came.
    generation: u64,
    zones: Arc<Zones>,
    limits: Arc<Limits>,
}

/// Resolves misses. Cheap to clone.
#[derive(Clone)]
pub struct Resolver {
    queue: mpsc::UnboundedSender<Task>,
    inner: Arc<Inner>,
}

/// What the look-ups share.
pub(super) struct Inner {
    pub(super) store: Arc<Store>,
    zones: ArcSwap<Zones>,
    limits: ArcSwap<Limits>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) clock: Clock,
    book: Mutex<Book>,
    pub(super) failures: Failures,
    probes: Arc<Probes>,
    /// Prefetches under way.
    renewing: AtomicUsize,
    /// Where queries of our own are counted: nowhere that anybody looks.
    pub(super) uncounted: Arc<QueryCells>,
    upstreams: Numbers,
}

impl Resolver {
    /// A resolver that runs on the current tokio runtime and stops with it.
    pub fn start(store: Arc<Store>, zones: Zones, limits: Limits, metrics: Arc<Metrics>, clock: Clock) -> Resolver {
        let uncounted = metrics.uncounted();
        let inner = Arc::new(Inner {
            store,
            zones: ArcSwap::from_pointee(zones),
            limits: ArcSwap::from_pointee(limits),
            metrics,
            clock,
            book: Mutex::default(),
            failures: Failures::new(),
            probes: Arc::default(),
            renewing: AtomicUsize::new(0),
            uncounted,
            upstreams: Numbers::default(),
        });
        let (queue, arrivals) = mpsc::unbounded_channel();
        tokio::spawn(sort(Arc::clone(&inner), arrivals));
        Resolver { queue, inner }
    }

    /// Replaces zones and limits; flights under way go on as they began. If there are other zones than before, answers for
    /// names that are in another one now, or in one of other rules, are forgotten. Looks at every answer then:
    /// not for a thread that serves.
    pub fn reconfigure(&self, zones: Zones, limits: Limits) {
        let zones = Arc::new(zones);
        self.inner.limits.store(Arc::new(limits));
        let old = self.inner.zones.swap(Arc::clone(&zones));
        if !old.has_the_views_of(&zones) {
            self.inner.store.flush_all();
        } else if !old.answers_like(&zones) {
            self.inner.store.flush_where(|name, entry| {
                let view = entry.about().flags.view();
                let (Some(old), Some(new)) = (old.find(view, name), zones.find(view, name)) else { return true };
                new.label != entry.about().zone || new.revision != old.revision
            });
        }
    }

    /// Hands a miss over. Any thread may call this; it neither waits nor locks.
    ///
    /// # Errors
    /// Gives the miss back when too many are under way.
    pub fn submit(&self, miss: Miss) -> Result<(), Box<Miss>> {
        if !self.inner.admit() {
            return Err(Box::new(miss));
        }
        let Err(refused) = self.queue.send(Task::Miss(miss)) else { return Ok(()) };
        self.inner.metrics.in_flight.add(-1);
        let Task::Miss(miss) = refused.0 else { return Ok(()) };
        Err(Box::new(miss))
    }

    /// Has `entry` renewed, which is asked for often and about to expire. Any thread may call this, once for an entry; it
    /// neither waits nor locks.
    #[cold]
    pub fn renew(&self, entry: Entry) {
        // In vain once the runtime has ended.
        let _ = self.queue.send(Task::Renew(entry));
    }

    /// How long after its lifetime an answer may be given out.
    pub fn longest_stale(&self) -> Duration {
        self.inner.zones.load().longest_stale()
    }

    /// Look-ups under way, those that nobody waits for included.
    pub fn flights(&self) -> usize {
        self.inner.book().flights.len()
    }

    /// The zones that are in force now.
    #[inline]
    pub fn zones(&self) -> arc_swap::Guard<Arc<Zones>> {
        self.inner.zones.load()
    }

    /// The questions of our own that must not come in.
    pub fn probes(&self) -> &Arc<Probes> {
        &self.inner.probes
    }

    /// How many queries wait for an answer.
    pub fn in_flight(&self) -> i64 {
        self.inner.metrics.in_flight.get()
    }
}

/// Sorts misses as they arrive, until the last [`Resolver`] is gone.
async fn sort(inner: Arc<Inner>, mut arrivals: mpsc::UnboundedReceiver<Task>) {
    let mut batch = Vec::with_capacity(BATCH);
    while arrivals.recv_many(&mut batch, BATCH).await > 0 {
        let force = inner.in_force();
        for task in batch.drain(..) {
            match task {
                Task::Miss(miss) => inner.place(miss, &force),
                Task::Renew(entry) => inner.renew(&entry, &force),
            }
        }
        // Answers that are ready go out before more questions come in.
        tokio::task::yield_now().await;
    }
}

impl Inner {
    fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn in_force(&self) -> InForce {
        let generation = self.store.generation();
        InForce { generation, zones: self.zones.load_full(), limits: self.limits.load_full() }
    }

    /// Counts one more that waits for an answer, unless that is too much.
    pub(super) fn admit(&self) -> bool {
        let most = i64::try_from(self.limits.load().in_flight).unwrap_or(i64::MAX);
        let fits = self.metrics.in_flight.add(1) <= most;
        if !fits {
            self.metrics.in_flight.add(-1);
            self.metrics.dropped(DropReason::InFlight);
        }
        fits
    }

    /// Finds a miss its place: a flight, or an answer at once.
    fn place(self: &Arc<Self>, mut miss: Miss, force: &InForce) {
        let InForce { generation, zones, limits } = force;
        let now = self.clock.now();
        // The views may have been numbered anew since it came in.
        if miss.place != NOBODY {
            miss.flags = miss.flags.in_view(zones.view(miss.place));
        }
        let Some(question) = Question::read(&miss.question) else {
            return self.settle(miss, &Outcome::refused(0, now, ""));
        };
        let Some(zone) = zones.find(miss.flags.view(), question.name()) else {
            miss.cells.query(0, question.qtype());
            return self.settle(miss, &Outcome::refused(0, now, "no zone is configured for this name"));
        };
        miss.cells.query(zone.label, question.qtype());
        if self.probes.heard(question.name(), miss.client.ip()) {
            return self
                .settle(miss, &Outcome::refused(zone.label, now, "forwarding loop: this is nodens' own question"));
        }
        let miss = match &zone.before {
            None => miss,
            Some(before) => match before.judge(self, miss, &question, zone.label) {
                Verdict::Go(miss) => miss,
                Verdict::Settle(miss, outcome) => return self.settle(miss, &outcome),
                Verdict::Drop(miss, reason) => return self.dismiss(miss, reason),
            },
        };
        let key = key(&miss.question, miss.flags, miss.recursion_desired, *generation);
        let mut book = self.book();
        // Who need not wait takes nothing of what a client may have in flight.
        let (held, overdue) = match book.flights.get(&key).map(|waiting| waiting.overdue.as_ref()) {
            Some(overdue) => match overdue.and_then(|overdue| overdue.outcome(now)) {
                Some(outcome) => {
                    drop(book);
                    return self.settle(miss, &outcome);
                }
                None => (None, None),
            },
            // A flight may have landed since the miss was found to be one; its answer was stored before it left the table.
            None => match self.known(&miss, &key, zone, book.flights.len() >= limits.in_flight, now) {
                Known::Answer(outcome) => {
                    drop(book);
                    self.settle(miss, &outcome);
                    if let Some(entry) = Known::is_due(&outcome, now) {
                        self.renew(entry, force);
                    }
                    return;
                }
                Known::Old(held) => (held, None),
                Known::Meanwhile(overdue, outcome) => (Some(overdue.held.clone()), Some((overdue, outcome))),
            },
        };
        if overdue.is_none() {
            let waiting = book.clients.entry(miss.client.ip()).or_default();
            if *waiting >= limits.in_flight_per_client {
                drop(book);
                self.metrics.dropped(DropReason::InFlightPerClient);
                static LINE: RateLimit = RateLimit::new(Duration::from_secs(10));
                if let Some(suppressed) = LINE.allow(now) {
                    tracing::warn!(client = %miss.client.ip(), suppressed, "a client asks for more at once than it may");
                }
                let why = "too many queries of this client are in flight";
                return self.settle(miss, &Outcome::refused(zone.label, now, why));
            }
            *waiting += 1;
        }
        if let Some(waiting) = book.flights.get_mut(&key) {
            self.metrics.coalesced.add(1);
            waiting.misses.push(miss);
            return;
        }
        let (flags, recursion, prefetch) = (miss.flags, miss.recursion_desired, None);
        let asker = Asker::of(&miss);
        let patience = limits.patience.saturating_sub(now.since(miss.arrived));
        let hurried = patience < limits.patience / 2;
        let (inner, generation) = (Arc::clone(self), *generation);
        let flight = Flight {
            inner,
            zone: Arc::clone(zone),
            key,
            generation,
            question,
            flags,
            recursion,
            held,
            asker,
            patience,
            hurried,
            prefetch,
        };
        match overdue {
            None => {
                self.start(book, flight, SmallVec::from_iter([miss]), None);
            }
            Some((overdue, outcome)) => {
                self.refreshed(zone.label);
                self.start(book, flight, Waiters::new(), Some(Box::new(overdue)));
                self.settle(miss, &outcome);
            }
        }
    }

    /// Starts a prefetch, unless the answer is being looked up, was, or too much else is.
    fn renew(self: &Arc<Self>, entry: &Entry, force: &InForce) {
        let InForce { generation, zones, limits } = force;
        let about = entry.about();
        let Some(question) = Question::read(entry.question()) else { return };
        let Some(zone) = zones.find(about.flags.view(), question.name()) else { return };
        let key = key(entry.question(), about.flags, true, *generation);
        let book = self.book();
        let asked = self.store.key(entry.question(), about.flags);
        // A worker's own list may hold on to an entry for a while that has been renewed already.
        let newer = self.store.find(&asked).is_some_and(|held| held.about().stored > about.stored);
        if newer || book.flights.contains_key(&key) {
            return;
        }
        let most = (limits.in_flight / PREFETCH_SHARE).max(PREFETCHES);
        if self.renewing.load(Relaxed) >= most || zone.upstream.condition() != Condition::Well {
            return self.metrics.prefetch(Prefetch::Skipped);
        }
        self.renewing.fetch_add(1, Relaxed);
        self.refreshed(zone.label);
        let held = zone.stale.map(|rules| Held { entry: entry.clone(), rules });
        let (inner, zone, flags) = (Arc::clone(self), Arc::clone(zone), about.flags);
        let now = self.clock.now();
        let left = about.lifetime.saturating_sub(entry.age(now));
        let asker = Asker { client: NOBODY, proto: Proto::Tcp, place: NOBODY, arrived: now, depth: 0 };
        let flight = Flight {
            inner,
            zone,
            key,
            generation: *generation,
            question,
            flags,
            recursion: true,
            held,
            asker,
            patience: limits.patience,
            hurried: false,
            prefetch: Some(left),
        };
        self.start(book, flight, Waiters::new(), None);
    }

    /// Counts a look-up that nobody waits for.
    fn refreshed(&self, zone: u16) {
        if let Some(coredns) = self.metrics.coredns() {
            coredns.refreshed(zone);
        }
    }

    /// Sends a flight off.
    fn start(&self, mut book: MutexGuard<'_, Book>, flight: Flight, misses: Waiters, overdue: Option<Box<Overdue>>) {
        book.flights.insert(Arc::clone(&flight.key), Waiting { misses, overdue });
        drop(book);
        let (checking_disabled, dnssec_ok) = (flight.flags.checking_disabled(), flight.flags.dnssec_ok());
        let question = flight.question.as_bytes();
        let message = reply::upstream_query(question, flight.recursion, checking_disabled, dnssec_ok);
        tokio::spawn(flight.run(message));
    }

    /// From now on, who asks for what `flight` looks up gets the old answer; so do those who wait already.
    pub(super) fn overdue(&self, key: &[u8], overdue: Overdue, now: Moment) {
        let Some(outcome) = overdue.outcome(now) else { return };
        let mut book = self.book();
        let Some(waiting) = book.flights.get_mut(key) else { return };
        waiting.overdue.get_or_insert_with(|| Box::new(overdue));
        let misses = std::mem::take(&mut waiting.misses);
        self.answer(book, misses, &outcome);
    }

    /// Are those who ask for what `key` stands for given the old answer?
    pub(super) fn is_overdue(&self, key: &[u8]) -> bool {
        self.book().flights.get(key).is_some_and(|waiting| waiting.overdue.is_some())
    }

    /// Takes a flight from the table and answers its waiters.
    pub(super) fn land(&self, key: &[u8], outcome: &Outcome, prefetch: Option<Prefetch>) {
        if let Some(prefetch) = prefetch {
            self.renewing.fetch_sub(1, Relaxed);
            self.metrics.prefetch(prefetch);
        }
        let mut book = self.book();
        let waiting = book.flights.remove(key).unwrap_or_default();
        self.answer(book, waiting.misses, outcome);
    }

    /// Answers those who waited; late answers over UDP to a client that waits for many are let go.
    fn answer(&self, mut book: MutexGuard<'_, Book>, misses: Waiters, outcome: &Outcome) {
        let too_late = |miss: &Miss, waiting: usize| {
            let forgeable = miss.proto == Proto::Udp && !miss.waiter.is_rule();
            waiting > FEW && forgeable && outcome.at.since(miss.arrived) >= LATE
        };
        let late = |miss: &Miss| too_late(miss, release(&mut book, miss.client.ip()));
        let late: SmallVec<[bool; 1]> = misses.iter().map(late).collect();
        drop(book);
        for (miss, late) in misses.into_iter().zip(late) {
            if late {
                self.dismiss(miss, DropReason::Late);
            } else {
                self.settle(miss, outcome);
            }
        }
    }

    /// Lets a miss go without an answer.
    fn dismiss(&self, miss: Miss, reason: DropReason) {
        self.metrics.in_flight.add(-1);
        self.metrics.dropped(reason);
        miss.waiter.dismiss();
    }

    /// Finds `miss`, one of our own, its place.
    pub(super) fn take(self: &Arc<Self>, miss: Miss) {
        self.place(miss, &self.in_force());
    }

    /// Answers a miss that is in no flight any more, and counts it.
    fn settle(&self, miss: Miss, outcome: &Outcome) {
        if let Some(stale) = outcome.stale {
            self.metrics.stale(stale.reason);
        }
        miss.cells.response(outcome.zone, outcome.rcode, outcome.source);
        miss.cells.duration(outcome.zone, outcome.source, outcome.at.since(miss.arrived), 1);
        // Before the answer: whoever has it may ask again at once, and must find its place free.
        self.metrics.in_flight.add(-1);
        miss.waiter.answer(outcome);
    }

    /// The number of an upstream in metrics and entries.
    pub(super) fn upstream(&self, server: &Endpoint) -> u16 {
        self.upstreams.of(server, &self.metrics)
    }
}

/// One client's count goes down; returns what it was. A client that waits for nothing is forgotten.
fn release(book: &mut Book, client: IpAddr) -> usize {
    let Some(waiting) = book.clients.get_mut(&client) else { return 0 };
    let before = *waiting;
    *waiting = before.saturating_sub(1);
    if *waiting == 0 {
        book.clients.remove(&client);
    }
    before
}

#[cfg(test)]
mod tests;
