//! The guardian's loop: one thread that waits for signals, the server, probes and the kernel's notifications, and does
//! what [`Duty`] decides. How it ends is in `stop`.
//!
//! Whoever starts a server while another instance serves calls that one, whose server saves its cache then; the new server
//! waits for the file, but not for long, and loads it before it says that it is ready.

mod stop;

use super::control::{Order, Report, State};
use super::duty::{Action, Duty};
use super::ending::Reason;
use super::instances::{Instance, Other, Stage};
use super::probe::Round;
use super::server::Server;
use super::{Bound, Error, Job};
use crate::network::host::Host;
use crate::observe::limit::RateLimit;
use crate::sys::clock::Moment;
use crate::sys::signal::Signals;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::Signal;
use std::collections::BTreeMap;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::PathBuf;
use std::time::{Duration, SystemTime};
use stop::Stop;

/// How often probes begin.
const ROUND: Duration = Duration::from_millis(250);
/// How long its answers are waited for: three rounds in a row fail within a second.
const PATIENCE: Duration = Duration::from_millis(200);
/// A round that is looked at this much too late says nothing: it was us who did not run.
const LATE: Duration = Duration::from_millis(200);
/// What is read of a server's reports before other things have their turn: it may have been taken over.
const REPORTS: usize = 16;
/// How long after the kernel's notification things are put right: changes come in groups.
const SETTLE: Duration = Duration::from_millis(20);
/// The same, when something had to be put right within the last second: somebody insists.
const INSIST: Duration = Duration::from_millis(250);
/// After a look, things are left alone for so many times as long as it took: others may write all the time, and there may
/// be a great deal to read.
const REST: u32 = 10;
/// How often things are looked at without being notified.
const LOOK: Duration = Duration::from_secs(5);
/// How often other instances are heard, at most: each time the whole cache may have to be written.
const HEAR: Duration = Duration::from_secs(1);
/// How often a stop looks for its successor.
const GLANCE: Duration = Duration::from_millis(50);

/// Everything that the loop holds.
pub(super) struct Watch {
    program: PathBuf,
    job: Job,
    signals: Signals,
    instance: Instance,
    host: Host,
    bound: Bound,
    duty: Duty,
    server: Option<Server>,
    round: Option<(Moment, Round)>,
    next_round: Moment,
    next_look: Moment,
    next_call: Moment,
    rested: Moment,
    repaired: Option<Moment>,
    stop: Stop,
    for_good: bool,
    restarts: BTreeMap<String, u64>,
    /// What made us stop.
    failure: Option<Error>,
}

impl Watch {
    pub(super) fn new(job: Job, signals: Signals, instance: Instance, host: Host, bound: Bound) -> Watch {
        let now = Moment::now();
        Watch {
            program: std::env::current_exe().unwrap_or_default(),
            job,
            signals,
            instance,
            host,
            bound,
            duty: Duty::new(now),
            server: None,
            round: None,
            next_round: now,
            next_look: now + LOOK,
            next_call: now,
            rested: now,
            repaired: None,
            stop: Stop::Not,
            for_good: false,
            restarts: Reason::ALL.iter().map(|reason| (reason.name().to_owned(), 0)).collect(),
            failure: None,
        }
    }

    /// Watches until a stop is complete.
    pub(super) fn run(mut self) -> Result<(), Error> {
        loop {
            self.wait();
            self.hear_signals();
            self.hear_server();
            let now = Moment::now();
            self.hear_others(now);
            self.probe(now);
            self.look(now);
            if self.go_on_stopping(now) {
                break;
            }
            if !self.is_leaving() {
                self.act(now);
                self.give_way();
            }
            self.tell();
        }
        let last = self.others().iter().all(|other| other.stage == Stage::Leaving);
        self.host.leave(last, self.for_good);
        tracing::info!("stopped");
        self.failure.map_or(Ok(()), Err)
    }

