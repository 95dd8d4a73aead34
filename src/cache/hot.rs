//! A worker's own short list of the answers it gave last, before the store that all share.
//!
//! moka counts every read: that is some 150 ns, the largest part of a hit that is not the kernel's, and two workers
//! that ask it for the same name pass its cache lines back and forth. A slot here is compared and used where it is. It
//! holds what the store held, for as long as that is fresh, and nothing across a flush; every now and then a hit goes
//! through to the store all the same, so that what is asked often is not evicted there as idle.

use super::entry::Entry;
use super::key::Key;
use super::store::Store;
use crate::sys::clock::Moment;

/// Sets of two slots; a power of two. Some 2,000 names find their place; the table itself takes 32 KiB.
const SETS: usize = 2048;
/// Larger entries are left to the store: the list must stay small whatever is in it.
const MAX_SIZE: usize = 1536;
/// Of this many hits one goes through to the store.
const THROUGH: u32 = 32;

/// The list. One per thread.
pub struct Hot {
    /// Of each set, the entry that came last stands first.
    sets: Box<[[Option<Entry>; 2]]>,
    /// The entry that was found last and had no place in a slot.
    guest: Option<Entry>,
    generation: u64,
    turn: u32,
}

impl Default for Hot {
    fn default() -> Hot {
        Hot { sets: vec![[None, None]; SETS].into(), guest: None, generation: 0, turn: 0 }
    }
}

impl Hot {
    /// The answer to `key` that may be given out at `now`, from here or from `store`.
    #[inline]
    pub fn get(&mut self, store: &Store, key: &Key<'_>, now: Moment) -> Option<&Entry> {
        let generation = store.generation();
        if generation != self.generation {
            self.sets.fill([None, None]);
            self.generation = generation;
        }
        let set = &mut self.sets[key.hash() as usize % SETS];
        let answers = |slot: &Option<Entry>| slot.as_ref().is_some_and(|entry| key.is_answered_by(entry));
        let found = set.iter().position(answers);
        self.turn = self.turn.wrapping_add(1);
        let fresh = found.filter(|&at| set[at].as_ref().is_some_and(|entry| entry.is_fresh(now)));
        if let Some(at) = fresh
            && !self.turn.is_multiple_of(THROUGH)
        {
            return set[at].as_ref();
        }
        let Some(entry) = store.get(key, now) else {
            // The store had no room for it any more; it is good for as long as it is fresh all the same.
            return set[fresh?].as_ref();
        };
        if entry.size() > MAX_SIZE {
            self.guest = Some(entry);
            return self.guest.as_ref();
        }
        let at = found.unwrap_or_else(|| {
            set.swap(0, 1);
            0
        });
        set[at] = Some(entry);
        set[at].as_ref()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::entry::About;
    use crate::cache::key::Flags;
    use crate::wire::header::{self, Header};
    use std::time::Duration;

    const QUESTION: &[u8] = b"\x01a\x00\x00\x01\x00\x01";

    fn entry(octets: usize, stored: Moment, lifetime: u32) -> Entry {
        let mut m = vec![0; header::LEN];
        Header { id: 0, flags: header::QR, qdcount: 1, ancount: 1, nscount: 0, arcount: 0 }.write(&mut m);
        m.extend_from_slice(QUESTION);
        m.extend([0xc0, 12, 0, 16, 0, 1, 0, 0, 0, 30]);
        m.extend((octets as u16).to_be_bytes());
        m.resize(m.len() + octets, 0);
        let about = About {
            stored,
            lifetime,
            rcode: 0,
            negative: false,
            flags: Flags::default(),
            ruled: false,
            zone: 0,
            upstream: 0,
        };
        Entry::new(&m, about)
    }

    /// How many octets the record has that is found.
    fn look(hot: &mut Hot, store: &Store, now: Moment) -> Option<usize> {
        let key = store.key(QUESTION, Flags::default());
        let bare = header::LEN + QUESTION.len() + 12;
        hot.get(store, &key, now).map(|e| e.as_stored().message.len() - bare)
    }

    #[test]
    fn what_was_found_once_is_found_here_while_it_is_fresh() {
        let (store, mut hot, t0) = (Store::new(1 << 20), Hot::default(), Moment::from_millis(1000));
        assert_eq!(look(&mut hot, &store, t0), None);
        store.insert(entry(4, t0, 30), 0);
        assert_eq!(look(&mut hot, &store, t0), Some(4));
        assert_eq!(look(&mut hot, &store, t0 + Duration::from_secs(29)), Some(4));
        assert_eq!(look(&mut hot, &store, t0 + Duration::from_secs(30)), None);
    }

    #[test]
    fn e16_a_flush_reaches_every_list() {
        let (store, mut hot, t0) = (Store::new(1 << 20), Hot::default(), Moment::from_millis(1000));
        store.insert(entry(4, t0, 30), 0);
        assert_eq!(look(&mut hot, &store, t0), Some(4));
        store.flush_name(b"\x01a\x00");
        (0..100).for_each(|_| assert_eq!(look(&mut hot, &store, t0), None));
    }

    #[test]
    fn a_newer_answer_is_found_within_a_few_hits() {
        let (store, mut hot, t0) = (Store::new(1 << 20), Hot::default(), Moment::from_millis(1000));
        store.insert(entry(4, t0, 30), 0);
        assert_eq!(look(&mut hot, &store, t0), Some(4));
        store.insert(entry(5, t0, 30), 0);
        assert!((0..THROUGH).any(|_| look(&mut hot, &store, t0) == Some(5)));
    }

    #[test]
    fn what_the_store_had_to_evict_is_good_while_it_is_fresh() {
        let (store, mut hot, t0) = (Store::new(1 << 20), Hot::default(), Moment::from_millis(1000));
        store.insert(entry(4, t0, 30), 0);
        assert_eq!(look(&mut hot, &store, t0), Some(4));
        // A purge at a later time than ours stands in for the eviction: neither is a flush.
        store.purge(t0 + Duration::from_secs(60), Duration::ZERO);
        (0..2 * THROUGH).for_each(|_| assert_eq!(look(&mut hot, &store, t0), Some(4)));
        assert_eq!(look(&mut hot, &store, t0 + Duration::from_secs(30)), None);
    }

    #[test]
    fn large_entries_take_no_slot() {
        let (store, mut hot, t0) = (Store::new(1 << 20), Hot::default(), Moment::from_millis(1000));
        store.insert(entry(60_000, t0, 30), 0);
        (0..3).for_each(|_| assert_eq!(look(&mut hot, &store, t0), Some(60_000)));
        assert!(hot.sets.iter().flatten().all(Option::is_none));
    }
}
