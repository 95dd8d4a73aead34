//! Properties of `wire`, with hickory-proto as the second opinion: what we accept it accepts, what we write it reads
//! back equal, and no octets, however odd, lead to a panic or to more than one walk over them.
//!
//! The cases are the same in every run.

#![allow(clippy::panic, clippy::unwrap_used)]

use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query};
use hickory_proto::rr::rdata::opt::EdnsOption;
use hickory_proto::rr::rdata::{A, AAAA, CNAME, MX, NS, NULL, SOA, SRV, TXT};
use hickory_proto::rr::{DNSClass, Name, RData, Record, RecordType};
use hickory_proto::serialize::binary::BinEncodable;
use nodens::cache::entry::About;
use nodens::cache::{Entry, Flags, Ttls, policy};
use nodens::sys::clock::Moment;
use nodens::wire::header::{self, Header};
use nodens::wire::query::{self, Gate};
use nodens::wire::question::{self, Question};
use nodens::wire::record::{self, Section};
use nodens::wire::reply::{self, Asked, Manner, Notes, STREAM_LIMIT, Ttl};
use nodens::wire::validate;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};
use proptest::test_runner::RngSeed;
use std::time::Duration;

/// `cases` cases, the same ones every time, none written down.
fn config(cases: u32) -> ProptestConfig {
    ProptestConfig {
        cases,
        failure_persistence: None,
        rng_seed: RngSeed::Fixed(0x6e6f_6465_6e73),
        ..Default::default()
    }
}

// What is asked and answered.

/// Names of any octets, of up to 255 of them.
fn name() -> impl Strategy<Value = Name> {
    let label = prop_oneof![
        6 => "[a-cA-C]{1,3}".prop_map(String::into_bytes),
        2 => vec(any::<u8>(), 1..=63),
        1 => vec(any::<u8>(), 60..=63),
    ];
    vec(label, 0..6).prop_map(|labels| {
        let mut size = 1;
        let fitting = labels.into_iter().take_while(|label| {
            size += 1 + label.len();
            size <= 255
        });
        Name::from_labels(fitting.collect::<Vec<_>>()).unwrap()
    })
}

/// Names that have parts in common, so that messages are compressed.
fn related() -> impl Strategy<Value = Name> {
    let names = ["www.example.", "WEB.example.", "example.", "a.b.c.www.example.", ".", "ns.other.", "host.Example."];
    select(names.map(|n| Name::from_ascii(n).unwrap()).to_vec())
}

fn rdata() -> impl Strategy<Value = RData> {
    let soa = |(m, r, n): (Name, Name, [u32; 5])| {
        RData::SOA(SOA::new(m, r, n[0], n[1] as i32, n[2] as i32, n[3] as i32, n[4]))
    };
    prop_oneof![
        4 => any::<u32>().prop_map(|a| RData::A(A(a.into()))),
        2 => any::<u128>().prop_map(|a| RData::AAAA(AAAA(a.into()))),
        2 => related().prop_map(|n| RData::CNAME(CNAME(n))),
        1 => related().prop_map(|n| RData::NS(NS(n))),
        1 => (any::<u16>(), related()).prop_map(|(p, n)| RData::MX(MX::new(p, n))),
        1 => (any::<[u16; 3]>(), related()).prop_map(|(n, t)| RData::SRV(SRV::new(n[0], n[1], n[2], t))),
        1 => (related(), related(), any::<[u32; 5]>()).prop_map(soa),
        1 => vec("[ -~]{0,40}", 1..4).prop_map(|texts| RData::TXT(TXT::new(texts))),
        1 => (1000u16..2000, vec(any::<u8>(), 1..40))
            .prop_map(|(code, octets)| RData::Unknown { code: code.into(), rdata: NULL::with(octets) }),
    ]
}

fn record_of() -> impl Strategy<Value = Record> {
    let ttl = prop_oneof![0u32..100, any::<u32>()];
    (related(), ttl, rdata()).prop_map(|(owner, ttl, data)| Record::from_rdata(owner, ttl, data))
}

