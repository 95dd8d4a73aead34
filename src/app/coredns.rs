//! What CoreDNS's names say of zones, cache and upstreams: put on the metrics page where `metrics.corednsNames` is on.
//!
//! Blocks come from the configuration, upstreams and evictions from what is counted anyway. How many answers each block
//! holds takes a look at all of them, and is therefore found out every few seconds at most.

use super::upstreams::{Upstreams, label};
use crate::cache::Store;
use crate::cache::store::Kind;
use crate::config::{self, Config};
use crate::observe::coredns::Block;
use crate::observe::coredns::cells::TIME_BOUNDS;
use crate::observe::metrics::Metrics;
use crate::observe::sink::{Buckets, FamilySink};
use crate::sys::clock::Moment;
use crate::upstream::{Server, Transport};
use ring::digest::{SHA512, digest};
use std::collections::HashMap;
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, SystemTime};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};

/// For how long the answers that were counted are believed to be as many.
const CENSUS: Duration = Duration::from_secs(5);
/// How often `/health` is asked, as CoreDNS does.
const PROBE: Duration = Duration::from_secs(1);
/// How long an answer of `/health` may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// Tells `metrics` what is served by `config`, whose text is `text`.
pub(super) fn describe(metrics: &Metrics, config: &Config, text: &str) {
    let Some(coredns) = metrics.coredns() else { return };
    let views = config.views();
    let block = |(at, zone): (usize, &config::Zone)| {
        let of_zone: Vec<usize> = (0..views.len()).filter(|&view| views[view].zones.contains(&at)).collect();
        let places = of_zone.iter().flat_map(|&view| &views[view].places);
        Block {
            zones: zone.names.iter().map(|name| label(name)).collect(),
            servers: places.map(|&place| metrics.server(place)).collect(),
            views: of_zone.iter().filter_map(|&view| u8::try_from(view).ok()).collect(),
            plugins: plugins(zone),
        }
    };
    coredns.describe(config.zones.iter().enumerate().map(block).collect());
    coredns.configured(sha512(text));
}

/// The plugins that do in CoreDNS what is done for `zone`, in CoreDNS's order.
fn plugins(zone: &config::Zone) -> Vec<&'static str> {
    let known = [
        // There is no zone without the first and without the search for loops.
        ("prometheus", true),
        ("errors", zone.errors.is_some()),
        ("log", zone.log.is_some()),
        ("dns64", zone.dns64.is_some()),
        ("acl", !zone.acl.is_empty()),
        ("any", zone.refuse_any),
        ("loadbalance", zone.load_balance.is_some()),
        ("cache", zone.keep.enabled),
        ("rewrite", !zone.rewrite.is_empty()),
        ("minimal", zone.minimal_responses),
        ("template", !zone.respond.is_empty()),
        ("hosts", zone.hosts.is_some()),
        ("loop", true),
        ("forward", !zone.forwards.is_empty()),
        ("whoami", zone.whoami),
        ("nsid", zone.nsid.is_some()),
    ];
    known.into_iter().filter_map(|(name, is_there)| is_there.then_some(name)).collect()
}

/// The SHA-512 of `text`, in hexadecimal.
fn sha512(text: &str) -> String {
    let mut hex = String::with_capacity(128);
    for octet in digest(&SHA512, text.as_bytes()).as_ref() {
        // Writing to a String cannot fail.
        let _ = write!(hex, "{octet:02x}");
    }
    hex
}

/// Has every scrape read `store` and `upstreams`, if CoreDNS's names are wanted.
pub(super) fn report(metrics: &Arc<Metrics>, store: Arc<Store>, upstreams: Upstreams) {
    if metrics.coredns().is_none() {
        return;
    }
    let (this, census) = (Arc::downgrade(metrics), Census::default());
    metrics.register(Box::new(move |sink| {
        upstreams.servers().iter().for_each(|server| upstream(sink, server));
        let tally = upstreams.tally();
        let help = "Queries that came while all upstreams were known to be down.";
        sink.counter("coredns_forward_healthcheck_broken_total", help, &[], tally.all_down.get());
        hosts(sink, &upstreams);
        let help = "Queries refused because as many were under way as may be.";
        sink.counter("coredns_forward_max_concurrent_rejects_total", help, &[], tally.rejected.get());
        if let Some(metrics) = Weak::upgrade(&this) {
            cache(sink, &metrics, &store, &census);
            templates(sink, &metrics, &upstreams);
        }
    }));
}

