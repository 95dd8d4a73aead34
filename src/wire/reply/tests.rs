//! Rows about what a reply looks like: EDNS, truncation, TTLs.

use super::super::query::{Gate, read};
use super::super::question::rtype;
use super::super::record;
use super::*;
use hickory_proto::op::Message;

const NAME: &[u8] = b"\x03www\x07example\x00";

/// A stored answer with `n` A records of TTL 300.
fn stored(n: u16, flags: u16) -> (Vec<u8>, Vec<u8>) {
    let mut m = vec![0; header::LEN];
    Header { id: 0, flags: header::QR | flags, qdcount: 1, ancount: n, nscount: 0, arcount: 0 }.write(&mut m);
    m.extend_from_slice(NAME);
    m.extend([0, 1, 0, 1]);
    let mut offsets = Vec::new();
    for i in 0..n {
        let at = (m.len() + 6) as u16;
        offsets.extend(at.to_be_bytes());
        m.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 1, 44, 0, 4, 10, 0]);
        m.extend(i.to_be_bytes());
    }
    (m, offsets)
}

/// A query for `wWw.example A` with `flags` and, when `size` is given, an OPT.
fn query(flags: u16, size: Option<u16>, dnssec_ok: bool) -> Vec<u8> {
    let mut m = vec![0; header::LEN];
    Header { id: 77, flags, qdcount: 1, ancount: 0, nscount: 0, arcount: u16::from(size.is_some()) }.write(&mut m);
    m.extend_from_slice(b"\x03wWw\x07example\x00\x00\x01\x00\x01");
    if let Some(size) = size {
        let [hi, lo] = size.to_be_bytes();
        m.extend([0, 0, 41, hi, lo, 0, 0, if dnssec_ok { 0x80 } else { 0 }, 0, 0, 0]);
    }
    m
}

/// The reply to `query` from a stored answer with `n` records.
fn reply(query: &[u8], n: u16, age: u32, flags: u16) -> Vec<u8> {
    let Gate::Ask(q) = read(query) else { panic!("not a query") };
    let (message, ttl_at) = stored(n, flags);
    let s = Stored { message: &message, ttl_at: &ttl_at, rcode: 0 };
    let mut out = vec![0; 65535];
    let len = answer(&s, &Asked::over_udp(&q, Manner::default()), Ttl::Aged(age), false, &Notes::default(), &mut out)
        .unwrap();
    out.truncate(len);
    out
}

#[test]
fn a19_the_clients_spelling_comes_back() {
    let r = reply(&query(header::RD, None, false), 1, 0, 0);
    assert_eq!(&r[12..16], b"\x03wWw");
    let m = Message::from_vec(&r).unwrap();
    assert_eq!((m.metadata.id, m.answers.len()), (77, 1));
    assert!(m.metadata.recursion_available && m.metadata.recursion_desired);
}

#[test]
fn a29_c35_z_and_ad_are_cleared_cd_is_copied() {
    let r = reply(&query(header::Z | header::AD | header::CD, None, false), 1, 0, header::AD | header::Z);
    let flags = Header::read(&r).unwrap().flags;
    assert_eq!(flags & (header::Z | header::AD | header::CD), header::CD);
}

#[test]
fn b01_b02_b20_an_opt_answers_an_opt() {
    assert!(Message::from_vec(&reply(&query(0, None, false), 1, 0, 0)).unwrap().edns.is_none());
    let m = Message::from_vec(&reply(&query(0, Some(4096), false), 1, 0, 0)).unwrap();
    let edns = m.edns.unwrap();
    assert_eq!((edns.version(), edns.max_payload()), (0, UDP_SIZE));
}

#[test]
fn b05_b09_do_is_copied_and_z_is_zero() {
    let r = reply(&query(0, Some(1232), true), 1, 0, 0);
    let (_, records) = record::of(&r).unwrap();
    let opt = records.map(Result::unwrap).find(|r| r.rtype == rtype::OPT).unwrap();
    assert_eq!(opt.ttl, 0x8000);
}

#[test]
fn b08_b14_truncated_replies_keep_whole_records_and_the_opt() {
    for (size, limit) in [(None, 512), (Some(0), 512), (Some(511), 512), (Some(700), 700), (Some(65535), 1232)] {
        let r = reply(&query(0, size, true), 100, 0, 0);
        assert!(r.len() <= limit && r.len() + 16 > limit, "{size:?}: {}", r.len());
        let m = Message::from_vec(&r).unwrap();
        assert!(m.metadata.truncation);
        assert!(!m.answers.is_empty());
        assert_eq!(m.edns.is_some(), size.is_some());
    }
}

#[test]
fn what_fits_is_not_truncated() {
    let m = Message::from_vec(&reply(&query(0, None, false), 30, 0, 0)).unwrap();
    assert!(!m.metadata.truncation);
    assert_eq!(m.answers.len(), 30);
}