/// A response without OPT, its question in lower case: what the cache keeps.
fn stored() -> impl Strategy<Value = Message> {
    let sections = (vec(record_of(), 0..60), vec(record_of(), 0..8), vec(record_of(), 0..8));
    let meta = (any::<[bool; 3]>(), prop_oneof![Just(0u16), 0u16..24]);
    (related(), any::<u16>(), sections, meta).prop_map(|(qname, id, sections, ([aa, tc, ad], rcode))| {
        let mut message = Message::new(id, MessageType::Response, OpCode::Query);
        let meta = &mut message.metadata;
        (meta.authoritative, meta.truncation, meta.authentic_data) = (aa, tc, ad);
        meta.response_code = rcode.into();
        message.add_query(Query::query(qname.to_lowercase(), RecordType::A));
        (message.answers, message.authorities, message.additionals) = sections;
        message
    })
}

/// An OPT record that a client may send.
fn edns() -> impl Strategy<Value = Edns> {
    let option = prop_oneof![
        vec(any::<u8>(), 16..=40).prop_map(|cookie| EdnsOption::Unknown(10, cookie)),
        Just(EdnsOption::Unknown(11, vec![])),
        Just(EdnsOption::Unknown(65_053, vec![])),
        (100u16..200, vec(any::<u8>(), 0..20)).prop_map(|(code, data)| EdnsOption::Unknown(code, data)),
    ];
    (any::<u16>(), any::<bool>(), vec(option, 0..4)).prop_map(|(size, dnssec, options)| {
        let mut edns = Edns::new();
        edns.set_max_payload(size).set_dnssec_ok(dnssec);
        options.into_iter().for_each(|option| edns.options_mut().insert(option));
        edns
    })
}

/// Types that are looked up.
fn qtype() -> impl Strategy<Value = RecordType> {
    prop_oneof![select(vec![1u16, 2, 5, 6, 12, 15, 16, 28, 33, 64, 65, 255]), 256u16..65_000].prop_map(RecordType::from)
}

/// A client's query, as hickory-proto makes it.
fn asked(name: impl Strategy<Value = Name>) -> impl Strategy<Value = Message> {
    (name, qtype(), any::<u16>(), any::<[bool; 3]>(), proptest::option::of(edns())).prop_map(
        |(name, qtype, id, [rd, cd, ad], edns)| {
            let mut message = Message::new(id, MessageType::Query, OpCode::Query);
            let meta = &mut message.metadata;
            (meta.recursion_desired, meta.checking_disabled, meta.authentic_data) = (rd, cd, ad);
            message.add_query(Query::query(name, qtype));
            message.edns = edns;
            message
        },
    )
}

/// What may happen to a message on its way.
#[derive(Clone, Debug)]
enum Damage {
    Change(Index, u8),
    Cut(Index),
    Insert(Index, Vec<u8>),
}

/// `message`, damaged in up to three places.
fn damaged(message: impl Strategy<Value = Vec<u8>>) -> impl Strategy<Value = Vec<u8>> {
    // Octets that mean something: ends, lengths, pointers, the types and codes that are looked at.
    let octet =
        || prop_oneof![any::<u8>(), select(vec![0u8, 1, 2, 5, 6, 11, 12, 15, 16, 41, 46, 63, 64, 192, 193, 255])];
    let damage = prop_oneof![
        4 => (any::<Index>(), octet()).prop_map(|(at, octet)| Damage::Change(at, octet)),
        1 => any::<Index>().prop_map(Damage::Cut),
        2 => (any::<Index>(), vec(octet(), 1..20)).prop_map(|(at, octets)| Damage::Insert(at, octets)),
    ];
    (message, vec(damage, 0..4)).prop_map(|(mut bytes, damages)| {
        for damage in damages {
            match damage {
                Damage::Change(at, octet) if !bytes.is_empty() => {
                    let at = at.index(bytes.len());
                    bytes[at] = octet;
                }
                Damage::Change(..) => {}
                Damage::Cut(at) => bytes.truncate(at.index(bytes.len() + 1)),
                Damage::Insert(at, octets) => {
                    let at = at.index(bytes.len() + 1);
                    bytes.splice(at..at, octets);
                }
            }
        }
        bytes
    })
}

fn query_bytes() -> impl Strategy<Value = Vec<u8>> {
    asked(prop_oneof![related(), name()]).prop_map(|m| m.to_vec().unwrap())
}

