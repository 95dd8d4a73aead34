//! What a scraper gets to read.

use std::time::Duration;

use super::*;

/// The value of one series; panics with the page when it is not there exactly once.
fn value(page: &str, series: &str) -> f64 {
    let mut found = page.lines().filter_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
    let value = found.next().unwrap_or_else(|| panic!("{series} is not in:\n{page}"));
    assert_eq!(found.next(), None, "{series} is there twice in:\n{page}");
    value.parse().unwrap()
}

#[test]
fn queries_and_answers_are_summed_over_writers() {
    let metrics = Metrics::new();
    let zone = metrics.zones.intern("cluster.local.");
    let udp = metrics.cells(Proto::Udp, Family::V4, 0, false);
    let tcp = metrics.cells(Proto::Tcp, Family::V6, 0, true);
    for cells in [&udp, &tcp] {
        cells.query(zone, 1);
        cells.response(zone, 0, Source::Hit);
        cells.response(zone, 3, Source::NegativeHit);
        cells.duration(zone, Source::Hit, Duration::from_micros(5), 3);
    }
    udp.query(zone, 1);
    udp.response(zone, 2, Source::Miss);
    let page = metrics.gather();
    let queries = |proto, family| {
        format!("nodens_queries_total{{zone=\"cluster.local.\",proto=\"{proto}\",family=\"{family}\",type=\"A\"}}")
    };
    assert_eq!(value(&page, &queries("udp", "ipv4")), 2.0);
    assert_eq!(value(&page, &queries("tcp", "ipv6")), 1.0);
    for (series, want) in [
        (r#"nodens_responses_total{zone="cluster.local.",rcode="NOERROR",source="hit"}"#, 2.0),
        (r#"nodens_responses_total{zone="cluster.local.",rcode="NXDOMAIN",source="negative_hit"}"#, 2.0),
        (r#"nodens_responses_total{zone="cluster.local.",rcode="SERVFAIL",source="miss"}"#, 1.0),
        (r#"nodens_cache_hits_total{zone="cluster.local.",kind="positive"}"#, 2.0),
        (r#"nodens_cache_hits_total{zone="cluster.local.",kind="negative"}"#, 2.0),
        (r#"nodens_cache_misses_total{zone="cluster.local."}"#, 1.0),
        (r#"nodens_query_duration_seconds_count{zone="cluster.local.",source="hit"}"#, 6.0),
        (r#"nodens_query_duration_seconds_bucket{zone="cluster.local.",source="hit",le="0.00001"}"#, 6.0),
        (r#"nodens_query_duration_seconds_sum{zone="cluster.local.",source="hit"}"#, 0.00003),
    ] {
        assert_eq!(value(&page, series), want, "{series}");
    }
}

#[test]
fn the_rest_is_there_from_the_start() {
    let metrics = Metrics::new();
    metrics.dropped(DropReason::TcpIdle);
    metrics.dropped(DropReason::TcpIdle);
    metrics.reloaded(Reload::Refused);
    metrics.coalesced.add(4);
    metrics.in_flight.set(5);
    let page = metrics.gather();
    for (series, want) in [
        (r#"nodens_dropped_total{reason="tcp_idle"}"#, 2.0),
        (r#"nodens_dropped_total{reason="not_allowed"}"#, 0.0),
        (r#"nodens_config_reloads_total{outcome="refused"}"#, 1.0),
        (r#"nodens_config_reloads_total{outcome="loaded"}"#, 0.0),
        ("nodens_coalesced_total", 4.0),
        ("nodens_in_flight", 5.0),
        ("nodens_http_connections_closed_total", 0.0),
    ] {
        assert_eq!(value(&page, series), want, "{series}");
    }
    assert!(page.contains("nodens_build_info{version=\"0."), "{page}");
    assert!(value(&page, "process_open_fds") > 0.0);
    assert!(value(&page, "process_start_time_seconds") > 0.0);
}

#[test]
fn what_others_count_is_added_at_scrape_time() {
    let metrics = Metrics::new();
    let entries = Arc::new(Gauge::new());
    for kind in ["positive", "negative"] {
        let entries = entries.clone();
        metrics.register(Box::new(move |sink| {
            let n = entries.get() as f64;
            sink.gauge("nodens_cache_entries", "Answers in the cache.", &[("kind", kind)], n);
        }));
    }
    entries.set(3);
    let page = metrics.gather();
    assert_eq!(value(&page, r#"nodens_cache_entries{kind="positive"}"#), 3.0);
    assert_eq!(value(&page, r#"nodens_cache_entries{kind="negative"}"#), 3.0);
    assert_eq!(page.matches("# TYPE nodens_cache_entries gauge").count(), 1);
    entries.set(8);
    assert_eq!(value(&metrics.gather(), r#"nodens_cache_entries{kind="positive"}"#), 8.0);
}

#[test]
fn cells_outlive_their_writer_and_are_used_again() {
    let metrics = Metrics::new();
    let first = metrics.cells(Proto::Udp, Family::V4, 0, false);
    first.query(0, 1);
    drop(first);
    let other = metrics.cells(Proto::Udp, Family::V6, 0, false);
    let again = metrics.cells(Proto::Udp, Family::V4, 0, false);
    again.query(0, 1);
    drop(other);
    assert_eq!(lock(&metrics.cells).len(), 2);
    let series = r#"nodens_queries_total{zone="",proto="udp",family="ipv4",type="A"}"#;
    assert_eq!(value(&metrics.gather(), series), 2.0);
}

#[test]
fn scrapes_run_beside_writers_and_each_other() {
    let metrics = Metrics::new();
    let zone = metrics.zones.intern(".");
    std::thread::scope(|scope| {
        for _ in 0..3 {
            let cells = metrics.cells(Proto::Udp, Family::V4, 0, false);
            scope.spawn(move || (0..50_000).for_each(|_| cells.query(zone, 28)));
        }
        for _ in 0..2 {
            scope.spawn(|| {
                let series = r#"nodens_queries_total{zone=".",proto="udp",family="ipv4",type="AAAA"}"#;
                let mut last = 0.0;
                for _ in 0..20 {
                    let page = metrics.gather();
                    let now = if page.contains(series) { value(&page, series) } else { 0.0 };
                    assert!(now >= last, "a counter fell from {last} to {now}");
                    last = now;
                }
            });
        }
    });
    let series = r#"nodens_queries_total{zone=".",proto="udp",family="ipv4",type="AAAA"}"#;
    assert_eq!(value(&metrics.gather(), series), 150_000.0);
}

#[test]
fn f15_a_hostile_zone_name_stays_a_label_value() {
    let metrics = Metrics::new();
    let zone = metrics.zones.intern("a\"} 1\nevil 1\n\\");
    metrics.cells(Proto::Udp, Family::V4, 0, false).query(zone, 1);
    let page = metrics.gather();
    assert!(!page.lines().any(|line| line.starts_with("evil")));
    assert_eq!(value(&page, r#"nodens_cache_misses_total{zone="a\"} 1\nevil 1\n\\"}"#), 0.0);
}

#[test]
fn f15_a_thousand_zones_are_no_thousand_series() {
    let metrics = Metrics::new();
    let cells = metrics.cells(Proto::Udp, Family::V4, 0, false);
    for n in 0..1000 {
        cells.query(metrics.zones.intern(&format!("zone{n}.example.")), 1);
    }
    let page = metrics.gather();
    let series = page.lines().filter(|line| line.starts_with("nodens_queries_total{")).count();
    assert_eq!(series, usize::from(Labels::ZONES) + 1);
    let other = r#"nodens_queries_total{zone="other",proto="udp",family="ipv4",type="A"}"#;
    assert_eq!(value(&page, other), 1000.0 - f64::from(Labels::ZONES));
}
