//! The way of one query through a group: whom to ask first, when to ask another one as well, when to give up.
//!
//! A try that fails is followed by the next one at once. One that is merely slow keeps running while another is made,
//! and the first usable reply wins. What begins another, by the time that the first has taken:
//!
//! 1. as long as this server usually takes: a **hedge**, if the queries so far pay for it (`hedge`). It goes to another
//!    server that works, else to the same one by another way: a new connection (behind a Service address another pod
//!    may be at its end), or another port;
//! 2. four times that and more, and nothing has come from the server for any query: it is **silent**. The query goes to
//!    another one at once, and three such in a row make the server fail;
//! 3. half the timeout, though the server answers others: it is **slow**. Over UDP, where a datagram may just be lost,
//!    the query is sent again, long before that and in growing intervals.
//!
//! The same server is asked again over TCP only while most connections are free: one that answers in order is kept busy
//! by a slow name once more with each. A connection whose other end is gone is told from a slow one by the kernel, which
//! knows what was acknowledged: at twice the time of 2. it is closed, and its queries go on another (`pool`).
//!
//! A server that failed is not asked by queries that others can answer: when it may be back, one query is sent there
//! beside its own way, and nobody waits for that.

use super::attempt::{self, Plan};
use super::group::Group;
use super::health::{Cause, State};
use super::runner::{Mark, Runner, Timing, Why};
use super::select::{self, Candidate};
use super::server::Server;
use super::{Error, Options, Query, Reply, Transport, message};
use crate::wire::header::{self, rcode};
use smallvec::SmallVec;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::time::{Instant, Sleep, sleep_until};

/// Tries per server and query, whatever happens.
const TRIES: u8 = 24;
/// Broken connections and bad replies after which a query has had enough of a server.
const BREAKS: u8 = 2;

struct Race<'a> {
    group: &'a Group,
    options: &'a Options,
    servers: &'a [Arc<Server>],
    query: Query<'a>,
    turn: usize,
    asked: Instant,
    deadline: Instant,
    marks: SmallVec<[Mark; 4]>,
    runners: SmallVec<[Runner<'a>; 2]>,
    timing: Timing,
    /// Whom a hedge was sent to, while it may still win.
    hedged: Option<usize>,
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
    let now = Instant::now();
    let mut race = Race {
        group,
        options: group.options(),
        servers: &servers,
        query,
        turn,
        asked: now,
        deadline,
        marks: servers.iter().map(|server| Mark { barred: looping(server), ..Mark::default() }).collect(),
        runners: SmallVec::new(),
        timing: Timing::default(),
        hedged: None,
        rejection: None,
        error: Error::Timeout { server: first.address(), after: Duration::ZERO },
    };
    if race.marks.iter().all(|mark| mark.barred) {
        return Err(Error::Looping { server: first.address() });
    }
    if race.all_are_down(now) {
        group.tally().all_down.add(1);
        if race.options.fail_fast {
            race.look_again(now);
            return Err(Error::AllDown);
        }
    }
    race.start(now, Why::Needed);
    race.probe(now);
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
    race.rejection.take().ok_or_else(|| race.error.clone())
}

impl<'a> Race<'a> {
    /// Is nobody to be asked of whom anything good is known?
    fn all_are_down(&self, now: Instant) -> bool {
        let down = |(server, mark): (&Arc<Server>, &Mark)| mark.barred || !server.way(now).1.is_reachable();
        self.servers.iter().zip(&self.marks).all(down)
    }

    /// Sends the query to all servers to find out who is back, now and then: nobody else does while queries fail at once.
    fn look_again(&self, now: Instant) {
        if !self.group.may_look_again(now) {
            return;
        }
        for (server, _) in self.servers.iter().zip(&self.marks).filter(|(_, mark)| !mark.barred) {
            attempt::probe(server.clone(), self.query, server.way(now).0, now);
        }
    }

    /// Begins a try, if a server is left for it.
    fn start(&mut self, now: Instant, why: Why) -> bool {
        if now >= self.deadline {
            return false;
        }
        let Some(index) = self.choose(now, why) else { return false };
        let server = &self.servers[index];
        let (transport, state) = server.way(now);
        let mark = &mut self.marks[index];
        // The same server again by another way has its price, unless a datagram may have been lost.
        let again = why == Why::Slow && transport != Transport::Udp && mark.tries > 0;
        if (again || why == Why::Hedge) && !self.group.pay_for_a_hedge() {
            return false;
        }
        if why == Why::Hedge {
            self.hedged = Some(index);
        }
        mark.tries += 1;
        mark.running += 1;
        let (timeout, suspicion) = (self.options.timeout, server.suspicion(transport));
        if !self.timing.has_begun() && state == State::Healthy {
            self.timing.hedge_at(now + server.hedge_after(transport));
        }
        self.timing.begin(now, transport, suspicion, timeout);
        let expires = self.deadline.min(now + timeout);
        let plan = Plan { query: self.query, transport, fresh: mark.tries > 1, asked: self.asked, expires };
        self.runners.push(Runner {
            server: index,
            transport,
            started: now,
            suspect_at: Some(now + suspicion),
            suspected: false,
            expires,
            hedge: why == Why::Hedge,
            answer: Box::pin(attempt::run(server.clone(), plan, now)),
        });
        true
    }

