//! What each server was asked and how it went: cells that the tries count into and that the exporter reads.

use super::Transport;
use super::replies::{Replied, Replies};
use crate::observe::cells::{Counter, Histogram};

/// How one try at one server ended. The set is closed: each is a metric label.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// A reply that ended the search: NOERROR, NXDOMAIN, SERVFAIL, …
    Ok,
    /// A reply whose code speaks of the server: REFUSED, NOTIMP, FORMERR, …
    Rejected,
    /// A truncated reply over UDP.
    Truncated,
    /// Nothing within the try's time.
    Timeout,
    /// No connection: refused, unreachable, no port left.
    Unreachable,
    /// No encrypted connection: the server's certificate, its name or its handshake will not do.
    Untrusted,
    /// The connection ended before the reply.
    Closed,
    /// Over TCP, something that is no reply to the query.
    Mismatch,
    /// Too many were waiting for a connection.
    Busy,
    /// Given up: another server was faster, or the caller went away.
    Abandoned,
}

impl Outcome {
    /// All of them, in the order of [`Snapshot::queries`].
    pub const ALL: [Outcome; 10] = [
        Outcome::Ok,
        Outcome::Rejected,
        Outcome::Truncated,
        Outcome::Timeout,
        Outcome::Unreachable,
        Outcome::Untrusted,
        Outcome::Closed,
        Outcome::Mismatch,
        Outcome::Busy,
        Outcome::Abandoned,
    ];

    /// The name that metrics use.
    pub const fn name(self) -> &'static str {
        match self {
            Outcome::Ok => "ok",
            Outcome::Rejected => "rejected",
            Outcome::Truncated => "truncated",
            Outcome::Timeout => "timeout",
            Outcome::Unreachable => "unreachable",
            Outcome::Untrusted => "untrusted",
            Outcome::Closed => "closed",
            Outcome::Mismatch => "mismatch",
            Outcome::Busy => "busy",
            Outcome::Abandoned => "abandoned",
        }
    }
}

/// Why a TCP connection ended, or takes no more queries. The set is closed: each is a metric label.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// Nobody used it.
    Idle,
    /// It was open for long enough.
    Age,
    /// The server closed it, or the kernel did.
    Peer,
    /// A query timed out and not an octet came meanwhile, on it or on one like it.
    Unresponsive,
    /// What came is no DNS message, not the answer to the question, or not asked for.
    BadReply,
    /// The server is no longer configured.
    Removed,
}

impl Ended {
    /// All of them, in the order of [`Snapshot::closed`].
    pub const ALL: [Ended; 6] =
        [Ended::Idle, Ended::Age, Ended::Peer, Ended::Unresponsive, Ended::BadReply, Ended::Removed];

    /// The name that metrics use.
    pub const fn name(self) -> &'static str {
        match self {
            Ended::Idle => "idle",
            Ended::Age => "age",
            Ended::Peer => "peer",
            Ended::Unresponsive => "unresponsive",
            Ended::BadReply => "bad_reply",
            Ended::Removed => "removed",
        }
    }
}

/// The cells of one server.
#[derive(Debug, Default)]
pub(super) struct Stats {
    queries: [[Counter; Outcome::ALL.len()]; Transport::ALL.len()],
    pub(super) durations: Histogram,
    /// The same by RCODE.
    pub(super) replies: Replies,
    /// Tries repeated on a fresh connection, or without OPT.
    pub(super) retries: Counter,
    /// Queries that went out over UDP because every connection was full.
    pub(super) overflows: Counter,
    /// Connections opened.
    pub(super) dials: Counter,
    /// Queries put on a connection: on a new one, on one that had carried others.
    pub(super) carried: [Counter; 2],
    /// Queries sent to find out whether it is back that brought no reply.
    pub(super) failed_probes: Counter,
    /// UDP datagrams that matched nothing, and messages over TCP under an id that nobody waits for.
    pub(super) unsolicited: Counter,
    /// Replies that came after their query was given up.
    pub(super) late: Counter,
    /// By transport, and by whether the server works from then on.
    health_changes: [[Counter; 2]; Transport::ALL.len()],
    /// Hedges sent here: won, lost.
    pub(super) hedges: [Counter; 2],
    /// Connections ended, in the order of [`Ended::ALL`].
    pub(super) closed: [Counter; Ended::ALL.len()],
}

