//! Rows E17 and E19: what is written is read again with its age, and nothing else is.

use super::*;
use crate::cache::{Kind, Store};
use crate::wire::header::rcode;
use crate::wire::question::{Question, rtype, to_wire};
use proptest::collection::vec;
use proptest::prelude::*;
use std::io::Cursor;

/// Some time in 2026.
const WALL: u64 = 1_780_000_000;
const HOUR: Duration = Duration::from_secs(3600);
/// The one zone's number where a file is read.
const ZONE: u16 = 9;

/// A process with clocks of its own.
struct Side {
    now: Moment,
    wall: SystemTime,
    upstreams: Labels,
    zones: Labels,
}

impl Side {
    /// One that has run for `up` and whose wall clock shows so many seconds after [`WALL`].
    fn new(up: Duration, after: i64) -> Side {
        let wall = UNIX_EPOCH + Duration::from_secs(WALL.checked_add_signed(after).unwrap());
        let now = Moment::default() + Duration::from_secs(30 * 86_400) + up;
        Side { now, wall, upstreams: Labels::new(4), zones: Labels::new(2) }
    }

    fn terms(&self, stale: Duration) -> Terms<'_> {
        Terms { now: self.now, wall: self.wall, stale, upstreams: &self.upstreams, zones: &self.zones }
    }

    fn save(&self, entries: &[Entry], stale: Duration) -> Vec<u8> {
        let mut file = Cursor::new(Vec::new());
        save(&mut file, entries.iter().cloned(), &self.terms(stale), |_| 0).unwrap();
        file.into_inner()
    }

    /// What is in `file`, where the zone is `zone` and nothing else.
    fn load_zone(&self, file: &[u8], zone: &str, stale: Duration) -> Result<Vec<Entry>, Error> {
        let zone = to_wire(zone);
        let number = |name: &[u8]| crate::wire::question::is_within(name, &zone).then_some(ours());
        let mut taken = Vec::new();
        load(Cursor::new(file), &self.terms(stale), number, |entry| {
            taken.push(entry);
            ControlFlow::Continue(())
        })?;
        Ok(taken)
    }

    fn load(&self, file: &[u8]) -> Result<Vec<Entry>, Error> {
        self.load_zone(file, ".", Duration::ZERO)
    }

    /// The age in seconds of all that is in `file`.
    fn ages(&self, file: &[u8]) -> Vec<u32> {
        self.load(file).unwrap().iter().map(|entry| entry.age(self.now)).collect()
    }
}

fn message(name: &str, records: u16, rcode: u16) -> Vec<u8> {
    let question = Question::new(&to_wire(name), rtype::A, 1).unwrap();
    let mut m = vec![0; header::LEN];
    let flags = header::QR | rcode & 0xf;
    Header { id: 0, flags, qdcount: 1, ancount: records, nscount: 0, arcount: 0 }.write(&mut m);
    m.extend_from_slice(question.as_bytes());
    for i in 0..records {
        m.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 30, 0, 4, 10, 0]);
        m.extend(i.to_be_bytes());
    }
    m
}

/// All names are of one zone.
fn ours() -> Owner {
    Owner { zone: ZONE, ..Owner::default() }
}

fn about(stored: Moment, lifetime: u32) -> About {
    let (flags, rcode) = (Flags::default(), rcode::NOERROR);
    About { stored, lifetime, rcode, negative: false, flags, ruled: false, zone: 1, upstream: 0 }
}

/// An address for `name`, `age` old on `side`.
fn address(side: &Side, name: &str, age: Duration, lifetime: u32) -> Entry {
    Entry::new(&message(name, 1, 0), about(side.now - age, lifetime))
}