/// A reply as an upstream may send it: with an OPT in any place or none; `plausible` ones answer the question.
fn reply_bytes() -> impl Strategy<Value = Vec<u8>> {
    let opt = proptest::option::of((edns(), any::<Index>()));
    (stored(), opt, proptest::bool::weighted(0.8), vec(related(), 0..4)).prop_map(
        |(mut message, opt, plausible, chain)| {
            let mut owner = message.queries[0].name().clone();
            if plausible {
                message.answers.retain(|r| r.record_type() != RecordType::CNAME);
                for target in chain {
                    message.answers.insert(0, Record::from_rdata(owner, 300, RData::CNAME(CNAME(target.clone()))));
                    owner = target;
                }
                message
                    .answers
                    .iter_mut()
                    .filter(|r| r.record_type() != RecordType::CNAME)
                    .for_each(|r| r.name = owner.clone());
            }
            if let Some((edns, at)) = opt {
                let at = at.index(message.additionals.len() + 1);
                message.additionals.insert(at, Record::from(&edns));
            }
            message.to_vec().unwrap()
        },
    )
}

fn www() -> Question {
    Question::new(b"\x03www\x07example\x00", 1, 1).unwrap()
}

const TTLS: Ttls = Ttls { positive: (0, 3600), negative: (0, 60), failure: Duration::from_secs(5), one: false };

fn entry(message: &[u8], rcode: u16) -> Entry {
    let about = About {
        stored: Moment::default(),
        lifetime: 60,
        rcode,
        negative: false,
        flags: Flags::default(),
        ruled: false,
        zone: 0,
        upstream: 0,
    };
    Entry::new(message, about)
}

/// Everything that reads octets from outside, on these.
fn read_all(bytes: &[u8]) -> Result<(), TestCaseError> {
    if let Gate::Ask(query) = query::read(bytes) {
        let mut out = vec![0; STREAM_LIMIT];
        let stored = entry(&reply::upstream_query(www().as_bytes(), true, false, false), 0);
        reply::answer(
            &stored.as_stored(),
            &Asked::over_udp(&query, Manner::default()),
            Ttl::Aged(1),
            true,
            &Notes::default(),
            &mut out,
        );
    }
    if let Some((_, records)) = record::of(bytes) {
        prop_assert!(records.count() <= bytes.len() / 11 + 1);
    }
    let ours = reply::upstream_query(www().as_bytes(), true, false, false);
    let _ = question::is_reply_to(&ours, bytes);
    let _ = question::is_reply_to(bytes, &ours);
    if let Ok(mut reply) = validate::reply(bytes.to_vec(), &www()) {
        policy::apply(&mut reply, &TTLS);
        let _ = entry(&reply.message, reply.rcode).question();
    }
    Ok(())
}

/// Does the OPT of `packet` hold a client subnet? hickory-proto reads what it says; we, who never use it, do not.
fn has_subnet(packet: &[u8]) -> bool {
    let Some((_, records)) = record::of(packet) else { return false };
    records.map_while(Result::ok).filter(|r| r.rtype == 41).any(|opt| {
        let mut rest = &packet[opt.rdata..opt.end];
        while let Some((&[c0, c1, l0, l1], tail)) = rest.split_first_chunk() {
            if [c0, c1] == [0, 8] {
                return true;
            }
            rest = tail.get(usize::from(u16::from_be_bytes([l0, l1]))..).unwrap_or_default();
        }
        false
    })
}

