//! One try at one server: over TLS when it must be, else over the protocol of the group, over TCP when UDP was
//! truncated, without OPT when the server chokes on it (RFC 6891 §7), on a new connection when one broke (RFC 7766
//! §6.2.4).

use super::pool::Pool;
use super::server::{Server, Try};
use super::{Error, Outcome, Protocol, Query, Reply, Transport, datagram, message};
use crate::wire::header::rcode;
use std::sync::Arc;
use tokio::time::Instant;

/// What one try needs to know.
#[derive(Clone, Copy)]
pub(super) struct Plan<'a> {
    pub(super) query: Query<'a>,
    /// How it begins. UDP may lead to TCP.
    pub(super) transport: Transport,
    /// Not on a connection that has been used: this server has let the query down before.
    pub(super) fresh: bool,
    /// When the query was asked first, of whomever: its tries at one server speak against it once.
    pub(super) asked: Instant,
    /// When the caller drops the try.
    pub(super) expires: Instant,
}

/// Asks `server` until it replies or fails.
pub(super) async fn run(server: Arc<Server>, plan: Plan<'_>, now: Instant) -> Result<Reply, Error> {
    let edns = plan.query.opt_len > 0 && !server.lacks_edns(now);
    let reply = ask(&server, plan, edns).await?;
    if !edns || !message::rejects_edns(message::response_code(&reply.message)) {
        return Ok(reply);
    }
    server.stats.retries.add(1);
    let plain = ask(&server, plan, false).await?;
    if !message::rejects_edns(message::response_code(&plain.message)) {
        server.remember_no_edns(Instant::now());
    }
    Ok(plain)
}

/// Sends a copy of `query` by `transport`, to find out how the server is. Nobody waits for it.
pub(super) fn probe(server: Arc<Server>, query: Query<'_>, transport: Transport, now: Instant) {
    let (message, opt_len) = (query.message.to_vec(), query.opt_len);
    let expires = now + server.options.timeout;
    tokio::spawn(async move {
        let plan = Plan { query: Query { message: &message, opt_len }, transport, fresh: true, asked: now, expires };
        // How it ends is noted on the way.
        let ended = tokio::time::timeout_at(expires, run(server.clone(), plan, now)).await;
        if !matches!(ended, Ok(Ok(_))) {
            server.stats.failed_probes.add(1);
        }
    });
}

async fn ask(server: &Arc<Server>, plan: Plan<'_>, edns: bool) -> Result<Reply, Error> {
    if plan.transport == Transport::Tls {
        let attempt = Try::begin(server, Transport::Tls, plan.asked, plan.expires);
        let result = over_connection(server, plan, edns).await;
        return conclude(server, attempt, Transport::Tls, result);
    }
    if plan.transport == Transport::Udp {
        let attempt = Try::begin(server, Transport::Udp, plan.asked, plan.expires);
        let result = datagram::exchange(server, plan.query, edns).await;
        let reply = conclude(server, attempt, Transport::Udp, result)?;
        if server.options.protocol == Protocol::Udp || !message::is_truncated(&reply.message) {
            return Ok(reply);
        }
    }
    let attempt = Try::begin(server, Transport::Tcp, plan.asked, plan.expires);
    if !server.pool.is_saturated(server) {
        let result = over_connection(server, plan, edns).await;
        return conclude(server, attempt, Transport::Tcp, result);
    }
    // Every connection is full, perhaps of queries that a server answering in order will not answer for long: nobody
    // else's query shall wait behind them. It goes out over UDP while it waits, and the first whole reply counts.
    let (result, transport) = tokio::select! {
        result = over_connection(server, plan, edns) => (result, Transport::Tcp),
        reply = overflow(server, plan, edns) => {
            // Its connections are full of slow names: that is no silence.
            server.is_alive(Transport::Tcp, Instant::now());
            (Ok(reply), Transport::Udp)
        }
    };
    conclude(server, attempt, transport, result)
}

/// Asks over UDP; returns only with a whole reply.
async fn overflow(server: &Server, plan: Plan<'_>, edns: bool) -> Vec<u8> {
    server.stats.overflows.add(1);
    match datagram::exchange(server, plan.query, edns).await {
        Ok(reply) if !message::is_truncated(&reply) => reply,
        _ => std::future::pending().await,
    }
}

/// Asks over TCP or TLS: a connection that breaks says little about the server, and less about the one that will be at
/// the other end of a new one, which is tried once.
async fn over_connection(server: &Arc<Server>, plan: Plan<'_>, edns: bool) -> Result<Vec<u8>, Error> {
    match Pool::acquire(server, plan.fresh).await?.ask(plan.query, edns).await {
        Ok(reply) => return Ok(reply),
        Err(lost) if !lost.again => return Err(lost.error),
        Err(_) => server.stats.retries.add(1),
    }
    Pool::acquire(server, true).await?.ask(plan.query, edns).await.map_err(|lost| lost.error)
}

/// Counts how the try ended.
fn conclude(
    server: &Server,
    mut attempt: Try<'_>,
    transport: Transport,
    result: Result<Vec<u8>, Error>,
) -> Result<Reply, Error> {
    attempt.transport = transport;
    let message = match result {
        Ok(message) => message,
        Err(error) => {
            attempt.failed(&error);
            return Err(error);
        }
    };
    let code = message::response_code(&message);
    let outcome = match transport {
        Transport::Udp if message::is_truncated(&message) => Outcome::Truncated,
        _ if message::is_final(code) => Outcome::Ok,
        _ => Outcome::Rejected,
    };
    let error = outcome == Outcome::Rejected || code == rcode::SERVFAIL;
    let elapsed = attempt.replied(outcome, error);
    server.stats.replies.count(code, elapsed);
    Ok(Reply { message, server: server.endpoint().clone(), transport, elapsed })
}