#[test]
fn e17_what_was_saved_is_loaded_and_older_by_what_has_passed_on_the_wall() {
    let old = Side::new(HOUR * 1000, 0);
    let upstream = ["10.0.0.1:53", "10.0.0.2:53"].map(|name| old.upstreams.intern(name))[1];
    let about = About { negative: true, flags: Flags::new(true, false), rcode: 0xabc, upstream, ..about(old.now, 30) };
    let entries = [
        address(&old, "fresh.example", Duration::from_secs(4), 30),
        Entry::new(&message("none.example", 0, rcode::NXDOMAIN), about),
        address(&old, "expired.example", Duration::from_secs(30), 30),
    ];
    let file = old.save(&entries, Duration::ZERO);
    // After a boot: this clock has begun anew.
    let new = Side::new(Duration::from_secs(5), 20);
    new.upstreams.intern("10.0.0.9:53");
    let loaded = new.load(&file).unwrap();
    assert_eq!(loaded.len(), 2, "{loaded:?}");
    for (entry, before) in loaded.iter().zip(&entries) {
        assert_eq!(entry.as_stored().message, before.as_stored().message);
        assert_eq!(entry.as_stored().ttl_at, before.as_stored().ttl_at);
        assert_eq!(entry.about().zone, ZONE, "by the table of this process");
    }
    assert_eq!(new.ages(&file), [24, 20]);
    assert!(loaded.iter().all(|entry| entry.about().lifetime == 30));
    let none = loaded[1].about();
    assert_eq!((none.negative, none.flags, none.rcode), (true, Flags::new(true, false), 0xabc));
    assert_eq!(&*new.upstreams.name(none.upstream), "10.0.0.2:53");
    assert_eq!(loaded[0].about().upstream, Labels::NONE);
    assert_eq!(new.upstreams.names().len(), 2, "names that nothing here came from are not taken up");
    assert_eq!(saved_at(&mut &file[..]).unwrap(), old.wall);
}

#[test]
fn e17_what_has_expired_meanwhile_is_not_loaded_unless_it_may_be_stale() {
    let old = Side::new(HOUR, 0);
    let file = old.save(&[address(&old, "a.example", Duration::from_secs(10), 30)], Duration::ZERO);
    for (after, fresh, stale) in [(19, 1, 1), (20, 0, 1), (3619, 0, 1), (3620, 0, 0), (10_000_000, 0, 0)] {
        let new = Side::new(HOUR, after);
        assert_eq!(new.load(&file).unwrap().len(), fresh, "{after}");
        assert_eq!(new.load_zone(&file, ".", HOUR).unwrap().len(), stale, "{after}");
    }
    let expired = address(&old, "a.example", Duration::from_secs(60), 30);
    assert_eq!(Side::new(HOUR, 0).load_zone(&old.save(&[expired], HOUR), ".", HOUR).unwrap().len(), 1);
}

#[test]
fn e17_after_a_clock_was_set_back_nothing_is_fresh() {
    let old = Side::new(HOUR, 0);
    let entries = [(10, 30), (60, 30)].map(|(age, life)| address(&old, "a.example", Duration::from_secs(age), life));
    let file = old.save(&entries, HOUR);
    for after in [-1, -3600, -1_700_000_000] {
        let new = Side::new(HOUR, after);
        assert!(new.load(&file).unwrap().is_empty(), "{after}");
        let ages = new.load_zone(&file, ".", HOUR).unwrap().iter().map(|entry| entry.age(new.now)).collect::<Vec<_>>();
        assert_eq!(ages, [30, 60], "{after}: no more than expired");
    }
    let file = old.save(&entries[..1], Duration::ZERO);
    let tomorrow = Side { wall: old.wall + Duration::from_millis(1), ..Side::new(HOUR, 0) };
    assert!(tomorrow.load(&file).unwrap()[0].about().stored < tomorrow.now - Duration::from_secs(10), "rounded up");
}

