//! Which zone a name belongs to: the longest configured suffix, by whole labels.

use crate::cache::{Prefetch, Stale, Ttls};
use crate::upstream::Exchange;
use std::collections::HashMap;
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
}

/// All zones; swapped as a whole when the configuration changes.
#[derive(Default)]
pub struct Zones(HashMap<Box<[u8]>, Arc<Zone>, foldhash::quality::RandomState>);

impl Zones {
    /// A table of `zones`; of two with one name the later stays.
    pub fn new(zones: impl IntoIterator<Item = Zone>) -> Zones {
        Zones(zones.into_iter().map(|zone| (zone.name.clone(), Arc::new(zone))).collect())
    }

    /// The zone that `name` (lower-case, as on the wire) belongs to; `None` when it is in none.
    pub fn find(&self, name: &[u8]) -> Option<&Arc<Zone>> {
        let mut rest = name;
        loop {
            if let Some(zone) = self.0.get(rest) {
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

    /// Are there zones of the same names in `other`, and no more?
    pub(super) fn has_the_names_of(&self, other: &Zones) -> bool {
        self.0.len() == other.0.len() && self.0.keys().all(|name| other.0.contains_key(name))
    }

    /// All zones, in no order.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Zone>> {
        self.0.values()
    }
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
    fn e12_e21_the_longest_label_aligned_suffix_wins() {
        let ttls = Ttls { positive: (0, 30), negative: (0, 5), failure: Duration::from_secs(5) };
        let zone = |(label, name): (u16, &str)| {
            let (name, upstream) = (wire(name).into(), Arc::new(Nobody));
            Zone { name, label, upstream, ttls, stale: None, prefetch: None }
        };
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
            assert_eq!(zones.find(&wire(name)).map(|z| z.label), label, "{name}");
        }
        let within_a_label = zones.find(b"\x09a\x07cluster\x05local\x00");
        assert!(within_a_label.is_none(), "an octet that looks like a label's length is none");
        let all = Zones::new([(9, "."), (1, "cluster.local")].map(zone));
        assert_eq!(all.find(&wire("xcluster.local")).map(|z| z.label), Some(9));
        assert_eq!(all.find(&[0]).map(|z| z.label), Some(9));
    }
}
