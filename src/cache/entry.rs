//! One stored answer: the message, where its TTLs are, and the times, in a single allocation that the map's key and
//! value share. Immutable: a refreshed answer is a new entry.

use super::key::Flags;
use super::policy::Prefetch;
use crate::sys::clock::Moment;
use crate::wire::header;
use crate::wire::record;
use crate::wire::reply::Stored;
use std::sync::atomic::{AtomicU8, Ordering::Relaxed};
use std::time::Duration;
use triomphe::ThinArc;

/// What is known of an answer beside its octets.
#[derive(Clone, Copy, Debug)]
pub struct About {
    /// When it came from the upstream, to the tenth of a second.
    pub stored: Moment,
    /// For how many seconds it may be given out; 0 for one that must not be stored.
    pub lifetime: u32,
    /// The whole RCODE.
    pub rcode: u16,
    /// Does it say that the name or the type does not exist?
    pub negative: bool,
    /// DO, CD and view of the query it answers.
    pub flags: Flags,
    /// Have its zone's rules a say in each hit?
    pub ruled: bool,
    /// Label of the zone it was asked in.
    pub zone: u16,
    /// Label of the upstream that gave it.
    pub upstream: u16,
}

/// [`About`] and the lengths in sixteen octets: at 100,000 answers each octet here is 100 kB, or nothing, as the
/// allocator rounds.
struct Head {
    /// Tenths of a second since boot, rounded down: enough for thirteen years.
    stored: u32,
    /// Lifetime in the upper 20 bits (a week fits), RCODE in the lower 12 (RFC 6895 §2.3 has no more).
    lifetime_rcode: u32,
    /// The upstream's label in the lower 9 bits; then CD, the view, and whether rules have a say.
    upstream: u16,
    message_len: u16,
    zone: u8,
    name_len: u8,
    /// DO, whether it is negative, and when it is renewed.
    bits: u8,
    /// How many more hits late in its life have it renewed; 0 for none.
    hits: AtomicU8,
}

/// Nanoseconds per unit of [`Head::stored`].
const TENTH: u64 = 100_000_000;
/// The most that 20 bits hold.
const LONGEST: u32 = (1 << 20) - 1;
/// Of [`Head::bits`].
const NEGATIVE: u8 = 2;
/// Where in [`Head::bits`] the length of the last part of its life stands, in 64ths of the whole; 0 for none.
const LATE: u32 = 2;
/// Of [`Head::upstream`]: the label, which is below 258.
const UPSTREAM: u16 = 0x1ff;
/// Of [`Head::upstream`].
const RULED: u16 = 1 << 15;
/// Where in [`Head::upstream`] all of [`Flags`] but DO stands.
const FLAGS: u32 = 9;

impl Head {
    fn new(about: &About, refresh: Refresh, message_len: usize, name_len: usize) -> Head {
        Head {
            stored: tenths(about.stored),
            lifetime_rcode: about.lifetime.min(LONGEST) << 12 | u32::from(about.rcode & 0xfff),
            upstream: about.upstream.min(UPSTREAM)
                | u16::from(about.flags.bits() >> 1) << FLAGS
                | if about.ruled { RULED } else { 0 },
            message_len: message_len as u16,
            zone: u8::try_from(about.zone).unwrap_or(u8::MAX),
            name_len: name_len as u8,
            bits: about.flags.bits() & 1 | if about.negative { NEGATIVE } else { 0 } | refresh.late << LATE,
            hits: AtomicU8::new(refresh.hits),
        }
    }

    /// Counts a hit late in its life; true for the last one that it takes.
    #[cold]
    fn count_down(&self) -> bool {
        self.hits.fetch_update(Relaxed, Relaxed, |hits| hits.checked_sub(1)) == Ok(1)
    }

    #[inline]
    fn lifetime(&self) -> u32 {
        self.lifetime_rcode >> 12
    }

    #[inline]
    fn flags(&self) -> Flags {
        Flags::from_bits(self.bits & 1 | ((self.upstream >> FLAGS) as u8) << 1)
    }
}

/// A point in time as [`Head::stored`].
#[inline]
fn tenths(at: Moment) -> u32 {
    u32::try_from(at.0 / TENTH).unwrap_or(u32::MAX)
}

/// When an answer is renewed before it expires.
#[derive(Clone, Copy, Debug, Default)]
pub struct Refresh {
    /// How many hits it takes.
    hits: u8,
    /// How late in its life these must be, in 64ths of it from its end; at most 63.
    late: u8,
}

