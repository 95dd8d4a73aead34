//! What the guardian decides, as a machine without I/O: when packets are captured, when they are left to kube-dns, when
//! the server is replaced.
//!
//! A dead server is replaced at once and capturing goes on for a moment: the sockets are the guardian's, so what arrives
//! meanwhile is queued, and a server that starts within `SPARE` answers it. A server that does not answer loses its
//! packets first, which costs it nothing, and its life later, which costs the cache: soon when it does not even use CPU
//! time (stopped, deadlocked), late when it does (starved, swapping). Servers that end soon after their start are
//! started again more and more slowly; kube-dns answers all the while.

use crate::sys::clock::Moment;
use std::time::Duration;

/// Rounds of probes in a row that fail before packets are left to kube-dns.
pub const FAILURES: u32 = 3;
/// Rounds in a row that are answered before packets come here again. One may be by chance: each asks some of the workers,
/// and not one that is stuck.
const SUCCESSES: u32 = 4;
/// How long capturing goes on without a server.
const SPARE: Duration = Duration::from_millis(500);
/// How long a server that neither answers nor works is kept.
const HUNG: Duration = Duration::from_millis(1_750);
/// How long a server that does not answer is kept while it uses CPU time, and how long one may take to start.
const SLOW: Duration = Duration::from_secs(10);
/// A server that ran for less has ended early.
const EARLY: Duration = Duration::from_secs(10);
/// So many of them in a row, and one may as well give up.
const HOPELESS: u32 = 4;
/// The wait before the third of servers that ended early; doubled from one to the next.
const FIRST_WAIT: Duration = Duration::from_millis(100);
/// The longest wait.
const LONGEST_WAIT: Duration = Duration::from_secs(10);

/// What is to be done now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Start a server.
    Start,
    /// Kill the server: it hangs.
    Kill,
    /// Have packets come to our sockets.
    Capture,
    /// Leave packets to kube-dns.
    Release,
}

/// The machine.
#[derive(Debug)]
pub struct Duty {
    server: Server,
    captured: bool,
    early_ends: u32,
}

/// What is known of the server.
#[derive(Clone, Copy, Debug)]
enum Server {
    /// There is none; one is due at this time. It went at the other, if there was one.
    Gone { due: Moment, since: Option<Moment> },
    /// It has not answered yet; the one before it went at `since`, if there was one.
    Starting { start: Moment, serving: bool, since: Option<Moment> },
    /// It has answered, and could be relied on last at `good`; `alive` is when it was last seen at work. Counted are rounds
    /// in a row that failed, up to [`FAILURES`], and those answered since.
    Running { start: Moment, good: Moment, alive: Moment, failures: u32, successes: u32 },
    /// It is to die.
    Killed { start: Moment },
}

impl Duty {
    /// On duty from `now` on, without a server.
    pub fn new(now: Moment) -> Duty {
        Duty { server: Server::Gone { due: now, since: None }, captured: false, early_ends: 0 }
    }

    /// Do packets come to our sockets, as far as it was asked for here?
    pub fn captured(&self) -> bool {
        self.captured
    }

    /// Does no server stay alive?
    pub fn is_hopeless(&self) -> bool {
        self.early_ends >= HOPELESS
    }

    /// Is there any use in probing?
    pub fn probing(&self) -> bool {
        matches!(self.server, Server::Starting { serving: true, .. } | Server::Running { .. })
    }

    /// A server was started.
    pub fn started(&mut self, now: Moment) {
        let since = match self.server {
            Server::Gone { since, .. } => since,
            _ => None,
        };
        self.server = Server::Starting { start: now, serving: false, since };
    }

    /// The server says that it runs.
    pub fn serving(&mut self) {
        if let Server::Starting { serving, .. } = &mut self.server {
            *serving = true;
        }
    }

