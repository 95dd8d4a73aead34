//! Messages taken apart and put together, beside what hickory-proto makes of them.

use super::*;
use crate::wire::question::to_wire;
use hickory_proto::op::{Message as Other, MessageType, OpCode, Query};
use hickory_proto::rr::rdata::{A, CNAME, MX, NAPTR, NS, NULL, SOA, SRV};
use hickory_proto::rr::{Name, RData, Record as OtherRecord, RecordType};

fn name(text: &str) -> Name {
    Name::from_ascii(text).unwrap()
}

fn example() -> Other {
    let mut message = Other::new(7, MessageType::Response, OpCode::Query);
    message.add_query(Query::query(name("www.example."), RecordType::A));
    let rr = |owner: &str, data| OtherRecord::from_rdata(name(owner), 300, data);
    message.add_answer(rr("www.example.", RData::CNAME(CNAME(name("Web.example.")))));
    message.add_answer(rr("Web.example.", RData::A(A::new(192, 0, 2, 1))));
    message.add_answer(rr("web.example.", RData::MX(MX::new(10, name("mx.Web.example.")))));
    message.add_answer(rr("_a._tcp.example.", RData::SRV(SRV::new(1, 2, 3, name("web.example.")))));
    let naptr = NAPTR::new(1, 2, (*b"u").into(), (*b"E2U").into(), Box::default(), name("naptr.example."));
    message.add_answer(rr("example.", RData::NAPTR(naptr)));
    message.add_answer(rr("odd.", RData::Unknown { code: 1234.into(), rdata: NULL::with(vec![0xc0, 12, 1]) }));
    message.add_authority(rr("example.", RData::NS(NS(name("ns.example.")))));
    message.add_authority(rr("example.", RData::SOA(SOA::new(name("ns.example."), name("."), 1, 2, 3, 4, 5))));
    message.add_additional(rr("ns.example.", RData::A(A::new(192, 0, 2, 53))));
    message
}

#[test]
fn a_message_survives_being_taken_apart() {
    let bytes = example().to_vec().unwrap();
    let read = Message::read(&bytes).unwrap();
    assert_eq!(read.sections.each_ref().map(Vec::len), [6, 2, 1]);
    let again = read.write().unwrap();
    assert_eq!(Other::from_vec(&again).unwrap(), Other::from_vec(&bytes).unwrap());
    assert_eq!(Message::read(&again), Some(read));
    assert!(again.len() <= bytes.len() + 20, "{} octets, hickory-proto needs {}", again.len(), bytes.len());
}

#[test]
fn the_name_that_a_record_leads_to_can_be_another() {
    let mut read = Message::read(&example().to_vec().unwrap()).unwrap();
    let targets: Vec<_> = read.sections.iter().flatten().map(|rr| rr.target().map(<[u8]>::to_vec)).collect();
    let wire = |text: &str| Some(to_wire(text));
    let all = ["Web.example", "", "mx.Web.example", "web.example", "naptr.example", "", "ns.example", "ns.example", ""];
    assert_eq!(targets, all.map(|text| if text.is_empty() { None } else { wire(text) }));
    read.sections.iter_mut().flatten().for_each(|rr| rr.set_target(&to_wire("other")));
    let read = Other::from_vec(&read.write().unwrap()).unwrap();
    assert_eq!(read.answers[2].to_string(), "web.example. 300 IN MX 10 other.");
    assert_eq!(read.answers[3].to_string(), "_a._tcp.example. 300 IN SRV 1 2 3 other.");
    assert_eq!(read.authorities[1].to_string(), "example. 300 IN SOA other. . 1 2 3 4 5");
    let naptr = read.answers[4].to_string();
    assert!(naptr.ends_with(" other."), "{naptr}");
}

#[test]
fn what_does_not_fit_is_not_written_to_its_end() {
    let mut read = Message::read(&example().to_vec().unwrap()).unwrap();
    let long = Rr { owner: to_wire("a"), rtype: rtype::TXT, class: 1, ttl: 1, rdata: vec![0; 1000] };
    read.sections[0] = vec![long; 1000];
    let mut writer = Writer { out: Vec::new(), seen: HashMap::default() };
    assert_eq!(read.put_records(&mut writer), None);
    assert!((65_536..67_000).contains(&writer.out.len()), "{} octets", writer.out.len());
    assert_eq!(read.write(), None);
    read.sections[0].truncate(60);
    assert!(read.write().is_some());
}

#[test]
fn what_cannot_be_read_is_none() {
    let whole = example().to_vec().unwrap();
    for end in 0..whole.len() {
        assert_eq!(Message::read(&whole[..end]), None, "{end}");
    }
    // An owner that is a pointer to itself, behind `www.example. A`.
    let mut looped = whole[..12 + 17].to_vec();
    looped[6..12].copy_from_slice(&[0, 1, 0, 0, 0, 0]);
    looped.extend([0xc0, 29, 0, 1, 0, 1, 0, 0, 0, 1, 0, 4, 1, 2, 3, 4]);
    assert_eq!(Message::read(&looped), None);
    // RDATA too short for the name that it must hold.
    let end = looped.len();
    looped[30] = 12;
    looped[32] = 15;
    looped[end - 4..].copy_from_slice(&[0, 1, 9, 9]);
    assert_eq!(Message::read(&looped), None);
}

#[test]
fn what_is_longer_than_a_message_is_none() {
    let mut read = Message::read(&example().to_vec().unwrap()).unwrap();
    let big = Rr { owner: vec![0], rtype: 1234, class: 1, ttl: 0, rdata: vec![0; 60_000] };
    read.section_mut(Section::Answer).push(big.clone());
    assert!(read.write().is_some());
    read.section_mut(Section::Answer).push(big);
    assert_eq!(read.write(), None);
}

#[test]
fn names_far_from_the_start_are_pointed_at_no_more() {
    let mut read = Message::read(&example().to_vec().unwrap()).unwrap();
    let rr = |n: usize| Rr {
        owner: to_wire(&format!("host{}.zone{}.test", n % 3000, n / 2)),
        rtype: 1,
        class: 1,
        ttl: 1,
        rdata: vec![1, 2, 3, 4],
    };
    *read.section_mut(Section::Answer) = (0..1500).map(rr).collect();
    let bytes = read.write().unwrap();
    assert!(bytes.len() > 0x4000);
    assert_eq!(Message::read(&bytes), Some(Message { header: Header::read(&bytes).unwrap(), ..read }));
}