#[test]
fn e19_ages_beyond_all_numbers_are_no_answers() {
    let old = Side::new(HOUR, 0);
    let forever = Entry::new(&message("a.example", 1, 0), about(Moment::default(), u32::MAX));
    let file = old.save(&[forever], Duration::MAX);
    assert!(old.load_zone(&file, ".", Duration::ZERO).unwrap().is_empty(), "no lifetime is longer than a week");
    assert_eq!(old.load_zone(&file, ".", Duration::MAX).unwrap().len(), 1);
    let far = Side { wall: UNIX_EPOCH + Duration::from_secs(1 << 40), ..Side::new(HOUR, 0) };
    assert!(far.load_zone(&file, ".", Duration::MAX).unwrap().is_empty(), "before all time that there is");
    let early = Side { wall: UNIX_EPOCH - Duration::from_secs(9), ..Side::new(HOUR, 0) };
    let file = early.save(&[address(&early, "a.example", Duration::from_secs(1), 30)], Duration::ZERO);
    assert!(early.load(&file).unwrap().is_empty(), "a clock before 1970 says nothing of what has passed");
}

#[test]
fn what_belongs_to_no_zone_any_more_is_left_out() {
    let side = Side::new(HOUR, 0);
    let entries = ["a.corp", "b.other", "c.corp"].map(|name| address(&side, name, Duration::ZERO, 30));
    let file = side.save(&entries, Duration::ZERO);
    let loaded = side.load_zone(&file, "corp", Duration::ZERO).unwrap();
    assert_eq!(loaded.iter().map(Entry::question).collect::<Vec<_>>(), [entries[0].question(), entries[2].question()]);
}

#[test]
fn e21_what_was_asked_in_another_zone_is_left_out() {
    let (old, new) = (Side::new(HOUR, 0), Side::new(HOUR, 0));
    let zones = |side: &Side, names: [&str; 3]| names.map(|name| side.zones.intern(name));
    let [root, corp, other] = zones(&old, [".", "corp.", "c.corp."]);
    assert_eq!(&*old.zones.name(other), "other", "one too many to be told apart");
    let of = |name, zone| Entry::new(&message(name, 1, 0), About { zone, ..about(old.now, 30) });
    let file =
        old.save(&[of("a.org", root), of("a.corp", root), of("b.corp", corp), of("c.corp", other)], Duration::ZERO);
    let [corp, root, _] = zones(&new, ["corp.", ".", "c.corp."]);
    let zone = |name: &[u8]| {
        let zone = if crate::wire::question::is_within(name, &to_wire("corp")) { corp } else { root };
        Some(Owner { zone, ..Owner::default() })
    };
    let mut taken = Vec::new();
    let take = |entry: Entry| {
        taken.push((entry.question()[1], entry.about().zone));
        ControlFlow::Continue(())
    };
    load(Cursor::new(&file), &new.terms(Duration::ZERO), zone, take).unwrap();
    assert_eq!(taken, [(b'a', root), (b'b', corp), (b'c', corp)]);
}

#[test]
fn it_goes_on_until_it_is_told_to_stop() {
    let side = Side::new(HOUR, 0);
    let file = side.save(&["a", "b", "c"].map(|name| address(&side, name, Duration::ZERO, 30)), Duration::ZERO);
    let mut taken = 0;
    let enough = |_| {
        taken += 1;
        if taken == 2 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    };
    load(Cursor::new(&file), &side.terms(Duration::ZERO), |_| Some(ours()), enough).unwrap();
    assert_eq!(taken, 2);
}

#[test]
fn e17_foreign_files_and_other_formats_are_told_apart() {
    let side = Side::new(HOUR, 0);
    let file = side.save(&[], Duration::ZERO);
    assert_eq!((file.len(), side.load(&file).unwrap().len()), (HEAD + 2, 0));
    let said = |file: &[u8]| side.load(file).unwrap_err().to_string();
    for foreign in [&b""[..], b"nodens\r", b"nodens\r\n", &[0; 4096], b"# a file of somebody else's, quite long"] {
        assert_eq!(said(foreign), "it is no file of nodens' cache");
    }
    let mut other = file.clone();
    other[11] = 4;
    assert_eq!(said(&other), "it has format 4, and this version reads 3 alone");
    assert!(matches!(saved_at(&mut &other[..]), Err(Error::Format(4))));
    let longer = [&file[..], b"x"].concat();
    assert_eq!(said(&longer), "it is 35 octets long instead of 34");
    assert_eq!(said(&file[..33]), "it is 33 octets long instead of 34");
    let mut flipped = file;
    flipped[33] ^= 1;
    assert_eq!(said(&flipped), "its checksum is wrong");
}

