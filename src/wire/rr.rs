//! Responses written from scratch: records whose parts are at hand, joined to a message (RFC 1035 §4.1).
//!
//! For answers that are made here rather than relayed. Of names only an owner that is the question's own is compressed:
//! such answers are small.

use super::header::{self, Header};
use super::question::Question;

/// The name of the question, which stands behind the header, as a compression pointer.
const QNAME: [u8; 2] = [0xc0, header::LEN as u8];

/// A resource record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rr {
    /// Its owner, an uncompressed wire name.
    pub owner: Vec<u8>,
    /// TYPE.
    pub rtype: u16,
    /// CLASS.
    pub class: u16,
    /// TTL in seconds.
    pub ttl: u32,
    /// RDATA, at most 65,535 octets, its names uncompressed.
    pub rdata: Vec<u8>,
}

/// A response to `question`, id 0, with these records in answer, authority and additional section; `authoritative` sets
/// AA. `None` when it would be longer than a message can be. An RCODE that takes an OPT record is cut.
pub fn response(question: &Question, rcode: u16, authoritative: bool, sections: [&[Rr]; 3]) -> Option<Vec<u8>> {
    let mut message = vec![0; header::LEN];
    message.extend_from_slice(question.as_bytes());
    for rr in sections.into_iter().flatten() {
        match rr.owner == question.name() {
            true => message.extend(QNAME),
            false => message.extend(&rr.owner),
        }
        message.extend(rr.rtype.to_be_bytes());
        message.extend(rr.class.to_be_bytes());
        message.extend(rr.ttl.to_be_bytes());
        message.extend(u16::try_from(rr.rdata.len()).ok()?.to_be_bytes());
        message.extend(&rr.rdata);
    }
    let [ancount, nscount, arcount] = sections.map(|rrs| u16::try_from(rrs.len()).ok());
    let aa = if authoritative { header::AA } else { 0 };
    let flags = header::QR | aa | (rcode & 0x0f);
    Header { id: 0, flags, qdcount: 1, ancount: ancount?, nscount: nscount?, arcount: arcount? }.write(&mut message);
    (message.len() <= usize::from(u16::MAX)).then_some(message)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::question::{CLASS_IN, rtype, to_wire};
    use hickory_proto::op::{Message, ResponseCode};

    fn rr(owner: &str, rdata: Vec<u8>) -> Rr {
        Rr { owner: to_wire(owner), rtype: rtype::A, class: CLASS_IN, ttl: 7, rdata }
    }

    #[test]
    fn a_response_reads_back_as_what_went_into_it() {
        let question = Question::new(&to_wire("a.example"), rtype::A, CLASS_IN).unwrap();
        let (answer, other) = (rr("a.example", vec![10, 0, 0, 1]), rr("b.example", vec![10, 0, 0, 2]));
        let sections = [std::slice::from_ref(&answer), &[], &[answer.clone(), other]];
        let message = Message::from_vec(&response(&question, 3, true, sections).unwrap()).unwrap();
        assert_eq!((message.metadata.id, message.metadata.response_code), (0, ResponseCode::NXDomain));
        assert!(message.metadata.authoritative && !message.metadata.recursion_available);
        assert_eq!(message.queries[0].to_string(), "a.example. IN A");
        assert_eq!(message.answers[0].to_string(), "a.example. 7 IN A 10.0.0.1");
        assert!(message.authorities.is_empty());
        assert_eq!(message.additionals[1].to_string(), "b.example. 7 IN A 10.0.0.2");
    }

    #[test]
    fn what_is_longer_than_a_message_is_none() {
        let question = Question::new(&to_wire("a.example"), rtype::A, CLASS_IN).unwrap();
        let many = vec![rr("a.example", vec![0; 1000]); 65];
        assert!(response(&question, 0, true, [&many[..64], &[], &[]]).is_some());
        assert!(response(&question, 0, true, [&many, &[], &[]]).is_none());
        assert!(response(&question, 0, true, [&[rr("a", vec![0; 65_536])], &[], &[]]).is_none());
    }
}
