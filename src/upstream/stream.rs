//! One TCP connection (RFC 7766), under TLS or not: queries written as they come, replies matched by id in whatever
//! order they arrive.
//!
//! A query on a quiet connection in plain is written by whoever asks; when others are under way it is queued, and the
//! connection's task writes all that is queued at once. The task reads: one read takes all messages that are there.
//! The id of a query that was given up stays reserved until its reply comes or the connection ends.

use super::encrypted::{Link, Own};
use super::framing::Frames;
use super::lifetime::{Abandoned, Condition, Limits, Reason, Verdict};
use super::server::Server;
use super::stats::Ended;
use super::{Error, Query, message};
use crate::sys::socket;
use crate::wire::header::Header;
use futures_util::task::AtomicWaker;
use smallvec::SmallVec;
use std::future::poll_fn;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::AsFd;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};
use std::task::{Context, Poll, Waker};
use std::time::Duration;
use tokio::io::ReadBuf;
use tokio::net::tcp::OwnedWriteHalf;
use tokio::time::{Instant, Sleep, sleep_until};

/// Octets taken by one read, on the stack of the reader.
const READ: usize = 8192;
/// Messages that nobody asked for, after which a connection is closed.
const UNSOLICITED: u32 = 16;
/// Capacity above which the queue of a connection is given back when it is empty.
const KEEP: usize = 4096;

/// An open connection, shared by its task, the pool and the queries that use it.
pub(super) struct Connection {
    pub(super) server: Arc<Server>,
    limits: Limits,
    state: Mutex<State>,
    task: AtomicWaker,
    /// When an octet last came, in the server's milliseconds.
    last_active: AtomicU64,
    /// When the oldest query was written that has no reply, in the server's milliseconds; the end of time for none.
    owed_since: AtomicU64,
    /// Queries that hold the connection or whose late reply is awaited. Written under the pool's lock.
    pub(super) load: AtomicUsize,
    /// Why it has gone from the pool: to be closed when nobody uses it. Written under the pool's lock.
    pub(super) retired: OnceLock<Ended>,
}

struct State {
    /// `None` once the connection is closed, and where its task alone writes.
    write: Option<OwnedWriteHalf>,
    /// Framed queries not yet written.
    queue: Vec<u8>,
    flights: SmallVec<[Flight; 4]>,
    /// Octets received so far.
    received: u64,
    /// Has it carried a query?
    used: bool,
    unsolicited: u32,
    /// The limits must be judged anew, before the timer says so.
    judge: bool,
    closed: Option<Reason>,
}

/// A query under way.
struct Flight {
    id: u16,
    written: Instant,
    /// Octets that had been received when it was written.
    received: u64,
    fate: Fate,
}

enum Fate {
    Waiting(Option<Waker>),
    Answered(Vec<u8>),
    Abandoned,
}

/// A query lost with its connection.
pub(super) struct Lost {
    /// Nothing speaks against the server but that this connection is gone: ask again on a new one.
    pub(super) again: bool,
    /// The error, when there is no asking again.
    pub(super) error: Error,
}

impl Connection {
    pub(super) fn new(server: Arc<Server>, link: Link) -> (Arc<Connection>, Own) {
        let now = Instant::now();
        let (own, write) = link.split();
        let options = &server.options;
        let unordered = server.endpoint().security().is_some();
        let limits = Limits::new(now, options.idle, options.max_age, options.timeout, rand::random());
        let connection = Connection {
            limits: Limits { unordered, ..limits },
            state: Mutex::new(State {
                write,
                queue: Vec::new(),
                flights: SmallVec::new(),
                received: 0,
                used: false,
                unsolicited: 0,
                judge: false,
                closed: None,
            }),
            task: AtomicWaker::new(),
            last_active: AtomicU64::new(server.millis(now)),
            owed_since: AtomicU64::new(u64::MAX),
            load: AtomicUsize::new(0),
            retired: OnceLock::new(),
            server,
        };
        (Arc::new(connection), own)
    }

    /// When an octet last came.
    pub(super) fn last_active(&self) -> Instant {
        self.server.instant(self.last_active.load(Relaxed))
    }

    /// Was a query written before `since`, in the server's milliseconds, that still has no reply? Where they come in any
    /// order, others will have come meanwhile, unless the connection is stuck.
    pub(super) fn is_stuck(&self, since: u64) -> bool {
        self.owed_since.load(Relaxed) < since && (!self.limits.unordered || self.last_active.load(Relaxed) < since)
    }

