//! The way of one query through a group: whom to ask first, when to ask another one as well, when to give up.
//!
//! A try that fails is followed by the next one at once. One that is merely slow keeps running while a second server
//! is asked; the first usable reply wins. Over UDP, where a datagram may just be lost, the second may be the same.

use super::attempt::{self, Plan};
use super::group::Group;
use super::health::State;
use super::select::{self, Candidate};
use super::server::Server;
use super::{Error, Options, Protocol, Query, Reply, message};
use crate::wire::header;
use smallvec::SmallVec;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::time::{Instant, Sleep, sleep_until};

/// Tries per server and query, whatever happens.
const TRIES: u8 = 12;
/// Broken connections and bad replies after which a query has had enough of a server.
const BREAKS: u8 = 2;

/// Why another try begins.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Why {
    /// None is under way, or one has failed.
    Needed,
    /// Those under way are slow.
    Slow,
}

/// What the query knows of each server.
#[derive(Clone, Copy, Default)]
struct Mark {
    tries: u8,
    running: u8,
    breaks: u8,
    barred: bool,
}

/// A try under way.
struct Runner<'a> {
    server: usize,
    started: Instant,
    expires: Instant,
    answer: Pin<Box<dyn Future<Output = Result<Reply, Error>> + Send + 'a>>,
}

struct Race<'a> {
    options: &'a Options,
    servers: &'a [Arc<Server>],
    query: Query<'a>,
    turn: usize,
    deadline: Instant,
    marks: SmallVec<[Mark; 4]>,
    runners: SmallVec<[Runner<'a>; 2]>,
    /// When the tries under way are slow; `None` when nobody else is to be asked.
    slow_at: Option<Instant>,
    /// The first reply that other servers might better.
    rejection: Option<Reply>,
    error: Error,
}

/// Asks the servers of `group`, but for those that are `looping`.
pub(super) async fn run(
    group: &Group,
    query: Query<'_>,
    deadline: Instant,
    looping: impl Fn(&Server) -> bool,
) -> Result<Reply, Error> {
    let octets = query.message.len();
    if !(header::LEN..=usize::from(u16::MAX)).contains(&octets) {
        return Err(Error::BadQuery { octets });
    }
    let (servers, turn) = group.turn();
    let Some(first) = servers.first() else { return Err(Error::NoServers) };
    let mut race = Race {
        options: group.options(),
        servers: &servers,
        query,
        turn,
        deadline,
        marks: servers.iter().map(|server| Mark { barred: looping(server), ..Mark::default() }).collect(),
        runners: SmallVec::new(),
        slow_at: None,
        rejection: None,
        error: Error::Timeout { server: first.address(), after: Duration::ZERO },
    };
    if race.marks.iter().all(|mark| mark.barred) {
        return Err(Error::Looping { server: first.address() });
    }
    race.start(Instant::now(), Why::Needed);
    let mut timer = pin!(sleep_until(race.next_event()));
    while !race.runners.is_empty() {
        match poll_fn(|cx| race.poll(cx, timer.as_mut())).await {
            Some((runner, result)) => {
                if let Some(reply) = race.ended(&runner, result) {
                    return Ok(reply);
                }
                race.start(Instant::now(), Why::Needed);
            }
            None => race.time_passed(Instant::now()),
        }
        if timer.deadline() != race.next_event() {
            timer.as_mut().reset(race.next_event());
        }
    }
    race.rejection.ok_or(race.error)
}

