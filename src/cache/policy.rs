//! What may be cached, for how long, and why.
//!
//! **Positive answers.** The whole reply is kept under its question and nothing else: no record of the authority or
//! additional section becomes an answer to a question of its own (RFC 2181 §5.4.1; the poisonings of 2008 and 2025
//! began there). It may be given out for the smallest TTL in it (RFC 2181 §5.2), since it is given out whole: an
//! alias whose target has expired has expired. A TTL with its top bit set is 0 (§8). The zone's `minTtl` raises a TTL
//! and its `maxTtl` caps it, on every record and before the first client sees it, so that no client is shown a long
//! TTL first and a short one later; in the style of CoreDNS all records show the least of them. An answer with TTL 0 serves those who already wait for it, nobody else.
//!
//! **Negative answers** (RFC 2308). NXDOMAIN and NODATA are kept for min(SOA TTL, SOA MINIMUM) (§5), clamped to the
//! zone's negative range; the SOA shows that value. Without an SOA they are not kept (§5, "SHOULD NOT be cached"), nor
//! with one whose owner is no ancestor of the name that does not exist: that SOA speaks of another zone. NXDOMAIN
//! behind an alias is an answer to the whole question and kept as one (§2.1). A referral is no NODATA (§2.2).
//!
//! **Never kept**: truncated replies (RFC 2181 §9), replies that `wire::validate` refuses, answers to queries with RD
//! clear (the upstream may have told only what it had at hand).
//!
//! **Failures** (RFC 9520 §3.2): SERVFAIL, timeouts and unreachable upstreams are remembered by `resolve::failures` for
//! one second, doubling up to the zone's `failureTtl` while they go on, never over five minutes. They stand beside
//! the cache, not in it: no failure replaces an answer that may still be given out (RFC 8767 §4).
//!
//! **Stale answers** (RFC 8767). What has expired stays for `maxAge` more. It is given out when the upstream fails, or has
//! not answered after `clientWait`, with `answerTtl` as its TTL and Extended DNS Error 3, 19 for NXDOMAIN (RFC 8914 §4.4,
//! §4.20); at once until `recheck` after a failure (§5: the client response, failure recheck and maximum stale timers). A
//! valid reply that says something of the name ends that, NXDOMAIN and one that may not be kept included: what it replaces
//! is never given out again. Where `preferPositive` is set, NXDOMAIN and NODATA do not replace an answer with data that may
//! be given out. A reply that is itself marked as stale is new for the TTL that it shows, but not when it comes after the
//! old answer was given out: an upstream that forwards back to us has it from us.
//!
//! **Prefetch.** An answer that is asked for in the last part of its life is renewed then, so that a name asked often is
//! never a miss; but not again if what came lives no longer than what was there. See [`super::entry::Refresh`] for when,
//! `resolve` for how many at once.

use crate::wire::question::rtype;
use crate::wire::record;
use crate::wire::validate::{Class, Reply, effective_ttl};
use std::time::Duration;

/// No answer is kept longer than this, whatever its TTL (RFC 8767 §4 suggests seven days).
pub const MAX_TTL: u32 = 7 * 86_400;

/// The TTL bounds of one zone, in seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ttls {
    /// Smallest and largest for positive answers.
    pub positive: (u32, u32),
    /// Smallest and largest for negative answers.
    pub negative: (u32, u32),
    /// How long failures are remembered at most.
    pub failure: Duration,
    /// Does every record show the lifetime of the whole answer?
    pub one: bool,
}

/// How answers are given out after their lifetime while no newer ones can be had.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stale {
    /// For how long after it.
    pub max_age: Duration,
    /// The TTL that they show, in seconds.
    pub answer_ttl: u32,
    /// How long a client waits for a newer one first.
    pub client_wait: Duration,
    /// How long after a failure the upstream is asked again.
    pub recheck: Duration,
    /// Does a negative reply count as a failure while there is a positive answer?
    pub prefer_positive: bool,
}

/// Which answers are renewed before they expire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Prefetch {
    /// Those with so many hits in the last part of their life.
    pub min_hits: u8,
    /// How long that part is, in percent; at most 90.
    pub remaining: u8,
}

/// Decides for how many seconds `reply` may be kept, 0 for not at all, and clamps the TTLs in it.
pub fn apply(reply: &mut Reply, ttls: &Ttls) -> u32 {
    let (bounds, negative) = match reply.class {
        Class::Positive => (ttls.positive, None),
        Class::NxDomain(ttl) | Class::NoData(ttl) => (ttls.negative, Some(ttl)),
        Class::Unstorable | Class::Truncated | Class::Failure => ((0, ttls.negative.1), None),
    };
    let clamp = |ttl: u32| ttl.max(bounds.0).min(bounds.1).min(MAX_TTL);
    let storable = matches!(reply.class, Class::Positive | Class::NxDomain(_) | Class::NoData(_));
    let mut lifetime = negative.map(clamp);
    let Some((_, records)) = record::of(&reply.message) else { return 0 };
    if ttls.one && storable {
        return as_one(&mut reply.message, clamp);
    }
    let shown: Vec<(usize, u32)> = records
        .map_while(Result::ok)
        .map(|r| match negative {
            Some(ttl) if r.rtype == rtype::SOA => (r.ttl_at, clamp(ttl)),
            _ => (r.ttl_at, clamp(effective_ttl(r.ttl))),
        })
        .collect();
    for (at, ttl) in shown {
        lifetime = Some(lifetime.map_or(ttl, |least| least.min(ttl)));
        if let Some(slot) = reply.message.get_mut(at..at + 4) {
            slot.copy_from_slice(&ttl.to_be_bytes());
        }
    }
    if storable { lifetime.unwrap_or(0) } else { 0 }
}

