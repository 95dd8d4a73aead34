//! Keeps the cache over a restart: when it is loaded and saved, and where. What is in the file is [`cache::persist`]'s.
//!
//! It is loaded before the first packet, and saved now and then, at a stop, and when a successor starts. All this is done
//! on a thread of its own, for disks hang: nobody waits for it longer than [`PATIENCE`].
//!
//! A file is written beside its place and renamed, so that the old one stays until there is a new one. Whoever writes
//! holds a lock: two instances of one node share the file while one takes over from the other. What a crash leaves is
//! written over; for no more than that is a confined server permitted to remove files.
//!
//! [`cache::persist`]: crate::cache::persist

use crate::cache::Store;
use crate::cache::entry::Refresh;
use crate::cache::persist::{self, Terms};
use crate::cache::store::OVERHEAD;
use crate::config::Config;
use crate::observe::cells::{Counter, Gauge};
use crate::observe::limit::RateLimit;
use crate::observe::metrics::Metrics;
use crate::observe::sink::FamilySink;
use crate::resolve::Zones;
use crate::sys::clock::Moment;
use rustix::fs::{CWD, FlockOperation, Mode, OFlags, flock, openat, renameat};
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom};
use std::ops::ControlFlow;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::sync::oneshot;

/// How long a start waits for the file to be read, and a stop for it to be written.
const PATIENCE: Duration = Duration::from_secs(1);
/// How long a successor waits for its predecessor to save.
const HAND_OVER: Duration = Duration::from_secs(1);
/// How often it looks.
const LOOK: Duration = Duration::from_millis(5);
/// Orders that may wait for the disk.
const QUEUE: usize = 4;
/// How often it is tried to have the new file for oneself.
const ATTEMPTS: usize = 3;

/// Why a cache could not be saved.
#[derive(Debug, thiserror::Error)]
enum Error {
    /// No new file can be had.
    #[error("cannot make {}: {source}: its folder must be there when nodens starts, and its user may write there", path.display())]
    Make {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// Somebody else is at it.
    #[error("another instance is writing {}", .0.display())]
    Busy(PathBuf),
    /// The disk does not take it.
    #[error("cannot write {}: {source}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// It cannot be put in its place.
    #[error("cannot rename {} to {}: {source}", from.display(), to.display())]
    Rename {
        /// The new file.
        from: PathBuf,
        /// Its place.
        to: PathBuf,
        /// What the system says.
        source: io::Error,
    },
}

/// The folder that is written in, if any is.
pub(super) fn folder(config: &Config) -> Option<&Path> {
    config.cache.persist.as_ref()?.path.parent()
}

/// The way to the thread, which ends when this is dropped and nothing waits any more.
pub(super) struct Persistence {
    orders: SyncSender<Option<oneshot::Sender<()>>>,
}

impl Persistence {
    /// Starts the thread, which loads `store` from the file that `config` names, and returns when that is done or takes
    /// too long. With `since`, there is a predecessor that saves after that time: its file is waited for.
    pub(super) async fn start(
        config: &Config,
        store: Arc<Store>,
        zones: impl Fn() -> Arc<Zones> + Send + 'static,
        metrics: &Arc<Metrics>,
        since: Option<SystemTime>,
    ) -> io::Result<Option<Persistence>> {
        let Some(persist) = &config.cache.persist else { return Ok(None) };
        let stale = config.zones.iter().filter_map(|zone| Some(zone.serve_stale?.max_age)).max();
        let counts = Arc::new(Counts::default());
        let reported = Arc::clone(&counts);
        metrics.register(Box::new(move |sink| reported.report(sink)));
        let keeper = Keeper {
            place: Place::new(&persist.path),
            max_bytes: config.cache.max_bytes,
            stale: stale.unwrap_or_default(),
            store,
            metrics: Arc::clone(metrics),
            counts,
        };
        let (orders, waiting) = sync_channel(QUEUE);
        let (loaded, is_loaded) = oneshot::channel::<()>();
        let too_late = Arc::new(AtomicBool::new(false));
        let (interval, given_up) = (persist.interval, Arc::clone(&too_late));
        std::thread::Builder::new().name("persist".to_owned()).spawn(move || {
            if let Some(since) = since {
                keeper.place.wait_for(since);
            }
            keeper.load(&zones(), &given_up);
            drop(loaded);
            keeper.run(interval, &waiting, &zones);
        })?;
        let patience = if since.is_some() { HAND_OVER + PATIENCE } else { PATIENCE };
        if tokio::time::timeout(patience, is_loaded).await.is_err() {
            too_late.store(true, Ordering::Relaxed);
            let file = persist.path.display();
            tracing::warn!(%file, "the saved cache cannot be read in time: going on with what was read so far");
        }
        Ok(Some(Persistence { orders }))
    }

