//! What an answer is found by: lower-case QNAME, QTYPE, QCLASS, and what else of a query changes the answer.
//!
//! DO decides whether DNSSEC records are there (RFC 4035 §3.2.1), CD whether they were validated (§3.2.2): answers to
//! different settings are never mixed. A look-up borrows the question where it stands; a stored key is the question
//! inside the stored message. The octets are hashed once per query, with a seed of the store's own, since a client
//! chooses them; the maps take that hash as it is.

use super::entry::Entry;
use equivalent::Equivalent;
use std::hash::{BuildHasher, BuildHasherDefault, Hash, Hasher};

/// DO and CD of a query, and the view that it is for: who asks at another address may be told other things.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub struct Flags(u8);

/// How many views are told apart.
pub const VIEWS: u8 = 16;

impl Flags {
    /// From the two bits of a query.
    #[inline]
    pub fn new(dnssec_ok: bool, checking_disabled: bool) -> Flags {
        Flags(u8::from(dnssec_ok) | u8::from(checking_disabled) << 1)
    }

    /// The same for queries of this view, below [`VIEWS`].
    #[inline]
    pub fn in_view(self, view: u8) -> Flags {
        Flags(self.0 & 3 | (view % VIEWS) << 2)
    }

    /// The view.
    #[inline]
    pub fn view(self) -> u8 {
        self.0 >> 2
    }

    /// Six bits: DO the lowest, CD, then the view.
    #[inline]
    pub(super) fn bits(self) -> u8 {
        self.0
    }

    /// From the six lowest of `bits`.
    #[inline]
    pub(super) fn from_bits(bits: u8) -> Flags {
        Flags(bits & 0x3f)
    }

    /// DO.
    pub fn dnssec_ok(self) -> bool {
        self.0 & 1 != 0
    }

    /// CD.
    pub fn checking_disabled(self) -> bool {
        self.0 & 2 != 0
    }
}

/// Hashes keys, each store by a random seed of its own.
#[derive(Clone, Debug, Default)]
pub struct Seed(foldhash::quality::RandomState);

impl Seed {
    /// The key for a question (lower-case QNAME, QTYPE, QCLASS as on the wire) with these flags.
    #[inline]
    pub fn key<'a>(&self, question: &'a [u8], flags: Flags) -> Key<'a> {
        let mut hasher = self.0.build_hasher();
        hasher.write(question);
        hasher.write_u8(flags.0);
        Key { hash: hasher.finish(), question, flags }
    }
}

/// A borrowed key, hashed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Key<'a> {
    hash: u64,
    question: &'a [u8],
    flags: Flags,
}

impl Key<'_> {
    /// The hash, evenly spread over all its bits.
    #[inline]
    pub fn hash(&self) -> u64 {
        self.hash
    }

    /// Is `entry` the answer to this?
    #[inline]
    pub fn is_answered_by(&self, entry: &Entry) -> bool {
        self.question == entry.question() && self.flags == entry.about().flags
    }
}

impl Hash for Key<'_> {
    #[inline]
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.hash);
    }
}

impl Equivalent<Owned> for Key<'_> {
    #[inline]
    fn equivalent(&self, owned: &Owned) -> bool {
        self.hash == owned.hash && self.is_answered_by(&owned.entry)
    }
}

/// A stored key: its hash, so that a table that grows reads no entries, and the entry that holds the question.
#[derive(Clone, Debug)]
pub(super) struct Owned {
    hash: u64,
    entry: Entry,
}

impl Owned {
    /// The key of `entry`, hashed to `hash` already.
    pub(super) fn new(entry: Entry, hash: u64) -> Owned {
        Owned { hash, entry }
    }
}

impl Hash for Owned {
    #[inline]
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.hash);
    }
}

impl PartialEq for Owned {
    #[inline]
    fn eq(&self, other: &Self) -> bool {
        let (a, b) = (&self.entry, &other.entry);
        self.hash == other.hash && a.question() == b.question() && a.about().flags == b.about().flags
    }
}

impl Eq for Owned {}

/// Takes a hash that was made already.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct AsIs(u64);

/// Builds [`AsIs`].
pub(super) type BuildAsIs = BuildHasherDefault<AsIs>;

impl Hasher for AsIs {
    #[inline]
    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }

    /// Keys write nothing but their hash; anything else is folded in, so that this stays a hasher.
    fn write(&mut self, bytes: &[u8]) {
        self.0 = bytes.iter().fold(self.0, |hash, &octet| hash.rotate_left(8) ^ u64::from(octet));
    }

    #[inline]
    fn finish(&self) -> u64 {
        self.0
    }
}
