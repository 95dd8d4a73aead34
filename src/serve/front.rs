//! What every transport does with a packet: judge it, answer what can be answered here, hand the rest over.

use super::client::Acl;
use crate::cache::{Entry, Flags, Store};
use crate::observe::metrics::{DropReason, Metrics};
use crate::observe::queries::{Family, Label, Proto, QueryCells, Source};
use crate::resolve::{Miss, Outcome, Resolver, Waiter, source_of};
use crate::sys::clock::Moment;
use crate::wire::edns::ede;
use crate::wire::header::{self, Header, rcode};
use crate::wire::probe;
use crate::wire::query::{self, Gate, Query};
use crate::wire::question::Question;
use crate::wire::reply::Manner;
use crate::wire::reply::{self, Asked, Notes, STREAM_LIMIT, Ttl};
use arc_swap::ArcSwap;
use std::borrow::Borrow;
use std::fmt::Write as _;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicU8, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};

/// What is done with a packet.
pub enum Verdict<'a, E> {
    /// The cache has the answer.
    Hit(Query<'a>, E),
    /// A bare header with this RCODE.
    Bare(Header, u16),
    /// The question given back with this RCODE.
    Decline(Query<'a>, u16),
    /// An upstream must be asked.
    Miss(Query<'a>),
    /// Nothing.
    Drop(DropReason),
}

/// Judges a packet that came in where `view` is; `look_up` asks the cache for a question with flags.
#[inline]
pub fn judge<'a, E: Borrow<Entry>>(
    packet: &'a [u8],
    view: u8,
    look_up: impl FnOnce(&[u8], Flags) -> Option<E>,
) -> Verdict<'a, E> {
    match query::read(packet) {
        Gate::Ask(query) => {
            let flags = Flags::new(query.dnssec_ok(), query.checking_disabled()).in_view(view);
            match look_up(query.question.as_bytes(), flags) {
                Some(entry) if !entry.borrow().is_ruled() => Verdict::Hit(query, entry),
                // What rules have a say in finds its answer as a miss all the same.
                _ => Verdict::Miss(query),
            }
        }
        Gate::Bare(header, code) => Verdict::Bare(header, code),
        Gate::Decline(query, code) => Verdict::Decline(query, code),
        Gate::Short => Verdict::Drop(DropReason::ShortHeader),
        Gate::Response => Verdict::Drop(DropReason::Response),
    }
}

/// One of the addresses where queries come in.
pub struct Door {
    /// The address.
    pub place: SocketAddr,
    /// Whose zones are there for those who ask here.
    view: AtomicU8,
    /// The cells in which many threads count queries that came in here, by transport.
    cells: [Arc<QueryCells>; 2],
}

impl Door {
    /// Is `packet` one of our own, by which guardian and `/ready` find out whether anybody answers here? Such are not
    /// counted: they are no client's.
    pub fn is_probe(&self, packet: &[u8], from: IpAddr) -> bool {
        probe::is(packet) && (from.is_loopback() || from == self.place.ip())
    }

    /// The view of those who ask here.
    #[inline]
    pub fn view(&self) -> u8 {
        self.view.load(Relaxed)
    }

    /// The cells in which many threads count queries that came in here over `proto`.
    pub fn cells(&self, proto: Proto) -> &Arc<QueryCells> {
        let [udp, tcp] = &self.cells;
        match proto {
            Proto::Udp => udp,
            Proto::Tcp => tcp,
        }
    }
}

/// What the transports share.
pub struct Front {
    /// Where answers are.
    pub store: Arc<Store>,
    /// Where misses go.
    pub resolver: Resolver,
    /// Where everything is counted.
    pub metrics: Arc<Metrics>,
    /// Who may ask.
    pub acl: ArcSwap<Acl>,
    /// Our own addresses: a query from one of them is our own answer come back.
    pub own: Vec<SocketAddr>,
    /// How answers are written.
    pub manner: Manner,
    doors: Mutex<Vec<Arc<Door>>>,
}

impl Front {
    /// A front before `store` and `resolver`, listening at `own`.
    pub fn new(store: Arc<Store>, resolver: Resolver, metrics: Arc<Metrics>, acl: Acl, own: Vec<SocketAddr>) -> Front {
        let (acl, manner) = (ArcSwap::from_pointee(acl), Manner::default());
        Front { store, resolver, metrics, acl, own, manner, doors: Mutex::default() }
    }

    /// The same, writing answers in `manner`.
    pub fn in_manner(self, manner: Manner) -> Front {
        Front { manner, ..self }
    }

    /// The door at `place`; one for each place, however often it is asked for.
    pub fn door(&self, place: SocketAddr) -> Arc<Door> {
        let mut doors = self.doors.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(door) = doors.iter().find(|door| door.place == place) {
            return Arc::clone(door);
        }
        let family = if place.is_ipv4() { Family::V4 } else { Family::V6 };
        let server = self.metrics.server(place);
        let cells = [Proto::Udp, Proto::Tcp].map(|proto| self.metrics.cells(proto, family, server, true));
        let view = AtomicU8::new(self.resolver.zones().view(place));
        let door = Arc::new(Door { place, view, cells });
        doors.push(Arc::clone(&door));
        door
    }

