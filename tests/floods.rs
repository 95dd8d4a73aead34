//! Row F of the behaviour table: more queries than there is room for, clients that vanish, and abuse of the ports for
//! probes and scrapers.

#![allow(clippy::unwrap_used, reason = "what a test cannot go on without")]

mod support;

use hickory_proto::op::{Message, ResponseCode};
use hickory_proto::rr::RecordType;
use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream, UdpSocket};
use std::sync::{Mutex, mpsc};
use support::client::{
    GOOD, RUDE, edns_query, extended_error, is_closed, receive, receive_udp, send, tcp_from, udp_from,
};
use support::server::{Server, forward};
use support::upstream::{Reply, Upstream};
use support::{DEADLINE, addresses, nxdomain, proc, query};

const A: RecordType = RecordType::A;
/// Extended errors (RFC 8914).
const PROHIBITED: u16 = 18;

/// An upstream that says nothing to names that begin with `silent`, and a server with `limits`.
fn start(limits: &str) -> (Upstream, Server) {
    let upstream = Upstream::start(|q| match q.name() {
        name if name.starts_with("silent") => Reply::Silence,
        name if name.starts_with("nx") => nxdomain(&q.message(), "example.", 300).into(),
        _ => addresses(&q.message(), 1, 300).into(),
    });
    let server = Server::start(&format!("{}limits: {{ {limits} }}\n", forward(upstream.address())));
    (upstream, server)
}

/// Asks for `count` names that get no answer from the upstream, and returns the answers to those that were not let in.
fn flood(socket: &UdpSocket, tag: &str, count: usize, refused: usize) -> Vec<Message> {
    for n in 0..count {
        socket.send(&edns_query(&format!("silent{n}.{tag}.example.")).to_vec().unwrap()).unwrap();
    }
    (0..refused).map(|_| receive_udp(socket)).collect()
}

fn all_refused(answers: &[Message]) {
    for answer in answers {
        assert_eq!(answer.metadata.response_code, ResponseCode::Refused);
        assert_eq!(extended_error(answer), Some(PROHIBITED));
    }
}

#[test]
fn f02_a_client_has_its_share_of_misses_and_no_more() {
    let (_upstream, server) = start("inFlightPerClient: 20");
    let hit = query("hit.example.", A);
    server.udp(&hit);
    let rude = udp_from(RUDE, server.dns);
    all_refused(&flood(&rude, "udp", 100, 80));
    assert_eq!(server.metric("nodens_dropped_total", "in_flight_per_client"), 80.0);
    let told = "a client asks for more at once than it may";
    let log = server.log();
    assert!(log.lines().any(|line| line.contains(told) && line.contains(&RUDE.to_string())), "{log}");
    assert_eq!(server.metric("nodens_responses_total", "refused"), 80.0);

    // Over TCP it has no more.
    let mut stream = tcp_from(RUDE, server.dns);
    send(&mut stream, &edns_query("other.example."));
    all_refused(&[receive(&mut stream)]);
    // Hits cost nothing and are not refused; other clients get their misses.
    send(&mut stream, &hit);
    assert_eq!(receive(&mut stream).answers.len(), 1);
    let good = udp_from(GOOD, server.dns);
    good.send(&query("miss.example.", A).to_vec().unwrap()).unwrap();
    assert_eq!(receive_udp(&good).answers.len(), 1);
    // In the end the upstream's silence is told to those who were let in.
    for _ in 0..20 {
        assert_eq!(receive_udp(&rude).metadata.response_code, ResponseCode::ServFail);
    }
    send(&mut stream, &edns_query("other.example."));
    assert_eq!(receive(&mut stream).answers.len(), 1, "its share is free again");
}

