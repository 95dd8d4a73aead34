//! One TCP connection: frames in, frames out (RFC 1035 §4.2.2).

use super::output::Output;
use super::{Closing, House, IDLE};
use crate::observe::metrics::DropReason;
use crate::observe::queries::{Proto, Source};
use crate::resolve::source_of;
use crate::resolve::{Outcome, Waiter};
use crate::serve::client::Patience;
use crate::serve::front::{Door, Front, Verdict, judge};
use crate::serve::told::{self, Told};
use crate::sys::clock::Moment;
use crate::wire::header;
use crate::wire::reply::{self, Asked, OwnedAsked};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::net::tcp::ReadHalf;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep_until};

/// The longest query that is read, in octets.
const MAX_QUERY: usize = 4096;
/// Octets read at a time.
const READ: usize = 8192;
/// Queries that may wait for their answers; no more are read until one leaves.
const MAX_OUTSTANDING: usize = 128;
/// Octets that may wait to be written; no more queries are read until they have left.
const MAX_UNWRITTEN: usize = 64 * 1024;
/// How long a query is still awaited once the house closes. A connection is best closed right behind an answer: the client
/// does not ask at that very moment, and sees the end before it asks again.
const FAREWELL: Duration = Duration::from_millis(200);
/// Room for a reply beside the stored message: an OPT with options.
const OPT_ROOM: usize = 300;

/// Why a connection ends.
enum End {
    /// Everything is answered and the client, or we, want no more.
    Done,
    /// The client broke the rules, or the connection broke.
    Broken,
    /// It asked nothing for too long.
    Idle,
    /// It does not read its answers.
    Stalled,
}

/// A connection's state.
struct Connection<'a> {
    front: &'a Arc<Front>,
    door: &'a Arc<Door>,
    client: SocketAddr,
    input: Vec<u8>,
    output: Output,
    outstanding: usize,
    answers: mpsc::UnboundedSender<Vec<u8>>,
    /// The client sends no more.
    finished: bool,
    /// When a whole query came or an answer left.
    active: Instant,
    /// A whole query has come.
    asked: bool,
    /// How long it may take.
    patience: Patience,
    /// How long it may take at most, as full as the house is.
    most: Duration,
    /// Units of 100 ms that the client is told.
    keepalive: u16,
}

/// Serves a connection until it ends.
pub(super) async fn serve(house: &House, door: &Arc<Door>, mut stream: TcpStream, client: SocketAddr) {
    // Answers are small and written whole: waiting to fill a segment only delays them.
    let _ = stream.set_nodelay(true);
    let (sender, receiver) = mpsc::unbounded_channel();
    let patience = house.limits.load().patience;
    let mut connection = Connection {
        front: &house.front,
        door,
        client,
        input: Vec::new(),
        output: Output::default(),
        outstanding: 0,
        answers: sender,
        finished: false,
        active: Instant::now(),
        asked: false,
        patience,
        most: IDLE[0],
        keepalive: u16::try_from(patience.idle.as_millis() / 100).unwrap_or(u16::MAX),
    };
    let end = connection.run(&mut stream, receiver, house.pressure.subscribe(), house.closing.subscribe()).await;
    match end {
        End::Done | End::Broken => {}
        End::Idle => house.front.metrics.dropped(DropReason::TcpIdle),
        End::Stalled => house.front.metrics.dropped(DropReason::TcpStalled),
    }
}