    /// Has it saved now, and waits for nothing.
    pub(super) fn save(&self) {
        // More than that are waiting already if the queue is full.
        let _ = self.orders.try_send(None);
    }

    /// Has it saved now; returns when that is done or takes too long.
    pub(super) async fn save_last(&self) {
        let (done, is_done) = oneshot::channel();
        let sent = self.orders.try_send(Some(done)).is_ok();
        if !sent || tokio::time::timeout(PATIENCE, is_done).await.is_err() {
            tracing::warn!("the cache cannot be saved in time: going on without");
        }
    }
}

/// What the thread has.
struct Keeper {
    place: Place,
    max_bytes: u64,
    /// How long after the end of its lifetime an answer may be given out.
    stale: Duration,
    store: Arc<Store>,
    metrics: Arc<Metrics>,
    counts: Arc<Counts>,
}

impl Keeper {
    /// Saves every `interval`, and when told to, until nobody is there to tell.
    fn run(&self, interval: Duration, orders: &Receiver<Option<oneshot::Sender<()>>>, zones: &impl Fn() -> Arc<Zones>) {
        let mut due = Moment::now() + interval;
        loop {
            match orders.recv_timeout(due.since(Moment::now())) {
                Ok(done) => {
                    self.save(&zones(), true);
                    drop(done);
                }
                Err(RecvTimeoutError::Timeout) => self.save(&zones(), false),
                Err(RecvTimeoutError::Disconnected) => return,
            }
            due = Moment::now() + interval;
        }
    }

    fn terms(&self) -> Terms<'_> {
        let (now, wall) = (Moment::now(), SystemTime::now());
        Terms { now, wall, stale: self.stale, upstreams: &self.metrics.upstreams, zones: &self.metrics.zones }
    }

    /// Loads what there is, unless it is too late for that.
    fn load(&self, zones: &Zones, too_late: &AtomicBool) {
        let (generation, mut loaded, mut bytes) = (self.store.generation(), 0, 0);
        let zone = |name: &[u8]| {
            let (zone, rules) = zones.made_by(name)?;
            let refresh = zone.prefetch.map(|rule| Refresh::new(rule, rand::random()));
            let refresh = refresh.unwrap_or_default();
            Some(persist::Owner { zone: zone.label, refresh, ruled: zone.is_ruled(), rules })
        };
        let read = || -> Result<SystemTime, persist::Error> {
            let file = Patient { file: self.place.open()?, too_late };
            persist::load(file, &self.terms(), zone, |entry| {
                bytes += (entry.size() + OVERHEAD) as u64;
                if bytes > self.max_bytes || too_late.load(Ordering::Relaxed) {
                    return ControlFlow::Break(());
                }
                self.store.insert(entry, generation);
                loaded += 1;
                ControlFlow::Continue(())
            })
        };
        let begin = Moment::now();
        let file = self.place.path.display();
        let read = { read }();
        self.counts.loaded.set(loaded);
        match read {
            Ok(saved) => {
                self.counts.success.set(seconds(saved));
                let took = Moment::now().since(begin);
                tracing::info!(%file, answers = loaded, ?took, "the saved cache is loaded");
            }
            Err(persist::Error::Read(error)) if error.kind() == io::ErrorKind::NotFound => {
                tracing::info!(%file, "there is no saved cache yet");
            }
            // Said already.
            Err(_) if too_late.load(Ordering::Relaxed) => {}
            Err(error) => tracing::warn!(%file, %error, "the saved cache is not used"),
        }
    }

    /// Saves, and says so if that fails.
    fn save(&self, zones: &Zones, hurry: bool) {
        static LINE: RateLimit = RateLimit::new(Duration::from_secs(60));
        let (begin, terms) = (Moment::now(), self.terms());
        let rules = |name: &[u8]| zones.made_by(name).map_or(0, |(_, rules)| rules);
        let written = self.place.replace(hurry, |file| persist::save(file, self.store.iter(), &terms, rules));
        let end = Moment::now();
        match written {
            Ok(answers) => {
                let took = end.since(begin);
                self.counts.saves[0].add(1);
                self.counts.saved.set(i64::try_from(answers).unwrap_or(i64::MAX));
                self.counts.took_us.set(i64::try_from(took.as_micros()).unwrap_or(i64::MAX));
                self.counts.success.set(seconds(terms.wall));
                tracing::debug!(answers, ?took, "the cache is saved");
            }
            Err(error) => {
                self.counts.saves[1].add(1);
                if let Some(suppressed) = LINE.allow(end) {
                    tracing::warn!(%error, suppressed, "the cache cannot be saved; what was saved before stays");
                }
            }
        }
    }
}

/// Where the cache is kept.
struct Place {
    path: PathBuf,
    /// Where a new file is written.
    new: PathBuf,
}

