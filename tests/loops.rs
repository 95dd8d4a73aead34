//! Row D23 of the behaviour table through the whole daemon: upstreams that forward back to it, by whatever way, are found,
//! named and passed over, and cost a bounded number of queries.

#![allow(clippy::unwrap_used, reason = "what a test cannot go on without")]

mod support;

use hickory_proto::op::ResponseCode;
use hickory_proto::rr::RecordType;
use hickory_proto::rr::rdata::opt::{EdnsCode, EdnsOption};
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;
use support::client::{RUDE, edns_query, receive_udp, udp_from};
use support::netns::{isolated, run};
use support::process::{NODENS, stdout};
use support::server::{Server, forward_to};
use support::upstream::{Received, Reply, Upstream};
use support::{addresses, free_port, query};

/// Names asked for in a test.
const NAMES: usize = 100;
/// How many queries of one client may wait and all be answered, however late the answers are (row F12).
const TOGETHER: usize = 32;

fn good(q: &Received) -> Reply {
    addresses(&q.message(), 1, 300).into()
}

/// What a forwarder does that passes every query on to `target`, as it is, over UDP.
fn forwards_to(target: SocketAddr) -> impl Fn(&Received) -> Reply + Send + Sync + 'static {
    move |q| {
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        let mut buffer = vec![0; 65_535];
        // No server yet, or none any more.
        let answer = socket.connect(target).and_then(|()| socket.send(&q.bytes)).and_then(|_| socket.recv(&mut buffer));
        answer.map_or(Reply::Silence, |length| Reply::Bytes(vec![buffer[..length].to_vec()]))
    }
}

/// Loopback addresses for DNS, metrics and health.
fn places() -> [SocketAddr; 3] {
    [(); 3].map(|()| SocketAddr::from((Ipv4Addr::LOCALHOST, free_port())))
}

/// Starts a server at `places`, and waits until it is alive.
fn start_at(places: [SocketAddr; 3], config: &str) -> Server {
    let mut server = Server::launch_at(places, config, &|_| {});
    server.until("it is alive", |server| server.get(server.health, "/health").is_some_and(|r| r.contains("200 OK")));
    server
}

fn is_looping(server: &Server, upstream: SocketAddr) -> bool {
    server.metric("nodens_upstream_looping", &format!("\"{upstream}\"")) == 1.0
}

/// Asks for [`NAMES`] names that begin with `label`, none before, many at once; how many got an address. The client is
/// not the one that forwarders on this host are, whose queries wait as well.
fn answered(server: &Server, label: &str) -> usize {
    let socket = udp_from(RUDE, server.dns);
    let names: Vec<String> = (0..NAMES).map(|n| format!("{label}{n}.example.")).collect();
    let mut answered = 0;
    for names in names.chunks(TOGETHER) {
        for name in names {
            socket.send(&edns_query(name).to_vec().unwrap()).unwrap();
        }
        answered += names.iter().filter(|_| !receive_udp(&socket).answers.is_empty()).count();
    }
    answered
}

/// How many queries `server` has sent to `upstream`.
fn sent(server: &Server, upstream: SocketAddr) -> f64 {
    server.metric("nodens_upstream_queries_total", &format!("\"{upstream}\""))
}

/// Asks for a name that has to fail because of a loop.
fn fails_with_the_reason(server: &Server) {
    let answer = server.udp(&edns_query("reason.example."));
    assert_eq!(answer.metadata.response_code, ResponseCode::ServFail);
    let edns = answer.edns.unwrap();
    let text = match edns.option(EdnsCode::Unknown(15)) {
        Some(EdnsOption::Unknown(_, error)) => String::from_utf8_lossy(&error[2..]),
        _ => "nothing".into(),
    };
    assert!(text.contains("forwarding loop"), "{text}");
}

