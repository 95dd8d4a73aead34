//! Row C of the behaviour table through the whole daemon: replies that are forged, garbled or cut short never reach a
//! client, nor the cache.

#![allow(clippy::unwrap_used, reason = "what a test cannot go on without")]

mod support;

use hickory_proto::op::{Message, MessageType, ResponseCode};
use hickory_proto::rr::rdata::A as A4;
use hickory_proto::rr::{RData, Record, RecordType};
use std::net::{Ipv4Addr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use support::client::{edns_query, extended_error};
use support::server::{Server, forward_to};
use support::upstream::{Received, Reply, Upstream};
use support::{addresses, query, reply};

const A: RecordType = RecordType::A;

fn good(q: &Received) -> Reply {
    addresses(&q.message(), 1, 300).into()
}

/// The right answer but for what `change` does to it: five addresses, to be told apart.
fn wrong(q: &Received, change: impl FnOnce(&mut Message)) -> Vec<u8> {
    let mut message = addresses(&q.message(), 5, 300);
    change(&mut message);
    message.to_vec().unwrap()
}

/// An answer to the question for another name, with the right id.
fn about_another_name(q: &Received) -> Vec<u8> {
    let mut message = addresses(&query("other.example.", A), 5, 300);
    message.metadata.id = q.message().metadata.id;
    message.to_vec().unwrap()
}

#[test]
fn c01_to_c06_over_udp_what_does_not_match_is_ignored() {
    let stranger = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let upstream = Upstream::start(move |q| {
        let name = q.name();
        let forged = match name.split('.').next().unwrap() {
            "c01" => wrong(q, |m| m.metadata.id ^= 0x0101),
            "c02" => {
                // Right in everything but where it comes from.
                stranger.send_to(&wrong(q, |_| {}), q.from).unwrap();
                return good(q);
            }
            "c03name" => about_another_name(q),
            "c03type" => wrong(q, |m| {
                m.queries[0].set_query_type(RecordType::AAAA);
            }),
            "c04" => wrong(q, |m| m.queries.clear()),
            "c06" => wrong(q, |m| m.metadata.message_type = MessageType::Query),
            "short" => q.bytes[..11].to_vec(),
            "empty" => Vec::new(),
            _ => return good(q),
        };
        let right = addresses(&q.message(), 1, 300).to_vec().unwrap();
        Reply::Bytes(vec![forged.clone(), forged, right])
    });
    let server = Server::start(&forward_to(&[upstream.address()], "protocol: udp, timeout: 4s"));
    for name in ["c01", "c02", "c03name", "c03type", "c04", "c06", "short", "empty"] {
        let asked = query(&format!("{name}.example."), A);
        assert_eq!(server.udp(&asked).answers.len(), 1, "{name}");
        assert_eq!(server.tcp(&asked).answers.len(), 1, "{name}, from the cache");
        assert_eq!(upstream.asked_for(&format!("{name}.example.")).len(), 1, "{name}: the wait went on");
    }
    assert_eq!(server.metric("nodens_upstream_unsolicited_total", ""), 14.0, "all but those from elsewhere");
    assert_eq!(server.udp(&query("other.example.", A)).answers.len(), 1, "nothing was stored under another name");
}

#[test]
fn c03_c15_over_tcp_what_does_not_match_ends_the_connection_and_another_server_is_asked() {
    let garble = |q: &Received| match q.name().split('.').next().unwrap() {
        "c03" => Reply::Bytes(vec![about_another_name(q)]),
        "c04" => Reply::Bytes(vec![wrong(q, |m| m.queries.clear())]),
        "zero" => Reply::Raw(vec![0, 0]),
        "eleven" => Reply::Raw([&[0, 11][..], &q.bytes[..11]].concat()),
        "half" => Reply::Raw(vec![0]),
        _ => good(q),
    };
    let (bad, alive) = (Upstream::start(garble), Upstream::start(good));
    let options = "policy: sequential, timeout: 2s";
    let alone = Server::start(&forward_to(&[bad.address()], options));
    let both = Server::start(&forward_to(&[bad.address(), alive.address()], options));
    for name in ["c03", "c04", "zero", "eleven", "half"] {
        let asked = edns_query(&format!("{name}.example."));
        let begin = Instant::now();
        assert_eq!(both.udp(&asked).answers.len(), 1, "{name}");
        assert!(begin.elapsed() < Duration::from_secs(4), "{name}: {:?}", begin.elapsed());
        let answer = alone.udp(&asked);
        assert_eq!((answer.metadata.response_code, answer.answers.len()), (ResponseCode::ServFail, 0), "{name}");
        assert!(extended_error(&answer).is_some(), "{name}");
        assert!(begin.elapsed() < Duration::from_secs(9), "{name}: {:?}", begin.elapsed());
    }
    assert_eq!(alone.udp(&query("other.example.", A)).answers.len(), 1);
}

#[test]
fn c16_what_is_cut_short_over_udp_is_asked_for_over_tcp() {
    let tcp_works = Arc::new(AtomicBool::new(true));
    let works = tcp_works.clone();
    let upstream = Upstream::start(move |q| match q.is_udp() {
        true => Reply::Bytes(vec![wrong(q, |m| m.metadata.truncation = true)]),
        false if works.load(Ordering::SeqCst) => addresses(&q.message(), 60, 300).into(),
        false => Reply::Close,
    });
    let mut server = Server::start(&forward_to(&[upstream.address()], "protocol: auto, timeout: 1s"));
    assert_eq!(server.tcp(&query("big.example.", A)).answers.len(), 60);
    let transports: Vec<bool> = upstream.asked_for("big.example.").iter().map(Received::is_udp).collect();
    assert_eq!(transports, [true, false]);
    let cut = server.udp(&query("big.example.", A));
    assert!(cut.metadata.truncation, "the whole of it does not fit");
    assert_eq!(upstream.asked_for("big.example.").len(), 2, "a hit");

    tcp_works.store(false, Ordering::SeqCst);
    let asked = edns_query("broken.example.");
    for answer in [server.udp(&asked), server.tcp(&asked)] {
        assert_eq!((answer.metadata.response_code, answer.answers.len()), (ResponseCode::ServFail, 0));
        assert!(!answer.metadata.truncation);
    }
    tcp_works.store(true, Ordering::SeqCst);
    // The failure is remembered for a second or two; the truncated reply is not.
    server.until("it is answered in full", |server| match server.tcp(&asked).answers.len() {
        0 => false,
        n => n == 60 || panic!("{n} addresses came from a truncated reply"),
    });
}

#[test]
fn c17_what_is_cut_short_over_tcp_is_an_error_and_not_kept() {
    let upstream = Upstream::start(|q| match q.name().as_str() {
        "cut.example." => Reply::Bytes(vec![wrong(q, |m| m.metadata.truncation = true)]),
        _ => good(q),
    });
    let mut server = Server::start(&forward_to(&[upstream.address()], ""));
    let asked = edns_query("cut.example.");
    let fails = |server: &Server| {
        for answer in [server.udp(&asked), server.tcp(&asked)] {
            assert_eq!((answer.metadata.response_code, answer.answers.len()), (ResponseCode::ServFail, 0));
            assert!(extended_error(&answer).is_some() && !answer.metadata.truncation);
        }
    };
    fails(&server);
    let times = upstream.asked_for("cut.example.").len();
    server.until("it is asked again", |server| {
        fails(server);
        upstream.asked_for("cut.example.").len() > times
    });
}

#[test]
fn b24_a_server_that_knows_no_edns_is_asked_without() {
    for code in [ResponseCode::FormErr, ResponseCode::NotImp] {
        // The root is what readiness is found out by, and loops are looked for; this is about the clients' names.
        let upstream = Upstream::start(move |q| match q.message().edns {
            Some(_) if q.name() != "." && !q.is_probe() => reply(&q.message(), code).into(),
            _ => good(q),
        });
        for protocol in ["udp", "tcp"] {
            let mut server = Server::start(&forward_to(&[upstream.address()], &format!("protocol: {protocol}")));
            server.until("it is ready", |server| server.is_ready());
            let names = ["first", "second"].map(|n| format!("{n}.{protocol}.example."));
            for name in &names {
                let answer = server.udp(&edns_query(name));
                assert_eq!(answer.answers.len(), 1, "{protocol} {code}");
                assert!(answer.edns.is_some(), "the client knows it");
            }
            let with = |name| upstream.asked_for(name).iter().map(|q| q.message().edns.is_some()).collect::<Vec<_>>();
            assert_eq!(with(&names[0]), [true, false], "{protocol} {code}");
            assert_eq!(with(&names[1]), [false], "{protocol} {code}: it is remembered");
        }
    }
}

/// Services on private addresses are what clusters are made of, so nothing is filtered unless somebody asks for it.
#[test]
fn c34_addresses_that_could_be_meant_for_rebinding_pass_unchanged() {
    let special = ["127.0.0.1", "169.254.169.254", "10.0.0.1", "172.16.0.1", "192.168.0.1"];
    let special = special.map(|ip| ip.parse::<Ipv4Addr>().unwrap());
    let upstream = Upstream::start(move |q| {
        let mut message = reply(&q.message(), ResponseCode::NoError);
        let name = message.queries[0].name().clone();
        message.answers = special.iter().map(|&ip| Record::from_rdata(name.clone(), 300, RData::A(A4(ip)))).collect();
        message.into()
    });
    let server = Server::start(&forward_to(&[upstream.address()], ""));
    // From the upstream, then from the cache.
    for _ in 0..2 {
        for answer in [server.udp(&query("rebind.example.", A)), server.tcp(&query("rebind.example.", A))] {
            let data: Vec<RData> = answer.answers.iter().map(|record| record.data.clone()).collect();
            assert_eq!(data, special.map(|ip| RData::A(A4(ip))));
        }
    }
    assert_eq!(upstream.asked_for("rebind.example.").len(), 1);
}