impl<'a> Race<'a> {
    /// Begins a try, if a server is left for it.
    fn start(&mut self, now: Instant, why: Why) {
        if now >= self.deadline {
            return;
        }
        let repeatable = self.options.protocol != Protocol::Tcp;
        let candidates = self.servers.iter().zip(&self.marks).map(|(server, mark)| {
            let state = server.health.state(now);
            let suits = match why {
                Why::Needed => mark.running == 0,
                Why::Slow if repeatable => true,
                Why::Slow => mark.tries == 0 && !matches!(state, State::Failing(_)),
            };
            let eligible = suits && !mark.barred && mark.tries < TRIES;
            Candidate { tries: mark.tries, eligible, state, in_flight: server.in_flight() }
        });
        let Some(index) = select::next(self.options.policy, self.turn, candidates) else {
            if why == Why::Slow {
                self.slow_at = None;
            }
            return;
        };
        let server = &self.servers[index];
        // A server that may be back is not given the time that a good one gets.
        let suspect = server.health.state(now) == State::Suspect && server.health.probe(now);
        self.slow_at = (repeatable || self.servers.len() > 1).then(|| now + self.patience(suspect));
        self.marks[index].tries += 1;
        self.marks[index].running += 1;
        let expires = self.deadline.min(now + self.options.timeout);
        let plan = Plan { query: self.query, fresh: self.marks[index].tries > 1, expires };
        let answer = Box::pin(attempt::run(server.clone(), plan, now));
        self.runners.push(Runner { server: index, started: now, expires, answer });
    }

    /// How long a try may take before another one joins it.
    fn patience(&self, suspect: bool) -> Duration {
        match self.options.protocol {
            _ if suspect => self.options.timeout / 20,
            Protocol::Tcp => self.options.timeout / 2,
            Protocol::Udp | Protocol::Auto => self.options.timeout / 4,
        }
    }

    fn next_event(&self) -> Instant {
        let expires = self.runners.iter().map(|r| r.expires);
        expires.chain(self.slow_at).min().unwrap_or(self.deadline)
    }

    /// A try that ended, or `None` when the time of the next event has come.
    fn poll(
        &mut self,
        cx: &mut Context<'_>,
        timer: Pin<&mut Sleep>,
    ) -> Poll<Option<(Runner<'a>, Result<Reply, Error>)>> {
        for at in 0..self.runners.len() {
            if let Poll::Ready(result) = self.runners[at].answer.as_mut().poll(cx) {
                let runner = self.runners.swap_remove(at);
                return Poll::Ready(Some((runner, result)));
            }
        }
        timer.poll(cx).map(|()| None)
    }

    /// A try ended: returns the reply that ends the race.
    fn ended(&mut self, runner: &Runner<'a>, result: Result<Reply, Error>) -> Option<Reply> {
        let server = &self.servers[runner.server];
        let mark = &mut self.marks[runner.server];
        mark.running -= 1;
        let error = match result {
            Ok(reply) => {
                server.health.succeeded();
                if message::is_final(message::response_code(&reply.message)) {
                    self.blame_the_slow();
                    return Some(reply);
                }
                mark.barred = true;
                self.rejection.get_or_insert(reply);
                return None;
            }
            Err(error) => error,
        };
        match error {
            Error::Timeout { .. } => {}
            Error::Closed { .. } | Error::BadReply { .. } => {
                mark.breaks += 1;
                mark.barred = mark.breaks >= BREAKS;
            }
            _ => mark.barred = true,
        }
        // That we have too many queries waiting is not the server's fault alone, and shows in its load.
        if !matches!(error, Error::Busy { .. }) {
            server.health.failed(Instant::now());
        }
        self.error = error;
        None
    }

    /// The race is won: who has been running for long without an answer has failed all the same.
    fn blame_the_slow(&self) {
        if self.runners.is_empty() {
            return;
        }
        let now = Instant::now();
        for runner in self.runners.iter().filter(|r| r.started + self.patience(false) <= now) {
            self.servers[runner.server].health.failed(now);
        }
    }

    /// The time of an event has come: tries expire, slow ones get company.
    fn time_passed(&mut self, now: Instant) {
        let mut expired = false;
        for at in (0..self.runners.len()).rev() {
            if self.runners[at].expires > now {
                continue;
            }
            let runner = self.runners.swap_remove(at);
            expired = true;
            self.marks[runner.server].running -= 1;
            let server = &self.servers[runner.server];
            self.error = Error::Timeout { server: server.address(), after: now - runner.started };
            // When the query itself had little time left, that is not the server's fault.
            if runner.started + self.patience(false) <= now {
                server.health.failed(now);
            }
        }
        if expired {
            self.start(now, Why::Needed);
        } else if self.slow_at.is_some_and(|at| at <= now) {
            self.start(now, Why::Slow);
        }
    }
}
