//! Sets of replies: by RCODE, and NODATA, which has none of its own (RFC 2308 §2.2).

use super::message;
use crate::wire::header::{self, Header, rcode};

/// The bit of NODATA; above that of every RCODE that IANA has given away.
const NODATA: u32 = 1 << 31;

/// Kinds of replies.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Codes(u32);

impl Codes {
    /// The same and the replies with this RCODE, below 31.
    pub fn with(self, code: u16) -> Codes {
        Codes(self.0 | 1u32.checked_shl(code.into()).unwrap_or(0) & !NODATA)
    }

    /// The same and NOERROR without any answer.
    pub fn with_nodata(self) -> Codes {
        Codes(self.0 | NODATA)
    }

    /// Is there nothing in it?
    pub(super) fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Is `reply` in it?
    pub(super) fn hold(self, reply: &[u8]) -> bool {
        if self.is_empty() {
            return false;
        }
        let code = message::response_code(reply);
        let listed = 1u32.checked_shl(code.into()).is_some_and(|bit| self.0 & bit & !NODATA != 0);
        listed || self.0 & NODATA != 0 && code == rcode::NOERROR && is_empty(reply)
    }
}

/// Has it no answer, rather than one that did not fit?
fn is_empty(reply: &[u8]) -> bool {
    Header::read(reply).is_some_and(|h| h.ancount == 0 && h.flags & header::TC == 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reply(flags: u16, ancount: u16) -> Vec<u8> {
        let mut message = vec![0; header::LEN];
        Header { id: 0, flags: header::QR | flags, qdcount: 1, ancount, nscount: 0, arcount: 0 }.write(&mut message);
        message
    }

    #[test]
    fn a_set_holds_the_codes_that_were_put_in_and_no_other() {
        let codes = Codes::default().with(rcode::SERVFAIL).with(rcode::REFUSED);
        for code in 0..16 {
            assert_eq!(codes.hold(&reply(code, 0)), [2, 5].contains(&code), "{code}");
            assert!(!Codes::default().hold(&reply(code, 0)), "{code}");
        }
        assert!(Codes::default().is_empty() && !codes.is_empty());
        assert!([31, 32, 4095].into_iter().all(|code| Codes::default().with(code).is_empty()));
    }

    #[test]
    fn nodata_is_noerror_without_an_answer_that_is_whole() {
        let codes = Codes::default().with_nodata();
        assert!(codes.hold(&reply(0, 0)));
        assert!(!codes.hold(&reply(0, 1)) && !codes.hold(&reply(3, 0)) && !codes.hold(&reply(header::TC, 0)));
        assert!(Codes::default().with(0).hold(&reply(0, 1)), "NOERROR is both");
    }
}
