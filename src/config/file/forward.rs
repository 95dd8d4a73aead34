//! `forward` as it is written: whom to ask, for which names, how, and what is made of the replies.

use std::net::IpAddr;

use schemars::JsonSchema;
use serde::Deserialize;

use crate::config::address::{Name, Target};
use crate::config::limits;
use crate::config::text::{Span, Text};

/// The servers to ask and how.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(in crate::config) struct Forward {
    /// Servers: ADDRESS[:PORT], HOST[:PORT], the path of a resolv.conf, kube-dns, which is the address in the
    /// environment variable KUBE_DNS_UPSTREAM_SERVICE_HOST, or tls://ADDRESS[:PORT]#NAME, whose certificate must be
    /// for NAME.
    #[schemars(required)]
    pub(in crate::config) to: Option<Vec<Text<Target>>>,
    /// How servers are spoken to. Default: tcp.
    pub(in crate::config) protocol: Option<Protocol>,
    /// Which server is asked first. Default: least-loaded.
    pub(in crate::config) policy: Option<Policy>,
    /// How long one attempt at one server may take, from 10ms to 4500ms. Default: 2s.
    pub(in crate::config) timeout: Option<Text<Span>>,
    /// Most TCP connections to each server. Default: 32.
    #[schemars(range(min = limits::MAX_CONNECTIONS.min, max = limits::MAX_CONNECTIONS.max))]
    pub(in crate::config) max_connections: Option<u64>,
    /// A file with the certificates (PEM) of those who may sign for tls:// servers. Default: whom the system trusts,
    /// or Mozilla's list where it has none.
    pub(in crate::config) ca: Option<String>,
    /// A file with the certificate (PEM) by which nodens proves to tls:// servers who it is; needs key.
    pub(in crate::config) certificate: Option<String>,
    /// The file (PEM) of the private key of certificate.
    pub(in crate::config) key: Option<String>,
    /// Only names at and below this one go there. Default: all of the zone.
    pub(in crate::config) from: Option<Text<Name>>,
    /// Names at and below these do not, but the one of from itself does.
    pub(in crate::config) except: Option<Vec<Text<Name>>>,
    /// Replies upon which the next forward of the zone is asked, such as NXDOMAIN. Default: none.
    pub(in crate::config) next: Option<Vec<ReplyCode>>,
    /// Replies that count as failures of the server, so that another is asked, such as SERVFAIL; when all have been,
    /// the last reply counts. Default: those that say nothing of the name, such as REFUSED.
    pub(in crate::config) failover: Option<Vec<ReplyCode>>,
    /// Whether queries fail at once while all servers are known to be down, instead of asking one. Default: false.
    pub(in crate::config) fail_fast: Option<bool>,
    /// Most queries of the zone under way; more are refused. Default: 0, for any number.
    #[schemars(range(min = limits::MAX_CONCURRENT.min, max = limits::MAX_CONCURRENT.max))]
    pub(in crate::config) max_concurrent: Option<u64>,
    /// When a TCP connection is closed that nobody uses, from 100ms to 1d. Default: 8s.
    pub(in crate::config) idle: Option<Text<Span>>,
    /// How old a TCP connection may be, give or take a fifth, to take queries, from 1s to 30d; 0 for any age.
    /// Default: 1m.
    pub(in crate::config) max_age: Option<Text<Span>>,
    /// The address that queries are sent from. Default: the kernel chooses.
    pub(in crate::config) source_address: Option<Text<IpAddr>>,
}

/// How servers are spoken to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// TCP alone.
    #[default]
    Tcp,
    /// UDP alone; a truncated answer is passed on as it is.
    Udp,
    /// UDP, then TCP when the answer is truncated.
    Auto,
}

/// Which of several servers is asked first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Policy {
    /// The one with the fewest questions outstanding.
    #[default]
    LeastLoaded,
    /// Any.
    Random,
    /// Each in turn.
    RoundRobin,
    /// The first that works, in the order written.
    Sequential,
}

/// A kind of reply: an RCODE (RFC 6895, section 2.3), or NODATA.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
pub enum ReplyCode {
    /// No error.
    NoError = 0,
    /// The server cannot read the query.
    FormErr = 1,
    /// The server failed.
    ServFail = 2,
    /// There is no such name.
    NxDomain = 3,
    /// The server cannot do that.
    NotImp = 4,
    /// The server will not do that.
    Refused = 5,
    /// A name exists that should not.
    YxDomain = 6,
    /// An RRset exists that should not.
    YxRrset = 7,
    /// An RRset does not exist that should.
    NxRrset = 8,
    /// The server is not authoritative, or the client not authorised.
    NotAuth = 9,
    /// A name is not within the zone.
    NotZone = 10,
    /// The server does not know this version of EDNS.
    BadVers = 16,
    /// No error, and no answer either.
    NoData = 31,
}

impl ReplyCode {
    /// Its number (IANA "DNS RCODEs"); `None` for NODATA.
    pub fn number(self) -> Option<u16> {
        (self != ReplyCode::NoData).then_some(self as u16)
    }
}
