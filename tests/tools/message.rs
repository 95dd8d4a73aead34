//! The few messages that the tools make and read.

use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::rdata::opt::{EdnsCode, EdnsOption};
use hickory_proto::rr::{Name, RecordType};

/// The option in which nodens explains an answer when asked to; who sends it is the cache on the node.
const EXPLAIN: u16 = 65053;

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
    /// Somebody else did.
    Backend,
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
    let option = message.edns.as_ref().and_then(|edns| edns.option(EdnsCode::Unknown(EXPLAIN)));
    // Without data it is but our own question thrown back.
    let local = matches!(option, Some(EdnsOption::Unknown(_, text)) if !text.is_empty());
    let outcome = match message.metadata.response_code {
        ResponseCode::NoError if local => Outcome::Local,
        ResponseCode::NoError => Outcome::Backend,
        _ => Outcome::Failed,
    };
    Some((message.metadata.id, outcome))
}

/// `message` after its length in two octets (RFC 1035 §4.2.2).
pub fn framed(message: &[u8]) -> Vec<u8> {
    [&u16::try_from(message.len()).unwrap().to_be_bytes(), message].concat()
}
