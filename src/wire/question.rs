//! One question (RFC 1035 §4.1.2), walked without following pointers and lower-cased into a stack buffer.
//!
//! The canonical octets — lower-case QNAME, QTYPE, QCLASS — are what the cache is keyed by, what goes upstream, and
//! what an upstream's reply is compared with. Case is folded for ASCII letters only (RFC 4343).

use super::header::{self, Header};
use std::fmt;

/// The longest name on the wire, in octets, root label included (RFC 1035 §2.3.4).
pub const MAX_NAME: usize = 255;
/// The longest question: a name, a type, a class.
pub const MAX_LEN: usize = MAX_NAME + 4;

/// RR types that nodens tells apart (IANA "Resource Record (RR) TYPEs").
pub mod rtype {
    #![allow(missing_docs)]
    pub const A: u16 = 1;
    pub const NS: u16 = 2;
    pub const CNAME: u16 = 5;
    pub const SOA: u16 = 6;
    pub const PTR: u16 = 12;
    pub const HINFO: u16 = 13;
    pub const MX: u16 = 15;
    pub const TXT: u16 = 16;
    pub const SIG: u16 = 24;
    pub const AAAA: u16 = 28;
    pub const SRV: u16 = 33;
    pub const NAPTR: u16 = 35;
    pub const DNAME: u16 = 39;
    pub const OPT: u16 = 41;
    pub const RRSIG: u16 = 46;
    pub const SVCB: u16 = 64;
    pub const HTTPS: u16 = 65;
    pub const TSIG: u16 = 250;
    pub const IXFR: u16 = 251;
    pub const AXFR: u16 = 252;
    pub const ANY: u16 = 255;
}

/// The Internet class.
pub const CLASS_IN: u16 = 1;

/// Length in octets of the uncompressed name at the start of `bytes`, root label included.
///
/// `None` when it runs past the end, exceeds [`MAX_NAME`], or holds a compression pointer or a reserved label type.
#[inline]
pub fn name_len(bytes: &[u8]) -> Option<usize> {
    let mut at = 0;
    loop {
        let label = usize::from(*bytes.get(at)?);
        match label {
            0 => return Some(at + 1),
            1..=63 => at += 1 + label,
            _ => return None,
        }
        if at >= MAX_NAME {
            return None;
        }
    }
}

/// The wire form of a name that is known to be valid, such as one from a checked configuration: labels between dots,
/// none longer than 63 octets, a trailing dot or none.
pub fn to_wire(name: &str) -> Vec<u8> {
    let mut wire = Vec::with_capacity(name.len() + 2);
    for label in name.split('.').filter(|label| !label.is_empty()) {
        wire.push(label.len() as u8);
        wire.extend_from_slice(label.as_bytes());
    }
    wire.push(0);
    wire
}

/// Is `name` `zone` itself or below it? Both are lower-case wire names; label boundaries count (`xcluster.local` is not
/// within `cluster.local`).
#[inline]
pub fn is_within(name: &[u8], zone: &[u8]) -> bool {
    let mut rest = name;
    while rest.len() > zone.len() {
        match rest.split_first() {
            Some((&label, tail)) if label != 0 => rest = tail.get(usize::from(label)..).unwrap_or_default(),
            _ => return false,
        }
    }
    rest == zone
}

/// A question in canonical form, on the stack.
#[derive(Clone)]
pub struct Question {
    octets: [u8; MAX_LEN],
    len: u16,
}

impl Question {
    /// Reads the question at the start of `bytes` (what follows the header).
    #[inline]
    pub fn read(bytes: &[u8]) -> Option<Question> {
        let len = name_len(bytes)? + 4;
        let spelled = bytes.get(..len)?;
        let mut octets = [0; MAX_LEN];
        let slot = octets.get_mut(..len)?;
        slot.copy_from_slice(spelled);
        // Length octets are at most 63 and so never an upper-case letter: the whole name folds in one sweep.
        slot.get_mut(..len - 4)?.make_ascii_lowercase();
        Some(Question { octets, len: len as u16 })
    }

    /// Builds a question from an uncompressed wire name, a type and a class; `None` when the name is not one.
    pub fn new(name: &[u8], qtype: u16, qclass: u16) -> Option<Question> {
        let mut bytes = Vec::with_capacity(name.len() + 4);
        bytes.extend_from_slice(name);
        bytes.extend_from_slice(&qtype.to_be_bytes());
        bytes.extend_from_slice(&qclass.to_be_bytes());
        (name_len(name)? == name.len()).then(|| Question::read(&bytes))?
    }

