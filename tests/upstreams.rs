//! Row D of the behaviour table through the whole daemon: servers that are gone, silent or slow, and which of several is
//! asked.

#![allow(clippy::unwrap_used, reason = "what a test cannot go on without")]

mod support;

use hickory_proto::op::ResponseCode;
use hickory_proto::rr::RecordType;
use std::collections::HashMap;
use std::io::ErrorKind;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::Mutex;
use std::time::{Duration, Instant};
use support::client::{GOOD, edns_query, extended_error, receive, receive_udp, send, tcp_from, udp_from};
use support::process::skip;
use support::server::{Server, forward_to};
use support::upstream::{Received, Reply, Transport, Upstream};
use support::{addresses, free_port, query};

const A: RecordType = RecordType::A;
/// Extended errors (RFC 8914).
const CACHED_ERROR: u16 = 13;
const NO_REACHABLE_AUTHORITY: u16 = 22;
const NETWORK_ERROR: u16 = 23;

fn good(q: &Received) -> Reply {
    addresses(&q.message(), 1, 300).into()
}

/// A loopback address where nobody listens.
fn closed() -> SocketAddr {
    (Ipv4Addr::LOCALHOST, free_port()).into()
}

/// Asks for a name; how long the answer, which must be a good one, took.
fn answered(server: &Server, name: &str) -> Duration {
    let begin = Instant::now();
    let answer = server.udp(&edns_query(name));
    assert_eq!(answer.answers.len(), 1, "{name}: {:?}, {:?}", answer.metadata, extended_error(&answer));
    begin.elapsed()
}

#[test]
fn d01_a_closed_port_is_passed_over_at_once() {
    for protocol in ["tcp", "udp", "auto"] {
        let alive = Upstream::start(good);
        // Were it a matter of timers, it would take two seconds.
        let options = format!("protocol: {protocol}, policy: sequential, timeout: 4s");
        let server = Server::start(&forward_to(&[closed(), alive.address()], &options));
        for n in 0..5 {
            let took = answered(&server, &format!("n{n}.example."));
            assert!(took < Duration::from_millis(900), "{protocol}: {took:?}");
        }
    }
}

#[test]
fn d02_a_silent_server_costs_less_than_a_clients_patience() {
    let (silent, alive) = (Upstream::start(|_| Reply::Silence), Upstream::start(good));
    let options = "policy: sequential, timeout: 2s";
    let server = Server::start(&forward_to(&[silent.address(), alive.address()], options));
    let took = answered(&server, "first.example.");
    assert!(took < Duration::from_secs(3), "{took:?}");
    let took = answered(&server, "second.example.");
    assert!(took < Duration::from_millis(900), "it is known by now: {took:?}");
}

#[test]
fn d04_when_all_are_gone_clients_are_told_in_time_and_the_failure_is_remembered() {
    let silent = [(); 2].map(|()| Upstream::start(|_| Reply::Silence));
    let cases = [
        ([closed(), closed()], Duration::from_secs(2), NETWORK_ERROR),
        ([silent[0].address(), silent[1].address()], Duration::from_secs(5), NO_REACHABLE_AUTHORITY),
    ];
    for (servers, patience, error) in cases {
        let server = Server::start(&forward_to(&servers, "timeout: 2s"));
        let asked = edns_query("dead.example.");
        let begin = Instant::now();
        let answer = server.udp(&asked);
        assert!(begin.elapsed() < patience, "{:?}", begin.elapsed());
        assert_eq!(answer.metadata.response_code, ResponseCode::ServFail);
        assert_eq!(extended_error(&answer), Some(error));
        let times = || silent.iter().map(|s| s.asked_for("dead.example.").len()).sum::<usize>();
        let before = times();
        for answer in [server.udp(&asked), server.tcp(&asked)] {
            assert_eq!(answer.metadata.response_code, ResponseCode::ServFail);
            assert_eq!(extended_error(&answer), Some(CACHED_ERROR));
        }
        assert_eq!(times(), before, "nobody is asked again so soon");
    }
}

#[test]
fn d08_a_connection_closed_as_we_write_is_no_error() {
    let used = Mutex::new(HashMap::new());
    let upstream = Upstream::start(move |q| {
        let Transport::Tcp { connection } = q.transport else { return Reply::Silence };
        let mut used = used.lock().unwrap();
        let used = used.entry(connection).or_insert(0);
        *used += 1;
        // The second query on a connection meets its end.
        if *used == 1 { good(q) } else { Reply::Close }
    });
    let server = Server::start(&forward_to(&[upstream.address()], "maxConnections: 4"));
    for n in 0..50 {
        answered(&server, &format!("n{n}.example."));
    }
    let asked_twice = (0..50).filter(|n| upstream.asked_for(&format!("n{n}.example.")).len() == 2).count();
    assert!(asked_twice >= 20, "{asked_twice} times");
    assert_eq!(server.metric("nodens_responses_total", "SERVFAIL"), 0.0);
}

