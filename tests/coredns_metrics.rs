//! Metrics under the names that CoreDNS and node-cache use, as a scraper finds them: names, labels, values; and what the
//! dashboards and alerts made for these ask for. Query logs and failures in CoreDNS's words, as a reader finds them.

#![allow(clippy::unwrap_used, clippy::panic, reason = "what a test cannot go on without")]

mod support;

use hickory_proto::op::{Edns, Message, ResponseCode};
use hickory_proto::rr::RecordType;
use std::collections::{BTreeMap, BTreeSet};
use support::server::Server;
use support::upstream::{Reply, Upstream};
use support::{addresses, nxdomain, query};

const A: RecordType = RecordType::A;

/// One series: its name, and its labels.
type Series = (String, BTreeMap<String, String>);

/// All series of a page with their values; panics at a line that is none.
fn series(page: &str) -> BTreeMap<Series, f64> {
    let body = page.split_once("\r\n\r\n").unwrap().1;
    let mut all = BTreeMap::new();
    for line in body.lines().filter(|line| !line.starts_with('#')) {
        let (series, value) = line.rsplit_once(' ').unwrap_or_else(|| panic!("no series: {line}"));
        let (name, labels) = series.split_once('{').unwrap_or((series, "}"));
        let labels = labels.strip_suffix('}').unwrap_or_else(|| panic!("unclosed: {line}"));
        let pairs = labels.split("\",").filter(|pair| !pair.is_empty()).map(|pair| {
            let (name, value) = pair.split_once("=\"").unwrap_or_else(|| panic!("no label: {line}"));
            (name.to_owned(), value.trim_end_matches('"').to_owned())
        });
        let known = all.insert((name.to_owned(), pairs.collect()), value.parse().unwrap());
        assert!(known.is_none(), "twice: {line}");
    }
    all
}

/// The page of `server`, read.
fn scrape(server: &Server) -> BTreeMap<Series, f64> {
    series(&server.get(server.metrics, "/metrics").unwrap())
}

/// `name{label="value",…}` as a series.
fn a_series(text: &str) -> Series {
    series(&format!("\r\n\r\n{text} 0")).into_keys().next().unwrap()
}

/// A server of two zones with all names that were ever asked for, and what it has been asked.
fn asked() -> (Upstream, Server) {
    let upstream = Upstream::start(|q| match q.name() {
        name if name.starts_with("nowhere") => nxdomain(&q.message(), "cluster.local.", 30).into(),
        _ => addresses(&q.message(), 1, 300).into(),
    });
    let config = format!(
        "zones: [{{ match: [cluster.local, in-addr.arpa], forward: {{ to: [\"{}\"], timeout: 100ms }}, errors: {{}} }}]\n",
        upstream.address()
    );
    let mut server = named(&config);
    let udp = |name: &str| server.udp(&query(name, A)).metadata.response_code;
    assert_eq!(udp("a.cluster.local."), ResponseCode::NoError);
    assert_eq!(udp("a.cluster.local."), ResponseCode::NoError);
    assert_eq!(server.tcp(&query("a.cluster.local.", A)).answers.len(), 1);
    assert_eq!(udp("nowhere.cluster.local."), ResponseCode::NXDomain);
    assert_eq!(udp("nowhere.cluster.local."), ResponseCode::NXDomain);
    assert_eq!(udp("example.org."), ResponseCode::Refused);
    assert_eq!(server.tcp(&with_do("b.cluster.local.")).answers.len(), 1);
    assert_eq!(udp("1.0.0.10.in-addr.arpa."), ResponseCode::NoError);
    // What is counted when an answer is sent may be there a little later; the census, seconds later.
    server.until("the cache is counted", |server| server.metric("coredns_cache_entries", "success") == 3.0);
    server.until("health is probed", |server| server.metric("coredns_health_request_duration_seconds_count", "") > 0.0);
    (upstream, server)
}