/// How many answers there are by number of the zone, view and kind.
type Counts = HashMap<(u16, u8, &'static str), u64>;

/// The answers that were counted last, and when.
#[derive(Default)]
struct Census(Mutex<Option<(Moment, Arc<Counts>)>>);

impl Census {
    fn of(&self, store: &Store, now: Moment) -> Arc<Counts> {
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((at, counts)) = last.as_ref().filter(|(at, _)| now.since(*at) < CENSUS) {
            let _ = at;
            return Arc::clone(counts);
        }
        let mut counts = Counts::new();
        for entry in store.iter() {
            let about = entry.about();
            *counts.entry((about.zone, about.flags.view(), kind_name(Kind::of(&entry)))).or_default() += 1;
        }
        let counts = Arc::new(counts);
        *last = Some((now, Arc::clone(&counts)));
        counts
    }
}

/// A kind of answers by CoreDNS's name.
fn kind_name(kind: Kind) -> &'static str {
    match kind {
        Kind::Positive => "success",
        Kind::Negative => "denial",
    }
}

fn cache(sink: &mut FamilySink, metrics: &Metrics, store: &Store, census: &Census) {
    let Some(coredns) = metrics.coredns() else { return };
    let counts = census.of(store, Moment::now());
    // A zone's evictions are not told apart by view: they stand with the first block that has it.
    let mut told = Vec::new();
    for block in coredns.blocks().iter().filter(|block| block.has_cache()) {
        let (label, zones) = (block.label(), block.zones.iter().map(|zone| metrics.zones.intern(zone)));
        let zones: Vec<u16> = zones.collect();
        let news: Vec<u16> = zones.iter().copied().filter(|zone| !told.contains(zone)).collect();
        for kind in Kind::ALL {
            let kind_name = kind_name(kind);
            let of_view =
                |zone: &u16| block.views.iter().filter_map(|v| counts.get(&(*zone, *v, kind_name))).sum::<u64>();
            let entries: u64 = zones.iter().map(of_view).sum();
            let evictions: u64 = news.iter().map(|&zone| store.evictions(kind, zone)).sum();
            for (at, &server) in block.servers.iter().enumerate() {
                let server = &*metrics.servers.name(server);
                let labels = [("server", server), ("type", kind_name), ("zones", &*label), ("view", "")];
                sink.gauge("coredns_cache_entries", "Answers in the cache.", &labels, entries as f64);
                let help = "Answers pushed out for want of room.";
                sink.counter("coredns_cache_evictions_total", help, &labels, if at == 0 { evictions } else { 0 });
                let labels = [("server", server), ("type", kind_name)];
                let help = "Answers in the cache, under the name that this had before CoreDNS 1.7.";
                sink.gauge("coredns_cache_size", help, &labels, entries as f64);
            }
        }
        told.extend(news);
    }
}

fn hosts(sink: &mut FamilySink, upstreams: &Upstreams) {
    for hosts in upstreams.rules().hosts() {
        for file in hosts.files() {
            let path = file.path.display().to_string();
            let labels = [("hostsfile", &*path)];
            let help = "Names and addresses that a hosts file gives.";
            sink.gauge("coredns_hosts_entries", help, &labels, file.entries as f64);
            let read = file.changed.and_then(|at| at.duration_since(SystemTime::UNIX_EPOCH).ok());
            let help = "When what was read of a hosts file last had been changed.";
            let seconds = read.map_or(0.0, |since| since.as_secs_f64());
            sink.gauge("coredns_hosts_reload_timestamp_seconds", help, &labels, seconds);
        }
    }
}

/// What templates did is not told apart by listener: it stands with the first one of the block.
fn templates(sink: &mut FamilySink, metrics: &Metrics, upstreams: &Upstreams) {
    let Some(coredns) = metrics.coredns() else { return };
    let blocks = coredns.blocks();
    let server = |zone: &str| {
        let with_templates = || blocks.iter().filter(|block| block.plugins.contains(&"template"));
        let block = with_templates().find(|block| block.zones.iter().any(|z| z == zone)).or(with_templates().next());
        block.and_then(|block| block.servers.first()).map_or_else(|| "".into(), |&number| metrics.servers.name(number))
    };
    let counts = &upstreams.rules().counts;
    for (question, n) in counts.matches() {
        let server = server(&question.zone);
        let place = [("server", &*server), ("zone", &*question.zone), ("view", "")];
        let [server, zone, view] = place;
        let labels = [server, zone, view, ("class", &*question.class), ("type", &*question.rtype)];
        sink.counter("coredns_template_matches_total", "Questions that a template's rule was for.", &labels, n);
    }
    for (failure, n) in counts.failures() {
        let question = &failure.question;
        let server = server(&question.zone);
        let labels = [
            ("server", &*server),
            ("zone", &*question.zone),
            ("view", ""),
            ("class", &*question.class),
            ("type", &*question.rtype),
            ("section", failure.section),
            ("template", &*failure.template),
        ];
        let (name, help) = match failure.record {
            true => ("coredns_template_rr_failures_total", "Texts of templates that are no record."),
            false => ("coredns_template_template_failures_total", "Templates that gave no text."),
        };
        sink.counter(name, help, &labels, n);
    }
}

