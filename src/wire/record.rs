//! Walks the resource records of a message (RFC 1035 §4.1.3) without reading names or RDATA.
//!
//! Linear in the message's length, whatever its counts claim: a record takes at least eleven octets. Compression
//! pointers are stepped over, never followed, so nothing can loop.

use super::header::{self, Header};
use super::question;

/// A message whose records cannot be walked: something runs past its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed;

/// The section that a record stands in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Section {
    /// Answer.
    Answer,
    /// Authority.
    Authority,
    /// Additional.
    Additional,
}

/// Where the parts of one record are, as offsets from the start of the message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record {
    /// The section it stands in.
    pub section: Section,
    /// Start of the owner name.
    pub start: usize,
    /// TYPE.
    pub rtype: u16,
    /// CLASS (an OPT's UDP size).
    pub class: u16,
    /// TTL as it stands (an OPT's extended RCODE, version and flags).
    pub ttl: u32,
    /// Offset of the TTL's four octets.
    pub ttl_at: usize,
    /// Start of the RDATA.
    pub rdata: usize,
    /// End of the RDATA, which is the end of the record.
    pub end: usize,
}

/// The records of a message, in order. Stops at the first that cannot be walked.
#[derive(Clone)]
pub struct Records<'a> {
    message: &'a [u8],
    at: usize,
    left: [u16; 3],
}

impl<'a> Records<'a> {
    /// Walks `message`, whose records start at octet `at` (behind the question) and are counted by `header`.
    #[inline]
    pub fn new(message: &'a [u8], at: usize, header: &Header) -> Records<'a> {
        Records { message, at, left: [header.ancount, header.nscount, header.arcount] }
    }

    /// Where the next record would start; after the last one, the end of all records.
    #[inline]
    pub fn position(&self) -> usize {
        self.at
    }

    fn read(&self, section: Section) -> Option<Record> {
        let start = self.at;
        let fixed = skip_name(self.message, start)?;
        let head: &[u8; 10] = self.message.get(fixed..)?.first_chunk()?;
        let [t0, t1, c0, c1, l0, l1, l2, l3, r0, r1] = *head;
        let rdata = fixed + 10;
        let end = rdata + usize::from(u16::from_be_bytes([r0, r1]));
        (end <= self.message.len()).then_some(Record {
            section,
            start,
            rtype: u16::from_be_bytes([t0, t1]),
            class: u16::from_be_bytes([c0, c1]),
            ttl: u32::from_be_bytes([l0, l1, l2, l3]),
            ttl_at: fixed + 4,
            rdata,
            end,
        })
    }
}

impl Iterator for Records<'_> {
    type Item = Result<Record, Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        let sections = [Section::Answer, Section::Authority, Section::Additional];
        let (section, left) = sections.into_iter().zip(self.left.iter_mut()).find(|(_, left)| **left > 0)?;
        *left -= 1;
        match self.read(section) {
            Some(record) => {
                self.at = record.end;
                Some(Ok(record))
            }
            None => {
                self.left = [0; 3];
                Some(Err(Malformed))
            }
        }
    }
}

/// The offset behind the name at `at`, which may end in a compression pointer; the pointer is not followed.
#[inline]
pub fn skip_name(message: &[u8], mut at: usize) -> Option<usize> {
    let start = at;
    loop {
        match usize::from(*message.get(at)?) {
            0 => return Some(at + 1),
            label @ 1..=63 => at += 1 + label,
            0xc0..=0xff => return (at + 2 <= message.len()).then_some(at + 2),
            _ => return None,
        }
        if at - start >= question::MAX_NAME {
            return None;
        }
    }
}

/// Walks a whole message with one question: the records' start, and the records; `None` without such a question.
pub fn of(message: &[u8]) -> Option<(Header, Records<'_>)> {
    let header = Header::read(message)?;
    if header.qdcount != 1 {
        return None;
    }
    let at = header::LEN + question::name_len(message.get(header::LEN..)?)? + 4;
    Some((header, Records::new(message, at, &header)))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A header for `counts`, the question `a. A IN`, then `rest`.
    fn message(counts: [u16; 3], rest: &[u8]) -> Vec<u8> {
        let mut m = vec![0; header::LEN];
        let [ancount, nscount, arcount] = counts;
        Header { id: 1, flags: header::QR, qdcount: 1, ancount, nscount, arcount }.write(&mut m);
        m.extend([1, b'a', 0, 0, 1, 0, 1]);
        m.extend_from_slice(rest);
        m
    }

    const A: [u8; 16] = [0xc0, 0x0c, 0, 1, 0, 1, 0, 0, 1, 44, 0, 4, 10, 0, 0, 1];

    #[test]
    fn records_carry_their_section_and_offsets() {
        let m = message([1, 0, 1], &[A, A].concat());
        let (_, records) = of(&m).unwrap();
        let all: Vec<Record> = records.map(Result::unwrap).collect();
        assert_eq!(all.len(), 2);
        assert_eq!((all[0].section, all[0].ttl, all[0].ttl_at), (Section::Answer, 300, 25));
        assert_eq!((all[1].section, all[1].start, all[1].end), (Section::Additional, 35, 51));
    }

    #[test]
    fn c09_counts_larger_than_the_data_end_the_walk() {
        let m = message([65535, 65535, 65535], &A);
        let (_, records) = of(&m).unwrap();
        let all: Vec<_> = records.collect();
        assert_eq!(all.len(), 2, "one record, one error, and no more");
        assert_eq!(all[1], Err(Malformed));
    }

    #[test]
    fn c08_rdata_past_the_end_is_malformed() {
        let mut rr = A;
        rr[11] = 5;
        let m = message([1, 0, 0], &rr);
        assert_eq!(of(&m).unwrap().1.next(), Some(Err(Malformed)));
    }

    #[test]
    fn a_name_may_end_in_a_pointer_that_is_not_followed() {
        assert_eq!(skip_name(&[0xc0, 0x00], 0), Some(2));
        assert_eq!(skip_name(&[1, b'a', 0xc0, 0x00, 9], 0), Some(4));
        assert_eq!(skip_name(&[0xc0], 0), None);
        assert_eq!(skip_name(&[0x80, 0], 0), None);
    }
}
