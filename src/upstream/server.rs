//! One server: its address, and all that is remembered of it — connections, health, speed, EDNS, counts.
//!
//! Each try reports here how it ended; what that means for the server is decided in `health`, and said in the log here.

use super::attempt::{self, Plan};
use super::health::{Cause, Change, Health, State};
use super::hedge::Usual;
use super::pool::Pool;
use super::stats::{Snapshot, Stats};
use super::{Endpoint, Error, Options, Outcome, Protocol, Query, Reply, Transport, encrypted};
use crate::observe::cells::{Counter, Histogram};
use crate::observe::limit::RateLimit;
use crate::sys::clock::Moment;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio::time::Instant;

/// For how long a server that choked on EDNS is spared it. Short, since over UDP the FORMERR may have been forged
/// (RFC 6891 §7 would let it be remembered).
const WITHOUT_EDNS: Duration = Duration::from_secs(30);
/// How often the log is told that a server cannot be trusted.
const COMPLAINT: Duration = Duration::from_secs(10);

/// One server of a group.
pub struct Server {
    endpoint: Endpoint,
    pub(super) options: Options,
    pub(super) pool: Pool,
    /// Its health over each transport.
    health: [Health; Transport::ALL.len()],
    /// Its speed over each transport.
    usual: [Usual; Transport::ALL.len()],
    /// When a reply last came over each transport: microseconds since `created`, 0 for never.
    heard: [AtomicU64; Transport::ALL.len()],
    pub(super) stats: Stats,
    /// Permits for UDP sockets, shared by the group.
    pub(super) sockets: Arc<Semaphore>,
    in_flight: AtomicUsize,
    /// Where the clocks below, and those of the connections, start.
    created: Instant,
    /// Milliseconds since `created` until which queries go without EDNS.
    no_edns_until: AtomicU64,
    /// For the log lines that it fails, and that it is back.
    lines: [RateLimit; 2],
    complaints: RateLimit,
}

impl Server {
    pub(super) fn new(endpoint: Endpoint, options: Options, sockets: Arc<Semaphore>) -> Server {
        let encrypted = endpoint.security().is_some();
        let options = match encrypted {
            false => options,
            true => Options {
                protocol: Protocol::Tcp,
                max_connections: options.max_connections.min(encrypted::CONNECTIONS),
                ..options
            },
        };
        Server {
            endpoint,
            options,
            pool: if encrypted { Pool::pipelined(encrypted::DEPTH) } else { Pool::default() },
            health: Default::default(),
            usual: Transport::ALL.map(|_| Usual::new(options.timeout)),
            heard: Default::default(),
            stats: Stats::default(),
            sockets,
            in_flight: AtomicUsize::new(0),
            created: Instant::now(),
            no_edns_until: AtomicU64::new(0),
            lines: [const { RateLimit::new(Duration::from_secs(10)) }; 2],
            complaints: RateLimit::new(COMPLAINT),
        }
    }

