//! Writes answers: a stored message patched for one client, or an error made from the query alone.
//!
//! A stored message is copied once and then patched in place: id, flags, the client's own spelling of the name, aged
//! TTLs, its OPT. When it does not fit, whole records are dropped from the end; TC is set when one of them was of the
//! answer or the authority section (RFC 2181 §9). Nothing here allocates.

use super::edns::{self, ClientEdns, OPT_LEN, Opt, UDP_SIZE};
use super::header::{self, Header, rcode};
use super::query::Query;
use super::record::{Records, Section};

/// The most that a message over TCP can hold.
pub const STREAM_LIMIT: usize = 65535;

/// How replies are written where the standards leave a choice.
#[derive(Clone, Copy, Debug)]
pub struct Manner {
    /// As CoreDNS does: AA on answers from the cache, RA and AD as the upstream has them, the client's EDNS size and options
    /// given back, no RA on failures.
    pub like_coredns: bool,
    /// The largest reply over UDP, in octets, to a client that takes as much.
    pub udp_limit: u16,
}

impl Default for Manner {
    fn default() -> Manner {
        Manner { like_coredns: false, udp_limit: UDP_SIZE }
    }
}

/// What a reply owes to the query it answers.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    /// The query's id.
    pub id: u16,
    /// The query's flags; RD, CD and the opcode are given back.
    pub flags: u16,
    /// The question as the client spelled it.
    pub spelled: &'a [u8],
    /// The client's OPT; without one the reply has none either.
    pub edns: Option<ClientEdns>,
    /// The largest message it takes over its transport, in octets.
    pub limit: usize,
    /// Over TCP, how long an idle connection is kept, in units of 100 ms.
    pub keepalive: Option<u16>,
    /// The client's EDNS options, if they are to be given back.
    pub options: &'a [u8],
    /// Is it written as CoreDNS does?
    pub like_coredns: bool,
}

impl<'a> Asked<'a> {
    /// For a query that came in a UDP datagram: the answer fits what the client takes, and what `manner` says.
    #[inline]
    pub fn over_udp(query: &Query<'a>, manner: Manner) -> Asked<'a> {
        let limit = query.edns.map_or(edns::MIN_UDP_SIZE, |e| e.udp_size.min(manner.udp_limit));
        Asked::new(query, usize::from(limit), None, manner)
    }

    /// For a query that came over TCP, where idle connections are kept for `keepalive` units of 100 ms.
    #[inline]
    pub fn over_tcp(query: &Query<'a>, keepalive: u16, manner: Manner) -> Asked<'a> {
        Asked::new(query, STREAM_LIMIT, Some(keepalive), manner)
    }

    #[inline]
    fn new(query: &Query<'a>, limit: usize, keepalive: Option<u16>, manner: Manner) -> Asked<'a> {
        let Query { header, spelled, edns, options, .. } = *query;
        let like_coredns = manner.like_coredns;
        let options = if like_coredns { options } else { &[] };
        Asked { id: header.id, flags: header.flags, spelled, edns, limit, keepalive, options, like_coredns }
    }

    /// Does the client want to know the server's name?
    #[inline]
    pub fn wants_name(&self) -> bool {
        self.edns.is_some_and(|e| e.nsid)
    }

    /// Does the client want the answer explained?
    #[inline]
    pub fn explain(&self) -> bool {
        self.edns.is_some_and(|e| e.explain)
    }

    /// The OPT that the reply carries, if any.
    #[inline]
    fn opt(&self, rcode: u16, notes: &Notes<'_>) -> Option<Opt> {
        let edns = self.edns?;
        let mut opt = Opt::new(rcode, edns.dnssec_ok && edns.version == 0);
        match self.keepalive {
            _ if self.like_coredns => self.echo(&mut opt, edns, notes),
            Some(tenths) if edns.keepalive => opt.keepalive(tenths),
            _ => {}
        }
        if let (true, Some(name)) = (edns.nsid, notes.name) {
            opt.nsid(name);
        }
        if let Some((code, text)) = notes.error {
            opt.error(code, text);
        }
        if let (true, Some(text)) = (edns.explain, notes.explanation) {
            opt.explain(text);
        }
        let room = self.limit.saturating_sub(header::LEN + self.spelled.len());
        Some(if opt.as_bytes().len() > room { Opt::new(rcode, edns.dnssec_ok) } else { opt })
    }

    /// Gives back what CoreDNS does of the client's OPT.
    #[cold]
    fn echo(&self, opt: &mut Opt, edns: ClientEdns, notes: &Notes<'_>) {
        opt.size(edns.udp_size);
        opt.echo(self.options, notes.name.is_none());
    }
}

/// [`Asked`], kept while the answer is waited for.
#[derive(Clone, Debug)]
pub struct OwnedAsked {
    /// The question, then the options.
    octets: Box<[u8]>,
    question: usize,
    rest: Asked<'static>,
}

impl From<Asked<'_>> for OwnedAsked {
    fn from(asked: Asked<'_>) -> OwnedAsked {
        let octets = match asked.options {
            [] => asked.spelled.into(),
            options => [asked.spelled, options].concat().into(),
        };
        OwnedAsked { octets, question: asked.spelled.len(), rest: Asked { spelled: &[], options: &[], ..asked } }
    }
}

impl OwnedAsked {
    /// As it was.
    pub fn get(&self) -> Asked<'_> {
        let (spelled, options) = self.octets.split_at_checked(self.question).unwrap_or_default();
        Asked { spelled, options, ..self.rest }
    }
}

/// A message as the cache keeps it: no OPT, the question first and lower-case.
#[derive(Clone, Copy, Debug)]
pub struct Stored<'a> {
    /// The message.
    pub message: &'a [u8],
    /// Offsets of the TTLs, two octets each, big-endian.
    pub ttl_at: &'a [u8],
    /// The whole RCODE, extended bits included.
    pub rcode: u16,
}

