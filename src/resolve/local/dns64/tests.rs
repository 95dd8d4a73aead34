//! What is translated, for whom, and to which addresses.

use super::*;
use crate::wire::question::to_wire;
use crate::wire::rr::Rr;

fn dns64(prefix: &str, length: u8) -> Dns64 {
    let prefix = prefix.parse().unwrap();
    Dns64::new(config::Dns64 { prefix, length, translate_all: false, allow_ipv4: false })
}

fn question(qtype: u16) -> Question {
    Question::new(&to_wire("www.example"), qtype, CLASS_IN).unwrap()
}

fn rr(rtype: u16, ttl: u32, rdata: &[u8]) -> Rr {
    Rr { owner: to_wire("www.example"), rtype, class: CLASS_IN, ttl, rdata: rdata.to_vec() }
}

fn message(qtype: u16, flags: u16, sections: [&[Rr]; 3]) -> Vec<u8> {
    let mut bytes = crate::wire::rr::response(&question(qtype), flags & header::RCODE, true, sections).unwrap();
    let header = Header::read(&bytes).unwrap();
    Header { flags: header.flags | flags, ..header }.write(&mut bytes);
    bytes
}

fn soa(ttl: u32) -> Rr {
    rr(rtype::SOA, ttl, &[0; 22])
}

#[test]
fn only_aaaa_in_and_clients_over_ipv6_are_wanted() {
    let v6 = dns64("64:ff9b::", 96);
    let all = Dns64(config::Dns64 { allow_ipv4: true, ..v6.0 });
    let chaos = Question::new(&to_wire("www.example"), rtype::AAAA, 3).unwrap();
    for (client, question, wanted) in [
        ("2001:db8::1", question(rtype::AAAA), [true, true]),
        ("192.0.2.1", question(rtype::AAAA), [false, true]),
        ("::ffff:192.0.2.1", question(rtype::AAAA), [false, true]),
        ("2001:db8::1", question(rtype::A), [false, false]),
        ("2001:db8::1", question(rtype::ANY), [false, false]),
        ("2001:db8::1", chaos, [false, false]),
    ] {
        let client = client.parse().unwrap();
        assert_eq!([v6, all].map(|d| d.wants(client, &question)), wanted, "{client} {question:?}");
    }
}