    /// Which it is.
    pub fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.endpoint.address()
    }

    /// Asks this one alone, by `deadline`, whatever its health; no other server is asked when it is slow or fails.
    ///
    /// # Errors
    /// When no reply came.
    pub async fn ask(self: &Arc<Server>, query: Query<'_>, deadline: Instant) -> Result<Reply, Error> {
        let now = Instant::now();
        let plan = Plan { query, transport: self.way(now).0, fresh: false, asked: now, expires: deadline };
        let attempt = attempt::run(Arc::clone(self), plan, now);
        let late = |_| Error::Timeout { server: self.address(), after: deadline - now };
        tokio::time::timeout_at(deadline, attempt).await.map_err(late)?
    }

    /// What its cells hold now.
    pub fn snapshot(&self) -> Snapshot {
        Snapshot {
            queries: self.stats.queries(),
            connections: self.pool.connections(),
            in_flight: self.in_flight(),
            retries: self.stats.retries.get(),
            overflows: self.stats.overflows.get(),
            dials: self.stats.dials.get(),
            carried: self.stats.carried.each_ref().map(Counter::get),
            failed_probes: self.stats.failed_probes.get(),
            replies: self.stats.replies.snapshot(),
            unsolicited: self.stats.unsolicited.get(),
            late: self.stats.late.get(),
            failing: self.health.each_ref().map(Health::is_passed_over),
            health_changes: self.stats.health_changes(),
            hedges: self.stats.hedges.each_ref().map(Counter::get),
            closed: self.stats.closed.each_ref().map(Counter::get),
        }
    }

    /// How long the tries took that brought a reply.
    pub fn durations(&self) -> &Histogram {
        &self.stats.durations
    }

    /// Tries under way.
    pub(super) fn in_flight(&self) -> usize {
        self.in_flight.load(Relaxed)
    }

    /// By which transport the next try goes, and what may be expected of it. UDP that fails is left out where TCP, as
    /// far as is known, works.
    pub(super) fn way(&self, now: Instant) -> (Transport, State) {
        let by = |transport| (transport, self.state(transport, now));
        if self.endpoint.security().is_some() {
            return by(Transport::Tls);
        }
        match self.options.protocol {
            Protocol::Tcp => by(Transport::Tcp),
            Protocol::Udp => by(Transport::Udp),
            Protocol::Auto => match by(Transport::Udp) {
                (_, udp) if udp.is_reachable() => (Transport::Udp, udp),
                udp => Some(by(Transport::Tcp)).filter(|(_, tcp)| tcp.is_reachable()).unwrap_or(udp),
            },
        }
    }

    /// The transport of its connections.
    pub(super) fn connected(&self) -> Transport {
        if self.endpoint.security().is_some() { Transport::Tls } else { Transport::Tcp }
    }

    /// Its health over `transport`.
    pub(super) fn state(&self, transport: Transport, now: Instant) -> State {
        self.health[transport as usize].state(now)
    }

    /// The transport over which a query is to find out whether it is back; not `but`, by which one goes already.
    pub(super) fn to_probe(&self, now: Instant, but: Option<Transport>) -> Option<Transport> {
        let due = |t: &Transport| Some(*t) != but && self.health[*t as usize].probe(now, self.options.timeout);
        Transport::ALL.into_iter().find(due)
    }

    /// Did a reply come in the time before `now`, or did it, having answered before, begin to fail in that time? Who was
    /// not asked had nothing to answer.
    pub(super) fn worked_within(&self, time: Duration, now: Instant) -> bool {
        let heard = self.heard.each_ref().map(|heard| heard.load(Relaxed));
        let answered = heard.iter().any(|at| *at > 0);
        let lately = heard.iter().any(|at| *at > 0 && at + micros(time) >= micros(now - self.created));
        lately || answered && self.health.iter().any(|health| health.is_passed_over_since(time, now))
    }

    /// After what time a query is hedged.
    pub(super) fn hedge_after(&self, transport: Transport) -> Duration {
        self.usual[transport as usize].hedge_after(self.options.timeout)
    }

    /// After what time of complete silence it is suspected.
    pub(super) fn suspicion(&self, transport: Transport) -> Duration {
        self.usual[transport as usize].suspicion(self.options.timeout)
    }

    /// A reply came over `transport` to a query that had waited for `elapsed`; an `error` may speak of the server.
    fn replied(&self, transport: Transport, now: Instant, elapsed: Duration, error: bool) {
        self.stats.durations.observe(elapsed);
        self.usual[transport as usize].note(elapsed);
        self.is_alive(transport, now);
        self.changed(transport, self.health[transport as usize].replied(now, error));
    }

    /// Something came that only it can have sent.
    pub(super) fn is_alive(&self, transport: Transport, now: Instant) {
        let at = micros(now.saturating_duration_since(self.created)).max(1);
        self.heard[transport as usize].store(at, Relaxed);
    }

    /// Has no reply to any query come over `transport` since `began`?
    pub(super) fn is_silent(&self, transport: Transport, began: Instant) -> bool {
        self.heard[transport as usize].load(Relaxed) <= micros(began.saturating_duration_since(self.created))
    }

    /// A try that `began` then has no reply: was the server silent in that time, for so long that it may be the reason?
    pub(super) fn may_have_lost(&self, transport: Transport, began: Instant) -> bool {
        self.is_silent(transport, began) || self.health[transport as usize].is_doubted_since(began)
    }

    /// A try that `began` then, for a query that was `asked` then, has failed.
    fn failed(&self, transport: Transport, (asked, began): (Instant, Instant), cause: Cause, decisive: bool) {
        let now = Instant::now();
        let change = self.health[transport as usize].failed(now, asked, cause, decisive);
        let silent = matches!(change, Some(Change::Failing(Cause::Silent | Cause::Timeout)));
        if silent && transport == self.connected() {
            // Whoever answers next at this address is not who held the other ends of these.
            self.pool.distrust(began);
        }
        self.changed(transport, change);
    }

    /// A try that `began` then, for a query that was `asked` then, has no reply: counts against a server that has sent
    /// nothing else either, for long.
    pub(super) fn is_late(&self, transport: Transport, (asked, began): (Instant, Instant), cause: Cause) {
        if began + self.suspicion(transport) <= Instant::now() && self.is_silent(transport, began) {
            self.failed(transport, (asked, began), cause, false);
        }
    }

    /// Counts a change of its health, and says so.
    fn changed(&self, transport: Transport, change: Option<Change>) {
        let Some(change) = change else { return };
        let back = change == Change::Healthy;
        self.stats.count_health_change(transport, back);
        let Some(suppressed) = self.lines[usize::from(back)].allow(Moment::now()) else { return };
        let (upstream, proto) = (&self.endpoint, transport.name());
        match change {
            Change::Failing(cause) => {
                tracing::warn!(%upstream, proto, reason = cause.name(), suppressed, "upstream fails: others come first");
            }
            Change::Healthy => tracing::info!(%upstream, proto, suppressed, "upstream works again"),
        }
    }

    /// Milliseconds from the server's creation to `at`.
    pub(super) fn millis(&self, at: Instant) -> u64 {
        u64::try_from(at.saturating_duration_since(self.created).as_millis()).unwrap_or(u64::MAX)
    }

    /// The moment that [`Server::millis`] counted, rounded down.
    pub(super) fn instant(&self, millis: u64) -> Instant {
        self.created + Duration::from_millis(millis)
    }

    /// Did it lately answer without EDNS only?
    pub(super) fn lacks_edns(&self, now: Instant) -> bool {
        match self.no_edns_until.load(Relaxed) {
            0 => false,
            until => self.millis(now) < until,
        }
    }

    /// Is the log to be told again? If so, how often it was not.
    pub(super) fn may_complain(&self, now: Instant) -> Option<u64> {
        self.complaints.allow(Moment::from_millis(self.millis(now)))
    }

    /// Remembers that it answered without EDNS what it could not answer with it.
    pub(super) fn remember_no_edns(&self, now: Instant) {
        self.no_edns_until.store(self.millis(now + WITHOUT_EDNS), Relaxed);
    }
}