proptest! {
    #![proptest_config(config(2000))]

    #[test]
    fn arbitrary_octets_never_panic(bytes in vec(any::<u8>(), 0..400)) {
        read_all(&bytes)?;
    }

    #[test]
    fn damaged_queries_never_panic(bytes in damaged(query_bytes())) {
        read_all(&bytes)?;
    }

    #[test]
    fn what_is_relayed_can_be_read(bytes in damaged(reply_bytes()), age in 0u32..5000, id in any::<u16>()) {
        let question = Question::read(bytes.get(header::LEN..).unwrap_or_default()).unwrap_or_else(www);
        // An upstream is heard only when it replies to what it was asked.
        let ours = reply::upstream_query(question.as_bytes(), true, false, false);
        let mut bytes = bytes;
        header::set_id(&mut bytes, 0);
        let heard = question::is_reply_to(&ours, &bytes).is_ok();
        if heard && let Ok(mut reply) = validate::reply(bytes, &question) {
            let before = Message::from_vec(&reply.message);
            prop_assert!(before.is_ok(), "{before:?}");
            let before = before.unwrap();
            prop_assert!(before.edns.is_none(), "the OPT stayed");
            prop_assert_eq!(&reply.message[header::LEN..][..question.as_bytes().len()], question.as_bytes());
            let (_, mut records) = record::of(&reply.message).unwrap();
            prop_assert!(records.by_ref().all(|r| r.is_ok()));
            prop_assert_eq!(records.position(), reply.message.len());

            let lifetime = policy::apply(&mut reply, &TTLS);
            let after = Message::from_vec(&reply.message).unwrap();
            prop_assert!(after.all_sections().all(|r| r.ttl <= 3600 && r.ttl >= lifetime));
            let entry = entry(&reply.message, reply.rcode);
            prop_assert_eq!(entry.question(), question.as_bytes());
            let client = reply::upstream_query(question.as_bytes(), true, false, true);
            if let Gate::Ask(query) = query::read(&client) {
                for asked in [Asked::over_udp(&query, Manner::default()), Asked::over_tcp(&query, 80, Manner::default())] {
                    let asked = Asked { id, flags: id & !header::OPCODE, ..asked };
                    let mut out = vec![0; STREAM_LIMIT];
                    let len = reply::answer(&entry.as_stored(), &asked, Ttl::Aged(age), false, &Notes::default(), &mut out);
                    let got = Message::from_vec(&out[..len.unwrap()]);
                    prop_assert!(got.is_ok(), "{got:?}");
                    // Whatever the id, the age and the spelling: the same records, or the first of them.
                    let got: Vec<_> = got.unwrap().all_sections().map(lasting).collect();
                    let all: Vec<_> = before.all_sections().map(lasting).take(got.len()).collect();
                    prop_assert_eq!(got, all);
                }
            }
        }
    }

    #[test]
    fn what_we_look_up_hickory_reads_as_the_same_question(bytes in damaged(query_bytes())) {
        if let Gate::Ask(query) = query::read(&bytes) && !has_subnet(&bytes) {
            let message = Message::from_vec(&bytes);
            prop_assert!(message.is_ok(), "{message:?}");
            let message = message.unwrap();
            prop_assert_eq!(message.queries.len(), 1);
            let asked = &message.queries[0];
            let name = asked.name().to_lowercase().to_bytes().unwrap();
            prop_assert_eq!(query.question.name(), &name[..]);
            prop_assert_eq!(query.question.qtype(), u16::from(asked.query_type()));
            prop_assert_eq!(query.question.qclass(), u16::from(asked.query_class()));
            prop_assert_eq!(query.edns.is_some(), message.edns.is_some());
            prop_assert_eq!(query.dnssec_ok(), message.edns.is_some_and(|e| e.flags().dnssec_ok));
        }
    }
}