impl Refresh {
    /// By `prefetch`. Answers that came together should not be renewed together: `spread`, any number, places the
    /// beginning somewhere in the first half of the last part.
    pub fn new(prefetch: Prefetch, spread: u32) -> Refresh {
        let whole = (u32::from(prefetch.remaining) * 64 / 100).clamp(1, 63);
        let late = whole - spread % whole.div_ceil(2);
        Refresh { hits: prefetch.min_hits, late: late as u8 }
    }
}

/// A stored answer. Cloning shares it.
#[derive(Clone)]
pub struct Entry(ThinArc<Head, u8>);

impl Entry {
    /// Keeps `message`, a cleaned message of at most 65,535 octets (`wire::validate::reply`), with its TTLs as they
    /// are to be shown at age 0.
    pub fn new(message: &[u8], about: About) -> Entry {
        Entry::with_refresh(message, about, Refresh::default())
    }

    /// The same, to be renewed as `refresh` says.
    pub fn with_refresh(message: &[u8], about: About, refresh: Refresh) -> Entry {
        let mut bytes = Vec::with_capacity(message.len() + 32);
        bytes.extend_from_slice(message);
        let mut name_len = 0;
        if let Some((_, records)) = record::of(message) {
            name_len = records.position() - header::LEN - 4;
            for record in records.map_while(Result::ok) {
                bytes.extend_from_slice(&(record.ttl_at as u16).to_be_bytes());
            }
        }
        Entry(ThinArc::from_header_and_slice(Head::new(&about, refresh, message.len(), name_len), &bytes))
    }

    #[inline]
    fn head(&self) -> &Head {
        &self.0.header.header
    }

    /// What is known of it.
    #[inline]
    pub fn about(&self) -> About {
        let head = self.head();
        About {
            stored: Moment(u64::from(head.stored) * TENTH),
            lifetime: head.lifetime(),
            rcode: (head.lifetime_rcode & 0xfff) as u16,
            negative: head.bits & NEGATIVE != 0,
            flags: head.flags(),
            ruled: head.upstream & RULED != 0,
            zone: u16::from(head.zone),
            upstream: head.upstream & UPSTREAM,
        }
    }

    /// Have its zone's rules a say in each hit?
    #[inline]
    pub fn is_ruled(&self) -> bool {
        self.head().upstream & RULED != 0
    }

    /// The message and its TTL offsets.
    #[inline]
    pub fn as_stored(&self) -> Stored<'_> {
        let (message, ttl_at) = self.0.slice.split_at_checked(usize::from(self.head().message_len)).unwrap_or_default();
        Stored { message, ttl_at, rcode: self.about().rcode }
    }

    /// The question it answers: lower-case QNAME, QTYPE, QCLASS as on the wire.
    #[inline]
    pub fn question(&self) -> &[u8] {
        let end = header::LEN + usize::from(self.head().name_len) + 4;
        self.0.slice.get(header::LEN..end).unwrap_or_default()
    }

    /// Whole seconds since it came from the upstream.
    #[inline]
    pub fn age(&self, now: Moment) -> u32 {
        tenths(now).saturating_sub(self.head().stored) / 10
    }

    /// May it still be given out?
    #[inline]
    pub fn is_fresh(&self, now: Moment) -> bool {
        tenths(now).saturating_sub(self.head().stored) < self.head().lifetime() * 10
    }

    /// How long it may still be given out.
    pub fn left(&self, now: Moment) -> Duration {
        let left = (self.head().lifetime() * 10).saturating_sub(tenths(now).saturating_sub(self.head().stored));
        Duration::from_millis(u64::from(left) * 100)
    }

    /// May it be given out stale, with lifetimes prolonged by `max_age`?
    pub fn is_servable(&self, now: Moment, max_age: Duration) -> bool {
        let age = u64::from(tenths(now).saturating_sub(self.head().stored));
        age < u64::from(self.head().lifetime()) * 10 + max_age.as_secs() * 10
    }

    /// Is this hit the one that has it renewed? One hit in its life is.
    #[inline]
    pub fn wants_refresh(&self, now: Moment) -> bool {
        self.is_late(now) && self.head().count_down()
    }

    /// Has the last part of its life begun?
    #[inline]
    fn is_late(&self, now: Moment) -> bool {
        let head = self.head();
        let late = u32::from(head.bits >> LATE);
        let lifetime = head.lifetime() * 10;
        let left = lifetime.saturating_sub(tenths(now).saturating_sub(head.stored));
        late > 0 && u64::from(left) * 64 <= u64::from(lifetime) * u64::from(late)
    }

    /// Octets of heap that it takes, allocator overhead apart.
    pub fn size(&self) -> usize {
        2 * size_of::<usize>() + size_of::<Head>() + self.0.slice.len()
    }
}

