//! All metrics of the daemon, and the page a scraper reads.
//!
//! Owns the counts of queries and of what was dropped, coalesced and reloaded; what other modules count is added at scrape
//! time by whoever put them together, through [`Metrics::register`]. Names and labels are a contract with dashboards.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use prometheus::core::{Collector, Desc};
use prometheus::process_collector::ProcessCollector;
use prometheus::proto::MetricFamily;
use prometheus::{Registry, TextEncoder};

use super::cells::{Counter, Gauge};
use super::coredns::{self, CoreDns, SetupError};
use super::labels::Labels;
use super::queries::{Common, Family, Label, Proto, QueryCells, RCODES, Source, TYPES, ZoneCells, bucket_name, labels};
use super::rules::RuleCounts;
use super::sink::{Durations, FamilySink, add_durations};

labels! {
    /// Why a query, or the connection it would have come over, was let go without an answer.
    DropReason {
        /// Shorter than a header (RFC 1035 §4.1.1).
        ShortHeader = "short_header",
        /// A response, where only queries belong.
        Response = "response",
        /// From an address or port that no answer can be sent to.
        BadSource = "bad_source",
        /// From a network that may not ask.
        NotAllowed = "not_allowed",
        /// Too many lookups under way in all.
        InFlight = "in_flight",
        /// Too many lookups under way for this client.
        InFlightPerClient = "in_flight_per_client",
        /// An answer over UDP that came late, to a client that still waited for many.
        Late = "late",
        /// The kernel would not take the answer.
        SendBuffer = "send_buffer",
        /// Larger than the transport allows.
        Oversize = "oversize",
        /// Too many TCP connections in all.
        TcpConnections = "tcp_connections",
        /// Too many TCP connections from this client.
        TcpConnectionsPerClient = "tcp_connections_per_client",
        /// A TCP connection that asked nothing for too long (RFC 7766 §6.2.3).
        TcpIdle = "tcp_idle",
        /// A TCP connection whose client does not read its answers.
        TcpStalled = "tcp_stalled",
        /// A TCP connection that could not be accepted.
        TcpAcceptError = "tcp_accept_error",
    }
}

labels! {
    /// What became of a configuration that was read again.
    Reload {
        /// It is in force.
        Loaded = "loaded",
        /// It says what the old one said.
        Unchanged = "unchanged",
        /// It is invalid; the old one stays.
        Refused = "refused",
    }
}

labels! {
    /// Why an answer was given after its lifetime (RFC 8767).
    StaleReason {
        /// The look-up failed.
        Failed = "failed",
        /// No upstream had answered within the client's wait.
        Slow = "slow",
        /// An attempt had failed not long before.
        Recheck = "recheck",
        /// All upstreams were known to be down.
        Down = "down",
    }
}

labels! {
    /// What became of an answer that was to be renewed before it expired.
    Prefetch {
        /// There is a newer one.
        Renewed = "renewed",
        /// There is none: the upstream failed.
        Failed = "failed",
        /// Too many were under way, or the upstream was failing.
        Skipped = "skipped",
    }
}

/// Adds samples at scrape time.
type Report = dyn Fn(&mut FamilySink) + Send + Sync;

/// The metrics of the daemon.
#[derive(Debug)]
pub struct Metrics {
    /// Numbers of the zones.
    pub zones: Labels,
    /// Numbers of the upstreams.
    pub upstreams: Labels,
    /// Numbers of the listeners, by the names that CoreDNS gives them (`dns://169.254.20.10:53`).
    pub servers: Labels,
    /// Queries that waited for the lookup of another one.
    pub coalesced: Counter,
    /// Lookups under way.
    pub in_flight: Gauge,
    /// Open TCP connections of clients.
    pub tcp_connections: Gauge,
    /// HTTP connections closed to make room for newer ones.
    pub http_closed: Counter,
    /// What the rules of zones did.
    pub rules: RuleCounts,
    dropped: [Counter; DropReason::ALL.len()],
    stale: [Counter; StaleReason::ALL.len()],
    prefetches: [Counter; Prefetch::ALL.len()],
    reloads: [Counter; Reload::ALL.len()],
    /// Was the last one refused?
    refused: AtomicBool,
    setup_errors: [Counter; SetupError::ALL.len()],
    coredns: Option<CoreDns>,
    cells: Mutex<Vec<Arc<QueryCells>>>,
    reports: Mutex<Reports>,
    /// Behind a lock because the process collector counts wrongly when two scrapes run at once.
    registry: Mutex<Registry>,
}

#[derive(Default)]
struct Reports(Vec<Arc<Report>>);

impl std::fmt::Debug for Reports {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} reports", self.0.len())
    }
}

impl Metrics {
    /// Metrics with nothing counted yet. One per process is meant.
    pub fn new() -> Arc<Metrics> {
        Metrics::make(false)
    }

    /// The same with CoreDNS's names beside our own.
    pub fn with_coredns_names() -> Arc<Metrics> {
        Metrics::make(true)
    }

