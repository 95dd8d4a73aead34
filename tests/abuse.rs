//! Row F of the behaviour table on TCP: clients that are slow, silent, greedy, rude or gone, and what the others notice
//! of it, which is nothing.

#![allow(clippy::unwrap_used, reason = "what a test cannot go on without")]

mod support;

use hickory_proto::op::ResponseCode;
use hickory_proto::rr::RecordType;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};
use support::client::{GOOD, RUDE, is_closed, receive, reset, send, tcp_from};
use support::server::{Server, forward};
use support::upstream::Upstream;
use support::{DEADLINE, addresses, framed, proc, query};

const A: RecordType = RecordType::A;
/// Far above what any of these tests may cost a server that keeps its bounds, far below what one costs that does not.
const FEW: u64 = 24 << 20;

/// An upstream that answers `big.…` with 250 addresses and all else with one, and a server with `limits`.
fn start(limits: &str) -> (Upstream, Server) {
    let upstream =
        Upstream::start(|q| addresses(&q.message(), if q.name().starts_with("big.") { 250 } else { 1 }, 300).into());
    let server = Server::start(&format!("{}limits: {{ {limits} }}\n", forward(upstream.address())));
    (upstream, server)
}

/// Asks over UDP and over a TCP connection of its own, and expects answers.
fn serves(server: &Server) {
    let asked = query("good.example.", A);
    assert_eq!(server.udp(&asked).answers.len(), 1);
    assert_eq!(server.tcp(&asked).answers.len(), 1);
}

/// Does `each` to every connection, again and again, until `enough` of them are closed; says how long that took.
fn until_closed(open: &mut Vec<TcpStream>, enough: usize, mut each: impl FnMut(&mut TcpStream, usize)) -> Duration {
    let begin = Instant::now();
    let left = open.len() - enough;
    for round in 0.. {
        open.retain(|stream| !is_closed(stream));
        if open.len() <= left {
            break;
        }
        assert!(begin.elapsed() < DEADLINE * 2, "{} are still open", open.len());
        open.iter_mut().for_each(|stream| each(stream, round));
        // The pace at which a client trickles.
        thread::sleep(Duration::from_millis(20));
    }
    begin.elapsed()
}

/// A query of 4096 octets, of which a client that sends one every 20 ms has for over a minute.
fn trickle(stream: &mut TcpStream, round: usize) {
    // The connection may be closed at any moment.
    let _ = stream.write_all(&framed(&[0; 4096])[round..=round]);
}

#[test]
fn f05_f06_idle_and_trickling_connections_are_closed_soon_when_places_get_rare() {
    for each in [|_: &mut TcpStream, _| {}, trickle] {
        let (_upstream, server) = start("tcpConnections: 10");
        let mut open: Vec<TcpStream> = (0..9).map(|_| tcp_from(RUDE, server.dns)).collect();
        serves(&server);
        // After four the house is half empty again, and patient with the others.
        let took = until_closed(&mut open, 4, each);
        assert!(took < Duration::from_secs(8), "{took:?}");
        serves(&server);
        assert!(server.metric("nodens_dropped_total", "tcp_idle") >= 4.0);
    }
}

#[test]
fn f05_f06_idle_and_trickling_connections_are_closed_after_ten_seconds() {
    let (_upstream, server) = start("tcpConnections: 10");
    let took = thread::scope(|scope| {
        let idle = scope.spawn(|| until_closed(&mut vec![tcp_from(RUDE, server.dns)], 1, |_, _| {}));
        let trickling = scope.spawn(|| until_closed(&mut vec![tcp_from(RUDE, server.dns)], 1, trickle));
        [idle, trickling].map(|t| t.join().unwrap())
    });
    assert!(took.iter().all(|t| *t > Duration::from_secs(9)), "{took:?}");
    assert_eq!(server.metric("nodens_dropped_total", "tcp_idle"), 2.0);
}

#[test]
fn a_connection_in_use_outlives_idle_ones() {
    let (_upstream, mut server) = start("tcpConnections: 10");
    let mut used = tcp_from(GOOD, server.dns);
    // Six of ten: a second is allowed.
    let idle: Vec<TcpStream> = (0..5).map(|_| tcp_from(RUDE, server.dns)).collect();
    server.until("an idle one is closed", |_| {
        send(&mut used, &query("good.example.", A));
        assert_eq!(receive(&mut used).answers.len(), 1);
        idle.iter().any(is_closed)
    });
    send(&mut used, &query("good.example.", A));
    assert_eq!(receive(&mut used).answers.len(), 1);
}

