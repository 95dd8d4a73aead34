//! A packet from a client: read, and answered from the cache, with a refusal, or with a bare header.
//!
//! What is looked up must be what hickory-proto reads as well (a client subnet apart, which we do not read), and
//! whatever is sent must be a message that fits.

#![no_main]

use hickory_proto::op::Message;
use libfuzzer_sys::fuzz_target;
use nodens::cache::entry::About;
use nodens::cache::{Entry, Flags};
use nodens::sys::clock::Moment;
use nodens::wire::header::{self, Header};
use nodens::wire::query::{self, Gate, Query};
use nodens::wire::reply::{self, Asked, Manner, Notes, Ttl};

/// An answer with `n` records to the question of `query`.
fn entry(query: &Query<'_>, n: u16) -> Entry {
    let mut message = vec![0; header::LEN];
    Header { id: 0, flags: header::QR, qdcount: 1, ancount: n, nscount: 0, arcount: 0 }.write(&mut message);
    message.extend_from_slice(query.question.as_bytes());
    (0..n).for_each(|_| message.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 30, 0, 4, 10, 0, 0, 1]));
    let flags = Flags::default();
    let about =
        About { stored: Moment::default(), lifetime: 30, rcode: 0, negative: false, flags, ruled: false, zone: 0, upstream: 0 };
    Entry::new(&message, about)
}

fn check(sent: &[u8], limit: usize) {
    assert!(sent.len() <= limit, "{} octets where {limit} are allowed", sent.len());
    Message::from_vec(sent).expect("what is sent can be read");
}

fuzz_target!(|packet: &[u8]| {
    let mut out = vec![0; 65_535];
    match query::read(packet) {
        Gate::Ask(query) => {
            if let Ok(message) = Message::from_vec(packet) {
                assert_eq!(message.queries.len(), 1);
            } else {
                let subnet = packet.windows(2).any(|code| code == [0, 8]);
                assert!(subnet, "looked up, but not readable");
            }
            let coredns = Manner { like_coredns: true, udp_limit: 4096 };
            let manners = [Manner::default(), coredns];
            for asked in manners.map(|m| [Asked::over_udp(&query, m), Asked::over_tcp(&query, 100, m)]).concat() {
                for n in [0, 1, 200] {
                    let entry = entry(&query, n);
                    let notes = Notes { explanation: asked.explain().then_some("source=hit"), ..Notes::default() };
                    let len =
                        reply::answer(&entry.as_stored(), &asked, Ttl::Aged(7), false, &notes, &mut out).expect("room");
                    check(&out[..len], asked.limit);
                }
            }
        }
        Gate::Decline(query, code) => {
            let asked = Asked::over_udp(&query, Manner::default());
            let len = reply::empty(&asked, code, &Notes { error: Some((21, "")), ..Notes::default() }, &mut out);
            check(&out[..len.expect("room")], asked.limit);
        }
        Gate::Bare(header, code) => {
            let len = reply::bare(&header, code, &mut out).expect("room");
            check(&out[..len], packet.len());
        }
        Gate::Short | Gate::Response => {}
    }
});
