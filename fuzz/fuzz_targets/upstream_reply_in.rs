//! A reply from an upstream: judged, kept, and given to clients of both transports, at any age and under any id.
//!
//! What is accepted must be readable by hickory-proto for each of them, as the same records.

#![no_main]

use hickory_proto::op::Message;
use hickory_proto::rr::Record;
use libfuzzer_sys::fuzz_target;
use nodens::cache::entry::About;
use nodens::cache::{Entry, Flags, Ttls, policy};
use nodens::sys::clock::Moment;
use nodens::wire::header;
use nodens::wire::query::{self, Gate};
use nodens::wire::question::{self, Question};
use nodens::wire::reply::{self, Asked, Manner, Notes, Ttl};
use nodens::wire::validate;
use std::time::Duration;

const TTLS: Ttls = Ttls { positive: (0, 3600), negative: (1, 60), failure: Duration::from_secs(5), one: false };

/// What of a record stays as it is.
fn lasting(r: &Record) -> impl PartialEq + std::fmt::Debug + use<> {
    (r.name.clone(), r.record_type(), r.dns_class, r.data.clone())
}

fuzz_target!(|input: (u16, u32, &[u8])| {
    let (id, age, message) = input;
    let Some(question) = message.get(header::LEN..).and_then(Question::read) else {
        let root = Question::new(&[0], 1, 1).expect("a question");
        let _ = validate::reply(message.to_vec(), &root);
        return;
    };
    let client = reply::upstream_query(question.as_bytes(), true, false, true);
    let mut message = message.to_vec();
    header::set_id(&mut message, 0);
    if question::is_reply_to(&client, &message).is_err() {
        return;
    }
    let Ok(mut reply) = validate::reply(message, &question) else { return };
    let lifetime = policy::apply(&mut reply, &TTLS);
    assert!(lifetime <= 3600);
    let about = About {
        stored: Moment::default(),
        lifetime,
        rcode: reply.rcode,
        negative: false,
        flags: Flags::default(),
        ruled: false,
        zone: 0,
        upstream: 0,
    };
    let entry = Entry::new(&reply.message, about);
    assert_eq!(entry.question(), question.as_bytes());
    let kept = Message::from_vec(&reply.message).expect("what is kept can be read");
    assert!(kept.edns.is_none());
    let Gate::Ask(query) = query::read(&client) else { return };
    let mut out = vec![0; 65_535];
    for asked in [Asked::over_udp(&query, Manner::default()), Asked::over_tcp(&query, 100, Manner::default())] {
        let asked = Asked { id, flags: id & !header::OPCODE, ..asked };
        let len =
            reply::answer(&entry.as_stored(), &asked, Ttl::Aged(age), true, &Notes::default(), &mut out).expect("room");
        assert!(len <= asked.limit);
        let sent = Message::from_vec(&out[..len]).expect("what is sent can be read");
        assert!(
            sent.all_sections().map(lasting).eq(kept.all_sections().map(lasting).take(sent.all_sections().count()))
        );
    }
});