#[test]
fn connections_beyond_the_clients_or_the_houses_limit_are_closed() {
    let (_upstream, mut server) = start("tcpConnections: 12, tcpConnectionsPerClient: 2");
    let asked = query("good.example.", A);
    let mut client: Vec<TcpStream> = (0..2).map(|_| tcp_from(RUDE, server.dns)).collect();
    for stream in &mut client {
        send(stream, &asked);
        receive(stream);
    }
    let mut third = tcp_from(RUDE, server.dns);
    assert!(matches!(third.read(&mut [0]), Ok(0) | Err(_)), "more than its share");
    assert_eq!(server.metric("nodens_dropped_total", "tcp_connections_per_client"), 1.0);
    let told = "a client has as many TCP connections as it may have";
    let log = server.log();
    assert!(log.lines().any(|line| line.contains(told) && line.contains(&RUDE.to_string())), "{log}");
    server.until("two are open", |server| server.metric("nodens_tcp_connections", "") == 2.0);
    serves(&server);
    drop(client);
    server.until("none is", |server| server.metric("nodens_tcp_connections", "") == 0.0);
    server.until("the places are free", |server| {
        let mut stream = tcp_from(RUDE, server.dns);
        stream.write_all(&framed(&asked.to_vec().unwrap())).is_ok() && support::read_framed(&mut stream).is_some()
    });

    let mut all: Vec<TcpStream> = (1..=12).map(|n| tcp_from(Ipv4Addr::new(127, 0, 7, n), server.dns)).collect();
    server.until("the house is full", |server| {
        // They stay as long as they ask; some may have come before the last places were free.
        for (n, stream) in all.iter_mut().enumerate() {
            if stream.write_all(&framed(&asked.to_vec().unwrap())).is_err() || support::read_framed(stream).is_none() {
                *stream = tcp_from(Ipv4Addr::new(127, 0, 7, n as u8 + 1), server.dns);
            }
        }
        let mut extra = tcp_from(RUDE, server.dns);
        let _ = extra.write_all(&framed(&asked.to_vec().unwrap()));
        support::read_framed(&mut extra).is_none()
    });
    assert!(server.metric("nodens_dropped_total", "\"tcp_connections\"") >= 1.0);
    assert_eq!(server.udp(&asked).answers.len(), 1, "UDP does not care");
}

#[test]
fn f07_queries_without_end_from_a_client_that_never_reads_cost_little_and_end() {
    let (_upstream, mut server) = start("tcpConnections: 2");
    let big = query("big.example.", A);
    assert_eq!(server.tcp(&big).answers.len(), 250);
    let before = proc::peak_memory(server.pid());
    let mut stream = tcp_from(RUDE, server.dns);
    stream.set_write_timeout(Some(DEADLINE)).unwrap();
    // 4 kB come back for each. The kernel holds some hundred thousand queries before it lets the client wait.
    let packet = framed(&big.to_vec().unwrap()).repeat(1000);
    let written = (0..1000).take_while(|_| stream.write_all(&packet).is_ok()).count();
    assert!((100..1000).contains(&written), "{written} thousand queries were taken");
    server.until("it is closed", |server| server.metric("nodens_dropped_total", "tcp_stalled") == 1.0);
    let grown = proc::peak_memory(server.pid()) - before;
    assert!(grown < FEW, "{grown} octets more");
    serves(&server);
}

#[test]
fn f07_misses_without_end_on_one_connection_wait_their_turn() {
    let (release, held) = mpsc::channel::<()>();
    let held = std::sync::Mutex::new(held);
    let upstream = Upstream::start(move |q| {
        if q.name().starts_with('n') {
            // Until the test lets go of the other end.
            let _ = held.lock().unwrap().recv();
        }
        addresses(&q.message(), 1, 300).into()
    });
    let mut server = Server::start(&format!("{}limits: {{ inFlightPerClient: 10000 }}\n", forward(upstream.address())));
    serves(&server);
    let mut stream = tcp_from(RUDE, server.dns);
    let queries: Vec<_> = (0..1000).map(|n| query(&format!("n{n}.example."), A)).collect();
    let packet: Vec<u8> = queries.iter().flat_map(|q| framed(&q.to_vec().unwrap())).collect();
    stream.write_all(&packet).unwrap();
    server.until("as many as may wait do", |server| server.metric("nodens_in_flight", "") == 128.0);
    serves(&server); // from the cache
    drop(release);
    let mut ids: Vec<u16> = (0..1000).map(|_| receive(&mut stream).metadata.id).collect();
    let mut asked: Vec<u16> = queries.iter().map(|q| q.metadata.id).collect();
    ids.sort_unstable();
    asked.sort_unstable();
    assert!(ids == asked, "each query gets its answer");
}

