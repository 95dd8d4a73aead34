//! What an answer is found by: lower-case QNAME, QTYPE, QCLASS, and the bits of a query that change the answer.
//!
//! A look-up borrows the question where it stands; a stored key is the question inside the stored message. Both hash
//! the same octets. DO decides whether DNSSEC records are there (RFC 4035 §3.2.1), CD whether they were validated
//! (§3.2.2): answers to different settings are never mixed.

use super::entry::Entry;
use equivalent::Equivalent;
use std::hash::{Hash, Hasher};

/// DO and CD of a query.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub struct Flags(u8);

impl Flags {
    /// From the two bits of a query.
    #[inline]
    pub fn new(dnssec_ok: bool, checking_disabled: bool) -> Flags {
        Flags(u8::from(dnssec_ok) | u8::from(checking_disabled) << 1)
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

/// A borrowed key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Key<'a> {
    /// Lower-case QNAME, QTYPE, QCLASS as on the wire.
    pub question: &'a [u8],
    /// DO and CD.
    pub flags: Flags,
}

impl Hash for Key<'_> {
    #[inline]
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write(self.question);
        state.write_u8(self.flags.0);
    }
}

impl Equivalent<Entry> for Key<'_> {
    #[inline]
    fn equivalent(&self, entry: &Entry) -> bool {
        *self == entry.key()
    }
}