impl std::fmt::Debug for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Server").field("endpoint", &self.endpoint).finish_non_exhaustive()
    }
}

/// One try: counted when it begins, and when it ends however it ends.
pub(super) struct Try<'a> {
    server: &'a Server,
    /// By which it is counted.
    pub(super) transport: Transport,
    /// When the query that it is for was asked first, of whomever.
    asked: Instant,
    started: Instant,
    /// A try that is dropped after this moment has timed out; before it, it was abandoned.
    expires: Instant,
    outcome: Option<Outcome>,
}

impl<'a> Try<'a> {
    pub(super) fn begin(server: &'a Server, transport: Transport, asked: Instant, expires: Instant) -> Try<'a> {
        server.in_flight.fetch_add(1, Relaxed);
        Try { server, transport, asked, started: Instant::now(), expires, outcome: None }
    }

    /// The try brought a reply; returns how long it took.
    pub(super) fn replied(mut self, outcome: Outcome, error: bool) -> Duration {
        let now = Instant::now();
        let elapsed = now.saturating_duration_since(self.started);
        self.server.replied(self.transport, now, elapsed, error);
        self.outcome = Some(outcome);
        elapsed
    }

    /// The try failed.
    pub(super) fn failed(mut self, error: &Error) {
        self.outcome = Some(match error {
            Error::Timeout { .. } => {
                self.server.is_late(self.transport, (self.asked, self.started), Cause::Timeout);
                Outcome::Timeout
            }
            Error::Unreachable { .. } if error.is_ours() => Outcome::Unreachable,
            Error::Unreachable { source, .. } => {
                // What the kernel says of the network may be forged over UDP.
                let refused = self.transport != Transport::Udp && speaks_of_the_server(source);
                self.server.failed(self.transport, (self.asked, self.started), Cause::Refused, refused);
                Outcome::Unreachable
            }
            Error::NoServers
            | Error::BadQuery { .. }
            | Error::Looping { .. }
            | Error::AllDown
            | Error::Unserved
            | Error::Crowded { .. } => Outcome::Unreachable,
            Error::Untrusted { .. } => {
                self.server.failed(self.transport, (self.asked, self.started), Cause::Untrusted, true);
                Outcome::Untrusted
            }
            Error::Closed { .. } => {
                self.server.failed(self.transport, (self.asked, self.started), Cause::Closed, true);
                Outcome::Closed
            }
            Error::BadReply { .. } => {
                self.server.failed(self.transport, (self.asked, self.started), Cause::Closed, true);
                Outcome::Mismatch
            }
            // That we have too many queries waiting is not the server's fault alone, and shows in its load.
            Error::Busy { .. } => Outcome::Busy,
        });
    }
}

impl Drop for Try<'_> {
    fn drop(&mut self) {
        self.server.in_flight.fetch_sub(1, Relaxed);
        let outcome = self.outcome.unwrap_or_else(|| match Instant::now() >= self.expires {
            true => {
                self.server.is_late(self.transport, (self.asked, self.started), Cause::Timeout);
                Outcome::Timeout
            }
            false => Outcome::Abandoned,
        });
        self.server.stats.count(self.transport, outcome);
    }
}

