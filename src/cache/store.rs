//! The store: two moka caches, one for positive and one for negative answers, each bounded in bytes.
//!
//! moka evicts by frequency (W-TinyLFU), so that a scan of names asked once does not push out those asked often; a
//! flood of names that do not exist has a budget of its own and touches no positive answer. Whether an entry may still
//! be given out is decided here, by the time passed in, and what may not is purged from time to time: moka's own expiry
//! would go by a clock of its own and take 48 octets more for each entry.
//!
//! A flush starts a new generation. Answers asked for before it are not stored after it.

use super::entry::Entry;
use super::key::{BuildAsIs, Flags, Key, Owned, Seed};
use crate::observe::cells::Counter;
use crate::sys::clock::Moment;
use crate::wire::question;
use moka::notification::RemovalCause;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// What moka and the allocator take per entry beside the entry itself, in octets (measured at 100,000 entries).
pub const OVERHEAD: usize = 272;

/// Octets of budget per place that the tables have from the start.
const START_SHARE: u64 = 4096;

/// The share of the budget that negative answers have, in percent.
const NEGATIVE_PERCENT: u64 = 25;

/// The two kinds of answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Records of the wanted type.
    Positive,
    /// NXDOMAIN or NODATA.
    Negative,
}

impl Kind {
    /// Both, in the order in which they are looked up.
    pub const ALL: [Kind; 2] = [Kind::Positive, Kind::Negative];

    /// The label of metrics.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Positive => "positive",
            Kind::Negative => "negative",
        }
    }

    /// The one that it is not.
    fn other(self) -> Kind {
        match self {
            Kind::Positive => Kind::Negative,
            Kind::Negative => Kind::Positive,
        }
    }

    /// The kind of an entry.
    pub fn of(entry: &Entry) -> Kind {
        if entry.about().negative { Kind::Negative } else { Kind::Positive }
    }
}

/// How full one kind's part of the store is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Entries.
    pub entries: u64,
    /// Octets, overhead included.
    pub bytes: u64,
    /// Entries pushed out for want of room, since the start.
    pub evictions: u64,
}

type Map = moka::sync::Cache<Owned, Entry, BuildAsIs>;

/// One kind's part.
struct Part {
    map: Map,
    /// By the label of the zone; entries have no greater one.
    evictions: Arc<[Counter]>,
}

impl Part {
    fn new(max_bytes: u64) -> Part {
        let evictions: Arc<[Counter]> = (0..=u8::MAX).map(|_| Counter::new()).collect();
        let seen = Arc::clone(&evictions);
        let map = moka::sync::Cache::builder()
            .max_capacity(max_bytes)
            // Room for some of them from the start: a table that doubles moves all that it holds.
            .initial_capacity(usize::try_from(max_bytes / START_SHARE).unwrap_or(0))
            .weigher(|_, entry: &Entry| u32::try_from(entry.size() + OVERHEAD).unwrap_or(u32::MAX))
            .eviction_listener(move |_, entry: Entry, cause| {
                if cause == RemovalCause::Size
                    && let Some(counter) = seen.get(usize::from(entry.about().zone))
                {
                    counter.add(1);
                }
            })
            .build_with_hasher(BuildAsIs::default());
        Part { map, evictions }
    }

    /// Removes what `wanted` picks, and says how much that was.
    fn remove(&self, wanted: impl Fn(&Entry) -> bool) -> usize {
        let picked: Vec<Arc<Owned>> = self.map.iter().filter(|(_, entry)| wanted(entry)).map(|(key, _)| key).collect();
        picked.iter().for_each(|key| self.map.invalidate(&**key));
        picked.len()
    }
}

/// The store.
pub struct Store {
    seed: Seed,
    positive: Part,
    negative: Part,
    generation: AtomicU64,
}

impl Store {
    /// An empty store that holds at most `max_bytes` octets, overhead included.
    pub fn new(max_bytes: u64) -> Store {
        let negative = max_bytes / 100 * NEGATIVE_PERCENT;
        Store {
            seed: Seed::default(),
            positive: Part::new(max_bytes - negative),
            negative: Part::new(negative),
            generation: AtomicU64::new(0),
        }
    }

    fn part(&self, kind: Kind) -> &Part {
        match kind {
            Kind::Positive => &self.positive,
            Kind::Negative => &self.negative,
        }
    }