impl Connection<'_> {
    async fn run(
        &mut self,
        stream: &mut TcpStream,
        mut ready: mpsc::UnboundedReceiver<Vec<u8>>,
        mut pressure: watch::Receiver<usize>,
        mut closing: watch::Receiver<Closing>,
    ) -> End {
        let (reader, mut writer) = stream.split();
        let mut batch = Vec::new();
        self.most = allowed(&mut pressure);
        let timer = sleep_until(self.next_look(None));
        tokio::pin!(timer);
        let mut farewell = None;
        loop {
            if *closing.borrow_and_update() != Closing::No && !self.finished {
                let now = Instant::now();
                let end = *farewell.get_or_insert(now + FAREWELL);
                let answered = self.active + FAREWELL > end;
                timer.as_mut().reset(self.next_look(farewell));
                let owes = self.outstanding > 0 || self.output.len() > 0;
                if !owes && (now >= end || answered) {
                    // A last look: what has come meanwhile is answered.
                    self.finished = matches!(self.read(&reader), Ok(0) | Err(_));
                    if self.take_frames().is_err() {
                        return End::Broken;
                    }
                }
            }
            let owes = self.outstanding > 0 || self.output.len() > 0;
            if self.finished && !owes {
                return End::Done;
            }
            let reading = !self.finished && self.outstanding < MAX_OUTSTANDING && self.output.len() < MAX_UNWRITTEN;
            tokio::select! {
                biased;
                wrote = writer.write(self.output.waiting()), if self.output.len() > 0 => {
                    let Ok(n @ 1..) = wrote else { return End::Broken };
                    self.output.wrote(n);
                    self.active = Instant::now();
                    // What was held back for want of room may be taken now.
                    if self.take_frames().is_err() {
                        return End::Broken;
                    }
                }
                _ = ready.recv_many(&mut batch, MAX_OUTSTANDING), if self.outstanding > 0 => {
                    self.outstanding -= batch.len();
                    batch.drain(..).for_each(|frame| self.output.buffer().extend_from_slice(&frame));
                    if self.take_frames().is_err() {
                        return End::Broken;
                    }
                }
                // Room is made only when there is something to read: thousands of idle connections hold no buffer.
                _ = reader.readable(), if reading => {
                    match self.read(&reader) {
                        Ok(0) => self.finished = true,
                        Ok(_) => if self.take_frames().is_err() {
                            return End::Broken;
                        },
                        Err(e) if e.kind() == io::ErrorKind::WouldBlock => self.give_back(),
                        Err(_) => return End::Broken,
                    }
                }
                () = &mut timer => {
                    if Instant::now() < self.due(farewell) {
                        timer.as_mut().reset(self.next_look(farewell));
                    } else if self.output.len() > 0 {
                        return End::Stalled;
                    } else if self.outstanding > 0 {
                        // The answer is on its way; the resolver sees to it that it comes.
                        self.active = Instant::now();
                        timer.as_mut().reset(self.next_look(None));
                    } else {
                        return End::Idle;
                    }
                }
                Ok(()) = pressure.changed() => {
                    self.most = allowed(&mut pressure);
                    timer.as_mut().reset(self.next_look(farewell));
                }
                _ = closing.changed() => {}
            }
        }
    }

    /// Reads what is there.
    fn read(&mut self, reader: &ReadHalf<'_>) -> io::Result<usize> {
        self.input.reserve(READ);
        reader.try_read_buf(&mut self.input)
    }

    /// When there is something to decide: the end of the farewell, or else of the time for what the client is to do.
    fn due(&self, farewell: Option<Instant>) -> Instant {
        let Patience { read, write, idle } = self.patience;
        let patience = match () {
            () if self.output.len() > 0 => write,
            () if !self.asked => read,
            () => idle,
        };
        farewell.filter(|end| Instant::now() < *end).unwrap_or(self.active + patience.min(self.most))
    }

    /// When to look whether there is: what the client is to do changes without that anybody looks at the clock.
    fn next_look(&self, farewell: Option<Instant>) -> Instant {
        let Patience { read, write, idle } = self.patience;
        self.due(farewell).min(Instant::now() + read.min(write).min(idle).min(self.most))
    }

    /// Takes whole queries from what was read, as many as there is room to answer.
    fn take_frames(&mut self) -> Result<(), ()> {
        let now = Moment::now();
        let mut at = 0;
        let input = std::mem::take(&mut self.input);
        let mut result = Ok(());
        while self.outstanding < MAX_OUTSTANDING && self.output.len() < MAX_UNWRITTEN {
            let Some(&[hi, lo]) = input.get(at..).and_then(|rest| rest.first_chunk()) else { break };
            let len = usize::from(u16::from_be_bytes([hi, lo]));
            if !(header::LEN..=MAX_QUERY).contains(&len) {
                self.front.metrics.dropped(if len < header::LEN {
                    DropReason::ShortHeader
                } else {
                    DropReason::Oversize
                });
                result = Err(());
                break;
            }
            let Some(packet) = input.get(at + 2..at + 2 + len) else { break };
            self.active = Instant::now();
            self.asked = true;
            if self.handle(packet, now).is_none() {
                result = Err(());
                break;
            }
            at += 2 + len;
        }
        self.input = input;
        self.input.drain(..at);
        self.give_back();
        result
    }

    /// Frees the input's buffer when nothing is in it.
    fn give_back(&mut self) {
        if self.input.is_empty() {
            self.input = Vec::new();
        }
    }

    /// Answers one query, or hands it over. `None` for what only a broken client sends.
    fn handle(&mut self, packet: &[u8], now: Moment) -> Option<()> {
        let front = self.front;
        let (cells, manner) = (self.door.cells(Proto::Tcp), front.manner);
        let keepalive = self.keepalive;
        match judge(packet, self.door.view(), |question, flags| front.store.get(&front.store.key(question, flags), now))
        {
            Verdict::Hit(query, entry) => {
                let asked = Asked::over_tcp(&query, keepalive, manner);
                let room = entry.as_stored().message.len() + OPT_ROOM;
                let before = self.output.len();
                self.frame(room, |out| front.write_hit(&entry, &asked, self.door, now, out))?;
                let len = self.output.len() - before - 2;
                let (zone, source) = (entry.about().zone, source_of(&entry));
                cells.query(zone, query.question.qtype());
                cells.response(zone, entry.about().rcode, source);
                cells.answered(|| told::hit(&query, &entry, packet.len(), len));
                cells.duration(zone, source, Moment::now().since(now), 1);
            }
            Verdict::Miss(query) => {
                self.outstanding += 1;
                let asked = OwnedAsked::from(Asked::over_tcp(&query, keepalive, manner));
                let (front, door) = (Arc::clone(front), Arc::clone(self.door));
                let told = Told { client: self.client, arrived: now, request_len: packet.len() };
                let waiter = Reply { front, door, answers: self.answers.clone(), told, asked };
                self.front.submit(&query, self.client, (self.door, Proto::Tcp), now, Box::new(waiter));
            }
            Verdict::Bare(header, code) => {
                cells.query(0, 0);
                cells.response(0, code, Source::Local);
                self.frame(header::LEN, |out| reply::bare(&header, code, out))?;
            }
            Verdict::Decline(query, code) => {
                let asked = Asked::over_tcp(&query, keepalive, manner);
                let before = self.output.len();
                self.frame(packet.len() + OPT_ROOM, |out| front.write_refusal(&asked, code, out))?;
                let len = self.output.len() - before - 2;
                if !self.door.is_probe(packet, self.client.ip()) {
                    cells.query(0, query.question.qtype());
                    cells.response(0, code, Source::Local);
                    cells.answered(|| told::refusal(&query, code, packet.len(), len));
                }
            }
            Verdict::Drop(reason) => {
                front.metrics.dropped(reason);
                return None;
            }
        }
        Some(())
    }

    /// Appends a frame of at most `room` octets that `write` fills.
    fn frame(&mut self, room: usize, write: impl FnOnce(&mut [u8]) -> Option<usize>) -> Option<()> {
        append_frame(self.output.buffer(), room, write)
    }
}

