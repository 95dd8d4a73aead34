//! The connections to one server: which one carries the next query, and when another one is opened.
//!
//! CoreDNS answers one query at a time per connection, so a query gets a connection of its own while fewer than
//! `max_connections` are open; above that up to [`DEPTH`] share one, and the rest wait. Dialling is bounded, and who
//! waits takes whichever connection is free first, the new one or one that has just been given back.
//!
//! Behind one address there may be several servers that come and go. A connection that owes a reply for longer than is
//! usual gets no new queries, and when all do, others may be opened in their place; a dial that takes long gets a second
//! one beside it, which may lead to another server.
//!
//! Encrypted servers answer in any order, and connections to them are dear: many queries share one from the first on,
//! and another one is opened beside it, one at a time, when all have something to do.

use super::Error;
use super::encrypted::{self, Link};
use super::server::Server;
use super::stats::{Connections, Ended};
use super::stream::{Connection, Lease};
use crate::sys::socket::send_from;
use futures_util::future::select_ok;
use std::collections::VecDeque;
use std::io;
use std::os::fd::AsFd;
use std::pin::pin;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout, timeout_at};

/// Queries that may share a connection when no more can be opened.
const DEPTH: usize = 4;
/// Connections being opened at once.
const DIALS: usize = 8;
/// How long opening a connection may take, unless a try has less time.
const DIAL_TIME: Duration = Duration::from_secs(1);
/// Data that is not acknowledged for this long breaks the connection: the peer is gone without a word.
const UNACKNOWLEDGED: Duration = Duration::from_secs(2);
/// Octets of a segment: what is left of 1280, the least MTU of IPv6, after its header and that of TCP.
const SEGMENT: u32 = 1220;
/// After that a dial gets company: the kernel repeats what was lost only after a second.
const SECOND_DIAL: Duration = Duration::from_millis(200);
/// After a dial that was not answered, how long the connections that are open must do.
const DIAL_PAUSE: Duration = Duration::from_secs(1);
/// The same after a refusal: the next dial may lead to another server.
const REFUSAL_PAUSE: Duration = Duration::from_millis(200);

/// The connections to one server.
#[derive(Default)]
pub(super) struct Pool {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// How many queries share a connection although more could be opened.
    pipelined: Option<usize>,
    /// All that take queries.
    open: Vec<Arc<Connection>>,
    /// Those of them that carry none; the one used last is at the end, so that surplus ones stay idle and are closed.
    idle: Vec<Arc<Connection>>,
    dialing: usize,
    waiting: VecDeque<Waiter>,
    /// The server was removed: what is idle is closed.
    draining: bool,
    /// No new connections before this moment while others are open.
    paused_until: Option<Instant>,
}

/// A query waiting for a connection.
struct Waiter {
    /// It wants one that has carried nothing yet.
    fresh: bool,
    give: oneshot::Sender<Result<Lease, Error>>,
}

impl Pool {
    /// A pool in which up to `depth` queries share a connection from the first on.
    pub(super) fn pipelined(depth: usize) -> Pool {
        Pool { state: Mutex::new(State { pipelined: Some(depth), ..State::default() }) }
    }

    /// A connection for one query; with `fresh`, a new one if one may be opened.
    pub(super) async fn acquire(server: &Arc<Server>, fresh: bool) -> Result<Lease, Error> {
        let pool = &server.pool;
        let receive = {
            let mut state = pool.lock();
            if let Some(connection) = state.choose(server, fresh) {
                connection.load.fetch_add(1, Relaxed);
                let more = state.pipelined.is_some();
                drop(state);
                if more {
                    Pool::replenish(server);
                }
                return Ok(Lease::new(connection));
            }
            if state.waiting.len() >= server.options.max_waiting {
                state.waiting.retain(|w| !w.give.is_closed());
                if state.waiting.len() >= server.options.max_waiting {
                    return Err(Error::Busy { server: server.address() });
                }
            }
            let (give, receive) = oneshot::channel();
            state.waiting.push_back(Waiter { fresh, give });
            receive
        };
        Pool::replenish(server);
        receive.await.unwrap_or(Err(Error::Closed { server: server.address(), source: None }))
    }