#[test]
fn d23_a_forwarder_that_forwards_back_is_named_and_costs_a_few_queries() {
    for protocol in ["tcp", "udp"] {
        let places = places();
        let forwarder = Upstream::start(forwards_to(places[0]));
        let address = forwarder.address();
        let mut server = start_at(places, &forward_to(&[address], &format!("protocol: {protocol}, timeout: 500ms")));
        // Perhaps before the loop is found, perhaps after.
        assert_eq!(answered(&server, "early"), 0);
        server.until("the loop is found", |server| is_looping(server, address));
        let line = format!(
            "queries for \\\".\\\" sent to {address} come back to nodens from 127.0.0.1: that server, or one that it asks, \
             forwards to this cache"
        );
        assert_eq!(server.log().matches(&line).count(), 1, "{line}\n{}", server.log());
        assert_eq!(server.metric("nodens_loops_detected_total", ""), 1.0);
        // Each query was sent by us once or, when that took too long, a few times more; none of them went round.
        let early = forwarder.received().iter().filter(|q| q.name().starts_with("early")).count();
        assert!(early <= 12 * NAMES, "{protocol}: {early} queries for {NAMES} names");
        assert_eq!(answered(&server, "late"), 0);
        fails_with_the_reason(&server);
        let asked = |q: &Received| q.name().starts_with("late") || q.name().starts_with("reason");
        assert!(!forwarder.received().iter().any(asked), "it is not asked any more");
        assert!(forwarder.probes().len() <= 3, "nor probed all the time: {}", forwarder.probes().len());
        server.until("it is not ready, for there is nobody to ask", |server| !server.is_ready());
    }
}

#[test]
fn d23_of_two_caches_that_ask_each_other_one_finds_out_and_ends_it() {
    let [one, two] = [(); 2].map(|()| places());
    let mut first = start_at(one, &forward_to(&[two[0]], "timeout: 500ms"));
    let mut second = start_at(two, &forward_to(&[one[0]], "timeout: 500ms"));
    // The one that does sends nothing round any more, so that the other has nothing to find.
    first.until("one finds out", |first| is_looping(first, two[0]) || is_looping(&second, one[0]));
    let before = [sent(&first, two[0]), sent(&second, one[0])];
    assert_eq!((answered(&first, "a"), answered(&second, "b")), (0, 0));
    fails_with_the_reason(if is_looping(&first, two[0]) { &first } else { &second });
    let after = [sent(&first, two[0]), sent(&second, one[0])];
    // What is asked of the other one comes to this one, and no farther.
    let more = (after[0] - before[0]).min(after[1] - before[1]);
    assert!(more <= 4.0, "{before:?}, {after:?}");
    let most = 4.0 * NAMES as f64;
    assert!(after.iter().all(|&sent| sent < most), "{after:?}");
    // Somebody mends it.
    let upstream = Upstream::start(good);
    second.rewrite(&forward_to(&[upstream.address()], ""));
    second.until("the second has a server", |server| answered(server, "c") == NAMES);
    first.rewrite(&forward_to(&[two[0]], "timeout: 600ms"));
    first.until("the first asks the second", |server| answered(server, &format!("d{}-", free_port())) == NAMES);
    assert!(!is_looping(&first, two[0]));
}

#[test]
fn d23_a_good_server_beside_the_one_that_loops_answers() {
    let places = places();
    let (forwarder, upstream) = (Upstream::start(forwards_to(places[0])), Upstream::start(good));
    let servers = [forwarder.address(), upstream.address()];
    let mut server = start_at(places, &forward_to(&servers, "policy: sequential, timeout: 500ms"));
    server.until("the loop is found", |server| is_looping(server, forwarder.address()));
    assert_eq!(answered(&server, "good"), NAMES);
    assert!(!forwarder.received().iter().any(|q| q.name().starts_with("good")), "it is not asked any more");
    assert!(!is_looping(&server, upstream.address()));
    server.until("it is ready", |server| server.is_ready());
}

#[test]
fn d20_d23_a_server_that_a_reload_brings_is_probed_at_once() {
    let places = places();
    let (forwarder, upstream) = (Upstream::start(forwards_to(places[0])), Upstream::start(good));
    let mut server = start_at(places, &forward_to(&[upstream.address()], ""));
    assert_eq!(answered(&server, "before"), NAMES);
    server.rewrite(&forward_to(&[forwarder.address(), upstream.address()], "timeout: 500ms"));
    server.until("the loop is found", |server| is_looping(server, forwarder.address()));
    assert_eq!(answered(&server, "after"), NAMES);
    server.rewrite(&forward_to(&[upstream.address()], ""));
    let gone = format!("nodens_upstream_looping{{upstream=\"{}\"}}", forwarder.address());
    server.until("it is forgotten", |server| {
        server.get(server.metrics, "/metrics").is_some_and(|page| page.contains("looping") && !page.contains(&gone))
    });
}

/// Asks until `server` answers; the tests above show that it does so then.
fn answers(server: &mut Server, label: &str) {
    let mut n = 0;
    server.until(label, |server| {
        n += 1;
        let answer = server.udp(&query(&format!("{label}{n}.example."), RecordType::A));
        answer.metadata.response_code == ResponseCode::NoError
    });
}

