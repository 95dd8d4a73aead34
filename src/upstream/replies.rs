//! The replies of one server by RCODE and by the time they took, in the buckets of CoreDNS: bounds that double from
//! 250 µs to 8.192 s. Two additions per reply.

use crate::observe::cells::Counter;
use crate::wire::header::rcode;
use std::time::Duration;

/// The first bound, in nanoseconds.
const FIRST_NS: u64 = 250_000;
/// How many bounds there are.
const BOUNDS: usize = 16;
/// RCODEs told apart; what is common comes first.
const CODES: [(u16, &str); 6] = [
    (rcode::NOERROR, "NOERROR"),
    (rcode::NXDOMAIN, "NXDOMAIN"),
    (rcode::SERVFAIL, "SERVFAIL"),
    (rcode::REFUSED, "REFUSED"),
    (rcode::FORMERR, "FORMERR"),
    (rcode::NOTIMP, "NOTIMP"),
];

/// Durations in buckets whose bounds double.
#[derive(Debug, Default)]
struct Doubling {
    buckets: [Counter; BOUNDS + 1],
    sum_ns: Counter,
}

/// The cells of one server.
#[derive(Debug, Default)]
pub(super) struct Replies([Doubling; CODES.len() + 1]);

/// The replies of one RCODE, by the time they took.
#[derive(Clone, Debug, PartialEq)]
pub struct Replied {
    /// The RCODE's name; `other` for all that are not told apart.
    pub rcode: &'static str,
    /// How many took no longer than each of [`Replied::bounds`], and longer than the bound before; the last is +Inf.
    pub buckets: [u64; BOUNDS + 1],
    /// The time of all together, in seconds.
    pub sum: f64,
}

impl Replied {
    /// The upper bounds of the buckets, in seconds.
    pub fn bounds() -> [f64; BOUNDS] {
        std::array::from_fn(|k| Duration::from_nanos(FIRST_NS << k).as_secs_f64())
    }
}

impl Replies {
    /// Counts a reply.
    pub(super) fn count(&self, code: u16, elapsed: Duration) {
        let at = CODES.iter().position(|(known, _)| *known == code).unwrap_or(CODES.len());
        let nanos = u64::try_from(elapsed.as_nanos()).unwrap_or(u64::MAX);
        let Some(cell) = self.0.get(at) else { return };
        // Of the bounds, the least that is not exceeded: the binary logarithm, rounded up.
        let exceeded = nanos.div_ceil(FIRST_NS).saturating_sub(1).checked_ilog2().map_or(0, |log| log as usize + 1);
        if let Some(bucket) = cell.buckets.get(exceeded.min(BOUNDS)) {
            bucket.add(1);
        }
        cell.sum_ns.add(nanos);
    }

    /// Reads the cells; RCODEs that never came are left out.
    pub(super) fn snapshot(&self) -> Vec<Replied> {
        let names = CODES.iter().map(|(_, name)| *name).chain(["other"]);
        let read = |(rcode, cell): (&'static str, &Doubling)| Replied {
            rcode,
            buckets: cell.buckets.each_ref().map(Counter::get),
            sum: cell.sum_ns.get() as f64 / 1e9,
        };
        names.zip(&self.0).map(read).filter(|replied| replied.buckets.iter().any(|&n| n > 0)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reply_is_in_the_bucket_whose_bound_it_does_not_exceed() {
        let bounds = Replied::bounds();
        assert_eq!((bounds[0], bounds[1], bounds[15]), (0.00025, 0.0005, 8.192));
        for (nanos, bucket) in [
            (0, 0),
            (1, 0),
            (250_000, 0),
            (250_001, 1),
            (500_000, 1),
            (500_001, 2),
            (1_000_000, 2),
            (8_192_000_000, 15),
            (8_192_000_001, 16),
            (u64::MAX, 16),
        ] {
            let replies = Replies::default();
            replies.count(0, Duration::from_nanos(nanos));
            let [ref one] = replies.snapshot()[..] else { panic!("{nanos}: {:?}", replies.snapshot()) };
            assert_eq!((one.rcode, one.buckets.iter().position(|&n| n == 1)), ("NOERROR", Some(bucket)), "{nanos}");
            assert_eq!(one.sum, nanos as f64 / 1e9);
        }
    }

    #[test]
    fn each_rcode_has_its_own_cells_and_rare_ones_share_theirs() {
        let replies = Replies::default();
        for code in [3, 3, 16, 23] {
            replies.count(code, Duration::from_millis(1));
        }
        let counts: Vec<(&str, u64)> = replies.snapshot().iter().map(|r| (r.rcode, r.buckets[2])).collect();
        assert_eq!(counts, [("NXDOMAIN", 2), ("other", 2)]);
    }
}
