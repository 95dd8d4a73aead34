//! Rows A and B of the behaviour table, as a client on a real socket meets them: raw octets in, raw octets out, against
//! cached and uncached names, over UDP and TCP, and through `dig` with the options of RFC 8906.

#![allow(clippy::unwrap_used, reason = "what a test cannot go on without")]

mod support;

use hickory_proto::op::{Edns, Message, ResponseCode};
use hickory_proto::rr::RecordType;
use std::net::{Ipv4Addr, UdpSocket};
use std::path::Path;
use support::process::{can_run, shell, stdout};
use support::server::Server;
use support::upstream::{Received, Reply, Upstream};
use support::{addresses, ask_tcp, ask_udp, nxdomain, query, reply};

/// Answers: `big.` with 60 addresses, `nx.` with NXDOMAIN, all else with one address (SOA questions with the SOA).
fn script(q: &Received) -> Reply {
    let message = q.message();
    match q.name().split('.').next().unwrap() {
        "big" => addresses(&message, 60, 30).into(),
        "nx" => nxdomain(&message, "example.", 5).into(),
        _ if q.rtype() == RecordType::SOA => {
            let mut answer = reply(&message, ResponseCode::NoError);
            answer.answers = nxdomain(&message, "soa.example.", 5).authorities;
            answer.into()
        }
        _ => addresses(&message, 1, 30).into(),
    }
}

fn start() -> (Upstream, Server) {
    let upstream = Upstream::start(script);
    let server = Server::forwarding_to(upstream.address());
    (upstream, server)
}

/// Sends `packet` from a socket, then a good query, and expects the good query's answer first: the packet got none.
fn is_dropped(server: &Server, packet: &[u8]) {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    socket.set_read_timeout(Some(support::DEADLINE)).unwrap();
    socket.connect(server.dns).unwrap();
    // In the cache, so that its answer cannot overtake or be overtaken.
    let good = query("good.example.", RecordType::A);
    server.udp(&good);
    socket.send(packet).unwrap();
    socket.send(&good.to_vec().unwrap()).unwrap();
    let mut buffer = [0; 2048];
    let len = socket.recv(&mut buffer).unwrap();
    assert_eq!(Message::from_vec(&buffer[..len]).unwrap().metadata.id, good.metadata.id, "{packet:02x?} was answered");
}

/// A query for `name` as octets, changed by `change`.
fn octets(name: &str, change: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut packet = query(name, RecordType::A).to_vec().unwrap();
    change(&mut packet);
    packet
}

#[test]
fn a01_a02_a03_a04_what_is_no_query_is_dropped_and_counted() {
    let (upstream, server) = start();
    is_dropped(&server, &[]);
    (1..12).for_each(|len| is_dropped(&server, &vec![0x11; len]));
    is_dropped(&server, &octets("a.example.", |p| p[2] |= 0x80));
    is_dropped(&server, &[0xff; 12]);
    assert_eq!(server.metric("nodens_dropped_total", "short_header"), 12.0);
    assert_eq!(server.metric("nodens_dropped_total", "\"response\""), 2.0);
    assert!(upstream.received().iter().all(|q| q.name() == "good.example." || q.name() == "."));
}

#[test]
fn a05_a_query_from_our_own_address_is_dropped() {
    let (_upstream, mut server) = start();
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::DGRAM, None).unwrap();
    socket.set_reuse_port(true).unwrap();
    socket.bind(&server.dns.into()).unwrap();
    let socket: UdpSocket = socket.into();
    // Connected elsewhere it receives nothing that is meant for the server, and can still send in its name.
    socket.connect((Ipv4Addr::LOCALHOST, 9)).unwrap();
    let packet = query("a.example.", RecordType::A).to_vec().unwrap();
    rustix::net::sendto(&socket, &packet, rustix::net::SendFlags::empty(), &server.dns).unwrap();
    server.until("it was dropped", |server| server.metric("nodens_dropped_total", "bad_source") == 1.0);
}