proptest! {
    #![proptest_config(config(500))]

    #[test]
    fn damaged_replies_never_panic(bytes in damaged(reply_bytes())) {
        read_all(&bytes)?;
    }

    #[test]
    fn queries_by_hickory_are_read_with_equal_fields(message in asked(name())) {
        let bytes = message.to_vec().unwrap();
        let Gate::Ask(query) = query::read(&bytes) else { panic!("not looked up: {message}") };
        let asked = &message.queries[0];
        let name = asked.name().to_bytes().unwrap();
        prop_assert_eq!(&query.spelled[..name.len()], &name[..]);
        prop_assert_eq!(query.question.name(), &name.to_ascii_lowercase()[..]);
        prop_assert_eq!(query.question.qtype(), u16::from(asked.query_type()));
        prop_assert_eq!(query.question.qclass(), u16::from(DNSClass::IN));
        prop_assert_eq!(query.header.id, message.metadata.id);
        prop_assert_eq!(query.recursion_desired(), message.metadata.recursion_desired);
        prop_assert_eq!(query.checking_disabled(), message.metadata.checking_disabled);
        let has = |code: u16| message.edns.as_ref().is_some_and(|e| e.option(code.into()).is_some());
        match (&query.edns, &message.edns) {
            (None, None) => {}
            (Some(ours), Some(theirs)) => {
                prop_assert_eq!(ours.udp_size, theirs.max_payload().max(512));
                prop_assert_eq!(ours.dnssec_ok, theirs.flags().dnssec_ok);
                prop_assert_eq!((ours.version, ours.keepalive, ours.explain), (0, has(11), has(65_053)));
            }
            _ => panic!("one of us sees an OPT, the other does not"),
        }
    }

    #[test]
    fn answers_are_read_back_as_stored_and_patched(
        message in stored(),
        client in asked(related()),
        (tcp, limit) in (any::<bool>(), 0usize..3000),
        (age, fresh) in (prop_oneof![0u32..120, any::<u32>()], any::<bool>()),
    ) {
        // The client asks for what is stored, in its own spelling.
        let mut client = client;
        let spelled = Name::from_ascii(message.queries[0].name().to_ascii().to_uppercase()).unwrap();
        client.queries = vec![Query::query(spelled, RecordType::A)];
        let packet = client.to_vec().unwrap();
        let Gate::Ask(query) = query::read(&packet) else { panic!("not looked up: {client}") };
        let asked = if tcp { Asked::over_tcp(&query, 80, Manner::default()) } else { Asked::over_udp(&query, Manner::default()) };
        let asked = Asked { limit: asked.limit.min(400 + limit), ..asked };
        let bytes = message.to_vec().unwrap();
        let rcode = u16::from(message.metadata.response_code);
        let stored = entry(&bytes, rcode);
        let mut out = vec![0; STREAM_LIMIT];
        let len = reply::answer(&stored.as_stored(), &asked, Ttl::Aged(age), fresh, &Notes::default(), &mut out).unwrap();
        prop_assert!(len <= asked.limit);
        let got = Message::from_vec(&out[..len]);
        prop_assert!(got.is_ok(), "{got:?}");
        let got = got.unwrap();

        // The header.
        let (theirs, ours) = (&client.metadata, &got.metadata);
        prop_assert_eq!(ours.id, theirs.id);
        prop_assert_eq!(ours.message_type, MessageType::Response);
        prop_assert_eq!((ours.recursion_desired, ours.checking_disabled), (theirs.recursion_desired, theirs.checking_disabled));
        prop_assert!(ours.recursion_available && !ours.authentic_data && out[3] & 0x40 == 0);
        prop_assert_eq!(ours.authoritative, fresh && message.metadata.authoritative);
        let sayable = if rcode > 15 && client.edns.is_none() { 2 } else { rcode };
        prop_assert_eq!(u16::from(ours.response_code), sayable);
        prop_assert_eq!(&out[header::LEN..header::LEN + query.spelled.len()], query.spelled);

        // The records that were kept come first, aged.
        let aged = |ttl: u32| if ttl == 0 { 0 } else { ttl.saturating_sub(age).max(1) };
        let kept = [got.answers.len(), got.authorities.len(), got.additionals.len()];
        let all = [message.answers.len(), message.authorities.len(), message.additionals.len()];
        let wanted = message.all_sections().take(kept.iter().sum());
        let wanted: Vec<_> = wanted.map(|r| (lasting(r), aged(r.ttl))).collect();
        prop_assert_eq!(got.all_sections().map(|r| (lasting(r), r.ttl)).collect::<Vec<_>>(), wanted);
        for section in 0..3 {
            prop_assert!(kept[section] == all[section] || kept[section + 1..].iter().all(|n| *n == 0));
        }
        let lost = kept[..2] != all[..2];
        prop_assert_eq!(ours.truncation, message.metadata.truncation || lost);

        // As many as fit.
        let (_, mut rest) = record::of(&bytes).unwrap();
        if let Some(next) = rest.nth(kept.iter().sum()) {
            let next = next.unwrap();
            prop_assert!(len + next.end - next.start > asked.limit, "{len} + {next:?}");
        }

        // The OPT.
        prop_assert_eq!(got.edns.is_some(), client.edns.is_some());
        if let (Some(ours), Some(theirs)) = (&got.edns, &client.edns) {
            prop_assert_eq!(ours.flags().dnssec_ok, theirs.flags().dnssec_ok);
            prop_assert_eq!((ours.version(), ours.flags().z, ours.max_payload()), (0, 0, 1232));
            let keepalive = tcp && theirs.option(11.into()).is_some();
            prop_assert_eq!(options_len(ours), if keepalive { 6 } else { 0 });
        }
    }

    #[test]
    fn refusals_are_read_back(client in asked(name()), tcp in any::<bool>(), rcode in 0u16..24, ede in any::<u16>()) {
        let packet = client.to_vec().unwrap();
        let Gate::Ask(query) = query::read(&packet) else { panic!("not looked up: {client}") };
        let asked = if tcp { Asked::over_tcp(&query, 80, Manner::default()) } else { Asked::over_udp(&query, Manner::default()) };
        let notes = Notes { error: Some((ede, "why")), explanation: Some("how"), name: None };
        let mut out = [0; 1500];
        let len = reply::empty(&asked, rcode, &notes, &mut out).unwrap();
        prop_assert!(len <= asked.limit);
        let got = Message::from_vec(&out[..len]).unwrap();
        let sayable = if rcode > 15 && client.edns.is_none() { 2 } else { rcode };
        prop_assert_eq!((got.metadata.id, u16::from(got.metadata.response_code)), (client.metadata.id, sayable));
        prop_assert_eq!(&out[header::LEN..header::LEN + query.spelled.len()], query.spelled);
        prop_assert_eq!(got.all_sections().count(), 0);
        let option = |code: u16| got.edns.as_ref().and_then(|e| e.option(code.into()));
        let error = EdnsOption::Unknown(15, [&ede.to_be_bytes()[..], b"why"].concat());
        prop_assert_eq!(option(15), client.edns.as_ref().map(|_| &error));
        prop_assert_eq!(option(65_053).is_some(), asked.explain());

        let len = reply::bare(&query.header, rcode & 15, &mut out).unwrap();
        prop_assert!(len <= packet.len());
        let got = Message::from_vec(&out[..len]).unwrap();
        prop_assert_eq!((got.metadata.id, u16::from(got.metadata.response_code)), (client.metadata.id, rcode & 15));
        prop_assert_eq!(got.metadata.recursion_desired, client.metadata.recursion_desired);
        prop_assert!(got.metadata.message_type == MessageType::Response && got.queries.is_empty());
    }

    #[test]
    fn queries_to_upstreams_are_read_back(client in asked(name()), [rd, cd, dnssec] in any::<[bool; 3]>()) {
        let packet = client.to_vec().unwrap();
        let Gate::Ask(query) = query::read(&packet) else { panic!("not looked up: {client}") };
        let bytes = reply::upstream_query(query.question.as_bytes(), rd, cd, dnssec);
        let got = Message::from_vec(&bytes).unwrap();
        prop_assert_eq!(got.queries.len(), 1);
        prop_assert_eq!(got.queries[0].name().to_bytes().unwrap(), query.question.name());
        prop_assert_eq!(got.queries[0].query_type(), client.queries[0].query_type());
        prop_assert_eq!((got.metadata.recursion_desired, got.metadata.checking_disabled), (rd, cd));
        prop_assert!(got.metadata.authentic_data && got.all_sections().count() == 0);
        let edns = got.edns.unwrap();
        prop_assert_eq!((edns.flags().dnssec_ok, edns.max_payload(), edns.version()), (dnssec, 1232, 0));
        prop_assert!(edns.options().as_ref().is_empty());
        // Its answer is an answer to it, in whatever spelling.
        let mut echo = bytes.clone();
        echo[2] |= 0x80;
        echo[header::LEN..header::LEN + query.spelled.len()].copy_from_slice(query.spelled);
        prop_assert_eq!(question::is_reply_to(&bytes, &echo), Ok(()));
    }
}

