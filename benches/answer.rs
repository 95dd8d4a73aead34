//! A hit from packet to packet, as a UDP worker does it between two system calls: judge, look up, write.

#![allow(clippy::unwrap_used)]

use criterion::{Criterion, criterion_group, criterion_main};
use nodens::cache::entry::About;
use nodens::cache::{Entry, Flags, Hot, Store};
use nodens::observe::metrics::Metrics;
use nodens::resolve::{Limits, Resolver, Zones};
use nodens::serve::client::Acl;
use nodens::serve::{Front, Verdict, judge};
use nodens::sys::clock::{Clock, Moment};
use nodens::wire::header::{self, Header};
use nodens::wire::question::{CLASS_IN, Question, rtype};
use nodens::wire::reply::{self, Asked};
use std::hint::black_box;
use std::net::Ipv4Addr;
use std::sync::Arc;

const NAMES: usize = 10_000;

fn question(i: usize) -> Question {
    let label = format!("service{i}");
    let name = [&[label.len() as u8], label.as_bytes(), b"\x09namespace\x03svc\x07cluster\x05local\x00"].concat();
    Question::new(&name, rtype::A, CLASS_IN).unwrap()
}

/// An answer of `n` A records.
fn entry(question: &Question, n: u16) -> Entry {
    let mut message = vec![0; header::LEN];
    Header { id: 0, flags: header::QR, qdcount: 1, ancount: n, nscount: 0, arcount: 0 }.write(&mut message);
    message.extend_from_slice(question.as_bytes());
    for i in 0..n {
        message.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 30, 0, 4, 10, 0]);
        message.extend(i.to_be_bytes());
    }
    let stored = Moment::default();
    let about = About {
        stored,
        lifetime: 3600,
        rcode: 0,
        negative: false,
        flags: Flags::default(),
        ruled: false,
        zone: 1,
        upstream: 1,
    };
    Entry::new(&message, about)
}

fn hit(c: &mut Criterion) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let _inside = runtime.enter();
    let mut group = c.benchmark_group("hit");
    for (name, records) in [("1 record", 1), ("8 records", 8)] {
        let (store, metrics) = (Arc::new(Store::new(1 << 28)), Metrics::new());
        let questions: Vec<Question> = (0..NAMES).map(question).collect();
        questions.iter().for_each(|question| store.insert(entry(question, records), 0));
        let (zones, limits) = (Zones::default(), Limits::default());
        let resolver = Resolver::start(Arc::clone(&store), zones, limits, Arc::clone(&metrics), Clock::System);
        let front = Front::new(store, resolver, metrics, Acl::default(), Vec::new());
        let door = front.door((Ipv4Addr::LOCALHOST, 53).into());
        let packets: Vec<Vec<u8>> =
            questions.iter().map(|q| reply::upstream_query(q.as_bytes(), true, false, false)).collect();
        let (mut i, mut out, mut hot) = (0, [0; 1232], Hot::default());
        let now = Moment::from_millis(7000);
        group.bench_function(name, |b| {
            b.iter(|| {
                i = (i + 7919) % NAMES;
                let store = &front.store;
                let verdict =
                    judge(black_box(&packets[i]), door.view(), |q, flags| hot.get(store, &store.key(q, flags), now));
                let Verdict::Hit(query, entry) = verdict else { unreachable!("every name is in the store") };
                front.write_hit(entry, &Asked::over_udp(&query, front.manner), &door, now, &mut out).unwrap()
            })
        });
    }
    group.finish();
}

criterion_group!(benches, hit);
criterion_main!(benches);