    fn make(coredns: bool) -> Arc<Metrics> {
        let zones = Labels::new(Labels::ZONES);
        let coredns = coredns.then(|| CoreDns::new(zones.numbers()));
        Arc::new_cyclic(|this| Metrics {
            zones,
            upstreams: Labels::new(Labels::UPSTREAMS),
            servers: Labels::new(Labels::SERVERS),
            coalesced: Counter::new(),
            in_flight: Gauge::new(),
            tcp_connections: Gauge::new(),
            http_closed: Counter::new(),
            rules: RuleCounts::default(),
            dropped: Default::default(),
            stale: Default::default(),
            prefetches: Default::default(),
            reloads: Default::default(),
            refused: AtomicBool::new(false),
            setup_errors: Default::default(),
            coredns,
            cells: Mutex::default(),
            reports: Mutex::default(),
            registry: Mutex::new(registry(Own(this.clone()))),
        })
    }

    /// Cells to count queries in that come to the listener `server`, a number of [`Metrics::servers`]. Unless `shared`, one
    /// thread alone may write them.
    ///
    /// Cells whose writer is gone are handed to the next one of the same kind, counts and all: workers that come and go
    /// with the configuration leave nothing behind.
    pub fn cells(&self, proto: Proto, family: Family, server: u16, shared: bool) -> Arc<QueryCells> {
        let common = Common { proto, family, server, shared };
        let mut all = lock(&self.cells);
        for cells in all.iter_mut() {
            // `get_mut` also makes all that the last writer wrote visible here, which a bare count would not.
            let free = Arc::get_mut(cells).is_some();
            if free && cells.common == common {
                return cells.clone();
            }
        }
        let cells = Arc::new(QueryCells::new(common, self.zones.numbers(), self.coredns.is_some()));
        all.push(cells.clone());
        cells
    }

    /// Cells whose counts are shown nowhere: for queries that no client sent.
    pub fn uncounted(&self) -> Arc<QueryCells> {
        let common = Common { proto: Proto::Tcp, family: Family::V4, server: Labels::NONE, shared: true };
        Arc::new(QueryCells::new(common, self.zones.numbers(), false))
    }

    /// The number of the listener at `place`.
    pub fn server(&self, place: SocketAddr) -> u16 {
        self.servers.intern(&format!("dns://{place}"))
    }

    /// Counts something let go without an answer.
    #[inline]
    pub fn dropped(&self, reason: DropReason) {
        self.dropped[reason.index()].add(1);
    }

    /// Counts an answer given after its lifetime.
    pub fn stale(&self, reason: StaleReason) {
        self.stale[reason.index()].add(1);
    }

    /// Answers given after their lifetime, for whatever reason.
    pub fn stale_answers(&self) -> u64 {
        self.stale.iter().map(Counter::get).sum()
    }

    /// Counts an answer that was to be renewed.
    pub fn prefetch(&self, outcome: Prefetch) {
        self.prefetches[outcome.index()].add(1);
    }

    /// Counts a configuration that was read again.
    pub fn reloaded(&self, outcome: Reload) {
        self.refused.store(outcome == Reload::Refused, Relaxed);
        self.reloads[outcome.index()].add(1);
    }

    /// Configurations that were read again and ended so.
    pub(super) fn reloads(&self, outcome: Reload) -> u64 {
        self.reloads[outcome.index()].get()
    }

    /// Counts a failure to set up the network or the configuration, as node-cache does.
    pub fn setup_error(&self, error: SetupError) {
        self.setup_errors[error.index()].add(1);
    }

    /// How often it failed so.
    pub(super) fn setup_errors(&self, error: SetupError) -> u64 {
        self.setup_errors[error.index()].get()
    }

    /// What CoreDNS's names need, where these are wanted.
    pub fn coredns(&self) -> Option<&CoreDns> {
        self.coredns.as_ref()
    }

    /// Has `report` add its samples to every scrape from now on. It must not block, nor scrape.
    pub fn register(&self, report: Box<Report>) {
        lock(&self.reports).0.push(report.into());
    }

    /// The page, in the Prometheus text format ([`prometheus::TEXT_FORMAT`]).
    pub fn gather(&self) -> String {
        let families = lock(&self.registry).gather();
        let mut page = String::new();
        if let Err(error) = TextEncoder::new().encode_utf8(&families, &mut page) {
            tracing::error!(%error, "cannot write all metrics");
        }
        page
    }

