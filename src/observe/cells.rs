//! Counters, gauges and histograms that cost one memory access, read as a whole when somebody scrapes.
//!
//! Writers never lock and never look a label up; who counts what is decided once, when the cells are made.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// A count that only grows.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// A counter at zero.
    pub const fn new() -> Counter {
        Counter(AtomicU64::new(0))
    }

    /// Adds `n`; any thread may call this.
    #[inline]
    pub fn add(&self, n: u64) {
        self.0.fetch_add(n, Relaxed);
    }

    /// Adds `n` without a locked instruction: right only where one thread alone ever writes this counter.
    #[inline]
    pub fn add_owned(&self, n: u64) {
        self.0.store(self.0.load(Relaxed).wrapping_add(n), Relaxed);
    }

    /// The count so far.
    pub fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// A value that rises and falls.
#[derive(Debug, Default)]
pub struct Gauge(AtomicI64);

impl Gauge {
    /// A gauge at zero.
    pub const fn new() -> Gauge {
        Gauge(AtomicI64::new(0))
    }

    /// Adds `n`, which may be negative, and returns the new value.
    #[inline]
    pub fn add(&self, n: i64) -> i64 {
        self.0.fetch_add(n, Relaxed) + n
    }

    /// Sets the value.
    pub fn set(&self, n: i64) {
        self.0.store(n, Relaxed);
    }

    /// The value.
    pub fn get(&self) -> i64 {
        self.0.load(Relaxed)
    }
}

/// Upper bounds of the duration buckets, in microseconds; above the last one lies +Inf.
pub const BOUNDS_US: [u64; 17] = [
    10, 25, 50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000,
    5_000_000,
];

/// Durations, counted in the buckets of [`BOUNDS_US`].
#[derive(Debug, Default)]
pub struct Histogram {
    buckets: [Counter; BOUNDS_US.len() + 1],
    sum_ns: Counter,
}

impl Histogram {
    /// Counts one duration; any thread may call this.
    #[inline]
    pub fn observe(&self, d: Duration) {
        self.observe_many(d, 1);
    }

    /// Counts `n` equal durations; any thread may call this.
    #[inline]
    pub fn observe_many(&self, d: Duration, n: u64) {
        let ns = nanos(d);
        self.bucket(ns).add(n);
        self.sum_ns.add(ns.saturating_mul(n));
    }

    /// Counts `n` equal durations without a locked instruction: see [`Counter::add_owned`].
    #[inline]
    pub fn observe_owned(&self, d: Duration, n: u64) {
        let ns = nanos(d);
        self.bucket(ns).add_owned(n);
        self.sum_ns.add_owned(ns.saturating_mul(n));
    }

    #[inline]
    fn bucket(&self, ns: u64) -> &Counter {
        let at = BOUNDS_US.iter().position(|&bound| ns <= bound * 1000).unwrap_or(BOUNDS_US.len());
        &self.buckets[at]
    }

    /// Counts per bucket (not cumulative; the last is +Inf) and the sum in seconds.
    pub fn snapshot(&self) -> ([u64; BOUNDS_US.len() + 1], f64) {
        (std::array::from_fn(|i| self.buckets[i].get()), self.sum_ns.get() as f64 / 1e9)
    }
}

/// Whole nanoseconds, in 64 bits because the hot path pays for 128; capped at 584 years.
#[inline]
fn nanos(d: Duration) -> u64 {
    d.as_secs().saturating_mul(1_000_000_000).saturating_add(u64::from(d.subsec_nanos()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_fall_into_the_bucket_whose_bound_they_do_not_exceed() {
        let h = Histogram::default();
        h.observe(Duration::from_micros(10));
        h.observe(Duration::from_nanos(10_001));
        h.observe_owned(Duration::from_secs(60), 2);
        let (counts, sum) = h.snapshot();
        assert_eq!((counts[0], counts[1], counts[BOUNDS_US.len()]), (1, 1, 2));
        assert!((sum - 120.000020001).abs() < 1e-9);
    }

    #[test]
    fn counters_and_gauges_count() {
        let c = Counter::new();
        c.add(2);
        c.add_owned(3);
        assert_eq!(c.get(), 5);
        let g = Gauge::new();
        assert_eq!(g.add(5), 5);
        assert_eq!(g.add(-6), -1);
        g.set(9);
        assert_eq!(g.get(), 9);
    }
}