#[test]
fn the_a_records_are_asked_for_when_there_is_no_address_but_not_when_there_is_no_name() {
    let aaaa = rr(rtype::AAAA, 60, &[0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
    let mapped = rr(rtype::AAAA, 60, &[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 192, 0, 2, 1]);
    let alias = rr(rtype::CNAME, 60, &to_wire("web.example"));
    let (some, all) = (dns64("64:ff9b::", 96), dns64("64:ff9b::", 96));
    let all = Dns64(config::Dns64 { translate_all: true, ..all.0 });
    for (answer, needed) in [
        (message(rtype::AAAA, 0, [&[], &[soa(30)], &[]]), [true, true]),
        (message(rtype::AAAA, 0, [std::slice::from_ref(&aaaa), &[], &[]]), [false, true]),
        (message(rtype::AAAA, 0, [&[alias.clone(), aaaa.clone()], &[], &[]]), [false, true]),
        (message(rtype::AAAA, 0, [&[mapped.clone(), aaaa.clone()], &[], &[]]), [false, true]),
        (message(rtype::AAAA, 0, [&[mapped], &[], &[]]), [true, true]),
        (message(rtype::AAAA, 0, [&[alias], &[], &[]]), [true, true]),
        (message(rtype::AAAA, 0, [&[], &[], &[aaaa]]), [true, true]),
        (message(rtype::AAAA, 2, [&[], &[], &[]]), [true, true]),
        (message(rtype::AAAA, 5, [&[], &[], &[]]), [true, true]),
        (message(rtype::AAAA, 3, [&[], &[soa(30)], &[]]), [false, false]),
        (vec![0; 5], [false, false]),
    ] {
        assert_eq!([some, all].map(|d| d.needs_a(&answer)), needed, "{answer:?}");
    }
}

#[test]
fn each_a_record_becomes_an_aaaa_record_and_all_else_stays() {
    let v4 = rr(rtype::A, 300, &[192, 0, 2, 1]);
    let old = rr(rtype::A, 20, &[192, 0, 2, 2]);
    let alias = rr(rtype::CNAME, 900, &to_wire("web.example"));
    let ns = rr(rtype::NS, 500, &to_wire("ns.example"));
    let glue = rr(rtype::A, 400, &[192, 0, 2, 53]);
    let a = message(
        rtype::A,
        header::TC | header::AD,
        [&[alias.clone(), v4, old], std::slice::from_ref(&ns), std::slice::from_ref(&glue)],
    );
    let translated = |ttl: [u32; 2]| {
        let prefix = [0, 0x64, 0xff, 0x9b, 0, 0, 0, 0, 0, 0, 0, 0, 192, 0, 2];
        let address = |ttl, last| rr(rtype::AAAA, ttl, &[&prefix[..], &[last]].concat());
        [vec![alias.clone(), address(ttl[0], 1), address(ttl[1], 2)], vec![ns.clone()], vec![glue.clone()]]
    };
    for (authority, ttls) in [(vec![soa(60)], [60, 20]), (vec![soa(10)], [10, 10]), (vec![], [300, 20])] {
        let aaaa = message(rtype::AAAA, 0, [&[], &authority, &[]]);
        let made = dns64("64:ff9b::", 96).synthesise(&question(rtype::AAAA), &aaaa, &a).unwrap();
        let made = Message::read(&made).unwrap();
        assert_eq!(made.question, question(rtype::AAAA).as_bytes());
        assert_eq!(made.header.flags & (header::QR | header::TC | header::AA | header::AD), header::QR | header::TC);
        assert_eq!(made.sections, translated(ttls));
    }
    let longer = message(rtype::A, 0, [&[rr(rtype::A, 86_400, &[192, 0, 2, 1])], &[], &[]]);
    let aaaa = message(rtype::AAAA, 0, [&[], &[], &[]]);
    let made = dns64("64:ff9b::", 96).synthesise(&question(rtype::AAAA), &aaaa, &longer).unwrap();
    assert_eq!(Message::read(&made).unwrap().sections[0][0].ttl, 600, "no SOA says how long it is not there");
}

#[test]
fn the_a_answers_rcode_is_kept_and_what_cannot_be_read_makes_nothing() {
    let aaaa = message(rtype::AAAA, 0, [&[], &[soa(30)], &[]]);
    for rcode in [0, 2, 3, 5] {
        let a = message(rtype::A, rcode, [&[], &[], &[]]);
        let made = dns64("64:ff9b::", 96).synthesise(&question(rtype::AAAA), &aaaa, &a).unwrap();
        assert_eq!(Header::read(&made).unwrap().rcode(), rcode);
    }
    assert_eq!(dns64("64:ff9b::", 96).synthesise(&question(rtype::AAAA), &aaaa, &[0; 9]), None);
    assert_eq!(dns64("64:ff9b::", 96).synthesise(&question(rtype::AAAA), &[0; 9], &aaaa), None);
    assert_eq!(Dns64::instead(&question(rtype::AAAA)), Some(question(rtype::A)));
}

/// RFC 6052 §2.4, and the lengths between.
#[test]
fn addresses_stand_where_rfc_6052_has_them() {
    for (prefix, length, address) in [
        ("2001:db8::", 32, "2001:db8:c000:221::"),
        ("2001:db8:100::", 40, "2001:db8:1c0:2:21::"),
        ("2001:db8:122::", 48, "2001:db8:122:c000:2:2100::"),
        ("2001:db8:122:300::", 56, "2001:db8:122:3c0:0:221::"),
        ("2001:db8:122:344::", 64, "2001:db8:122:344:c0:2:2100::"),
        ("2001:db8:122:344::", 72, "2001:db8:122:344:c0:2:2100::"),
        ("2001:db8:122:344::", 80, "2001:db8:122:344:0:c000:221:0"),
        ("2001:db8:122:344::", 88, "2001:db8:122:344:0:c0:2:2100"),
        ("2001:db8:122:344::", 96, "2001:db8:122:344::192.0.2.33"),
        ("64:ff9b::", 96, "64:ff9b::192.0.2.33"),
    ] {
        let made = dns64(prefix, length).embed(Ipv4Addr::new(192, 0, 2, 33));
        assert_eq!(made, address.parse::<Ipv6Addr>().unwrap(), "{prefix}/{length}");
    }
}