/// A file whose checksum is right and whose `body` may be anything.
fn sealed(body: &[u8]) -> Vec<u8> {
    let mut sum = crc32fast::Hasher::new();
    sum.update(body);
    let saved = UNIX_EPOCH + Duration::from_secs(WALL);
    let head = Head { sum: 0, length: (HEAD + body.len()) as u64, saved };
    [&head.written(sum)[..], body].concat()
}

#[test]
fn what_makes_no_sense_behind_a_right_checksum_is_left_out() {
    let side = Side::new(HOUR, 0);
    let whole = side.save(&[address(&side, "a", Duration::ZERO, 30)], Duration::ZERO)[HEAD..].to_vec();
    assert_eq!(side.load(&sealed(&whole)).unwrap().len(), 1);
    let message_at = 2 + RECORD;
    for (at, octet) in [(message_at + 5, 0), (message_at + 7, 2), (message_at + 9, 1), (message_at + 12, 0xc0)] {
        let mut broken = whole.clone();
        broken[at] = octet;
        assert!(side.load(&sealed(&broken)).unwrap().is_empty(), "octet {at}");
    }
    assert!(matches!(side.load(&sealed(&whole[..whole.len() - 1])), Err(Error::Read(_))));
    assert!(matches!(side.load(&sealed(b"\xff\xff")), Err(Error::Read(_))));
    let names = |count: u16| [&count.to_be_bytes()[..], &vec![0; 2 * usize::from(count)]].concat();
    assert!(side.load(&sealed(&names(256))).unwrap().is_empty());
    assert!(side.load(&sealed(&names(257))).is_err(), "more than anybody has: they would all be held in memory");
}

/// What cannot be written is an error, and not a file that looks whole.
#[test]
fn g09_a_full_disk_is_an_error() {
    struct Full(Cursor<Vec<u8>>, usize);
    impl Write for Full {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let room = bytes.len().min(self.1.saturating_sub(self.0.position() as usize));
            if room == 0 { Err(io::ErrorKind::StorageFull.into()) } else { self.0.write(&bytes[..room]) }
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    impl Seek for Full {
        fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
            self.0.seek(to)
        }
    }
    let side = Side::new(HOUR, 0);
    let entries: Vec<Entry> = (0..3000).map(|i| address(&side, &format!("n{i}"), Duration::ZERO, 30)).collect();
    for room in [0, 10, HEAD, HEAD + 1, 2 * CHUNK] {
        let mut disk = Full(Cursor::new(Vec::new()), room);
        let error = save(&mut disk, entries.iter().cloned(), &side.terms(Duration::ZERO), |_| 0).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::StorageFull, "{room}");
        assert!(side.load(disk.0.get_ref()).is_err(), "{room}");
    }
}

#[test]
fn a_whole_store_goes_through() {
    let (store, side) = (Store::new(1 << 22), Side::new(HOUR, 0));
    for i in 0..500 {
        store.insert(address(&side, &format!("p{i}.example"), Duration::ZERO, 30), 0);
        let negative = About { negative: true, ..about(side.now, 5) };
        store.insert(Entry::new(&message(&format!("n{i}.example"), 0, rcode::NXDOMAIN), negative), 0);
    }
    let file = side.save(&store.iter().collect::<Vec<_>>(), Duration::ZERO);
    let other = Store::new(1 << 22);
    side.load(&file).unwrap().into_iter().for_each(|entry| other.insert(entry, 0));
    for kind in Kind::ALL {
        assert_eq!(other.usage(kind), store.usage(kind));
        assert_eq!(other.usage(kind).entries, 500);
    }
}

