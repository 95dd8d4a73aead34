//! How long a server usually takes, and what follows when it takes longer: the query goes out once more (a hedge), or
//! the server, if it has fallen silent altogether, is suspected. Pure.
//!
//! The 95th percentile is estimated in one number: a reply that took longer moves it up by 19 parts, any other one
//! down by 1 part of 160, so that it rests where one reply in twenty is slower. Hedges are paid for by the queries: a
//! twentieth each, saved up for at most [`SAVED`] hedges, hence never more than 5 % of additional load.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

/// The shortest time after which a query is hedged.
const SOONEST: Duration = Duration::from_millis(30);
/// The shortest time after which a silent server is suspected.
const SUSPICION: Duration = Duration::from_millis(200);
/// Queries that pay for one hedge.
const PRICE: usize = 20;
/// Hedges that may be saved up: one for each connection that may break at once.
const SAVED: usize = 32;

/// The running 95th percentile of a server's response times.
#[derive(Debug)]
pub(super) struct Usual(AtomicU64);

impl Usual {
    /// What is assumed of a server that has not answered yet, by the time that one try may take.
    pub(super) fn new(timeout: Duration) -> Usual {
        Usual(AtomicU64::new(nanos(timeout / 40)))
    }

    /// Notes a response time. Of two noted at once, one may be lost.
    pub(super) fn note(&self, elapsed: Duration) {
        let old = self.0.load(Relaxed);
        let new = if nanos(elapsed) > old { old + old / 160 * 19 } else { old - old / 160 };
        // Below that it makes no difference, and must be able to grow again.
        self.0.store(new.max(100_000), Relaxed);
    }

    fn p95(&self) -> Duration {
        Duration::from_nanos(self.0.load(Relaxed))
    }

    /// After what time a query is hedged.
    pub(super) fn hedge_after(&self, timeout: Duration) -> Duration {
        self.p95().max(SOONEST).min(timeout / 4)
    }

    /// After what time a server that has sent nothing is suspected.
    pub(super) fn suspicion(&self, timeout: Duration) -> Duration {
        (4 * self.p95()).max(SUSPICION).min(timeout / 2)
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX / 2)
}

/// What the hedges of a group may cost.
#[derive(Debug, Default)]
pub(super) struct Budget {
    /// The queries that have been spent, as a position in the count of all.
    spent: AtomicUsize,
}

impl Budget {
    /// Pays for a hedge out of the `queries` counted so far; false when these do not suffice.
    pub(super) fn pay(&self, queries: usize) -> bool {
        let spend = |spent: usize| {
            let after = spent.max(queries.saturating_sub(SAVED * PRICE)) + PRICE;
            (after <= queries).then_some(after)
        };
        self.spent.fetch_update(Relaxed, Relaxed, spend).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIMEOUT: Duration = Duration::from_secs(2);
    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn the_estimate_settles_where_one_in_twenty_is_slower() {
        for (quick, slow) in [(1, 80), (20, 400), (100, 110)] {
            let usual = Usual::new(TIMEOUT);
            let mut above = 0;
            for n in 0..40_000u32 {
                // A tenth of the replies takes evenly between the two, the others the shorter time.
                let spread = n.wrapping_mul(2_654_435_761) >> 16;
                let took =
                    if n % 10 == 0 { quick * MS + (slow - quick) * MS * (spread % 1000) / 1000 } else { quick * MS };
                above += u32::from(n >= 20_000 && took > usual.p95());
                usual.note(took);
            }
            assert!((600..=1500).contains(&above), "{quick} to {slow} ms: {above} of 20000 above {:?}", usual.p95());
        }
    }

    #[test]
    fn d15_a_distant_server_is_soon_known_as_such() {
        let usual = Usual::new(TIMEOUT);
        assert_eq!((usual.hedge_after(TIMEOUT), usual.suspicion(TIMEOUT)), (50 * MS, 200 * MS));
        (0..20).for_each(|_| usual.note(200 * MS));
        assert!(usual.hedge_after(TIMEOUT) > 180 * MS && usual.suspicion(TIMEOUT) > 700 * MS, "{usual:?}");
        (0..100_000).for_each(|_| usual.note(MS / 1000));
        assert_eq!((usual.hedge_after(TIMEOUT), usual.suspicion(TIMEOUT)), (30 * MS, 200 * MS));
        (0..1000).for_each(|_| usual.note(60 * TIMEOUT));
        assert_eq!((usual.hedge_after(TIMEOUT), usual.suspicion(TIMEOUT)), (500 * MS, 1000 * MS));
    }

    #[test]
    fn hedges_are_a_twentieth_of_the_queries_whatever_happens() {
        let budget = Budget::default();
        assert!(!budget.pay(19));
        let paid = (0..10_000).filter(|&queries| budget.pay(queries)).count();
        assert_eq!(paid, 499);
    }

    #[test]
    fn no_more_hedges_are_saved_up_than_connections_may_break() {
        let budget = Budget::default();
        assert_eq!((0..1000).filter(|_| budget.pay(1_000_000)).count(), SAVED);
        assert_eq!((0..1000).filter(|_| budget.pay(1_000_100)).count(), 5);
    }
}
