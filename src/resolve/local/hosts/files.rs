//! A hosts file: read when its size or time of change is another than before.
//!
//! One that cannot be read keeps what it held, and is said to fail until it can be.

use super::table::{Scope, Table};
use crate::sys::clock::Moment;
use crate::sys::file;
use arc_swap::{ArcSwap, Guard};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

/// The largest file that is read, in octets: some 300,000 lines.
const LARGEST: u64 = 16 * 1024 * 1024;

/// Time of change and size, by which a file is known to be the one that was read.
type Version = (SystemTime, u64);

/// A file and what it held when it was read last.
pub(super) struct File {
    path: PathBuf,
    table: ArcSwap<Table>,
    state: Mutex<State>,
}

/// What is known of a file.
#[derive(Default)]
struct State {
    /// When it is looked at next; `None` before the first time.
    next: Option<Moment>,
    /// What was read.
    read: Option<Version>,
    /// Why it cannot be read, if it cannot.
    failure: Option<String>,
    /// Lines that were left out.
    skipped: usize,
}

/// How a file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Status<'a> {
    /// Where it is.
    pub path: &'a Path,
    /// How many pairs of a name and an address it gave, and of an address and a name.
    pub entries: usize,
    /// When what was read last had been changed; `None` when nothing has been read.
    pub changed: Option<SystemTime>,
    /// Lines of it that were not understood and left out.
    pub skipped: usize,
    /// Whether it could not be read when it was looked at last.
    pub failing: bool,
}

impl File {
    /// A file that nobody has read.
    pub(super) fn new(path: PathBuf) -> File {
        File { path, table: ArcSwap::default(), state: Mutex::default() }
    }

    /// What it holds.
    pub(super) fn table(&self) -> Guard<Arc<Table>> {
        self.table.load()
    }

    /// How it is.
    pub(super) fn status(&self) -> Status<'_> {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        Status {
            path: &self.path,
            entries: self.table().len(),
            changed: state.read.map(|(changed, _)| changed),
            skipped: state.skipped,
            failing: state.failure.is_some(),
        }
    }

    /// Reads it if it is time to look, and it has changed. With an `interval` of zero it is looked at once.
    pub(super) fn refresh(&self, now: Moment, interval: Duration, scope: &Scope) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.next.is_some_and(|next| interval.is_zero() || now < next) {
            return;
        }
        state.next = Some(now + interval);
        let file = self.path.display().to_string();
        match self.read(state.read) {
            Ok(None) => {
                if state.failure.take().is_some() {
                    tracing::info!(file, "the hosts file can be read again");
                }
            }
            Ok(Some((text, read))) => {
                let (table, skipped) = Table::parse(&text, scope);
                tracing::info!(file, entries = table.len(), "hosts file read");
                if let Some((line, lines)) = skipped {
                    tracing::warn!(file, line, lines, "lines of the hosts file are not understood and left out");
                }
                self.table.store(Arc::new(table));
                *state =
                    State { read: Some(read), failure: None, skipped: skipped.map_or(0, |(_, lines)| lines), ..*state };
            }
            Err(error) => {
                let failure = error.to_string();
                // Said once for each reason, not every time somebody looks.
                if state.failure.as_ref() != Some(&failure) {
                    tracing::warn!(file, error = failure, "cannot read the hosts file; what it held stays");
                }
                state.failure = Some(failure);
            }
        }
    }

    /// Its text and version, unless that is as `before`.
    fn read(&self, before: Option<Version>) -> io::Result<Option<(Vec<u8>, Version)>> {
        let about = file::regular(&self.path)?;
        let now = (about.modified()?, about.len());
        if before == Some(now) {
            return Ok(None);
        }
        Ok(Some((file::read(&self.path, LARGEST)?, now)))
    }
}
