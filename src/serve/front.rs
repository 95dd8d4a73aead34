//! What every transport does with a packet: judge it, answer what can be answered here, hand the rest over.

use super::client::Acl;
use crate::cache::{Entry, Flags, Store};
use crate::observe::metrics::{DropReason, Metrics};
use crate::observe::queries::{Family, Label, Proto, QueryCells, Source};
use crate::resolve::{Miss, Outcome, Resolver, Waiter, source_of};
use crate::sys::clock::Moment;
use crate::wire::edns::ede;
use crate::wire::header::{self, Header, rcode};
use crate::wire::query::{self, Gate, Query};
use crate::wire::reply::{self, Asked, Notes, STREAM_LIMIT, Ttl};
use arc_swap::ArcSwap;
use std::fmt::Write as _;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

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

/// Judges a packet; `look_up` asks the cache for a question with flags.
#[inline]
pub fn judge<'a, E>(packet: &'a [u8], look_up: impl FnOnce(&[u8], Flags) -> Option<E>) -> Verdict<'a, E> {
    match query::read(packet) {
        Gate::Ask(query) => {
            let flags = Flags::new(query.dnssec_ok(), query.checking_disabled());
            match look_up(query.question.as_bytes(), flags) {
                Some(entry) => Verdict::Hit(query, entry),
                None => Verdict::Miss(query),
            }
        }
        Gate::Bare(header, code) => Verdict::Bare(header, code),
        Gate::Decline(query, code) => Verdict::Decline(query, code),
        Gate::Short => Verdict::Drop(DropReason::ShortHeader),
        Gate::Response => Verdict::Drop(DropReason::Response),
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
    cells: [[Arc<QueryCells>; 2]; 2],
}

impl Front {
    /// A front before `store` and `resolver`, listening at `own`.
    pub fn new(store: Arc<Store>, resolver: Resolver, metrics: Arc<Metrics>, acl: Acl, own: Vec<SocketAddr>) -> Front {
        let cells = [Proto::Udp, Proto::Tcp].map(|p| [Family::V4, Family::V6].map(|f| metrics.cells(p, f, 0, true)));
        Front { store, resolver, metrics, acl: ArcSwap::from_pointee(acl), own, cells }
    }

    /// The cells in which many threads count queries that came over `proto` from `client`'s family.
    pub fn cells(&self, proto: Proto, client: IpAddr) -> &Arc<QueryCells> {
        let [v4, v6] = match proto {
            Proto::Udp => &self.cells[0],
            Proto::Tcp => &self.cells[1],
        };
        if client.is_ipv4() { v4 } else { v6 }
    }

    /// Writes a hit.
    #[inline]
    pub fn write_hit(&self, entry: &Entry, asked: &Asked<'_>, now: Moment, out: &mut [u8]) -> Option<usize> {
        let age = entry.age(now);
        if entry.wants_refresh(now) {
            self.resolver.renew(entry.clone());
        }
        if asked.explain() {
            let text = self.explain(Some(entry), source_of(entry), entry.about().zone, now);
            return reply::answer(&entry.as_stored(), asked, Ttl::Aged(age), false, &explained(&text), out);
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
    pub fn write_outcome(&self, outcome: &Outcome, asked: &Asked<'_>, out: &mut [u8]) -> Option<usize> {
        let text = if asked.explain() {
            self.explain(outcome.entry.as_ref(), outcome.source, outcome.zone, outcome.at)
        } else {
            String::new()
        };
        let error = outcome.error.as_ref().map(|(code, text)| (*code, &**text));
        let notes = Notes { error, ..explained(&text) };
        match &outcome.entry {
            // A truncated answer says "ask again over TCP": over TCP that would be a loop.
            Some(entry) if asked.limit == STREAM_LIMIT && is_truncated(entry) => {
                let error = Some((ede::OTHER, "the upstream's answer is truncated and it may be asked over UDP only"));
                reply::empty(asked, rcode::SERVFAIL, &Notes { error, ..notes }, out)
            }
            Some(entry) => {
                let fresh = outcome.source == Source::Miss;
                let aged = || Ttl::Aged(entry.age(outcome.at));
                let ttl = outcome.stale.map_or_else(aged, |stale| Ttl::Fixed(stale.ttl));
                reply::answer(&entry.as_stored(), asked, ttl, fresh, &notes, out)
            }
            None => reply::empty(asked, outcome.rcode, &notes, out),
        }
    }

    /// Hands a miss over, with `waiter` to take the answer. When too much is under way the waiter is told at once.
    pub fn submit(&self, query: &Query<'_>, client: IpAddr, proto: Proto, now: Moment, waiter: Box<dyn Waiter>) {
        let miss = Miss {
            question: query.question.as_bytes().into(),
            flags: Flags::new(query.dnssec_ok(), query.checking_disabled()),
            recursion_desired: query.recursion_desired(),
            client,
            arrived: now,
            cells: Arc::clone(self.cells(proto, client)),
            waiter,
        };
        if let Err(miss) = self.resolver.submit(miss) {
            let outcome = Outcome::refused(0, now, "too many queries are in flight");
            miss.cells.query(0, query.question.qtype());
            miss.cells.response(0, outcome.rcode, outcome.source);
            miss.waiter.answer(&outcome);
        }
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
    Notes { error: None, explanation: (!text.is_empty()).then_some(text) }
}

fn is_truncated(entry: &Entry) -> bool {
    Header::read(entry.as_stored().message).is_some_and(|h| h.flags & header::TC != 0)
}