    /// Waits until there is something to do.
    fn wait(&self) {
        let now = Moment::now();
        let until = self.deadline(now);
        let mut fds = vec![readable(self.signals.as_fd())];
        if let Some(server) = &self.server {
            fds.extend(server.waits().map(readable));
        }
        if now >= self.next_call {
            fds.push(readable(self.instance.calls()));
        }
        fds.extend(self.host.events().map(|events| readable(events.as_fd())));
        for (fd, write) in self.round.iter().flat_map(|(_, round)| round.waits()) {
            fds.push(PollFd::from_borrowed_fd(fd, if write { PollFlags::OUT } else { PollFlags::IN }));
        }
        // Rounded up, or the last millisecond would be spent awake.
        let timeout = until.since(now) + Duration::from_micros(999);
        let timeout = rustix::event::Timespec {
            tv_sec: i64::try_from(timeout.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: i64::from(timeout.subsec_nanos()),
        };
        match poll(&mut fds, Some(&timeout)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            // Short of memory or descriptors: nothing here depends on being woken in time.
            Err(error) => {
                static LINE: RateLimit = RateLimit::new(Duration::from_secs(10));
                if let Some(suppressed) = LINE.allow(now) {
                    tracing::error!(%error, suppressed, "cannot wait for events, looking now and then");
                }
                std::thread::sleep(SETTLE);
            }
        }
    }

    /// When there is something to do even if nothing happens.
    fn deadline(&self, now: Moment) -> Moment {
        let mut until = match self.stop {
            Stop::Not => self.next_look,
            Stop::Waiting(end) => self.next_look.min(end).min(now + GLANCE),
            // Nothing else is looked after any more.
            Stop::Draining { until, successor: true } => return until.min(now + GLANCE),
            Stop::Parting(end) | Stop::Draining { until: end, .. } => return end,
        };
        until = until.min(self.duty.deadline().unwrap_or(until));
        if self.is_idle() {
            until = until.min(now + ROUND);
        }
        match &self.round {
            Some((begun, _)) => until.min(*begun + PATIENCE),
            None if self.duty.probing() => until.min(self.next_round),
            None => until,
        }
    }

    fn hear_signals(&mut self) {
        while let Some(signal) = self.signals.read() {
            match signal {
                Signal::HUP | Signal::USR1 | Signal::USR2 => {
                    if let Some(server) = &self.server {
                        server.signal(signal);
                    }
                }
                Signal::QUIT => {
                    self.for_good = true;
                    self.begin_stop();
                }
                _ => self.begin_stop(),
            }
        }
    }

    /// Reads what the server says, and notices its end.
    fn hear_server(&mut self) {
        for _ in 0..REPORTS {
            let Some(report) = self.server.as_mut().and_then(Server::hear) else { break };
            match report {
                Ok(Report::Ready) => self.open(),
                Ok(Report::Serving) => {
                    self.duty.serving();
                    (self.job.serving)();
                    self.next_round = Moment::now();
                }
                Ok(Report::Endpoints(endpoints)) => {
                    if self.server.as_mut().is_some_and(|server| server.may_move(Moment::now())) {
                        let leads = self.leads();
                        self.host.fall_back_to(&endpoints, leads);
                    }
                }
                Err(error) => {
                    static LINE: RateLimit = RateLimit::new(Duration::from_secs(10));
                    if let Some(suppressed) = LINE.allow(Moment::now()) {
                        tracing::warn!(%error, suppressed, "the server says what cannot be understood");
                    }
                }
            }
        }
        let Some(server) = &mut self.server else { return };
        let (ending, reason) = match server.ending() {
            Ok(None) => return,
            Ok(Some(ended)) => ended,
            Err(error) => {
                tracing::error!(%error, "cannot tell whether the server lives");
                return;
            }
        };
        self.server = None;
        self.round = None;
        if self.is_leaving() {
            return;
        }
        *self.restarts.entry(reason.name().to_owned()).or_default() += 1;
        tracing::error!(reason = reason.name(), %ending, "the server has ended; its sockets are kept for the next");
        self.duty.ended(Moment::now());
        if self.another_serves() {
            self.make_room();
        }
    }

    /// Has the server save its cache for another instance that calls because it is about to start one.
    fn hear_others(&mut self, now: Moment) {
        if now >= self.next_call && self.instance.was_called() {
            self.next_call = now + HEAR;
            let starting = self.others().iter().any(|other| other.stage == Stage::Starting);
            if let Some(server) = self.server.as_ref().filter(|_| starting) {
                server.send(&Order::Save);
            }
        }
    }

    /// Opens the sockets, once there is somebody to read them.
    fn open(&mut self) {
        match self.bound.open() {
            Ok(()) => {
                if let Some(server) = &self.server {
                    server.send(&Order::Open);
                }
            }
            Err(error) => self.fail(error),
        }
    }

    /// Is there nobody to read our sockets, and nothing captured?
    fn is_idle(&self) -> bool {
        self.server.as_ref().is_none_or(Server::is_killed) && !self.duty.captured()
    }

    /// Stands in nobody's way when there is no server. Another instance could not even begin to serve while our sockets
    /// are open: half of its probes would come to us. And one that serves needs nobody who takes its probes of HTTP.
    fn give_way(&mut self) {
        if !self.is_idle() {
            return;
        }
        let others = self.others();
        if self.duty.is_hopeless() && others.iter().any(|other| other.stage == Stage::Serving) {
            self.fail(Error::Superfluous);
        } else if others.iter().any(|other| other.stage != Stage::Leaving) {
            self.make_room();
        }
    }

    /// Leaves all packets to the instance that serves. What is queued here is lost: better that than half of what is to
    /// come.
    fn make_room(&mut self) {
        if self.bound.open
            && let Err(error) = self.bound.close()
        {
            self.fail(error);
        }
    }

    fn another_serves(&self) -> bool {
        self.others().iter().any(|other| other.stage == Stage::Serving)
    }

    /// Goes on with a round of probes, or begins one.
    fn probe(&mut self, now: Moment) {
        if !self.duty.probing() || self.is_leaving() {
            self.round = None;
            return;
        }
        if let Some((begun, round)) = &mut self.round {
            round.advance();
            let over = now.since(*begun);
            let verdict = match round.verdict() {
                Some(verdict) => Some(verdict),
                None if over >= PATIENCE + LATE => None,
                None if over >= PATIENCE => Some(false),
                None => return,
            };
            let works = self.server.as_mut().is_some_and(Server::works);
            self.next_round = *begun + ROUND;
            self.round = None;
            if let Some(answered) = verdict {
                self.duty.round(now, answered, works);
            }
        }
        if self.round.is_none() && now >= self.next_round {
            self.round = Some((now, Round::start(&self.bound.listeners)));
        }
    }

    /// Puts right what others have changed.
    fn look(&mut self, now: Moment) {
        if self.host.notified() {
            let insists = self.repaired.is_some_and(|at| now.since(at) < Duration::from_secs(1));
            let soon = now + if insists { INSIST } else { SETTLE };
            self.next_look = self.next_look.min(soon.max(self.rested));
        }
        if now >= self.next_look && !self.is_leaving() {
            self.next_look = now + LOOK;
            let captured = self.duty.captured();
            if !self.host.is_settled(captured) && !self.turn(captured) {
                return;
            }
            let leads = self.leads();
            let begin = Moment::now();
            if self.host.repair(leads) {
                self.repaired = Some(now);
            }
            let end = Moment::now();
            self.rested = end + end.since(begin) * REST;
        }
    }

    /// Has packets come here, or leaves them to kube-dns; says whether that was done. If not it is tried again, but not
    /// before other things have had their turn: it may take long.
    fn turn(&mut self, captured: bool) -> bool {
        if captured {
            self.host.capture()
        } else {
            self.host.release(self.another_serves())
        }
        let done = self.host.is_settled(captured);
        if !done {
            self.next_look = Moment::now() + INSIST;
        }
        done
    }

    fn act(&mut self, now: Moment) {
        for action in self.duty.due(now) {
            match action {
                Action::Start => self.start(now),
                Action::Kill => self.kill(),
                Action::Capture => {
                    self.turn(true);
                    self.announce(Stage::Serving);
                }
                Action::Release => {
                    tracing::warn!("the server does not answer: packets go to kube-dns");
                    self.announce(Stage::Starting);
                    // Those that still come here, half of them by the rules of another instance, or all as ours could not be
                    // taken away, are to find somebody soon.
                    if !self.turn(false) || self.another_serves() {
                        self.kill();
                    }
                }
            }
        }
    }

    fn kill(&mut self) {
        if let Some(server) = &mut self.server {
            tracing::error!("the server answers no probes from 127.116.20.10 and ::1: killed");
            server.kill();
        }
    }

    /// Starts a server; another instance that serves saves its cache meanwhile.
    fn start(&mut self, now: Moment) {
        let serving = self.others().into_iter().filter(|other| other.stage == Stage::Serving).collect::<Vec<_>>();
        let since = (!serving.is_empty()).then(SystemTime::now);
        match Server::start(&self.program, &self.job, &self.bound, since) {
            Ok(server) => {
                serving.iter().for_each(|other| self.instance.call(other));
                tracing::info!(pid = server.pid(), "server started");
                self.server = Some(server);
                self.duty.started(now);
            }
            Err(error) => {
                tracing::error!(%error, "cannot start a server");
                self.duty.ended(now);
            }
        }
    }

    /// Tells the server how things stand, if that has changed.
    fn tell(&mut self) {
        let Some(server) = &mut self.server else { return };
        server.tell(State { network: self.host.status().clone(), restarts: self.restarts.clone() });
    }

    fn announce(&mut self, stage: Stage) {
        if let Err(error) = self.instance.set(stage) {
            tracing::warn!(%error, "cannot tell other instances how far this one is");
        }
    }

    fn others(&self) -> Vec<Other> {
        self.instance.others().unwrap_or_else(|error| {
            tracing::warn!(%error, "cannot see other instances");
            Vec::new()
        })
    }

    fn leads(&self) -> bool {
        self.instance.leads(&self.others())
    }
}

fn readable(fd: BorrowedFd<'_>) -> PollFd<'_> {
    PollFd::from_borrowed_fd(fd, PollFlags::IN)
}
