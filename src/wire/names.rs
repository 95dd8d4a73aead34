//! Where the compressed names of a reply lead (RFC 1035 §4.1.4).
//!
//! A kept message is patched for every client: its header, its TTLs. A pointer may lead to any earlier octet, so a name
//! could be spelled by those, and be another one, or none, for the next client; such a message is refused. So is one
//! with a chain of pointers longer than any name has labels: to read thousands of these is quadratic work.

use super::header;
use super::question::{MAX_NAME, rtype};
use super::record::{self, Record};

/// The most labels that a name can have, and so the most pointers that anybody needs to read it.
const MAX_POINTERS: usize = 127;

/// Can all names of `message`, in owners and RDATA, be read without touching what is patched?
pub fn are_settled(message: &[u8]) -> bool {
    let Some((_, records)) = record::of(message) else { return false };
    let records: Vec<Record> = records.map_while(Result::ok).collect();
    let reader = Reader { message, records: &records };
    records.iter().all(|record| reader.owner_and_data(record).is_some())
}

struct Reader<'a> {
    message: &'a [u8],
    records: &'a [Record],
}

impl Reader<'_> {
    /// `None` when a name of `record` is not settled, or cannot be read at all.
    fn owner_and_data(&self, record: &Record) -> Option<()> {
        self.name(record.start)?;
        let (mut at, names) = match record.rtype {
            rtype::NAPTR => (self.behind_strings(record.rdata + 4, 3)?, 1),
            other => {
                let (offset, names) = names_of(other);
                (record.rdata + offset, names)
            }
        };
        for _ in 0..names {
            at = self.name(at)?;
        }
        Some(())
    }

    /// The offset behind `n` character-strings.
    fn behind_strings(&self, mut at: usize, n: usize) -> Option<usize> {
        for _ in 0..n {
            at += 1 + usize::from(*self.message.get(at)?);
        }
        Some(at)
    }

    /// The offset behind the name at `at`.
    fn name(&self, at: usize) -> Option<usize> {
        let (mut end, mut here, mut length, mut pointers) = (None, at, 0, 0);
        while length < MAX_NAME && pointers <= MAX_POINTERS {
            let octet = usize::from(*self.message.get(here)?);
            let taken = match octet {
                0..=63 => 1 + octet,
                0xc0.. => 2,
                _ => return None,
            };
            if self.is_patched(here, here + taken) {
                return None;
            }
            if octet == 0 {
                return Some(end.unwrap_or(here + 1));
            }
            if octet < 0xc0 {
                (here, length) = (here + taken, length + taken);
                continue;
            }
            end.get_or_insert(here + 2);
            pointers += 1;
            here = (octet & 0x3f) << 8 | usize::from(*self.message.get(here + 1)?);
        }
        None
    }

    /// Is any octet from `start` to before `end` one of those that differ from client to client?
    fn is_patched(&self, start: usize, end: usize) -> bool {
        let next = self.records.partition_point(|r| r.ttl_at + 4 <= start);
        start < header::LEN || self.records.get(next).is_some_and(|r| r.ttl_at < end)
    }
}

/// At which octet of the RDATA names begin, and how many there are: the types of which RFC 1035 lets names be
/// compressed, those of which RFC 3597 §4 has them decompressed nevertheless, and those that hickory-proto reads. Names
/// in DNSSEC's records are never compressed (RFC 4034 §3.1.7, §4.1.1).
pub(super) fn names_of(rtype: u16) -> (usize, usize) {
    match rtype {
        rtype::NS | 3 | 4 | rtype::CNAME | 7..=9 | rtype::PTR | rtype::DNAME | rtype::TSIG | 65305 => (0, 1),
        rtype::SOA | 14 | 17 => (0, 2),
        rtype::MX | 18 | 21 | 36 | rtype::SVCB | rtype::HTTPS => (2, 1),
        26 => (2, 2),
        rtype::SRV => (6, 1),
        _ => (0, 0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::header::Header;

    /// `www.x A`, and records of owner, type, data, each with TTL 1; the first record begins at octet 23.
    fn message(records: &[(&[u8], u16, &[u8])]) -> Vec<u8> {
        let mut m = vec![0; header::LEN];
        let ancount = records.len() as u16;
        Header { id: 0, flags: header::QR, qdcount: 1, ancount, nscount: 0, arcount: 0 }.write(&mut m);
        m.extend(b"\x03www\x01x\x00\x00\x01\x00\x01");
        for (owner, rtype, data) in records {
            m.extend(*owner);
            m.extend(rtype.to_be_bytes());
            m.extend([0, 1, 0, 0, 0, 1]);
            m.extend((data.len() as u16).to_be_bytes());
            m.extend(*data);
        }
        m
    }

    #[test]
    fn names_may_end_in_names_before_them() {
        let target: &[u8] = b"\x01a\xc0\x10";
        assert!(are_settled(&message(&[(&[0xc0, 12], 5, target), (&[0xc0, 35], 1, &[192, 0, 2, 1])])));
        assert!(are_settled(&message(&[(&[0xc0, 12], 6, &[&[0xc0, 16], &[0xc0, 12], &[0; 20][..]].concat())])));
        assert!(are_settled(&message(&[(&[0xc0, 12], rtype::NAPTR, b"\0\0\0\0\x01u\x03E2U\0\xc0\x0c")])));
    }

    #[test]
    fn names_made_of_header_or_ttls_are_refused() {
        for owner in [[0xc0, 0], [0xc0, 4], [0xc0, 11]] {
            assert!(!are_settled(&message(&[(&owner, 1, &[1; 4])])), "{owner:?}");
        }
        // The TTL of the first record stands at octets 29 to 32; it is 1, the rest of it reads as the root.
        for at in 29..=32 {
            assert!(!are_settled(&message(&[(&[0xc0, 12], 1, &[1; 4]), (&[0xc0, at], 1, &[1; 4])])), "{at}");
            assert!(!are_settled(&message(&[(&[0xc0, 12], 1, &[1; 4]), (&[0xc0, 12], 15, &[0, 1, 0xc0, at])])), "{at}");
        }
        assert!(
            !are_settled(&message(&[(&[0xc0, 12], 16, &[0, 12]), (&[0xc0, 36], 1, &[1; 4])])),
            "a label over a TTL"
        );
    }

    #[test]
    fn long_chains_of_pointers_are_refused() {
        // Pointers in the RDATA of a TXT record, at octet 35, each to the one before it; the first to the question.
        let pointer = |to: usize| (0xc000 | to as u16).to_be_bytes();
        let chain = |n: usize| {
            let links: Vec<u8> = (0..n).flat_map(|i| pointer(if i == 0 { 12 } else { 33 + 2 * i })).collect();
            message(&[(&[0xc0, 12], 16, &links), (&pointer(33 + 2 * n), 1, &[1; 4])])
        };
        assert!(are_settled(&chain(MAX_POINTERS - 1)));
        assert!(!are_settled(&chain(MAX_POINTERS)));
        let mut looped = chain(2);
        looped[36] = 37;
        assert!(!are_settled(&looped), "forward and back again");
    }
}