    /// The key of a question (lower-case QNAME, QTYPE, QCLASS as on the wire) with these flags, for this store alone.
    #[inline]
    pub fn key<'a>(&self, question: &'a [u8], flags: Flags) -> Key<'a> {
        self.seed.key(question, flags)
    }

    /// The answer to `key` that may be given out at `now`.
    #[inline]
    pub fn get(&self, key: &Key<'_>, now: Moment) -> Option<Entry> {
        Kind::ALL.iter().find_map(|&kind| self.part(kind).map.get(key).filter(|entry| entry.is_fresh(now)))
    }

    /// The answer to `key`, expired or not.
    pub fn find(&self, key: &Key<'_>) -> Option<Entry> {
        Kind::ALL.iter().find_map(|&kind| self.part(kind).map.get(key))
    }

    /// Forgets the answer to `key`.
    pub fn remove(&self, key: &Key<'_>) {
        Kind::ALL.iter().for_each(|&kind| self.part(kind).map.invalidate(key));
    }

    /// Might [`Store::find`] find something? Does not count as a read, and so costs less.
    #[inline]
    pub fn contains(&self, key: &Key<'_>) -> bool {
        Kind::ALL.iter().any(|&kind| self.part(kind).map.contains_key(key))
    }

    /// The generation to note when a question is sent upstream.
    pub fn generation(&self) -> u64 {
        self.generation.load(Ordering::SeqCst)
    }

    /// Keeps `entry`, unless it has no lifetime or a flush came since `generation`. The newest valid answer wins: one
    /// of the other kind to the same question goes.
    pub fn insert(&self, entry: Entry, generation: u64) {
        if entry.about().lifetime == 0 || self.generation() != generation {
            return;
        }
        let kind = Kind::of(&entry);
        let other = kind.other();
        let key = self.key(entry.question(), entry.about().flags);
        self.part(kind).map.insert(Owned::new(entry.clone(), key.hash()), entry.clone());
        if self.part(other).map.contains_key(&key) {
            self.part(other).map.invalidate(&key);
        }
        // A flush between the check and the insertion may have missed the entry.
        if self.generation() != generation {
            self.part(kind).map.invalidate(&key);
        }
    }

    /// Everything in it, fresh or not, in no order. Not for a thread that serves.
    pub fn iter(&self) -> impl Iterator<Item = Entry> {
        Kind::ALL.into_iter().flat_map(|kind| self.part(kind).map.iter().map(|(_, entry)| entry))
    }

    /// Gives back the memory of what expired `max_age` ago or earlier; returns how many entries that was. Looks at every
    /// entry, some 100 ns each: not for a thread that serves.
    pub fn purge(&self, now: Moment, max_age: Duration) -> usize {
        // An answer that is renewed this very moment may go with its predecessor: one more miss, no harm.
        Kind::ALL.iter().map(|&kind| self.part(kind).remove(|entry| !entry.is_servable(now, max_age))).sum()
    }

    /// Forgets the answers that `wanted` picks by the name (lower-case, as on the wire) that they answer for; returns how many.
    pub fn flush_where(&self, wanted: impl Fn(&[u8], &Entry) -> bool) -> usize {
        self.flush(|part| part.remove(|entry| wanted(owner(entry), entry)))
    }

    /// Forgets all answers to questions for `name` (lower-case, as on the wire), of any type; returns how many.
    pub fn flush_name(&self, name: &[u8]) -> usize {
        self.flush_where(|owner, _| owner == name)
    }

    /// Forgets all answers to questions for `zone` (lower-case, as on the wire) and the names below it.
    pub fn flush_zone(&self, zone: &[u8]) -> usize {
        self.flush_where(|owner, _| question::is_within(owner, zone))
    }

    /// Forgets everything.
    pub fn flush_all(&self) {
        self.flush(|part| {
            part.map.invalidate_all();
            0
        });
    }

    /// Removes by `remove`, between two new generations: what was asked for before the flush is not stored after it,
    /// and what a worker's own list took up during the flush it gives up at its end.
    fn flush(&self, remove: impl Fn(&Part) -> usize) -> usize {
        self.generation.fetch_add(1, Ordering::SeqCst);
        let removed = Kind::ALL.iter().map(|&kind| remove(self.part(kind))).sum();
        self.generation.fetch_add(1, Ordering::SeqCst);
        removed
    }

    /// How full it is; settles moka's pending work first, so not for the hot path.
    pub fn usage(&self, kind: Kind) -> Usage {
        let part = self.part(kind);
        part.map.run_pending_tasks();
        Usage {
            entries: part.map.entry_count(),
            bytes: part.map.weighted_size(),
            evictions: part.evictions.iter().map(Counter::get).sum(),
        }
    }

    /// Entries of the zone with this label that were pushed out for want of room, since the start.
    pub fn evictions(&self, kind: Kind, zone: u16) -> u64 {
        self.part(kind).evictions.get(usize::from(zone)).map_or(0, Counter::get)
    }
}

/// The name that an entry answers for.
fn owner(entry: &Entry) -> &[u8] {
    let question = entry.question();
    question.get(..question.len().saturating_sub(4)).unwrap_or_default()
}

#[cfg(test)]
mod tests;