#[test]
fn a06_to_a17_malformed_queries_get_a_bare_formerr() {
    let (upstream, server) = start();
    let opt = [0, 0, 41, 4, 208, 0, 0, 0, 0, 0, 0];
    let cases: Vec<(&str, Vec<u8>)> = vec![
        ("a06", octets("a.example.", |p| p[5] = 0)),
        ("a07", octets("a.example.", |p| p[5] = 2)),
        ("a08", [&[0x12, 0x34, 1, 0, 0xff, 0xff][..], &[0; 6]].concat()),
        ("a09", octets("a.example.", |p| p[7] = 1)),
        ("a09", octets("a.example.", |p| p[9] = 1)),
        (
            "a10",
            octets("a.example.", |p| {
                p[10] = 0xff;
                p[11] = 0xff;
                p.extend(opt);
            }),
        ),
        ("a11", [&[0x12, 0x34, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0xc0, 0x0c][..], &[0, 1, 0, 1]].concat()),
        ("a12", [&[0x12, 0x34, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0xc0, 0xff][..], &[0, 1, 0, 1]].concat()),
        ("a13", [&[0x12, 0x34, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0x40, 0][..], &[0, 1, 0, 1]].concat()),
        ("a16", octets("a.example.", |p| p.truncate(16))),
        ("a17", octets("a.example.", |p| p.push(0))),
        (
            "a26",
            octets("a.example.", |p| {
                let at = p.len() - 3;
                p[at] = 41;
            }),
        ),
        (
            "b16",
            octets("a.example.", |p| {
                p[11] = 2;
                p.extend(opt);
                p.extend(opt);
            }),
        ),
        (
            "b17",
            octets("a.example.", |p| {
                p[11] = 1;
                p.extend([1, b'x']);
                p.extend(opt);
            }),
        ),
        (
            "b17",
            octets("a.example.", |p| {
                p[11] = 1;
                p.extend([0, 0, 41, 4, 208, 0, 0, 0, 0, 0, 4, 0, 10, 0, 9]);
            }),
        ),
        (
            "b19",
            octets("a.example.", |p| {
                p[11] = 1;
                p.extend([0, 0, 41, 4, 208, 0, 0, 0, 0, 0, 5, 0, 10, 0, 1, 9]);
            }),
        ),
    ];
    for (row, packet) in &cases {
        for answer in [ask_udp(server.dns, packet), ask_tcp(server.dns, packet)] {
            assert_eq!(answer.len(), 12, "{row}: never longer than the query");
            assert_eq!(answer[..2], packet[..2], "{row}: the id");
            assert_eq!(answer[2], 0x80 | packet[2] & 0x79, "{row}: QR, opcode, RD");
            assert_eq!(answer[3] & 0x0f, 1, "{row}: FORMERR");
        }
    }
    assert!(upstream.received().iter().all(|q| q.name() == "."), "nothing malformed goes upstream");
}

#[test]
fn a14_a15_names_up_to_255_octets_are_answered() {
    let (_upstream, server) = start();
    let longest = format!("{0}.{0}.{0}.{1}.", "x".repeat(63), "y".repeat(61));
    let answer = server.udp(&query(&longest, RecordType::A));
    assert_eq!((answer.metadata.response_code, answer.answers.len()), (ResponseCode::NoError, 1));
}

#[test]
fn a18_f15_odd_octets_in_names_are_answered_and_escaped() {
    let upstream = Upstream::start(|_| Reply::Close);
    let mut server = Server::forwarding_to(upstream.address());
    let packet = octets("aaaaaa.example.", |p| p[13..19].copy_from_slice(b"\n\"{\\}\x1b"));
    assert_eq!(ask_udp(server.dns, &packet)[3] & 0x0f, 2, "SERVFAIL");
    let page = server.get(server.metrics, "/metrics").unwrap();
    assert!(!page.contains("example") && !page.contains('\x1b'), "no name of a query is a label");
    server.until_logged("\\\\010\\\\\\\"{");
    assert!(!server.log().contains('\x1b'));
}

#[test]
fn a19_case_is_echoed_from_one_entry() {
    let (upstream, server) = start();
    for name in ["case.example.", "CaSe.ExAmPlE.", "CASE.EXAMPLE."] {
        let packet = octets(name, |_| {});
        let answer = ask_udp(server.dns, &packet);
        assert_eq!(answer[12..packet.len()], packet[12..], "{name}");
    }
    let asked: Vec<_> = upstream.received().into_iter().filter(|q| q.name() == "case.example.").collect();
    assert_eq!(asked.len(), 1);
}

#[test]
fn a20_a25_a27_the_root_any_and_unknown_types_are_forwarded() {
    let (upstream, server) = start();
    for (name, rtype) in
        [(".", RecordType::NS), ("any.example.", RecordType::ANY), ("t.example.", RecordType::Unknown(1000))]
    {
        assert_eq!(server.udp(&query(name, rtype)).metadata.response_code, ResponseCode::NoError, "{name}");
        assert!(upstream.received().iter().any(|q| q.name() == name && q.rtype() == rtype), "{name}");
    }
}