#[test]
fn d09_an_upstream_that_closes_after_each_reply_works_without_a_storm() {
    let upstream = Upstream::start(|q| Reply::Last(addresses(&q.message(), 1, 300).to_vec().unwrap()));
    let server = Server::start(&forward_to(&[upstream.address()], "maxConnections: 8"));
    let socket = udp_from(GOOD, server.dns);
    for round in 0..20 {
        for n in 0..10 {
            socket.send(&query(&format!("n{round}-{n}.example."), A).to_vec().unwrap()).unwrap();
        }
        (0..10).for_each(|_| assert_eq!(receive_udp(&socket).answers.len(), 1));
    }
    // One each, and a few that were opened for somebody who was served otherwise meanwhile.
    assert!(upstream.connections() <= 300, "{} connections for 200 queries", upstream.connections());
}

#[test]
fn d12_replies_out_of_order_find_their_queries() {
    let (upstream, release) = Upstream::holding_slow();
    let server = Server::start(&forward_to(&[upstream.address()], "maxConnections: 1, timeout: 4s"));
    let socket = udp_from(GOOD, server.dns);
    let slow = query("slow.example.", A);
    socket.send(&slow.to_vec().unwrap()).unwrap();
    let first = upstream.wait_for_name("slow.example.");
    answered(&server, "quick.example.");
    assert_eq!(upstream.asked_for("quick.example.")[0].transport, first.transport, "one connection carries both");
    release.send(()).unwrap();
    let answer = receive_udp(&socket);
    assert_eq!((answer.metadata.id, answer.answers.len()), (slow.metadata.id, 1));
}

#[test]
fn d13_a_reply_that_trickles_is_given_up_in_time() {
    let trickle = |q: &Received| match q.name().as_str() {
        "drop.example." => {
            Reply::Trickle(addresses(&q.message(), 1, 300).to_vec().unwrap(), Duration::from_millis(500))
        }
        _ => good(q),
    };
    let (slow, alive) = (Upstream::start(trickle), Upstream::start(good));
    let server = Server::start(&forward_to(&[slow.address()], ""));
    let socket = udp_from(GOOD, server.dns);
    let begin = Instant::now();
    socket.send(&edns_query("drop.example.").to_vec().unwrap()).unwrap();
    slow.wait_for_name("drop.example.");
    let took = answered(&server, "other.example.");
    assert!(took < Duration::from_millis(900), "{took:?}");
    let answer = receive_udp(&socket);
    assert!(begin.elapsed() < Duration::from_secs(5), "{:?}", begin.elapsed());
    assert_eq!(answer.metadata.response_code, ResponseCode::ServFail);
    assert!(extended_error(&answer).is_some());

    let servers = [slow.address(), alive.address()];
    let server = Server::start(&forward_to(&servers, "policy: sequential"));
    assert!(answered(&server, "drop.example.") < Duration::from_secs(3));
}

#[test]
fn d16_one_slow_name_delays_no_other() {
    let (upstream, release) = Upstream::holding_slow();
    let server = Server::start(&forward_to(&[upstream.address()], "maxConnections: 8, timeout: 4s"));
    let mut stream = tcp_from(GOOD, server.dns);
    send(&mut stream, &query("slow.example.", A));
    let slow = upstream.wait_for_name("slow.example.");
    for n in 0..20 {
        let name = format!("n{n}.example.");
        let took = answered(&server, &name);
        assert!(took < Duration::from_millis(900), "{took:?}");
        // CoreDNS would have answered it after the slow one.
        assert_ne!(upstream.asked_for(&name)[0].transport, slow.transport);
    }
    release.send(()).unwrap();
    assert_eq!(receive(&mut stream).answers.len(), 1);
}

#[test]
fn d25_a_thousand_askers_of_one_name_make_one_query() {
    let (upstream, release) = Upstream::holding_slow();
    let mut server = Server::start(&forward_to(&[upstream.address()], "timeout: 4s"));
    let asked = query("slow.example.", A).to_vec().unwrap();
    // Twenty pods; in lots that any socket's buffer holds.
    let clients: Vec<UdpSocket> = (1..=20).map(|n| udp_from(Ipv4Addr::new(127, 0, 9, n), server.dns)).collect();
    for (n, client) in clients.iter().enumerate() {
        (0..50).for_each(|_| assert_eq!(client.send(&asked).unwrap(), asked.len()));
        server.until("they wait", |server| server.metric("nodens_in_flight", "") == 50.0 * (n + 1) as f64);
    }
    release.send(()).unwrap();
    for client in &clients {
        (0..50).for_each(|_| assert_eq!(receive_udp(client).answers.len(), 1));
    }
    assert_eq!(upstream.asked_for("slow.example.").len(), 1);
    assert_eq!(server.metric("nodens_coalesced_total", ""), 999.0);
    answered(&server, "slow.example.");
    assert_eq!(upstream.asked_for("slow.example.").len(), 1, "and a hit then");
}