fn speaks_of_the_server(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionRefused, ConnectionReset, HostUnreachable, NetworkUnreachable};
    matches!(error.kind(), ConnectionRefused | ConnectionReset | HostUnreachable | NetworkUnreachable)
}

fn micros(duration: Duration) -> u64 {
    duration.as_secs().saturating_mul(1_000_000).saturating_add(u64::from(duration.subsec_micros()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server() -> Server {
        Server::new(SocketAddr::from(([127, 0, 0, 1], 53)).into(), Options::default(), Arc::new(Semaphore::new(1)))
    }

    #[test]
    fn b24_a_server_without_edns_is_remembered_for_half_a_minute() {
        let (server, now) = (server(), Instant::now());
        assert!(!server.lacks_edns(now));
        server.remember_no_edns(now);
        assert!(server.lacks_edns(now));
        assert!(server.lacks_edns(now + WITHOUT_EDNS - Duration::from_secs(1)));
        assert!(!server.lacks_edns(now + WITHOUT_EDNS));
    }

    #[test]
    fn a_dropped_try_is_a_timeout_when_its_time_was_over_and_abandoned_before() {
        let server = server();
        drop(Try::begin(&server, Transport::Udp, Instant::now(), Instant::now()));
        let long = Try::begin(&server, Transport::Udp, Instant::now(), Instant::now() + Duration::from_secs(3600));
        assert_eq!(server.in_flight(), 1);
        drop(long);
        let [udp, ..] = server.snapshot().queries;
        assert_eq!((udp[Outcome::Timeout as usize], udp[Outcome::Abandoned as usize]), (1, 1));
        assert_eq!(server.in_flight(), 0);
    }
}
