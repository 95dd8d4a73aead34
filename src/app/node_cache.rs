//! What is particular to a run in the place of node-cache: two files that are kept for others, and a Service that is not
//! there.
//!
//! The Corefile as it is in force (`-conf`) is there to be read by people, and the process id (`-pidfile`) says that all
//! listeners are up. Nothing depends on either: on a file system that is read only there is neither.
//!
//! A container that was started before the Service of its upstream never learns its address. Such a server serves what it
//! can, captures nothing, and is neither ready nor healthy: so Kubernetes starts the container again, whose environment
//! then has the address.

use super::Parts;
use crate::admin::ready::Readiness;
use crate::config::Source;
use crate::config::node_cache::NodeCache;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Seek, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// How often it is said that the Service is missing.
const REMIND: Duration = Duration::from_secs(30);
/// How often it is looked whether a reload has made that unimportant.
const LOOK: Duration = Duration::from_secs(1);

/// The Corefile as it is in force, for others to read. It stays open, so that even a process that may open no file can
/// write it.
#[derive(Debug, Default)]
pub(super) struct Written(Mutex<Option<(File, usize)>>);

impl Written {
    /// Writes `rendered` where `source` has it written, in one go, and keeps the file. What cannot be written is left alone.
    pub(super) fn begin(source: Option<&Source>, rendered: Option<&str>) -> Written {
        let (Some(path), Some(text)) = (conf(source), rendered) else { return Written::default() };
        if let Err(error) = replace(path, text) {
            tracing::debug!(file = %path.display(), %error, "the Corefile is not written");
        }
        Written::keep(source, rendered)
    }

    /// Keeps the file that another process has written.
    pub(super) fn keep(source: Option<&Source>, rendered: Option<&str>) -> Written {
        let (Some(path), Some(text)) = (conf(source), rendered) else { return Written::default() };
        let file = OpenOptions::new().write(true).open(path).ok();
        Written(Mutex::new(file.map(|file| (file, text.len()))))
    }

    /// Writes `rendered` over what is there.
    pub(super) fn write(&self, rendered: Option<&str>) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (Some((file, length)), Some(text)) = (&mut *kept, rendered) else { return };
        // To cut a file off is one of the calls that the server may not make: empty lines are as good.
        let whole = format!("{text}{}", "\n".repeat(length.saturating_sub(text.len())));
        *length = whole.len();
        if let Err(error) = file.rewind().and_then(|()| file.write_all(whole.as_bytes())) {
            tracing::debug!(%error, "the Corefile is not written");
        }
    }
}

fn conf(source: Option<&Source>) -> Option<&Path> {
    match source {
        Some(Source::NodeCache(sources)) => NodeCache::conf(sources),
        _ => None,
    }
}

/// Puts a file with `text` in the place of the one at `path`; if that cannot be replaced, as one that is mounted there, its
/// content.
fn replace(path: &Path, text: &str) -> io::Result<()> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".new");
    let new = path.with_file_name(name);
    let renamed = fs::write(&new, text).and_then(|()| fs::rename(&new, path));
    renamed.or_else(|_| {
        let _ = fs::remove_file(&new);
        fs::write(path, text)
    })
}

/// The file with this process's id, as long as this value lives.
#[derive(Debug)]
pub(super) struct PidFile(PathBuf);

impl PidFile {
    /// Writes the file at `path`; nothing if that cannot be.
    pub(super) fn write(path: &Path) -> Option<PidFile> {
        match replace(path, &format!("{}\n", std::process::id())) {
            Ok(()) => Some(PidFile(path.to_owned())),
            Err(error) => {
                tracing::warn!(file = %path.display(), %error, "the file with the process id cannot be written");
                None
            }
        }
    }
}

impl Drop for PidFile {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_file(&self.0) {
            tracing::debug!(file = %self.0.display(), %error, "the file with the process id stays");
        }
    }
}

/// Says now and then that a Service is missing, for as long as one is, and keeps readiness and health from holding.
pub(super) async fn mind_missing_service(parts: Arc<Parts>, readiness: Arc<Readiness>) {
    let condition = readiness.register("upstream service");
    condition.set(true, "nothing is missing");
    let mut said: Option<tokio::time::Instant> = None;
    let mut tick = tokio::time::interval(LOOK);
    loop {
        tick.tick().await;
        let config = parts.config();
        let Some(service) = config.missing_service() else {
            if said.take().is_some() {
                condition.set(true, "nothing is missing any more");
                readiness.set_sick(None);
            }
            continue;
        };
        if said.is_none_or(|at| at.elapsed() >= REMIND) {
            said = Some(tokio::time::Instant::now());
            let reason = format!(
                "the Service {service} was not there when this container was started: create it, and start the \
                 container again"
            );
            tracing::error!("{reason}; names that it should answer fail meanwhile, and no packets are captured");
            condition.set(false, reason.clone());
            readiness.set_sick(Some(reason));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::node_cache::Flags;

    fn source(folder: &Path) -> Source {
        let flags = Flags { base: folder.join("base"), conf: Some(folder.join("Corefile")), ..Flags::default() };
        fs::write(&flags.base, "").unwrap();
        Source::NodeCache(Arc::new(NodeCache::new(&flags, |_| None)))
    }

    #[test]
    fn the_corefile_in_force_is_kept_for_others() {
        let folder = tempfile::tempdir().unwrap();
        let source = source(folder.path());
        let read = || fs::read_to_string(folder.path().join("Corefile")).unwrap();
        let written = Written::begin(Some(&source), Some("first\n"));
        assert_eq!(read(), "first\n");
        written.write(Some("the second, longer\n"));
        assert_eq!(read(), "the second, longer\n");
        written.write(Some("3\n"));
        assert_eq!(read().trim_end(), "3");
        written.write(None);
        assert_eq!(read().trim_end(), "3");
        let left: Vec<_> = fs::read_dir(folder.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
        assert_eq!(left.len(), 2, "{left:?}");
    }

    #[test]
    fn where_nothing_can_be_written_nothing_is() {
        let folder = tempfile::tempdir().unwrap();
        let source = source(&folder.path().join("."));
        fs::create_dir(folder.path().join("Corefile")).unwrap();
        Written::begin(Some(&source), Some("text")).write(Some("text"));
        assert!(PidFile::write(&folder.path().join("none/pid")).is_none());
    }

    #[test]
    fn the_process_id_is_there_until_the_end() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("pid");
        fs::write(&path, "of another, long gone").unwrap();
        let file = PidFile::write(&path).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap().trim().parse(), Ok(std::process::id()));
        drop(file);
        assert!(!path.exists());
    }
}