/// An upstream on port 53 of a loopback address of its own; `None`, with a word, where that takes more privilege.
fn on_port_53() -> Option<Upstream> {
    loop {
        let [a, b]: [u8; 2] = [rand::random_range(1..250), rand::random_range(1..250)];
        match Upstream::start_at((Ipv4Addr::new(127, 53, a, b), 53).into(), good) {
            Ok(upstream) => return Some(upstream),
            Err(error) if error.kind() == ErrorKind::PermissionDenied => {
                skip(&format!("a resolv.conf names no ports, and port 53 cannot be had: {error}"));
                return None;
            }
            // Somebody else has drawn the same.
            Err(_) => {}
        }
    }
}

#[test]
fn d20_a_resolv_conf_is_followed() {
    let (Some(before), Some(after)) = (on_port_53(), on_port_53()) else { return };
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("resolv.conf");
    let write = |text: String| {
        let new = directory.path().join("new");
        std::fs::write(&new, text).unwrap();
        std::fs::rename(new, &path).unwrap();
    };
    write(format!("# by hand\nnameserver {}\noptions ndots:5\n", before.address().ip()));
    let zones = format!("zones: [{{ match: [.], forward: {{ to: [\"{}\"] }} }}]\n", path.display());
    let mut server = Server::start(&zones);
    answered(&server, "before.example.");
    assert_eq!(before.asked_for("before.example.").len(), 1);
    // Nothing to go by: what was known goes on being used.
    write("# being written\n".to_owned());
    answered(&server, "between.example.");
    write(format!("nameserver {}\nnameserver nonsense\n", after.address().ip()));
    let begin = Instant::now();
    let mut names = (0..).map(|n| format!("n{n}.example."));
    server.until("the new one is asked", |server| {
        let name = names.next().unwrap();
        answered(server, &name);
        !after.asked_for(&name).is_empty()
    });
    assert!(begin.elapsed() < Duration::from_secs(5), "{:?}", begin.elapsed());
    let total = before.received().len();
    answered(&server, "after.example.");
    assert_eq!(before.received().len(), total, "the old one is not");
    assert_eq!(server.metric("nodens_config_reloads_total", "loaded"), 0.0, "the configuration is the same");
}

/// Asks for `count` names one after the other; says how many of them each of two upstreams was asked for.
fn shares(policy: &str, count: usize) -> [usize; 2] {
    let upstreams = [(); 2].map(|()| Upstream::start(good));
    let servers = upstreams.each_ref().map(Upstream::address);
    let server = Server::start(&forward_to(&servers, &format!("policy: {policy}")));
    for n in 0..count {
        answered(&server, &format!("n{n}.example."));
    }
    upstreams.map(|upstream| upstream.received().iter().filter(|q| q.name() != ".").count())
}

#[test]
fn policies_choose_as_they_are_called() {
    assert_eq!(shares("sequential", 20), [20, 0]);
    // A query for the root, by which readiness is found out, takes a turn, too.
    assert!(shares("round-robin", 40).iter().all(|n| (19..=21).contains(n)));
    assert!(shares("random", 64).iter().all(|n| (8..=56).contains(n)));
    assert!(shares("least-loaded", 40).iter().all(|n| (10..=30).contains(n)), "equals take turns");
}

#[test]
fn the_least_loaded_server_is_asked() {
    let (first, release_first) = Upstream::holding_slow();
    let (second, release_second) = Upstream::holding_slow();
    let options = "policy: least-loaded, timeout: 4500ms";
    let server = Server::start(&forward_to(&[first.address(), second.address()], options));
    let socket = udp_from(GOOD, server.dns);
    let asked = query("slow.example.", A);
    socket.send(&asked.to_vec().unwrap()).unwrap();
    let other = loop {
        match [&first, &second].map(|upstream| upstream.asked_for("slow.example.").len()) {
            [0, 0] => std::thread::yield_now(),
            [0, _] => break &first,
            _ => break &second,
        }
    };
    for n in 0..10 {
        let name = format!("n{n}.example.");
        answered(&server, &name);
        let asked = other.asked_for(&name).len();
        // On a slow machine the question that hangs goes to the other one as well in the end, and both are loaded alike.
        if !other.asked_for("slow.example.").is_empty() {
            break;
        }
        assert_eq!(asked, 1);
    }
    release_first.send(()).unwrap();
    release_second.send(()).unwrap();
    assert_eq!(receive_udp(&socket).answers.len(), 1);
}
