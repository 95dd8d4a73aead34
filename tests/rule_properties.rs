//! Properties of the rules that alter messages, with hickory-proto as the second opinion: what is reordered, changed back
//! or translated is a message that it reads, with the records that were there before.
//!
//! The cases are the same in every run.

#![allow(clippy::unwrap_used)]

use hickory_proto::op::{Message, MessageType, OpCode, Query};
use hickory_proto::rr::rdata::{A, AAAA, CNAME, MX, NS, NULL, SOA, SRV, TXT};
use hickory_proto::rr::{Name, RData, Record, RecordType};
use nodens::config::{self, Change, Kind, Rewrite};
use nodens::observe::queries::Proto;
use nodens::resolve::local::Asked;
use nodens::resolve::local::balance::Balance;
use nodens::resolve::local::dns64::Dns64;
use nodens::resolve::local::rewrite::Rewrites;
use nodens::wire::message;
use nodens::wire::question::{Question, is_within, to_wire};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use proptest::test_runner::RngSeed;
use std::net::{Ipv4Addr, Ipv6Addr};

/// `cases` cases, the same ones every time, none written down.
fn config(cases: u32) -> ProptestConfig {
    ProptestConfig {
        cases,
        failure_persistence: None,
        rng_seed: RngSeed::Fixed(0x0072_756c_6573),
        ..Default::default()
    }
}

/// Names that have parts in common, so that messages are compressed.
fn name() -> impl Strategy<Value = Name> {
    let names = ["www.example.", "WEB.example.", "example.", "a.b.c.www.example.", ".", "ns.other.", "host.Example."];
    select(names.map(|n| Name::from_ascii(n).unwrap()).to_vec())
}

fn rdata() -> impl Strategy<Value = RData> {
    let soa = |(m, r, n): (Name, Name, u32)| RData::SOA(SOA::new(m, r, n, 1, 2, 3, 4));
    prop_oneof![
        6 => any::<u32>().prop_map(|a| RData::A(A(a.into()))),
        2 => any::<u128>().prop_map(|a| RData::AAAA(AAAA(a.into()))),
        2 => name().prop_map(|n| RData::CNAME(CNAME(n))),
        1 => name().prop_map(|n| RData::NS(NS(n))),
        2 => (any::<u16>(), name()).prop_map(|(p, n)| RData::MX(MX::new(p, n))),
        1 => (any::<[u16; 3]>(), name()).prop_map(|(n, t)| RData::SRV(SRV::new(n[0], n[1], n[2], t))),
        1 => (name(), name(), any::<u32>()).prop_map(soa),
        1 => vec("[ -~]{0,40}", 1..4).prop_map(|texts| RData::TXT(TXT::new(texts))),
        1 => (1000u16..2000, vec(any::<u8>(), 1..40))
            .prop_map(|(code, octets)| RData::Unknown { code: code.into(), rdata: NULL::with(octets) }),
    ]
}

fn records(most: usize) -> impl Strategy<Value = Vec<Record>> {
    vec((name(), 0..100_000u32, rdata()).prop_map(|(owner, ttl, data)| Record::from_rdata(owner, ttl, data)), 0..most)
}

/// A reply of the code 0, as the cache keeps it.
fn reply(qtype: RecordType) -> impl Strategy<Value = Message> {
    (name(), records(40), records(6), records(6), any::<bool>()).prop_map(move |(qname, answers, ns, more, cut)| {
        let mut message = Message::new(7, MessageType::Response, OpCode::Query);
        message.metadata.truncation = cut;
        message.add_query(Query::query(qname.to_lowercase(), qtype));
        (message.answers, message.authorities, message.additionals) = (answers, ns, more);
        message
    })
}

/// The records of a section, in an order of their own.
fn sorted(records: &[Record]) -> Vec<String> {
    let mut all: Vec<String> = records.iter().map(|r| format!("{} {} {:?}", r.name, r.ttl, r.data)).collect();
    all.sort();
    all
}

fn sections(message: &Message) -> [Vec<String>; 3] {
    [&message.answers, &message.authorities, &message.additionals].map(|section| sorted(section))
}

