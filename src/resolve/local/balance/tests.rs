//! Orders, weights and the file that they stand in.

use super::*;
use crate::wire::header;
use crate::wire::question::{CLASS_IN, Question, to_wire};
use std::collections::{BTreeMap, BTreeSet};

fn rr(rtype: u16, rdata: &[u8]) -> Rr {
    Rr { owner: to_wire("www.example"), rtype, class: CLASS_IN, ttl: 30, rdata: rdata.to_vec() }
}

fn v4(last: u8) -> Rr {
    rr(rtype::A, &[192, 0, 2, last])
}

fn message(qtype: u16, rcode: u16, sections: [&[Rr]; 3]) -> Vec<u8> {
    let question = Question::new(&to_wire("www.example"), qtype, CLASS_IN).unwrap();
    crate::wire::rr::response(&question, rcode, false, sections).unwrap()
}

fn answer(message: Vec<u8>) -> Vec<Rr> {
    Message::read(&message).unwrap().sections[0].clone()
}

fn balance(weighted: bool, prefer: &[&str]) -> Balance {
    let weights = weighted.then(|| config::Weights { file: "/w".into(), reload: std::time::Duration::ZERO });
    Balance::new(&config::LoadBalance { weights, prefer: prefer.iter().map(|net| net.parse().unwrap()).collect() })
}

/// How often each of the addresses stands first in `n` answers.
fn firsts(balance: &Balance, records: &[Rr], n: u64) -> BTreeMap<u8, u64> {
    let mut counts = BTreeMap::new();
    for seed in 0..n {
        let all = answer(balance.arrange(message(rtype::A, 0, [records, &[], &[]]), seed));
        *counts.entry(all[0].rdata[3]).or_default() += 1;
    }
    counts
}

#[test]
fn every_order_of_addresses_comes_up_about_as_often() {
    let records = [v4(1), v4(2), v4(3)];
    let orders = |records: &[Rr]| {
        let mut counts: BTreeMap<Vec<u8>, u32> = BTreeMap::new();
        for seed in 0..6000 {
            let all = answer(balance(false, &[]).arrange(message(rtype::A, 0, [records, &[], &[]]), seed));
            *counts.entry(all.iter().map(|rr| rr.rdata[3]).collect()).or_default() += 1;
        }
        counts
    };
    let counts = orders(&records);
    assert_eq!(counts.len(), 6, "{counts:?}");
    assert!(counts.values().all(|n| (800..1200).contains(n)), "{counts:?}");
    let counts = orders(&records[..2]);
    assert!(counts.len() == 2 && counts.values().all(|n| (2700..3300).contains(n)), "{counts:?}");
}

#[test]
fn large_messages_stay_as_they_are() {
    let records = |n: u8| (0..n).map(v4).collect::<Vec<_>>();
    let rearranged = |n: u8| {
        let before = message(rtype::A, 0, [&records(n), &[], &[]]);
        (0..20).any(|seed| balance(false, &["192.0.2.7/32"]).arrange(before.clone(), seed) != before)
    };
    assert!(rearranged(200));
    let text = rr(rtype::TXT, &[7; 900]);
    let before = message(rtype::ANY, 0, [&records(200), &[text], &[]]);
    assert!(before.len() > MAX_OCTETS);
    assert!((0..20).all(|seed| balance(false, &["192.0.2.7/32"]).arrange(before.clone(), seed) == before));
}

#[test]
fn aliases_come_first_and_mx_last_in_every_section() {
    let alias = rr(rtype::CNAME, &to_wire("web.example"));
    let signature = rr(rtype::RRSIG, &[0, 1, 8, 2, 0, 0, 0, 30, 0, 0, 0, 0, 0, 0, 0, 0, 0, 9, 0, 1]);
    let v6 = rr(rtype::AAAA, &[7; 16]);
    let mx = [10, 20].map(|n| rr(rtype::MX, &[&[0, n], &to_wire("mx.example")[..]].concat()));
    let all = [mx[0].clone(), v4(1), v6.clone(), signature.clone(), alias.clone(), mx[1].clone(), v4(2)];
    let mut seen = BTreeSet::new();
    for seed in 0..200 {
        let arranged = balance(false, &[]).arrange(message(rtype::ANY, 0, [&all, &all, &all]), seed);
        let read = Message::read(&arranged).unwrap();
        for section in read.sections {
            let types: Vec<u16> = section.iter().map(|rr| rr.rtype).collect();
            assert_eq!((types[0], types[1]), (rtype::CNAME, rtype::RRSIG));
            assert_eq!(types[5..], [rtype::MX, rtype::MX]);
            let [mut before, mut after] = [all.to_vec(), section.clone()];
            before.sort_by_key(|rr| (rr.rtype, rr.rdata.clone()));
            after.sort_by_key(|rr| (rr.rtype, rr.rdata.clone()));
            assert_eq!(before, after, "no record lost, added or changed");
            seen.insert(section.into_iter().map(|rr| rr.rdata).collect::<Vec<_>>());
        }
    }
    assert_eq!(seen.len(), 12, "three addresses and two MX in every order");
}