/// A server whose metrics have CoreDNS's names.
fn named(config: &str) -> Server {
    let mut server = Server::launch(config, &|command| {
        // The part of the file that says where metrics are is the harness's.
        let file = std::path::PathBuf::from(command.get_args().last().unwrap());
        let text = std::fs::read_to_string(&file).unwrap();
        std::fs::write(&file, text.replace("metrics: { ", "metrics: { corednsNames: true, ")).unwrap();
    });
    server.until("it is alive", |server| server.get(server.health, "/health").is_some_and(|r| r.contains("200 OK")));
    server
}

fn with_do(name: &str) -> Message {
    let mut message = query(name, A);
    let mut edns = Edns::new();
    edns.set_max_payload(1232).set_dnssec_ok(true);
    message.edns = Some(edns);
    message
}

#[test]
fn known_queries_have_known_values() {
    let (upstream, server) = asked();
    let page = scrape(&server);
    let dns = format!("dns://{}", server.dns);
    let to = upstream.address();
    let zones = "cluster.local.,in-addr.arpa.";
    let expected = [
        (
            format!(
                r#"coredns_dns_requests_total{{server="{dns}",zone="cluster.local.",view="",proto="udp",family="1",type="A"}}"#
            ),
            4.0,
        ),
        (
            format!(
                r#"coredns_dns_requests_total{{server="{dns}",zone="cluster.local.",view="",proto="tcp",family="1",type="A"}}"#
            ),
            2.0,
        ),
        (
            format!(
                r#"coredns_dns_requests_total{{server="{dns}",zone="in-addr.arpa.",view="",proto="udp",family="1",type="A"}}"#
            ),
            1.0,
        ),
        (
            format!(
                r#"coredns_dns_requests_total{{server="{dns}",zone="dropped",view="",proto="udp",family="1",type="A"}}"#
            ),
            1.0,
        ),
        (
            format!(
                r#"coredns_dns_request_count_total{{server="{dns}",zone="cluster.local.",proto="udp",family="1"}}"#
            ),
            4.0,
        ),
        (
            format!(
                r#"coredns_dns_responses_total{{server="{dns}",zone="cluster.local.",view="",rcode="NOERROR",plugin="forward"}}"#
            ),
            2.0,
        ),
        (
            format!(
                r#"coredns_dns_responses_total{{server="{dns}",zone="cluster.local.",view="",rcode="NOERROR",plugin="cache"}}"#
            ),
            2.0,
        ),
        (
            format!(
                r#"coredns_dns_responses_total{{server="{dns}",zone="cluster.local.",view="",rcode="NXDOMAIN",plugin="forward"}}"#
            ),
            1.0,
        ),
        (
            format!(
                r#"coredns_dns_responses_total{{server="{dns}",zone="cluster.local.",view="",rcode="NXDOMAIN",plugin="cache"}}"#
            ),
            1.0,
        ),
        (
            format!(
                r#"coredns_dns_responses_total{{server="{dns}",zone="dropped",view="",rcode="REFUSED",plugin=""}}"#
            ),
            1.0,
        ),
        (format!(r#"coredns_dns_do_requests_total{{server="{dns}",zone="cluster.local.",view=""}}"#), 1.0),
        (format!(r#"coredns_dns_do_requests_total{{server="{dns}",zone="dropped",view=""}}"#), 0.0),
        (format!(r#"coredns_dns_request_duration_seconds_count{{server="{dns}",zone="cluster.local.",view=""}}"#), 6.0),
        (format!(r#"coredns_dns_request_duration_seconds_count{{server="{dns}",zone="dropped",view=""}}"#), 1.0),
        // Twelve octets of header, the name, type and class: 33 and 39.
        (
            format!(
                r#"coredns_dns_request_size_bytes_sum{{server="{dns}",zone="cluster.local.",view="",proto="udp"}}"#
            ),
            2.0 * 33.0 + 2.0 * 39.0,
        ),
        (
            format!(
                r#"coredns_dns_request_size_bytes_bucket{{server="{dns}",zone="cluster.local.",view="",proto="udp",le="0"}}"#
            ),
            0.0,
        ),
        (
            format!(
                r#"coredns_dns_request_size_bytes_bucket{{server="{dns}",zone="cluster.local.",view="",proto="udp",le="100"}}"#
            ),
            4.0,
        ),
        (
            format!(
                r#"coredns_dns_response_size_bytes_count{{server="{dns}",zone="cluster.local.",view="",proto="tcp"}}"#
            ),
            2.0,
        ),
        (format!(r#"coredns_cache_hits_total{{server="{dns}",type="success",zones="{zones}",view=""}}"#), 2.0),
        (format!(r#"coredns_cache_hits_total{{server="{dns}",type="denial",zones="{zones}",view=""}}"#), 1.0),
        (format!(r#"coredns_cache_misses_total{{server="{dns}",zones="{zones}",view=""}}"#), 4.0),
        (format!(r#"coredns_cache_requests_total{{server="{dns}",zones="{zones}",view=""}}"#), 7.0),
        (format!(r#"coredns_cache_prefetch_total{{server="{dns}",zones="{zones}",view=""}}"#), 0.0),
        (format!(r#"coredns_cache_drops_total{{server="{dns}",zones="{zones}",view=""}}"#), 0.0),
        (format!(r#"coredns_cache_served_stale_total{{server="{dns}",zones="{zones}",view=""}}"#), 0.0),
        (format!(r#"coredns_cache_evictions_total{{server="{dns}",type="success",zones="{zones}",view=""}}"#), 0.0),
        (format!(r#"coredns_cache_entries{{server="{dns}",type="success",zones="{zones}",view=""}}"#), 3.0),
        (format!(r#"coredns_cache_entries{{server="{dns}",type="denial",zones="{zones}",view=""}}"#), 1.0),
        (format!(r#"coredns_cache_size{{server="{dns}",type="success"}}"#), 3.0),
        (format!(r#"coredns_plugin_enabled{{server="{dns}",zone="in-addr.arpa.",view="",name="cache"}}"#), 1.0),
        (format!(r#"coredns_plugin_enabled{{server="{dns}",zone="cluster.local.",view="",name="errors"}}"#), 1.0),
        (format!(r#"coredns_forward_responses_total{{to="{to}",rcode="NOERROR"}}"#), 3.0),
        (format!(r#"coredns_forward_responses_total{{to="{to}",rcode="NXDOMAIN"}}"#), 1.0),
        (format!(r#"coredns_forward_request_duration_seconds_count{{to="{to}"}}"#), 4.0),
        (
            format!(
                r#"coredns_proxy_request_duration_seconds_count{{proxy_name="forward",to="{to}",rcode="NOERROR"}}"#
            ),
            3.0,
        ),
        (format!(r#"coredns_proxy_healthcheck_failures_total{{proxy_name="forward",to="{to}"}}"#), 0.0),
        (format!(r#"coredns_forward_healthcheck_failures_total{{to="{to}"}}"#), 0.0),
        ("coredns_forward_healthcheck_broken_total".to_owned(), 0.0),
        ("coredns_forward_max_concurrent_rejects_total".to_owned(), 0.0),
        ("coredns_panics_total".to_owned(), 0.0),
        ("coredns_panic_count_total".to_owned(), 0.0),
        ("coredns_reload_failed_total".to_owned(), 0.0),
        ("coredns_health_request_failures_total".to_owned(), 0.0),
        (r#"coredns_nodecache_setup_errors_total{errortype="iptables"}"#.to_owned(), 0.0),
        (r#"coredns_nodecache_setup_errors{errortype="configmap"}"#.to_owned(), 0.0),
    ];
    for (text, value) in expected {
        // Probes for loops are sent to upstreams, too, and their replies are counted.
        let probes =
            if text.starts_with("coredns_forward_re") || text.starts_with("coredns_proxy_re") { 1.0 } else { 0.0 };
        let found = page.get(&a_series(&text)).unwrap_or_else(|| panic!("{text} is not there"));
        let most = value + 10.0 * probes;
        assert!(*found >= value && *found <= most, "{text}: {found}, not {value}");
    }
    let carried = |name: &str| {
        let of_upstream =
            |series: &&Series| series.0 == name && series.1["to"] == to.to_string() && series.1["proto"] == "tcp";
        page.keys().filter(of_upstream).map(|series| page[series]).sum::<f64>()
    };
    let (hits, misses) =
        (carried("coredns_proxy_conn_cache_hits_total"), carried("coredns_proxy_conn_cache_misses_total"));
    assert!(misses >= 1.0 && hits + misses >= 4.0, "{hits} {misses}");
    let hash = page.keys().find(|series| series.0 == "coredns_reload_version_info").unwrap();
    assert_eq!((&*hash.1["hash"], hash.1["value"].len()), ("sha512", 128));
}

#[test]
fn without_the_key_nothing_of_it_is_there() {
    let upstream = Upstream::start(|q| addresses(&q.message(), 1, 300).into());
    let server = Server::forwarding_to(upstream.address());
    server.udp(&query("a.example.", A));
    let names: BTreeSet<String> = scrape(&server).into_keys().map(|(name, _)| name).collect();
    assert!(!names.iter().any(|name| name.starts_with("coredns_") || name.starts_with("go_")), "{names:?}");
}

/// What the mixins and dashboards made for CoreDNS and node-cache ask for: a metric, the labels that it is selected by
/// and grouped by, and how many series there must be at least.
const ASKED_FOR: [(&str, &[&str], usize); 34] = [
    ("up", &[], 0),
    ("coredns_build_info", &["version", "revision", "goversion"], 1),
    ("coredns_panics_total", &[], 1),
    ("coredns_dns_requests_total", &["server", "zone", "view", "proto", "family", "type"], 4),
    ("coredns_dns_responses_total", &["server", "zone", "view", "rcode", "plugin"], 5),
    ("coredns_dns_request_duration_seconds_bucket", &["server", "zone", "view", "le"], 17),
    ("coredns_dns_request_duration_seconds_count", &["server", "zone", "view"], 3),
    ("coredns_dns_request_duration_seconds_sum", &["server", "zone", "view"], 3),
    ("coredns_dns_request_size_bytes_bucket", &["server", "zone", "view", "proto", "le"], 15),
    ("coredns_dns_response_size_bytes_bucket", &["server", "zone", "view", "proto", "le"], 15),
    ("coredns_dns_do_requests_total", &["server", "zone", "view"], 1),
    ("coredns_cache_hits_total", &["server", "type", "zones", "view"], 2),
    ("coredns_cache_misses_total", &["server", "zones", "view"], 1),
    ("coredns_cache_requests_total", &["server", "zones", "view"], 1),
    ("coredns_cache_entries", &["server", "type", "zones", "view"], 2),
    ("coredns_cache_evictions_total", &["server", "type", "zones", "view"], 2),
    ("coredns_cache_prefetch_total", &["server", "zones", "view"], 1),
    ("coredns_cache_drops_total", &["server", "zones", "view"], 1),
    ("coredns_cache_served_stale_total", &["server", "zones", "view"], 1),
    ("coredns_plugin_enabled", &["server", "zone", "view", "name"], 8),
    ("coredns_forward_requests_total", &["to"], 1),
    ("coredns_forward_responses_total", &["to", "rcode"], 2),
    ("coredns_forward_request_duration_seconds_bucket", &["to", "le"], 17),
    ("coredns_forward_healthcheck_failures_total", &["to"], 1),
    ("coredns_forward_healthcheck_broken_total", &[], 1),
    ("coredns_proxy_request_duration_seconds_bucket", &["proxy_name", "to", "rcode", "le"], 17),
    ("coredns_proxy_request_duration_seconds_count", &["proxy_name", "to", "rcode"], 2),
    ("coredns_proxy_conn_cache_hits_total", &["proxy_name", "to", "proto"], 1),
    ("coredns_proxy_healthcheck_failures_total", &["proxy_name", "to"], 1),
    ("coredns_health_request_duration_seconds_bucket", &["le"], 6),
    ("coredns_reload_failed_total", &[], 1),
    ("coredns_nodecache_setup_errors_total", &["errortype"], 5),
    ("process_resident_memory_bytes", &[], 1),
    ("go_goroutines", &[], 1),
];

#[test]
fn every_expression_of_the_usual_dashboards_finds_its_series() {
    let (_upstream, server) = asked();
    let page = scrape(&server);
    for (name, labels, least) in ASKED_FOR {
        let found: Vec<&Series> = page.keys().filter(|series| series.0 == name).collect();
        assert!(found.len() >= least, "{name}: {found:?}");
        let labels: BTreeSet<&str> = labels.iter().copied().collect();
        for series in found {
            assert_eq!(series.1.keys().map(String::as_str).collect::<BTreeSet<_>>(), labels, "{name}");
        }
    }
    let bounds = |name: &str| {
        let of_name = page.keys().filter(|series| series.0 == name);
        let bounds: BTreeSet<String> = of_name.map(|series| series.1["le"].clone()).collect();
        let mut bounds: Vec<f64> =
            bounds.iter().filter_map(|le| le.parse().ok()).filter(|le: &f64| le.is_finite()).collect();
        bounds.sort_by(f64::total_cmp);
        bounds
    };
    let doubling: Vec<f64> = (0..16).map(|k| 0.00025 * f64::from(1 << k)).collect();
    assert_eq!(bounds("coredns_dns_request_duration_seconds_bucket"), doubling);
    assert_eq!(bounds("coredns_proxy_request_duration_seconds_bucket"), doubling);
    let sizes = [0.0, 100.0, 200.0, 300.0, 400.0, 511.0, 1023.0, 2047.0, 4095.0, 8291.0, 16e3, 32e3, 48e3, 64e3];
    assert_eq!(bounds("coredns_dns_response_size_bytes_bucket"), sizes);
    assert_eq!(bounds("coredns_health_request_duration_seconds_bucket"), [0.00025, 0.0025, 0.025, 0.25, 2.5]);
}

#[test]
fn queries_and_failures_are_logged_as_coredns_does() {
    let upstream = Upstream::start(|q| match q.name() {
        name if name.starts_with("silent") => Reply::Silence,
        name if name.starts_with("nowhere") => nxdomain(&q.message(), "example.", 30).into(),
        _ => addresses(&q.message(), 1, 300).into(),
    });
    let config = format!(
        "log: {{ format: coredns }}\nzones: [{{ match: [example], forward: {{ to: [\"{}\"], timeout: 100ms }}, cache: {{ serveStale: {{ enabled: false }} }}, \
         log: {{ classes: [success, error], format: '{{common}} {{/forward/upstream}}' }}, errors: {{}} }}]\n",
        upstream.address()
    );
    let mut server = Server::start_with(&config, &|command| {
        // Lines of this form go where CoreDNS writes them.
        let file = stdout_file(command);
        command.stdout(file);
    });
    let log = |server: &Server| std::fs::read_to_string(server.config_path().with_file_name("stdout")).unwrap();
    let asked = query("a.example.", A);
    for _ in 0..2 {
        assert_eq!(server.udp(&asked).answers.len(), 1);
    }
    assert_eq!(server.tcp(&query("a.example.", A)).answers.len(), 1);
    server.udp(&query("nowhere.example.", A));
    server.udp(&query("silent.example.", A));
    server.until("all is logged", |server| log(server).contains("SERVFAIL"));
    let log = log(&server);
    let id = asked.metadata.id;
    let of_query =
        |line: &&str| line.contains(&format!("- {id} \"A IN a.example. udp 27 false 512\" NOERROR qr,rd,ra 43 0."));
    assert_eq!(log.lines().filter(of_query).count(), 2, "a miss and a hit in:\n{log}");
    assert!(log.lines().filter(|line| line.contains(" \"A IN ")).all(|line| line.ends_with("s -")), "{log}");
    assert!(log.contains("\"A IN a.example. tcp 27 false 65535\" NOERROR"), "{log}");
    assert!(!log.contains("nowhere.example."), "{log}");
    let failure = format!("[ERROR] plugin/errors: 2 silent.example. A: read tcp {}: i/o timeout", upstream.address());
    assert!(log.lines().any(|line| line == failure), "{failure} is not in:\n{log}");
    assert!(log.lines().all(|line| line.starts_with('[')), "{log}");
}

/// A file beside the configuration, which the command names last.
fn stdout_file(command: &std::process::Command) -> std::fs::File {
    let config = std::path::PathBuf::from(command.get_args().last().unwrap());
    std::fs::File::create(config.with_file_name("stdout")).unwrap()
}