impl Place {
    fn new(path: &Path) -> Place {
        let mut new = path.as_os_str().to_owned();
        new.push(".new");
        Place { path: path.to_owned(), new: new.into() }
    }

    /// The file as it is.
    fn open(&self) -> Result<File, persist::Error> {
        // A pipe is not waited for.
        let flags = OFlags::NONBLOCK.bits().cast_signed();
        let file = OpenOptions::new().read(true).custom_flags(flags).open(&self.path)?;
        if file.metadata()?.is_file() { Ok(file) } else { Err(persist::Error::Foreign) }
    }

    /// Waits until the file is one that was written after `since`, but not for ever.
    fn wait_for(&self, since: SystemTime) {
        let end = Moment::now() + HAND_OVER;
        let is_there = || self.open().is_ok_and(|mut file| persist::saved_at(&mut file).is_ok_and(|at| at >= since));
        while !is_there() {
            if Moment::now() >= end {
                let file = self.path.display();
                tracing::warn!(%file, "the instance before this has not saved its cache in time: what is there is used");
                return;
            }
            std::thread::sleep(LOOK);
        }
    }

    /// Has `write` fill a new file, and puts it in the place of the old one: once it is safely on the disk, or, in a
    /// `hurry`, before, as somebody waits for it. Should the machine die in that very moment, its checksum will be wrong.
    fn replace<T>(&self, hurry: bool, write: impl FnOnce(&File) -> io::Result<T>) -> Result<T, Error> {
        let file = self.begin()?;
        let failed = |source| Error::Write { path: self.new.clone(), source };
        let sync = |now: bool| if now { file.sync_all().map_err(failed) } else { Ok(()) };
        let replaced = || {
            let written = write(&file).map_err(failed)?;
            sync(!hurry)?;
            let (from, to) = (self.new.clone(), self.path.clone());
            renameat(CWD, &from, CWD, &to).map_err(|e| Error::Rename { from, to, source: e.into() })?;
            Ok(written)
        };
        let written = replaced().inspect_err(|_| {
            // The room that it takes may be what others lack.
            let _ = file.set_len(0);
        })?;
        sync(hurry)?;
        Ok(written)
    }

    /// The new file, empty and ours alone.
    fn begin(&self) -> Result<File, Error> {
        let error = |source| Error::Make { path: self.new.clone(), source };
        for _ in 0..ATTEMPTS {
            let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
            let file = openat(CWD, &self.new, flags, Mode::RUSR | Mode::WUSR).map_err(|e| error(e.into()))?;
            let file = File::from(file);
            match flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => {}
                Err(rustix::io::Errno::WOULDBLOCK) => break,
                Err(e) => return Err(error(e.into())),
            }
            // The one that had it before may have put it in its place.
            let there = std::fs::symlink_metadata(&self.new);
            let ours = file.metadata().map_err(error)?;
            if there.is_ok_and(|there| (there.dev(), there.ino()) == (ours.dev(), ours.ino())) {
                file.set_len(0).map_err(error)?;
                return Ok(file);
            }
        }
        Err(Error::Busy(self.new.clone()))
    }
}

/// A file that is read until it is too late.
struct Patient<'a> {
    file: File,
    too_late: &'a AtomicBool,
}

impl Read for Patient<'_> {
    fn read(&mut self, room: &mut [u8]) -> io::Result<usize> {
        if self.too_late.load(Ordering::Relaxed) { Err(io::ErrorKind::TimedOut.into()) } else { self.file.read(room) }
    }
}

impl Seek for Patient<'_> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.file.seek(to)
    }
}

/// What metrics show.
#[derive(Default)]
struct Counts {
    /// Those that went well, and those that did not.
    saves: [Counter; 2],
    saved: Gauge,
    loaded: Gauge,
    took_us: Gauge,
    success: Gauge,
}

impl Counts {
    fn report(&self, sink: &mut FamilySink) {
        for (outcome, count) in ["ok", "failed"].into_iter().zip(&self.saves) {
            let help = "Times that the cache was to be saved to disk, by what became of it.";
            sink.counter("nodens_persist_saves_total", help, &[("outcome", outcome)], count.get());
        }
        for (what, count) in [("saved", &self.saved), ("loaded", &self.loaded)] {
            let help = "Answers that were saved last, and that were loaded at the start.";
            sink.gauge("nodens_persist_entries", help, &[("what", what)], count.get() as f64);
        }
        let help = "How long the last save took.";
        sink.gauge("nodens_persist_save_seconds", help, &[], self.took_us.get() as f64 / 1e6);
        let help = "When the file was written last, in seconds since 1970; 0 if there is none that can be used.";
        sink.gauge("nodens_persist_last_success_timestamp_seconds", help, &[], self.success.get() as f64);
    }
}

/// Seconds since 1970.
fn seconds(at: SystemTime) -> i64 {
    i64::try_from(at.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests;
