//! What is remembered of a server's failures, over one transport: it comes last for a second, doubling to thirty while
//! they go on. Pure: time is an argument.
//!
//! A **failure** is decisive when it cannot well be forged: a connection refused, or closed before the reply. All others
//! (an ICMP error, silence) are **doubts**: a packet from anyone, or none, brings them about. Three in a row without a
//! reply between make a failure; those that were under way together are one.
//!
//! A **reply**, whatever it says, ends doubts. A server passed over is asked again by one query at a time: one reply
//! clears a first failure. Who fails again within a minute of that goes on where the back-off had got to, and needs
//! three replies in a row: a server that flaps is soon left alone for half a minute.
//!
//! A server that answers is never unreachable. When almost all that it says is an error, it **errs**: others come first.

use std::sync::atomic::{AtomicU8, AtomicU32, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;
use tokio::time::Instant;

const FIRST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(30);
/// Doubts in a row that make a failure.
const DOUBTS: u32 = 3;
/// A server that fails so soon after it came back flaps.
const DAMPING: Duration = Duration::from_secs(60);
/// Replies in a row that bring back a server that flaps.
const RISE: u32 = 3;
/// Time between the probes that bring these.
const BETWEEN: Duration = Duration::from_millis(100);
/// Errors among the last 32 replies from which on a server errs.
const ERRS: u32 = 26;
/// Errors among the last 32 replies with which it does so no longer.
const ERRS_NO_MORE: u32 = 16;

/// What a server may be used for, best first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum State {
    /// Any query.
    Healthy,
    /// It is there, and answers almost everything with an error.
    Erring,
    /// It failed some time ago and may be back.
    Suspect,
    /// It has just failed, for the n-th time in a row: last resort.
    Failing(u32),
}

impl State {
    /// Is it there, as far as is known?
    pub(super) fn is_reachable(self) -> bool {
        self <= State::Erring
    }
}

/// What speaks against a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cause {
    /// It, or the network for it, refused.
    Refused,
    /// It does not prove to have its name.
    Untrusted,
    /// It closed connections before the reply, or sent what is none.
    Closed,
    /// A try had its time and brought nothing.
    Timeout,
    /// Nothing came from it for much longer than it usually takes.
    Silent,
    /// Almost all its replies are SERVFAIL, REFUSED and the like.
    Errors,
}

impl Cause {
    /// The name that logs use.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Cause::Refused => "refused",
            Cause::Untrusted => "untrusted",
            Cause::Closed => "closed",
            Cause::Timeout => "timeout",
            Cause::Silent => "silent",
            Cause::Errors => "servfail share",
        }
    }
}

/// A server is used otherwise from now on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    /// It comes last.
    Failing(Cause),
    /// It is back.
    Healthy,
}

/// The failures of one server over one transport.
#[derive(Debug, Default)]
pub(super) struct Health {
    /// 0 while there is nothing to remember, 1 with doubts, 2 while passed over. Written under the lock; read without
    /// it, so that a healthy server costs one load.
    mark: AtomicU8,
    /// The last 32 replies, a bit each: 1 for an error. A race that loses one of them does no harm.
    replies: AtomicU32,
    record: Mutex<Record>,
}

#[derive(Debug, Default)]
struct Record {
    doubts: u32,
    last_doubt: Option<Instant>,
    /// Why it is passed over; `None` when it is not.
    cause: Option<Cause>,
    /// Failures in a row; kept when it comes back.
    level: u32,
    /// Since when it is.
    since: Option<Instant>,
    /// When it may be probed.
    until: Option<Instant>,
    /// A probe is under way.
    probing: bool,
    /// Replies that it takes to bring it back, and those of them still missing.
    rise: u32,
    missing: u32,
    /// When it last came back.
    back: Option<Instant>,
}

impl Health {
    /// What the server may be used for now.
    pub(super) fn state(&self, now: Instant) -> State {
        if !self.is_passed_over() {
            return State::Healthy;
        }
        let record = self.lock();
        match record.cause {
            None => State::Healthy,
            Some(Cause::Errors) => State::Erring,
            Some(_) if record.is_due(now) => State::Suspect,
            Some(_) => State::Failing(record.level),
        }
    }

    /// Do others come first?
    pub(super) fn is_passed_over(&self) -> bool {
        self.mark.load(Relaxed) > 1
    }

    /// Has it been passed over for no longer than `time`?
    pub(super) fn is_passed_over_since(&self, time: Duration, now: Instant) -> bool {
        self.lock().since.is_some_and(|since| now < since + time)
    }

    /// Has it been doubted since `began`?
    pub(super) fn is_doubted_since(&self, began: Instant) -> bool {
        self.lock().last_doubt.is_some_and(|last| last > began)
    }

    /// A query that began at `began` has failed, and is no more than a doubt unless `decisive`.
    pub(super) fn failed(&self, now: Instant, began: Instant, cause: Cause, decisive: bool) -> Option<Change> {
        let mut record = self.lock();
        if matches!(record.cause, None | Some(Cause::Errors)) {
            if !decisive {
                if record.last_doubt.is_some_and(|last| began < last) {
                    return None;
                }
                record.last_doubt = Some(now);
                record.doubts += 1;
                self.mark.fetch_max(1, Relaxed);
                if record.doubts < DOUBTS {
                    return None;
                }
            }
            return Some(self.pass_over(&mut record, now, cause));
        }
        // Those that were under way together count once.
        if record.probing || record.is_due(now) {
            record.back_off(now);
        }
        record.missing = record.rise;
        None
    }