    fn collect(&self, sink: &mut FamilySink) {
        sink.gauge(
            "nodens_build_info",
            "What is running; always 1.",
            &[("version", env!("CARGO_PKG_VERSION")), ("arch", std::env::consts::ARCH)],
            1.0,
        );
        sink.counter(
            "nodens_coalesced_total",
            "Queries answered by the lookup of another one.",
            &[],
            self.coalesced.get(),
        );
        sink.gauge("nodens_in_flight", "Lookups under way.", &[], self.in_flight.get() as f64);
        let help = "Open TCP connections of clients.";
        sink.gauge("nodens_tcp_connections", help, &[], self.tcp_connections.get() as f64);
        sink.counter(
            "nodens_http_connections_closed_total",
            "HTTP connections closed to make room for newer ones.",
            &[],
            self.http_closed.get(),
        );
        self.rules.collect(sink);
        for &reason in DropReason::ALL {
            let n = self.dropped[reason.index()].get();
            let help = "Queries and connections let go without an answer.";
            sink.counter("nodens_dropped_total", help, &[("reason", reason.name())], n);
        }
        for &reason in StaleReason::ALL {
            let n = self.stale[reason.index()].get();
            let help = "Answers given after their lifetime, by why there was no newer one.";
            sink.counter("nodens_stale_answers_total", help, &[("reason", reason.name())], n);
        }
        for &outcome in Prefetch::ALL {
            let n = self.prefetches[outcome.index()].get();
            let help = "Answers to be renewed before they expired, by what became of them.";
            sink.counter("nodens_prefetches_total", help, &[("outcome", outcome.name())], n);
        }
        for &outcome in Reload::ALL {
            let n = self.reloads[outcome.index()].get();
            let help = "Configurations read again, by what became of them.";
            sink.counter("nodens_config_reloads_total", help, &[("outcome", outcome.name())], n);
        }
        let help =
            "1 while the configuration that was read last is in force, 0 while it is invalid and an older one stays.";
        let in_force = f64::from(u8::from(!self.refused.load(Relaxed)));
        sink.gauge("nodens_config_last_reload_successful", help, &[], in_force);
        let cells: Vec<Arc<QueryCells>> = lock(&self.cells).clone();
        for number in 0..u16::try_from(self.zones.numbers()).unwrap_or(u16::MAX) {
            let counted: Vec<_> = cells.iter().filter_map(|c| Some((&**c, c.counted(number)?))).collect();
            if !counted.is_empty() {
                collect_zone(&self.zones.name(number), &counted, sink);
            }
        }
        coredns::collect(self, &cells, sink);
        // Called without the lock, so that a report may take its time and even register another.
        let reports: Vec<Arc<Report>> = lock(&self.reports).0.clone();
        reports.iter().for_each(|report| report(sink));
    }
}

/// Adds the samples of one zone. Series at zero are left out where there would be hundreds of them.
fn collect_zone(zone: &str, counted: &[(&QueryCells, &ZoneCells)], sink: &mut FamilySink) {
    for &(cells, zone_cells) in counted {
        for (at, n) in zone_cells.queries.iter().map(Counter::get).enumerate().filter(|&(_, n)| n > 0) {
            let (proto, family) = (cells.common.proto.name(), cells.common.family.name());
            let labels = [("zone", zone), ("proto", proto), ("family", family), ("type", bucket_name(&TYPES, at))];
            sink.counter("nodens_queries_total", "Queries received.", &labels, n);
        }
    }
    let mut by_source = [0; Source::ALL.len()];
    for at in 0..=RCODES.len() {
        for &source in Source::ALL {
            let n: u64 = counted.iter().map(|(_, z)| z.responses[at][source.index()].get()).sum();
            by_source[source.index()] += n;
            if n > 0 {
                let labels = [("zone", zone), ("rcode", bucket_name(&RCODES, at)), ("source", source.name())];
                sink.counter("nodens_responses_total", "Answers given.", &labels, n);
            }
        }
    }
    for (kind, source) in [("positive", Source::Hit), ("negative", Source::NegativeHit)] {
        let n = by_source[source.index()];
        sink.counter("nodens_cache_hits_total", "Answers from the cache.", &[("zone", zone), ("kind", kind)], n);
    }
    let misses = by_source[Source::Miss.index()];
    sink.counter("nodens_cache_misses_total", "Answers that had to be fetched.", &[("zone", zone)], misses);
    for &source in Source::ALL {
        let mut sum = Durations::default();
        counted.iter().for_each(|(_, z)| add_durations(&mut sum, &z.durations[source.index()].snapshot()));
        if sum.0.iter().any(|&n| n > 0) {
            let labels = [("zone", zone), ("source", source.name())];
            sink.durations("nodens_query_duration_seconds", "Time from query to answer.", &labels, sum);
        }
    }
}

/// The collector through which the registry reaches the metrics that own it.
struct Own(Weak<Metrics>);

impl Collector for Own {
    fn desc(&self) -> Vec<&Desc> {
        // Which families there are depends on what is registered: none are promised.
        Vec::new()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let mut sink = FamilySink::default();
        if let Some(metrics) = self.0.upgrade() {
            metrics.collect(&mut sink);
        }
        sink.into_families()
    }
}

/// A registry of our own metrics and those of the process.
fn registry(own: Own) -> Registry {
    let registry = Registry::new();
    let collectors: [Box<dyn Collector>; 2] = [Box::new(own), Box::new(ProcessCollector::for_self())];
    for collector in collectors {
        if let Err(error) = registry.register(collector) {
            tracing::error!(%error, "cannot register metrics");
        }
    }
    registry
}

/// Locks, even if a holder has panicked: what is behind these locks is valid after every statement.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
