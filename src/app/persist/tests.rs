//! The file on disk: replaced as a whole or not at all, and nobody waits for it for long.

use super::super::upstreams::Upstreams;
use super::*;
use crate::cache::entry::{About, Entry};
use crate::cache::key::Flags;
use crate::config::load_str;
use crate::wire::header::{self, Header};
use crate::wire::question::{Question, rtype, to_wire};
use std::fs;
use std::io::Write;
use std::os::unix::fs::symlink;
use tempfile::TempDir;

/// What one daemon has.
struct Daemon {
    config: Config,
    store: Arc<Store>,
    metrics: Arc<Metrics>,
}

impl Daemon {
    fn new(folder: &TempDir, keys: &str) -> Daemon {
        let path = folder.path().join("cache");
        let text = format!(
            "cache: {{ serveStale: {{ maxAge: 1m }}, persist: {{ path: {}, {keys} }} }}\n\
             zones: [{{ match: [example], forward: {{ to: [127.0.0.9] }} }}]",
            path.display()
        );
        let config = load_str("test", &text).unwrap().config;
        let store = Arc::new(Store::new(config.cache.max_bytes));
        Daemon { config, store, metrics: Metrics::new() }
    }

    fn zones(&self) -> Zones {
        Upstreams::new(Vec::new(), Arc::clone(&self.metrics), None).zones(&self.config).unwrap()
    }

    async fn start(&self, since: Option<SystemTime>) -> Persistence {
        let (store, zones) = (Arc::clone(&self.store), Arc::new(self.zones()));
        let zones = move || Arc::clone(&zones);
        let started = Persistence::start(&self.config, store, zones, &self.metrics, since).await;
        started.unwrap().unwrap()
    }

    fn add(&self, name: &str, age: Duration) {
        let question = Question::new(&to_wire(name), rtype::A, 1).unwrap();
        let mut message = vec![0; header::LEN];
        Header { id: 0, flags: header::QR, qdcount: 1, ancount: 0, nscount: 0, arcount: 0 }.write(&mut message);
        message.extend_from_slice(question.as_bytes());
        let (stored, flags) = (Moment::now() - age, Flags::default());
        let about =
            About { stored, lifetime: 30, rcode: 0, negative: false, flags, ruled: false, zone: 0, upstream: 0 };
        self.store.insert(Entry::new(&message, about), self.store.generation());
    }

    /// The names in the cache, and whether each may be given out without a word.
    fn names(&self) -> Vec<(String, bool)> {
        let of = |entry: Entry| {
            let question = Question::read(entry.question()).unwrap();
            (String::from_utf8_lossy(&question.name()[1..2]).into_owned(), entry.is_fresh(Moment::now()))
        };
        let mut names: Vec<_> = self.store.iter().map(of).collect();
        names.sort();
        names
    }

    fn metric(&self, line: &str) -> f64 {
        let page = self.metrics.gather();
        let value = page.lines().find_map(|l| l.strip_prefix(line)).unwrap_or_default();
        value.trim().parse().unwrap_or(-1.0)
    }
}

#[tokio::test]
async fn e17_what_one_saves_the_next_loads() {
    let folder = tempfile::tempdir().unwrap();
    let old = Daemon::new(&folder, "interval: 1d");
    let keeper = old.start(None).await;
    old.add("a.example", Duration::ZERO);
    old.add("b.example", Duration::from_secs(60));
    old.add("c.elsewhere", Duration::ZERO);
    old.add("d.example", Duration::from_secs(91));
    keeper.save_last().await;
    assert_eq!(old.metric("nodens_persist_saves_total{outcome=\"ok\"}"), 1.0);
    assert_eq!(
        old.metric("nodens_persist_entries{what=\"saved\"}"),
        3.0,
        "what is too old even when stale is left out"
    );
    assert!(old.metric("nodens_persist_last_success_timestamp_seconds") > 1.7e9);
    let new = Daemon::new(&folder, "interval: 1d");
    let _keeper = new.start(None).await;
    assert_eq!(new.names(), [("a".to_owned(), true), ("b".to_owned(), false)]);
    assert_eq!(new.metric("nodens_persist_entries{what=\"loaded\"}"), 2.0);
    let zone = new.store.iter().next().unwrap().about().zone;
    assert_eq!(&*new.metrics.zones.name(zone), "example.");
    let entry = new.store.iter().find(|entry| entry.is_fresh(Moment::now())).unwrap();
    let late = entry.about().stored + Duration::from_millis(29_900);
    assert!((0..9).any(|_| entry.wants_refresh(late)), "like any other it is renewed early");
}

