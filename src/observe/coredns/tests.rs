//! CoreDNS's names on the page.

use super::cells::{Answered, Plugin};
use super::*;
use crate::observe::metrics::{Metrics, Reload};
use crate::observe::queries::{Family, Proto, Source};

const SERVER: &str = "dns://169.254.20.10:53";

fn answer(zone: u16, source: Source) -> Answered {
    Answered {
        zone,
        qtype: 1,
        rcode: 0,
        source,
        negative: false,
        plugin: Plugin::of(source, true),
        request_len: 40,
        response_len: 512,
        dnssec_ok: false,
        took: None,
    }
}

fn assert_has(page: &str, lines: &[&str]) {
    for line in lines {
        assert!(page.lines().any(|l| l == *line), "{line} is not in\n{page}");
    }
}

#[test]
fn without_the_names_there_is_nothing_of_it() {
    let metrics = Metrics::new();
    let cells = metrics.cells(Proto::Udp, Family::V4, 0, false);
    cells.answered(|| unreachable!("nobody wants to know"));
    cells.query(0, 1);
    let page = metrics.gather();
    assert!(!page.contains("coredns_") && !page.contains("go_goroutines"), "{page}");
    metrics.setup_error(SetupError::Configmap);
    assert_has(&metrics.gather(), &[r#"coredns_nodecache_setup_errors_total{errortype="configmap"} 1"#]);
}

#[test]
fn answers_are_there_under_the_labels_of_coredns() {
    let metrics = Metrics::with_coredns_names();
    let [zone, reverse] = ["cluster.local.", "in-addr.arpa."].map(|name| metrics.zones.intern(name));
    let server = metrics.servers.intern(SERVER);
    let zones = ["cluster.local.", "in-addr.arpa."].map(str::to_owned).to_vec();
    let block = Block { zones, servers: vec![server], views: vec![0], plugins: vec!["cache", "forward"] };
    metrics.coredns().unwrap().describe(vec![block]);
    let udp = metrics.cells(Proto::Udp, Family::V4, server, false);
    let tcp = metrics.cells(Proto::Tcp, Family::V6, server, true);
    udp.answered(|| answer(zone, Source::Hit));
    udp.duration(zone, Source::Hit, Duration::from_micros(10), 1);
    tcp.answered(|| Answered { dnssec_ok: true, response_len: 70_000, ..answer(reverse, Source::Miss) });
    tcp.answered(|| Answered { rcode: 5, took: Some(Duration::ZERO), ..answer(0, Source::Local) });
    metrics.coredns().unwrap().refreshed(zone);
    metrics.coredns().unwrap().refreshed(reverse);
    let page = metrics.gather();
    assert_has(
        &page,
        &[
            r#"coredns_dns_requests_total{server="dns://169.254.20.10:53",zone="cluster.local.",view="",proto="udp",family="1",type="A"} 1"#,
            r#"coredns_dns_requests_total{server="dns://169.254.20.10:53",zone="in-addr.arpa.",view="",proto="tcp",family="2",type="A"} 1"#,
            r#"coredns_dns_requests_total{server="dns://169.254.20.10:53",zone="dropped",view="",proto="tcp",family="2",type="A"} 1"#,
            r#"coredns_dns_responses_total{server="dns://169.254.20.10:53",zone="cluster.local.",view="",rcode="NOERROR",plugin="cache"} 1"#,
            r#"coredns_dns_responses_total{server="dns://169.254.20.10:53",zone="in-addr.arpa.",view="",rcode="NOERROR",plugin="forward"} 1"#,
            r#"coredns_dns_responses_total{server="dns://169.254.20.10:53",zone="dropped",view="",rcode="REFUSED",plugin=""} 1"#,
            r#"coredns_dns_do_requests_total{server="dns://169.254.20.10:53",zone="in-addr.arpa.",view=""} 1"#,
            r#"coredns_dns_request_duration_seconds_bucket{server="dns://169.254.20.10:53",zone="cluster.local.",view="",le="0.00025"} 1"#,
            r#"coredns_dns_request_duration_seconds_count{server="dns://169.254.20.10:53",zone="dropped",view=""} 1"#,
            r#"coredns_dns_request_size_bytes_bucket{server="dns://169.254.20.10:53",zone="cluster.local.",view="",proto="udp",le="0"} 0"#,
            r#"coredns_dns_request_size_bytes_bucket{server="dns://169.254.20.10:53",zone="cluster.local.",view="",proto="udp",le="100"} 1"#,
            r#"coredns_dns_response_size_bytes_bucket{server="dns://169.254.20.10:53",zone="in-addr.arpa.",view="",proto="tcp",le="64000"} 0"#,
            r#"coredns_dns_response_size_bytes_bucket{server="dns://169.254.20.10:53",zone="in-addr.arpa.",view="",proto="tcp",le="+Inf"} 1"#,
            r#"coredns_dns_response_size_bytes_sum{server="dns://169.254.20.10:53",zone="cluster.local.",view="",proto="udp"} 512"#,
            r#"coredns_cache_hits_total{server="dns://169.254.20.10:53",type="success",zones="cluster.local.,in-addr.arpa.",view=""} 1"#,
            r#"coredns_cache_hits_total{server="dns://169.254.20.10:53",type="denial",zones="cluster.local.,in-addr.arpa.",view=""} 0"#,
            r#"coredns_cache_misses_total{server="dns://169.254.20.10:53",zones="cluster.local.,in-addr.arpa.",view=""} 1"#,
            r#"coredns_cache_requests_total{server="dns://169.254.20.10:53",zones="cluster.local.,in-addr.arpa.",view=""} 2"#,
            r#"coredns_cache_prefetch_total{server="dns://169.254.20.10:53",zones="cluster.local.,in-addr.arpa.",view=""} 2"#,
            r#"coredns_plugin_enabled{server="dns://169.254.20.10:53",zone="in-addr.arpa.",view="",name="forward"} 1"#,
        ],
    );
    assert!(!page.contains(r#"zones="dropped""#), "{page}");
}

#[test]
fn what_the_process_knows_of_itself_is_there_from_the_start() {
    let metrics = Metrics::with_coredns_names();
    metrics.reloaded(Reload::Refused);
    metrics.setup_error(SetupError::IptablesLock);
    let coredns = metrics.coredns().unwrap();
    coredns.configured("00ff".to_owned());
    coredns.probed(Some(Duration::from_millis(2)));
    coredns.probed(Some(Duration::from_secs(9)));
    coredns.probed(None);
    let page = metrics.gather();
    assert_has(
        &page,
        &[
            "coredns_panics_total 0",
            "coredns_reload_failed_total 1",
            r#"coredns_reload_version_info{hash="sha512",value="00ff"} 1"#,
            r#"coredns_health_request_duration_seconds_bucket{le="0.00025"} 0"#,
            r#"coredns_health_request_duration_seconds_bucket{le="0.0025"} 1"#,
            r#"coredns_health_request_duration_seconds_bucket{le="2.5"} 1"#,
            "coredns_health_request_duration_seconds_count 2",
            "coredns_health_request_failures_total 1",
            r#"coredns_nodecache_setup_errors_total{errortype="iptables"} 0"#,
            r#"coredns_nodecache_setup_errors_total{errortype="iptables_lock"} 1"#,
            r#"coredns_nodecache_setup_errors{errortype="iptables_lock"} 1"#,
        ],
    );
    assert!(page.contains(r#"coredns_build_info{version="0."#), "{page}");
    assert!(page.lines().any(|line| line.strip_prefix("go_goroutines ").is_some_and(|n| n != "0")), "{page}");
}
