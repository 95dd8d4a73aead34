//! The few messages that the tools make and read.

use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::rdata::opt::{EdnsCode, EdnsOption};
use hickory_proto::rr::{Name, RData, RecordType};
use std::net::Ipv4Addr;

/// The option in which nodens explains an answer when asked to; who sends it is the cache on the node.
const EXPLAIN: u16 = 65053;
/// The option of extended errors, and those that say that an answer is stale (RFC 8914).
const EXTENDED_ERROR: u16 = 15;
const STALE: [[u8; 2]; 2] = [[0, 3], [0, 19]];

/// The octets of a query for `name` that asks for an explanation.
pub fn query(id: u16, name: &str, rtype: RecordType) -> Vec<u8> {
    let mut message = Message::new(id, MessageType::Query, OpCode::Query);
    message.metadata.recursion_desired = true;
    message.add_query(Query::query(Name::from_ascii(name).unwrap(), rtype));
    message.edns = Some(explained(Vec::new()));
    message.to_vec().unwrap()
}

/// An OPT record with the option.
pub fn explained(text: Vec<u8>) -> Edns {
    let mut edns = Edns::new();
    edns.set_max_payload(1232);
    edns.options_mut().insert(EdnsOption::Unknown(EXPLAIN, text));
    edns
}

/// What became of a query.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The cache on the node answered.
    Local,
    /// The same, with what it would rather not have said.
    Stale,
    /// Somebody else did.
    Backend,
    /// An answer that is not the one of this name.
    Wrong,
    /// Somebody answered that there is no answer.
    Failed,
    /// Nobody answered in time.
    Lost,
}

/// Id and outcome that `packet` stands for; `None` when it is no reply.
pub fn read(packet: &[u8]) -> Option<(u16, Outcome)> {
    let message = Message::from_vec(packet).ok()?;
    if message.metadata.message_type != MessageType::Response {
        return None;
    }
    let option = |code| message.edns.as_ref().and_then(|edns| edns.option(EdnsCode::Unknown(code)));
    // Without data it is but our own question thrown back.
    let local = matches!(option(EXPLAIN), Some(EdnsOption::Unknown(_, text)) if !text.is_empty());
    let error = option(EXTENDED_ERROR);
    let stale = matches!(error, Some(EdnsOption::Unknown(_, data)) if STALE.iter().any(|code| data.starts_with(code)));
    let outcome = match message.metadata.response_code {
        ResponseCode::NoError if stale => Outcome::Stale,
        ResponseCode::NoError if local => Outcome::Local,
        ResponseCode::NoError => Outcome::Backend,
        _ => Outcome::Failed,
    };
    Some((message.metadata.id, outcome))
}

/// The lifetime that the first record of an answer has left.
pub fn ttl(packet: &[u8]) -> Option<u32> {
    Message::from_vec(packet).ok()?.answers.first().map(|record| record.ttl)
}

/// Does `packet` hold the addresses that `upstream` gives to the name asked for?
pub fn is_right(packet: &[u8]) -> bool {
    let right = || {
        let message = Message::from_vec(packet).ok()?;
        let name = message.queries.first()?.name().to_ascii().to_ascii_lowercase();
        let RData::A(first) = &message.answers.first()?.data else { return None };
        Some(first.0 == address_of(&name))
    };
    right() == Some(true)
}

/// The address of a name in the world of `upstream`: by FNV-1a.
pub fn address_of(name: &str) -> Ipv4Addr {
    let hash = name.bytes().fold(0x811c_9dc5_u32, |hash, octet| (hash ^ u32::from(octet)).wrapping_mul(0x0100_0193));
    Ipv4Addr::from(0x0a00_0000 | hash >> 8)
}

/// `message` after its length in two octets (RFC 1035 §4.2.2).
pub fn framed(message: &[u8]) -> Vec<u8> {
    [&u16::try_from(message.len()).unwrap().to_be_bytes(), message].concat()
}