#[tokio::test]
async fn what_was_made_by_other_rules_or_for_other_views_is_not_loaded() {
    let respond = "respond: [{ types: [A], answer: ['{{ .Name }} 60 IN A 192.0.2.1'] }]";
    let view = "listen: { addresses: [127.0.0.1, 127.0.0.2] }\n";
    let other = "  - { match: [example], listen: [127.0.0.2], forward: { to: [127.0.0.8] } }";
    for (listen, keys, more, kept) in [
        ("", "", "", true),
        (view, "", "", true),
        ("", respond, "", false),
        ("", "minimalResponses: true", "", false),
        (view, "listen: [127.0.0.1]", other, false),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let (old, mut new) = (Daemon::new(&folder, "interval: 1d"), Daemon::new(&folder, "interval: 1d"));
        old.add("a.example", Duration::ZERO);
        old.start(None).await.save_last().await;
        let text = format!(
            "{listen}cache: {{ persist: {{ path: {} }} }}\n\
             zones:\n  - {{ match: [example], forward: {{ to: [127.0.0.9] }}, {keys} }}\n{more}",
            folder.path().join("cache").display()
        );
        new.config = load_str("test", &text).unwrap().config;
        let _keeper = new.start(None).await;
        assert_eq!(new.names().len(), usize::from(kept), "{text}");
    }
}

#[tokio::test]
async fn without_a_file_or_with_a_bad_one_it_starts_empty() {
    for content in [None, Some(&b"nonsense"[..])] {
        let folder = tempfile::tempdir().unwrap();
        if let Some(content) = content {
            fs::write(folder.path().join("cache"), content).unwrap();
        }
        let daemon = Daemon::new(&folder, "interval: 1d");
        let keeper = daemon.start(None).await;
        assert_eq!(daemon.metric("nodens_persist_last_success_timestamp_seconds"), 0.0);
        daemon.add("a.example", Duration::ZERO);
        keeper.save_last().await;
        assert_eq!(daemon.metric("nodens_persist_saves_total{outcome=\"ok\"}"), 1.0, "and writes a good one");
    }
}