proptest! {
    #![proptest_config(config(30))]

    #[test]
    fn no_limit_splits_a_record(message in stored()) {
        let bytes = message.to_vec().unwrap();
        let stored = entry(&bytes, 0);
        let packet = reply::upstream_query(&bytes[header::LEN..question_end(&bytes)], true, false, false);
        let Gate::Ask(query) = query::read(&packet) else { panic!("not looked up") };
        let ends: Vec<usize> = record::of(&bytes).unwrap().1.map(|r| r.unwrap().end).collect();
        let least = question_end(&bytes) + 11;
        let mut out = vec![0; STREAM_LIMIT];
        for limit in least - 3..=(bytes.len() + 15) {
            let asked = Asked { limit, ..Asked::over_udp(&query, Manner::default()) };
            let len = reply::answer(&stored.as_stored(), &asked, Ttl::Aged(1), false, &Notes::default(), &mut out);
            prop_assert_eq!(len.is_some(), limit >= least, "limit {}", limit);
            let Some(len) = len else { continue };
            prop_assert!(len <= limit);
            let end = len - 11;
            prop_assert!(end == least - 11 || ends.contains(&end), "{} octets are no whole record", end);
            let (header, records) = record::of(&out[..len]).unwrap();
            let kept: Vec<Section> = records.map(|r| r.unwrap().section).collect();
            let counts = [header.ancount, header.nscount, header.arcount].map(usize::from);
            prop_assert_eq!(kept.len(), counts.iter().sum::<usize>());
            prop_assert_eq!(kept.len() - 1, ends.iter().filter(|e| **e <= end).count());
        }
    }
}

