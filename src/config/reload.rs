//! When to read the configuration again, and what a new one cannot change without a restart.
//!
//! The file is polled by content, twice a second: that sees a ConfigMap's `..data` symlink being swapped, a file
//! renamed over the old one and an edit in place alike, and a hundred changes a second cost two reads.

use std::io;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use crate::config::Config;
use crate::config::load::{fingerprint, read};

/// How often [`Watcher::poll`] is meant to be called.
pub const POLL_INTERVAL: Duration = Duration::from_millis(500);
/// A file younger than this may still be being written, and is looked at once more before it is believed.
const SETTLE: Duration = Duration::from_millis(100);

/// Watches one file for new content.
#[derive(Debug)]
pub struct Watcher {
    path: PathBuf,
    /// The content last given out.
    seen: u64,
    /// A change was seen, but the file was too young.
    deferred: bool,
    /// The file could not be read, this many times in a row.
    failures: u32,
}

impl Watcher {
    /// Watches `path`, whose content with the fingerprint `seen` is known.
    pub fn new(path: PathBuf, seen: u64) -> Watcher {
        Watcher { path, seen, deferred: false, failures: 0 }
    }

    /// The file's bytes if they are others than last time. `now` is compared with the file's modification time.
    ///
    /// # Errors
    /// The file cannot be read: said once, at the second poll in a row, since a file being replaced may be missing
    /// for a moment. The next poll that succeeds starts afresh.
    pub fn poll(&mut self, now: SystemTime) -> io::Result<Option<Vec<u8>>> {
        let read = read(&self.path).and_then(|bytes| Ok((bytes, std::fs::metadata(&self.path)?.modified()?)));
        let (bytes, modified) = match read {
            Ok(read) => read,
            Err(e) => {
                self.failures = self.failures.saturating_add(1);
                return if self.failures == 2 { Err(e) } else { Ok(None) };
            }
        };
        self.failures = 0;
        let content = fingerprint(&bytes);
        if content == self.seen {
            self.deferred = false;
            return Ok(None);
        }
        // A modification time ahead of the clock says nothing about age.
        let young = now.duration_since(modified).is_ok_and(|age| age < SETTLE);
        if young && !self.deferred {
            self.deferred = true;
            return Ok(None);
        }
        self.deferred = false;
        self.seen = content;
        Ok(Some(bytes))
    }

    /// The file's bytes, changed or not: for a reload that somebody asked for.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn read_now(&mut self) -> io::Result<Vec<u8>> {
        let bytes = read(&self.path)?;
        *self = Watcher::new(std::mem::take(&mut self.path), fingerprint(&bytes));
        Ok(bytes)
    }
}

/// The keys whose values differ and that only a restart makes effective.
pub fn restart_needed(old: &Config, new: &Config) -> Vec<&'static str> {
    let differs = [
        ("listen.addresses", old.listen.addresses != new.listen.addresses),
        ("listen.port", old.listen.port != new.listen.port),
        ("listen.workers", old.listen.workers != new.listen.workers),
        ("listen.allowFrom", old.listen.allow_from != new.listen.allow_from),
        ("cache.maxBytes", old.cache.max_bytes != new.cache.max_bytes),
        ("metrics.listen", old.metrics != new.metrics),
        ("health.listen", old.health != new.health),
    ];
    differs.into_iter().filter_map(|(key, differs)| differs.then_some(key)).collect()
}