/// What the TTLs of an answer are to show.
#[derive(Clone, Copy, Debug)]
pub enum Ttl {
    /// What is left of them after so many seconds.
    Aged(u32),
    /// This, all of them (RFC 8767 §4).
    Fixed(u32),
}

/// What an OPT may say beside the answer.
#[derive(Clone, Copy, Debug, Default)]
pub struct Notes<'a> {
    /// An extended error: code and text.
    pub error: Option<(u16, &'a str)>,
    /// How the answer came about, for a client that asked.
    pub explanation: Option<&'a str>,
    /// The server's name, for a client that asked (RFC 5001).
    pub name: Option<&'a [u8]>,
}

/// Writes `stored` for the client into `out` and returns the length; `None` when `out` is shorter than needed.
///
/// `fresh` keeps the upstream's AA bit, which only an answer fresh from it may bear.
#[inline]
pub fn answer(
    stored: &Stored<'_>,
    asked: &Asked<'_>,
    ttl: Ttl,
    fresh: bool,
    notes: &Notes<'_>,
    out: &mut [u8],
) -> Option<usize> {
    let code = expressible(stored.rcode, asked);
    let opt = asked.opt(code, notes);
    let opt_bytes = opt.as_ref().map_or(&[][..], Opt::as_bytes);
    let room = asked.limit.min(out.len()).checked_sub(opt_bytes.len())?;
    let mut header = Header::read(stored.message)?;
    let truncated = header.flags & header::TC != 0;
    let keep = if stored.message.len() <= room {
        Cut { end: stored.message.len(), truncated, header }
    } else {
        cut(stored.message, asked.spelled.len(), room, header)?
    };
    header = keep.header;
    header.id = asked.id;
    let kept = if asked.like_coredns {
        like_coredns(header.flags, fresh, asked)
    } else {
        header::RA | if fresh { header.flags & header::AA } else { 0 }
    };
    header.flags = reply_flags(asked.flags, code) | kept | if keep.truncated { header::TC } else { 0 };
    header.arcount += u16::from(opt.is_some());
    let body = out.get_mut(..keep.end)?;
    body.copy_from_slice(stored.message.get(..keep.end)?);
    header.write(body);
    body.get_mut(header::LEN..header::LEN + asked.spelled.len())?.copy_from_slice(asked.spelled);
    set_ttls(body, stored.ttl_at, ttl);
    let end = keep.end + opt_bytes.len();
    out.get_mut(keep.end..end)?.copy_from_slice(opt_bytes);
    Some(end)
}

/// Of the flags of a stored message, those that CoreDNS passes on. AD is for those who asked for it (RFC 6840 §5.7).
#[inline]
fn like_coredns(stored: u16, fresh: bool, asked: &Asked<'_>) -> u16 {
    let wants_ad = asked.flags & header::AD != 0 || asked.edns.is_some_and(|e| e.dnssec_ok);
    let passed = header::RA | if wants_ad { header::AD } else { 0 } | if fresh { header::AA } else { 0 };
    stored & passed | if fresh { 0 } else { header::AA }
}

/// An RCODE above 15 takes an OPT to be said; without one it becomes SERVFAIL.
#[inline]
fn expressible(rcode: u16, asked: &Asked<'_>) -> u16 {
    if rcode > 15 && asked.edns.is_none() { rcode::SERVFAIL } else { rcode }
}

/// Writes the TTLs. One that was 0 stays so; no other is aged to 0.
#[inline]
fn set_ttls(message: &mut [u8], ttl_at: &[u8], shown: Ttl) {
    for at in ttl_at.chunks_exact(2) {
        let &[hi, lo] = at else { continue };
        let at = usize::from(u16::from_be_bytes([hi, lo]));
        let Some(slot) = message.get_mut(at..).and_then(|m| m.first_chunk_mut::<4>()) else { break };
        let ttl = u32::from_be_bytes(*slot);
        if ttl != 0 {
            let ttl = match shown {
                Ttl::Aged(age) => ttl.saturating_sub(age).max(1),
                Ttl::Fixed(ttl) => ttl,
            };
            *slot = ttl.to_be_bytes();
        }
    }
}