#[test]
fn what_is_no_answer_stays_as_it_is() {
    let records = [v4(1), v4(2), v4(3)];
    for unchanged in [
        message(rtype::A, 3, [&records, &[], &[]]),
        message(rtype::A, 2, [&records, &[], &[]]),
        message(rtype::AXFR, 0, [&records, &[], &[]]),
        message(rtype::IXFR, 0, [&records, &[], &[]]),
        message(rtype::A, 0, [&records[..1], &[], &[]]),
        message(rtype::A, 0, [&[], &[], &[]]),
        message(rtype::A, 0, [&records, &[], &[]])[..60].to_vec(),
        vec![0; 12],
        vec![],
    ] {
        for seed in 0..20 {
            assert_eq!(balance(false, &["192.0.2.2/32"]).arrange(unchanged.clone(), seed), unchanged);
        }
    }
}

#[test]
fn weights_say_how_often_an_address_comes_first() {
    let weighted = balance(true, &[]);
    let records = [v4(1), v4(2), v4(3)];
    let counts = firsts(&weighted, &records, 3000);
    assert!(counts.values().all(|n| (850..1150).contains(n)), "no weights yet: {counts:?}");
    weighted.set_weights(Weights::read("WWW.example\n192.0.2.1 6\n192.0.2.3 3\n").unwrap());
    let counts = firsts(&weighted, &records, 10_000);
    for (last, expected) in [(1, 6000), (2, 1000), (3, 3000)] {
        assert!(counts[&last].abs_diff(expected) < 300, "{counts:?}");
    }
    // One address is moved to the front, in exchange for the one there; the others stay.
    let orders: BTreeSet<Vec<u8>> = (0..200)
        .map(|seed| answer(weighted.arrange(message(rtype::A, 0, [&records, &[], &[]]), seed)))
        .map(|all| all.iter().map(|rr| rr.rdata[3]).collect())
        .collect();
    assert_eq!(orders, BTreeSet::from([vec![1, 2, 3], vec![2, 1, 3], vec![3, 2, 1]]));
    // Other questions are nothing to it.
    let any = message(rtype::ANY, 0, [&records, &[], &[]]);
    assert!((0..50).all(|seed| weighted.arrange(any.clone(), seed) == any));
}

#[test]
fn addresses_in_preferred_networks_come_first_in_their_order() {
    let preferring = balance(false, &["192.0.2.4/31", "192.0.2.2/32", "2001:db8::/32"]);
    let v6 = rr(rtype::AAAA, &[0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
    let records = [v4(1), v6, v4(2), v4(3), v4(4), v4(5)];
    let mut orders = BTreeSet::new();
    for seed in 0..300 {
        let all = answer(preferring.arrange(message(rtype::A, 0, [&records, &[], &[]]), seed));
        let last: Vec<u8> = all.iter().map(|rr| *rr.rdata.last().unwrap()).collect();
        assert_eq!(BTreeSet::from_iter(&last[..2]), BTreeSet::from([&4, &5]));
        assert_eq!((all[2].clone(), all[3].rtype), (v4(2), rtype::AAAA));
        orders.insert(last);
    }
    assert_eq!(orders.len(), 4, "within each network any order");
}

#[test]
fn ttls_and_flags_are_left_alone() {
    let records = [Rr { ttl: 5, ..v4(1) }, Rr { ttl: 9, ..v4(2) }];
    let mut bytes = message(rtype::A, 0, [&records, &[], &[]]);
    let header = Header::read(&bytes).unwrap();
    Header { id: 77, flags: header.flags | header::TC | header::AA, ..header }.write(&mut bytes);
    for seed in 0..20 {
        let arranged = balance(false, &[]).arrange(bytes.clone(), seed);
        assert_eq!(arranged[..12], bytes[..12]);
        assert!(answer(arranged).iter().all(|rr| rr.ttl == if rr.rdata[3] == 1 { 5 } else { 9 }));
    }
}

#[test]
fn a_file_of_weights_is_read_or_refused_with_its_line() {
    let good = "# weights\n\n  www.example.  \n192.0.2.1 255\n2001:db8::1\t1\nb.example\nwww.example\n192.0.2.2 7\n";
    let weights = Weights::read(good).unwrap();
    for (name, address, weight) in [
        ("www.example", "192.0.2.1", 255),
        ("WWW.Example", "192.0.2.2", 7),
        ("www.example", "2001:db8::1", 1),
        ("www.example", "192.0.2.9", 1),
        ("b.example", "192.0.2.1", 1),
    ] {
        assert_eq!(weights.of(&to_wire(name), address.parse().unwrap()), weight, "{name} {address}");
    }
    assert_eq!(Weights::read(""), Ok(Weights::default()));
    for (text, why) in [
        ("a\n192.0.2.1", "line 2: 192.0.2.1 has no weight; write a number from 1 to 255 behind it"),
        ("a\n192.0.2.1 0", "line 2: \"192.0.2.1 0\" is not a weight; it must be between 1 and 255"),
        ("a\n192.0.2.1 256", "line 2: \"192.0.2.1 256\" is not a weight; it must be between 1 and 255"),
        ("a\n192.0.2 1", "line 2: \"192.0.2\" is not an IP address"),
        ("192.0.2.1 1", "line 1: no name stands before this address; write whose address it is on a line above"),
        ("a..b", "line 1: \"a..b\" is not a domain name"),
        ("a\n\n192.0.2.1 1 1", "line 3: \"192.0.2.1 1 1\" is neither a name nor an address and its weight"),
    ] {
        assert_eq!(Weights::read(text).unwrap_err().to_string(), why);
    }
}