#[test]
fn f02_d10_connections_full_of_unanswered_names_delay_nobody_else() {
    // By default a client may wait for more names than the upstream's connections carry.
    let (upstream, server) = start("inFlight: 1000");
    let rude = udp_from(RUDE, server.dns);
    all_refused(&flood(&rude, "stuck", 300, 0));
    upstream.wait_for(300);
    let good = udp_from(GOOD, server.dns);
    for n in 0..10 {
        good.send(&query(&format!("miss{n}.example."), A).to_vec().unwrap()).unwrap();
        assert_eq!(receive_udp(&good).answers.len(), 1);
    }
    assert!(server.metric("nodens_upstream_overflows_total", "") >= 10.0);
    let late: Vec<_> = upstream.received().into_iter().filter(|q| q.name().starts_with("miss")).collect();
    // A busy machine may be so slow to answer one that it is asked again.
    let names: BTreeSet<String> = late.iter().map(|q| q.name()).collect();
    assert!(names.len() == 10 && late.iter().all(|q| q.is_udp()), "over UDP: {names:?}");
}

#[test]
fn f03_beyond_the_limit_misses_are_refused_and_hits_are_not() {
    let (_upstream, mut server) = start("inFlight: 50, inFlightPerClient: 30");
    let hit = query("hit.example.", A);
    server.udp(&hit);
    // An answered query leaves its place a moment after its client has the answer.
    server.until("the house is empty", |server| server.metric("nodens_in_flight", "") == 0.0);
    let clients = [1, 2].map(|n| udp_from(Ipv4Addr::new(127, 0, 8, n), server.dns));
    for (n, client) in clients.iter().enumerate() {
        all_refused(&flood(client, &format!("c{n}"), 25, 0));
    }
    server.until("the house is full", |server| server.metric("nodens_in_flight", "") == 50.0);
    all_refused(&flood(&udp_from(RUDE, server.dns), "c2", 40, 40));
    all_refused(&[server.tcp(&edns_query("other.example."))]);
    assert_eq!(server.metric("nodens_dropped_total", "\"in_flight\""), 41.0);
    for _ in 0..20 {
        assert_eq!(server.udp(&hit).answers.len(), 1);
        assert_eq!(server.tcp(&hit).answers.len(), 1);
    }
    assert_eq!(server.metric("nodens_in_flight", ""), 50.0, "all this while");
    clients.iter().for_each(|client| {
        (0..25).for_each(|_| assert_eq!(receive_udp(client).metadata.response_code, ResponseCode::ServFail));
    });
    assert_eq!(server.udp(&query("miss.example.", A)).answers.len(), 1);
    server.until("the house is empty again", |server| server.metric("nodens_in_flight", "") == 0.0);
}

#[test]
fn f10_a_client_that_vanishes_stops_nobody() {
    let (release, held) = mpsc::channel::<()>();
    let held = Mutex::new(held);
    let upstream = Upstream::start(move |q| {
        if q.name().starts_with("slow") {
            held.lock().unwrap().recv().unwrap();
        }
        addresses(&q.message(), 1, 300).into()
    });
    let mut server = Server::forwarding_to(upstream.address());
    let hit = query("hit.example.", A).to_vec().unwrap();
    server.udp(&query("hit.example.", A));
    for n in 0..50 {
        let name = format!("slow{n}.example.");
        let socket = udp_from(RUDE, server.dns);
        socket.send(&query(&name, A).to_vec().unwrap()).unwrap();
        socket.send(&hit).unwrap();
        upstream.wait_for_name(&name);
        // Both answers meet a closed port: the kernel is told so by ICMP.
        drop(socket);
        release.send(()).unwrap();
    }
    server.until("all is answered", |server| server.metric("nodens_in_flight", "") == 0.0);
    // As many clients as it takes for the kernel to have picked every worker.
    for _ in 0..50 {
        assert_eq!(server.udp(&query("hit.example.", A)).answers.len(), 1);
    }
    assert_eq!(server.udp(&query("slow0.example.", A)).answers.len(), 1, "kept all the same");
    assert_eq!(upstream.asked_for("slow0.example.").len(), 1);
}

