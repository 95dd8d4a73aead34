//! What failed and on which server, for logs and for the Extended DNS Error (RFC 8914) of the SERVFAIL it leads to.

use super::Endpoint;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

/// Why no reply came. Where several servers failed, this is the last failure.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Error {
    /// The group has no servers.
    #[error("no upstream server is configured")]
    NoServers,
    /// What is to be sent is shorter than a DNS header or longer than any message.
    #[error("cannot send a query of {octets} octets upstream")]
    BadQuery {
        /// Its length.
        octets: usize,
    },
    /// Nothing came in time.
    #[error("upstream {server} did not answer within {} ms", .after.as_millis())]
    Timeout {
        /// The server asked last.
        server: SocketAddr,
        /// How long it was given.
        after: Duration,
    },
    /// No connection or no socket: refused, no route, out of ports, …
    #[error("cannot reach upstream {server}: {source}")]
    Unreachable {
        /// The server.
        server: SocketAddr,
        /// What the kernel said.
        source: Arc<io::Error>,
    },
    /// The connection ended under the query.
    #[error("upstream {server} closed the connection before it answered{}", .source.as_ref().map(|e| format!(": {e}")).unwrap_or_default())]
    Closed {
        /// The server.
        server: SocketAddr,
        /// What the kernel said; `None` for an orderly close, or one of ours because the server had gone silent.
        source: Option<Arc<io::Error>>,
    },
    /// What came is not a DNS message, or not the answer to the question asked.
    #[error("upstream {server} sent something that is no reply to the query")]
    BadReply {
        /// The server.
        server: SocketAddr,
    },
    /// It sends the queries of this zone back to us, and so do all the others.
    #[error("forwarding loop: upstream {server} sends queries for this zone back to nodens")]
    Looping {
        /// The first server.
        server: SocketAddr,
    },
    /// It does not prove to be whom it must be, or does not speak TLS. Nothing was asked, least of all in plain.
    #[error("upstream {server}: {reason}")]
    Untrusted {
        /// The server.
        server: Endpoint,
        /// What is wrong with it.
        reason: Arc<str>,
    },
    /// All servers are known to be down, and none is asked in vain.
    #[error("no upstream server works")]
    AllDown,
    /// No servers are configured for the name.
    #[error("no upstream server is configured for this name")]
    Unserved,
    /// As many queries are under way as may be.
    #[error("{most} queries wait for these upstream servers, the most that may")]
    Crowded {
        /// How many.
        most: usize,
    },
    /// Too many queries wait for a connection to this server.
    #[error("too many queries wait for upstream {server}")]
    Busy {
        /// The server.
        server: SocketAddr,
    },
}

impl Error {
    /// May the same be asked again in a moment with more success, since nothing speaks against the servers?
    pub fn is_ours(&self) -> bool {
        matches!(self, Error::Unreachable { source, .. } if is_ours(source))
    }

    /// Is the query refused, rather than one that failed?
    pub fn is_refusal(&self) -> bool {
        matches!(self, Error::Crowded { .. })
    }

    /// The Extended DNS Error code that says this to the client: 22 No Reachable Authority, 23 Network Error.
    pub fn ede(&self) -> u16 {
        match self {
            Error::NoServers
            | Error::BadQuery { .. }
            | Error::Timeout { .. }
            | Error::Looping { .. }
            | Error::AllDown
            | Error::Unserved
            | Error::Crowded { .. }
            | Error::Busy { .. } => 22,
            Error::Unreachable { .. } | Error::Closed { .. } | Error::BadReply { .. } | Error::Untrusted { .. } => 23,
        }
    }
}

/// Is it this host, rather than the network or the server, that is short of something or forbids it? Ports, descriptors,
/// buffers; a packet filter.
pub(super) fn is_ours(error: &io::Error) -> bool {
    use rustix::io::Errno;
    const OURS: [Errno; 9] = [
        Errno::ADDRNOTAVAIL,
        Errno::ADDRINUSE,
        Errno::AGAIN,
        Errno::MFILE,
        Errno::NFILE,
        Errno::NOBUFS,
        Errno::NOMEM,
        Errno::PERM,
        Errno::ACCESS,
    ];
    Errno::from_io_error(error).is_some_and(|errno| OURS.contains(&errno))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_name_the_server_and_the_reason() {
        let server = SocketAddr::from(([10, 0, 0, 10], 53));
        let source = Arc::new(io::Error::from(io::ErrorKind::ConnectionRefused));
        let refused = Error::Unreachable { server, source: source.clone() };
        assert_eq!(refused.to_string(), "cannot reach upstream 10.0.0.10:53: connection refused");
        assert_eq!((refused.ede(), refused.is_ours()), (23, false));
        let ports = Arc::new(io::Error::from(rustix::io::Errno::ADDRNOTAVAIL));
        assert!(Error::Unreachable { server, source: ports }.is_ours());
        let closed = Error::Closed { server, source: None };
        assert_eq!(closed.to_string(), "upstream 10.0.0.10:53 closed the connection before it answered");
        let reset = Error::Closed { server, source: Some(source) };
        assert!(reset.to_string().ends_with("answered: connection refused"));
        let late = Error::Timeout { server, after: Duration::from_secs(2) };
        assert_eq!(late.to_string(), "upstream 10.0.0.10:53 did not answer within 2000 ms");
        assert_eq!((late.ede(), Error::NoServers.ede()), (22, 22));
        let looping = Error::Looping { server };
        let text = "forwarding loop: upstream 10.0.0.10:53 sends queries for this zone back to nodens";
        assert_eq!((looping.to_string().as_str(), looping.ede()), (text, 22));
    }
}
