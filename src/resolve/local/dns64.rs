//! `zones[].dns64`: an AAAA question whose answer has no address is answered by the A records of the name, each with the
//! prefix before its address (RFC 6147; RFC 6052 §2.2 says which octets hold it).
//!
//! As CoreDNS does it: NXDOMAIN stays; any other answer without an address counts as empty; CNAMEs and what else is in
//! the A answer come along, and so do its RCODE and its TC. Addresses within ::ffff:0:0/96 count as none (§5.1.4).

use crate::config;
use crate::wire::header::{self, Header, rcode};
use crate::wire::message::Message;
use crate::wire::question::{CLASS_IN, Question, rtype};
use crate::wire::record::{self, Section};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Longest TTL of an address where the AAAA answer has no SOA, in seconds (RFC 6147 §5.1.7).
const WITHOUT_SOA: u32 = 600;
/// What ::ffff:0:0/96 begins with.
const MAPPED: [u8; 12] = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff];

/// The rules of a zone.
#[derive(Clone, Copy, Debug)]
pub struct Dns64(config::Dns64);

impl Dns64 {
    /// What the configuration says.
    pub fn new(config: config::Dns64) -> Dns64 {
        Dns64(config)
    }

    /// Whether this client gets addresses made for it when it asks `question`.
    pub fn wants(&self, client: IpAddr, question: &Question) -> bool {
        (self.0.allow_ipv4 || client.to_canonical().is_ipv6())
            && (question.qtype(), question.qclass()) == (rtype::AAAA, CLASS_IN)
    }

    /// Whether the A records are to be asked for (by [`Dns64::instead`]), as `answer` to the AAAA question has no address.
    pub fn needs_a(&self, answer: &[u8]) -> bool {
        let Some((header, records)) = record::of(answer) else { return false };
        if header.rcode() == rcode::NXDOMAIN {
            return false;
        }
        let mut answers = records.map_while(Result::ok).take_while(|r| r.section == Section::Answer);
        let is_address = |r: record::Record| r.rtype == rtype::AAAA && !answer[r.rdata..r.end].starts_with(&MAPPED);
        self.0.translate_all || !answers.any(is_address)
    }

    /// The question for the A records of the name that `question` is about.
    pub fn instead(question: &Question) -> Option<Question> {
        Question::new(question.name(), rtype::A, CLASS_IN)
    }

    /// The answer to `question`, an AAAA question that was answered by `aaaa`, made of `a`, the answer to the A question;
    /// `None` when one of them cannot be read, or it would be too long.
    pub fn synthesise(&self, question: &Question, aaaa: &[u8], a: &[u8]) -> Option<Vec<u8>> {
        let longest = soa_ttl(aaaa)?.unwrap_or(WITHOUT_SOA);
        let mut message = Message::read(a)?;
        for rr in message.section_mut(Section::Answer) {
            if let (rtype::A, CLASS_IN, Ok(address)) = (rr.rtype, rr.class, <[u8; 4]>::try_from(&rr.rdata[..])) {
                rr.rtype = rtype::AAAA;
                rr.ttl = rr.ttl.min(longest);
                rr.rdata = self.embed(address.into()).octets().to_vec();
            }
        }
        question.as_bytes().clone_into(&mut message.question);
        // It is our answer, not the upstream's.
        message.header = Header { flags: message.header.flags & !(header::AA | header::AD), ..message.header };
        message.write()
    }

    /// The IPv6 address that holds `address` behind the prefix. Its octet 8 stays zero.
    fn embed(&self, address: Ipv4Addr) -> Ipv6Addr {
        let mut octets = [0; 16];
        let (start, prefix) = (usize::from(self.0.length / 8), self.0.prefix.octets());
        octets[..start].copy_from_slice(&prefix[..start]);
        let slots = octets.iter_mut().enumerate().filter(|(at, _)| *at >= start && *at != 8);
        for ((_, slot), octet) in slots.zip(address.octets()) {
            *slot = octet;
        }
        octets.into()
    }
}

/// The TTL of the last SOA in the authority section, if there is one; the outer `None` when the message cannot be read.
fn soa_ttl(message: &[u8]) -> Option<Option<u32>> {
    let (_, records) = record::of(message)?;
    let soas = records.map_while(Result::ok).filter(|r| r.section == Section::Authority && r.rtype == rtype::SOA);
    Some(soas.last().map(|r| r.ttl))
}

#[cfg(test)]
mod tests;