    /// Is every connection that may be open, and full?
    pub(super) fn is_saturated(&self, server: &Server) -> bool {
        let state = self.lock();
        !state.open.is_empty() && !state.may_grow(server) && state.least_loaded(stuck_since(server)).is_none()
    }

    /// Gives back one query's worth of `connection`: to the next who waits, else to the idle ones.
    pub(super) fn release(&self, connection: &Arc<Connection>, fresh: bool) {
        loop {
            let mut state = self.lock();
            let load = connection.load.fetch_sub(1, Relaxed) - 1;
            if connection.retired.get().is_some() {
                drop(state);
                if load == 0 {
                    connection.wake();
                }
                return;
            }
            let Some(waiter) = state.next_waiter(fresh) else {
                if load > 0 {
                    return;
                }
                if !state.draining {
                    state.idle.push(connection.clone());
                    return;
                }
                state.forget(connection, Ended::Removed);
                drop(state);
                connection.wake();
                return;
            };
            connection.load.fetch_add(1, Relaxed);
            drop(state);
            match waiter.give.send(Ok(Lease::new(connection.clone()))) {
                Ok(()) => return,
                // The waiter went away this moment: the next one, then.
                Err(lease) => {
                    let _ = lease.map(Lease::disarm);
                }
            }
        }
    }

    /// Takes `connection` out: it gets no new queries.
    pub(super) fn withdraw(&self, connection: &Arc<Connection>, ended: Ended) {
        self.lock().forget(connection, ended);
    }

    /// Takes `connection` out if nobody uses it.
    pub(super) fn withdraw_idle(&self, connection: &Arc<Connection>) -> bool {
        let mut state = self.lock();
        let idle = connection.load.load(Relaxed) == 0;
        if idle {
            state.forget(connection, Ended::Idle);
        }
        idle
    }

    /// Closes the connections on which a reply is overdue and whose other ends are gone: their queries go on others.
    pub(super) fn bury(&self, server: &Server) {
        let (since, suspicion) = (stuck_since(server), server.suspicion(server.connected()));
        let stuck: Vec<_> = self.lock().open.iter().filter(|c| c.is_stuck(since)).cloned().collect();
        for connection in stuck.iter().filter(|c| c.is_deserted(suspicion)) {
            self.distrust(server.instant(since));
            connection.close(Ended::Unresponsive.into());
        }
    }

    /// Is most of what may be open free?
    pub(super) fn is_relaxed(&self, server: &Server) -> bool {
        let state = self.lock();
        let busy = state.open.len() - state.idle.len() + state.dialing;
        2 * busy < server.options.max_connections
    }

    /// A connection proved dead: closes the idle ones from which nothing has come since `since` either.
    pub(super) fn distrust(&self, since: Instant) {
        let mut state = self.lock();
        let stale: Vec<_> = state.idle.iter().filter(|c| c.last_active() < since).cloned().collect();
        stale.iter().for_each(|connection| state.forget(connection, Ended::Unresponsive));
        drop(state);
        stale.iter().for_each(|connection| connection.wake());
    }

    /// The server is no longer in its group: connections are closed as their queries are answered.
    pub(super) fn drain(&self) {
        let mut state = self.lock();
        state.draining = true;
        let idle = state.idle.clone();
        idle.iter().for_each(|connection| state.forget(connection, Ended::Removed));
        drop(state);
        idle.iter().for_each(|connection| connection.wake());
    }

    /// How many connections are in which state.
    pub(super) fn connections(&self) -> Connections {
        let state = self.lock();
        Connections { dialing: state.dialing, idle: state.idle.len(), busy: state.open.len() - state.idle.len() }
    }

    /// Opens as many connections as those who wait need and the limits allow.
    pub(super) fn replenish(server: &Arc<Server>) {
        let needed = server.pool.lock().dials_needed(server);
        for _ in 0..needed {
            tokio::spawn(Pool::open(server.clone()));
        }
    }

