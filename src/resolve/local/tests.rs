//! What the tests of the rules share.

use super::*;
use crate::wire::question::{CLASS_IN, to_wire};
use hickory_proto::op::Message;

/// The question, as a client asks it.
pub(super) fn asked(question: &Question) -> Asked<'_> {
    Asked { question, client: ([192, 0, 2, 1], 5353).into(), proto: Proto::Udp }
}

pub(super) fn question(name: &str, rtype: u16) -> Question {
    Question::new(&to_wire(name), rtype, CLASS_IN).unwrap()
}

/// What was said, on lines that are easy to compare.
pub(super) fn shown(said: Said) -> String {
    let (message, error) = match said {
        Said::Next => return "next".into(),
        Said::Fail { rcode, why } => return format!("fail {rcode}: {why}"),
        Said::Answer { message, error, chase } => (
            Message::from_vec(&message).unwrap(),
            (error, chase.map(|to| crate::wire::question::DisplayName(&to).to_string())),
        ),
    };
    let code = u16::from(message.metadata.response_code);
    let mut out = vec![format!("{code}{}", if message.metadata.authoritative { " aa" } else { "" })];
    for (section, records) in [("", &message.answers), ("ns: ", &message.authorities), ("ar: ", &message.additionals)] {
        out.extend(records.iter().map(|record| format!("{section}{record}")));
    }
    let (ede, chase) = error;
    out.extend(ede.map(|(code, text)| format!("ede {code} {text}")));
    out.extend(chase.map(|to| format!("chase {to}")));
    out.join(", ")
}