    /// Sees to it that those who ask at each door are in the view that the resolver has for them now. What was cached
    /// meanwhile for one that they were in before is forgotten.
    pub fn assign_views(&self) {
        let mut changed = false;
        for door in self.doors.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            let view = self.resolver.zones().view(door.place);
            changed |= door.view.swap(view, Relaxed) != view;
        }
        if changed {
            self.store.flush_all();
        }
    }

    /// Writes a hit.
    #[inline]
    pub fn write_hit(
        &self,
        entry: &Entry,
        asked: &Asked<'_>,
        door: &Door,
        now: Moment,
        out: &mut [u8],
    ) -> Option<usize> {
        let age = entry.age(now);
        if entry.wants_refresh(now) {
            self.resolver.renew(entry.clone());
        }
        if asked.explain() || asked.wants_name() {
            let name = self.name(asked, door);
            let text = match asked.explain() {
                true => self.explain(Some(entry), source_of(entry), entry.about().zone, now),
                false => String::new(),
            };
            let notes = Notes { name: name.as_deref(), ..explained(&text) };
            return reply::answer(&entry.as_stored(), asked, Ttl::Aged(age), false, &notes, out);
        }
        reply::answer(&entry.as_stored(), asked, Ttl::Aged(age), false, &Notes::default(), out)
    }

    /// Writes the refusal of a question that is never looked up.
    pub fn write_refusal(&self, asked: &Asked<'_>, code: u16, out: &mut [u8]) -> Option<usize> {
        let error = (code != rcode::BADVERS).then_some((ede::NOT_SUPPORTED, ""));
        let text =
            if asked.explain() { self.explain(None, Source::Local, 0, Moment::default()) } else { String::new() };
        reply::empty(asked, code, &Notes { error, ..explained(&text) }, out)
    }

    /// Writes what became of a miss.
    pub fn write_outcome(&self, outcome: &Outcome, asked: &Asked<'_>, door: &Door, out: &mut [u8]) -> Option<usize> {
        let text = if asked.explain() {
            self.explain(outcome.entry.as_ref(), outcome.source, outcome.zone, outcome.at)
        } else {
            String::new()
        };
        let error = outcome.error.as_ref().map(|(code, text)| (*code, &**text));
        let name = self.name(asked, door);
        let notes = Notes { error, name: name.as_deref(), ..explained(&text) };
        match &outcome.entry {
            // A truncated answer says "ask again over TCP": over TCP that would be a loop.
            Some(entry) if asked.limit == STREAM_LIMIT && is_truncated(entry) => {
                let error = Some((ede::OTHER, "the upstream's answer is truncated and it may be asked over UDP only"));
                reply::empty(asked, rcode::SERVFAIL, &Notes { error, ..notes }, out)
            }
            Some(entry) => {
                let fresh = matches!(outcome.source, Source::Miss | Source::Local);
                reply::answer(&entry.as_stored(), asked, outcome.ttl(entry), fresh, &notes, out)
            }
            None => reply::empty(asked, outcome.rcode, &notes, out),
        }
    }

    /// Hands a miss over, with `waiter` to take the answer. When too much is under way the waiter is told at once.
    pub fn submit(
        &self,
        query: &Query<'_>,
        client: SocketAddr,
        at: (&Door, Proto),
        now: Moment,
        waiter: Box<dyn Waiter>,
    ) {
        let (door, proto) = at;
        let miss = Miss {
            question: query.question.as_bytes().into(),
            flags: Flags::new(query.dnssec_ok(), query.checking_disabled()).in_view(door.view()),
            recursion_desired: query.recursion_desired(),
            client,
            place: door.place,
            arrived: now,
            proto,
            depth: 0,
            cells: Arc::clone(door.cells(proto)),
            waiter,
        };
        if let Err(miss) = self.resolver.submit(miss) {
            let outcome = Outcome::refused(0, now, "too many queries are in flight");
            miss.cells.query(0, query.question.qtype());
            miss.cells.response(0, outcome.rcode, outcome.source);
            miss.waiter.answer(&outcome);
        }
    }

    /// The server's name, for a client that asks for it, if it has one.
    fn name(&self, asked: &Asked<'_>, door: &Door) -> Option<Arc<[u8]>> {
        let question = asked.wants_name().then(|| Question::read(asked.spelled)).flatten()?;
        self.resolver.zones().find(door.view(), question.name())?.nsid.clone()
    }

    /// How an answer came about, for a client that asks (`wire::edns::EXPLAIN`).
    #[cold]
    fn explain(&self, entry: Option<&Entry>, source: Source, zone: u16, now: Moment) -> String {
        let mut text = format!("source={}", source.name());
        // Writing to a String cannot fail.
        let _ = write!(text, " zone={}", self.metrics.zones.name(zone));
        if let Some(entry) = entry {
            let (about, age) = (entry.about(), entry.age(now));
            let upstream = self.metrics.upstreams.name(about.upstream);
            let _ = write!(text, " age={age} ttl={} upstream={upstream}", about.lifetime.saturating_sub(age));
            if source == Source::Stale {
                let _ = write!(text, " expired={}", age.saturating_sub(about.lifetime));
            }
        }
        text
    }
}

fn explained(text: &str) -> Notes<'_> {
    Notes { explanation: (!text.is_empty()).then_some(text), ..Notes::default() }
}

fn is_truncated(entry: &Entry) -> bool {
    Header::read(entry.as_stored().message).is_some_and(|h| h.flags & header::TC != 0)
}
