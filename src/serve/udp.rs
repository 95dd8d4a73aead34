//! UDP: one thread per socket and worker; a batch in, hits answered in place, misses handed over, a batch out.
//!
//! The thread blocks in `recvmmsg` and nowhere else. It awaits nothing, takes no lock that a look-up can hold, and
//! allocates nothing for a hit. It reads the clock twice per batch. Answers to misses leave through the same socket: what
//! one round of the look-up thread has made ready goes out by one system call, without waiting for room.

use super::front::{Door, Front, Verdict, judge};
use super::told::{self, Told};
use crate::cache::Hot;
use crate::observe::metrics::{DropReason, Metrics};
use crate::observe::queries::{Family, Proto, QueryCells, Source};
use crate::resolve::{Outcome, Waiter, source_of};
use crate::sys::clock::Moment;
use crate::sys::mmsg::{Batch, Letter, Peer, SEND, Slot, send_letters};
use crate::sys::socket;
use crate::wire::reply::{self, Asked, OwnedAsked};
use std::io;
use std::net::{IpAddr, UdpSocket};
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::sync::Notify;

/// How long a worker rests after an error of its socket that may not go away at once.
const REST: Duration = Duration::from_millis(10);

/// A worker that can be retired.
pub struct Worker {
    outbox: Arc<Outbox>,
    retiring: Arc<AtomicBool>,
    thread: JoinHandle<()>,
    sender: tokio::task::JoinHandle<()>,
}

impl Worker {
    /// Starts a worker on `socket`, which is behind `door`; what the current runtime resolves leaves through it.
    ///
    /// # Errors
    /// When no thread can be started.
    pub fn start(front: Arc<Front>, door: Arc<Door>, socket: UdpSocket) -> io::Result<Worker> {
        let address = socket.local_addr()?;
        let retiring = Arc::new(AtomicBool::new(false));
        let family = if address.is_ipv4() { Family::V4 } else { Family::V6 };
        let cells = front.metrics.cells(Proto::Udp, family, front.metrics.server(door.place), false);
        let outbox = Arc::new(Outbox { socket, letters: Mutex::default(), posted: Notify::new() });
        let sender = tokio::spawn(Arc::clone(&outbox).send(Arc::clone(&front.metrics)));
        let work = Work { front, door, outbox: Arc::clone(&outbox), cells, hot: Hot::default(), tally: Vec::new() };
        let flag = Arc::clone(&retiring);
        let thread = std::thread::Builder::new()
            .name(format!("udp {address}"))
            .stack_size(256 * 1024)
            .spawn(move || work.run(&flag))?;
        Ok(Worker { outbox, retiring, thread, sender })
    }

    /// Has the worker answer what has arrived and then end. Answers to misses still go out afterwards.
    pub fn retire(&self) {
        self.retiring.store(true, Ordering::Release);
        if let Err(error) = socket::retire(&self.outbox.socket) {
            tracing::warn!(%error, "cannot take a UDP socket out of service");
        }
    }

    /// Has the worker come to its end, and has everything left that was to go out through its socket?
    pub fn is_finished(&self) -> bool {
        self.thread.is_finished() && self.outbox.letters().is_empty()
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.sender.abort();
    }
}

/// What a worker's thread holds.
struct Work {
    front: Arc<Front>,
    door: Arc<Door>,
    outbox: Arc<Outbox>,
    cells: Arc<QueryCells>,
    hot: Hot,
    /// Hits of the current batch by zone and source.
    tally: Vec<(u16, Source, u64)>,
}

impl Work {
    fn run(mut self, retiring: &AtomicBool) {
        let mut batch =
            Batch::for_socket(usize::from(self.front.manner.udp_limit), self.door.place.ip().is_unspecified());
        loop {
            let n = match batch.receive(self.outbox.socket.as_fd()) {
                Ok(n) => n,
                // A reply of ours met a closed port, or a signal came: no reason to stop (RFC 1122 §4.1.3.3).
                Err(e) if matches!(e.kind(), io::ErrorKind::ConnectionRefused | io::ErrorKind::Interrupted) => continue,
                Err(_) => {
                    std::thread::sleep(REST);
                    continue;
                }
            };
            let now = Moment::now();
            let mut ended = false;
            for i in 0..n {
                if batch.is_end(i) {
                    ended = true;
                } else if let Some(len) = self.handle(batch.slot(i), now) {
                    batch.queue(i, len);
                }
            }
            let lost = batch.send(self.outbox.socket.as_fd());
            (0..lost).for_each(|_| self.front.metrics.dropped(DropReason::SendBuffer));
            if !self.tally.is_empty() {
                let took = Moment::now().since(now);
                self.tally.drain(..).for_each(|(zone, source, n)| self.cells.duration(zone, source, took, n));
            }
            if ended && retiring.load(Ordering::Acquire) {
                return;
            }
        }
    }