impl Stats {
    /// Counts one try.
    pub(super) fn count(&self, transport: Transport, outcome: Outcome) {
        self.queries[transport as usize][outcome as usize].add(1);
    }

    /// Counts that the server fails from now on, or works again.
    pub(super) fn count_health_change(&self, transport: Transport, healthy: bool) {
        self.health_changes[transport as usize][usize::from(healthy)].add(1);
    }

    /// Reads these counts.
    pub(super) fn health_changes(&self) -> [[u64; 2]; Transport::ALL.len()] {
        self.health_changes.each_ref().map(|of_transport| of_transport.each_ref().map(Counter::get))
    }

    /// Reads the counts of tries, by transport and outcome.
    pub(super) fn queries(&self) -> [[u64; Outcome::ALL.len()]; Transport::ALL.len()] {
        self.queries.each_ref().map(|of_transport| of_transport.each_ref().map(Counter::get))
    }
}

/// What is counted of all groups together, as CoreDNS does; it outlives them.
#[derive(Debug, Default)]
pub struct Tally {
    /// Queries that came when all servers of their group were known to be down.
    pub all_down: Counter,
    /// Queries refused because as many were under way as may be.
    pub rejected: Counter,
}

/// TCP connections of one server, encrypted or not, by state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Connections {
    /// Being opened.
    pub dialing: usize,
    /// Open, no query in flight.
    pub idle: usize,
    /// Open, at least one query in flight.
    pub busy: usize,
}

/// What a server's cells hold at one moment.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// Tries by transport ([`Transport`] as index) and outcome (order of [`Outcome::ALL`]).
    pub queries: [[u64; Outcome::ALL.len()]; Transport::ALL.len()],
    /// TCP connections by state.
    pub connections: Connections,
    /// Tries under way.
    pub in_flight: usize,
    /// Tries repeated on a fresh connection or without OPT.
    pub retries: u64,
    /// Queries that went out over UDP because every connection was full.
    pub overflows: u64,
    /// TCP connections opened so far.
    pub dials: u64,
    /// Queries put on a TCP connection, encrypted where the server is: on a new one, on one that had carried others.
    /// CoreDNS calls these misses and hits of its connection cache. Over UDP each try has a socket of its own.
    pub carried: [u64; 2],
    /// Queries sent to find out whether the server is back that brought no reply: what is nearest to a failed health
    /// check of CoreDNS.
    pub failed_probes: u64,
    /// Replies by RCODE and time; RCODEs that never came are left out.
    pub replies: Vec<Replied>,
    /// Messages that answered nothing that was asked.
    pub unsolicited: u64,
    /// Replies to queries given up before.
    pub late: u64,
    /// Is the server passed over because it failed? By transport.
    pub failing: [bool; Transport::ALL.len()],
    /// How often its health changed, by transport: to failing, to healthy.
    pub health_changes: [[u64; 2]; Transport::ALL.len()],
    /// Hedges sent to it: those that brought the answer, those that did not.
    pub hedges: [u64; 2],
    /// TCP connections ended, in the order of [`Ended::ALL`].
    pub closed: [u64; Ended::ALL.len()],
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outcomes_are_counted_where_the_exporter_reads_them() {
        let stats = Stats::default();
        for (n, outcome) in Outcome::ALL.into_iter().enumerate() {
            (0..=n).for_each(|_| stats.count(Transport::Tcp, outcome));
        }
        let [udp, tcp, tls] = stats.queries();
        assert_eq!((udp, tls), ([0; 10], [0; 10]));
        assert_eq!(tcp, [1, 2, 3, 4, 5, 6, 7, 8, 9, 10]);
    }
}
