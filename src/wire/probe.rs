//! The cheapest question there is, `id.server. CH TXT` (RFC 4892), which tells whether a server answers at all.
//!
//! Every server answers or refuses it without asking anybody; what it says does not matter.

use super::header::{self, Header};

/// `id.server.`, type TXT, class CH.
const QUESTION: &[u8] = b"\x02id\x06server\x00\x00\x10\x00\x03";

/// Length of the probe in octets.
pub const LEN: usize = header::LEN + QUESTION.len();

/// The query with `id`.
pub fn query(id: u16) -> [u8; LEN] {
    let mut query = [0; LEN];
    Header { id, flags: 0, qdcount: 1, ancount: 0, nscount: 0, arcount: 0 }.write(&mut query);
    query[header::LEN..].copy_from_slice(QUESTION);
    query
}

/// The query with `id` behind its length, as over TCP (RFC 1035 §4.2.2).
pub fn framed(id: u16) -> [u8; 2 + LEN] {
    let mut framed = [0; 2 + LEN];
    framed[..2].copy_from_slice(&(LEN as u16).to_be_bytes());
    framed[2..].copy_from_slice(&query(id));
    framed
}

/// Is `message` that query, with whatever id?
pub fn is(message: &[u8]) -> bool {
    message.len() == LEN && message.get(2..) == query(0).get(2..)
}

/// Is `message`, of which the header suffices, a reply to the query with `id`?
pub fn answers(message: &[u8], id: u16) -> bool {
    Header::read(message).is_some_and(|h| h.is_response() && h.id == id)
}
