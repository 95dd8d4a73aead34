//! The part of the page that has CoreDNS's names: what was counted per answer, and what the process knows of itself.
//!
//! Labels are CoreDNS's: `server` is a listener (`dns://169.254.20.10:53`), `zone` the zone that a name belongs to or
//! `dropped`, `zones` all zones of the block, `view` always empty. Names that CoreDNS has given up but dashboards still
//! ask for stand beside their successors.

use std::sync::PoisonError;

use super::cells::{Plugin, SIZE_BOUNDS, Sizes, TIME_BOUNDS, Times, ZoneAnswers};
use super::{Block, CoreDns, PROBE_BOUNDS, SetupError};
use crate::observe::cells::Counter;
use crate::observe::labels::Labels;
use crate::observe::metrics::{Metrics, Reload};
use crate::observe::queries::{Family, Label, QueryCells, RCODES, TYPES, bucket_name};
use crate::observe::sink::{Buckets, FamilySink};

/// The zone of what belongs to none.
const DROPPED: &str = "dropped";

/// Adds the samples under CoreDNS's names, where these are wanted.
pub(in crate::observe) fn collect(metrics: &Metrics, cells: &[std::sync::Arc<QueryCells>], sink: &mut FamilySink) {
    setup_errors(metrics, sink);
    let Some(coredns) = metrics.coredns() else { return };
    process(metrics, coredns, sink);
    let blocks = coredns.blocks();
    for block in &*blocks {
        of_block(block, metrics, sink);
    }
    for cells in cells {
        let Some(answers) = &cells.coredns else { continue };
        let server = metrics.servers.name(cells.common.server);
        for number in 0..u16::try_from(metrics.zones.numbers()).unwrap_or(u16::MAX) {
            let Some(counted) = answers.counted(number) else { continue };
            let name = metrics.zones.name(number);
            let zone = if number == Labels::NONE { DROPPED } else { &*name };
            let at = Place { server: &server, zone, proto: cells.common.proto.name(), family: cells.common.family };
            queries(&at, counted, sink);
            answered(&at, counted, sink);
            let block = blocks
                .iter()
                .find(|b| b.servers.contains(&cells.common.server) && b.zones.iter().any(|of_block| of_block == zone));
            if block.is_none_or(Block::has_cache) && number != Labels::NONE {
                let zones = block.map_or_else(|| zone.to_owned(), Block::label);
                cached(&server, &zones, counted, sink);
            }
        }
    }
    refreshed(metrics, coredns, &blocks, sink);
}

/// Where something was counted.
struct Place<'a> {
    server: &'a str,
    zone: &'a str,
    proto: &'static str,
    family: Family,
}

/// Setting up the network is node-cache's business, whatever names are wanted; the zeros are for the alerts.
fn setup_errors(metrics: &Metrics, sink: &mut FamilySink) {
    for &error in SetupError::ALL {
        let n = metrics.setup_errors(error);
        if n == 0 && metrics.coredns().is_none() {
            continue;
        }
        let labels = [("errortype", error.name())];
        let help = "Failures while setting up the network, by node-cache's names.";
        sink.counter("coredns_nodecache_setup_errors_total", help, &labels, n);
        if metrics.coredns().is_some() {
            sink.counter("coredns_nodecache_setup_errors", "The same under the name it had until 2020.", &labels, n);
        }
    }
}

/// What there is once per process.
fn process(metrics: &Metrics, coredns: &CoreDns, sink: &mut FamilySink) {
    let built = [
        ("version", env!("CARGO_PKG_VERSION")),
        ("revision", env!("CARGO_PKG_NAME")),
        ("goversion", concat!("rust", env!("CARGO_PKG_RUST_VERSION"))),
    ];
    sink.gauge("coredns_build_info", "What is running; always 1.", &built, 1.0);
    // A panic ends the server; what the guardian saw of that is added by the one who reads its state.
    for name in ["coredns_panics_total", "coredns_panic_count_total"] {
        sink.counter(name, "Servers that a panic ended.", &[], 0);
    }
    let help = "Configurations that were refused.";
    sink.counter("coredns_reload_failed_total", help, &[], metrics.reloads(Reload::Refused));
    let version = coredns.version.lock().unwrap_or_else(PoisonError::into_inner).clone();
    if !version.is_empty() {
        let labels = [("hash", "sha512"), ("value", &*version)];
        sink.gauge("coredns_reload_version_info", "The configuration in force; always 1.", &labels, 1.0);
    }
    let probes = &coredns.probes;
    let took = Buckets {
        bounds: &PROBE_BOUNDS,
        counts: probes.counts.iter().map(Counter::get).collect(),
        sum: probes.nanos.get() as f64 / 1e9,
    };
    let help = "Time that a request for our own /health took; one a second.";
    sink.buckets("coredns_health_request_duration_seconds", help, &[], took);
    let help = "Requests for our own /health that failed.";
    sink.counter("coredns_health_request_failures_total", help, &[], probes.failures.get());
    let threads = std::fs::read_dir("/proc/self/task").map_or(0, Iterator::count) as f64;
    sink.gauge("go_goroutines", "Threads of the process: it has no goroutines.", &[], threads);
    sink.gauge("go_threads", "Threads of the process.", &[], threads);
}

