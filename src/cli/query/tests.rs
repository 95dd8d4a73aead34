//! Names, types, the query message, the choice among several answers.

use super::*;
use hickory_proto::op::OpCode;
use hickory_proto::rr::rdata::A;
use hickory_proto::rr::rdata::opt::EdnsCode;
use hickory_proto::rr::{RData, Record};
use std::time::Duration;

/// An answer from 192.0.2.53 with `rcode` and `addresses` A records.
pub(super) fn answer(name: &str, rcode: ResponseCode, addresses: u8, explanation: Option<&str>) -> Answer {
    let name = Name::from_ascii(name).unwrap();
    let mut reply = Message::response(7, OpCode::Query);
    reply.metadata.response_code = rcode;
    reply.metadata.recursion_desired = true;
    reply.metadata.recursion_available = true;
    for i in 1..=addresses {
        reply.answers.push(Record::from_rdata(name.clone(), 18, RData::A(A::new(10, 96, 14, i))));
    }
    let exchanged = Exchanged {
        reply,
        octets: 64,
        transport: exchange::Transport::Udp,
        truncated: false,
        elapsed: Duration::from_micros(210),
    };
    let explanation = explanation.and_then(|text| Explanation::parse(text.as_bytes()));
    Answer { name, rtype: RecordType::A, server: "192.0.2.53:53".parse().unwrap(), exchanged, explanation }
}

#[test]
fn an_address_as_name_asks_for_its_ptr_record() {
    for (typed, name) in [("10.96.0.10", "10.0.96.10.in-addr.arpa."), ("fd00::a", "d.f.ip6.arpa.")] {
        let read = name_or_address(typed).unwrap();
        assert!(read.to_ascii().ends_with(name.trim_start_matches("d.f")), "{read}");
        assert!(is_reverse(&read), "{read}");
    }
    for typed in ["web.shop", "1.2.3.in-addr.arpa", "a.b.ip6.arpa", "in-addr.arpa", "."] {
        assert!(!is_reverse(&name_or_address(typed).unwrap()), "{typed}");
    }
}

#[test]
fn a_trailing_dot_is_remembered() {
    assert!(name_or_address("web.").unwrap().is_fqdn());
    assert!(!name_or_address("web").unwrap().is_fqdn());
    assert!(name_or_address(".").unwrap().is_root());
    for typed in ["", "a..b", ".a", &"x".repeat(64)] {
        assert!(name_or_address(typed).is_err(), "{typed:?}");
    }
}

#[test]
fn types_are_read_by_mnemonic_and_by_number() {
    assert_eq!(record_type("aaaa"), Ok(RecordType::AAAA));
    assert_eq!(record_type("TYPE28"), Ok(RecordType::AAAA));
    assert_eq!(record_type("type65280"), Ok(RecordType::Unknown(65280)));
    for typed in ["", "TYPE", "TYPE65536", "NOPE"] {
        assert!(record_type(typed).is_err(), "{typed:?}");
    }
}

#[test]
fn the_query_asks_for_recursion_and_an_explanation() {
    let name = Name::from_ascii("Web.Example").unwrap();
    for dnssec in [false, true] {
        let sent = question(&name, RecordType::SRV, dnssec).to_vec().unwrap();
        let read = Message::from_vec(&sent).unwrap();
        assert!(read.metadata.recursion_desired);
        assert_eq!(read.queries[0].name().to_ascii(), "Web.Example.");
        let edns = read.edns.unwrap();
        assert_eq!((edns.max_payload(), edns.flags().dnssec_ok), (PAYLOAD, dnssec));
        let option = edns.option(EdnsCode::Unknown(explanation::OPTION_CODE)).unwrap();
        assert_eq!(*option, EdnsOption::Unknown(explanation::OPTION_CODE, Vec::new()));
    }
}

#[test]
fn the_answer_with_records_wins_then_the_one_that_exists_then_the_last() {
    use ResponseCode::{NXDomain, NoError, ServFail};
    let list = |codes: &[(ResponseCode, u8)]| -> Vec<Answer> {
        codes.iter().map(|&(rcode, records)| answer("x.", rcode, records, None)).collect()
    };
    assert_eq!(choose(&list(&[(NXDomain, 0), (NoError, 0), (NoError, 1)])), 2);
    assert_eq!(choose(&list(&[(NXDomain, 0), (NoError, 0), (NXDomain, 0)])), 1);
    assert_eq!(choose(&list(&[(NXDomain, 0), (NXDomain, 0), (ServFail, 0)])), 2);
    assert_eq!(choose(&[]), 0);
}

#[test]
fn nxdomain_is_an_answer_and_servfail_is_none() {
    assert!(answer("x.", ResponseCode::NoError, 0, None).is_answer());
    assert!(answer("x.", ResponseCode::NXDomain, 0, None).is_answer());
    assert!(!answer("x.", ResponseCode::ServFail, 0, None).is_answer());
    assert!(!answer("x.", ResponseCode::Refused, 0, None).is_answer());
}
