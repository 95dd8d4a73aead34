//! Answers without what nobody asked for: the zone's key `minimalResponses`, CoreDNS's plugin minimal.

use crate::wire::header::{self, Header, rcode};
use crate::wire::record::{Section, of};

/// A positive answer without its authority and additional section; any other message as it is. It has no OPT.
pub fn minimal(mut message: Vec<u8>) -> Vec<u8> {
    let Some(header) = Header::read(&message) else { return message };
    if header.ancount == 0 || header.rcode() != rcode::NOERROR || header.flags & header::TC != 0 {
        return message;
    }
    let Some((_, records)) = of(&message) else { return message };
    let answers = records.map_while(Result::ok).take_while(|record| record.section == Section::Answer);
    // Names are compressed by what stands before them, so the end can be cut off.
    if let Some(end) = answers.map(|record| record.end).last() {
        message.truncate(end);
        Header { nscount: 0, arcount: 0, ..header }.write(&mut message);
    }
    message
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::presentation::read;
    use crate::wire::question::{Question, to_wire};
    use crate::wire::rr::{Rr, response};
    use hickory_proto::op::Message;

    fn message(code: u16, sections: [&[&str]; 3]) -> Vec<u8> {
        let question = Question::new(&to_wire("a.example"), 1, 1).unwrap();
        let [a, b, c] = sections.map(|texts| texts.iter().map(|t| read(t).unwrap().unwrap()).collect::<Vec<Rr>>());
        response(&question, code, true, [&a, &b, &c]).unwrap()
    }

    #[test]
    fn only_positive_answers_are_cut() {
        let (a, ns, glue) = ("a.example. A 10.0.0.1", "example. NS ns.example.", "ns.example. A 10.0.0.2");
        let cut = minimal(message(0, [&[a, a], &[ns], &[glue]]));
        assert_eq!(cut, message(0, [&[a, a], &[], &[]]));
        assert_eq!(Message::from_vec(&cut).unwrap().answers.len(), 2);
        for kept in [
            message(0, [&[], &[ns], &[glue]]),
            message(3, [&[a], &[ns], &[]]),
            message(0, [&[a], &[], &[]]),
            vec![1, 2, 3],
        ] {
            assert_eq!(minimal(kept.clone()), kept);
        }
    }
}