#[test]
fn a21_b12_other_opcodes_are_notimp_and_never_forwarded() {
    let (upstream, server) = start();
    for opcode in [1u8, 2, 4, 5, 15] {
        let packet = octets("op.example.", |p| p[2] = p[2] & 0x87 | opcode << 3);
        for packet in [&packet[..], &packet[..12]] {
            for answer in [ask_udp(server.dns, packet), ask_tcp(server.dns, packet)] {
                assert_eq!((answer.len(), answer[3] & 0x0f, answer[2] >> 3 & 0x0f), (12, 4, opcode));
            }
        }
    }
    assert!(upstream.received().iter().all(|q| q.name() == "."));
}

#[test]
fn a22_a23_a24_a30_what_is_not_ours_to_answer_is_refused() {
    let (upstream, server) = start();
    let class = |class: u8| {
        octets("version.bind.", |p| {
            let at = p.len() - 1;
            p[at] = class;
        })
    };
    let rtype = |rtype: u8| {
        octets("zone.example.", |p| {
            let at = p.len() - 3;
            p[at] = rtype;
        })
    };
    let tsig = octets("a.example.", |p| {
        p[11] = 1;
        p.extend([0, 0, 250, 0, 255, 0, 0, 0, 0, 0, 0]);
    });
    for packet in [class(3), class(4), class(254), class(255), rtype(252), rtype(251), tsig] {
        for answer in [ask_udp(server.dns, &packet), ask_tcp(server.dns, &packet)] {
            assert_eq!(answer[3] & 0x0f, 5, "{packet:02x?}");
        }
    }
    assert!(upstream.received().iter().all(|q| q.name() == "."));
}

#[test]
fn a28_rd_is_forwarded_as_asked_and_hits_serve_all() {
    let (upstream, server) = start();
    let mut asked = query("rd.example.", RecordType::A);
    asked.metadata.recursion_desired = false;
    assert_eq!(server.udp(&asked).answers.len(), 1);
    assert_eq!(server.udp(&asked).answers.len(), 1);
    let of_name = |upstream: &Upstream| upstream.received().iter().filter(|q| q.name() == "rd.example.").count();
    assert_eq!(of_name(&upstream), 2, "what was asked without RD is not kept");
    server.udp(&query("rd.example.", RecordType::A));
    assert_eq!(server.udp(&asked).answers.len(), 1);
    assert_eq!(of_name(&upstream), 3, "a hit serves every client");
}

#[test]
fn b15_f13_answers_over_udp_stay_within_1232_octets() {
    let (_upstream, server) = start();
    for (size, limit) in [(None, 512), (Some(512), 512), (Some(65535), 1232)] {
        let mut asked = query("big.example.", RecordType::A);
        asked.edns = size.map(|size| Edns::new().set_max_payload(size).clone());
        let bytes = ask_udp(server.dns, &asked.to_vec().unwrap());
        assert!(bytes.len() <= limit, "{size:?}: {}", bytes.len());
        let answer = Message::from_vec(&bytes).unwrap();
        assert_eq!(answer.metadata.truncation, limit == 512);
        let whole = server.tcp(&asked);
        assert_eq!((whole.answers.len(), whole.metadata.truncation), (60, false), "b13");
    }
}

#[test]
fn b11_b21_b23_nothing_of_the_clients_edns_goes_upstream() {
    let (upstream, server) = start();
    let ecs = [0, 8, 0, 7, 0, 1, 24, 0, 10, 1, 2];
    let padding = [0, 12, 0, 4, 1, 2, 3, 4];
    let cookie = [0, 10, 0, 8, 1, 2, 3, 4, 5, 6, 7, 8];
    let options = [&ecs[..], &padding, &cookie].concat();
    let packet = octets("ecs.example.", |p| {
        p[11] = 1;
        p.extend([0, 0, 41, 4, 208, 0, 0, 0, 0, 0, options.len() as u8]);
        p.extend(&options);
    });
    let answer = ask_udp(server.dns, &packet);
    assert_eq!(answer[answer.len() - 11..], [0, 0, 41, 4, 208, 0, 0, 0, 0, 0, 0], "an OPT with no options");
    let forwarded = upstream.received().into_iter().find(|q| q.name() == "ecs.example.").unwrap();
    assert!(forwarded.message().edns.unwrap().options().as_ref().is_empty());
}

