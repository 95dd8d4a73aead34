//! What is remembered of a server's failures: it comes last for a second, doubling to thirty while they go on.
//!
//! Failures are timeouts, refusals and broken connections; a response code is none. When the time is over, one query
//! probes the server while the others still pass it by; one success clears everything.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::Duration;
use tokio::time::Instant;

const FIRST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(30);

/// What a server may be used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum State {
    /// Any query.
    Healthy,
    /// It failed some time ago; the next query tells whether it is back.
    Suspect,
    /// It has just failed, for the n-th time in a row: last resort.
    Failing(u32),
}

/// The failures of one server.
#[derive(Debug, Default)]
pub(super) struct Health {
    /// Failures in a row. Written under the lock; read without it, so that a healthy server costs one load.
    failures: AtomicU32,
    until: Mutex<Option<Instant>>,
}

impl Health {
    /// What the server may be used for now.
    pub(super) fn state(&self, now: Instant) -> State {
        match self.failures.load(Relaxed) {
            0 => State::Healthy,
            n if self.lock().is_some_and(|until| now < until) => State::Failing(n),
            _ => State::Suspect,
        }
    }

    /// A query failed. Those that were under way together count once.
    pub(super) fn failed(&self, now: Instant) {
        let mut until = self.lock();
        if until.is_none_or(|until| until <= now) {
            self.prolong(&mut until, now);
        }
    }

    /// A query is about to find out whether the server is back. False when another one already does.
    pub(super) fn probe(&self, now: Instant) -> bool {
        let mut until = self.lock();
        let due = until.is_some_and(|until| until <= now);
        if due {
            self.prolong(&mut until, now);
        }
        due
    }

    /// A query was answered.
    pub(super) fn succeeded(&self) {
        if self.failures.load(Relaxed) != 0 {
            let mut until = self.lock();
            self.failures.store(0, Relaxed);
            *until = None;
        }
    }

    fn prolong(&self, until: &mut Option<Instant>, now: Instant) {
        let failures = self.failures.load(Relaxed).saturating_add(1);
        self.failures.store(failures, Relaxed);
        *until = Some(now + (FIRST * 2u32.saturating_pow(failures.min(6) - 1)).min(LONGEST));
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Instant>> {
        self.until.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_failing_server_rests_for_a_second_doubling_to_thirty() {
        let (health, mut now) = (Health::default(), Instant::now());
        assert_eq!(health.state(now), State::Healthy);
        for (n, rest) in [1, 2, 4, 8, 16, 30, 30].into_iter().enumerate() {
            health.failed(now);
            assert_eq!(health.state(now), State::Failing(n as u32 + 1));
            assert_eq!(health.state(now + SECOND * rest - SECOND / 1000), State::Failing(n as u32 + 1));
            now += SECOND * rest;
            assert_eq!(health.state(now), State::Suspect);
        }
        health.succeeded();
        assert_eq!(health.state(now), State::Healthy);
    }

    #[test]
    fn d18_failures_of_one_moment_count_once() {
        let (health, now) = (Health::default(), Instant::now());
        (0..100).for_each(|_| health.failed(now));
        assert_eq!(health.state(now), State::Failing(1));
    }

    #[test]
    fn only_one_query_probes_a_server_that_may_be_back() {
        let (health, now) = (Health::default(), Instant::now());
        assert!(!health.probe(now), "a healthy server needs no probe");
        health.failed(now);
        assert!(!health.probe(now));
        assert!(health.probe(now + SECOND));
        assert!(!health.probe(now + SECOND));
        assert_eq!(health.state(now + SECOND), State::Failing(2));
        health.succeeded();
        assert_eq!(health.state(now + SECOND), State::Healthy);
    }
}