#[test]
fn losing_only_additional_records_is_no_truncation() {
    let (mut message, ttl_at) = stored(100, 0);
    message[6..12].copy_from_slice(&[0, 1, 0, 0, 0, 99]);
    let q = query(0, None, false);
    let Gate::Ask(q) = read(&q) else { panic!() };
    let mut out = [0; 512];
    let s = Stored { message: &message, ttl_at: &ttl_at, rcode: 0 };
    let len =
        answer(&s, &Asked::over_udp(&q, Manner::default()), Ttl::Aged(0), false, &Notes::default(), &mut out).unwrap();
    let m = Message::from_vec(&out[..len]).unwrap();
    assert!(!m.metadata.truncation);
    assert_eq!(m.answers.len(), 1);
    assert!(m.additionals.len() > 20);
}

#[test]
fn e01_ttls_age_and_never_reach_zero() {
    for (age, shown) in [(0, 300), (100, 200), (299, 1), (300, 1), (100_000, 1)] {
        let m = Message::from_vec(&reply(&query(0, Some(4096), false), 2, age, 0)).unwrap();
        assert!(m.answers.iter().all(|r| r.ttl == shown), "{age}");
    }
}

#[test]
fn d03_stale_answers_show_one_ttl_whatever_their_age() {
    let (mut message, ttl_at) = stored(2, 0);
    let at = |i: usize| usize::from(u16::from_be_bytes([ttl_at[2 * i], ttl_at[2 * i + 1]]));
    message[at(1)..at(1) + 4].copy_from_slice(&5u32.to_be_bytes());
    set_ttls(&mut message, &ttl_at, Ttl::Fixed(30));
    assert!((0..2).all(|i| message[at(i)..at(i) + 4] == 30u32.to_be_bytes()));
}

#[test]
fn c18_a_ttl_of_zero_stays_zero() {
    let (mut message, ttl_at) = stored(1, 0);
    let at = usize::from(u16::from_be_bytes([ttl_at[0], ttl_at[1]]));
    message[at..at + 4].fill(0);
    set_ttls(&mut message, &ttl_at, Ttl::Aged(5));
    set_ttls(&mut message, &ttl_at, Ttl::Fixed(5));
    assert_eq!(message[at..at + 4], [0; 4]);
}

#[test]
fn c32_extended_rcodes_need_edns() {
    let (mut message, _) = stored(0, 0);
    message[3] &= 0xf0;
    let s = Stored { message: &message, ttl_at: &[], rcode: 23 };
    for (size, code) in [(Some(1232), 23), (None, 2)] {
        let q = query(0, size, false);
        let Gate::Ask(q) = read(&q) else { panic!() };
        let mut out = [0; 512];
        let len = answer(&s, &Asked::over_udp(&q, Manner::default()), Ttl::Aged(0), false, &Notes::default(), &mut out)
            .unwrap();
        let m = Message::from_vec(&out[..len]).unwrap();
        assert_eq!(u16::from(m.metadata.response_code), code);
    }
}

#[test]
fn b22_keepalive_is_answered_over_tcp_only() {
    let mut q = query(0, Some(1232), false);
    let at = q.len() - 2;
    q.truncate(at);
    q.extend([0, 4, 0, 11, 0, 0]);
    let Gate::Ask(q) = read(&q) else { panic!() };
    let (message, ttl_at) = stored(1, 0);
    let s = Stored { message: &message, ttl_at: &ttl_at, rcode: 0 };
    let mut out = [0; 1500];
    let len =
        answer(&s, &Asked::over_udp(&q, Manner::default()), Ttl::Aged(0), false, &Notes::default(), &mut out).unwrap();
    assert_eq!(len, message.len() + OPT_LEN);
    let len = answer(&s, &Asked::over_tcp(&q, 80, Manner::default()), Ttl::Aged(0), false, &Notes::default(), &mut out)
        .unwrap();
    assert_eq!(out[len - 6..len], [0, 11, 0, 2, 0, 80]);
}

#[test]
fn errors_are_no_longer_than_they_must_be() {
    let q = query(header::RD, Some(1232), false);
    let Gate::Ask(parsed) = read(&q) else { panic!() };
    let mut out = [0; 1500];
    let len = empty(&Asked::over_udp(&parsed, Manner::default()), rcode::BADVERS, &Notes::default(), &mut out).unwrap();
    let m = Message::from_vec(&out[..len]).unwrap();
    assert_eq!((u16::from(m.metadata.response_code), m.queries.len()), (rcode::BADVERS, 1));
    let len = bare(&parsed.header, rcode::FORMERR, &mut out).unwrap();
    assert_eq!(out[..len], [0, 77, 0x81, 1, 0, 0, 0, 0, 0, 0, 0, 0]);
}