proptest! {
    #![proptest_config(config(500))]

    #[test]
    fn octets_of_any_kind_are_taken_apart_or_refused(octets in vec(any::<u8>(), 0..300)) {
        if let Some(read) = message::Message::read(&octets) {
            let again = read.write();
            prop_assert!(again.is_some_and(|again| message::Message::read(&again).is_some()));
        }
    }

    #[test]
    fn what_is_put_together_again_says_the_same(reply in reply(RecordType::A)) {
        let bytes = reply.to_vec().unwrap();
        let again = message::Message::read(&bytes).unwrap().write().unwrap();
        prop_assert_eq!(Message::from_vec(&again).unwrap(), Message::from_vec(&bytes).unwrap());
    }

    #[test]
    fn balancing_keeps_every_record_in_its_section(reply in reply(RecordType::A), seed: u64, weighted: bool) {
        let weights = weighted.then(|| config::Weights { file: "/w".into(), reload: Default::default() });
        let prefer = vec!["10.0.0.0/8".parse().unwrap(), "0.0.0.0/1".parse().unwrap()];
        let balance = Balance::new(&config::LoadBalance { weights, prefer });
        let bytes = reply.to_vec().unwrap();
        let arranged = Message::from_vec(&balance.arrange(bytes.clone(), seed)).unwrap();
        let before = Message::from_vec(&bytes).unwrap();
        prop_assert_eq!(sections(&arranged), sections(&before));
        prop_assert_eq!(&arranged.queries, &before.queries);
        prop_assert_eq!(arranged.metadata, before.metadata);
    }

    #[test]
    fn balancing_never_panics(octets in vec(any::<u8>(), 0..300), seed: u64) {
        let balance = Balance::new(&config::LoadBalance { weights: None, prefer: vec!["10.0.0.0/8".parse().unwrap()] });
        balance.arrange(octets, seed);
    }

    #[test]
    fn the_client_gets_its_question_and_no_name_of_the_rewritten_one(reply in reply(RecordType::A), auto: bool) {
        let change = Change::Name {
            kind: Kind::Suffix,
            from: "client.test.".into(),
            to: "example.".into(),
            auto,
            owners: vec![],
            targets: vec![],
        };
        let rules = Rewrites::new(&[Rewrite { go_on: false, change }]).unwrap();
        let asked = Question::new(&to_wire("www.client.test"), 1, 1).unwrap();
        let who = Asked { question: &asked, client: "192.0.2.1:53".parse().unwrap(), proto: Proto::Udp };
        let rewritten = rules.request(&who, None).unwrap().unwrap();
        prop_assert_eq!(rewritten.question.name(), to_wire("www.example"));
        let bytes = reply.to_vec().unwrap();
        let restored = rewritten.undo.restore(bytes.clone(), 0, &asked, None).unwrap().message;
        let (before, after) = (Message::from_vec(&bytes).unwrap(), Message::from_vec(&restored).unwrap());
        prop_assert_eq!(after.queries[0].to_string(), "www.client.test. IN A");
        prop_assert_eq!(after.metadata, before.metadata);
        if auto {
            let names = message::Message::read(&restored).unwrap();
            let left = |owner: &[u8]| is_within(&owner.to_ascii_lowercase(), &to_wire("example"));
            prop_assert!(!names.sections.iter().flatten().any(|rr| left(&rr.owner)));
        } else {
            prop_assert_eq!(sections(&after), sections(&before));
        }
    }

    #[test]
    fn restoring_never_panics(octets in vec(any::<u8>(), 0..300)) {
        let change = Change::Cname { kind: Kind::Substring, from: "a".into(), to: "b".into() };
        let rules = Rewrites::new(&[Rewrite { go_on: false, change }]).unwrap();
        let asked = Question::new(&to_wire("a"), 1, 1).unwrap();
        let who = Asked { question: &asked, client: "192.0.2.1:53".parse().unwrap(), proto: Proto::Udp };
        let undo = rules.request(&who, None).unwrap().unwrap().undo;
        undo.more(&octets);
        let _ = undo.restore(octets.clone(), 0, &asked, Some(&octets));
    }

    #[test]
    fn translated_addresses_hold_the_ipv4_address_where_rfc_6052_has_it(
        reply in reply(RecordType::A), length in select(vec![32u8, 40, 48, 56, 64, 96]), prefix: [u8; 12], soa in 0..2000u32
    ) {
        let mut octets = [0; 16];
        octets[..12].copy_from_slice(&prefix);
        octets[8] = 0;
        let config = config::Dns64 { prefix: octets.into(), length, translate_all: false, allow_ipv4: false };
        let question = Question::new(&to_wire("www.example"), 28, 1).unwrap();
        let mut empty = Message::new(7, MessageType::Response, OpCode::Query);
        empty.add_query(Query::query(Name::from_ascii("www.example.").unwrap(), RecordType::AAAA));
        let nobody = RData::SOA(SOA::new(Name::root(), Name::root(), 1, 1, 1, 1, 1));
        empty.add_authority(Record::from_rdata(Name::root(), soa, nobody));
        let bytes = reply.to_vec().unwrap();
        let made = Dns64::new(config).synthesise(&question, &empty.to_vec().unwrap(), &bytes).unwrap();
        let (before, made) = (Message::from_vec(&bytes).unwrap(), Message::from_vec(&made).unwrap());
        prop_assert_eq!(made.queries[0].to_string(), "www.example. IN AAAA");
        prop_assert_eq!(made.metadata.truncation, before.metadata.truncation);
        prop_assert_eq!(made.answers.len(), before.answers.len());
        for (old, new) in before.answers.iter().zip(&made.answers) {
            let (RData::A(v4), RData::AAAA(v6)) = (&old.data, &new.data) else {
                prop_assert_eq!((&old.name, old.ttl, &old.data), (&new.name, new.ttl, &new.data));
                continue;
            };
            prop_assert_eq!((&new.name, new.ttl), (&old.name, old.ttl.min(soa)));
            prop_assert_eq!(extract(v6.0, length), v4.0);
            let kept = u128::MAX << (128 - u32::from(length));
            prop_assert_eq!(u128::from(v6.0) & kept, u128::from_be_bytes(octets) & kept);
            prop_assert_eq!(v6.0.octets()[8], 0, "bits 64 to 71");
        }
        prop_assert_eq!(&sections(&made)[1..], &sections(&before)[1..]);
    }
}

/// The table of RFC 6052 §2.2, read backwards.
fn extract(address: Ipv6Addr, length: u8) -> Ipv4Addr {
    let o = address.octets();
    let [a, b, c, d] = match length {
        32 => [4, 5, 6, 7],
        40 => [5, 6, 7, 9],
        48 => [6, 7, 9, 10],
        56 => [7, 9, 10, 11],
        64 => [9, 10, 11, 12],
        _ => [12, 13, 14, 15],
    };
    Ipv4Addr::new(o[a], o[b], o[c], o[d])
}