#[test]
fn f08_the_answer_to_a_client_that_is_gone_is_kept() {
    let (release, held) = mpsc::channel::<()>();
    let held = std::sync::Mutex::new(held);
    let upstream = Upstream::start(move |q| {
        if q.name().starts_with("slow") {
            held.lock().unwrap().recv().unwrap();
        }
        addresses(&q.message(), 1, 300).into()
    });
    let mut server = Server::forwarding_to(upstream.address());
    for (n, rude) in [false, true].into_iter().enumerate() {
        let name = format!("slow{n}.example.");
        let mut stream = tcp_from(RUDE, server.dns);
        send(&mut stream, &query(&name, A));
        upstream.wait_for_name(&name);
        if rude {
            reset(stream);
        } else {
            drop(stream);
        }
        release.send(()).unwrap();
        server.until("the answer has come", |server| server.metric("nodens_in_flight", "") == 0.0);
        assert_eq!(server.udp(&query(&name, A)).answers.len(), 1);
        assert_eq!(upstream.asked_for(&name).len(), 1, "a hit");
    }
    serves(&server);
}

#[test]
fn f09_queries_are_found_wherever_the_segments_end() {
    let (_upstream, server) = start("tcpConnections: 100");
    let asked = query("good.example.", A);
    let packet = framed(&asked.to_vec().unwrap());
    for cut in [1, 2, 3, 14, packet.len() - 1] {
        let mut stream = tcp_from(GOOD, server.dns);
        stream.write_all(&packet[..cut]).unwrap();
        // Another connection's answer: what was written has been read by now, or is about to be.
        serves(&server);
        stream.write_all(&packet[cut..]).unwrap();
        assert_eq!(receive(&mut stream).metadata.id, asked.metadata.id, "cut at {cut}");
    }
    let mut stream = tcp_from(GOOD, server.dns);
    let queries: Vec<_> = (0..20).map(|n| query(&format!("n{}.example.", n / 2), A)).collect();
    let packet: Vec<u8> = queries.iter().flat_map(|q| framed(&q.to_vec().unwrap())).collect();
    stream.write_all(&packet).unwrap();
    let mut ids: Vec<u16> = queries.iter().map(|q| q.metadata.id).collect();
    for _ in 0..20 {
        let answer = receive(&mut stream);
        assert_eq!(answer.answers.len(), 1);
        let at = ids.iter().position(|&id| id == answer.metadata.id).expect("one of those asked");
        ids.swap_remove(at);
    }
}

#[test]
fn f09_a_client_that_has_said_all_gets_its_answers() {
    let (_upstream, server) = start("tcpConnections: 100");
    let mut stream = tcp_from(GOOD, server.dns);
    (0..300).for_each(|n| send(&mut stream, &query(&format!("n{n}.example."), A)));
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    (0..300).for_each(|_| assert_eq!(receive(&mut stream).metadata.response_code, ResponseCode::NoError));
    assert_eq!(stream.read(&mut [0]).unwrap(), 0, "and then the end");
}

#[test]
fn f09_a_slow_miss_does_not_delay_a_later_hit() {
    let (release, held) = mpsc::channel::<()>();
    let held = std::sync::Mutex::new(held);
    let upstream = Upstream::start(move |q| {
        if q.name() == "slow.example." {
            held.lock().unwrap().recv().unwrap();
        }
        addresses(&q.message(), 1, 300).into()
    });
    let server = Server::forwarding_to(upstream.address());
    serves(&server);
    let mut stream = tcp_from(GOOD, server.dns);
    let (slow, hit) = (query("slow.example.", A), query("good.example.", A));
    send(&mut stream, &slow);
    upstream.wait_for_name("slow.example.");
    send(&mut stream, &hit);
    assert_eq!(receive(&mut stream).metadata.id, hit.metadata.id);
    release.send(()).unwrap();
    assert_eq!(receive(&mut stream).metadata.id, slow.metadata.id);
}

#[test]
fn a24_a_zone_transfer_over_tcp_pins_nothing() {
    let (upstream, mut server) = start("tcpConnections: 100");
    let mut stream = tcp_from(GOOD, server.dns);
    for rtype in [RecordType::AXFR, RecordType::IXFR] {
        send(&mut stream, &query("example.", rtype));
        assert_eq!(receive(&mut stream).metadata.response_code, ResponseCode::Refused, "{rtype}");
    }
    send(&mut stream, &query("good.example.", A));
    assert_eq!(receive(&mut stream).answers.len(), 1, "the connection goes on");
    server.until("nothing is held", |server| {
        server.metric("nodens_in_flight", "") == 0.0 && server.metric("nodens_upstream_connections", "busy") == 0.0
    });
    assert!(upstream.received().iter().all(|q| ![RecordType::AXFR, RecordType::IXFR].contains(&q.rtype())));
}