/// Replaces a file at once.
fn replace(path: &Path, text: &str) {
    let new = path.with_extension("new");
    std::fs::write(&new, text).unwrap();
    std::fs::rename(new, path).unwrap();
}

#[test]
fn d20_d23_a_resolv_conf_that_names_us_is_passed_over_at_the_start_and_when_it_changes() {
    isolated("d20_d23_a_resolv_conf_that_names_us_is_passed_over_at_the_start_and_when_it_changes", || {
        run("ip address add 192.0.2.53/32 dev lo");
        let upstream = Upstream::start_at(SocketAddr::from(([192, 0, 2, 53], 53)), good).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("resolv.conf");
        let config = format!("zones: [{{ match: [.], forward: {{ to: [\"{}\"] }} }}]\n", file.display());
        let [_, metrics, health] = places();
        let dns = SocketAddr::from((Ipv4Addr::LOCALHOST, 53));
        replace(&file, "nameserver 127.0.0.1\n");
        let mut server = start_at([dns, metrics, health], &config);
        server.until_logged("line 1: nameserver 127.0.0.1: nodens itself listens there");
        server.until_logged("no name server can be used");
        assert_eq!(server.udp(&edns_query("none.example.")).metadata.response_code, ResponseCode::ServFail);
        replace(&file, "nameserver 192.0.2.53\n");
        answers(&mut server, "found");
        replace(&file, "nameserver ::ffff:127.0.0.1\n");
        server.until_logged("line 1: nameserver ::ffff:127.0.0.1: nodens itself listens there");
        answers(&mut server, "known");
        // The file has been looked at several times when this is noticed.
        replace(&file, "nameserver 192.0.2.53\nnameserver 127.0.0.1\n");
        server.until_logged("line 2: nameserver 127.0.0.1: nodens itself listens there");
        let log = server.log();
        for once in ["line 1: nameserver 127.0.0.1:", "line 1: nameserver ::ffff:127.0.0.1:"] {
            assert_eq!(log.matches(once).count(), 1, "{once}\n{log}");
        }
        assert_eq!(log.matches("no name server can be used").count(), 2, "{log}");
        assert!(upstream.received().len() >= 2);
    });
}

#[test]
fn d23_a_stub_resolver_of_the_host_that_asks_us_is_found() {
    isolated("d23_a_stub_resolver_of_the_host_that_asks_us_is_found", || {
        let dns = SocketAddr::from((Ipv4Addr::LOCALHOST, 53));
        // What systemd-resolved writes into /etc/resolv.conf, where its stub listens.
        let stub = Upstream::start_at(SocketAddr::from(([127, 0, 0, 53], 53)), forwards_to(dns)).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("resolv.conf");
        replace(&file, "nameserver 127.0.0.53\noptions edns0 trust-ad\n");
        let config = format!("zones: [{{ match: [.], forward: {{ to: [\"{}\"] }} }}]\n", file.display());
        let [_, metrics, health] = places();
        let mut server = start_at([dns, metrics, health], &config);
        server.until("the loop is found", |server| is_looping(server, stub.address()));
        server.until_logged("sent to 127.0.0.53:53 come back to nodens from 127.0.0.1");
        fails_with_the_reason(&server);
    });
}

#[test]
fn d23_kube_dns_at_one_of_our_own_addresses_is_an_error_at_the_start_and_for_check() {
    const VARIABLE: &str = "KUBE_DNS_UPSTREAM_SERVICE_HOST";
    let [dns, metrics, health] = places();
    let config = format!("zones: [{{ match: [.], forward: {{ to: [\"kube-dns:{}\"] }} }}]\n", dns.port());
    let server = Server::launch_at([dns, metrics, health], &config, &|command| {
        command.env(VARIABLE, "::ffff:127.0.0.1");
    });
    let path = server.config_path();
    let check = |value: Option<&str>| {
        let mut command = Command::new(NODENS);
        command.args(["check", "--config"]).arg(&path).stdin(Stdio::null()).env_remove(VARIABLE);
        let output = command.envs(value.map(|value| (VARIABLE, value))).output().unwrap();
        (output.status.code(), stdout(&output))
    };
    let (code, text) = check(Some("127.0.0.1"));
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains("KUBE_DNS_UPSTREAM_SERVICE_HOST is 127.0.0.1, where nodens itself listens"), "{text}");
    assert_eq!(check(Some("10.96.0.11")).0, Some(0));
    assert_eq!(check(None).0, Some(0), "a file may be checked elsewhere");
    let (status, log) = server.end();
    assert_eq!(status.code(), Some(1), "{log}");
    assert!(log.contains("where nodens itself listens"), "{log}");
}