#[tokio::test]
async fn it_saves_every_interval_and_at_once_when_told() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("cache");
    let until = async |what: &str, holds: &dyn Fn() -> bool| {
        let deadline = Moment::now() + Duration::from_secs(20);
        while !holds() {
            assert!(Moment::now() < deadline, "{what}");
            // Polling, with no meaning for the outcome.
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let often = Daemon::new(&folder, "interval: 1s");
    let keeper = often.start(None).await;
    until("it saves", &|| path.exists()).await;
    drop(keeper);
    fs::remove_file(&path).unwrap();
    let seldom = Daemon::new(&folder, "interval: 1d");
    let keeper = seldom.start(None).await;
    keeper.save();
    until("it saves", &|| path.exists()).await;
}

#[tokio::test]
async fn a_successor_waits_for_the_file_of_its_predecessor_and_not_for_long() {
    let folder = tempfile::tempdir().unwrap();
    let (old, new) = (Daemon::new(&folder, "interval: 1d"), Daemon::new(&folder, "interval: 1d"));
    let keeper = old.start(None).await;
    keeper.save_last().await;
    old.add("a.example", Duration::ZERO);
    // The one that is there is from before that.
    let since = SystemTime::now() + Duration::from_millis(2);
    let save = async {
        tokio::time::sleep(Duration::from_millis(50)).await;
        keeper.save();
    };
    let (_successor, ()) = tokio::join!(new.start(Some(since)), save);
    assert_eq!(new.names(), [("a".to_owned(), true)]);
    let alone = Daemon::new(&folder, "interval: 1d");
    let begin = Moment::now();
    let _alone = alone.start(Some(SystemTime::now() + Duration::from_secs(3600))).await;
    assert_eq!(alone.names(), [("a".to_owned(), true)], "the old one is better than nothing");
    let took = Moment::now().since(begin);
    assert!((HAND_OVER..HAND_OVER + 2 * PATIENCE).contains(&took), "{took:?}");
}

#[tokio::test]
async fn what_comes_too_late_is_not_loaded() {
    let folder = tempfile::tempdir().unwrap();
    let (old, new) = (Daemon::new(&folder, "interval: 1d"), Daemon::new(&folder, "interval: 1d"));
    old.add("a.example", Duration::ZERO);
    old.start(None).await.save_last().await;
    let place = Place::new(&folder.path().join("cache"));
    let too_late = AtomicBool::new(true);
    let mut file = Patient { file: place.open().unwrap(), too_late: &too_late };
    assert_eq!(file.read(&mut [0]).unwrap_err().kind(), io::ErrorKind::TimedOut);
    let loaded = persist::load(
        file,
        &Terms {
            now: Moment::now(),
            wall: SystemTime::now(),
            stale: Duration::ZERO,
            upstreams: &new.metrics.upstreams,
            zones: &new.metrics.zones,
        },
        |_| Some(persist::Owner::default()),
        |_| ControlFlow::Continue(()),
    );
    assert!(matches!(loaded, Err(persist::Error::Read(_))));
}

/// A folder with an old file in it.
fn place() -> (TempDir, Place) {
    let folder = tempfile::tempdir().unwrap();
    let place = Place::new(&folder.path().join("cache"));
    fs::write(&place.path, "old").unwrap();
    (folder, place)
}

fn text(place: &Place) -> String {
    fs::read_to_string(&place.path).unwrap()
}

#[test]
fn g09_what_cannot_be_written_leaves_the_old_file() {
    let (_folder, place) = place();
    for hurry in [false, true] {
        let full = |mut file: &File| -> io::Result<()> {
            file.write_all(b"half of it")?;
            Err(io::ErrorKind::StorageFull.into())
        };
        let error = place.replace(hurry, full).unwrap_err().to_string();
        assert!(error.starts_with("cannot write ") && error.contains("cache.new: "), "{error}");
        assert_eq!(text(&place), "old");
        assert_eq!(fs::metadata(&place.new).unwrap().len(), 0, "it takes no room");
    }
    for hurry in [false, true] {
        place.replace(hurry, |mut file| file.write_all(b"new")).unwrap();
        assert_eq!((text(&place).as_str(), place.new.exists()), ("new", false));
    }
}

#[test]
fn what_a_crash_left_is_written_over() {
    let (_folder, place) = place();
    fs::write(&place.new, "a long half of what it was to be").unwrap();
    place.replace(false, |mut file| file.write_all(b"new")).unwrap();
    assert_eq!(text(&place), "new");
}

#[test]
fn of_two_that_write_at_the_same_time_one_does() {
    let (_folder, place) = place();
    let other = Place::new(&place.path);
    place
        .replace(false, |mut file| {
            let error = other.replace(false, |_| Ok(())).unwrap_err();
            assert!(matches!(error, Error::Busy(_)), "{error}");
            file.write_all(b"first")
        })
        .unwrap();
    assert_eq!(text(&place), "first");
    other.replace(false, |mut file| file.write_all(b"second")).unwrap();
    assert_eq!(text(&place), "second");
}

#[test]
fn nothing_is_written_through_a_link_nor_into_a_pipe() {
    let (folder, place) = place();
    let precious = folder.path().join("precious");
    fs::write(&precious, "kept").unwrap();
    symlink(&precious, &place.new).unwrap();
    assert!(matches!(place.replace(false, |mut file| file.write_all(b"new")), Err(Error::Make { .. })));
    assert_eq!(fs::read_to_string(&precious).unwrap(), "kept");
    fs::remove_file(&place.new).unwrap();
    let pipe = |path: &Path| {
        let status = std::process::Command::new("mkfifo").arg(path).status().unwrap();
        assert!(status.success());
    };
    pipe(&place.new);
    assert!(matches!(place.replace(false, |_| Ok(())), Err(Error::Make { .. })));
    fs::remove_file(&place.path).unwrap();
    pipe(&place.path);
    assert!(matches!(place.open(), Err(persist::Error::Foreign)), "it is not waited for");
}

#[test]
fn a_folder_that_is_missing_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let place = Place::new(&folder.path().join("none/cache"));
    let error = place.replace(false, |_| Ok(())).unwrap_err().to_string();
    let wanted = "none/cache.new: No such file or directory (os error 2): its folder must be there when nodens starts";
    assert!(error.contains(wanted), "{error}");
}