    /// The server for another try.
    fn choose(&self, now: Instant, why: Why) -> Option<usize> {
        // While one that works is merely slow, those that fail are left alone.
        let alone = self.runners.len() == 1;
        let works = |runner: &Runner<'_>| self.servers[runner.server].way(now).1.is_reachable();
        let choosy = why != Why::Needed && self.runners.iter().any(works);
        let candidates = self.servers.iter().zip(&self.marks).map(|(server, mark)| {
            let (transport, state) = server.way(now);
            let untried = mark.tries == 0 && (state == State::Healthy || !choosy);
            let suits = match why {
                // One that fails is not waited for when another has answered, if only with a rejection.
                Why::Needed => mark.running == 0 && (self.rejection.is_none() || state.is_reachable()),
                Why::Slow if transport == Transport::Udp => state.is_reachable() || !choosy,
                // The same one by another way. A name may be slow as well as a connection, and keep both busy.
                _ => {
                    let spare = why == Why::Silent || transport == Transport::Udp || server.pool.is_relaxed(server);
                    untried || alone && mark.running == 1 && state.is_reachable() && spare
                }
            };
            let eligible = suits && !mark.barred && mark.tries < TRIES;
            Candidate { tries: mark.tries, eligible, state, in_flight: server.in_flight() }
        });
        select::next(self.options.policy, self.turn, candidates)
    }

    /// Sends the query to servers that failed and may be back as well, and does not wait for them.
    fn probe(&self, now: Instant) {
        for (index, server) in self.servers.iter().enumerate().filter(|(index, _)| !self.marks[*index].barred) {
            let asked = self.runners.iter().find(|r| r.server == index).map(|r| r.transport);
            let Some(transport) = server.to_probe(now, asked) else { continue };
            attempt::probe(server.clone(), self.query, transport, now);
        }
    }

    fn next_event(&self) -> Instant {
        let ends =
            self.runners.iter().map(|runner| runner.suspect_at.map_or(runner.expires, |at| at.min(runner.expires)));
        ends.chain(self.timing.next()).min().unwrap_or(self.deadline)
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
        self.marks[runner.server].running -= 1;
        match result {
            Ok(reply) if self.is_final(runner, &reply) => {
                if runner.hedge {
                    self.hedge_won(runner);
                }
                return Some(reply);
            }
            Ok(reply) => {
                self.marks[runner.server].barred = true;
                // Where the user says what another server may better, the last reply counts, as it does with CoreDNS.
                if self.rejection.is_none() || !self.options.failover.is_empty() {
                    self.rejection = Some(reply);
                }
            }
            Err(error) => {
                let mark = &mut self.marks[runner.server];
                match error {
                    Error::Timeout { .. } => {}
                    Error::Closed { .. } | Error::BadReply { .. } => {
                        mark.breaks += 1;
                        mark.barred = mark.breaks >= BREAKS;
                    }
                    _ => mark.barred = true,
                }
                self.error = error;
            }
        }
        None
    }

    /// Does this reply end the search? A failure said by a server that says little else does not while others work.
    fn is_final(&self, runner: &Runner<'_>, reply: &Reply) -> bool {
        if self.options.failover.hold(&reply.message) {
            return false;
        }
        let code = message::response_code(&reply.message);
        if code != rcode::SERVFAIL {
            return message::is_final(code);
        }
        let now = Instant::now();
        let errs = self.servers[runner.server].state(reply.transport, now) == State::Erring;
        let untried = |(server, mark): (&Arc<Server>, &Mark)| {
            mark.tries == 0 && !mark.barred && server.way(now).1 == State::Healthy
        };
        !(errs && self.servers.iter().zip(&self.marks).any(untried))
    }

    fn hedge_won(&mut self, winner: &Runner<'_>) {
        self.hedged = None;
        let server = &self.servers[winner.server];
        server.stats.hedges[0].add(1);
        let same = self.runners.iter().find(|r| r.server == winner.server);
        if let Some(first) = same.filter(|r| r.transport != Transport::Udp) {
            // The server answers, that connection does not: perhaps its other end is gone, and that of others with it.
            server.pool.distrust(first.started);
        }
    }

    /// The time of an event has come: tries expire, slow ones get company.
    fn time_passed(&mut self, now: Instant) {
        let (mut expired, mut silent) = (false, false);
        for at in (0..self.runners.len()).rev() {
            let runner = &mut self.runners[at];
            let server = &self.servers[runner.server];
            if runner.expires <= now {
                expired = true;
                self.marks[runner.server].running -= 1;
                self.error = Error::Timeout { server: server.address(), after: now - runner.started };
                self.runners.swap_remove(at);
            } else if runner.suspect_at.is_some_and(|at| at <= now) {
                if std::mem::replace(&mut runner.suspected, true) {
                    runner.suspect_at = None;
                    server.pool.bury(server);
                } else {
                    runner.suspect_at =
                        (runner.transport != Transport::Udp).then(|| now + server.suspicion(runner.transport));
                    silent |= server.may_have_lost(runner.transport, runner.started);
                    server.is_late(runner.transport, (self.asked, runner.started), Cause::Silent);
                }
            }
        }
        let (hedge, slow) = self.timing.take(now);
        let due = [(expired, Why::Needed), (silent, Why::Silent), (slow, Why::Slow)];
        let begun = due.into_iter().any(|(is_due, why)| is_due && self.start(now, why));
        if hedge && !begun && self.runners.len() == 1 {
            self.start(now, Why::Hedge);
        }
    }
}

impl Drop for Race<'_> {
    fn drop(&mut self) {
        if let Some(index) = self.hedged {
            self.servers[index].stats.hedges[1].add(1);
        }
    }
}
