//! What is counted per answer for CoreDNS's names alone: sizes, DO, who wrote the answer, and durations in its buckets.
//!
//! One set per writer, as [`super::super::queries`] has them, and only where these names are wanted: without them a hit
//! pays for one predictable branch. CoreDNS counts a query when it is answered, so all of it is counted then.

use std::sync::OnceLock;
use std::time::Duration;

use crate::observe::cells::Counter;
use crate::observe::queries::{Label, RCODES, Source, TYPES, bucket, labels};
use crate::wire::header::rcode;

labels! {
    /// Who wrote an answer, by the name of the plugin that does the same in CoreDNS.
    Plugin {
        /// The server itself.
        Server = "",
        /// The cache.
        Cache = "cache",
        /// An upstream's answer.
        Forward = "forward",
        /// A hosts file.
        Hosts = "hosts",
        /// A rule that answers (`respond`).
        Template = "template",
        /// A rewritten answer.
        Rewrite = "rewrite",
        /// An access rule.
        Acl = "acl",
        /// The refusal to answer ANY.
        Any = "any",
        /// The client's own address.
        Whoami = "whoami",
        /// An AAAA record made of an A record.
        Dns64 = "dns64",
        /// Records put in another order.
        LoadBalance = "loadbalance",
    }
}

impl Plugin {
    /// Was the cache asked before?
    fn is_behind_the_cache(self) -> bool {
        matches!(self, Plugin::Forward | Plugin::Hosts | Plugin::Template | Plugin::Rewrite | Plugin::Whoami)
    }

    /// Who wrote an answer of which no more is known than where it came from, and whether there was one at all.
    pub fn of(source: Source, is_message: bool) -> Plugin {
        match source {
            Source::Hit | Source::NegativeHit | Source::Stale => Plugin::Cache,
            Source::Miss if is_message => Plugin::Forward,
            _ => Plugin::Server,
        }
    }
}

/// An answer, as far as CoreDNS's names speak of it.
#[derive(Clone, Copy, Debug)]
pub struct Answered {
    /// The number of the zone; 0 for none.
    pub zone: u16,
    /// The type asked for (IANA number).
    pub qtype: u16,
    /// The response code, EDNS bits included.
    pub rcode: u16,
    /// Where it came from.
    pub source: Source,
    /// Does it deny that there is something? Tells stale answers apart.
    pub negative: bool,
    /// Who wrote it.
    pub plugin: Plugin,
    /// Octets of the query.
    pub request_len: usize,
    /// Octets of the answer.
    pub response_len: usize,
    /// Did the client set DO?
    pub dnssec_ok: bool,
    /// How long it took; `None` where `QueryCells::duration` is told.
    pub took: Option<Duration>,
}

/// Upper bounds of the sizes of messages, in octets.
const SIZES: [u16; 14] = [0, 100, 200, 300, 400, 511, 1023, 2047, 4095, 8291, 16_000, 32_000, 48_000, 64_000];

/// The same as they are exported.
pub(super) const SIZE_BOUNDS: [f64; SIZES.len()] = {
    let mut bounds = [0.0; SIZES.len()];
    let mut at = 0;
    while at < bounds.len() {
        bounds[at] = SIZES[at] as f64;
        at += 1;
    }
    bounds
};

/// The first of [`TIME_BOUNDS`], in nanoseconds.
const FIRST_NS: u64 = 250_000;

/// Upper bounds of durations, in seconds: each twice the one before.
pub const TIME_BOUNDS: [f64; 16] = {
    let mut bounds = [0.0; 16];
    let mut at = 0;
    while at < bounds.len() {
        bounds[at] = (FIRST_NS << at) as f64 / 1e9;
        at += 1;
    }
    bounds
};

/// Sizes in the buckets of [`SIZE_BOUNDS`].
#[derive(Debug, Default)]
pub(super) struct Sizes {
    pub(super) counts: [Counter; SIZES.len() + 1],
    pub(super) octets: Counter,
}

