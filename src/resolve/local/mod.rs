//! What a zone answers or alters by rules of its own, without or around an upstream: the engines behind the zone's keys
//! `hosts`, `respond`, `rewrite`, `acl`, `dns64`, `loadBalance`, `whoami`, `refuseAny` and `minimalResponses`.
//!
//! Each is a function of messages in wire form and of its rules: no socket, no clock, no cache. Who calls them, and when,
//! is for the flight to say. What they mean is what CoreDNS's plugins of the same purpose mean.

pub mod acl;
pub mod any;
pub mod balance;
pub mod dns64;
pub mod hosts;
pub mod minimal;
pub mod rewrite;
pub mod template;
#[cfg(test)]
mod tests;
pub mod whoami;

use crate::observe::coredns::cells::Plugin;
use crate::observe::queries::Proto;
use crate::wire::question::Question;
use std::net::SocketAddr;
use std::sync::Arc;

/// What a rule that answers here says to a question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Said {
    /// An answer.
    Answer {
        /// A whole response: id 0, QR and AA as they are to be, the question included, no OPT.
        message: Vec<u8>,
        /// An extended error that goes with it: code and text (RFC 8914).
        error: Option<(u16, Arc<str>)>,
        /// The answer ends in a CNAME to this wire name, in lower case, whose records of the type asked for belong behind
        /// it: whoever can look them up does.
        chase: Option<Vec<u8>>,
    },
    /// This is not its business: the next rule is asked.
    Next,
    /// It must answer and cannot.
    Fail {
        /// The RCODE that says so.
        rcode: u16,
        /// Why, for the log and the extended error.
        why: Arc<str>,
    },
}

/// A rule that may answer here.
pub trait Answers: Send + Sync {
    /// What it says to a question.
    fn answer(&self, asked: &Asked<'_>) -> Said;

    /// Under what name its answers are counted.
    fn plugin(&self) -> Plugin;
}

/// Who asks what.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    /// The question, in lower case.
    pub question: &'a Question,
    /// Who asked it, or asked it first.
    pub client: SocketAddr,
    /// Over what.
    pub proto: Proto,
}