    /// The server has ended, or could not be started.
    pub fn ended(&mut self, now: Moment) {
        let (start, since) = match self.server {
            Server::Gone { since, .. } => (now, since.or(Some(now))),
            Server::Starting { start, since, .. } => (start, since.or(Some(now))),
            Server::Running { start, .. } | Server::Killed { start } => (start, Some(now)),
        };
        self.early_ends = if now.since(start) < EARLY { self.early_ends + 1 } else { 0 };
        let doublings = self.early_ends.saturating_sub(2).min(10);
        let wait = if self.early_ends < 2 { Duration::ZERO } else { FIRST_WAIT * 2u32.pow(doublings) };
        self.server = Server::Gone { due: now + wait.min(LONGEST_WAIT), since };
    }

    /// A round of probes has ended: did everything answer? `works` tells whether the server has used CPU time since
    /// the round before.
    pub fn round(&mut self, now: Moment, answered: bool, works: bool) {
        match &mut self.server {
            Server::Starting { start, serving: true, .. } if answered => {
                self.server = Server::Running { start: *start, good: now, alive: now, failures: 0, successes: 0 };
            }
            Server::Running { good, alive, failures, successes, .. } => {
                *successes = if answered { *successes + 1 } else { 0 };
                if !answered {
                    *failures = FAILURES.min(*failures + 1);
                } else if *failures < FAILURES || *successes >= SUCCESSES {
                    (*failures, *good) = (0, now);
                }
                if works || answered {
                    *alive = now;
                }
            }
            _ => {}
        }
    }

    /// What is to be done at `now`. Each action is given once; that it was done is taken for granted, but for
    /// [`Action::Start`], which [`Duty::started`] or [`Duty::ended`] answers.
    pub fn due(&mut self, now: Moment) -> Vec<Action> {
        let mut actions = Vec::new();
        let capture = match self.server {
            Server::Running { failures, .. } => failures < FAILURES,
            Server::Gone { since, .. } | Server::Starting { since, .. } => {
                self.captured && since.is_some_and(|since| now.since(since) < SPARE)
            }
            Server::Killed { .. } => false,
        };
        if capture != self.captured {
            self.captured = capture;
            actions.push(if capture { Action::Capture } else { Action::Release });
        }
        match self.server {
            Server::Gone { due, .. } if now >= due => actions.push(Action::Start),
            Server::Starting { start, .. } if now.since(start) >= SLOW => self.kill(start, &mut actions),
            Server::Running { start, good, alive, failures, .. }
                if failures >= FAILURES && (now.since(alive) >= HUNG || now.since(good) >= SLOW) =>
            {
                self.kill(start, &mut actions);
            }
            _ => {}
        }
        actions
    }

    fn kill(&mut self, start: Moment, actions: &mut Vec<Action>) {
        self.server = Server::Killed { start };
        actions.push(Action::Kill);
    }

