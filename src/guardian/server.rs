//! A server as its guardian has it: the process, the control socket, and what is known of both.

use super::control::{self, Order, Report, State};
use super::ending::{Reason, oom_kills};
use super::{Bound, Job};
use crate::sys::clock::{Moment, cpu_time};
use crate::sys::spawn::{Child, Ending, Spawn};
use rustix::process::Signal;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// CPU time between two looks that shows a server at work, above what its housekeeping takes.
const WORK: Duration = Duration::from_millis(1);

/// How long a death is waited for at the end.
const DEATH: Duration = Duration::from_secs(1);
/// How often it is looked for.
const LOOK: Duration = Duration::from_millis(5);

/// How often it is believed that kube-dns has moved; one that is sound looks every ten seconds.
const MOVES: Duration = Duration::from_millis(500);

/// A server, from its start to its end.
pub(super) struct Server {
    child: Child,
    control: UnixDatagram,
    told: Option<State>,
    moved: Option<Moment>,
    cpu: Duration,
    oom_kills: Option<u64>,
    hung: bool,
    silent: bool,
}

impl Server {
    /// Starts one of `program`, which was this process's own when it began. With `since`, another instance is about to save
    /// its cache.
    pub(super) fn start(program: &Path, job: &Job, bound: &Bound, since: Option<SystemTime>) -> io::Result<Server> {
        let (ours, theirs) = control::pair()?;
        ours.set_nonblocking(true)?;
        let mut sockets = vec![theirs.as_fd(), job.text.as_fd()];
        sockets.extend(bound.dns.iter().map(|(fd, _)| fd).chain(&bound.http).map(AsFd::as_fd));
        let mut arguments = job.arguments.clone();
        arguments.extend(["--supervised".into(), sockets.len().to_string().into()]);
        if let Some(since) = since {
            let since = since.duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
            arguments.extend(["--saved-since".into(), since.to_string().into()]);
        }
        // Should the file have been replaced or removed, it is still this very program that is meant.
        let program = if is_running(program) { program.to_owned() } else { PathBuf::from("/proc/self/exe") };
        let child = Spawn { program: &program, arguments: &arguments, sockets: &sockets }.start()?;
        Ok(Server {
            child,
            control: ours,
            told: None,
            moved: None,
            cpu: Duration::ZERO,
            oom_kills: oom_kills(),
            hung: false,
            silent: false,
        })
    }

    /// Its process id.
    pub(super) fn pid(&self) -> i32 {
        self.child.pid().as_raw_nonzero().get()
    }

    /// What becomes readable when it says something, or ends. Its death may take long, and the end of what it says would
    /// be there to be read all the while.
    pub(super) fn waits(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        let control = (!self.silent).then(|| self.control.as_fd());
        control.into_iter().chain([self.child.as_fd()])
    }

    /// Sends an order; one that finds the server's queue full is lost.
    pub(super) fn send(&self, order: &Order) -> bool {
        control::pack(order).and_then(|packet| self.control.send(&packet)).is_ok()
    }

    /// Tells it how things stand, unless it knows.
    pub(super) fn tell(&mut self, state: State) {
        if self.told.as_ref() != Some(&state) && self.send(&Order::State(Box::new(state.clone()))) {
            self.told = Some(state);
        }
    }

    /// What it says next, if anything.
    pub(super) fn hear(&mut self) -> Option<io::Result<Report>> {
        let mut room = [0; control::LONGEST];
        match self.control.recv(&mut room) {
            Ok(0) => {
                // It ends, or it should: nothing could be said to it any more.
                self.silent = true;
                self.signal(Signal::KILL);
                None
            }
            Ok(len) => Some(control::unpack(&room[..len])),
            Err(_) => None,
        }
    }

    /// May it say at `now` that kube-dns is elsewhere? Each time the fallback is written anew.
    pub(super) fn may_move(&mut self, now: Moment) -> bool {
        let may = self.moved.is_none_or(|last| now.since(last) >= MOVES);
        if may {
            self.moved = Some(now);
        }
        may
    }

    /// Sends a signal.
    pub(super) fn signal(&self, signal: Signal) {
        // In vain if it has ended, which is noticed elsewhere.
        let _ = self.child.kill(signal);
    }

    /// Kills it, for it hangs.
    pub(super) fn kill(&mut self) {
        self.hung = true;
        self.signal(Signal::KILL);
    }

    /// Was it killed? Then it reads nothing any more, however long its death takes.
    pub(super) fn is_killed(&self) -> bool {
        self.hung
    }

    /// Kills it and waits for its end, but not for long: a disk that hangs keeps it from ending.
    pub(super) fn end(mut self) {
        self.signal(Signal::KILL);
        let latest = Moment::now() + DEATH;
        while matches!(self.child.try_wait(), Ok(None)) && Moment::now() < latest {
            std::thread::sleep(LOOK);
        }
    }

    /// Has it ended? Then how, and why.
    pub(super) fn ending(&mut self) -> io::Result<Option<(Ending, Reason)>> {
        let Some(ending) = self.child.try_wait()? else { return Ok(None) };
        let oom = self.oom_kills.is_some_and(|before| oom_kills().is_some_and(|now| now > before));
        Ok(Some((ending, Reason::of(ending, self.hung, oom))))
    }

    /// Has it used CPU time since it was asked last?
    pub(super) fn works(&mut self) -> bool {
        let now = cpu_time(self.child.pid()).unwrap_or_default();
        now.saturating_sub(std::mem::replace(&mut self.cpu, now)) >= WORK
    }
}

/// Is the file at `path` the one that this process runs?
fn is_running(path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    let id = |path: &Path| std::fs::metadata(path).map(|file| (file.dev(), file.ino()));
    matches!((id(path), id(Path::new("/proc/self/exe"))), (Ok(a), Ok(b)) if a == b)
}