prop_compose! {
    fn arbitrary_entry(now: Moment)(
        labels in vec("[a-z0-9]{1,20}", 1..5),
        records in 0u16..40,
        (age, lifetime, rcode) in (0u64..40, 1u32..MAX_TTL, 0u16..0x1000),
        (negative, dnssec, checking, upstream) in (any::<bool>(), any::<bool>(), any::<bool>(), 0u16..6),
    ) -> Entry {
        let flags = Flags::new(dnssec, checking);
        let stored = now - Duration::from_millis(age * 100);
        let about = About { stored, lifetime, rcode, negative, flags, ruled: false, zone: ZONE, upstream };
        Entry::new(&message(&labels.join("."), records, rcode), about)
    }
}

/// The clocks that the entries of the properties are made by.
const UP: Duration = HOUR;

fn now() -> Moment {
    Side::new(UP, 0).now
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn e17_whatever_may_be_given_out_comes_back_as_it_was(
        entries in vec(arbitrary_entry(now()), 0..40),
        ms in 0u64..100_000,
    ) {
        let old = Side::new(UP, 0);
        for name in ["a:53", "b:53", "c:53", "d:53"] {
            old.upstreams.intern(name);
        }
        let file = old.save(&entries, Duration::ZERO);
        let (mut new, passed) = (Side::new(Duration::ZERO, 0), Duration::from_millis(ms));
        new.wall += passed;
        let loaded = new.load(&file).unwrap();
        let aged = |entry: &Entry| old.now.since(entry.about().stored).as_millis() as u64 / 100 + ms.div_ceil(100);
        let kept: Vec<&Entry> = entries.iter().filter(|e| aged(e) < u64::from(e.about().lifetime) * 10)
            .filter(|e| old.now.since(e.about().stored).as_secs() < u64::from(e.about().lifetime)).collect();
        prop_assert_eq!(loaded.len(), kept.len());
        for (new_entry, old_entry) in loaded.iter().zip(kept) {
            let (is, was) = (new_entry.about(), old_entry.about());
            prop_assert_eq!(new_entry.as_stored().message, old_entry.as_stored().message);
            prop_assert_eq!(new_entry.as_stored().ttl_at, old_entry.as_stored().ttl_at);
            let same = |a: &About| (a.lifetime, a.rcode, a.negative, a.flags, a.zone);
            prop_assert_eq!(same(&is), same(&was));
            let name = if was.upstream > 4 { "".into() } else { old.upstreams.name(was.upstream) };
            prop_assert_eq!(new.upstreams.name(is.upstream), name);
            prop_assert_eq!(new.now.since(is.stored), Duration::from_millis(aged(old_entry) * 100));
        }
    }

    #[test]
    fn e17_no_file_that_was_cut_or_changed_is_used(
        entries in vec(arbitrary_entry(now()), 0..3),
        mask in 1u8..=255,
    ) {
        let side = Side::new(UP, 0);
        let file = side.save(&entries, Duration::ZERO);
        for cut in 0..file.len() {
            prop_assert!(side.load(&file[..cut]).is_err(), "cut to {}", cut);
        }
        for at in 0..file.len() {
            let mut changed = file.clone();
            changed[at] ^= mask;
            prop_assert!(side.load(&changed).is_err(), "octet {}", at);
        }
    }

    #[test]
    fn whatever_is_behind_a_right_checksum_does_no_harm(body in vec(any::<u8>(), 0..600), names in any::<bool>()) {
        // Without names most of it would be read as names.
        let body = if names { body } else { [&[0, 0][..], &body].concat() };
        let side = Side::new(UP, 0);
        if let Ok(entries) = side.load_zone(&sealed(&body), ".", Duration::MAX) {
            entries.iter().for_each(|entry| assert!(!entry.question().is_empty()));
        }
    }
}
