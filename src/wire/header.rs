//! The twelve octets that open every DNS message (RFC 1035 §4.1.1), read and patched in place.
//!
//! Nothing here looks past octet 11; `query` and `record` do.

/// Length of the header in octets.
pub const LEN: usize = 12;

/// The bit of the flags word that says "this is a response".
pub const QR: u16 = 0x8000;
/// Authoritative answer.
pub const AA: u16 = 0x0400;
/// Truncation.
pub const TC: u16 = 0x0200;
/// Recursion desired.
pub const RD: u16 = 0x0100;
/// Recursion available.
pub const RA: u16 = 0x0080;
/// Reserved, must be zero (RFC 1035 §4.1.1).
pub const Z: u16 = 0x0040;
/// Authentic data (RFC 4035 §3.2.3).
pub const AD: u16 = 0x0020;
/// Checking disabled (RFC 4035 §3.2.2).
pub const CD: u16 = 0x0010;
/// The four bits of the opcode.
pub const OPCODE: u16 = 0x7800;
/// The four bits of the response code.
pub const RCODE: u16 = 0x000f;

/// Response codes that nodens itself sends or tells apart (IANA "DNS RCODEs").
pub mod rcode {
    /// No error.
    pub const NOERROR: u16 = 0;
    /// The query could not be read.
    pub const FORMERR: u16 = 1;
    /// The server failed to answer.
    pub const SERVFAIL: u16 = 2;
    /// The name does not exist.
    pub const NXDOMAIN: u16 = 3;
    /// The kind of query is not supported.
    pub const NOTIMP: u16 = 4;
    /// Refused by policy.
    pub const REFUSED: u16 = 5;
    /// Unsupported EDNS version (RFC 6891 §6.1.3); needs an OPT record to be expressed.
    pub const BADVERS: u16 = 16;
}

/// The header, in host byte order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Message id.
    pub id: u16,
    /// QR, opcode, AA, TC, RD, RA, Z, AD, CD, RCODE: see the masks of this module.
    pub flags: u16,
    /// Entries in the question section.
    pub qdcount: u16,
    /// Entries in the answer section.
    pub ancount: u16,
    /// Entries in the authority section.
    pub nscount: u16,
    /// Entries in the additional section.
    pub arcount: u16,
}

impl Header {
    /// Reads the header; `None` when `message` is shorter than [`LEN`].
    #[inline]
    pub fn read(message: &[u8]) -> Option<Header> {
        let (h, _) = message.split_first_chunk::<LEN>()?;
        let word = |hi: u8, lo: u8| u16::from_be_bytes([hi, lo]);
        Some(Header {
            id: word(h[0], h[1]),
            flags: word(h[2], h[3]),
            qdcount: word(h[4], h[5]),
            ancount: word(h[6], h[7]),
            nscount: word(h[8], h[9]),
            arcount: word(h[10], h[11]),
        })
    }

    /// Writes the header over the first [`LEN`] octets of `message`; false when there is no room.
    #[inline]
    pub fn write(&self, message: &mut [u8]) -> bool {
        let Some((h, _)) = message.split_first_chunk_mut::<LEN>() else { return false };
        let words = [self.id, self.flags, self.qdcount, self.ancount, self.nscount, self.arcount];
        for (slot, word) in h.chunks_exact_mut(2).zip(words) {
            slot.copy_from_slice(&word.to_be_bytes());
        }
        true
    }

    /// The opcode, 0..=15 (0 is QUERY).
    #[inline]
    pub fn opcode(&self) -> u8 {
        ((self.flags & OPCODE) >> 11) as u8
    }

    /// The four header bits of the response code; EDNS may add eight more.
    #[inline]
    pub fn rcode(&self) -> u16 {
        self.flags & RCODE
    }

    /// Is this a response?
    #[inline]
    pub fn is_response(&self) -> bool {
        self.flags & QR != 0
    }
}

/// Sets the id of `message` in place; a message too short for one is left alone.
#[inline]
pub fn set_id(message: &mut [u8], id: u16) {
    if let Some(slot) = message.first_chunk_mut::<2>() {
        *slot = id.to_be_bytes();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_reads_back_as_written() {
        let header = Header { id: 0xbeef, flags: QR | RD | 3, qdcount: 1, ancount: 2, nscount: 3, arcount: 4 };
        let mut bytes = [0; LEN];
        assert!(header.write(&mut bytes));
        assert_eq!(Header::read(&bytes), Some(header));
        assert_eq!(header.rcode(), rcode::NXDOMAIN);
        assert_eq!(header.opcode(), 0);
        assert!(header.is_response());
    }

    #[test]
    fn eleven_octets_are_no_header() {
        assert_eq!(Header::read(&[0; LEN - 1]), None);
        let h = Header { id: 0, flags: 0, qdcount: 0, ancount: 0, nscount: 0, arcount: 0 };
        assert!(!h.write(&mut [0; LEN - 1]));
    }
}
