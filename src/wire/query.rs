//! The gate that every client's packet passes first: octets in, a question out, or what to do instead.
//!
//! What is not plainly one QUERY for one name gets its answer here, from the header and the question alone
//! (RFC 1035 §4.1, RFC 8906, RFC 9619), and never reaches the cache or an upstream. A FORMERR or NOTIMP is a bare
//! header: it echoes id, opcode and RD and cannot be longer than the query.

use super::edns::{self, ClientEdns};
use super::header::{self, Header, rcode};
use super::question::{CLASS_IN, Question, rtype};
use super::record::Records;

/// A readable query for one name.
#[derive(Clone)]
pub struct Query<'a> {
    /// The header as sent.
    pub header: Header,
    /// The question in canonical form.
    pub question: Question,
    /// The question as the client spelled it: QNAME, QTYPE, QCLASS.
    pub spelled: &'a [u8],
    /// The client's OPT record, if it sent one.
    pub edns: Option<ClientEdns>,
    /// The options in it, as sent.
    pub options: &'a [u8],
}

impl Query<'_> {
    /// DO: the client wants DNSSEC records.
    #[inline]
    pub fn dnssec_ok(&self) -> bool {
        self.edns.is_some_and(|e| e.dnssec_ok)
    }

    /// CD: the client wants no validation done for it.
    #[inline]
    pub fn checking_disabled(&self) -> bool {
        self.header.flags & header::CD != 0
    }

    /// RD: the client wants recursion.
    #[inline]
    pub fn recursion_desired(&self) -> bool {
        self.header.flags & header::RD != 0
    }
}

/// What to do with a packet.
pub enum Gate<'a> {
    /// Look it up.
    Ask(Query<'a>),
    /// Send a bare header with this RCODE: the packet cannot be read, or its opcode is not ours.
    Bare(Header, u16),
    /// The question is plain but not one we answer: say so with this RCODE.
    Decline(Query<'a>, u16),
    /// Fewer than twelve octets: there is no header to echo.
    Short,
    /// A response, not a query: answering it could start a loop.
    Response,
}

/// Judges a packet.
#[inline]
pub fn read(packet: &[u8]) -> Gate<'_> {
    let Some(header) = Header::read(packet) else { return Gate::Short };
    if header.is_response() {
        return Gate::Response;
    }
    if header.opcode() != 0 {
        return Gate::Bare(header, rcode::NOTIMP);
    }
    if header.qdcount != 1 || header.ancount != 0 || header.nscount != 0 {
        return Gate::Bare(header, rcode::FORMERR);
    }
    let body = packet.get(header::LEN..).unwrap_or_default();
    let Some(question) = Question::read(body) else { return Gate::Bare(header, rcode::FORMERR) };
    let end = header::LEN + question.as_bytes().len();
    let spelled = body.get(..question.as_bytes().len()).unwrap_or_default();
    let mut query = Query { header, question, spelled, edns: None, options: &[] };
    let signed = match additional(packet, end, &header) {
        Some((Some((edns, options)), signed)) => {
            (query.edns, query.options) = (Some(edns), options);
            signed
        }
        Some((None, signed)) => signed,
        None => return Gate::Bare(header, rcode::FORMERR),
    };
    if query.edns.is_some_and(|e| e.version != 0) {
        return Gate::Decline(query, rcode::BADVERS);
    }
    match refusal(query.question.qtype(), query.question.qclass()) {
        Some(rcode::FORMERR) => Gate::Bare(header, rcode::FORMERR),
        Some(code) => Gate::Decline(query, code),
        None if signed => Gate::Decline(query, rcode::REFUSED),
        None => Gate::Ask(query),
    }
}

/// A client's OPT, and the options in it.
type Sent<'a> = (ClientEdns, &'a [u8]);

/// Reads the additional section: the OPT with its options, and whether the message is signed (TSIG, SIG(0)).
/// `None` when it cannot be read, holds a second OPT, one with an owner or any other record, or does not end with the
/// packet.
#[inline]
fn additional<'a>(packet: &'a [u8], at: usize, header: &Header) -> Option<(Option<Sent<'a>>, bool)> {
    if header.arcount == 0 {
        return (at == packet.len()).then_some((None, false));
    }
    let (mut opt, mut signed) = (None, false);
    let mut records = Records::new(packet, at, header);
    for record in records.by_ref() {
        let record = record.ok()?;
        match record.rtype {
            rtype::OPT => {
                let rooted = packet.get(record.start) == Some(&0);
                if opt.is_some() || !rooted {
                    return None;
                }
                let rdata = packet.get(record.rdata..record.end)?;
                opt = Some((edns::read(record.class, record.ttl, rdata).ok()?, rdata));
            }
            rtype::TSIG | rtype::SIG => signed = true,
            // No other record belongs in a query, and nobody has looked at what this one holds.
            _ => return None,
        }
    }
    (records.position() == packet.len()).then_some((opt, signed))
}

/// The RCODE for questions that are never looked up, by type and class; `None` for all others.
#[inline]
fn refusal(qtype: u16, qclass: u16) -> Option<u16> {
    if qtype != 0 && qtype < 128 && qtype != rtype::OPT && qclass == CLASS_IN {
        return None;
    }
    match (qtype, qclass) {
        // Reserved types, pseudo-records and NXNAME are no questions (RFC 6895 §3.1, RFC 9824 §3.4).
        (0 | rtype::OPT | 128 | 249 | rtype::TSIG | 65535, _) | (_, 0 | 65535) => Some(rcode::FORMERR),
        // Zone transfers are between authoritative servers.
        (rtype::IXFR | rtype::AXFR, _) => Some(rcode::REFUSED),
        // MAILB and MAILA are obsolete; the rest of the meta range is unassigned.
        (129..=248 | 253 | 254, CLASS_IN) => Some(rcode::NOTIMP),
        (_, CLASS_IN) => None,
        // CH tells about servers, and this one does not; HS, NONE and ANY hold nothing that a node asks for.
        _ => Some(rcode::REFUSED),
    }
}

#[cfg(test)]
mod tests;