    /// Lower-case name, type, class, as on the wire.
    #[inline]
    pub fn as_bytes(&self) -> &[u8] {
        self.octets.get(..usize::from(self.len)).unwrap_or_default()
    }

    /// The lower-case name, as on the wire.
    #[inline]
    pub fn name(&self) -> &[u8] {
        self.octets.get(..self.name_len()).unwrap_or_default()
    }

    /// Length of the name in octets.
    #[inline]
    pub fn name_len(&self) -> usize {
        usize::from(self.len) - 4
    }

    /// QTYPE.
    #[inline]
    pub fn qtype(&self) -> u16 {
        self.word(self.name_len())
    }

    /// QCLASS.
    #[inline]
    pub fn qclass(&self) -> u16 {
        self.word(self.name_len() + 2)
    }

    #[inline]
    fn word(&self, at: usize) -> u16 {
        match self.octets.get(at..at + 2) {
            Some(&[hi, lo]) => u16::from_be_bytes([hi, lo]),
            _ => 0,
        }
    }
}

impl PartialEq for Question {
    fn eq(&self, other: &Self) -> bool {
        self.as_bytes() == other.as_bytes()
    }
}

impl Eq for Question {}

impl fmt::Debug for Question {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {}", DisplayName(self.name()), TypeName(self.qtype()), self.qclass())
    }
}

/// A wire name for people: labels joined by dots, everything but printable ASCII escaped as `\DDD` (RFC 1035 §5.1),
/// so that no octet of a query can break a log line.
pub struct DisplayName<'a>(pub &'a [u8]);

impl fmt::Display for DisplayName<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rest = self.0;
        if rest.first() == Some(&0) {
            return f.write_str(".");
        }
        while let Some((&len, tail)) = rest.split_first() {
            if len == 0 {
                break;
            }
            let Some((label, tail)) = tail.split_at_checked(usize::from(len)) else { break };
            for &octet in label {
                match octet {
                    b'.' | b'\\' | b'"' => write!(f, "\\{}", char::from(octet))?,
                    b'!'..=b'~' => write!(f, "{}", char::from(octet))?,
                    _ => write!(f, "\\{octet:03}")?,
                }
            }
            f.write_str(".")?;
            rest = tail;
        }
        Ok(())
    }
}

/// An RR type for people: its mnemonic, or `TYPE12345` (RFC 3597 §5).
#[derive(Clone, Copy)]
pub struct TypeName(pub u16);

impl TypeName {
    /// The mnemonic of the types that metrics name; `None` for all others.
    pub fn mnemonic(self) -> Option<&'static str> {
        Some(match self.0 {
            rtype::A => "A",
            rtype::NS => "NS",
            rtype::CNAME => "CNAME",
            rtype::SOA => "SOA",
            rtype::PTR => "PTR",
            rtype::MX => "MX",
            rtype::TXT => "TXT",
            rtype::AAAA => "AAAA",
            rtype::SRV => "SRV",
            rtype::SVCB => "SVCB",
            rtype::HTTPS => "HTTPS",
            rtype::ANY => "ANY",
            _ => return None,
        })
    }
}

impl fmt::Display for TypeName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.mnemonic() {
            Some(name) => f.write_str(name),
            None => write!(f, "TYPE{}", self.0),
        }
    }
}

/// Why a message is not the reply to a query (RFC 5452 §9.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mismatch {
    /// Shorter than a header, or the question cannot be read.
    Malformed,
    /// QR is clear, or the opcode is not QUERY.
    NotAResponse,
    /// Another id.
    Id,
    /// Not exactly one question, or another one.
    Question,
}

/// Is `reply` the reply to `query`, by id, opcode and question (compared without regard to case)?
///
/// `query` is a whole message as sent. A reply that carries no question is refused, whatever its RCODE, except one
/// with RCODE FORMERR or NOTIMP and nothing but a header: servers that cannot read a query answer so.
pub fn is_reply_to(query: &[u8], reply: &[u8]) -> Result<(), Mismatch> {
    let (Some(asked), Some(told)) = (Header::read(query), Header::read(reply)) else {
        return Err(Mismatch::Malformed);
    };
    if !told.is_response() || told.opcode() != asked.opcode() {
        return Err(Mismatch::NotAResponse);
    }
    if told.id != asked.id {
        return Err(Mismatch::Id);
    }
    if told.qdcount == 0
        && reply.len() == header::LEN
        && matches!(told.rcode(), header::rcode::FORMERR | header::rcode::NOTIMP)
    {
        return Ok(());
    }
    let body = |message: &[u8]| Question::read(message.get(header::LEN..)?);
    match (told.qdcount, body(query), body(reply)) {
        (1, Some(a), Some(b)) if a == b => Ok(()),
        (1, _, None) => Err(Mismatch::Malformed),
        _ => Err(Mismatch::Question),
    }
}

