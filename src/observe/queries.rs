//! Counts per query, one set of cells per writer: a UDP worker's are its own, those of the TCP tasks are shared.
//!
//! Counting costs an addition to memory the writer already owns: no lock, no look-up of a label, and no allocation once
//! a zone has been seen. Whoever scrapes adds the sets up.

use std::sync::OnceLock;
use std::time::Duration;

use super::cells::{Counter, Histogram};
use super::coredns::cells::{AnswerCells, Answered};

/// A closed set of label values: each names itself and knows its place among all of them.
pub trait Label: Copy + 'static {
    /// Every value, in the order of [`Label::index`].
    const ALL: &'static [Self];
    /// The label value as it is exported.
    fn name(self) -> &'static str;
    /// The place of this value in [`Label::ALL`].
    fn index(self) -> usize;
}

/// Declares an enum with its [`Label`]: each variant beside the text it is exported as.
macro_rules! labels {
    ($(#[$about:meta])* $name:ident { $($(#[$doc:meta])* $variant:ident = $text:literal,)+ }) => {
        $(#[$about])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum $name { $($(#[$doc])* $variant,)+ }

        impl $crate::observe::queries::Label for $name {
            const ALL: &'static [$name] = &[$($name::$variant),+];

            fn name(self) -> &'static str {
                match self { $($name::$variant => $text,)+ }
            }

            #[inline]
            fn index(self) -> usize {
                self as usize
            }
        }
    };
}
pub(super) use labels;

labels! {
    /// The transport a query came over.
    Proto {
        /// Datagrams.
        Udp = "udp",
        /// A stream.
        Tcp = "tcp",
    }
}

labels! {
    /// The address family a query came over.
    Family {
        /// IPv4.
        V4 = "ipv4",
        /// IPv6.
        V6 = "ipv6",
    }
}

labels! {
    /// Where an answer came from.
    Source {
        /// The cache, positive.
        Hit = "hit",
        /// The cache, NXDOMAIN or NODATA (RFC 2308).
        NegativeHit = "negative_hit",
        /// An upstream.
        Miss = "miss",
        /// The cache, after its TTL (RFC 8767).
        Stale = "stale",
        /// Made here: FORMERR, NOTIMP, a name answered on the node.
        Local = "local",
        /// Refused by a limit or an access rule.
        Refused = "refused",
    }
}

/// Query types told apart, by IANA number; all others are counted as "other".
pub(super) const TYPES: [(u16, &str); 19] = [
    (1, "A"),
    (28, "AAAA"),
    (12, "PTR"),
    (33, "SRV"),
    (16, "TXT"),
    (5, "CNAME"),
    (15, "MX"),
    (2, "NS"),
    (6, "SOA"),
    (65, "HTTPS"),
    (64, "SVCB"),
    (255, "ANY"),
    (43, "DS"),
    (48, "DNSKEY"),
    (46, "RRSIG"),
    (47, "NSEC"),
    (50, "NSEC3"),
    (251, "IXFR"),
    (252, "AXFR"),
];

/// Response codes told apart, by IANA number; all others are counted as "other".
pub(super) const RCODES: [(u16, &str); 12] = [
    (0, "NOERROR"),
    (3, "NXDOMAIN"),
    (2, "SERVFAIL"),
    (5, "REFUSED"),
    (1, "FORMERR"),
    (4, "NOTIMP"),
    (6, "YXDOMAIN"),
    (7, "YXRRSET"),
    (8, "NXRRSET"),
    (9, "NOTAUTH"),
    (10, "NOTZONE"),
    (16, "BADVERS"),
];

/// The label of bucket `at` of a table of numbers.
pub(super) fn bucket_name(table: &[(u16, &'static str)], at: usize) -> &'static str {
    table.get(at).map_or("other", |&(_, name)| name)
}

/// The bucket of `number`: the tables open with what is common, so that the walk is short.
#[inline]
pub(super) fn bucket(table: &[(u16, &str)], number: u16) -> usize {
    table.iter().position(|&(known, _)| known == number).unwrap_or(table.len())
}

/// What is counted for one zone.
#[derive(Debug, Default)]
pub(super) struct ZoneCells {
    /// Queries by type.
    pub(super) queries: [Counter; TYPES.len() + 1],
    /// Answers by response code, then source. One that `dns64` or `loadBalance` altered counts as the answer that it was
    /// made of: a translated one as the AAAA answer without addresses. `nodens_dns64_translated_total` has these.
    pub(super) responses: [[Counter; Source::ALL.len()]; RCODES.len() + 1],
    /// Time to answer by source.
    pub(super) durations: [Histogram; Source::ALL.len()],
}

/// What all that is counted in one set of cells has in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Common {
    /// The transport all these queries came over.
    pub(super) proto: Proto,
    /// The address family all these queries came over.
    pub(super) family: Family,
    /// The number of the listener they came to.
    pub(super) server: u16,
    /// May more than one thread write?
    pub(super) shared: bool,
}

/// The counters of one writer; made by `Metrics::cells`.
#[derive(Debug)]
pub struct QueryCells {
    pub(super) common: Common,
    zones: Box<[OnceLock<Box<ZoneCells>>]>,
    /// What is counted under CoreDNS's names, where that is wanted.
    pub(super) coredns: Option<AnswerCells>,
}

impl QueryCells {
    /// Cells for zone numbers below `zones`, which must be at least one.
    pub(super) fn new(common: Common, zones: usize, coredns: bool) -> QueryCells {
        let slots = (0..zones).map(|_| OnceLock::new()).collect();
        QueryCells { common, zones: slots, coredns: coredns.then(|| AnswerCells::new(common.shared, zones)) }
    }

    /// The transport all these queries came over.
    pub fn proto(&self) -> Proto {
        self.common.proto
    }

    /// Counts an answer under CoreDNS's names; `what` is asked only where these are wanted.
    #[inline]
    pub fn answered(&self, what: impl FnOnce() -> Answered) {
        if let Some(coredns) = &self.coredns {
            coredns.answered(&what());
        }
    }

    /// Counts a query of type `qtype` (IANA number) for the zone with this number.
    #[inline]
    pub fn query(&self, zone: u16, qtype: u16) {
        self.add(&self.zone(zone).queries[bucket(&TYPES, qtype)], 1);
    }

    /// Counts an answer with this response code (IANA number, EDNS bits included).
    #[inline]
    pub fn response(&self, zone: u16, rcode: u16, source: Source) {
        self.add(&self.zone(zone).responses[bucket(&RCODES, rcode)][source.index()], 1);
    }

    /// Counts `n` answers that each took `d`.
    #[inline]
    pub fn duration(&self, zone: u16, source: Source, d: Duration, n: u64) {
        let histogram = &self.zone(zone).durations[source.index()];
        if self.common.shared {
            histogram.observe_many(d, n)
        } else {
            histogram.observe_owned(d, n)
        }
        if let Some(coredns) = &self.coredns {
            coredns.took(zone, d, n);
        }
    }

    /// What was counted for a zone, if anything ever was.
    pub(super) fn counted(&self, zone: u16) -> Option<&ZoneCells> {
        self.zones.get(usize::from(zone))?.get().map(|cells| &**cells)
    }

    #[inline]
    fn zone(&self, zone: u16) -> &ZoneCells {
        let at = usize::from(zone).min(self.zones.len() - 1);
        self.zones[at].get_or_init(Box::default)
    }

    #[inline]
    fn add(&self, counter: &Counter, n: u64) {
        if self.common.shared { counter.add(n) } else { counter.add_owned(n) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cells(shared: bool) -> QueryCells {
        QueryCells::new(Common { proto: Proto::Udp, family: Family::V4, server: 0, shared }, 4, false)
    }

    #[test]
    fn numbers_without_a_bucket_of_their_own_are_other() {
        let c = cells(false);
        c.query(1, 28);
        c.query(1, 0xffff);
        c.response(1, 16, Source::Local);
        c.response(1, 0xfff, Source::Local);
        let zone = c.counted(1).unwrap();
        assert_eq!(zone.queries[bucket(&TYPES, 28)].get(), 1);
        assert_eq!(zone.queries[TYPES.len()].get(), 1);
        assert_eq!(zone.responses[bucket(&RCODES, 16)][Source::Local.index()].get(), 1);
        assert_eq!(zone.responses[RCODES.len()][Source::Local.index()].get(), 1);
        assert_eq!(bucket_name(&TYPES, bucket(&TYPES, 28)), "AAAA");
        assert_eq!(bucket_name(&RCODES, RCODES.len()), "other");
    }

    #[test]
    fn a_zone_nobody_asked_for_has_no_cells() {
        let c = cells(true);
        c.query(2, 1);
        assert!(c.counted(1).is_none());
        assert!(c.counted(2).is_some());
        assert!(c.counted(99).is_none());
    }

    #[test]
    fn a_zone_number_out_of_range_is_counted_as_the_last() {
        let c = cells(false);
        c.query(u16::MAX, 1);
        assert_eq!(c.counted(3).unwrap().queries[0].get(), 1);
    }

    #[test]
    fn shared_cells_lose_no_count() {
        let c = cells(true);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..10_000 {
                        c.query(1, 1);
                        c.duration(1, Source::Hit, Duration::from_micros(7), 2);
                    }
                });
            }
        });
        let zone = c.counted(1).unwrap();
        assert_eq!(zone.queries[0].get(), 40_000);
        let (buckets, sum) = zone.durations[Source::Hit.index()].snapshot();
        assert_eq!(buckets[0], 80_000);
        assert!((sum - 0.56).abs() < 1e-9);
    }
}