    /// Answers one packet in place and returns the reply's length, or hands it over, or drops it.
    #[inline]
    fn handle(&mut self, slot: Slot<'_>, now: Moment) -> Option<usize> {
        let Slot { packet, reply: out, peer, origin } = slot;
        if let Some(reason) = self.unwelcome(peer) {
            self.front.metrics.dropped(reason);
            return None;
        }
        let (store, manner) = (&self.front.store, self.front.manner);
        let hot = &mut self.hot;
        match judge(packet, self.door.view(), |question, flags| hot.get(store, &store.key(question, flags), now)) {
            Verdict::Hit(query, entry) => {
                let len = self.front.write_hit(entry, &Asked::over_udp(&query, manner), &self.door, now, out)?;
                let (zone, source) = (entry.about().zone, source_of(entry));
                self.cells.query(zone, query.question.qtype());
                self.cells.response(zone, entry.about().rcode, source);
                self.cells.answered(|| told::hit(&query, entry, packet.len(), len));
                match self.tally.iter_mut().find(|(z, s, _)| (*z, *s) == (zone, source)) {
                    Some((_, _, n)) => *n += 1,
                    None => self.tally.push((zone, source, 1)),
                }
                Some(len)
            }
            Verdict::Miss(query) => {
                let address = peer.address();
                let asked = OwnedAsked::from(Asked::over_udp(&query, manner));
                let (front, door, outbox) = (self.front.clone(), self.door.clone(), self.outbox.clone());
                let told = Told { client: address, arrived: now, request_len: packet.len() };
                let waiter = Reply { front, door, outbox, told, asked, origin };
                self.front.submit(&query, address, (&self.door, Proto::Udp), now, Box::new(waiter));
                None
            }
            Verdict::Bare(header, code) => {
                self.cells.query(0, 0);
                self.cells.response(0, code, Source::Local);
                reply::bare(&header, code, out)
            }
            Verdict::Decline(query, code) => {
                let len = self.front.write_refusal(&Asked::over_udp(&query, manner), code, out)?;
                if !self.door.is_probe(packet, peer.address().ip()) {
                    self.cells.query(0, query.question.qtype());
                    self.cells.response(0, code, Source::Local);
                    self.cells.answered(|| told::refusal(&query, code, packet.len(), len));
                }
                Some(len)
            }
            Verdict::Drop(reason) => {
                self.front.metrics.dropped(reason);
                None
            }
        }
    }

    /// Why nothing that comes from `peer` is answered, if so.
    #[inline]
    fn unwelcome(&self, peer: Peer<'_>) -> Option<DropReason> {
        // Port 0 can get no answer; a packet from our own address would be answered to ourselves.
        if peer.port() == 0 || self.front.own.iter().any(|own| own.port() == peer.port() && *own == peer.address()) {
            return Some(DropReason::BadSource);
        }
        let acl = self.front.acl.load();
        (!acl.is_open() && !acl.allows(peer.address().ip())).then_some(DropReason::NotAllowed)
    }
}

/// Answers to misses on their way out through one socket.
struct Outbox {
    socket: UdpSocket,
    letters: Mutex<Vec<Letter>>,
    posted: Notify,
}

impl Outbox {
    fn letters(&self) -> MutexGuard<'_, Vec<Letter>> {
        self.letters.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn post(&self, letter: Letter) {
        let mut letters = self.letters();
        letters.push(letter);
        let first = letters.len() == 1;
        drop(letters);
        if first {
            self.posted.notify_one();
        }
    }

    /// Sends what has been posted, for ever. On a runtime of one thread this task's turn comes after those that post.
    async fn send(self: Arc<Self>, metrics: Arc<Metrics>) {
        loop {
            self.posted.notified().await;
            let mut letters = std::mem::take(&mut *self.letters());
            let lost = send_letters(self.socket.as_fd(), &mut letters);
            (0..lost).for_each(|_| metrics.dropped(DropReason::SendBuffer));
        }
    }
}

/// A UDP client that waits.
struct Reply {
    front: Arc<Front>,
    door: Arc<Door>,
    outbox: Arc<Outbox>,
    told: Told,
    asked: OwnedAsked,
    /// The address that the query came to, where the socket has several.
    origin: Option<IpAddr>,
}

impl Waiter for Reply {
    fn answer(self: Box<Self>, outcome: &Outcome) {
        let asked = self.asked.get();
        let (mut small, mut large) = ([0; SEND], Vec::new());
        let out = if asked.limit <= SEND {
            &mut small[..]
        } else {
            large.resize(asked.limit, 0);
            &mut large[..]
        };
        if let Some(len) = self.front.write_outcome(outcome, &asked, &self.door, out) {
            let response = out.get(..len).unwrap_or_default();
            self.told.answer(&self.front, (&self.door, Proto::Udp), outcome, &asked, response);
            self.outbox.post((response.to_vec(), self.told.client, self.origin));
        }
    }
}
