//! The guardian's loop: one thread that waits for signals, the server, probes and the kernel's notifications, and does
//! what [`Duty`] decides.
//!
//! A stop goes in this order. With a successor that serves: our sockets leave their groups, what was queued is answered,
//! and only then our rules go; the successor's are the same, and nobody notices. While one is starting, we wait for it.
//! Alone: the rules go first, so that new packets find kube-dns, then what was queued is answered.

use super::control::{self, Order, Report, State};
use super::duty::{Action, Duty};
use super::ending::{Reason, oom_kills};
use super::instances::{Instance, Other, Stage};
use super::probe::Round;
use super::{Bound, Error, Job};
use crate::network::host::{Host, Status};
use crate::observe::limit::RateLimit;
use crate::sys::clock::{Moment, cpu_time};
use crate::sys::signal::Signals;
use crate::sys::spawn::{Child, Spawn};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::Signal;
use std::collections::BTreeMap;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::time::Duration;

/// How often probes begin.
const ROUND: Duration = Duration::from_millis(250);
/// A round that is looked at this much too late says nothing: it was us who did not run.
const LATE: Duration = Duration::from_millis(200);
/// CPU time in a round that shows a server at work, above what its housekeeping takes.
const WORK: Duration = Duration::from_millis(1);
/// How long after the kernel's notification things are put right: changes come in groups.
const SETTLE: Duration = Duration::from_millis(20);
/// The same, when something had to be put right within the last second: somebody insists.
const INSIST: Duration = Duration::from_millis(250);
/// How often things are looked at without being notified.
const LOOK: Duration = Duration::from_secs(5);
/// How long a stop waits for a successor that is starting.
const SUCCESSOR: Duration = Duration::from_secs(10);
/// How often it looks.
const GLANCE: Duration = Duration::from_millis(50);
/// How long a server may take to answer what it owes: its own limit, and some more.
const DRAIN: Duration = Duration::from_secs(7);

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
    repaired: Option<Moment>,
    stop: Stop,
    for_good: bool,
    restarts: BTreeMap<String, u64>,
    /// What made us stop.
    failure: Option<Error>,
}

/// A server and what the guardian knows of it.
struct Server {
    child: Child,
    control: UnixDatagram,
    told: Option<State>,
    cpu: Duration,
    oom_kills: Option<u64>,
    hung: bool,
}

