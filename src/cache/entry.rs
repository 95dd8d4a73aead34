//! One stored answer: the message, where its TTLs are, and the times, in a single allocation that the map's key and
//! value share. Immutable: a refreshed answer is a new entry.

use super::key::Flags;
use crate::sys::clock::Moment;
use crate::wire::header;
use crate::wire::record;
use crate::wire::reply::Stored;
use std::time::Duration;
use triomphe::ThinArc;

/// What is known of an answer beside its octets.
#[derive(Clone, Copy, Debug)]
pub struct About {
    /// When it came from the upstream.
    pub stored: Moment,
    /// For how many seconds it may be given out; 0 for one that must not be stored.
    pub lifetime: u32,
    /// The whole RCODE.
    pub rcode: u16,
    /// Does it say that the name or the type does not exist?
    pub negative: bool,
    /// DO and CD of the query it answers.
    pub flags: Flags,
    /// Label of the zone it was asked in.
    pub zone: u16,
    /// Label of the upstream that gave it.
    pub upstream: u16,
}

/// The header of the allocation.
struct Head {
    about: About,
    question_len: u16,
    message_len: u16,
}

/// A stored answer. Cloning shares it.
#[derive(Clone)]
pub struct Entry(ThinArc<Head, u8>);

impl Entry {
    /// Keeps `message`, a cleaned message of at most 65,535 octets (`wire::validate::reply`), with its TTLs as they
    /// are to be shown at age 0.
    pub fn new(message: &[u8], about: About) -> Entry {
        let mut bytes = Vec::with_capacity(message.len() + 32);
        bytes.extend_from_slice(message);
        let mut question_len = 0;
        if let Some((_, records)) = record::of(message) {
            question_len = (records.position() - header::LEN) as u16;
            for record in records.map_while(Result::ok) {
                bytes.extend_from_slice(&(record.ttl_at as u16).to_be_bytes());
            }
        }
        Entry(ThinArc::from_header_and_slice(Head { about, question_len, message_len: message.len() as u16 }, &bytes))
    }

    #[inline]
    fn head(&self) -> &Head {
        &self.0.header.header
    }

    /// What is known of it.
    #[inline]
    pub fn about(&self) -> &About {
        &self.head().about
    }

    /// The message and its TTL offsets.
    #[inline]
    pub fn as_stored(&self) -> Stored<'_> {
        let (message, ttl_at) = self.0.slice.split_at_checked(usize::from(self.head().message_len)).unwrap_or_default();
        Stored { message, ttl_at, rcode: self.about().rcode }
    }

    /// The question it answers: lower-case QNAME, QTYPE, QCLASS as on the wire.
    #[inline]
    pub fn question(&self) -> &[u8] {
        let end = header::LEN + usize::from(self.head().question_len);
        self.0.slice.get(header::LEN..end).unwrap_or_default()
    }

    /// Whole seconds since it came from the upstream.
    #[inline]
    pub fn age(&self, now: Moment) -> u32 {
        u32::try_from(now.since(self.about().stored).as_secs()).unwrap_or(u32::MAX)
    }

    /// May it still be given out?
    #[inline]
    pub fn is_fresh(&self, now: Moment) -> bool {
        now.since(self.about().stored) < Duration::from_secs(u64::from(self.about().lifetime))
    }

    /// Octets of heap that it takes, allocator overhead apart.
    pub fn size(&self) -> usize {
        2 * size_of::<usize>() + size_of::<Head>() + self.0.slice.len()
    }
}

impl std::fmt::Debug for Entry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Entry").field("question", &self.question()).field("about", self.about()).finish()
    }
}
