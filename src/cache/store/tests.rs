//! Rows E of the behaviour table, as far as the store decides them.

use super::super::entry::About;
use super::super::key::Flags;
use super::*;
use crate::wire::header::{self, Header, rcode};
use crate::wire::question::to_wire as wire;
use crate::wire::question::{Question, rtype};
use std::time::Duration;

/// An answer with `n` address records, stored at `at` for `lifetime` seconds.
fn entry_of(name: &str, qtype: u16, flags: Flags, rcode: u16, n: u16, at: Moment, lifetime: u32) -> Entry {
    let question = Question::new(&wire(name), qtype, 1).unwrap();
    let mut m = vec![0; header::LEN];
    Header { id: 0, flags: header::QR | rcode, qdcount: 1, ancount: n, nscount: 0, arcount: 0 }.write(&mut m);
    m.extend_from_slice(question.as_bytes());
    for _ in 0..n {
        m.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 30, 0, 4, 1, 2, 3, 4]);
    }
    Entry::new(&m, About { stored: at, lifetime, rcode, negative: n == 0, flags, ruled: false, zone: 1, upstream: 2 })
}

fn entry(name: &str, at: Moment, lifetime: u32) -> Entry {
    entry_of(name, rtype::A, Flags::default(), rcode::NOERROR, 1, at, lifetime)
}

fn nxdomain(name: &str, at: Moment) -> Entry {
    entry_of(name, rtype::A, Flags::default(), rcode::NXDOMAIN, 0, at, 5)
}

/// What is found for `name A` at `now`.
fn look(store: &Store, name: &str, now: Moment) -> Option<Kind> {
    let question = Question::new(&wire(name), rtype::A, 1).unwrap();
    store.get(&store.key(question.as_bytes(), Flags::default()), now).map(|entry| Kind::of(&entry))
}

const T0: Moment = Moment::from_millis(1_000_000);

/// `ms` milliseconds after [`T0`].
fn later(ms: u64) -> Moment {
    T0 + Duration::from_millis(ms)
}

#[test]
fn an_entry_gives_back_what_it_was_made_of() {
    let e = entry("a.x", T0, 30);
    assert_eq!(e.as_stored().message.len(), 12 + 5 + 4 + 16);
    assert_eq!(e.as_stored().ttl_at, [0, 27]);
    assert_eq!(e.question(), [&wire("a.x")[..], &[0, 1, 0, 1]].concat());
    assert_eq!((e.age(later(2_999)), e.about().upstream), (2, 2));
}

#[test]
fn e02_e04_e19_an_answer_lives_for_its_lifetime_by_the_time_passed_in() {
    // Times are kept to the tenth of a second.
    for start in [0, 1_000_000, u64::from(u32::MAX) / 100 * 100 + 200] {
        let store = Store::new(1 << 20);
        store.insert(entry("a.x", Moment::from_millis(start), 30), 0);
        assert!(look(&store, "a.x", Moment::from_millis(start + 29_999)).is_some());
        assert!(look(&store, "a.x", Moment::from_millis(start + 30_000)).is_none());
    }
}

#[test]
fn c18_what_has_no_lifetime_is_not_stored() {
    let store = Store::new(1 << 20);
    store.insert(entry("a.x", T0, 0), 0);
    assert_eq!(look(&store, "a.x", T0), None);
}

#[test]
fn e06_hot_names_survive_a_scan() {
    let store = Store::new(200 * 1024);
    let hot: Vec<String> = (0..50).map(|i| format!("hot{i}.x")).collect();
    for name in &hot {
        store.insert(entry(name, T0, 3600), 0);
    }
    for i in 0..100_000 {
        if i % 100 == 0 {
            hot.iter().for_each(|name| assert!(i == 0 || look(&store, name, T0).is_some(), "{name} lost at {i}"));
        }
        store.insert(entry(&format!("scan{i}.x"), T0, 3600), 0);
    }
    let usage = store.usage(Kind::Positive);
    assert!(usage.bytes <= 200 * 1024, "{usage:?}");
    assert!(usage.evictions > 90_000, "{usage:?}");
}

#[test]
fn e07_a_flood_of_negatives_evicts_no_positive() {
    let store = Store::new(200 * 1024);
    for i in 0..100 {
        store.insert(entry(&format!("p{i}.x"), T0, 3600), 0);
    }
    for i in 0..10_000 {
        store.insert(nxdomain(&format!("n{i}.x"), T0), 0);
    }
    assert_eq!(store.usage(Kind::Positive).entries, 100);
    let negative = store.usage(Kind::Negative).bytes;
    assert!((48 * 1024..=50 * 1024).contains(&negative), "a quarter of the budget, and used: {negative}");
}