/// Appends a length and the message of at most `room` octets that `write` makes.
fn append_frame(to: &mut Vec<u8>, room: usize, write: impl FnOnce(&mut [u8]) -> Option<usize>) -> Option<()> {
    let start = to.len();
    to.resize(start + 2 + room, 0);
    let written = to.get_mut(start + 2..).and_then(write);
    let len = written.and_then(|n| u16::try_from(n).ok());
    to.truncate(start + written.map_or(0, |n| 2 + n));
    to.get_mut(start..start + 2)?.copy_from_slice(&len?.to_be_bytes());
    Some(())
}

/// How long the house allows anybody to do nothing now.
fn allowed(pressure: &mut watch::Receiver<usize>) -> Duration {
    IDLE.get(*pressure.borrow_and_update()).copied().unwrap_or(IDLE[0])
}

/// A TCP client that waits.
struct Reply {
    front: Arc<Front>,
    door: Arc<Door>,
    answers: mpsc::UnboundedSender<Vec<u8>>,
    told: Told,
    asked: OwnedAsked,
}

impl Waiter for Reply {
    fn answer(self: Box<Self>, outcome: &Outcome) {
        let room = outcome.entry.as_ref().map_or(0, |e| e.as_stored().message.len());
        let asked = self.asked.get();
        let mut frame = Vec::new();
        let room = room.max(header::LEN + asked.spelled.len()) + OPT_ROOM;
        // An answer that cannot be written still counts as one: the connection must not wait for it.
        append_frame(&mut frame, room, |out| self.front.write_outcome(outcome, &asked, &self.door, out));
        if let Some(response) = frame.get(2..) {
            self.told.answer(&self.front, (&self.door, Proto::Tcp), outcome, &asked, response);
        }
        // The client may have gone.
        let _ = self.answers.send(frame);
    }

    fn dismiss(self: Box<Self>) {
        // Nothing is sent, and nothing is owed any more.
        let _ = self.answers.send(Vec::new());
    }
}
