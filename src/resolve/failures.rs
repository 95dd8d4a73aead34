//! Failures, remembered for a moment (RFC 9520 §3.2): one second at first, twice as long each time the question fails
//! again, never longer than the zone allows (not at all, it may say), nor than five minutes. Beside it stands when a question for which an old
//! answer is held is asked again (RFC 8767 §5, the failure recheck timer).
//!
//! Bounded in number; what is pushed out or forgotten is asked again, no more.

use crate::sys::clock::Moment;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// How long the first failure of a question is remembered.
const FIRST: Duration = Duration::from_secs(1);
/// No failure is remembered longer (RFC 9520 §3.2).
const LONGEST: Duration = Duration::from_secs(300);
/// A question that has not failed for this many times its last memory starts anew.
const FORGIVEN_AFTER: u32 = 4;
/// Questions remembered at once.
const BOUND: u64 = 10_000;

/// A failure as it is told again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Failure {
    /// The RCODE it had.
    pub(super) rcode: u16,
    /// What went wrong.
    pub(super) text: Arc<str>,
}

#[derive(Clone)]
struct Remembered {
    failure: Failure,
    lasts: Duration,
    until: Moment,
    recheck: Moment,
}

/// What becomes of a question with an old answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Recheck {
    /// It has just failed, for this reason: it is not asked.
    Later(Arc<str>),
    /// It failed a while ago: it is asked again, and nobody waits for that.
    Now(Arc<str>),
}

/// The memory, by question and flags.
pub(super) struct Failures {
    map: moka::sync::Cache<Box<[u8]>, Remembered, foldhash::quality::RandomState>,
    /// Until when anything is remembered at all: while nothing fails, nobody looks.
    latest: AtomicU64,
    /// Makes "look, double, store" one step.
    writing: Mutex<()>,
}

impl Failures {
    pub(super) fn new() -> Failures {
        let map = moka::sync::Cache::builder()
            .max_capacity(BOUND)
            .time_to_live(LONGEST * FORGIVEN_AFTER)
            .build_with_hasher(foldhash::quality::RandomState::default());
        Failures { map, latest: AtomicU64::new(0), writing: Mutex::new(()) }
    }

    fn quiet(&self, now: Moment) -> bool {
        now.0 >= self.latest.load(Relaxed)
    }

    /// The failure that still stands for `key` at `now`.
    pub(super) fn get(&self, key: &[u8], now: Moment) -> Option<Failure> {
        if self.quiet(now) {
            return None;
        }
        self.map.get(key).filter(|r| now < r.until).map(|r| r.failure)
    }

    /// What becomes of `key`, for which an old answer is held, at `now`; `window` is the zone's recheck timer. `None` when
    /// nothing is known that speaks against asking and waiting.
    pub(super) fn recheck(&self, key: &[u8], window: Duration, now: Moment) -> Option<Recheck> {
        if self.quiet(now) {
            return None;
        }
        let last = self.map.get(key)?;
        match now {
            _ if now < last.recheck => Some(Recheck::Later(last.failure.text)),
            _ if now < last.recheck + window => Some(Recheck::Now(last.failure.text)),
            _ => None,
        }
    }

    /// Notes that `key` failed at `now`; `most` is the zone's bound. With an old answer at hand it is asked again after
    /// `recheck`.
    pub(super) fn add(&self, key: &[u8], failure: Failure, most: Duration, recheck: Duration, now: Moment) {
        let _one = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let most = most.min(LONGEST);
        let lasts = match self.map.get(key) {
            Some(last) if now < last.until + last.lasts * FORGIVEN_AFTER => (last.lasts * 2).min(most),
            _ => FIRST.min(most),
        };
        let until = now + lasts;
        let forgotten = (until + most * FORGIVEN_AFTER).max(now + recheck * 2);
        self.latest.fetch_max(forgotten.0, Relaxed);
        self.map.insert(key.into(), Remembered { failure, lasts, until, recheck: now + recheck });
    }

    /// Notes that `key` was answered at `now`.
    pub(super) fn clear(&self, key: &[u8], now: Moment) {
        if !self.quiet(now) {
            self.map.invalidate(key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RECHECK: Duration = Duration::from_secs(30);

    #[test]
    fn e20_with_an_old_answer_a_question_is_asked_once_per_recheck_and_nobody_waits() {
        let (failures, t0) = (Failures::new(), Moment::from_millis(1000));
        let at = |seconds| failures.recheck(b"q", RECHECK, t0 + Duration::from_secs(seconds));
        assert_eq!(at(0), None);
        failures.add(b"q", failure(2), Duration::from_secs(5), RECHECK, t0);
        assert_eq!(at(29), Some(Recheck::Later("no".into())));
        assert_eq!(at(30), Some(Recheck::Now("no".into())));
        assert_eq!(at(59), Some(Recheck::Now("no".into())));
        assert_eq!(at(60), None, "so long ago that it says nothing");
        failures.clear(b"q", t0);
        assert_eq!(at(1), None);
    }

    fn failure(rcode: u16) -> Failure {
        Failure { rcode, text: "no".into() }
    }

    #[test]
    fn c26_failures_are_remembered_one_to_five_seconds() {
        let failures = Failures::new();
        let most = Duration::from_secs(5);
        let mut now = Moment::from_millis(1000);
        for lasts in [1, 2, 4, 5, 5] {
            failures.add(b"q", failure(2), most, RECHECK, now);
            let end = now + Duration::from_secs(lasts);
            assert_eq!(failures.get(b"q", Moment(end.0 - 1)), Some(failure(2)), "{lasts} s");
            assert_eq!(failures.get(b"q", end), None, "{lasts} s");
            assert_eq!(failures.get(b"other", now), None);
            now = end;
        }
    }

    #[test]
    fn c26_never_past_five_minutes() {
        let failures = Failures::new();
        let mut now = Moment::from_millis(0);
        for _ in 0..20 {
            failures.add(b"q", failure(2), Duration::from_secs(86_400), RECHECK, now);
            assert_eq!(failures.get(b"q", now + LONGEST), None);
            now = now + LONGEST;
        }
    }

    #[test]
    fn a_success_or_a_quiet_while_starts_anew() {
        let failures = Failures::new();
        let most = Duration::from_secs(5);
        let t0 = Moment::from_millis(1000);
        failures.add(b"q", failure(2), most, RECHECK, t0);
        failures.clear(b"q", t0);
        assert_eq!(failures.get(b"q", t0), None);
        failures.add(b"q", failure(5), most, RECHECK, t0);
        let later = t0 + Duration::from_secs(60);
        failures.add(b"q", failure(5), most, RECHECK, later);
        assert_eq!(failures.get(b"q", later + FIRST), None, "one second again");
    }
}
