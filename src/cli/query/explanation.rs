//! The private EDNS option in which a nodens server explains an answer.
//!
//! A query that carries option 65053 (from the range for local use, RFC 6891 §9) without data gets it back with ASCII
//! text: `source=hit zone=cluster.local. age=12 ttl=18 upstream=10.96.0.11:53 proto=tcp`. Any part may be missing;
//! parts this version does not know are kept, so that an older `query` shows what a newer server says.

use hickory_proto::op::Message;
use hickory_proto::rr::rdata::opt::{EdnsCode, EdnsOption};

/// The code of the option.
pub const OPTION_CODE: u16 = 65053;

/// What a server says about an answer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Explanation {
    /// Where it came from: `hit`, `negative_hit`, `miss`, `local`, `refused`, `failure`.
    pub source: Option<String>,
    /// The zone of the configuration that it fell into.
    pub zone: Option<String>,
    /// Seconds since the upstream gave it.
    pub age: Option<u64>,
    /// Seconds it will still be served.
    pub ttl: Option<u64>,
    /// The upstream that gave it.
    pub upstream: Option<String>,
    /// How that upstream was asked: `udp`, `tcp`.
    pub protocol: Option<String>,
    /// All other parts, in order.
    pub other: Vec<(String, String)>,
}

impl Explanation {
    /// The explanation in `reply`; `None` when there is none.
    pub fn of(reply: &Message) -> Option<Explanation> {
        match reply.edns.as_ref()?.option(EdnsCode::Unknown(OPTION_CODE))? {
            EdnsOption::Unknown(_, data) => Explanation::parse(data),
            _ => None,
        }
    }

    /// Reads the option's data; `None` when it is empty, which is what a server that echoes unknown options sends.
    ///
    /// The text is the server's and ends up on a terminal: only printable ASCII of it is kept.
    pub fn parse(data: &[u8]) -> Option<Explanation> {
        let text: String = data.iter().filter(|b| (b' '..=b'~').contains(b)).map(|&b| char::from(b)).collect();
        let mut explanation = Explanation::default();
        for (key, value) in text.split_ascii_whitespace().filter_map(|part| part.split_once('=')) {
            let owned = value.to_owned();
            match (key, value.parse()) {
                ("source", _) => explanation.source = Some(owned),
                ("zone", _) => explanation.zone = Some(owned),
                ("age", Ok(seconds)) => explanation.age = Some(seconds),
                ("ttl", Ok(seconds)) => explanation.ttl = Some(seconds),
                ("upstream", _) => explanation.upstream = Some(owned),
                ("proto", _) => explanation.protocol = Some(owned),
                _ => explanation.other.push((key.to_owned(), owned)),
            }
        }
        (explanation != Explanation::default()).then_some(explanation)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_parts_are_read() {
        let text = b"source=hit zone=cluster.local. age=12 ttl=18 upstream=10.96.0.11:53 proto=tcp";
        let e = Explanation::parse(text).unwrap();
        assert_eq!(e.source.as_deref(), Some("hit"));
        assert_eq!(e.zone.as_deref(), Some("cluster.local."));
        assert_eq!((e.age, e.ttl), (Some(12), Some(18)));
        assert_eq!(e.upstream.as_deref(), Some("10.96.0.11:53"));
        assert_eq!(e.protocol.as_deref(), Some("tcp"));
        assert!(e.other.is_empty());
    }

    #[test]
    fn parts_unknown_today_are_kept_and_nonsense_is_dropped() {
        let e = Explanation::parse(b"source=stale recheck=30 age=soon noequals").unwrap();
        assert_eq!(e.source.as_deref(), Some("stale"));
        assert_eq!(e.age, None);
        let other = [("recheck", "30"), ("age", "soon")].map(|(k, v)| (k.to_owned(), v.to_owned()));
        assert_eq!(e.other, other);
    }

    #[test]
    fn an_echoed_empty_option_is_no_explanation() {
        assert_eq!(Explanation::parse(b""), None);
        assert_eq!(Explanation::parse(b"   "), None);
    }

    #[test]
    fn what_would_steer_a_terminal_is_dropped() {
        let e = Explanation::parse(b"source=hi\x1b[31mt\x07 zone=\xff.").unwrap();
        assert_eq!(e.source.as_deref(), Some("hi[31mt"));
        assert_eq!(e.zone.as_deref(), Some("."));
    }
}
