//! A whole message taken apart into records and put together again, for those who alter or reorder them.
//!
//! Compression (RFC 1035 §4.1.4) ties records to their places: what is moved or changed must be read without it and
//! compressed anew. Names keep their case. Of types whose RDATA holds compressed names those are decompressed; all other
//! RDATA is carried as it is (RFC 3597 §4). Not for the path of plain hits, which copies messages as they are.

use super::header::{self, Header};
use super::names;
use super::question::{MAX_NAME, name_len, rtype};
use super::record::{self, Record, Section};
use super::rr::Rr;
use std::collections::HashMap;

/// The most pointers in one name: as many as it can have labels.
const MAX_POINTERS: usize = 127;
/// The last octet that a pointer can lead to.
const MAX_TARGET: usize = 0x3fff;

/// A message with one question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// The header; its counts are written anew.
    pub header: Header,
    /// QNAME, QTYPE and QCLASS, as on the wire.
    pub question: Vec<u8>,
    /// Answer, authority and additional section.
    pub sections: [Vec<Rr>; 3],
}

impl Message {
    /// Reads a message to its last record; `None` when it has not one question, or something in it cannot be read.
    pub fn read(message: &[u8]) -> Option<Message> {
        let (header, records) = record::of(message)?;
        let question = message.get(header::LEN..records.position())?.to_vec();
        let mut sections: [Vec<Rr>; 3] = Default::default();
        for record in records {
            let record = record.ok()?;
            let rr = Rr::read(message, &record)?;
            sections.get_mut(record.section as usize)?.push(rr);
        }
        Some(Message { header, question, sections })
    }

    /// Writes it, names compressed; `None` when it is longer than a message can be.
    pub fn write(&self) -> Option<Vec<u8>> {
        let mut writer = Writer { out: vec![0; header::LEN], seen: HashMap::default() };
        let (name, rest) = self.question.split_at_checked(self.question.len().checked_sub(4)?)?;
        writer.name(name);
        writer.out.extend_from_slice(rest);
        self.put_records(&mut writer)?;
        let [ancount, nscount, arcount] = self.sections.each_ref().map(|section| u16::try_from(section.len()).ok());
        let header = Header { qdcount: 1, ancount: ancount?, nscount: nscount?, arcount: arcount?, ..self.header };
        header.write(&mut writer.out);
        Some(writer.out)
    }

    /// Writes the records. What does not fit is not written to its end: a few pointers can stand for very many names.
    fn put_records<'a>(&'a self, writer: &mut Writer<'a>) -> Option<()> {
        self.sections.iter().flatten().try_for_each(|rr| {
            writer.record(rr)?;
            (writer.out.len() <= usize::from(u16::MAX)).then_some(())
        })
    }

    /// The records of `section`.
    pub fn section(&self, section: Section) -> &[Rr] {
        self.sections.get(section as usize).map_or(&[], Vec::as_slice)
    }

    /// The records of `section`, to be changed.
    pub fn section_mut(&mut self, section: Section) -> &mut Vec<Rr> {
        let [answer, authority, additional] = &mut self.sections;
        match section {
            Section::Answer => answer,
            Section::Authority => authority,
            Section::Additional => additional,
        }
    }
}

impl Rr {
    fn read(message: &[u8], record: &Record) -> Option<Rr> {
        let mut owner = Vec::new();
        read_name(message, record.start, &mut owner)?;
        let rdata = message.get(record.rdata..record.end)?;
        let (offset, count) = names_in(record.rtype, rdata)?;
        let mut data = rdata.get(..offset)?.to_vec();
        let mut at = record.rdata + offset;
        for _ in 0..count {
            at = read_name(message, at, &mut data).filter(|&at| at <= record.end)?;
        }
        data.extend_from_slice(message.get(at..record.end)?);
        Some(Rr { owner, rtype: record.rtype, class: record.class, ttl: record.ttl, rdata: data })
    }

    /// The name that the record leads to, which is the first of its RDATA; `None` for types that hold none.
    pub fn target(&self) -> Option<&[u8]> {
        let (offset, end) = self.target_at()?;
        self.rdata.get(offset..end)
    }

    /// Puts another name in the place of [`Rr::target`].
    pub fn set_target(&mut self, name: &[u8]) {
        if let Some((offset, end)) = self.target_at() {
            self.rdata.splice(offset..end, name.iter().copied());
        }
    }

