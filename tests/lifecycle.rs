//! Rows G1 and H8 of the behaviour table: readiness, signals, and a drain that owes nobody an answer.

#![allow(clippy::unwrap_used, reason = "what a test cannot go on without")]

mod support;

use hickory_proto::op::ResponseCode;
use hickory_proto::rr::RecordType;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};
use support::client::{GOOD, receive, receive_udp, send, tcp_from, udp_from};
use support::server::Server;
use support::upstream::Upstream;
use support::{addresses, framed, free_port, query, read_framed, reply};

const A: RecordType = RecordType::A;

fn upstream() -> Upstream {
    Upstream::start(|q| addresses(&q.message(), 1, 300).into())
}

/// Stops the process, has `ask` send what shall have arrived when SIGTERM comes, and goes on.
fn terminated_with(server: &Server, ask: impl FnOnce()) {
    server.signal("STOP");
    ask();
    server.signal("TERM");
    server.signal("CONT");
}

#[test]
fn g01_datagrams_that_have_arrived_are_answered() {
    let upstream = upstream();
    let server = Server::forwarding_to(upstream.address());
    server.udp(&query("hit.example.", A));
    let sockets: Vec<UdpSocket> = (0..20).map(|_| udp_from(GOOD, server.dns)).collect();
    terminated_with(&server, || {
        for (n, socket) in sockets.iter().enumerate() {
            for m in 0..10 {
                let name = if m % 2 == 0 { "hit.example.".to_owned() } else { format!("n{n}-{m}.example.") };
                socket.send(&query(&name, A).to_vec().unwrap()).unwrap();
            }
        }
    });
    for socket in &sockets {
        (0..10).for_each(|_| assert_eq!(receive_udp(socket).answers.len(), 1));
    }
    assert_eq!(server.wait().code(), Some(0));
}

#[test]
fn g01_queries_on_tcp_that_have_arrived_are_answered() {
    let upstream = upstream();
    let server = Server::forwarding_to(upstream.address());
    let mut old = tcp_from(GOOD, server.dns);
    send(&mut old, &query("hit.example.", A));
    receive(&mut old);
    let mut new = None;
    terminated_with(&server, || {
        let mut stream = tcp_from(GOOD, server.dns);
        for stream in [&mut old, &mut stream] {
            let packets: Vec<u8> = (0..400)
                .map(|n| if n % 2 == 0 { "hit.example.".to_owned() } else { format!("n{n}.example.") })
                .flat_map(|name| framed(&query(&name, A).to_vec().unwrap()))
                .collect();
            stream.write_all(&packets).unwrap();
        }
        new = Some(stream);
    });
    for mut stream in [old, new.unwrap()] {
        (0..400).for_each(|_| assert_eq!(receive(&mut stream).answers.len(), 1));
        assert_eq!(stream.read(&mut [0]).unwrap(), 0, "an orderly end");
    }
    assert_eq!(server.wait().code(), Some(0));
}

#[test]
fn g01_answers_under_way_are_delivered() {
    let (upstream, release) = Upstream::holding_slow();
    let mut server = Server::forwarding_to(upstream.address());
    let udp = udp_from(GOOD, server.dns);
    udp.send(&query("slow.udp.", A).to_vec().unwrap()).unwrap();
    let mut tcp = tcp_from(GOOD, server.dns);
    send(&mut tcp, &query("slow.tcp.", A));
    let idle = tcp_from(GOOD, server.dns);
    upstream.wait_for_name("slow.udp.");
    upstream.wait_for_name("slow.tcp.");
    server.signal("TERM");
    server.until_logged("stopping");
    (0..2).for_each(|_| release.send(()).unwrap());
    assert_eq!(receive_udp(&udp).answers.len(), 1);
    assert_eq!(receive(&mut tcp).answers.len(), 1);
    let (begin, status) = (Instant::now(), server.wait());
    assert_eq!(status.code(), Some(0));
    assert!(begin.elapsed() < Duration::from_secs(4), "it waits for nothing else");
    drop(idle);
}