/// How far a stop is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Stop {
    Not,
    /// For a successor, until then.
    Waiting(Moment),
    /// For what is owed, until then.
    Draining(Moment),
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
            self.probe(now);
            self.look(now);
            if self.go_on_stopping(now) {
                break;
            }
            if self.stop == Stop::Not || matches!(self.stop, Stop::Waiting(_)) {
                self.act(now);
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
        let mut until = self.next_look;
        match self.stop {
            Stop::Not => {}
            Stop::Waiting(end) => until = until.min(end).min(now + GLANCE),
            Stop::Draining(end) => until = until.min(end),
        }
        until = until.min(self.duty.deadline().unwrap_or(until));
        match &self.round {
            Some((begun, _)) => until = until.min(*begun + ROUND),
            None if self.duty.probing() => until = until.min(self.next_round),
            None => {}
        }
        let mut fds = vec![readable(self.signals.as_fd())];
        if let Some(server) = &self.server {
            fds.extend([readable(server.control.as_fd()), readable(server.child.as_fd())]);
        }
        fds.extend(self.host.events().iter().map(|events| readable(events.as_fd())));
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

    fn hear_signals(&mut self) {
        while let Some(signal) = self.signals.read() {
            match signal {
                Signal::HUP => {
                    if let Some(server) = &self.server {
                        let _ = server.child.kill(Signal::HUP);
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

    /// Begins a stop, or, asked again, ends it at once.
    fn begin_stop(&mut self) {
        let now = Moment::now();
        match self.stop {
            Stop::Not => {
                let others = self.others();
                let serves = others.iter().any(|other| other.stage == Stage::Serving);
                let starts = others.iter().any(|other| other.stage == Stage::Starting);
                if starts && !serves && !self.for_good && self.duty.captured() {
                    tracing::info!("stopping as soon as the instance that is starting serves");
                    self.stop = Stop::Waiting(now + SUCCESSOR);
                } else {
                    self.drain(now);
                }
            }
            Stop::Waiting(_) => self.drain(now),
            Stop::Draining(_) => {
                tracing::warn!("stopping at once, as asked");
                self.stop = Stop::Draining(now);
            }
        }
    }

    fn drain(&mut self, now: Moment) {
        let successor = self.another_serves();
        tracing::info!(successor, "stopping: answering what has arrived");
        self.host.hurry();
        self.announce(Stage::Leaving);
        if !successor {
            // Nobody else answers here: from now on kube-dns does.
            self.host.release(false);
        }
        self.stop = Stop::Draining(now + DRAIN);
        self.round = None;
        if let Some(server) = &self.server {
            server.send(&Order::Stop);
        }
    }

    /// Is the stop complete?
    fn go_on_stopping(&mut self, now: Moment) -> bool {
        match self.stop {
            Stop::Not => false,
            Stop::Waiting(until) => {
                if now >= until || self.another_serves() {
                    self.drain(now);
                }
                false
            }
            Stop::Draining(until) => {
                if now >= until
                    && let Some(mut server) = self.server.take()
                {
                    tracing::warn!("the server has not answered all in time: killed");
                    let _ = server.child.kill(Signal::KILL);
                    let _ = server.child.wait();
                }
                self.server.is_none()
            }
        }
    }

    /// Reads what the server says, and notices its end.
    fn hear_server(&mut self) {
        let mut room = [0; control::LONGEST];
        while let Some(server) = &self.server {
            match server.control.recv(&mut room) {
                Ok(0) => {
                    // It ends, or it should: nothing could be said to it any more.
                    let _ = server.child.kill(Signal::KILL);
                    break;
                }
                Err(_) => break,
                Ok(len) => match control::unpack(&room[..len]) {
                    Ok(Report::Ready) => self.open(),
                    Ok(Report::Serving) => {
                        self.duty.serving();
                        self.next_round = Moment::now();
                    }
                    Ok(Report::Endpoints(endpoints)) => {
                        let leads = self.leads();
                        self.host.fall_back_to(&endpoints, leads);
                    }
                    Err(error) => {
                        static LINE: RateLimit = RateLimit::new(Duration::from_secs(10));
                        if let Some(suppressed) = LINE.allow(Moment::now()) {
                            tracing::warn!(%error, suppressed, "the server says what cannot be understood");
                        }
                    }
                },
            }
        }
        let Some(server) = &mut self.server else { return };
        let ending = match server.child.try_wait() {
            Ok(None) => return,
            Ok(Some(ending)) => ending,
            Err(error) => {
                tracing::error!(%error, "cannot tell whether the server lives");
                return;
            }
        };
        let oom = server.oom_kills.is_some_and(|before| oom_kills().is_some_and(|now| now > before));
        let reason = Reason::of(ending, server.hung, oom);
        self.server = None;
        self.round = None;
        if self.stop != Stop::Not && !matches!(self.stop, Stop::Waiting(_)) {
            return;
        }
        *self.restarts.entry(reason.name().to_owned()).or_default() += 1;
        tracing::error!(reason = reason.name(), %ending, "the server has ended; its sockets are kept for the next");
        self.duty.ended(Moment::now());
        if self.another_serves() {
            self.make_room();
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

    /// Leaves all packets to the instance that serves. What is queued here is lost: better that than half of what is to
    /// come.
    fn make_room(&mut self) {
        if !self.bound.open {
            return;
        }
        match (self.job.bind)(self.host.skipped(), false) {
            Ok(bound) => std::mem::replace(&mut self.bound, bound).leave(),
            Err(error) => self.fail(Error::Bind(error)),
        }
    }

    /// Stops for want of sockets.
    fn fail(&mut self, error: Error) {
        tracing::error!(%error, "cannot go on");
        self.failure = Some(error);
        self.begin_stop();
    }

    fn another_serves(&self) -> bool {
        self.others().iter().any(|other| other.stage == Stage::Serving)
    }

    /// Goes on with a round of probes, or begins one.
    fn probe(&mut self, now: Moment) {
        if !self.duty.probing() || matches!(self.stop, Stop::Draining(_)) {
            self.round = None;
            return;
        }
        if let Some((begun, round)) = &mut self.round {
            round.advance();
            let over = now.since(*begun);
            let verdict = match round.verdict() {
                Some(verdict) => Some(verdict),
                None if over >= ROUND + LATE => None,
                None if over >= ROUND => Some(false),
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
            self.next_look = self.next_look.min(now + if insists { INSIST } else { SETTLE });
        }
        if now >= self.next_look && !matches!(self.stop, Stop::Draining(_)) {
            self.next_look = now + LOOK;
            let leads = self.leads();
            if self.host.repair(leads) {
                self.repaired = Some(now);
            }
        }
    }

    fn act(&mut self, now: Moment) {
        for action in self.duty.due(now) {
            match action {
                Action::Start => self.start(now),
                Action::Kill => self.kill(),
                Action::Capture => {
                    self.host.capture();
                    self.announce(Stage::Serving);
                }
                Action::Release => {
                    tracing::warn!("the server does not answer: packets go to kube-dns");
                    self.announce(Stage::Starting);
                    let another = self.another_serves();
                    self.host.release(another);
                    if another && self.server.is_some() {
                        // The rules of the other still lead half of the packets to our sockets.
                        self.kill();
                    }
                }
            }
        }
    }

    fn kill(&mut self) {
        if let Some(server) = &mut self.server {
            tracing::error!("the server answers nobody: killed");
            server.hung = true;
            let _ = server.child.kill(Signal::KILL);
        }
    }

    fn start(&mut self, now: Moment) {
        match self.spawn() {
            Ok(server) => {
                tracing::info!(pid = server.child.pid().as_raw_nonzero().get(), "server started");
                self.server = Some(server);
                self.duty.started(now);
            }
            Err(error) => {
                tracing::error!(%error, "cannot start a server");
                self.duty.ended(now);
            }
        }
    }

    fn spawn(&self) -> std::io::Result<Server> {
        let (ours, theirs) = control::pair()?;
        ours.set_nonblocking(true)?;
        let mut sockets = vec![theirs.as_fd(), self.job.text.as_fd()];
        sockets.extend(self.bound.dns.iter().map(|(fd, _)| fd).chain(&self.bound.http).map(AsFd::as_fd));
        let mut arguments = self.job.arguments.clone();
        arguments.extend(["--supervised".into(), sockets.len().to_string().into()]);
        // Should the file have been replaced or removed, it is still this very program that is meant.
        let program = if same_file(&self.program) { self.program.clone() } else { PathBuf::from("/proc/self/exe") };
        let child = Spawn { program: &program, arguments: &arguments, sockets: &sockets }.start()?;
        Ok(Server { child, control: ours, told: None, cpu: Duration::ZERO, oom_kills: oom_kills(), hung: false })
    }

    /// Tells the server how things stand, if that has changed.
    fn tell(&mut self) {
        let Some(server) = &mut self.server else { return };
        let state = state(self.host.status(), &self.restarts);
        if server.told.as_ref() != Some(&state) && server.send(&Order::State(Box::new(state.clone()))) {
            server.told = Some(state);
        }
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

impl Server {
    /// Sends an order; one that finds the server's queue full is lost.
    fn send(&self, order: &Order) -> bool {
        control::pack(order).and_then(|packet| self.control.send(&packet)).is_ok()
    }

    /// Has it used CPU time since it was asked last?
    fn works(&mut self) -> bool {
        let now = cpu_time(self.child.pid()).unwrap_or_default();
        now.saturating_sub(std::mem::replace(&mut self.cpu, now)) >= WORK
    }
}

/// What the server is told.
fn state(status: &Status, restarts: &BTreeMap<String, u64>) -> State {
    let Status { interface, interface_up, firewall, notrack, problem, endpoints, dropping, repairs, setup_errors } =
        status.clone();
    let restarts = restarts.clone();
    State { interface, interface_up, firewall, notrack, problem, endpoints, dropping, repairs, restarts, setup_errors }
}

/// Is the file at `path` the one that this process runs?
fn same_file(path: &std::path::Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    let id = |path: &std::path::Path| std::fs::metadata(path).map(|file| (file.dev(), file.ino()));
    matches!((id(path), id(std::path::Path::new("/proc/self/exe"))), (Ok(a), Ok(b)) if a == b)
}

fn readable(fd: BorrowedFd<'_>) -> PollFd<'_> {
    PollFd::from_borrowed_fd(fd, PollFlags::IN)
}