    /// Has its other end acknowledged nothing for `time`? Not known of encrypted ones.
    pub(super) fn is_deserted(&self, time: Duration) -> bool {
        let state = self.lock();
        state.write.as_ref().is_some_and(|write| socket::is_deserted(write.as_ref().as_fd(), time))
    }

    /// Lets the task look again: at the queue, at the limits, at whether it is still needed.
    pub(super) fn wake(&self) {
        self.task.wake();
    }

    /// Ends the connection: the pool forgets it, its queries are told, its task will drop the socket.
    pub(super) fn close(self: &Arc<Self>, reason: Reason) {
        self.server.pool.withdraw(self, reason.ended);
        let mut state = self.lock();
        if state.closed.is_none() {
            self.server.stats.closed[reason.ended as usize].add(1);
            state.closed = Some(reason);
        }
        state.write = None;
        let waiting: SmallVec<[Waker; 4]> = state.flights.iter_mut().filter_map(|f| f.fate.take_waker()).collect();
        drop(state);
        waiting.into_iter().for_each(Waker::wake);
        self.wake();
    }

    /// Sends a query; the reply is to be awaited under the id returned.
    fn submit(self: &Arc<Self>, query: Query<'_>, edns: bool) -> Result<u16, Lost> {
        let mut guard = self.lock();
        let state = &mut *guard;
        if state.closed.is_some() {
            return Err(self.lost(state, true));
        }
        let used = std::mem::replace(&mut state.used, true);
        self.server.stats.carried[usize::from(used)].add(1);
        let id = loop {
            let id = rand::random();
            if state.flights.iter().all(|f| f.id != id) {
                break id;
            }
        };
        let alone = state.flights.is_empty() && state.queue.is_empty();
        let start = state.queue.len();
        state.queue.extend_from_slice(&[0; 2]);
        message::write_query(&mut state.queue, query, id, edns);
        if self.limits.unordered && edns {
            message::pad(&mut state.queue, start + 2, query.opt_len);
        }
        let len = u16::try_from(state.queue.len() - start - 2).unwrap_or(u16::MAX);
        state.queue[start..start + 2].copy_from_slice(&len.to_be_bytes());
        if alone && let Some(write) = &state.write {
            match write.try_write(&state.queue) {
                Ok(n) => state.written(n),
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
                Err(e) => {
                    let lost = self.lost(state, true);
                    drop(guard);
                    self.close(Reason::broken(e));
                    return Err(lost);
                }
            }
        }
        let written = Instant::now();
        if self.owed_since.load(Relaxed) == u64::MAX {
            self.owed_since.store(self.server.millis(written), Relaxed);
        }
        state.flights.push(Flight { id, written, received: state.received, fate: Fate::Waiting(None) });
        let queued = !state.queue.is_empty();
        drop(guard);
        if queued {
            self.wake();
        }
        Ok(id)
    }

    /// What to tell a query that this connection will not answer.
    fn lost(&self, state: &State, unsent: bool) -> Lost {
        let server = self.server.address();
        match &state.closed {
            Some(reason) if reason.ended == Ended::BadReply => {
                Lost { again: unsent, error: Error::BadReply { server } }
            }
            closed => {
                let source = closed.as_ref().and_then(|reason| reason.source.clone());
                Lost { again: true, error: Error::Closed { server, source } }
            }
        }
    }

    /// The connection's task: reads, writes what is queued, keeps the limits.
    pub(super) async fn run(self: Arc<Self>, mut own: Own) {
        /// Closes the connection also when the task is dropped.
        struct Closing(Arc<Connection>);
        impl Drop for Closing {
            fn drop(&mut self) {
                self.0.close(Ended::Removed.into());
            }
        }
        let closing = Closing(self);
        let connection = &closing.0;
        let mut frames = Frames::default();
        let limits = connection.limits;
        let mut timer = pin!(sleep_until(limits.retire_at.min(Instant::now() + limits.idle)));
        let reason = poll_fn(|cx| connection.poll(cx, &mut own, &mut frames, timer.as_mut())).await;
        tracing::debug!(server = %connection.server.address(), ?reason, "connection to upstream closed");
        connection.close(reason);
        own.farewell();
    }