    /// A reply came; `error` when it speaks of the server rather than of the name, or may.
    pub(super) fn replied(&self, now: Instant, error: bool) -> Option<Change> {
        let mut replies = self.replies.load(Relaxed);
        if error || replies != 0 {
            replies = replies << 1 | u32::from(error);
            self.replies.store(replies, Relaxed);
        }
        let mark = self.mark.load(Relaxed);
        let errs = error && replies.count_ones() >= ERRS;
        if mark == 0 && !errs {
            return None;
        }
        let mut record = self.lock();
        record.doubts = 0;
        match record.cause {
            None if errs => return Some(self.pass_over(&mut record, now, Cause::Errors)),
            None => self.mark.store(0, Relaxed),
            Some(Cause::Errors) if replies.count_ones() <= ERRS_NO_MORE => {
                return Some(self.bring_back(&mut record, now));
            }
            Some(Cause::Errors) if error => {
                if record.probing || record.is_due(now) {
                    record.back_off(now);
                }
            }
            Some(Cause::Errors) => record.probe_soon(now),
            Some(_) => {
                record.missing = record.missing.saturating_sub(1);
                if record.missing == 0 {
                    return Some(self.bring_back(&mut record, now));
                }
                record.probe_soon(now);
            }
        }
        None
    }

    /// Shall a query find out whether the server is back, for which it has `limit`? False when another one does.
    pub(super) fn probe(&self, now: Instant, limit: Duration) -> bool {
        if !self.is_passed_over() {
            return false;
        }
        let mut record = self.lock();
        let due = record.cause.is_some() && record.is_due(now);
        if due {
            record.probing = true;
            record.until = Some(now + limit);
        }
        due
    }

    fn pass_over(&self, record: &mut Record, now: Instant, cause: Cause) -> Change {
        let flaps = record.back.is_some_and(|back| now < back + DAMPING);
        if !flaps && record.cause.is_none() {
            record.level = 0;
        }
        record.rise = if flaps { RISE } else { 1 };
        record.missing = record.rise;
        record.doubts = 0;
        record.cause = Some(cause);
        record.since = Some(now);
        record.back_off(now);
        self.mark.store(2, Relaxed);
        Change::Failing(cause)
    }

    fn bring_back(&self, record: &mut Record, now: Instant) -> Change {
        record.cause = None;
        record.since = None;
        record.until = None;
        record.probing = false;
        record.back = Some(now);
        self.mark.store(0, Relaxed);
        Change::Healthy
    }

    fn lock(&self) -> MutexGuard<'_, Record> {
        self.record.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

impl Record {
    fn is_due(&self, now: Instant) -> bool {
        self.until.is_none_or(|until| until <= now)
    }

    fn back_off(&mut self, now: Instant) {
        self.level = self.level.saturating_add(1);
        self.until = Some(now + (FIRST * 2u32.saturating_pow(self.level.min(6) - 1)).min(LONGEST));
        self.probing = false;
    }

