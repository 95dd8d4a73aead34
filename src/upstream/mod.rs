//! Groups of servers: one query in, one reply out, by a deadline; over UDP, TCP and TLS.
//!
//! This module moves octets. It knows ids, questions, the four bits of RCODE and the OPT record, because they decide
//! whether a reply is one and whether another server is worth asking; it knows neither cache nor zones, and parses no
//! record of an answer. The way of a query, top to bottom:
//!
//! `chain` (which group, where a zone has several) → `route` (whom not to ask) → `group` (who is there) → `race` (whom to ask, and when to ask another one; `runner`,
//! `select`, `hedge`, `health`) → `attempt` (one server: UDP, TCP, without OPT if need be) → `datagram`, or `pool` →
//! `stream` (`framing`, `lifetime`; `encrypted`).
//!
//! Servers fail, slow down and are replaced, and clients shall not notice. What becomes of a query whose server
//!
//! | does this | costs |
//! |---|---|
//! | refuses | a round trip: the next one is asked at once, and the server comes last (`health`) |
//! | closes the connection under it | a dial: it is asked again on a new one, whoever answers there (`attempt`) |
//! | does not answer a dial | 200 ms: a second dial, which may reach another pod behind the address (`pool`) |
//! | takes longer than usual | its usual time: a hedge, for at most 5 % of the queries (`race`, `hedge`) |
//! | has gone silent | 200 ms, or four times the usual time: another is asked; after the third, nobody waits (`race`) |
//! | has lost this connection only | a hedge, or twice that: the connection takes no more queries, and is closed (`pool`) |
//! | says SERVFAIL to everything | nothing, once that is known: others come first (`health`) |
//! | fails as all others do | nothing more: the least bad one is asked, and its error returned (`select`) |
//!
//! A server that may be back is found out by a copy of a query that nobody waits for (`race`).

mod attempt;
mod chain;
mod codes;
mod datagram;
mod encrypted;
mod endpoint;
mod error;
mod framing;
mod group;
mod health;
mod hedge;
mod lifetime;
mod message;
mod pool;
mod race;
mod replies;
mod route;
mod runner;
mod select;
mod server;
mod stats;
mod stream;
#[cfg(test)]
mod tests;

pub use chain::{Bound, Link, chain};
pub use codes::Codes;
pub use endpoint::{Endpoint, Identity, Security};
pub use error::Error;
pub use group::Group;
pub use replies::Replied;
pub use route::Route;
pub use server::Server;
pub use stats::{Connections, Ended, Outcome, Snapshot, Tally};

use std::net::IpAddr;
use std::pin::Pin;
use std::time::Duration;
use tokio::time::Instant;

/// How the servers of a group are spoken to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Protocol {
    /// TCP only (RFC 7766).
    #[default]
    Tcp,
    /// UDP only: a truncated reply is returned as it is.
    Udp,
    /// UDP, and TCP to the same server when the reply is truncated.
    Auto,
}

/// Which server is asked first. Servers that have just failed come last whatever the policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Policy {
    /// The one with the fewest queries in flight; ties take turns.
    #[default]
    LeastLoaded,
    /// Any.
    Random,
    /// Each in turn.
    RoundRobin,
    /// The first of the list that works.
    Sequential,
}

/// How a group behaves. Legal ranges are the configuration's business.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// How the servers are spoken to.
    pub protocol: Protocol,
    /// Which one is asked first.
    pub policy: Policy,
    /// How long one server may take over one try. Another one is asked long before that: see `race`.
    pub timeout: Duration,
    /// TCP connections per server.
    pub max_connections: usize,
    /// A TCP connection that carried nothing for this long is closed: before CoreDNS does it, which waits 10 s.
    pub idle: Duration,
    /// A TCP connection takes no new queries after about this long (±20 %), so that new servers behind one Service
    /// address get their share.
    pub max_age: Duration,
    /// UDP sockets open at once, over all servers of the group.
    pub max_sockets: usize,
    /// Queries that may wait for a TCP connection, per server.
    pub max_waiting: usize,
    /// Replies upon which another server is asked. When all have been, the last reply counts.
    pub failover: Codes,
    /// Does a query fail at once while all servers are known to be down? Else the least bad one is asked.
    pub fail_fast: bool,
    /// The address that queries are sent from; the kernel chooses when `None`.
    pub source: Option<IpAddr>,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            protocol: Protocol::default(),
            policy: Policy::default(),
            timeout: Duration::from_secs(2),
            max_connections: 32,
            idle: Duration::from_secs(8),
            max_age: Duration::from_secs(60),
            max_sockets: 4096,
            max_waiting: 4096,
            failover: Codes::default(),
            fail_fast: false,
            source: None,
        }
    }
}

/// A query to be answered.
#[derive(Clone, Copy, Debug)]
pub struct Query<'a> {
    /// The whole message. Its id is replaced at every try and restored in the reply.
    pub message: &'a [u8],
    /// How many octets at the end of `message` are its OPT record; 0 when it has none. A server that answers EDNS
    /// with an error is asked again without them.
    pub opt_len: usize,
}

/// By what means a reply came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// UDP.
    Udp,
    /// TCP.
    Tcp,
    /// TLS over TCP.
    Tls,
}

impl Transport {
    /// All of them, in the order of [`Snapshot::queries`].
    pub const ALL: [Transport; 3] = [Transport::Udp, Transport::Tcp, Transport::Tls];

    /// The name that metrics and logs use.
    pub const fn name(self) -> &'static str {
        match self {
            Transport::Udp => "udp",
            Transport::Tcp => "tcp",
            Transport::Tls => "tls",
        }
    }
}

/// A reply that matches the query by id (the server's was replaced by the query's own), opcode and question. Nothing
/// behind the question has been looked at.
#[derive(Clone, Debug)]
pub struct Reply {
    /// The whole message, as received but for the id.
    pub message: Vec<u8>,
    /// Who sent it.
    pub server: Endpoint,
    /// How it came.
    pub transport: Transport,
    /// How long this server took over this try.
    pub elapsed: Duration,
}

/// What [`Exchange::exchange`] returns.
pub type Exchanged<'a> = Pin<Box<dyn Future<Output = Result<Reply, Error>> + Send + 'a>>;

/// Whoever answers queries: a [`Group`], or a script in the tests of the layer above.
pub trait Exchange: Send + Sync + 'static {
    /// Asks, and returns the first usable reply, at the latest by `deadline`. Must be polled on a tokio runtime.
    /// Dropping the future abandons the query and nothing else.
    fn exchange<'a>(&'a self, query: Query<'a>, deadline: Instant) -> Exchanged<'a>;

    /// How it is with those who are asked.
    fn condition(&self) -> Condition {
        Condition::Well
    }
}

/// How it is with the servers of a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Condition {
    /// At least one of them works, as far as is known.
    Well,
    /// None works, but one has answered in the last few seconds: they may just be replaced by others.
    Shaken,
    /// None works, nor has for a while.
    Down,
}