/// A copy of `stored` that shows these TTLs, for those who make another answer of it.
pub fn showing(stored: &Stored<'_>, ttl: Ttl) -> Vec<u8> {
    let mut message = stored.message.to_vec();
    set_ttls(&mut message, stored.ttl_at, ttl);
    message
}

/// Where a message is cut, and its header after that.
struct Cut {
    end: usize,
    truncated: bool,
    header: Header,
}

/// Finds how many whole records of `message` fit into `room` octets.
#[cold]
fn cut(message: &[u8], question: usize, room: usize, mut header: Header) -> Option<Cut> {
    let mut truncated = header.flags & header::TC != 0;
    let mut end = header::LEN + question;
    let mut kept = [0u16; 3];
    for record in Records::new(message, end, &header) {
        let record = record.ok()?;
        if record.end > room {
            truncated |= record.section != Section::Additional;
            break;
        }
        end = record.end;
        if let Some(n) = kept.get_mut(record.section as usize) {
            *n += 1;
        }
    }
    [header.ancount, header.nscount, header.arcount] = kept;
    (end <= room).then_some(Cut { end, truncated, header })
}

/// QR, what is given back of the query's flags, and the header's share of the RCODE. Z and AD are clear.
#[inline]
fn reply_flags(query: u16, rcode: u16) -> u16 {
    header::QR | (query & (header::OPCODE | header::RD | header::CD)) | (rcode & header::RCODE)
}

/// Writes a bare header with `rcode`: for a query that cannot be read, or whose opcode is not ours.
#[inline]
pub fn bare(query: &Header, rcode: u16, out: &mut [u8]) -> Option<usize> {
    let flags = header::QR | (query.flags & (header::OPCODE | header::RD)) | (rcode & header::RCODE);
    let header = Header { id: query.id, flags, qdcount: 0, ancount: 0, nscount: 0, arcount: 0 };
    header.write(out).then_some(header::LEN)
}

/// Writes an answer that holds nothing but the question and `rcode`.
pub fn empty(asked: &Asked<'_>, rcode: u16, notes: &Notes<'_>, out: &mut [u8]) -> Option<usize> {
    let rcode = expressible(rcode, asked);
    let opt = asked.opt(rcode, notes);
    let flags = reply_flags(asked.flags, rcode) | if asked.like_coredns { 0 } else { header::RA };
    let arcount = u16::from(opt.is_some());
    let header = Header { id: asked.id, flags, qdcount: 1, ancount: 0, nscount: 0, arcount };
    let mut at = 0;
    let mut put = |bytes: &[u8]| {
        out.get_mut(at..at + bytes.len())?.copy_from_slice(bytes);
        at += bytes.len();
        Some(at)
    };
    put(&[0; header::LEN])?;
    put(asked.spelled)?;
    let end = put(opt.as_ref().map_or(&[][..], Opt::as_bytes))?;
    header.write(out);
    Some(end)
}

/// Writes the query that goes upstream for `question`: lower-case, with an OPT of our own and nothing of the
/// client's. The OPT is the last [`OPT_LEN`] octets. The id is left 0.
pub fn upstream_query(question: &[u8], recursion: bool, checking_disabled: bool, dnssec_ok: bool) -> Vec<u8> {
    // AD asks to be told of authenticated data even without DO (RFC 6840 §5.7); who may see it is decided per client.
    let flags = header::AD | if recursion { header::RD } else { 0 } | if checking_disabled { header::CD } else { 0 };
    let header = Header { id: 0, flags, qdcount: 1, ancount: 0, nscount: 0, arcount: 1 };
    let mut out = Vec::with_capacity(header::LEN + question.len() + OPT_LEN);
    out.resize(header::LEN, 0);
    header.write(&mut out);
    out.extend_from_slice(question);
    out.extend_from_slice(Opt::new(0, dnssec_ok).as_bytes());
    out
}

/// The same with EDNS options, codes and data; returns the length of the OPT as well. What has no room is left out.
pub fn upstream_query_with(
    question: &[u8],
    recursion: bool,
    checking_disabled: bool,
    dnssec_ok: bool,
    options: &[(u16, Vec<u8>)],
) -> (Vec<u8>, usize) {
    let mut message = upstream_query(question, recursion, checking_disabled, dnssec_ok);
    let mut opt = Opt::new(0, dnssec_ok);
    options.iter().for_each(|(code, data)| opt.add(*code, data));
    message.truncate(message.len() - OPT_LEN);
    message.extend_from_slice(opt.as_bytes());
    (message, opt.as_bytes().len())
}

#[cfg(test)]
mod tests;