#[test]
fn an_explanation_that_does_not_fit_is_dropped_before_the_answer_is() {
    let mut q = query(0, Some(512), false);
    let at = q.len() - 2;
    q.truncate(at);
    q.extend([0, 4, 0xfe, 0x1d, 0, 0]);
    let Gate::Ask(q) = read(&q) else { panic!() };
    assert!(Asked::over_udp(&q, Manner::default()).explain());
    let mut out = [0; 512];
    let notes = Notes { explanation: Some("source=hit"), ..Notes::default() };
    let len = empty(&Asked::over_udp(&q, Manner::default()), 0, &notes, &mut out).unwrap();
    assert_eq!(&out[len - 10..len], b"source=hit");
}

#[test]
fn the_query_that_goes_upstream_is_ours_alone() {
    let packet = query(header::RD | header::CD, Some(512), true);
    let Gate::Ask(q) = read(&packet) else { panic!() };
    let m = Message::from_vec(&upstream_query(q.question.as_bytes(), true, true, true)).unwrap();
    assert_eq!(m.queries[0].name().to_ascii(), "www.example.");
    assert!(m.metadata.recursion_desired && m.metadata.checking_disabled);
    let edns = m.edns.unwrap();
    assert!(edns.flags().dnssec_ok && edns.max_payload() == UDP_SIZE);
}

/// The flags and the message of a reply in CoreDNS's manner to `query` from a stored answer with these flags.
fn like_coredns(query: &[u8], stored_flags: u16, fresh: bool, name: Option<&[u8]>) -> (u16, Message) {
    let Gate::Ask(q) = read(query) else { panic!("not a query") };
    let (message, ttl_at) = stored(1, stored_flags);
    let s = Stored { message: &message, ttl_at: &ttl_at, rcode: 0 };
    let asked = OwnedAsked::from(Asked::over_udp(&q, Manner { like_coredns: true, udp_limit: 4096 }));
    let mut out = vec![0; 65535];
    let notes = Notes { name, ..Notes::default() };
    let len = answer(&s, &asked.get(), Ttl::Aged(0), fresh, &notes, &mut out).unwrap();
    (Header::read(&out).unwrap().flags, Message::from_vec(&out[..len]).unwrap())
}

#[test]
fn in_coredns_manner_hits_have_aa_and_ra_and_ad_are_the_upstreams() {
    use header::{AA, AD, RA, RD};
    let shown = AA | RA | AD;
    for (asked, dnssec_ok, stored, fresh, expected) in [
        (RD, false, RA, false, AA | RA),
        (RD, false, 0, false, AA),
        (RD, false, RA, true, RA),
        (RD, false, RA | AA, true, AA | RA),
        (RD, false, RA | AD, false, AA | RA),
        (RD | AD, false, RA | AD, false, AA | RA | AD),
        (RD, true, RA | AD, false, AA | RA | AD),
        (RD | AD, false, RA, true, RA),
    ] {
        let sent = query(asked, dnssec_ok.then_some(1232), dnssec_ok);
        assert_eq!(like_coredns(&sent, stored, fresh, None).0 & shown, expected, "{asked:x} {stored:x} {fresh}");
    }
    let sent = query(RD, None, false);
    let Gate::Ask(q) = read(&sent) else { panic!("not a query") };
    let mut out = [0; 512];
    let asked = Asked::over_udp(&q, Manner { like_coredns: true, udp_limit: 4096 });
    empty(&asked, rcode::SERVFAIL, &Notes::default(), &mut out).unwrap();
    assert_eq!(Header::read(&out).unwrap().flags & shown, 0, "no RA on a failure made here");
}

#[test]
fn in_coredns_manner_the_clients_size_and_options_come_back() {
    use hickory_proto::rr::rdata::opt::{EdnsCode, EdnsOption};
    let mut sent = query(header::RD, Some(3000), false);
    // A cookie, a client subnet, and the wish for a name.
    let options = [&[0, 10, 0, 8, 1, 2, 3, 4, 5, 6, 7, 8][..], &[0, 8, 0, 4, 0, 1, 0, 0], &[0, 3, 0, 0]].concat();
    let at = sent.len() - 1;
    sent[at] = options.len() as u8;
    sent.extend(&options);
    for (name, expected) in [(None, &b""[..]), (Some(&b"node-7"[..]), b"node-7")] {
        let (_, reply) = like_coredns(&sent, header::RA, false, name);
        let edns = reply.edns.unwrap();
        assert_eq!(edns.max_payload(), 3000);
        let option = |code| edns.options().get(code).cloned();
        assert_eq!(option(EdnsCode::Cookie), Some(EdnsOption::Unknown(10, vec![1, 2, 3, 4, 5, 6, 7, 8])));
        assert_eq!(option(EdnsCode::Subnet), None);
        let nsid: Vec<u8> = match option(EdnsCode::NSID) {
            Some(EdnsOption::NSID(payload)) => payload.as_ref().to_vec(),
            Some(EdnsOption::Unknown(_, payload)) => payload,
            other => panic!("{other:?}"),
        };
        assert_eq!(nsid, expected);
    }
}