/// What of a record stays as it is: all but the TTL, which hickory-proto leaves out when it compares records.
fn lasting(r: &Record) -> (Name, RecordType, DNSClass, RData) {
    (r.name.clone(), r.record_type(), r.dns_class, r.data.clone())
}

fn options_len(edns: &Edns) -> usize {
    edns.options().as_ref().iter().map(|(_, option)| 4 + usize::from(option.len())).sum()
}

/// Where the question of a message ends.
fn question_end(message: &[u8]) -> usize {
    header::LEN + question::name_len(&message[header::LEN..]).unwrap() + 4
}

/// A message that claims 3 × 65,535 records, with as many of the smallest kind as 64 KB hold.
fn overstated(flags: u16, body: usize) -> Vec<u8> {
    let mut message = vec![0; header::LEN];
    let n = u16::MAX;
    Header { id: 1, flags, qdcount: 1, ancount: n, nscount: n, arcount: n }.write(&mut message);
    message.extend_from_slice(www().as_bytes());
    while message.len() + 11 <= body {
        message.extend([0, 0, 16, 0, 1, 0, 0, 0, 0, 0, 0]);
    }
    message
}

#[test]
fn c09_a08_work_is_bounded_by_octets_not_by_counts() {
    let message = overstated(header::QR, STREAM_LIMIT);
    let (_, mut records) = record::of(&message).unwrap();
    let (mut steps, mut last) = (0, 0);
    for record in records.by_ref() {
        steps += 1;
        if let Ok(record) = record {
            assert!(record.end >= last + 11, "the walk only goes forward");
            last = record.end;
        }
    }
    assert_eq!(steps, (message.len() - question_end(&message)) / 11 + 1, "each record once, then one error");
    assert!(records.next().is_none());
    assert_eq!(validate::reply(message, &www()), Err(validate::Invalid::Framing));

    let mut query = overstated(0, STREAM_LIMIT);
    assert!(matches!(query::read(&query), Gate::Bare(_, 1)));
    query[6..10].fill(0);
    assert!(matches!(query::read(&query), Gate::Bare(_, 1)));
}

#[test]
fn a14_a15_names_of_255_octets_are_read_by_both_and_longer_ones_by_neither() {
    let label = |n: usize| [vec![n as u8], vec![b'x'; n]].concat();
    for (last, accepted) in [(61, true), (62, false)] {
        let name = [label(63), label(63), label(63), label(last), vec![0]].concat();
        let mut packet = vec![0; header::LEN];
        Header { id: 1, flags: 0, qdcount: 1, ancount: 0, nscount: 0, arcount: 0 }.write(&mut packet);
        packet.extend(&name);
        packet.extend([0, 1, 0, 1]);
        assert_eq!(matches!(query::read(&packet), Gate::Ask(_)), accepted, "{last}");
        assert_eq!(Message::from_vec(&packet).is_ok(), accepted, "{last}");
    }
}