/// What is known of a block before anybody asks.
fn of_block(block: &Block, metrics: &Metrics, sink: &mut FamilySink) {
    let zones = block.label();
    for &number in &block.servers {
        let server = &*metrics.servers.name(number);
        for zone in &block.zones {
            for name in &block.plugins {
                let labels = [("server", server), ("zone", zone), ("view", ""), ("name", name)];
                let help = "What is done for a zone, by the names of CoreDNS's plugins; always 1.";
                sink.gauge("coredns_plugin_enabled", help, &labels, 1.0);
            }
        }
        if block.has_cache() {
            cached(server, &zones, &ZoneAnswers::default(), sink);
            let labels = [("server", server), ("zones", &*zones), ("view", "")];
            sink.counter("coredns_cache_prefetch_total", PREFETCH, &labels, 0);
            let help = "Replies of another question than was asked; they are no answers here.";
            sink.counter("coredns_cache_drops_total", help, &labels, 0);
        }
    }
}

const PREFETCH: &str = "Look-ups that nobody waits for, of answers that expire or have expired.";

/// Refreshes are the cache's, not a listener's: the block's first stands for all, so that the sum is right.
fn refreshed(metrics: &Metrics, coredns: &CoreDns, blocks: &[Block], sink: &mut FamilySink) {
    // Of two blocks with one zone, for different listeners, the first stands for both.
    let mut told = Vec::new();
    for block in blocks.iter().filter(|block| block.has_cache()) {
        let Some(server) = block.servers.first().map(|&number| metrics.servers.name(number)) else { continue };
        let numbers: Vec<u16> = block.zones.iter().map(|zone| metrics.zones.intern(zone)).collect();
        let news: Vec<u16> = numbers.into_iter().filter(|number| !told.contains(number)).collect();
        let n = news.iter().filter_map(|&number| coredns.refreshes.get(usize::from(number))).map(Counter::get).sum();
        let (zones, server) = (block.label(), &*server);
        let labels = [("server", server), ("zones", &*zones), ("view", "")];
        sink.counter("coredns_cache_prefetch_total", PREFETCH, &labels, n);
        told.extend(news);
    }
}

fn queries(at: &Place<'_>, counted: &ZoneAnswers, sink: &mut FamilySink) {
    let family = match at.family {
        Family::V4 => "1",
        Family::V6 => "2",
    };
    let base = [("server", at.server), ("zone", at.zone), ("view", "")];
    let mut all = 0;
    for (n, kind) in
        counted.types.iter().enumerate().map(|(n, c)| (c.get(), bucket_name(&TYPES, n))).filter(|t| t.0 > 0)
    {
        let [server, zone, view] = base;
        let labels = [server, zone, view, ("proto", at.proto), ("family", family), ("type", kind)];
        sink.counter("coredns_dns_requests_total", "Queries answered.", &labels, n);
        all += n;
    }
    let labels = [("server", at.server), ("zone", at.zone), ("proto", at.proto), ("family", family)];
    sink.counter("coredns_dns_request_count_total", "The same under the name it had before CoreDNS 1.7.", &labels, all);
    let n = counted.dnssec_ok.get();
    sink.counter("coredns_dns_do_requests_total", "Queries with DO answered.", &base, n);
    let [server, zone, view] = base;
    let by_proto = [server, zone, view, ("proto", at.proto)];
    let (requests, responses) = (sizes(&counted.requests), sizes(&counted.responses));
    sink.buckets("coredns_dns_request_size_bytes", "Octets of the queries answered.", &by_proto, requests);
    sink.buckets("coredns_dns_response_size_bytes", "Octets of the answers.", &by_proto, responses);
    sink.buckets("coredns_dns_request_duration_seconds", "Time from query to answer.", &base, times(&counted.times));
}

fn answered(at: &Place<'_>, counted: &ZoneAnswers, sink: &mut FamilySink) {
    for (code, by_plugin) in counted.rcodes.iter().enumerate() {
        for &plugin in Plugin::ALL {
            let n = by_plugin[plugin.index()].get();
            if n > 0 {
                let rcode = ("rcode", bucket_name(&RCODES, code));
                let by = ("plugin", plugin.name());
                let labels = [("server", at.server), ("zone", at.zone), ("view", ""), rcode, by];
                sink.counter("coredns_dns_responses_total", "Answers, by who wrote them.", &labels, n);
                if plugin == Plugin::Dns64 {
                    let help = "Answers with IPv6 addresses that were made of IPv4 ones.";
                    sink.counter("coredns_dns64_requests_translated_total", help, &[("server", at.server)], n);
                }
            }
        }
    }
}

fn cached(server: &str, zones: &str, counted: &ZoneAnswers, sink: &mut FamilySink) {
    let labels = [("server", server), ("zones", zones), ("view", "")];
    let hits = counted.hits.each_ref().map(Counter::get);
    let misses = counted.misses.get();
    for (kind, n) in ["success", "denial"].into_iter().zip(hits) {
        let labels = [("server", server), ("type", kind), ("zones", zones), ("view", "")];
        sink.counter("coredns_cache_hits_total", "Answers from the cache.", &labels, n);
    }
    sink.counter("coredns_cache_misses_total", "Answers that the cache did not have.", &labels, misses);
    let asked = misses + hits.iter().sum::<u64>();
    sink.counter("coredns_cache_requests_total", "Queries that the cache was asked for.", &labels, asked);
    let help = "Answers from the cache after their lifetime.";
    sink.counter("coredns_cache_served_stale_total", help, &labels, counted.stale.get());
}

fn sizes(cells: &Sizes) -> Buckets {
    let counts = cells.counts.iter().map(Counter::get).collect();
    Buckets { bounds: &SIZE_BOUNDS, counts, sum: cells.octets.get() as f64 }
}

fn times(cells: &Times) -> Buckets {
    let counts = cells.counts.iter().map(Counter::get).collect();
    Buckets { bounds: &TIME_BOUNDS, counts, sum: cells.nanos.get() as f64 / 1e9 }
}