#[test]
fn g01_a_drain_ends_within_five_seconds_whatever_clients_do() {
    let (upstream, _release) = Upstream::holding_slow();
    let mut server = Server::forwarding_to(upstream.address());
    let udp = udp_from(GOOD, server.dns);
    udp.send(&query("slow.udp.", A).to_vec().unwrap()).unwrap();
    upstream.wait_for_name("slow.udp.");
    let mut busy = tcp_from(GOOD, server.dns);
    let begin = Instant::now();
    server.signal("TERM");
    server.until_logged("stopping");
    // A client that goes on asking as long as it is answered.
    let packet = framed(&query("hit.example.", A).to_vec().unwrap());
    while busy.write_all(&packet).is_ok() && read_framed(&mut busy).is_some() {}
    assert!(begin.elapsed() < Duration::from_secs(4), "no new queries are taken after {:?}", begin.elapsed());
    assert_eq!(server.wait().code(), Some(0));
    assert!(begin.elapsed() < Duration::from_secs(8), "{:?}", begin.elapsed());
}

#[test]
fn a_second_signal_ends_the_drain() {
    for second in ["TERM", "INT"] {
        let (upstream, _release) = Upstream::holding_slow();
        let mut server = Server::forwarding_to(upstream.address());
        let udp = udp_from(GOOD, server.dns);
        udp.send(&query("slow.udp.", A).to_vec().unwrap()).unwrap();
        upstream.wait_for_name("slow.udp.");
        let begin = Instant::now();
        server.signal("TERM");
        server.until_logged("stopping");
        server.signal(second);
        assert_eq!(server.wait().code(), Some(0));
        assert!(begin.elapsed() < Duration::from_secs(3), "{:?}", begin.elapsed());
    }
}

#[test]
fn h08_ready_when_the_upstream_was_reached_and_not_before() {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()));
    let mut server = Server::forwarding_to(address);
    let ready = server.get(server.health, "/ready").unwrap();
    assert!(ready.starts_with("HTTP/1.1 503") && ready.contains("no upstream has answered yet"), "{ready}");
    let begin = Instant::now();
    let answer = server.udp(&query("a.example.", A));
    assert_eq!(answer.metadata.response_code, ResponseCode::ServFail);
    assert!(begin.elapsed() < Duration::from_secs(2), "it fails fast");
    assert!(!server.is_ready());
    let upstream = Upstream::start_at(address, |q| match q.name().as_str() {
        // Any answer will do.
        "." => reply(&q.message(), ResponseCode::Refused).into(),
        _ => addresses(&q.message(), 1, 300).into(),
    });
    let upstream = upstream.unwrap();
    let begin = Instant::now();
    server.until("it is ready", |server| server.is_ready());
    assert!(begin.elapsed() < Duration::from_secs(5), "{:?}", begin.elapsed());
    server.until("it answers", |server| server.udp(&query("a.example.", A)).answers.len() == 1);
    drop(upstream);
    assert!(server.is_ready(), "reached once is enough: what is in the cache is worth serving");
}

#[test]
fn readiness_falls_first_when_it_stops() {
    let (upstream, release) = Upstream::holding_slow();
    let mut server = Server::forwarding_to(upstream.address());
    server.until("it is ready", |server| server.is_ready());
    let udp = udp_from(GOOD, server.dns);
    udp.send(&query("slow.udp.", A).to_vec().unwrap()).unwrap();
    upstream.wait_for_name("slow.udp.");
    server.signal("TERM");
    server.until_logged("stopping");
    server.until("it is not ready", |server| server.get(server.health, "/ready").unwrap().contains("FAILED lifecycle"));
    assert!(server.get(server.health, "/health").unwrap().contains("200 OK"), "alive it is");
    release.send(()).unwrap();
    assert_eq!(server.wait().code(), Some(0));
}
