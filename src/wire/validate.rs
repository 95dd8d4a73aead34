//! What an upstream's reply must be before anything of it is kept: hickory-proto reads every record of it, and the
//! answer section must be about the question and nothing else.
//!
//! The reply leaves here as it will be stored: question lower-case, OPT removed (RFC 6891 §6.2.6: hop by hop), every
//! other octet as the upstream sent it. Whether and how long it is kept is decided by `cache::policy`.

use super::header::{self, Header, rcode};
use super::names;
use super::question::{Question, rtype};
use super::record::{self, Record, Section};
use hickory_proto::op::Message;
use hickory_proto::rr::{Name, RData, RecordType};
use std::collections::HashMap;

/// A reply that can be relayed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// The message, without OPT.
    pub message: Vec<u8>,
    /// The whole RCODE.
    pub rcode: u16,
    /// What kind of answer it is.
    pub class: Class,
    /// The upstream's extended error code, if it sent one (RFC 8914).
    pub ede: Option<u16>,
}

/// Kinds of answers, as far as caching tells them apart (RFC 2308 §2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// Records of the wanted type, at the name or at the end of its CNAME chain.
    Positive,
    /// NXDOMAIN with the SOA that makes it storable: min(SOA TTL, SOA MINIMUM), in seconds.
    NxDomain(u32),
    /// NODATA with the SOA that makes it storable.
    NoData(u32),
    /// Truncated; the body is incomplete.
    Truncated,
    /// A valid reply of which nothing may be kept: no SOA, or one of another zone; a referral; a dangling CNAME.
    Unstorable,
    /// Any RCODE but NOERROR and NXDOMAIN.
    Failure,
}

/// Why a reply is worth nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Invalid {
    /// The records cannot be walked to the very end of the message.
    #[error("the reply's records do not end where the message ends")]
    Framing,
    /// Names that are spelled by octets which are none of a name, or by too many pointers.
    #[error("the reply's names lead to what is no name")]
    Names,
    /// hickory-proto cannot read it.
    #[error("the reply holds a record that cannot be read")]
    Record,
    /// Without its OPT, which stands before other records, it cannot be written within 65,535 octets.
    #[error("the reply is too large to be rewritten without its OPT")]
    Size,
    /// The answer section holds records that the question did not lead to.
    #[error("the reply's answer section holds records of other names")]
    Unrelated,
}

/// DNAMEs that one answer may hold; more is no honest answer.
const MAX_DNAMES: usize = 16;

/// Reads and cleans the reply to `question`. That the id matches and the message is a response to this very question
/// has been checked already (`question::is_reply_to`).
///
/// # Errors
/// [`Invalid`] when the message is malformed or holds what was not asked; nothing of it may be used.
pub fn reply(mut message: Vec<u8>, question: &Question) -> Result<Reply, Invalid> {
    let header = Header::read(&message).ok_or(Invalid::Framing)?;
    if header.qdcount == 0 {
        return Ok(without_question(&header, question));
    }
    let opt = walk(&message)?;
    if !names::are_settled(&message) {
        return Err(Invalid::Names);
    }
    let (code, ede) = match &opt {
        Some(opt) => (((opt.ttl >> 24) as u16) << 4 | header.rcode(), extended_error(&message, opt)),
        None => (header.rcode(), None),
    };
    let mut parsed = Message::from_vec(&message).map_err(|_| Invalid::Record)?;
    let class = classify(&parsed, &header, code, question)?;
    if let Some(opt) = opt {
        if opt.end == message.len() {
            message.truncate(opt.start);
            let header = Header { arcount: header.arcount - 1, ..header };
            header.write(&mut message);
        } else {
            // Records behind the OPT may be pointed at: cutting it out would shift them, so the message is written anew.
            parsed.edns = None;
            let anew = parsed.to_vec().map_err(|_| Invalid::Record)?;
            // hickory-proto compresses so many names and no more: a large message may outgrow what a message can be.
            let counts = |h: &Header| [h.ancount, h.nscount, h.arcount];
            let wanted = counts(&Header { arcount: header.arcount - 1, ..header });
            if Header::read(&anew).is_none_or(|h| counts(&h) != wanted) {
                return Err(Invalid::Size);
            }
            message = anew;
        }
    }
    let asked = question.as_bytes();
    if let Some(slot) = message.get_mut(header::LEN..header::LEN + asked.len()) {
        slot.copy_from_slice(asked);
    }
    Ok(Reply { message, rcode: code, class, ede })
}

/// Judges an answer to `question` that was made here, with its whole RCODE and without OPT. What its records are about is
/// for those to say who wrote the rules. `was` is what it was judged to be as an answer to another question, with the same
/// RCODE: if that had the right SOA, this has, though it may stand above the name in that question only.
///
/// # Errors
/// [`Invalid`] when it is malformed.
pub fn made_here(message: Vec<u8>, rcode: u16, question: &Question, was: Option<Class>) -> Result<Reply, Invalid> {
    let header = Header::read(&message).ok_or(Invalid::Framing)?;
    if walk(&message)?.is_some() || !names::are_settled(&message) {
        return Err(Invalid::Names);
    }
    let parsed = Message::from_vec(&message).map_err(|_| Invalid::Record)?;
    let denied = matches!(was, Some(Class::NoData(_) | Class::NxDomain(_)));
    let class = match classify(&parsed, &header, rcode, question) {
        Ok(Class::Unstorable) | Err(Invalid::Unrelated) if denied => negative(rcode, soa_ttl(&parsed, |_| true)),
        Err(Invalid::Unrelated) if rcode == rcode::NOERROR => Class::Positive,
        Err(Invalid::Unrelated) => Class::Unstorable,
        judged => judged?,
    };
    Ok(Reply { message, rcode, class, ede: None })
}