    fn probe_soon(&mut self, now: Instant) {
        self.until = Some(now + BETWEEN);
        self.probing = false;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn refuse(health: &Health, now: Instant) -> Option<Change> {
        health.failed(now, now, Cause::Refused, true)
    }

    fn doubt(health: &Health, now: Instant) -> Option<Change> {
        health.failed(now, now, Cause::Silent, false)
    }

    #[test]
    fn d01_a_failing_server_rests_for_a_second_doubling_to_thirty() {
        let (health, mut now) = (Health::default(), Instant::now());
        assert_eq!(health.state(now), State::Healthy);
        assert_eq!(refuse(&health, now), Some(Change::Failing(Cause::Refused)));
        for (n, rest) in [1, 2, 4, 8, 16, 30, 30].into_iter().enumerate() {
            assert_eq!(health.state(now), State::Failing(n as u32 + 1));
            assert_eq!(health.state(now + SECOND * rest - SECOND / 1000), State::Failing(n as u32 + 1));
            now += SECOND * rest;
            assert_eq!(health.state(now), State::Suspect);
            assert_eq!(refuse(&health, now), None, "nothing new");
        }
        assert_eq!(health.replied(now, false), Some(Change::Healthy), "one reply clears a first failure");
        assert_eq!(health.state(now), State::Healthy);
    }

    #[test]
    fn d02_three_doubts_in_a_row_make_a_failure_and_a_reply_between_does_not() {
        let (health, now) = (Health::default(), Instant::now());
        for n in 0..30 {
            assert_eq!(doubt(&health, now + SECOND * n), None);
            if n % 2 == 1 {
                assert_eq!(health.replied(now + SECOND * n, false), None);
            }
        }
        assert_eq!(doubt(&health, now + SECOND * 30), None);
        assert_eq!(doubt(&health, now + SECOND * 31), None);
        assert_eq!(health.state(now + SECOND * 31), State::Healthy);
        assert_eq!(doubt(&health, now + SECOND * 32), Some(Change::Failing(Cause::Silent)));
    }

    #[test]
    fn d15_one_moment_of_silence_is_one_doubt_however_many_wait() {
        let (health, now) = (Health::default(), Instant::now());
        for n in 0..100 {
            assert_eq!(health.failed(now + SECOND + SECOND / 1000 * n, now, Cause::Silent, false), None);
        }
        assert_eq!(health.state(now + 2 * SECOND), State::Healthy);
    }

    #[test]
    fn d18_failures_of_one_moment_count_once() {
        let (health, now) = (Health::default(), Instant::now());
        (0..100).for_each(|_| _ = refuse(&health, now));
        assert_eq!(health.state(now), State::Failing(1));
    }

    #[test]
    fn d18_who_fails_again_goes_on_where_the_back_off_was_and_needs_three_replies() {
        let (health, mut now) = (Health::default(), Instant::now());
        refuse(&health, now);
        now += SECOND;
        assert_eq!(health.replied(now, false), Some(Change::Healthy));
        for level in 2..=7 {
            now += SECOND / 2;
            assert_eq!(refuse(&health, now), Some(Change::Failing(Cause::Refused)));
            assert_eq!(health.state(now), State::Failing(level));
            assert_eq!(health.replied(now, false), None);
            assert_eq!(health.replied(now, false), None);
            assert_eq!(refuse(&health, now), None, "in a row, that is");
            assert_eq!(health.replied(now, false), None);
            assert_eq!(health.replied(now, false), None);
            assert_eq!(health.replied(now, false), Some(Change::Healthy));
        }
        now += DAMPING;
        refuse(&health, now);
        assert_eq!(health.state(now), State::Failing(1), "forgiven");
        assert_eq!(health.replied(now, false), Some(Change::Healthy));
    }

    #[test]
    fn d18_a_server_that_flaps_twice_a_second_is_soon_left_alone() {
        // Probed as a group with another server would.
        let (health, start) = (Health::default(), Instant::now());
        let (mut changes, mut asked_in_vain) = (0, 0);
        for step in 0..12_000u32 {
            let now = start + SECOND / 100 * step;
            let up = step / 50 % 2 == 0;
            if health.state(now) != State::Healthy && !health.probe(now, SECOND) {
                continue;
            }
            let change = if up { health.replied(now, false) } else { refuse(&health, now) };
            changes += u32::from(change.is_some());
            asked_in_vain += u32::from(!up);
        }
        assert!(changes <= 16, "{changes} in two minutes");
        assert!(asked_in_vain <= 30, "{asked_in_vain} queries");
    }

    #[test]
    fn only_one_query_probes_a_server_that_may_be_back() {
        let (health, now) = (Health::default(), Instant::now());
        assert!(!health.probe(now, SECOND), "a healthy server needs no probe");
        refuse(&health, now);
        assert!(!health.probe(now, SECOND));
        assert!(health.probe(now + SECOND, SECOND));
        assert!(!health.probe(now + SECOND, SECOND));
        assert_eq!(health.state(now + SECOND), State::Failing(1));
        doubt(&health, now + SECOND);
        assert_eq!(health.state(now + SECOND), State::Failing(2), "a probe that fails is no doubt but a failure");
        assert!(!health.probe(now + 2 * SECOND, SECOND));
        assert!(health.probe(now + 3 * SECOND, SECOND));
        assert!(health.probe(now + 4 * SECOND, SECOND), "that one was never heard of again");
    }

    #[test]
    fn d17_a_server_errs_when_almost_all_its_replies_are_errors() {
        let (health, mut now) = (Health::default(), Instant::now());
        for n in 0..10_000 {
            assert_eq!(health.replied(now, n % 10 == 0), None, "a tenth is nothing");
            assert_eq!(health.replied(now, n % 2 == 0), None, "nor a half");
        }
        let changes: Vec<_> = (0..32).filter_map(|_| health.replied(now, true)).collect();
        assert_eq!(changes, [Change::Failing(Cause::Errors)]);
        assert_eq!(health.state(now), State::Erring);
        assert!(health.state(now).is_reachable());
        // A good reply now and then does not bring it back; its mending does, soon.
        let mut probes = 0;
        while health.state(now) == State::Erring {
            now += SECOND / 100;
            if health.probe(now, SECOND) {
                probes += 1;
                health.replied(now, probes < 4);
            }
        }
        assert!((16..=24).contains(&probes), "{probes}");
    }

    #[test]
    fn d17_a_server_that_errs_may_fail_as_well() {
        let (health, now) = (Health::default(), Instant::now());
        (0..32).for_each(|_| _ = health.replied(now, true));
        assert_eq!(refuse(&health, now), Some(Change::Failing(Cause::Refused)));
        assert!(!health.state(now).is_reachable());
        assert_eq!(health.replied(now, true), Some(Change::Healthy), "an error is a reply");
        assert_eq!(health.replied(now, true), Some(Change::Failing(Cause::Errors)));
    }
}
