//! One server: its address, and all that is remembered of it — connections, health, EDNS, counts.

use super::attempt::{self, Plan};
use super::health::{Health, State};
use super::pool::Pool;
use super::stats::{Snapshot, Stats};
use super::{Endpoint, Error, Options, Outcome, Protocol, Query, Reply, Transport, encrypted};
use crate::observe::cells::Histogram;
use crate::observe::limit::RateLimit;
use crate::sys::clock::Moment;
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
    pub(super) health: Health,
    pub(super) stats: Stats,
    /// Permits for UDP sockets, shared by the group.
    pub(super) sockets: Arc<Semaphore>,
    in_flight: AtomicUsize,
    /// Where the clocks below, and those of the connections, start.
    created: Instant,
    /// Milliseconds since `created` until which queries go without EDNS.
    no_edns_until: AtomicU64,
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
            health: Health::default(),
            stats: Stats::default(),
            sockets,
            in_flight: AtomicUsize::new(0),
            created: Instant::now(),
            no_edns_until: AtomicU64::new(0),
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
        let attempt = attempt::run(Arc::clone(self), Plan { query, fresh: false, expires: deadline }, now);
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
            unsolicited: self.stats.unsolicited.get(),
            late: self.stats.late.get(),
            failing: self.health.state(Instant::now()) != State::Healthy,
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
    started: Instant,
    /// A try that is dropped after this moment has timed out; before it, it was abandoned.
    expires: Instant,
    outcome: Option<Outcome>,
}

impl<'a> Try<'a> {
    pub(super) fn begin(server: &'a Server, transport: Transport, expires: Instant) -> Try<'a> {
        server.in_flight.fetch_add(1, Relaxed);
        Try { server, transport, started: Instant::now(), expires, outcome: None }
    }

    /// The try brought a reply; returns how long it took.
    pub(super) fn replied(mut self, outcome: Outcome) -> Duration {
        let elapsed = self.started.elapsed();
        self.server.stats.durations.observe(elapsed);
        self.outcome = Some(outcome);
        elapsed
    }

    /// The try failed.
    pub(super) fn failed(mut self, outcome: Outcome) {
        self.outcome = Some(outcome);
    }
}

impl Drop for Try<'_> {
    fn drop(&mut self) {
        self.server.in_flight.fetch_sub(1, Relaxed);
        let outcome = self.outcome.unwrap_or_else(|| match Instant::now() >= self.expires {
            true => Outcome::Timeout,
            false => Outcome::Abandoned,
        });
        self.server.stats.count(self.transport, outcome);
    }
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
        drop(Try::begin(&server, Transport::Udp, Instant::now()));
        let long = Try::begin(&server, Transport::Udp, Instant::now() + Duration::from_secs(3600));
        assert_eq!(server.in_flight(), 1);
        drop(long);
        let [udp, ..] = server.snapshot().queries;
        assert_eq!((udp[Outcome::Timeout as usize], udp[Outcome::Abandoned as usize]), (1, 1));
        assert_eq!(server.in_flight(), 0);
    }
}