    fn poll(
        self: &Arc<Self>,
        cx: &mut Context<'_>,
        own: &mut Own,
        frames: &mut Frames,
        mut timer: Pin<&mut Sleep>,
    ) -> Poll<Reason> {
        self.task.register(cx.waker());
        loop {
            let mut octets = [MaybeUninit::uninit(); READ];
            let mut buffer = ReadBuf::uninit(&mut octets);
            match own.poll_read(cx, &mut buffer) {
                Poll::Pending => break,
                Poll::Ready(Err(e)) => return Poll::Ready(Reason::broken(e)),
                Poll::Ready(Ok(())) if buffer.filled().is_empty() => return Poll::Ready(Ended::Peer.into()),
                Poll::Ready(Ok(())) => {
                    if let Err(reason) = self.receive(frames, buffer.filled()) {
                        return Poll::Ready(reason);
                    }
                }
            }
        }
        loop {
            let judge = match self.flush(cx, own) {
                Ok(judge) => judge,
                Err(reason) => return Poll::Ready(reason),
            };
            if let Some(&ended) = self.retired.get().filter(|_| self.load.load(Relaxed) == 0) {
                return Poll::Ready(ended.into());
            }
            if !judge && timer.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
            match self.judge(Instant::now()) {
                Ok(next) => timer.as_mut().reset(next),
                Err(reason) => return Poll::Ready(reason),
            }
        }
    }

    /// Hands out the replies that `octets` complete.
    fn receive(self: &Arc<Self>, frames: &mut Frames, octets: &[u8]) -> Result<(), Reason> {
        let now = Instant::now();
        self.last_active.store(self.server.millis(now), Relaxed);
        let mut woken: SmallVec<[Waker; 4]> = SmallVec::new();
        let mut late = 0;
        let mut state = self.lock();
        state.received += octets.len() as u64;
        let result = frames.feed(octets, |reply| match state.deliver(reply) {
            Delivered::Waiting(waker) => woken.extend(waker),
            Delivered::Late => late += 1,
            Delivered::Unsolicited => self.server.stats.unsolicited.add(1),
        });
        let flooded = state.unsolicited > UNSOLICITED;
        let owed = state.flights.iter().filter(|f| !matches!(f.fate, Fate::Answered(_))).map(|f| f.written).min();
        self.owed_since.store(owed.map_or(u64::MAX, |written| self.server.millis(written)), Relaxed);
        drop(state);
        woken.into_iter().for_each(Waker::wake);
        if late > 0 {
            self.server.stats.late.add(late);
            self.server.is_alive(self.server.connected(), now);
            (0..late).for_each(|_| self.server.pool.release(self, false));
        }
        if flooded || result.is_err() { Err(Ended::BadReply.into()) } else { Ok(()) }
    }

    /// Writes what is queued; says whether the limits are to be judged.
    fn flush(&self, cx: &mut Context<'_>, own: &mut Own) -> Result<bool, Reason> {
        let mut guard = self.lock();
        let state = &mut *guard;
        if let Some(reason) = &state.closed {
            return Err(reason.clone());
        }
        while !state.queue.is_empty() {
            match own.poll_write(cx, &mut state.write, &state.queue) {
                Poll::Pending => break,
                Poll::Ready(Ok(n)) => state.written(n),
                Poll::Ready(Err(e)) => return Err(Reason::broken(e)),
            }
        }
        if let Poll::Ready(Err(e)) = own.poll_flush(cx) {
            return Err(Reason::broken(e));
        }
        Ok(std::mem::take(&mut state.judge))
    }

