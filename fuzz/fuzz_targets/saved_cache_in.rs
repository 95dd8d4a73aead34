//! A saved cache: as it comes, which a wrong checksum ends, and once more with a right one. What is loaded can be given out.

#![no_main]

use libfuzzer_sys::fuzz_target;
use nodens::cache::Store;
use nodens::cache::persist::{self, Terms};
use nodens::observe::labels::Labels;
use nodens::sys::clock::Moment;
use nodens::wire::query::{self, Gate};
use nodens::wire::reply::{self, Asked, Manner, Notes, Ttl};
use std::io::Cursor;
use std::ops::ControlFlow;
use std::time::{Duration, UNIX_EPOCH};

/// Seconds since 1970.
const SAVED: u64 = 1_780_000_000;

/// A file with `body` behind a header that fits it.
fn sealed(body: &[u8]) -> Vec<u8> {
    let length = 32 + body.len() as u64;
    let summed = [&length.to_be_bytes(), &(SAVED * 1000).to_be_bytes()[..], body].concat();
    let sum = crc32fast::hash(&summed);
    [b"nodens\r\n", &2u32.to_be_bytes()[..], &sum.to_be_bytes(), &summed].concat()
}

fuzz_target!(|bytes: &[u8]| {
    let (upstreams, zones) = (Labels::new(8), Labels::new(8));
    let now = Moment::from_millis(60 * 86_400_000);
    let wall = UNIX_EPOCH + Duration::from_secs(SAVED + 1);
    let terms = Terms { now, wall, stale: Duration::from_secs(3600), upstreams: &upstreams, zones: &zones };
    let mut entries = Vec::new();
    let sealed = sealed(bytes);
    for file in [bytes, &sealed] {
        let _ = persist::load(
            Cursor::new(file),
            &terms,
            |_| Some(persist::Owner { zone: 1, ..Default::default() }),
            |entry| {
                entries.push(entry);
                ControlFlow::Continue(())
            },
        );
    }
    let store = Store::new(1 << 20);
    let mut out = vec![0; 65_535];
    for entry in entries {
        let client = reply::upstream_query(entry.question(), true, false, true);
        if let Gate::Ask(query) = query::read(&client) {
            let (asked, notes) = (Asked::over_udp(&query, Manner::default()), Notes::default());
            let _ = reply::answer(&entry.as_stored(), &asked, Ttl::Aged(entry.age(now)), true, &notes, &mut out);
        }
        store.insert(entry, 0);
    }
    let mut again = Cursor::new(Vec::new());
    let saved = persist::save(&mut again, store.iter(), &terms).expect("room");
    let mut loaded = 0;
    let whole = persist::load(
        Cursor::new(again.into_inner()),
        &terms,
        |_| Some(persist::Owner { zone: 1, ..Default::default() }),
        |_| {
            loaded += 1;
            ControlFlow::Continue(())
        },
    );
    assert!(whole.is_ok() && loaded == saved);
});