#[cfg(test)]
mod tests {
    use super::to_wire as wire;
    use super::*;

    #[test]
    fn names_are_measured_and_pointers_refused() {
        assert_eq!(name_len(&[0]), Some(1));
        assert_eq!(name_len(&wire("a.bc")), Some(6));
        assert_eq!(name_len(&[0xc0, 0x0c]), None);
        assert_eq!(name_len(&[0x40, 1, 0]), None);
        assert_eq!(name_len(&[0x80, 1, 0]), None);
        assert_eq!(name_len(&[3, b'a', b'b']), None);
        assert_eq!(name_len(&[]), None);
    }

    #[test]
    fn two_hundred_and_fifty_five_octets_are_the_limit() {
        let label = |n: usize| [vec![n as u8], vec![b'x'; n]].concat();
        let longest = [label(63), label(63), label(63), label(61), vec![0]].concat();
        assert_eq!(longest.len(), 255);
        assert_eq!(name_len(&longest), Some(255));
        let longer = [label(63), label(63), label(63), label(62), vec![0]].concat();
        assert_eq!(name_len(&longer), None);
    }

    #[test]
    fn e21_zones_are_matched_by_whole_labels() {
        let zone = wire("cluster.local");
        for (name, within) in [
            ("cluster.local", true),
            ("a.cluster.local", true),
            ("xcluster.local", false),
            ("local", false),
            ("a.cluster.local.x", false),
        ] {
            assert_eq!(is_within(&wire(name), &zone), within, "{name}");
            assert!(is_within(&wire(name), &[0]), "everything is below the root");
        }
    }

    #[test]
    fn the_question_is_folded_and_split() {
        let q = Question::new(&wire("WwW.Example"), rtype::AAAA, CLASS_IN).unwrap();
        assert_eq!(q.name(), wire("www.example"));
        assert_eq!((q.qtype(), q.qclass()), (rtype::AAAA, CLASS_IN));
        assert_eq!(format!("{q:?}"), "www.example. AAAA 1");
        assert!(Question::read(&wire("www")).is_none(), "type and class are missing");
    }

    #[test]
    fn names_in_text_become_wire_names() {
        assert_eq!(to_wire("."), [0]);
        assert_eq!(to_wire("a.bc"), b"\x01a\x02bc\x00");
        assert_eq!(to_wire("a.bc."), to_wire("a.bc"));
    }

    #[test]
    fn names_are_escaped_for_people() {
        let odd = [5, b'a', b'.', b'\n', 0xff, b'\\', 0];
        assert_eq!(DisplayName(&odd).to_string(), "a\\.\\010\\255\\\\.");
        assert_eq!(DisplayName(&[0]).to_string(), ".");
        assert_eq!(DisplayName(&[9, b'a']).to_string(), "");
    }

    #[test]
    fn replies_are_matched_by_id_and_question() {
        let message = |id: u16, flags: u16, name: &str| {
            let mut m = vec![0; header::LEN];
            Header { id, flags, qdcount: 1, ancount: 0, nscount: 0, arcount: 0 }.write(&mut m);
            m.extend(wire(name));
            m.extend([0, 1, 0, 1]);
            m
        };
        let query = message(7, header::RD, "a.example");
        assert_eq!(is_reply_to(&query, &message(7, header::QR, "A.eXample")), Ok(()));
        assert_eq!(is_reply_to(&query, &message(8, header::QR, "a.example")), Err(Mismatch::Id));
        assert_eq!(is_reply_to(&query, &message(7, 0, "a.example")), Err(Mismatch::NotAResponse));
        assert_eq!(is_reply_to(&query, &message(7, header::QR, "b.example")), Err(Mismatch::Question));
        assert_eq!(is_reply_to(&query, &[0; 5]), Err(Mismatch::Malformed));
        let mut empty = vec![0; header::LEN];
        let mut h = Header { id: 7, flags: header::QR | 1, qdcount: 0, ancount: 0, nscount: 0, arcount: 0 };
        h.write(&mut empty);
        assert_eq!(is_reply_to(&query, &empty), Ok(()));
        h.flags = header::QR | 3;
        h.write(&mut empty);
        assert_eq!(is_reply_to(&query, &empty), Err(Mismatch::Question));
    }
}
