//! A rate limit for one log line: the lines a client can cause must not fill a disk.
//!
//! Held in a `static` beside the line it guards. Time is an argument; nothing blocks.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use crate::sys::clock::Moment;

/// Lets one line through per interval and counts the others.
#[derive(Debug)]
pub struct RateLimit {
    interval: Duration,
    next: AtomicU64,
    suppressed: AtomicU64,
}

impl RateLimit {
    /// One line per `interval`, the first at once.
    pub const fn new(interval: Duration) -> RateLimit {
        RateLimit { interval, next: AtomicU64::new(0), suppressed: AtomicU64::new(0) }
    }

    /// May the line be written at `now`? `Some(n)`: yes, and `n` like it were held back since the last one.
    pub fn allow(&self, now: Moment) -> Option<u64> {
        let next = self.next.load(Relaxed);
        let due = now.0 >= next;
        // Of several threads that find the line due, the one that moves the time on writes it.
        if due && self.next.compare_exchange(next, (now + self.interval).0, Relaxed, Relaxed).is_ok() {
            return Some(self.suppressed.swap(0, Relaxed));
        }
        self.suppressed.fetch_add(1, Relaxed);
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_per_interval_and_the_rest_counted() {
        let limit = RateLimit::new(Duration::from_secs(10));
        assert_eq!(limit.allow(Moment::from_millis(0)), Some(0));
        assert_eq!(limit.allow(Moment::from_millis(1)), None);
        assert_eq!(limit.allow(Moment::from_millis(9_999)), None);
        assert_eq!(limit.allow(Moment::from_millis(10_000)), Some(2));
        assert_eq!(limit.allow(Moment::from_millis(10_001)), None);
        assert_eq!(limit.allow(Moment::from_millis(30_000)), Some(1));
    }

    #[test]
    fn of_many_threads_one_writes() {
        let limit = RateLimit::new(Duration::from_secs(10));
        let allowed = std::thread::scope(|scope| {
            let threads: Vec<_> =
                (0..8).map(|_| scope.spawn(|| limit.allow(Moment::from_millis(5)).is_some())).collect();
            threads.into_iter().map(|t| t.join().unwrap()).filter(|&allowed| allowed).count()
        });
        assert_eq!(allowed, 1);
        assert_eq!(limit.allow(Moment::from_millis(10_005)), Some(7));
    }
}
