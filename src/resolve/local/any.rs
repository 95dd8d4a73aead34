//! The least that can be said to a question of type ANY (RFC 8482 §4.2): the zone's key `refuseAny`, CoreDNS's plugin any.

use super::Asked;
use crate::wire::header::rcode;
use crate::wire::question::{CLASS_IN, rtype};
use crate::wire::rr::{Rr, response};

/// The TTL, by which it can be told from a record that stands in a zone.
const TTL: u32 = 8482;
/// What such a record says, as character strings.
const RDATA: &[u8] = b"\x0dANY obsoleted\x0cSee RFC 8482";

/// The answer, if the question is of type ANY.
pub fn any(asked: &Asked<'_>) -> Option<Vec<u8>> {
    let question = asked.question;
    if question.qtype() != rtype::ANY {
        return None;
    }
    let owner = question.name().to_vec();
    let record = Rr { owner, rtype: rtype::HINFO, class: CLASS_IN, ttl: TTL, rdata: RDATA.to_vec() };
    response(question, rcode::NOERROR, false, [&[record], &[], &[]])
}

#[cfg(test)]
mod tests {
    use super::super::tests::asked;
    use super::*;
    use crate::wire::question::{Question, to_wire};
    use hickory_proto::op::Message;

    #[test]
    fn a_question_of_type_any_gets_a_hinfo() {
        let question = Question::new(&to_wire("a.example"), rtype::ANY, 1).unwrap();
        let message = Message::from_vec(&any(&asked(&question)).unwrap()).unwrap();
        assert!(!message.metadata.authoritative);
        let shown: Vec<String> = message.answers.iter().map(|r| r.to_string()).collect();
        assert_eq!(shown, ["a.example. 8482 IN HINFO ANY obsoleted See RFC 8482"]);
        let other = Question::new(&to_wire("a.example"), rtype::A, 1).unwrap();
        assert_eq!(any(&asked(&other)), None);
    }
}