/// Durations in the buckets of [`TIME_BOUNDS`].
#[derive(Debug, Default)]
pub(super) struct Times {
    pub(super) counts: [Counter; TIME_BOUNDS.len() + 1],
    pub(super) nanos: Counter,
}

/// What is counted for one zone.
#[derive(Debug, Default)]
pub(super) struct ZoneAnswers {
    /// Queries by type.
    pub(super) types: [Counter; TYPES.len() + 1],
    /// Sizes of queries.
    pub(super) requests: Sizes,
    /// Sizes of answers.
    pub(super) responses: Sizes,
    /// Queries with DO.
    pub(super) dnssec_ok: Counter,
    /// Answers by response code, then by who wrote them.
    pub(super) rcodes: [[Counter; Plugin::ALL.len()]; RCODES.len() + 1],
    /// Time to answer.
    pub(super) times: Times,
    /// Answers from the cache: success, denial.
    pub(super) hits: [Counter; 2],
    /// Answers that the cache did not have.
    pub(super) misses: Counter,
    /// Answers from the cache after their lifetime.
    pub(super) stale: Counter,
}

/// The cells of one writer.
#[derive(Debug)]
pub(in crate::observe) struct AnswerCells {
    shared: bool,
    zones: Box<[OnceLock<Box<ZoneAnswers>>]>,
}

impl AnswerCells {
    /// Cells for zone numbers below `zones`, which must be at least one; `shared` by several threads.
    pub(in crate::observe) fn new(shared: bool, zones: usize) -> AnswerCells {
        AnswerCells { shared, zones: (0..zones).map(|_| OnceLock::new()).collect() }
    }

    /// Counts an answer. The refusal of an EDNS version is none that CoreDNS counts.
    pub(in crate::observe) fn answered(&self, answer: &Answered) {
        if answer.rcode == rcode::BADVERS {
            return;
        }
        let zone = self.zone(answer.zone);
        self.add(&zone.types[bucket(&TYPES, answer.qtype)], 1);
        self.size(&zone.requests, answer.request_len);
        self.size(&zone.responses, answer.response_len);
        if answer.dnssec_ok {
            self.add(&zone.dnssec_ok, 1);
        }
        self.add(&zone.rcodes[bucket(&RCODES, answer.rcode)][answer.plugin.index()], 1);
        match answer.source {
            Source::Hit => self.add(&zone.hits[0], 1),
            Source::NegativeHit => self.add(&zone.hits[1], 1),
            Source::Stale => {
                self.add(&zone.hits[usize::from(answer.negative)], 1);
                self.add(&zone.stale, 1);
            }
            Source::Miss => self.add(&zone.misses, 1),
            Source::Local if answer.plugin.is_behind_the_cache() => self.add(&zone.misses, 1),
            Source::Local | Source::Refused => {}
        }
        if let Some(took) = answer.took {
            self.took(answer.zone, took, 1);
        }
    }

    /// Counts `n` answers that each took `took`.
    pub(in crate::observe) fn took(&self, zone: u16, took: Duration, n: u64) {
        let nanos = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        let times = &self.zone(zone).times;
        self.add(&times.counts[doublings(nanos).min(TIME_BOUNDS.len())], n);
        self.add(&times.nanos, nanos.saturating_mul(n));
    }

    /// What was counted for a zone, if anything ever was.
    pub(super) fn counted(&self, zone: u16) -> Option<&ZoneAnswers> {
        self.zones.get(usize::from(zone))?.get().map(|cells| &**cells)
    }

    fn size(&self, sizes: &Sizes, octets: usize) {
        let at = SIZES.iter().position(|&bound| octets <= usize::from(bound)).unwrap_or(SIZES.len());
        self.add(&sizes.counts[at], 1);
        self.add(&sizes.octets, octets as u64);
    }