#[test]
fn e08_the_newest_valid_answer_wins() {
    let store = Store::new(1 << 20);
    store.insert(entry("a.x", T0, 30), 0);
    store.insert(nxdomain("a.x", T0), 0);
    assert_eq!(look(&store, "a.x", T0), Some(Kind::Negative));
    store.insert(entry("a.x", T0, 30), 0);
    assert_eq!(look(&store, "a.x", T0), Some(Kind::Positive));
    assert_eq!(look(&store, "a.x", later(30_000)), None, "the NXDOMAIN is not resurrected");
}

#[test]
fn what_has_expired_is_purged_and_nothing_else() {
    let store = Store::new(1 << 20);
    store.insert(entry("short.x", T0, 10), 0);
    store.insert(entry("long.x", T0, 30), 0);
    store.insert(nxdomain("gone.x", T0), 0);
    assert_eq!(store.purge(later(4_000), Duration::ZERO), 0);
    assert_eq!(store.purge(later(69_000), Duration::from_secs(60)), 1, "what may be given out stale stays");
    assert_eq!(store.purge(later(10_000), Duration::ZERO), 1);
    assert_eq!((store.usage(Kind::Positive).entries, store.usage(Kind::Negative).entries), (1, 0));
    assert!(look(&store, "long.x", later(10_000)).is_some());
    assert_eq!(store.usage(Kind::Positive).evictions, 0, "these were not pushed out");
}

#[test]
fn a_refreshed_entry_has_its_own_lifetime() {
    let store = Store::new(1 << 20);
    store.insert(entry("a.x", T0, 1), 0);
    store.insert(entry("a.x", T0, 3600), 0);
    assert!(look(&store, "a.x", later(3_000_000)).is_some());
}

#[test]
fn e11_e13_e14_types_and_flags_are_kept_apart() {
    let store = Store::new(1 << 20);
    let variants: Vec<(u16, Flags)> = [rtype::A, rtype::AAAA, rtype::HTTPS]
        .into_iter()
        .flat_map(|t| [(false, false), (true, false), (false, true)].map(|(d, c)| (t, Flags::new(d, c))))
        .collect();
    for (n, &(qtype, flags)) in variants.iter().enumerate() {
        store.insert(entry_of("a.x", qtype, flags, 0, 1 + n as u16, T0, 30), 0);
    }
    for (n, &(qtype, flags)) in variants.iter().enumerate() {
        let question = Question::new(&wire("a.x"), qtype, 1).unwrap();
        let found = store.get(&store.key(question.as_bytes(), flags), T0).unwrap();
        assert_eq!(Header::read(found.as_stored().message).unwrap().ancount, 1 + n as u16);
    }
}

#[test]
fn e16_a_flush_also_voids_what_is_in_flight() {
    let store = Store::new(1 << 20);
    let before = store.generation();
    store.insert(entry("a.x", T0, 30), before);
    store.insert(entry("b.x", T0, 30), before);
    store.insert(entry("a.xy", T0, 30), before);
    assert_eq!(store.flush_name(&wire("a.x")), 1);
    store.insert(entry("a.x", T0, 30), before);
    assert_eq!(look(&store, "a.x", T0), None, "asked before the flush");
    store.insert(entry("a.x", T0, 30), store.generation());
    assert!(look(&store, "a.x", T0).is_some(), "asked after it");
    assert_eq!(store.flush_zone(&wire("x")), 2);
    assert!(look(&store, "a.xy", T0).is_some());
    let before = store.generation();
    store.flush_all();
    assert_eq!(look(&store, "a.xy", T0), None);
    store.insert(entry("a.xy", T0, 30), before);
    assert_eq!(look(&store, "a.xy", T0), None);
}

#[test]
fn e18_hashes_are_seeded_anew_for_each_store_and_keys_compared_whole() {
    let e = entry("a.x", T0, 30);
    let hashes: Vec<u64> = (0..4).map(|_| Store::new(0).key(e.question(), Flags::default()).hash()).collect();
    assert!(hashes.windows(2).any(|w| w[0] != w[1]), "{hashes:?}");
    let store = Store::new(1 << 20);
    assert!(store.key(e.question(), Flags::default()).is_answered_by(&e));
    assert!(!store.key(e.question(), Flags::new(true, false)).is_answered_by(&e));
    assert!(!store.key(entry("b.x", T0, 30).question(), Flags::default()).is_answered_by(&e));
}
