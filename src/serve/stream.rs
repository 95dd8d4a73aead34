//! TCP (RFC 7766): many queries per connection, answered as they are ready, in whatever order.
//!
//! Everything a client can make grow has a bound: connections in all and per client, queries waiting per connection,
//! octets waiting to be written, the length of a query, the time between queries. The fuller the house, the shorter
//! an idle connection is kept. A client that stops sending still gets its answers; one that stops reading is closed.

mod connection;
mod output;

use super::client::{ConnectionLimits, Connections, Full};
use super::front::{Door, Front};
use crate::observe::limit::RateLimit;
use crate::observe::metrics::DropReason;
use crate::sys::clock::Moment;
use crate::sys::steer;
use arc_swap::ArcSwap;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{JoinSet, unconstrained};
use tokio::time::{Instant, timeout_at};

/// How long a connection may do nothing at most, by how full the house is: Unbound's rule of 50, 35 and 20 % free places.
const IDLE: [Duration; 4] =
    [Duration::MAX, Duration::from_secs(1), Duration::from_millis(400), Duration::from_millis(200)];

/// How long accepting rests when the process or the system is out of descriptors or memory.
const REST: Duration = Duration::from_millis(100);

/// How long connections still come whose handshake had begun when the next ones were led away.
const STRAGGLERS: Duration = Duration::from_millis(50);

/// How full the house is: an index into [`IDLE`].
fn pressure(held: usize, total: usize) -> usize {
    let free = total.saturating_sub(held) * 100;
    match () {
        () if free >= total * 50 => 0,
        () if free >= total * 35 => 1,
        () if free >= total * 20 => 2,
        () => 3,
    }
}

/// How near the end is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Closing {
    /// Not at all.
    No,
    /// Connections are brought to their ends; new ones are still taken.
    Farewell,
    /// No more are taken.
    Closed,
}

/// What all listeners share.
pub struct House {
    front: Arc<Front>,
    limits: ArcSwap<ConnectionLimits>,
    connections: Arc<Connections>,
    pressure: watch::Sender<usize>,
    closing: watch::Sender<Closing>,
}

impl House {
    /// A house before `front`, with room for `limits`.
    pub fn new(front: Arc<Front>, limits: ConnectionLimits) -> Arc<House> {
        Arc::new(House {
            front,
            limits: ArcSwap::from_pointee(limits),
            connections: Arc::default(),
            pressure: watch::Sender::new(0),
            closing: watch::Sender::new(Closing::No),
        })
    }

    /// Changes the limits for connections to come.
    pub fn set_limits(&self, limits: ConnectionLimits) {
        self.limits.store(Arc::new(limits));
    }

    /// Prepares the end: each connection, there or to come, closes behind an answer.
    pub fn bid_farewell(&self) {
        self.closing.send_replace(Closing::Farewell);
    }

    /// Begins the end: listeners take no more connections, and each connection closes when it owes no answer.
    pub fn close(&self) {
        self.closing.send_replace(Closing::Closed);
    }

    /// How many connections there are.
    pub fn connections(&self) -> usize {
        self.connections.total()
    }

    fn measure(&self) {
        let total = self.connections.total();
        self.front.metrics.tcp_connections.set(i64::try_from(total).unwrap_or(i64::MAX));
        let now = pressure(total, self.limits.load().total);
        self.pressure.send_if_modified(|level| std::mem::replace(level, now) != now);
    }

    /// Accepts connections at `door` until [`House::close`], and returns when the last of them has ended.
    pub async fn serve(self: Arc<Self>, door: Arc<Door>, listener: TcpListener) {
        let mut tasks = JoinSet::new();
        let mut closing = self.closing.subscribe();
        while *closing.borrow_and_update() != Closing::Closed {
            tokio::select! {
                accepted = listener.accept() => match accepted {
                    Ok((stream, peer)) => self.admit(stream, peer, &door, &mut tasks),
                    Err(error) => self.accept_failed(&error).await,
                },
                Some(_) = tasks.join_next() => {}
                _ = closing.changed() => {}
            }
        }
        // Connections that stand in the queue have been accepted by the kernel: they get their answers, too. Those to
        // come go to the instance that takes our place, if there is one; a few may be between the two.
        let last = Instant::now() + if self.lead_away(&listener) { STRAGGLERS } else { Duration::ZERO };
        // Without tokio's budget, which would end this as if the queue were empty.
        while let Ok(Ok((stream, peer))) = timeout_at(last, unconstrained(listener.accept())).await {
            self.admit(stream, peer, &door, &mut tasks);
        }
        drop(listener);
        while tasks.join_next().await.is_some() {}
    }

    /// Has new connections go to another process with the same address. Is there one?
    fn lead_away(&self, listener: &TcpListener) -> bool {
        steer::lead_away(listener).unwrap_or_else(|error| {
            tracing::debug!(%error, "cannot lead TCP connections to another instance");
            false
        })
    }

    fn admit(self: &Arc<Self>, stream: TcpStream, client: SocketAddr, door: &Arc<Door>, tasks: &mut JoinSet<()>) {
        let metrics = &self.front.metrics;
        if !self.front.acl.load().allows(client.ip()) {
            return metrics.dropped(DropReason::NotAllowed);
        }
        let place = match self.connections.take(client.ip(), &self.limits.load()) {
            Ok(place) => place,
            Err(Full::Total) => return metrics.dropped(DropReason::TcpConnections),
            Err(Full::Client) => {
                static LINE: RateLimit = RateLimit::new(Duration::from_secs(10));
                if let Some(suppressed) = LINE.allow(Moment::now()) {
                    tracing::warn!(client = %client.ip(), suppressed, "a client has as many TCP connections as it may have");
                }
                return metrics.dropped(DropReason::TcpConnectionsPerClient);
            }
        };
        self.measure();
        let (house, door) = (Arc::clone(self), Arc::clone(door));
        tasks.spawn(async move {
            connection::serve(&house, &door, stream, client).await;
            drop(place);
            house.measure();
        });
    }

    /// An error of `accept` is the connection's, or passes: listening goes on.
    async fn accept_failed(&self, error: &io::Error) {
        static LINE: RateLimit = RateLimit::new(Duration::from_secs(10));
        self.front.metrics.dropped(DropReason::TcpAcceptError);
        if matches!(error.kind(), io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset) {
            return;
        }
        if let Some(suppressed) = LINE.allow(Moment::now()) {
            tracing::warn!(%error, suppressed, "cannot accept a TCP connection");
        }
        // Out of descriptors or memory: connections that ask nothing give theirs back.
        self.pressure.send_replace(IDLE.len() - 1);
        tokio::time::sleep(REST).await;
        self.measure();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn f05_the_fuller_the_house_the_shorter_the_idle_time() {
        for (held, level) in [(0, 0), (50, 0), (51, 1), (65, 1), (66, 2), (80, 2), (81, 3), (100, 3)] {
            assert_eq!(pressure(held, 100), level, "{held}");
        }
        assert!(IDLE.windows(2).all(|w| w[0] > w[1]));
    }
}
