//! What the cache and the upstreams count, put on the metrics page.

use super::upstreams::Upstreams;
use crate::cache::Store;
use crate::cache::store::Kind;
use crate::observe::conntrack;
use crate::observe::log::Log;
use crate::observe::metrics::Metrics;
use crate::observe::sink::FamilySink;
use crate::upstream::{Ended, Outcome, Server, Transport};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Has every scrape read `store`, `upstreams` and `log`.
pub(super) fn report(metrics: &Metrics, store: Arc<Store>, upstreams: Upstreams, log: Option<Log>) {
    metrics.register(Box::new(move |sink| {
        if let Some(log) = &log {
            let help = "Log lines dropped because nobody read them fast enough.";
            sink.counter("nodens_log_lines_dropped_total", help, &[], log.lost());
        }
        conntrack::report(sink);
        cache(sink, &store);
        upstreams.servers().iter().for_each(|server| upstream(sink, server));
        loops(sink, &upstreams);
        upstreams.rules().report(sink);
        let tally = upstreams.tally();
        let help = "Queries refused because as many as forward.maxConcurrent allows were waiting for an upstream.";
        sink.counter("nodens_upstream_rejected_total", help, &[], tally.rejected.get());
        let help = "Queries for which all upstreams were known to be down.";
        sink.counter("nodens_upstream_all_down_total", help, &[], tally.all_down.get());
    }));
}

/// Which upstreams forward back to us. One that several zones share is there once.
fn loops(sink: &mut FamilySink, upstreams: &Upstreams) {
    let mut looping: BTreeMap<String, bool> = BTreeMap::new();
    for (_, route) in upstreams.routes().iter().flatten() {
        for server in route.group().servers() {
            *looping.entry(server.endpoint().to_string()).or_default() |= route.is_looping(&server);
        }
    }
    for (name, looping) in &looping {
        let help = "Does the upstream send queries of some zone back here, and is not asked for it therefore? 1 or 0.";
        sink.gauge("nodens_upstream_looping", help, &[("upstream", name)], f64::from(u8::from(*looping)));
    }
    let help = "Forwarding loops found: a query sent to an upstream came back.";
    sink.counter("nodens_loops_detected_total", help, &[], upstreams.loops_detected().get());
}

fn cache(sink: &mut FamilySink, store: &Store) {
    for kind in Kind::ALL {
        let usage = store.usage(kind);
        let labels = [("kind", kind.name())];
        sink.gauge("nodens_cache_entries", "Answers in the cache.", &labels, usage.entries as f64);
        sink.gauge("nodens_cache_bytes", "Octets that they take, overhead included.", &labels, usage.bytes as f64);
        let help = "Answers pushed out for want of room.";
        sink.counter("nodens_cache_evictions_total", help, &labels, usage.evictions);
    }
}

fn upstream(sink: &mut FamilySink, server: &Server) {
    let name = server.endpoint().to_string();
    let snapshot = server.snapshot();
    for (transport, counts) in Transport::ALL.into_iter().zip(snapshot.queries) {
        for (outcome, count) in Outcome::ALL.into_iter().zip(counts).filter(|(_, count)| *count > 0) {
            let labels = [("upstream", &*name), ("proto", transport.name()), ("outcome", outcome.name())];
            let help = "Queries sent to an upstream, by how they ended.";
            sink.counter("nodens_upstream_queries_total", help, &labels, count);
        }
    }
    let labels = [("upstream", &*name)];
    let help = "Time that an upstream took to answer.";
    sink.histogram("nodens_upstream_duration_seconds", help, &labels, server.durations());
    let connections = snapshot.connections;
    for (state, n) in [("dialing", connections.dialing), ("idle", connections.idle), ("busy", connections.busy)] {
        let labels = [("upstream", &*name), ("state", state)];
        sink.gauge("nodens_upstream_connections", "TCP connections to an upstream.", &labels, n as f64);
    }
    let help = "Queries sent once more on a fresh connection, or without EDNS.";
    sink.counter("nodens_upstream_retries_total", help, &labels, snapshot.retries);
    let help = "Queries for TCP that went out over UDP as well, because every connection was full.";
    sink.counter("nodens_upstream_overflows_total", help, &labels, snapshot.overflows);
    let help = "TCP connections opened to an upstream.";
    sink.counter("nodens_upstream_dials_total", help, &labels, snapshot.dials);
    let help = "Messages from an upstream that answered nothing that was asked.";
    sink.counter("nodens_upstream_unsolicited_total", help, &labels, snapshot.unsolicited);
    let help = "Replies of an upstream that came too late.";
    sink.counter("nodens_upstream_late_total", help, &labels, snapshot.late);
    for (transport, failing) in Transport::ALL.into_iter().zip(snapshot.failing) {
        let labels = [("upstream", &*name), ("proto", transport.name())];
        let help = "Is the upstream asked last, because it failed? 1 or 0.";
        sink.gauge("nodens_upstream_failing", help, &labels, f64::from(u8::from(failing)));
        let help = "How often an upstream failed so that it is asked last, and how often it worked again.";
        for (to, count) in ["failing", "healthy"].into_iter().zip(snapshot.health_changes[transport as usize]) {
            let labels = [("upstream", &*name), ("proto", transport.name()), ("to", to)];
            sink.counter("nodens_upstream_health_changes_total", help, &labels, count);
        }
    }
    for (outcome, count) in ["won", "lost"].into_iter().zip(snapshot.hedges) {
        let labels = [("upstream", &*name), ("outcome", outcome)];
        let help = "Queries sent to an upstream because the answer to them took longer elsewhere than usual.";
        sink.counter("nodens_upstream_hedges_total", help, &labels, count);
    }
    for (ended, count) in Ended::ALL.into_iter().zip(snapshot.closed) {
        let labels = [("upstream", &*name), ("reason", ended.name())];
        let help = "TCP connections to an upstream that ended, by why they did.";
        sink.counter("nodens_upstream_closed_total", help, &labels, count);
    }
}