    /// When to ask [`Duty::due`] again at the latest, whatever happens; probes come on top.
    pub fn deadline(&self) -> Option<Moment> {
        match self.server {
            Server::Gone { due, since } => {
                Some(since.filter(|_| self.captured).map_or(due, |since| due.min(since + SPARE)))
            }
            Server::Starting { start, since, .. } => {
                let slow = start + SLOW;
                Some(since.filter(|_| self.captured).map_or(slow, |since| slow.min(since + SPARE)))
            }
            Server::Running { .. } | Server::Killed { .. } => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Action::{Capture, Kill, Release, Start};
    use super::*;

    fn at(ms: u64) -> Moment {
        Moment::from_millis(ms)
    }

    /// A server that runs since `ms` and is captured.
    fn running(ms: u64) -> Duty {
        let mut duty = Duty::new(at(ms));
        assert_eq!(duty.due(at(ms)), [Start]);
        duty.started(at(ms));
        assert_eq!(duty.due(at(ms)), []);
        duty.serving();
        duty.round(at(ms), true, true);
        assert_eq!(duty.due(at(ms)), [Capture]);
        duty
    }

    #[test]
    fn nothing_is_captured_before_the_server_itself_answers() {
        let mut duty = Duty::new(at(0));
        duty.started(at(0));
        assert!(!duty.probing());
        duty.round(at(5), true, true);
        assert_eq!(duty.due(at(5)), [], "that was another instance");
        duty.serving();
        assert!(duty.probing());
        assert_eq!(duty.due(at(6)), []);
        duty.round(at(7), true, true);
        assert_eq!(duty.due(at(7)), [Capture]);
        assert_eq!(duty.due(at(8)), []);
    }

    #[test]
    fn three_rounds_without_an_answer_release_and_four_with_one_capture_again() {
        let mut duty = running(0);
        for ms in [250, 500] {
            duty.round(at(ms), false, true);
            assert_eq!(duty.due(at(ms)), []);
        }
        duty.round(at(750), false, true);
        assert_eq!(duty.due(at(750)), [Release]);
        for ms in (1_000..=1_500).step_by(250) {
            duty.round(at(ms), true, true);
            assert_eq!(duty.due(at(ms)), []);
        }
        duty.round(at(1_750), true, true);
        assert_eq!(duty.due(at(1_750)), [Capture]);
        duty.round(at(2_000), false, true);
        assert_eq!(duty.due(at(2_000)), [], "in a row");
    }

    #[test]
    fn a_server_that_answers_now_and_then_is_left_alone_and_killed_late() {
        let mut duty = running(0);
        let mut actions = Vec::new();
        for ms in (250..=12_000).step_by(250) {
            duty.round(at(ms), ms > 750 && ms % 1_000 == 0, false);
            actions.extend(duty.due(at(ms)).into_iter().map(|action| (ms, action)));
        }
        assert_eq!(actions, [(750, Release), (10_000, Kill)]);
    }

    #[test]
    fn a_server_that_does_nothing_is_killed_soon_and_one_that_works_late() {
        for (works, killed_at) in [(false, 1_750), (true, 10_000)] {
            let mut duty = running(0);
            let mut kills = Vec::new();
            for ms in (250..=12_000).step_by(250) {
                duty.round(at(ms), false, works);
                kills.extend(duty.due(at(ms)).into_iter().filter(|&a| a == Kill).map(|_| ms));
            }
            assert_eq!(kills, [killed_at], "once");
        }
    }

    #[test]
    fn a_dead_server_is_replaced_at_once_and_packets_wait_for_the_next() {
        let mut duty = running(0);
        duty.ended(at(60_000));
        assert_eq!(duty.due(at(60_000)), [Start]);
        duty.started(at(60_001));
        duty.serving();
        duty.round(at(60_010), true, true);
        assert_eq!(duty.due(at(60_010)), [], "captured all the time");
        assert!(duty.captured());
    }

    #[test]
    fn packets_do_not_wait_for_long() {
        let mut duty = running(0);
        duty.ended(at(60_000));
        assert_eq!(duty.due(at(60_000)), [Start]);
        duty.started(at(60_000));
        assert_eq!(duty.deadline(), Some(at(60_500)));
        assert_eq!(duty.due(at(60_499)), []);
        assert_eq!(duty.due(at(60_500)), [Release]);
        assert_eq!(duty.deadline(), Some(at(70_000)));
        assert_eq!(duty.due(at(70_000)), [Kill], "it never came up");
    }

    #[test]
    fn a_server_that_ends_early_again_and_again_is_started_more_slowly() {
        let mut duty = running(0);
        let (mut now, mut waits) = (60_000, Vec::new());
        for _ in 0..11 {
            duty.ended(at(now));
            let due = (now..).find(|&ms| duty.due(at(ms)).contains(&Start)).unwrap();
            waits.push(due - now);
            now = due;
            duty.started(at(now));
        }
        assert_eq!(waits, [0, 0, 100, 200, 400, 800, 1_600, 3_200, 6_400, 10_000, 10_000]);
        assert!(!duty.captured(), "kube-dns answers meanwhile");
        duty.serving();
        duty.round(at(now), true, true);
        assert_eq!(duty.due(at(now)), [Capture]);
        duty.ended(at(now + 10_000));
        assert_eq!(duty.due(at(now + 10_000)), [Start], "it ran long enough to be forgiven");
    }

    #[test]
    fn the_end_of_a_killed_server_starts_the_next() {
        let mut duty = running(0);
        (1..=7).for_each(|i| duty.round(at(250 * i), false, false));
        assert_eq!(duty.due(at(1_750)), [Release, Kill]);
        assert_eq!(duty.due(at(1_751)), []);
        duty.ended(at(1_752));
        assert_eq!(duty.due(at(1_752)), [Start]);
    }
}
