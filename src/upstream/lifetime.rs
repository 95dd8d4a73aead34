//! How long a TCP connection lives: idle, age, silence. Pure: time is an argument.
//!
//! Closing first and early is the point: CoreDNS closes an idle connection after 10 s, and a query written at that
//! moment is lost (RFC 7766 §6.2.3 leaves it to the client to ask again).

use super::stats::Ended;
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// The limits of one connection.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// It is closed after so long without traffic.
    pub(super) idle: Duration,
    /// It takes no new queries from then on.
    pub(super) retire_at: Instant,
    /// How long a query may take.
    pub(super) timeout: Duration,
    /// Replies come in any order: that one is missing says nothing about the others.
    pub(super) unordered: bool,
}

/// What the connection is doing.
#[derive(Clone, Copy, Debug)]
pub(super) struct Condition {
    /// When the last octet came (or the connection was opened).
    pub(super) last_active: Instant,
    /// Does anybody use it?
    pub(super) in_use: bool,
    /// Has it been retired already?
    pub(super) retired: bool,
    /// The oldest query that was given up and whose late reply is still awaited.
    pub(super) abandoned: Option<Abandoned>,
}

/// A query that was given up.
#[derive(Clone, Copy, Debug)]
pub(super) struct Abandoned {
    /// When it was written.
    pub(super) written: Instant,
    /// Has not one octet come since?
    pub(super) silent: bool,
}

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Nothing, until then.
    Keep(Instant),
    /// Nobody used it: close it.
    Idle,
    /// It is old: no new queries, close it when the last one is answered.
    Retire,
    /// The server is gone, or hopelessly behind: close it, its other queries are better off elsewhere.
    Unresponsive,
}

impl Limits {
    /// Limits of a connection opened at `now`; `spread` in 0..=1 places its age limit within ±20 %.
    pub(super) fn new(now: Instant, idle: Duration, max_age: Duration, timeout: Duration, spread: f64) -> Limits {
        Limits { idle, retire_at: now + max_age.mul_f64(0.8 + 0.4 * spread), timeout, unordered: false }
    }

    /// The verdict at `now`.
    pub(super) fn judge(&self, now: Instant, c: Condition) -> Verdict {
        let mut next = now + self.idle;
        if let Some(query) = c.abandoned {
            // A silent connection is dead after the timeout of one query; one that trickles gets as much again. Where the
            // order does not matter it then takes no more queries, and those that it has get their time.
            let spared = self.unordered && !query.silent;
            let patience = match (query.silent, spared && c.retired) {
                (true, _) => self.timeout,
                (false, false) => 2 * self.timeout,
                (false, true) => 3 * self.timeout,
            };
            if query.written + patience <= now {
                return if spared && !c.retired { Verdict::Retire } else { Verdict::Unresponsive };
            }
            next = next.min(query.written + patience);
        }
        if !c.in_use {
            let end = c.last_active + self.idle;
            if end <= now {
                return Verdict::Idle;
            }
            next = next.min(end);
        }
        match c.retired {
            true => Verdict::Keep(next),
            false if self.retire_at <= now => Verdict::Retire,
            false => Verdict::Keep(next.min(self.retire_at)),
        }
    }
}

/// How a connection ended.
#[derive(Clone, Debug)]
pub(super) struct Reason {
    pub(super) ended: Ended,
    /// What the kernel said.
    pub(super) source: Option<Arc<io::Error>>,
}

impl Reason {
    /// The kernel said so.
    pub(super) fn broken(error: io::Error) -> Reason {
        Reason { ended: Ended::Peer, source: Some(Arc::new(error)) }
    }
}

impl From<Ended> for Reason {
    fn from(ended: Ended) -> Reason {
        Reason { ended, source: None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn limits(opened: Instant) -> Limits {
        Limits::new(opened, 8 * SECOND, 60 * SECOND, 2 * SECOND, 0.5)
    }

    #[test]
    fn an_idle_connection_is_closed_after_eight_seconds() {
        let start = Instant::now();
        let idle = Condition { last_active: start + SECOND, in_use: false, retired: false, abandoned: None };
        assert_eq!(limits(start).judge(start + 2 * SECOND, idle), Verdict::Keep(start + 9 * SECOND));
        assert_eq!(limits(start).judge(start + 9 * SECOND, idle), Verdict::Idle);
        let busy = Condition { in_use: true, ..idle };
        assert_eq!(limits(start).judge(start + 9 * SECOND, busy), Verdict::Keep(start + 17 * SECOND));
    }

    #[test]
    fn d19_an_old_connection_is_retired_within_twenty_per_cent_of_a_minute() {
        let start = Instant::now();
        for (spread, age) in [(0.0, 48), (0.5, 60), (1.0, 72)] {
            let limits = Limits::new(start, 8 * SECOND, 60 * SECOND, 2 * SECOND, spread);
            let busy = |at| Condition { last_active: at, in_use: true, retired: false, abandoned: None };
            let before = start + age * SECOND - SECOND / 10;
            let after = start + age * SECOND + SECOND / 10;
            assert!(matches!(limits.judge(before, busy(before)), Verdict::Keep(_)), "{age}");
            assert_eq!(limits.judge(after, busy(after)), Verdict::Retire, "{age}");
            let draining = Condition { retired: true, ..busy(after) };
            assert_eq!(limits.judge(after, draining), Verdict::Keep(after + 8 * SECOND), "{age}");
        }
    }

    #[test]
    fn d06_a_silent_connection_is_given_up_with_its_query_and_a_trickling_one_later() {
        let start = Instant::now();
        let with = |silent| Condition {
            last_active: start,
            in_use: true,
            retired: false,
            abandoned: Some(Abandoned { written: start, silent }),
        };
        let at = |now, silent| limits(start).judge(now, with(silent));
        assert_eq!(at(start + SECOND, true), Verdict::Keep(start + 2 * SECOND));
        assert_eq!(at(start + 2 * SECOND, true), Verdict::Unresponsive);
        assert_eq!(at(start + 2 * SECOND, false), Verdict::Keep(start + 4 * SECOND));
        assert_eq!(at(start + 4 * SECOND, false), Verdict::Unresponsive);
    }

    #[test]
    fn d24_where_replies_come_in_any_order_a_missing_one_takes_no_other_with_it() {
        let start = Instant::now();
        let limits = Limits { unordered: true, ..limits(start) };
        let at = |seconds, silent, retired| {
            let abandoned = Some(Abandoned { written: start, silent });
            limits.judge(start + seconds * SECOND, Condition { last_active: start, in_use: true, retired, abandoned })
        };
        assert_eq!(at(2, true, false), Verdict::Unresponsive, "silence is silence");
        assert_eq!(at(2, false, false), Verdict::Keep(start + 4 * SECOND));
        assert_eq!(at(4, false, false), Verdict::Retire);
        assert_eq!(at(4, false, true), Verdict::Keep(start + 6 * SECOND), "those written just before may be answered");
        assert_eq!(at(6, false, true), Verdict::Unresponsive);
    }
}
