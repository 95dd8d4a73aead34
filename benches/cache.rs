//! Looking up in a store of ten and of a hundred thousand answers: there, not there, and there as a negative answer.

#![allow(clippy::unwrap_used)]

use criterion::{Criterion, criterion_group, criterion_main};
use nodens::cache::entry::About;
use nodens::cache::{Entry, Flags, Kind, Store};
use nodens::sys::clock::Moment;
use nodens::wire::header::{self, Header};
use nodens::wire::question::{CLASS_IN, Question, rtype};
use std::hint::black_box;

fn question(prefix: &str, i: usize) -> Question {
    let label = format!("{prefix}{i}");
    let name = [&[label.len() as u8], label.as_bytes(), b"\x09namespace\x03svc\x07cluster\x05local\x00"].concat();
    Question::new(&name, rtype::A, CLASS_IN).unwrap()
}

/// One A record, or NXDOMAIN.
fn entry(question: &Question, negative: bool) -> Entry {
    let (rcode, ancount) = if negative { (3, 0) } else { (0, 1) };
    let mut message = vec![0; header::LEN];
    Header { id: 0, flags: header::QR | rcode, qdcount: 1, ancount, nscount: 0, arcount: 0 }.write(&mut message);
    message.extend_from_slice(question.as_bytes());
    if !negative {
        message.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 30, 0, 4, 10, 0, 0, 1]);
    }
    let stored = Moment::default();
    let about =
        About { stored, lifetime: 3600, rcode, negative, flags: Flags::default(), ruled: false, zone: 1, upstream: 1 };
    Entry::new(&message, about)
}

fn get(c: &mut Criterion) {
    for entries in [10_000, 100_000] {
        let mut group = c.benchmark_group(format!("get/{entries}"));
        let store = Store::new(1 << 30);
        for i in 0..entries {
            store.insert(entry(&question("service", i), false), 0);
        }
        for i in 0..entries / 4 {
            store.insert(entry(&question("gone", i), true), 0);
        }
        // moka settles here what it would otherwise settle while the clock runs.
        for kind in Kind::ALL {
            black_box(store.usage(kind));
        }
        // Every look-up is for another name: the caches of the CPU see what they see in a busy server.
        for (what, prefix, names, found) in [
            ("hit", "service", entries, Some(Kind::Positive)),
            ("negative", "gone", entries / 4, Some(Kind::Negative)),
            ("miss", "other", entries, None),
        ] {
            let questions: Vec<Question> = (0..names).map(|i| question(prefix, i)).collect();
            let mut i = 0;
            group.bench_function(what, |b| {
                b.iter(|| {
                    i = (i + 7919) % questions.len();
                    let key = store.key(questions[i].as_bytes(), Flags::default());
                    let kind = store.get(black_box(&key), Moment::from_millis(1)).map(|entry| Kind::of(&entry));
                    assert_eq!(kind, found);
                })
            });
        }
        group.finish();
    }
}

criterion_group!(benches, get);
criterion_main!(benches);