/// A failure that came as a bare header, given its question back.
fn without_question(header: &Header, question: &Question) -> Reply {
    let mut message = vec![0; header::LEN];
    Header { qdcount: 1, ancount: 0, nscount: 0, arcount: 0, ..*header }.write(&mut message);
    message.extend_from_slice(question.as_bytes());
    Reply { message, rcode: header.rcode(), class: Class::Failure, ede: None }
}

/// Walks all records to the end of the message; returns the OPT.
fn walk(message: &[u8]) -> Result<Option<Record>, Invalid> {
    let (_, mut records) = record::of(message).ok_or(Invalid::Framing)?;
    let mut opt = None;
    for record in records.by_ref() {
        let record = record.map_err(|_| Invalid::Framing)?;
        if record.rtype == rtype::OPT && record.section == Section::Additional {
            opt = Some(record);
        }
    }
    if records.position() == message.len() { Ok(opt) } else { Err(Invalid::Framing) }
}

/// The info-code of the first extended error among the options.
fn extended_error(message: &[u8], opt: &Record) -> Option<u16> {
    let mut rest = message.get(opt.rdata..opt.end)?;
    while let Some((&[c0, c1, l0, l1], tail)) = rest.split_first_chunk() {
        let (data, tail) = tail.split_at_checked(usize::from(u16::from_be_bytes([l0, l1])))?;
        if let (15, Some(&[hi, lo])) = (u16::from_be_bytes([c0, c1]), data.first_chunk()) {
            return Some(u16::from_be_bytes([hi, lo]));
        }
        rest = tail;
    }
    None
}

/// Tells what kind of answer `parsed` is, and refuses answers to what was not asked.
fn classify(parsed: &Message, header: &Header, code: u16, question: &Question) -> Result<Class, Invalid> {
    let qname = parsed.queries.first().map(|q| q.name()).ok_or(Invalid::Framing)?;
    let last = follow(parsed, qname, question.qtype())?;
    if header.flags & header::TC != 0 {
        return Ok(Class::Truncated);
    }
    Ok(match code {
        rcode::NOERROR if last.answered => Class::Positive,
        rcode::NOERROR | rcode::NXDOMAIN => negative(code, soa_ttl(parsed, |owner| owner.zone_of(last.name))),
        _ => Class::Failure,
    })
}

/// NXDOMAIN or NODATA, with what [`soa_ttl`] found.
fn negative(code: u16, soa: Option<u32>) -> Class {
    match code {
        rcode::NXDOMAIN => soa.map_or(Class::Unstorable, Class::NxDomain),
        _ => soa.map_or(Class::Unstorable, Class::NoData),
    }
}

/// What the first SOA with a fitting owner says: min(SOA TTL, SOA MINIMUM).
fn soa_ttl(parsed: &Message, fits: impl Fn(&Name) -> bool) -> Option<u32> {
    parsed.authorities.iter().find_map(|r| match &r.data {
        RData::SOA(soa) if fits(&r.name) => Some(effective_ttl(r.ttl).min(effective_ttl(soa.minimum))),
        _ => None,
    })
}

/// A TTL as it counts: one with the top bit set is 0 (RFC 2181 §8).
pub fn effective_ttl(ttl: u32) -> u32 {
    if ttl > i32::MAX as u32 { 0 } else { ttl }
}

/// Where a CNAME chain ends.
struct End<'a> {
    name: &'a Name,
    /// Records of the wanted type stand there.
    answered: bool,
}

/// Follows the answer section from the question to the end of its CNAME chain, in time linear in the records.
fn follow<'a>(parsed: &'a Message, qname: &'a Name, qtype: u16) -> Result<End<'a>, Invalid> {
    let wanted = |r: RecordType| u16::from(r) == qtype || qtype == rtype::ANY;
    if parsed.answers.iter().all(|r| r.name == *qname && !matches!(r.data, RData::CNAME(_))) {
        let answered = parsed.answers.iter().any(|r| wanted(r.record_type()));
        return Ok(End { name: qname, answered });
    }
    let mut targets = HashMap::new();
    for r in &parsed.answers {
        if let RData::CNAME(target) = &r.data {
            targets.entry(&r.name).or_insert(&target.0);
        }
    }
    // A name is stepped on once: a loop ends the walk, and the answer is relayed as it is.
    let mut chain = HashMap::from([(qname, ())]);
    let mut name = qname;
    if qtype != rtype::CNAME && qtype != rtype::ANY {
        while let Some(&target) = targets.get(name) {
            name = target;
            if chain.insert(name, ()).is_some() {
                break;
            }
        }
    }
    let mut dnames = 0;
    for r in &parsed.answers {
        if u16::from(r.record_type()) == rtype::DNAME {
            dnames += 1;
            if dnames > MAX_DNAMES {
                return Err(Invalid::Unrelated);
            }
        }
        let signs_dname = u16::from(r.record_type()) == rtype::RRSIG || u16::from(r.record_type()) == rtype::DNAME;
        let related =
            chain.contains_key(&r.name) || (signs_dname && chain.keys().take(MAX_DNAMES).any(|n| r.name.zone_of(n)));
        if !related {
            return Err(Invalid::Unrelated);
        }
    }
    let answered = parsed.answers.iter().any(|r| r.name == *name && wanted(r.record_type()));
    Ok(End { name, answered })
}

#[cfg(test)]
mod tests;