    fn zone(&self, zone: u16) -> &ZoneAnswers {
        let at = usize::from(zone).min(self.zones.len() - 1);
        self.zones[at].get_or_init(Box::default)
    }

    fn add(&self, counter: &Counter, n: u64) {
        if self.shared { counter.add(n) } else { counter.add_owned(n) }
    }
}

/// How often [`FIRST_NS`] must be doubled to be no less than `nanos`.
fn doublings(nanos: u64) -> usize {
    nanos.div_ceil(FIRST_NS).max(1).next_power_of_two().ilog2() as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bounds_are_those_of_coredns() {
        assert_eq!((TIME_BOUNDS[0], TIME_BOUNDS[1], TIME_BOUNDS[15]), (0.00025, 0.0005, 8.192));
        let text: Vec<String> = TIME_BOUNDS.iter().map(f64::to_string).collect();
        let want = "0.00025 0.0005 0.001 0.002 0.004 0.008 0.016 0.032 0.064 0.128 0.256 0.512 1.024 2.048 4.096 8.192";
        assert_eq!(text.join(" "), want);
    }

    #[test]
    fn a_duration_is_in_the_bucket_whose_bound_it_does_not_exceed() {
        for (nanos, bucket) in
            [(0, 0), (250_000, 0), (250_001, 1), (500_000, 1), (500_001, 2), (8_192_000_000, 15), (8_192_000_001, 16)]
        {
            assert_eq!(doublings(nanos).min(TIME_BOUNDS.len()), bucket, "{nanos}");
        }
        let cells = AnswerCells::new(false, 1);
        cells.took(0, Duration::MAX, 1);
        assert_eq!(cells.counted(0).unwrap().times.counts[16].get(), 1);
    }

    #[test]
    fn sizes_stale_answers_and_who_wrote_them_are_told_apart() {
        let answer = Answered {
            zone: 1,
            qtype: 28,
            rcode: 3,
            source: Source::Stale,
            negative: true,
            plugin: Plugin::Cache,
            request_len: 100,
            response_len: 101,
            dnssec_ok: true,
            took: Some(Duration::from_millis(1)),
        };
        let cells = AnswerCells::new(true, 3);
        cells.answered(&answer);
        cells.answered(&Answered {
            source: Source::Miss,
            plugin: Plugin::Forward,
            dnssec_ok: false,
            took: None,
            ..answer
        });
        cells.answered(&Answered { rcode: rcode::BADVERS, ..answer });
        let zone = cells.counted(1).unwrap();
        let get = |counters: &[Counter]| counters.iter().map(Counter::get).collect::<Vec<_>>();
        assert_eq!((get(&zone.hits), zone.misses.get(), zone.stale.get()), (vec![0, 1], 1, 1));
        assert_eq!((zone.requests.counts[1].get(), zone.responses.counts[2].get()), (2, 2));
        assert_eq!((zone.requests.octets.get(), zone.responses.octets.get(), zone.dnssec_ok.get()), (200, 202, 1));
        let nxdomain = &zone.rcodes[bucket(&RCODES, 3)];
        assert_eq!((nxdomain[Plugin::Cache.index()].get(), nxdomain[Plugin::Forward.index()].get()), (1, 1));
        assert_eq!((zone.types[bucket(&TYPES, 28)].get(), zone.times.counts[2].get()), (2, 1));
        assert!(cells.counted(0).is_none() && cells.counted(9).is_none());
    }

    #[test]
    fn answers_without_a_rule_were_written_by_cache_forward_or_the_server() {
        let by = |source, is_message| Plugin::of(source, is_message).name();
        assert_eq!(
            (by(Source::Hit, true), by(Source::NegativeHit, false), by(Source::Stale, true)),
            ("cache", "cache", "cache")
        );
        assert_eq!((by(Source::Miss, true), by(Source::Miss, false)), ("forward", ""));
        assert_eq!((by(Source::Refused, false), by(Source::Local, false)), ("", ""));
    }
}
