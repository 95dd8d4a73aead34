//! Reading a query, writing an answer, judging an upstream's reply: no I/O, no cache.

#![allow(clippy::unwrap_used)]

use criterion::{Criterion, criterion_group, criterion_main};
use nodens::cache::entry::About;
use nodens::cache::{Entry, Flags};
use nodens::sys::clock::Moment;
use nodens::wire::header::{self, Header};
use nodens::wire::query::{self, Gate, Query};
use nodens::wire::question::{CLASS_IN, Question, rtype};
use nodens::wire::reply::{self, Asked, Manner, Notes, Ttl};
use nodens::wire::validate;
use std::hint::black_box;

const NAME: &[u8] = b"\x07service\x09namespace\x03svc\x07cluster\x05local\x00";

fn question() -> Question {
    Question::new(NAME, rtype::A, CLASS_IN).unwrap()
}

/// A query as a stub resolver sends it, with an OPT or without.
fn packet(edns: bool) -> Vec<u8> {
    let mut packet = reply::upstream_query(question().as_bytes(), true, false, false);
    if !edns {
        packet.truncate(packet.len() - 11);
        packet[11] = 0;
    }
    packet
}

/// A reply with `n` A records.
fn message(n: u16) -> Vec<u8> {
    let mut message = vec![0; header::LEN];
    Header { id: 0, flags: header::QR, qdcount: 1, ancount: n, nscount: 0, arcount: 0 }.write(&mut message);
    message.extend_from_slice(question().as_bytes());
    for i in 0..n {
        message.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 30, 0, 4, 10, 0]);
        message.extend(i.to_be_bytes());
    }
    message
}

fn asked(packet: &[u8]) -> Query<'_> {
    match query::read(packet) {
        Gate::Ask(query) => query,
        _ => unreachable!("the packet is a plain query"),
    }
}

fn gate(c: &mut Criterion) {
    let mut group = c.benchmark_group("gate");
    for (name, edns) in [("plain", false), ("edns", true)] {
        let packet = packet(edns);
        group.bench_function(name, |b| b.iter(|| matches!(query::read(black_box(&packet)), Gate::Ask(_))));
    }
    group.finish();
}

fn write(c: &mut Criterion) {
    let mut group = c.benchmark_group("write");
    let packet = packet(true);
    let query = asked(&packet);
    let about = About {
        stored: Moment::default(),
        lifetime: 30,
        rcode: 0,
        negative: false,
        flags: Flags::default(),
        ruled: false,
        zone: 1,
        upstream: 1,
    };
    for (name, records) in [("1 record", 1), ("8 records", 8), ("100 records, truncated", 100)] {
        let entry = Entry::new(&message(records), about);
        let asked = Asked::over_udp(&query, Manner::default());
        let mut out = [0; 1232];
        group.bench_function(name, |b| {
            b.iter(|| {
                reply::answer(&entry.as_stored(), black_box(&asked), Ttl::Aged(7), false, &Notes::default(), &mut out)
            })
        });
    }
    group.finish();
}

fn judge(c: &mut Criterion) {
    let mut group = c.benchmark_group("validate");
    let question = question();
    for (name, records) in [("1 record", 1), ("8 records", 8), ("4000 records", 4000)] {
        let message = message(records);
        group.bench_function(name, |b| b.iter(|| validate::reply(black_box(&message).clone(), &question).is_ok()));
    }
    group.finish();
}

criterion_group!(benches, gate, write, judge);
criterion_main!(benches);