#[test]
fn f15_whatever_names_are_asked_the_metrics_do_not_grow() {
    let (_upstream, server) = start("inFlight: 10000");
    let ask = |round: u32| {
        for n in 0..300 {
            let name = format!("{}{n}-secret-{round}.x{round}.example.", if n % 2 == 0 { "nx" } else { "a" });
            // Known types, unknown types and such as are refused.
            server.udp(&query(&name, RecordType::from((n % 300) as u16 + 1)));
        }
        server.tcp(&query(&format!("tcp-secret-{round}.example."), A));
        server.get(server.metrics, "/metrics").unwrap()
    };
    let (first, second) = (ask(1), ask(2));
    let series = |page: &str| page.lines().filter(|line| !line.starts_with('#')).count();
    assert_eq!(series(&first), series(&second));
    assert!(!second.contains("secret") && !second.contains(".example"), "a name is a label");
    let client = format!("\"{}\"", GOOD);
    assert!(!second.contains(&client), "a client is a label");
}

/// DNS, scrapes and probes go on.
fn all_go_on(server: &Server) {
    assert_eq!(server.udp(&query("good.example.", A)).answers.len(), 1);
    assert_eq!(server.tcp(&query("good.example.", A)).answers.len(), 1);
    assert!(server.get(server.metrics, "/metrics").unwrap().contains("nodens_build_info"));
    assert!(server.get(server.health, "/health").unwrap().contains("200 OK"));
}

#[test]
fn f14_a_header_that_does_not_end_is_cut_short() {
    let (_upstream, server) = start("inFlight: 10000");
    all_go_on(&server);
    let before = proc::peak_memory(server.pid());
    for address in [server.metrics, server.health] {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.set_write_timeout(Some(DEADLINE)).unwrap();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        let line = format!("GET /metrics HTTP/1.1\r\nx: {}\r\n", "y".repeat(4000));
        // 40 MB, if somebody took them.
        let taken = (0..10_000).take_while(|_| stream.write_all(line.as_bytes()).is_ok()).count();
        assert!(taken < 10_000);
        let mut answer = Vec::new();
        // An error, or the end by a reset.
        if stream.read_to_end(&mut answer).is_ok() && !answer.is_empty() {
            assert!(answer.starts_with(b"HTTP/1.1 4"), "{}", String::from_utf8_lossy(&answer));
        }
    }
    assert!(proc::peak_memory(server.pid()) - before < 8 << 20);
    all_go_on(&server);
}

#[test]
fn f14_a_header_that_trickles_and_a_silent_client_are_closed() {
    let (_upstream, mut server) = start("inFlight: 10000");
    let connect = |address: &SocketAddr| TcpStream::connect(address).unwrap();
    let mut slow: Vec<TcpStream> = [server.metrics, server.health].iter().map(connect).collect();
    let silent: Vec<TcpStream> = [server.metrics, server.health].iter().map(connect).collect();
    let header = format!("GET /metrics HTTP/1.1\r\nx: {}", "y".repeat(10_000));
    let mut octets = header.as_bytes().iter();
    server.until("they are closed", |_| {
        let octet = *octets.next().unwrap();
        slow.iter_mut().for_each(|stream| drop(stream.write_all(&[octet])));
        slow.iter().chain(&silent).all(is_closed)
    });
    all_go_on(&server);
}

#[test]
fn f14_hundreds_of_http_connections_keep_nobody_out() {
    let (_upstream, server) = start("inFlight: 10000");
    let mut held = Vec::new();
    for _ in 0..5 {
        for address in [server.metrics, server.health] {
            held.extend((0..50).map(|_| TcpStream::connect(address).unwrap()));
        }
        all_go_on(&server);
    }
    assert!(proc::open_files(server.pid()) < 250, "two listeners hold 64 each");
    assert!(server.metric("nodens_http_connections_closed_total", "") > 0.0);
}