    /// Opens a connection and runs it to its end.
    async fn open(server: Arc<Server>) {
        /// Counts a dial that ends without a connection; so it does when the task is dropped.
        struct Dial<'a>(&'a Server, Error);
        impl Drop for Dial<'_> {
            fn drop(&mut self) {
                self.0.pool.dial_failed(&self.1);
            }
        }
        let address = server.address();
        let mut dial = Dial(&server, Error::Closed { server: address, source: None });
        match dial_one(&server).await {
            Ok(link) => {
                std::mem::forget(dial);
                server.stats.dials.add(1);
                let (connection, own) = Connection::new(server.clone(), link);
                server.pool.opened(&connection);
                server.pool.share(&server);
                Pool::replenish(&server);
                connection.run(own).await;
                return Pool::replenish(&server);
            }
            Err(error) => dial.1 = error,
        }
        drop(dial);
        // No other dial in its place: who waits has been told, or is served by what is open or still being opened.
        server.pool.share(&server);
    }

    fn opened(&self, connection: &Arc<Connection>) {
        let mut state = self.lock();
        state.dialing -= 1;
        state.paused_until = None;
        state.open.push(connection.clone());
        connection.load.fetch_add(1, Relaxed);
        drop(state);
        self.release(connection, true);
    }

    /// Lets those who wait share connections, if no more of these can be had.
    fn share(&self, server: &Server) {
        loop {
            let mut state = self.lock();
            if state.waiting.is_empty() || state.keeps_apart(server) {
                return;
            }
            let Some(connection) = state.least_loaded(stuck_since(server)) else { return };
            let Some(waiter) = state.next_waiter(true) else { return };
            state.idle.retain(|c| !Arc::ptr_eq(c, &connection));
            connection.load.fetch_add(1, Relaxed);
            drop(state);
            // A lease that finds nobody gives itself back.
            drop(waiter.give.send(Ok(Lease::new(connection))));
        }
    }

    /// A dial failed. Without any connection left those who wait are told; else the open ones must do for a while.
    fn dial_failed(&self, error: &Error) {
        let mut state = self.lock();
        state.dialing -= 1;
        if state.open.is_empty() {
            let told = if state.dialing == 0 { std::mem::take(&mut state.waiting) } else { VecDeque::new() };
            drop(state);
            for waiter in told {
                let _ = waiter.give.send(Err(error.clone()));
            }
            return;
        }
        let pause = if matches!(error, Error::Timeout { .. }) { DIAL_PAUSE } else { REFUSAL_PAUSE };
        state.paused_until = Some(Instant::now() + pause);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

impl State {
    /// The connection that a query may use at once.
    fn choose(&mut self, server: &Server, fresh: bool) -> Option<Arc<Connection>> {
        if !fresh && let Some(connection) = self.idle.pop() {
            return Some(connection);
        }
        // Where many share a connection, those who wait for a new one are in nobody's way.
        let in_turn = (fresh || self.pipelined.is_none()) && self.is_awaited();
        if self.keeps_apart(server) || fresh && self.may_grow(server) || in_turn {
            return None;
        }
        let connection = self.least_loaded(stuck_since(server))?;
        self.idle.retain(|c| !Arc::ptr_eq(c, &connection));
        Some(connection)
    }

    /// May connections be added to those that are open?
    fn may_grow(&self, server: &Server) -> bool {
        let paused = !self.open.is_empty() && self.paused_until.is_some_and(|until| Instant::now() < until);
        self.room(server) > 0 && !paused
    }

    /// How many may be added. When all that may be open are stuck, as many again.
    fn room(&self, server: &Server) -> usize {
        let (open, most) = (self.open.len(), server.options.max_connections);
        if open < most {
            return most - open;
        }
        let since = stuck_since(server);
        if self.open.iter().all(|c| c.is_stuck(since)) { (2 * most).saturating_sub(open) } else { 0 }
    }

    /// Is there no connection that has just one query, or none?
    fn all_are_shared(&self) -> bool {
        !self.open.is_empty() && self.open.iter().all(|c| c.load.load(Relaxed) > 1)
    }

    /// Does anybody wait who has not gone away?
    fn is_awaited(&self) -> bool {
        self.waiting.iter().any(|w| !w.give.is_closed())
    }

    /// Does a query get a connection of its own?
    fn keeps_apart(&self, server: &Server) -> bool {
        self.pipelined.is_none() && self.may_grow(server)
    }

    /// The connection with the fewest queries, if it takes another one. None waits in vain on it since `stuck`.
    fn least_loaded(&self, stuck: u64) -> Option<Arc<Connection>> {
        let depth = self.pipelined.unwrap_or(DEPTH);
        let open = self.open.iter().filter(|c| c.load.load(Relaxed) < depth && !c.is_stuck(stuck));
        open.min_by_key(|c| c.load.load(Relaxed)).cloned()
    }

    /// The next query to get a connection. One that wants a new connection takes a used one only when none is coming.
    fn next_waiter(&mut self, fresh: bool) -> Option<Waiter> {
        loop {
            let suits = |w: &Waiter| fresh || !w.fresh || self.dialing == 0;
            let at = self.waiting.iter().position(|w| w.give.is_closed() || suits(w))?;
            match self.waiting.remove(at) {
                Some(waiter) if waiter.give.is_closed() => {}
                waiter => return waiter,
            }
        }
    }

    fn forget(&mut self, connection: &Arc<Connection>, ended: Ended) {
        // The first reason counts.
        let _ = connection.retired.set(ended);
        self.open.retain(|c| !Arc::ptr_eq(c, connection));
        self.idle.retain(|c| !Arc::ptr_eq(c, connection));
    }

    /// Counts, and returns, the dials to be started now.
    fn dials_needed(&mut self, server: &Server) -> usize {
        while self.waiting.front().is_some_and(|w| w.give.is_closed()) {
            self.waiting.pop_front();
        }
        let wanted = match self.pipelined {
            None => self.waiting.len().min(DIALS),
            Some(_) => usize::from(!self.waiting.is_empty() || self.all_are_shared()),
        };
        if wanted <= self.dialing || !self.may_grow(server) {
            return 0;
        }
        let room = self.room(server).saturating_sub(self.dialing);
        let needed = (wanted - self.dialing).min(room);
        self.dialing += needed;
        needed
    }
}

/// The moment, in the server's milliseconds, before which a query was written that is stuck now. A little less than
/// the suspicion, so that a query does not meet again, on its second try, the connection that made it begin one.
fn stuck_since(server: &Server) -> u64 {
    let suspicion = server.suspicion(server.connected()) * 3 / 4;
    server.millis(Instant::now()).saturating_sub(u64::try_from(suspicion.as_millis()).unwrap_or(u64::MAX))
}

/// A new connection as the server wants it, or why there is none.
async fn dial_one(server: &Server) -> Result<Link, Error> {
    let limit = DIAL_TIME.min(server.options.timeout);
    let deadline = Instant::now() + limit;
    match timeout_at(deadline, reach(server)).await {
        Ok(Ok(stream)) => encrypted::link(server, stream, deadline).await,
        Ok(Err(source)) => Err(Error::Unreachable { server: server.address(), source: Arc::new(source) }),
        Err(_) => Err(Error::Timeout { server: server.address(), after: limit }),
    }
}

/// A connection, by the first dial or, when that takes long, by a second one if it is faster.
async fn reach(server: &Server) -> io::Result<TcpStream> {
    let mut first = pin!(connect(server));
    match timeout(SECOND_DIAL, first.as_mut()).await {
        Ok(result) => result,
        Err(_) => select_ok([first, pin!(connect(server))]).await.map(|(stream, _)| stream),
    }
}

/// A connection with Nagle's delay off and a limit on what may stay unacknowledged.
async fn connect(server: &Server) -> io::Result<TcpStream> {
    let address = server.address();
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    socket.set_nodelay(true)?;
    let options = socket2::SockRef::from(&socket);
    options.set_tcp_user_timeout(Some(UNACKNOWLEDGED))?;
    // A reply must not need more than the least path that IPv6 allows: where too large packets vanish and nobody says so,
    // its sender would repeat them until we give up.
    options.set_tcp_mss(SEGMENT)?;
    // One small message at a time is never congested. Hosts that default to BBR would pace it with timers, which costs
    // more than the message; where Reno cannot be had, the default does.
    let _ = options.set_tcp_congestion(b"reno");
    if let Some(source) = server.options.source {
        send_from(socket.as_fd(), source)?;
    }
    socket.connect(address).await
}