impl std::fmt::Debug for Entry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Entry").field("question", &self.question()).field("about", &self.about()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_known_is_packed_and_unpacked() {
        assert_eq!(size_of::<Head>(), 16);
        let about = About {
            stored: Moment::from_millis(123_400),
            lifetime: 604_800,
            rcode: 0xfff,
            negative: true,
            flags: Flags::new(true, true).in_view(15),
            ruled: true,
            zone: 129,
            upstream: 257,
        };
        let message = b"\0\0\x80\0\0\x01\0\0\0\0\0\0\x01a\0\0\x01\0\x01";
        let entry = Entry::new(message, about);
        assert_eq!(format!("{:?}", entry.about()), format!("{about:?}"));
        assert_eq!(entry.question(), b"\x01a\0\0\x01\0\x01");
        assert_eq!(entry.as_stored().message, message);
    }

    fn about(stored: Moment, lifetime: u32) -> About {
        let flags = Flags::new(true, true);
        About { stored, lifetime, rcode: 0, negative: false, flags, ruled: false, zone: 0, upstream: 0 }
    }

    #[test]
    fn e05_one_hit_of_those_late_in_its_life_has_it_renewed() {
        let t0 = Moment::from_millis(100_000);
        let late = |spread| {
            let rule = Prefetch { min_hits: 3, remaining: 10 };
            Entry::with_refresh(&[0; 12], about(t0, 300), Refresh::new(rule, spread))
        };
        for spread in 0..100 {
            let entry = late(spread);
            assert_eq!((entry.about().flags, entry.about().negative), (Flags::new(true, true), false));
            for _ in 0..9 {
                assert!(!entry.wants_refresh(t0 + Duration::from_secs(270)), "not late yet");
            }
            let at = t0 + Duration::from_secs(286);
            let wanted: Vec<bool> = (0..5).map(|_| entry.wants_refresh(at)).collect();
            assert_eq!(wanted, [false, false, true, false, false], "{spread}");
        }
        let begins = |spread| (2700..3000).find(|&at| late(spread).is_late(t0 + Duration::from_millis(at * 100)));
        let begins: std::collections::BTreeSet<_> = (0..100).map(|spread| begins(spread).unwrap()).collect();
        assert!(begins.len() > 1 && begins.iter().all(|at| (2700..2850).contains(at)), "spread: {begins:?}");
        let never = Entry::new(&[0; 12], about(t0, 300));
        assert!((0..300).all(|at| !never.wants_refresh(t0 + Duration::from_secs(at))));
    }

    #[test]
    fn e05_the_shortest_and_the_longest_last_part() {
        for (lifetime, remaining, from) in
            [(30, 50, 150), (30, 1, 296), (1, 50, 5), (30, 90, 33), (LONGEST, 50, LONGEST * 5)]
        {
            let rule = Prefetch { min_hits: 1, remaining };
            let entry = Entry::with_refresh(&[0; 12], about(Moment::default(), lifetime), Refresh::new(rule, 0));
            let at = |tenths: u32| Moment(u64::from(tenths) * TENTH);
            assert!(!entry.is_late(at(from - 1)), "{lifetime} s, {remaining} %");
            assert!(entry.is_late(at(from + from / 30)), "{lifetime} s, {remaining} %");
        }
    }

    #[test]
    fn d03_an_expired_answer_may_be_given_out_for_so_much_longer() {
        let (t0, hour) = (Moment::from_millis(100_000), Duration::from_secs(3600));
        let entry = Entry::new(&[0; 12], about(t0, 30));
        let at = |seconds| t0 + Duration::from_secs(seconds);
        assert!(entry.is_fresh(at(29)) && !entry.is_fresh(at(30)));
        assert_eq!([0, 29, 30, 99].map(|seconds| entry.left(at(seconds)).as_secs()), [30, 1, 0, 0]);
        assert!(entry.is_servable(at(30), hour) && entry.is_servable(at(3629), hour));
        assert!(!entry.is_servable(at(3630), hour));
        assert!(!entry.is_servable(at(30), Duration::ZERO) && entry.is_servable(at(29), Duration::ZERO));
    }

    #[test]
    fn the_longest_lifetime_is_held_in_tenths_without_overflow() {
        let about = About {
            stored: Moment::default(),
            lifetime: u32::MAX,
            rcode: 0,
            negative: false,
            flags: Flags::default(),
            ruled: false,
            zone: 0,
            upstream: 0,
        };
        let entry = Entry::new(&[0; 12], about);
        assert!(entry.is_fresh(Moment::from_millis(u64::from(LONGEST) * 1000 - 1)));
        assert!(!entry.is_fresh(Moment::from_millis(u64::from(LONGEST) * 1000)));
        assert_eq!(entry.age(Moment(u64::MAX)), u32::MAX / 10);
    }
}