/// Has every record of `message` show the least TTL of them, brought within bounds by `clamp`, and returns it. As CoreDNS
/// does; it does not ask for the MINIMUM of an SOA.
fn as_one(message: &mut [u8], clamp: impl Fn(u32) -> u32) -> u32 {
    let Some((_, records)) = record::of(message) else { return 0 };
    let found: Vec<(usize, u32)> = records.map_while(Result::ok).map(|r| (r.ttl_at, effective_ttl(r.ttl))).collect();
    let Some(least) = found.iter().map(|(_, ttl)| clamp(*ttl)).min() else { return 0 };
    for (at, _) in found {
        if let Some(slot) = message.get_mut(at..at + 4) {
            slot.copy_from_slice(&least.to_be_bytes());
        }
    }
    least
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::header::{self, Header};

    const TTLS: Ttls = Ttls { positive: (5, 30), negative: (1, 5), failure: Duration::from_secs(5), one: false };

    /// A reply of `class` whose answer section holds A records with these TTLs, its authority one SOA with `soa`.
    fn reply(class: Class, ttls: &[u32], soa: Option<u32>) -> Reply {
        let mut message = vec![0; header::LEN];
        let nscount = u16::from(soa.is_some());
        Header { id: 0, flags: header::QR, qdcount: 1, ancount: ttls.len() as u16, nscount, arcount: 0 }
            .write(&mut message);
        message.extend([1, b'a', 0, 0, 1, 0, 1]);
        for ttl in ttls {
            message.extend([0xc0, 12, 0, 1, 0, 1]);
            message.extend(ttl.to_be_bytes());
            message.extend([0, 4, 1, 2, 3, 4]);
        }
        if let Some(ttl) = soa {
            message.extend([0, 0, 6, 0, 1]);
            message.extend(ttl.to_be_bytes());
            message.extend([0, 22, 0, 0]);
            message.extend([0; 20]);
        }
        Reply { message, rcode: 0, class, ede: None }
    }

    fn shown(reply: &Reply) -> Vec<u32> {
        record::of(&reply.message).unwrap().1.map(|r| r.unwrap().ttl).collect()
    }

    #[test]
    fn c20_c21_the_least_ttl_counts_and_each_is_clamped() {
        let mut r = reply(Class::Positive, &[300, 7, 1], None);
        assert_eq!(apply(&mut r, &TTLS), 5);
        assert_eq!(shown(&r), [30, 7, 5]);
        let mut r = reply(Class::Positive, &[315_360_000], None);
        assert_eq!(apply(&mut r, &Ttls { positive: (0, u32::MAX), ..TTLS }), MAX_TTL);
    }

    #[test]
    fn all_records_can_show_one_ttl() {
        let one = Ttls { one: true, ..TTLS };
        for (ttls, least) in [(&[300, 7, 1][..], 5), (&[300, 17][..], 17), (&[0][..], 5), (&[300][..], 30)] {
            let mut r = reply(Class::Positive, ttls, Some(40));
            assert_eq!(apply(&mut r, &one), least);
            assert_eq!(shown(&r), vec![least; ttls.len() + 1]);
        }
        let mut r = reply(Class::NxDomain(0), &[], Some(3600));
        assert_eq!((apply(&mut r, &one), shown(&r)), (5, vec![5]), "the SOA's own TTL counts");
        let mut r = reply(Class::Unstorable, &[300], None);
        assert_eq!((apply(&mut r, &one), shown(&r)), (0, vec![5]));
    }

    #[test]
    fn c18_ttl_zero_is_not_kept_unless_raised() {
        let none = Ttls { positive: (0, 30), ..TTLS };
        assert_eq!(apply(&mut reply(Class::Positive, &[0, 60], None), &none), 0);
        assert_eq!(apply(&mut reply(Class::Positive, &[0, 60], None), &TTLS), 5);
        assert_eq!(apply(&mut reply(Class::Positive, &[u32::MAX], None), &none), 0, "c19");
    }

    #[test]
    fn c22_c25_negatives_live_by_their_soa() {
        let mut r = reply(Class::NxDomain(3), &[], Some(60));
        assert_eq!(apply(&mut r, &TTLS), 3);
        assert_eq!(shown(&r), [3]);
        let mut r = reply(Class::NoData(3600), &[], Some(3600));
        assert_eq!(apply(&mut r, &TTLS), 5);
        let mut r = reply(Class::NxDomain(5), &[2], Some(60));
        assert_eq!(apply(&mut r, &TTLS), 2, "the alias expires first");
    }

    #[test]
    fn c16_c23_c26_c28_other_replies_are_not_kept() {
        for class in [Class::Unstorable, Class::Truncated, Class::Failure] {
            assert_eq!(apply(&mut reply(class, &[300], Some(300)), &TTLS), 0, "{class:?}");
        }
    }
}