/// What `dig` says to `arguments`.
fn dig(server: &Server, arguments: &str) -> String {
    let at = server.dns;
    let line = format!("dig @{} -p {} +tries=1 +time=10 {arguments}", at.ip(), at.port());
    let output = shell(&line, Path::new("/"));
    let text = stdout(&output);
    assert!(output.status.success(), "{line}\n{text}");
    text
}

/// The question by which guardian and `/ready` find out whether anybody answers is no client's.
#[test]
fn our_own_probes_are_answered_and_not_counted() {
    let (_upstream, server) = start();
    let mut probe = b"\x12\x34\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00\x02id\x06server\x00\x00\x10\x00\x03".to_vec();
    let refused = |answer: Vec<u8>| Message::from_vec(&answer).unwrap().metadata.response_code == ResponseCode::Refused;
    assert!(refused(ask_udp(server.dns, &probe)) && refused(ask_tcp(server.dns, &probe)));
    let counted = || ["nodens_queries_total", "nodens_responses_total"].map(|name| server.metric(name, ""));
    assert_eq!(counted(), [0.0, 0.0]);
    // With RD it is what people ask.
    probe[2] = 1;
    assert!(refused(ask_udp(server.dns, &probe)) && refused(ask_tcp(server.dns, &probe)));
    assert_eq!(counted(), [2.0, 2.0]);
}

#[test]
fn b01_to_b13_dig_finds_us_compliant() {
    if !can_run("dig") {
        return;
    }
    let (_upstream, server) = start();
    // (row, options, what must stand in the output, what must not)
    let cases: &[(&str, &str, &[&str], &[&str])] = &[
        ("b01", "+noedns soa.example. SOA", &["NOERROR"], &["OPT PSEUDOSECTION"]),
        ("b02", "+nocookie +edns=0 soa.example. SOA", &["NOERROR", "EDNS: version: 0"], &[]),
        ("b03", "+edns=1 +noednsneg soa.example. SOA", &["BADVERS", "EDNS: version: 0", "ANSWER: 0"], &[]),
        ("b04", "+ednsopt=100 soa.example. SOA", &["NOERROR", "version: 0"], &["OPT=100"]),
        ("b05", "+ednsflags=0x40 soa.example. SOA", &["NOERROR", "flags:; udp"], &["MBZ: 0x"]),
        ("b05", "+ednsflags=0x80 soa.example. SOA", &["NOERROR", "flags:; udp"], &["MBZ: 0x"]),
        ("b06", "+edns=1 +noednsneg +ednsflags=0x40 soa.example. SOA", &["BADVERS", "flags:; udp"], &["MBZ: 0x"]),
        ("b07", "+edns=1 +noednsneg +ednsopt=100 soa.example. SOA", &["BADVERS"], &["OPT=100"]),
        ("b08", "+dnssec +bufsize=512 +ignore big.example. A", &["flags: qr tc", "OPT PSEUDOSECTION"], &[]),
        ("b09", "+dnssec soa.example. SOA", &["NOERROR", "flags: do;"], &[]),
        ("b10", "+edns=1 +noednsneg +dnssec soa.example. SOA", &["BADVERS"], &[]),
        (
            "b11",
            "+cookie +nsid +expire +subnet=0/0 soa.example. SOA",
            &["NOERROR", "SOA", "version: 0"],
            &["NSID", "CLIENT-SUBNET"],
        ),
        ("b12", "+opcode=15 +header-only", &["NOTIMP", "QUERY: 0, ANSWER: 0"], &[]),
        ("a29", "+zflag +adflag +cdflag soa.example. SOA", &["NOERROR"], &[" ad"]),
    ];
    for (row, options, wanted, unwanted) in cases {
        // Uncached at first, cached then; and over both transports (b13).
        for transport in ["", "", "+tcp"] {
            let text = dig(&server, &format!("{transport} {options}"));
            if transport == "+tcp" && *row == "b08" {
                continue;
            }
            wanted.iter().for_each(|w| assert!(text.contains(w), "{row} {transport}: {w:?} is not in\n{text}"));
            unwanted.iter().for_each(|u| assert!(!text.contains(u), "{row} {transport}: {u:?} is in\n{text}"));
        }
    }
}