fn upstream(sink: &mut FamilySink, server: &Server) {
    let to = server.address().to_string();
    let (to, snapshot) = (("to", &*to), server.snapshot());
    let proxy = ("proxy_name", "forward");
    for replied in &snapshot.replies {
        let took = Buckets { bounds: &TIME_BOUNDS, counts: replied.buckets.to_vec(), sum: replied.sum };
        let rcode = ("rcode", replied.rcode);
        let help = "Time that an upstream took to answer.";
        sink.buckets("coredns_proxy_request_duration_seconds", help, &[proxy, to, rcode], took.clone());
        let help = "The same under the name that it had before CoreDNS 1.11.";
        sink.buckets("coredns_forward_request_duration_seconds", help, &[to], took);
        let help = "Replies of an upstream.";
        sink.counter("coredns_forward_responses_total", help, &[to, rcode], replied.buckets.iter().sum());
    }
    let tries = snapshot.queries.each_ref().map(|outcomes| outcomes.iter().sum::<u64>());
    sink.counter("coredns_forward_requests_total", "Queries sent to an upstream.", &[to], tries.iter().sum());
    let help = "Queries by which it was to be found out whether an upstream is back, and it was not.";
    sink.counter("coredns_proxy_healthcheck_failures_total", help, &[proxy, to], snapshot.failed_probes);
    let help = "The same under the name that it had before CoreDNS 1.11.";
    sink.counter("coredns_forward_healthcheck_failures_total", help, &[to], snapshot.failed_probes);
    let [new, used] = snapshot.carried;
    let stream = if server.endpoint().security().is_some() { "tcp-tls" } else { "tcp" };
    // Over UDP each query has a socket of its own.
    for (proto, hits, misses) in [("udp", 0, tries[Transport::Udp as usize]), (stream, used, new)] {
        if hits + misses > 0 {
            let labels = [proxy, to, ("proto", proto)];
            let help = "Queries that went out over a connection that had carried others.";
            sink.counter("coredns_proxy_conn_cache_hits_total", help, &labels, hits);
            let help = "Queries that took a new connection or socket.";
            sink.counter("coredns_proxy_conn_cache_misses_total", help, &labels, misses);
        }
    }
}

/// Asks `/health` at `address` once a second, for ever.
pub(super) async fn probe(metrics: Arc<Metrics>, address: SocketAddr) {
    let mut tick = interval(PROBE);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tick.tick().await;
        let began = Instant::now();
        let healthy = matches!(timeout(PATIENCE, is_healthy(address)).await, Ok(Ok(true)));
        if let Some(coredns) = metrics.coredns() {
            coredns.probed(healthy.then(|| began.elapsed()));
        }
    }
}

async fn is_healthy(address: SocketAddr) -> std::io::Result<bool> {
    let mut stream = TcpStream::connect(address).await?;
    let request = format!("GET /health HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    stream.take(4096).read_to_end(&mut answer).await?;
    Ok(answer.starts_with(b"HTTP/1.1 200 "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fingerprint_is_a_sha512() {
        let empty = sha512("");
        assert!(empty.starts_with("cf83e1357eefb8bdf1542850d66d8007") && empty.len() == 128, "{empty}");
    }

    #[test]
    fn blocks_are_the_zones_of_the_configuration() {
        let metrics = Metrics::with_coredns_names();
        let text = "listen: {addresses: [10.0.0.1, 10.0.0.2]}
zones:
- {match: [cluster.local, in-addr.arpa], forward: {to: [1.1.1.1]}, errors: {}}
- {match: [.], listen: [10.0.0.2], forward: {to: [1.1.1.1]}, cache: {enabled: false}, log: {}, nsid: x}
";
        describe(&metrics, &config::load_str("f", text).unwrap().config, text);
        let blocks = metrics.coredns().unwrap().blocks();
        let [first, second] = &*blocks else { panic!("{blocks:?}") };
        let servers =
            |block: &Block| block.servers.iter().map(|&s| metrics.servers.name(s).to_string()).collect::<Vec<_>>();
        assert_eq!(first.zones, ["cluster.local.", "in-addr.arpa."]);
        assert_eq!(
            (servers(first), &*first.views),
            (vec!["dns://10.0.0.1:53".into(), "dns://10.0.0.2:53".into()], &[0, 1][..])
        );
        assert_eq!(first.plugins, ["prometheus", "errors", "cache", "loop", "forward"]);
        assert_eq!((servers(second), &*second.views), (vec!["dns://10.0.0.2:53".into()], &[1][..]));
        assert_eq!(second.plugins, ["prometheus", "log", "loop", "forward", "nsid"]);
    }
}
