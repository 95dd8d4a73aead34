//! Which zone a name belongs to: the longest configured suffix, by whole labels, among the zones that are there for who
//! asks at the listen address in question (its view).

use super::{Before, Behind};
use crate::cache::{Prefetch, Stale, Ttls};
use crate::observe::errors::Errors;
use crate::observe::querylog::QueryLog;
use crate::upstream::Exchange;
use crate::wire::question::is_within;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

/// A zone and how its names are resolved.
pub struct Zone {
    /// Its name, lower-case, as on the wire.
    pub name: Box<[u8]>,
    /// Its number in metrics.
    pub label: u16,
    /// Who is asked.
    pub upstream: Arc<dyn Exchange>,
    /// How long answers are kept.
    pub ttls: Ttls,
    /// Whether they are given out after that, and how.
    pub stale: Option<Stale>,
    /// Whether they are renewed before that, and which.
    pub prefetch: Option<Prefetch>,
    /// Which are kept at all.
    pub keep: Keep,
    /// The rules before the cache.
    pub before: Option<Arc<Before>>,
    /// The rules behind it.
    pub behind: Option<Arc<Behind>>,
    /// What clients are told who ask for the server's name (RFC 5001).
    pub nsid: Option<Arc<[u8]>>,
    /// Whether queries are logged, and how.
    pub log: Option<Arc<QueryLog>>,
    /// Whether failures are told in CoreDNS's words, and how.
    pub errors: Option<Arc<Errors>>,
    /// A number that changes with the rules that answers are made by: those made by others are forgotten.
    pub revision: u64,
}

impl Zone {
    /// One without any rules.
    pub fn new(name: &[u8], label: u16, upstream: Arc<dyn Exchange>, ttls: Ttls) -> Zone {
        let (stale, prefetch, keep, nsid, revision) = (None, None, Keep::default(), None, 0);
        let (before, behind) = (None, None);
        let (log, errors) = (None, None);
        let name = name.into();
        Zone { name, label, upstream, ttls, stale, prefetch, keep, before, behind, nsid, log, errors, revision }
    }

    /// Have rules a say in each hit?
    pub fn is_ruled(&self) -> bool {
        self.keep.whole_ttl || self.before.is_some() || self.log.is_some()
    }
}

/// Which answers of a zone are kept. Names are lower-case, as on the wire, and stand for those below them, too.
#[derive(Clone, Debug, Default)]
pub struct Keep {
    /// None at all.
    pub nothing: bool,
    /// Those of these names alone; empty for all.
    pub only: Vec<Box<[u8]>>,
    /// No positive ones of these names.
    pub never_positive: Vec<Box<[u8]>>,
    /// No negative ones of these names.
    pub never_negative: Vec<Box<[u8]>>,
    /// Hits show the TTLs that the answer came with.
    pub whole_ttl: bool,
}

impl Keep {
    /// Is an answer for `name` of this kind kept?
    pub fn allows(&self, name: &[u8], negative: bool) -> bool {
        let among = |names: &[Box<[u8]>]| names.iter().any(|zone| is_within(name, zone));
        let never = if negative { &self.never_negative } else { &self.never_positive };
        !self.nothing && (self.only.is_empty() || among(&self.only)) && !among(never)
    }
}

type Table = HashMap<Box<[u8]>, Arc<Zone>, foldhash::quality::RandomState>;

/// All zones, of each view; swapped as a whole when the configuration changes.
#[derive(Default)]
pub struct Zones {
    views: Vec<Table>,
    /// Which listen addresses make which view.
    partition: Vec<Vec<SocketAddr>>,
    /// Are queries of any zone logged?
    pub logged: bool,
}

impl Zones {
    /// A table of `zones` for one view of everything; of two with one name the later stays.
    pub fn new(zones: impl IntoIterator<Item = Zone>) -> Zones {
        Zones::of_views([(Vec::new(), zones.into_iter().map(Arc::new).collect())])
    }

    /// One table for each view: the listen addresses that make it, and its zones. At most [`crate::cache::key::VIEWS`].
    pub fn of_views(views: impl IntoIterator<Item = (Vec<SocketAddr>, Vec<Arc<Zone>>)>) -> Zones {
        let table = |zones: Vec<Arc<Zone>>| zones.into_iter().map(|zone| (zone.name.clone(), zone)).collect();
        let (partition, views): (_, Vec<Table>) =
            views.into_iter().map(|(places, zones)| (places, table(zones))).unzip();
        let logged = views.iter().flat_map(Table::values).any(|zone| zone.log.is_some());
        Zones { views, partition, logged }
    }

    /// The view of the queries that come in at `place`.
    pub fn view(&self, place: SocketAddr) -> u8 {
        self.partition.iter().position(|places| places.contains(&place)).unwrap_or(0) as u8
    }

    /// The zone that `name` (lower-case, as on the wire) belongs to in `view`; `None` when it is in none.
    pub fn find(&self, view: u8, name: &[u8]) -> Option<&Arc<Zone>> {
        let table = self.views.get(usize::from(view))?;
        let mut rest = name;
        loop {
            if let Some(zone) = table.get(rest) {
                return Some(zone);
            }
            let (&label, tail) = rest.split_first()?;
            rest = if label == 0 { return None } else { tail.get(usize::from(label)..)? };
        }
    }

    /// How long after its lifetime an answer of any zone may be given out.
    pub(super) fn longest_stale(&self) -> Duration {
        self.iter().filter_map(|zone| zone.stale).map(|stale| stale.max_age).max().unwrap_or_default()
    }