    fn target_at(&self) -> Option<(usize, usize)> {
        let (offset, count) = names_in(self.rtype, &self.rdata)?;
        let len = name_len(self.rdata.get(offset..)?)?;
        (count > 0).then_some((offset, offset + len))
    }
}

/// Where in RDATA the names begin that may be compressed, and how many there are; `None` when it is too short for them.
fn names_in(rtype: u16, rdata: &[u8]) -> Option<(usize, usize)> {
    if rtype != rtype::NAPTR {
        let (offset, count) = names::names_of(rtype);
        return (offset <= rdata.len()).then_some((offset, count));
    }
    let mut at = 4;
    for _ in 0..3 {
        at += 1 + usize::from(*rdata.get(at)?);
    }
    (at <= rdata.len()).then_some((at, 1))
}

/// Appends the name at `at`, pointers followed, to `out`; returns the offset behind it.
fn read_name(message: &[u8], at: usize, out: &mut Vec<u8>) -> Option<usize> {
    let start = out.len();
    let (mut here, mut end, mut pointers) = (at, None, 0);
    loop {
        let octet = usize::from(*message.get(here)?);
        match octet {
            0 => {
                out.push(0);
                return Some(end.unwrap_or(here + 1));
            }
            1..=63 => {
                out.extend_from_slice(message.get(here..here + 1 + octet)?);
                here += 1 + octet;
                if out.len() - start >= MAX_NAME {
                    return None;
                }
            }
            0xc0.. => {
                pointers += 1;
                if pointers > MAX_POINTERS {
                    return None;
                }
                end.get_or_insert(here + 2);
                here = (octet & 0x3f) << 8 | usize::from(*message.get(here + 1)?);
            }
            _ => return None,
        }
    }
}

/// A message being written, and where the ends of names stand in it.
struct Writer<'a> {
    out: Vec<u8>,
    seen: HashMap<&'a [u8], u16, foldhash::fast::RandomState>,
}

impl<'a> Writer<'a> {
    fn record(&mut self, rr: &'a Rr) -> Option<()> {
        self.name(&rr.owner);
        self.out.extend_from_slice(&rr.rtype.to_be_bytes());
        self.out.extend_from_slice(&rr.class.to_be_bytes());
        self.out.extend_from_slice(&rr.ttl.to_be_bytes());
        let length_at = self.out.len();
        self.out.extend_from_slice(&[0, 0]);
        self.data(rr)?;
        let length = u16::try_from(self.out.len() - length_at - 2).ok()?;
        self.out.get_mut(length_at..length_at + 2)?.copy_from_slice(&length.to_be_bytes());
        Some(())
    }

    /// RDATA, whose names are compressed where every reader expects it: in the types of RFC 1035 (RFC 3597 §4).
    fn data(&mut self, rr: &'a Rr) -> Option<()> {
        let names = match rr.rtype {
            rtype::NS | rtype::CNAME | rtype::PTR | rtype::MX => 1,
            rtype::SOA => 2,
            _ => 0,
        };
        let (offset, _) = names_in(rr.rtype, &rr.rdata)?;
        let (head, mut rest) = rr.rdata.split_at_checked(if names > 0 { offset } else { 0 })?;
        self.out.extend_from_slice(head);
        for _ in 0..names {
            let (name, behind) = rest.split_at_checked(name_len(rest)?)?;
            self.name(name);
            rest = behind;
        }
        self.out.extend_from_slice(rest);
        Some(())
    }

    /// A name, or as much of it as has not been written before and a pointer to the rest.
    fn name(&mut self, name: &'a [u8]) {
        let mut rest = name;
        while let Some((&label, _)) = rest.split_first().filter(|&(&label, _)| label != 0) {
            if let Some(&at) = self.seen.get(rest) {
                return self.out.extend_from_slice(&(0xc000 | at).to_be_bytes());
            }
            if let Ok(at) = u16::try_from(self.out.len())
                && usize::from(at) <= MAX_TARGET
            {
                self.seen.insert(rest, at);
            }
            let (spelled, behind) = rest.split_at_checked(1 + usize::from(label)).unwrap_or((rest, &[]));
            self.out.extend_from_slice(spelled);
            rest = behind;
        }
        self.out.push(0);
    }
}

#[cfg(test)]
mod tests;
