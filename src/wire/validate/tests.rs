//! Rows C: what is made of an upstream's reply.

use super::*;
use hickory_proto::op::{Edns, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::rdata::{A, CNAME, NS, SOA};
use hickory_proto::rr::{DNSClass, Record as Rr};
use std::str::FromStr;

fn name(s: &str) -> Name {
    Name::from_str(s).unwrap()
}

fn question(qname: &str, qtype: u16) -> Question {
    let mut wire = Vec::new();
    for label in qname.trim_end_matches('.').split('.') {
        wire.push(label.len() as u8);
        wire.extend_from_slice(label.as_bytes());
    }
    wire.push(0);
    Question::new(&wire, qtype, 1).unwrap()
}

fn a(owner: &str) -> Rr {
    Rr::from_rdata(name(owner), 300, RData::A(A::new(10, 0, 0, 1)))
}

fn cname(owner: &str, target: &str) -> Rr {
    Rr::from_rdata(name(owner), 300, RData::CNAME(CNAME(name(target))))
}

fn soa(owner: &str, ttl: u32, minimum: u32) -> Rr {
    Rr::from_rdata(name(owner), ttl, RData::SOA(SOA::new(name("ns.x."), name("h.x."), 1, 2, 3, 4, minimum)))
}

fn message(qname: &str, code: ResponseCode, answers: Vec<Rr>, authorities: Vec<Rr>) -> Message {
    let mut m = Message::new(9, MessageType::Response, OpCode::Query);
    let mut q = Query::query(name(qname), RecordType::A);
    q.set_query_class(DNSClass::IN);
    m.add_query(q);
    m.metadata.response_code = code;
    m.insert_answers(answers);
    m.insert_authorities(authorities);
    m
}

fn class(qname: &str, code: ResponseCode, answers: Vec<Rr>, authorities: Vec<Rr>) -> Result<Class, Invalid> {
    let m = message(qname, code, answers, authorities).to_vec().unwrap();
    reply(m, &question(qname, rtype::A)).map(|r| r.class)
}

const OK: ResponseCode = ResponseCode::NoError;
const NX: ResponseCode = ResponseCode::NXDomain;

#[test]
fn positive_answers_at_the_name_or_behind_aliases() {
    assert_eq!(class("a.x.", OK, vec![a("a.x.")], vec![]), Ok(Class::Positive));
    assert_eq!(class("a.x.", OK, vec![cname("a.x.", "b.x."), a("b.x.")], vec![]), Ok(Class::Positive));
    assert_eq!(class("a.x.", OK, vec![a("b.x."), cname("a.x.", "b.x.")], vec![]), Ok(Class::Positive), "any order");
}

#[test]
fn c05_the_question_is_stored_lower_case() {
    let mut m = message("a.x.", OK, vec![a("a.x.")], vec![]).to_vec().unwrap();
    m[13] = b'A';
    let r = reply(m, &question("a.x.", rtype::A)).unwrap();
    assert_eq!(r.message[13], b'a');
}

#[test]
fn c07_a_compression_loop_is_refused() {
    let mut m = message("a.x.", OK, vec![a("a.x.")], vec![]).to_vec().unwrap();
    let at = m.len() - 16;
    m[at..at + 2].copy_from_slice(&[0xc0, at as u8]);
    assert_eq!(reply(m, &question("a.x.", rtype::A)), Err(Invalid::Record));
}

#[test]
fn c08_impossible_rdata_is_refused() {
    for len in [3u8, 5] {
        let mut m = message("a.x.", OK, vec![a("a.x.")], vec![]).to_vec().unwrap();
        let at = m.len() - 5;
        m[at] = len;
        m.resize(at + 1 + usize::from(len), 0);
        assert_eq!(reply(m, &question("a.x.", rtype::A)), Err(Invalid::Record), "{len}");
    }
}

#[test]
fn c09_counts_and_length_must_agree() {
    let good = message("a.x.", OK, vec![a("a.x.")], vec![]).to_vec().unwrap();
    let q = question("a.x.", rtype::A);
    let mut longer = good.clone();
    longer.push(0);
    assert_eq!(reply(longer, &q), Err(Invalid::Framing));
    let mut more = good;
    more[7] = 2;
    assert_eq!(reply(more, &q), Err(Invalid::Framing));
}

#[test]
fn c10_records_that_were_not_asked_for_spoil_the_reply() {
    assert_eq!(class("a.x.", OK, vec![a("a.x."), a("bank.y.")], vec![]), Err(Invalid::Unrelated));
    assert_eq!(class("a.x.", OK, vec![cname("a.x.", "b.x."), a("c.x.")], vec![]), Err(Invalid::Unrelated));
}

#[test]
fn c12_alias_loops_end() {
    let looped = vec![cname("a.x.", "b.x."), cname("b.x.", "a.x.")];
    assert_eq!(class("a.x.", OK, looped, vec![]), Ok(Class::Unstorable));
    assert_eq!(class("a.x.", OK, vec![cname("a.x.", "a.x.")], vec![]), Ok(Class::Unstorable));
}

#[test]
fn c13_long_chains_are_followed_in_linear_time() {
    let links = 1000;
    let mut chain: Vec<Rr> = (0..links).map(|i| cname(&format!("n{i}.x."), &format!("n{}.x.", i + 1))).collect();
    chain.reverse();
    chain.push(a(&format!("n{links}.x.")));
    assert_eq!(class("n0.x.", OK, chain, vec![]), Ok(Class::Positive));
}

#[test]
fn c16_c17_truncated_replies_are_marked() {
    let mut m = message("a.x.", OK, vec![a("a.x.")], vec![]);
    m.metadata.truncation = true;
    assert_eq!(reply(m.to_vec().unwrap(), &question("a.x.", rtype::A)).unwrap().class, Class::Truncated);
}

#[test]
fn c19_a_negative_ttl_counts_as_zero() {
    assert_eq!(effective_ttl(1 << 31), 0);
    assert_eq!(effective_ttl(u32::MAX), 0);
    assert_eq!(effective_ttl(i32::MAX as u32), i32::MAX as u32);
    assert_eq!(class("a.x.", NX, vec![], vec![soa("x.", u32::MAX, 30)]), Ok(Class::NxDomain(0)));
}

#[test]
fn c22_nxdomain_behind_an_alias_is_negative() {
    let answers = vec![cname("a.x.", "gone.y.")];
    assert_eq!(class("a.x.", NX, answers.clone(), vec![soa("y.", 60, 30)]), Ok(Class::NxDomain(30)));
    assert_eq!(class("a.x.", NX, answers, vec![soa("x.", 60, 30)]), Ok(Class::Unstorable), "not the target's zone");
}

#[test]
fn c23_c24_c25_the_soa_decides() {
    assert_eq!(class("a.x.", NX, vec![], vec![]), Ok(Class::Unstorable));
    assert_eq!(class("a.x.", OK, vec![], vec![]), Ok(Class::Unstorable));
    assert_eq!(class("a.x.", NX, vec![], vec![soa("y.", 60, 60)]), Ok(Class::Unstorable));
    assert_eq!(class("a.x.", NX, vec![], vec![soa("b.a.x.", 60, 60)]), Ok(Class::Unstorable));
    assert_eq!(class("a.x.", NX, vec![], vec![soa("x.", 60, 5)]), Ok(Class::NxDomain(5)));
    assert_eq!(class("a.x.", OK, vec![], vec![soa("x.", 5, 60)]), Ok(Class::NoData(5)));
}

#[test]
fn c26_c27_other_rcodes_are_failures() {
    for code in [ResponseCode::ServFail, ResponseCode::Refused, ResponseCode::NotImp, ResponseCode::YXDomain] {
        assert_eq!(class("a.x.", code, vec![], vec![]), Ok(Class::Failure), "{code}");
    }
}

#[test]
fn c28_a_referral_is_not_nodata() {
    let ns = Rr::from_rdata(name("x."), 300, RData::NS(NS(name("ns.x."))));
    assert_eq!(class("a.x.", OK, vec![], vec![ns]), Ok(Class::Unstorable));
}

#[test]
fn a_cname_that_ends_nowhere_needs_a_soa() {
    let answers = vec![cname("a.x.", "b.y.")];
    assert_eq!(class("a.x.", OK, answers.clone(), vec![]), Ok(Class::Unstorable));
    assert_eq!(class("a.x.", OK, answers, vec![soa("y.", 9, 9)]), Ok(Class::NoData(9)));
}

#[test]
fn c32_the_opt_is_removed_and_its_rcode_kept() {
    let mut m = message("a.x.", ResponseCode::BADVERS, vec![], vec![]);
    m.set_edns(Edns::new());
    let r = reply(m.to_vec().unwrap(), &question("a.x.", rtype::A)).unwrap();
    assert_eq!((r.rcode, r.class), (16, Class::Failure));
    assert!(Message::from_vec(&r.message).unwrap().edns.is_none());
}

#[test]
fn an_opt_in_front_of_other_records_is_removed_too() {
    let mut m = message("a.x.", OK, vec![a("a.x.")], vec![]).to_vec().unwrap();
    m[11] = 2;
    m.extend([0, 0, 41, 4, 208, 0, 0, 0, 0, 0, 6, 0, 15, 0, 2, 0, 7]);
    m.extend([0xc0, 0x0c, 0, 1, 0, 1, 0, 0, 1, 44, 0, 4, 10, 0, 0, 2]);
    let r = reply(m, &question("a.x.", rtype::A)).unwrap();
    let parsed = Message::from_vec(&r.message).unwrap();
    assert!(parsed.edns.is_none());
    assert_eq!((parsed.answers.len(), parsed.additionals.len(), r.ede), (1, 1, Some(7)));
}

#[test]
fn what_outgrows_a_message_without_its_opt_is_refused() {
    let mut m = message("a-name-of-some-length.x.", OK, vec![], vec![]).to_vec().unwrap();
    m[6..8].copy_from_slice(&3_000u16.to_be_bytes());
    (0..3_000).for_each(|_| m.extend([0xc0, 0x0c, 0, 1, 0, 1, 0, 0, 1, 44, 0, 4, 10, 0, 0, 1]));
    m[11] = 2;
    m.extend([0, 0, 41, 4, 208, 0, 0, 0, 0, 0, 0]);
    m.extend([0xc0, 0x0c, 0, 1, 0, 1, 0, 0, 1, 44, 0, 4, 10, 0, 0, 2]);
    assert!(m.len() < 65_535);
    assert_eq!(reply(m, &question("a-name-of-some-length.x.", rtype::A)), Err(Invalid::Size));
}

#[test]
fn a_bare_header_gets_its_question_back() {
    let q = question("a.x.", rtype::A);
    let r = reply(vec![0, 9, 0x80, 1, 0, 0, 0, 0, 0, 0, 0, 0], &q).unwrap();
    assert_eq!((r.rcode, r.class), (1, Class::Failure));
    assert_eq!(&r.message[12..], q.as_bytes());
}

#[test]
fn c33_malformed_svcb_never_panics() {
    let mut m = message("a.x.", OK, vec![], vec![]).to_vec().unwrap();
    m[7] = 1;
    m.extend([0xc0, 0x0c, 0, 64, 0, 1, 0, 0, 0, 9, 0, 14, 0, 1, 0, 0, 1, 0, 0, 0, 1, 0, 2, 1, 1, 9]);
    let end = m.len();
    for cut in 0..end {
        let _ = reply(m[..cut].to_vec(), &question("a.x.", 64));
    }
    let _ = reply(m, &question("a.x.", 64));
}