    /// Are there zones of the same names in each view of `other`, made by the same rules, and no more?
    pub(super) fn answers_like(&self, other: &Zones) -> bool {
        let like = |(a, b): (&Table, &Table)| {
            a.len() == b.len() && a.iter().all(|(name, zone)| b.get(name).is_some_and(|b| b.revision == zone.revision))
        };
        self.has_the_views_of(other) && self.views.iter().zip(&other.views).all(like)
    }

    /// The zone of `name` in the first view, and a number for what its answers are made by, equal in every process with the
    /// same rules and views. Where there is one view, its addresses do not count.
    pub fn made_by(&self, name: &[u8]) -> Option<(&Arc<Zone>, u64)> {
        let views = if self.partition.len() > 1 { fingerprint(&format!("{:?}", self.partition)) } else { 0 };
        self.find(0, name).map(|zone| (zone, zone.revision ^ views))
    }

    /// Are the views those of `other`?
    pub(super) fn has_the_views_of(&self, other: &Zones) -> bool {
        self.partition == other.partition
    }

    /// All zones, in no order; one that is in several views is there once for each.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Zone>> {
        self.views.iter().flat_map(Table::values)
    }
}

/// A number for `text` that does not change with the program: FNV-1a.
pub fn fingerprint(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |sum, octet| (sum ^ u64::from(octet)).wrapping_mul(0x0100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::upstream::{Error, Exchanged, Query};
    use crate::wire::question::to_wire as wire;
    use tokio::time::Instant;

    struct Nobody;

    impl Exchange for Nobody {
        fn exchange<'a>(&'a self, _: Query<'a>, _: Instant) -> Exchanged<'a> {
            Box::pin(async { Err(Error::NoServers) })
        }
    }

    #[test]
    fn each_view_has_zones_of_its_own() {
        let ttls = Ttls { positive: (0, 30), negative: (0, 5), failure: Duration::from_secs(5), one: false };
        let zone = |label, name: &str| Arc::new(Zone::new(&wire(name), label, Arc::new(Nobody), ttls));
        let place = |last| SocketAddr::from(([127, 0, 0, last], 53));
        let shared = zone(3, "a");
        let of = |places: &[u8], zones| (places.iter().map(|&p| place(p)).collect(), zones);
        let first = vec![zone(1, "."), Arc::clone(&shared)];
        let zones = Zones::of_views([of(&[1, 3], first.clone()), of(&[2], vec![zone(2, "."), Arc::clone(&shared)])]);
        assert_eq!([1, 2, 3].map(|p| zones.view(place(p))), [0, 1, 0]);
        let label = |view, name: &str| zones.find(view, &wire(name)).map(|z| z.label);
        assert_eq!(
            [label(0, "b"), label(1, "b"), label(0, "b.a"), label(1, "a")],
            [Some(1), Some(2), Some(3), Some(3)]
        );
        assert_eq!(label(2, "b"), None, "no such view");
        let same = Zones::of_views([of(&[1, 3], first.clone()), of(&[2], vec![zone(7, "."), shared])]);
        assert!(zones.answers_like(&same));
        let other = Zones::of_views([of(&[1, 2, 3], first)]);
        assert!(!zones.has_the_views_of(&other) && !zones.answers_like(&other));
    }

    #[test]
    fn what_is_kept_goes_by_name_and_kind() {
        let names = |list: &[&str]| list.iter().map(|name| wire(name).into()).collect();
        let keep = Keep {
            only: names(&["a.org", "b.org"]),
            never_positive: names(&["b.org"]),
            never_negative: names(&["x.a.org"]),
            ..Keep::default()
        };
        for (name, positive, negative) in
            [("a.org", true, true), ("b.org", false, true), ("y.x.a.org", true, false), ("org", false, false)]
        {
            let allows = [false, true].map(|kind| keep.allows(&wire(name), kind));
            assert_eq!(allows, [positive, negative], "{name}");
        }
        assert!(Keep::default().allows(&wire("a"), true));
        assert!(!Keep { nothing: true, ..Keep::default() }.allows(&wire("a"), false));
    }

    #[test]
    fn e12_e21_the_longest_label_aligned_suffix_wins() {
        let ttls = Ttls { positive: (0, 30), negative: (0, 5), failure: Duration::from_secs(5), one: false };
        let zone = |(label, name): (u16, &str)| Zone::new(&wire(name), label, Arc::new(Nobody), ttls);
        let zones = Zones::new([(1, "cluster.local"), (2, "stub.cluster.local"), (3, "corp")].map(zone));
        for (name, label) in [
            ("cluster.local", Some(1)),
            ("a.b.cluster.local", Some(1)),
            ("xcluster.local", None),
            ("stub.cluster.local", Some(2)),
            ("a.stub.cluster.local", Some(2)),
            ("astub.cluster.local", Some(1)),
            ("corp", Some(3)),
            ("org", None),
            ("", None),
        ] {
            assert_eq!(zones.find(0, &wire(name)).map(|z| z.label), label, "{name}");
        }
        let within_a_label = zones.find(0, b"\x09a\x07cluster\x05local\x00");
        assert!(within_a_label.is_none(), "an octet that looks like a label's length is none");
        let all = Zones::new([(9, "."), (1, "cluster.local")].map(zone));
        assert_eq!(all.find(0, &wire("xcluster.local")).map(|z| z.label), Some(9));
        assert_eq!(all.find(0, &[0]).map(|z| z.label), Some(9));
    }
}