    /// Applies the limits at `now`; returns when to look again.
    fn judge(self: &Arc<Self>, now: Instant) -> Result<Instant, Reason> {
        loop {
            let state = self.lock();
            let oldest = state.flights.iter().filter(|f| matches!(f.fate, Fate::Abandoned)).min_by_key(|f| f.written);
            let abandoned = oldest.map(|f| Abandoned { written: f.written, silent: f.received == state.received });
            drop(state);
            let condition = Condition {
                last_active: self.last_active(),
                in_use: self.load.load(Relaxed) > 0,
                retired: self.retired.get().is_some(),
                abandoned,
            };
            match self.limits.judge(now, condition) {
                Verdict::Keep(next) => return Ok(next),
                // Somebody may have taken it this very moment.
                Verdict::Idle if self.server.pool.withdraw_idle(self) => return Err(Ended::Idle.into()),
                Verdict::Idle => return Ok(now + self.limits.idle),
                Verdict::Retire => self.server.pool.withdraw(self, Ended::Age),
                Verdict::Unresponsive => {
                    if let Some(query) = abandoned {
                        self.server.pool.distrust(query.written);
                    }
                    return Err(Ended::Unresponsive.into());
                }
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

/// What became of a message received.
enum Delivered {
    Waiting(Option<Waker>),
    Late,
    Unsolicited,
}

impl State {
    fn deliver(&mut self, reply: &[u8]) -> Delivered {
        let id = Header::read(reply).map(|h| h.id);
        match self.flights.iter().position(|f| Some(f.id) == id) {
            Some(at) if matches!(self.flights[at].fate, Fate::Waiting(_)) => {
                let fate = std::mem::replace(&mut self.flights[at].fate, Fate::Answered(reply.to_vec()));
                Delivered::Waiting(if let Fate::Waiting(waker) = fate { waker } else { None })
            }
            Some(at) if matches!(self.flights[at].fate, Fate::Abandoned) => {
                self.flights.swap_remove(at);
                Delivered::Late
            }
            _ => {
                self.unsolicited += 1;
                Delivered::Unsolicited
            }
        }
    }

    /// Forgets the first `n` octets of the queue.
    fn written(&mut self, n: usize) {
        self.queue.drain(..n);
        if self.queue.is_empty() && self.queue.capacity() > KEEP {
            self.queue = Vec::new();
        }
    }
}

impl Fate {
    fn take_waker(&mut self) -> Option<Waker> {
        if let Fate::Waiting(waker) = self { waker.take() } else { None }
    }
}

/// The right to put one query on a connection. Given back when dropped.
pub(super) struct Lease {
    connection: Arc<Connection>,
    /// False once the lease was given up without being given back.
    armed: bool,
}

impl Lease {
    /// A lease that the pool has counted.
    pub(super) fn new(connection: Arc<Connection>) -> Lease {
        Lease { connection, armed: true }
    }

    /// Gives up the lease; whoever does so gives back, in its place, what the pool has counted.
    pub(super) fn disarm(mut self) {
        self.armed = false;
    }

    /// Sends the query and waits for its reply, however long that takes. The reply has the query's own id.
    pub(super) async fn ask(self, query: Query<'_>, edns: bool) -> Result<Vec<u8>, Lost> {
        let id = self.connection.submit(query, edns)?;
        let mut waiting = Waiting { lease: self, id, over: false };
        let mut reply = poll_fn(|cx| waiting.poll(cx)).await?;
        if message::accept(query, &mut reply) {
            return Ok(reply);
        }
        let connection = &waiting.lease.connection;
        connection.close(Ended::BadReply.into());
        Err(Lost { again: false, error: Error::BadReply { server: connection.server.address() } })
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if self.armed {
            self.connection.server.pool.release(&self.connection, false);
        }
    }
}

/// A query on its connection. Dropped before the reply, it leaves its id reserved and its lease with the connection.
struct Waiting {
    lease: Lease,
    id: u16,
    over: bool,
}

impl Waiting {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<Vec<u8>, Lost>> {
        let mut guard = self.lease.connection.lock();
        let state = &mut *guard;
        let at = state.flights.iter().position(|f| f.id == self.id);
        let fate = at.map(|at| &mut state.flights[at].fate);
        if let (Some(Fate::Waiting(waker)), None) = (fate, &state.closed) {
            match waker {
                Some(waker) => waker.clone_from(cx.waker()),
                None => *waker = Some(cx.waker().clone()),
            }
            return Poll::Pending;
        }
        self.over = true;
        match at.map(|at| state.flights.swap_remove(at).fate) {
            Some(Fate::Answered(reply)) => Poll::Ready(Ok(reply)),
            _ => Poll::Ready(Err(self.lease.connection.lost(state, false))),
        }
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        if self.over {
            return;
        }
        let connection = &self.lease.connection;
        let mut state = connection.lock();
        let Some(at) = state.flights.iter().position(|f| f.id == self.id) else { return };
        if state.closed.is_some() || matches!(state.flights[at].fate, Fate::Answered(_)) {
            state.flights.swap_remove(at);
            return;
        }
        state.flights[at].fate = Fate::Abandoned;
        state.judge = true;
        drop(state);
        connection.wake();
        self.lease.armed = false;
    }
}
