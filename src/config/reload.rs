//! When to read the configuration again, and what a new one cannot change without a restart.
//!
//! The file is polled by content, twice a second: that sees a ConfigMap's `..data` symlink being swapped, a file
//! renamed over the old one and an edit in place alike, and a hundred changes a second cost one load a second.

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
        ("answers", old.answers != new.answers),
        ("network.interface", old.network.interface != new.network.interface),
        ("network.firewall", old.network.firewall != new.network.firewall),
        ("network.failOpen", old.network.fail_open != new.network.fail_open),
        ("cache.maxBytes", old.cache.max_bytes != new.cache.max_bytes),
        ("cache.persist", old.cache.persist != new.cache.persist),
        ("metrics.listen", old.metrics != new.metrics),
        ("metrics.corednsNames", old.coredns_names != new.coredns_names),
        ("health.listen", old.health != new.health),
    ];
    differs.into_iter().filter_map(|(key, differs)| differs.then_some(key)).collect()
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;
    use crate::config::{Overrides, load, load_bytes, load_str};

    fn load_ok(text: &str) -> Config {
        load_str("f", text).unwrap().config
    }

    /// A time at which whatever has been written until now counts as settled.
    fn later() -> SystemTime {
        SystemTime::now() + Duration::from_secs(5)
    }

    #[test]
    fn g06_a_configmap_symlink_swap_is_noticed() {
        // kubelet: nodens.yaml → ..data/nodens.yaml, ..data → ..2026_1; a new folder is written and ..data renamed over.
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        for (version, text) in [("..1", "listen: {port: 54}"), ("..2", "listen: {port: 55}")] {
            fs::create_dir(at(version)).unwrap();
            fs::write(at(version).join("nodens.yaml"), text).unwrap();
        }
        symlink("..1", at("..data")).unwrap();
        symlink("..data/nodens.yaml", at("nodens.yaml")).unwrap();
        let loaded = load(Some(&at("nodens.yaml")), &Overrides::default()).unwrap();
        let mut watcher = Watcher::new(at("nodens.yaml"), loaded.fingerprint);
        assert_eq!(watcher.poll(later()).unwrap(), None);
        symlink("..2", at("..data_tmp")).unwrap();
        fs::rename(at("..data_tmp"), at("..data")).unwrap();
        let bytes = watcher.poll(later()).unwrap().unwrap();
        let config = load_bytes("f", &bytes, &Overrides::default()).unwrap().config;
        assert_eq!((loaded.config.listen.port, config.listen.port), (54, 55));
        assert_eq!(watcher.poll(later()).unwrap(), None);
    }

    #[test]
    fn a_file_renamed_over_or_edited_in_place_is_noticed_and_one_rewritten_the_same_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("nodens.yaml");
        fs::write(&file, "a").unwrap();
        let mut watcher = Watcher::new(file.clone(), fingerprint(b"a"));
        fs::write(folder.path().join("new"), "b").unwrap();
        fs::rename(folder.path().join("new"), &file).unwrap();
        assert_eq!(watcher.poll(later()).unwrap(), Some(b"b".to_vec()));
        fs::write(&file, "c").unwrap();
        assert_eq!(watcher.poll(later()).unwrap(), Some(b"c".to_vec()));
        fs::write(&file, "c").unwrap();
        assert_eq!(watcher.poll(later()).unwrap(), None);
        assert_eq!(watcher.read_now().unwrap(), b"c");
    }

    #[test]
    fn a_file_being_written_is_believed_at_the_second_look() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("nodens.yaml");
        fs::write(&file, "half").unwrap();
        let written = fs::metadata(&file).unwrap().modified().unwrap();
        let mut watcher = Watcher::new(file.clone(), fingerprint(b"before"));
        assert_eq!(watcher.poll(written + Duration::from_millis(50)).unwrap(), None);
        fs::write(&file, "whole").unwrap();
        // However young it still is: a file that changes all the time is read at every second poll.
        assert_eq!(watcher.poll(written + Duration::from_millis(50)).unwrap(), Some(b"whole".to_vec()));
    }

    #[test]
    fn g20_a_hundred_changes_a_second_cost_one_load_a_second() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("nodens.yaml");
        let mut watcher = Watcher::new(file.clone(), 0);
        let mut loads = 0;
        for change in 0..100 {
            fs::write(&file, format!("# {change}")).unwrap();
            if change % 50 == 0 {
                let now = fs::metadata(&file).unwrap().modified().unwrap();
                loads += usize::from(watcher.poll(now).unwrap().is_some());
            }
        }
        assert_eq!(loads, 1, "of the two polls of a second, the first finds the file too young");
        assert!(watcher.poll(later()).unwrap().is_some(), "the last change is not lost");
    }

    #[test]
    fn a_file_missing_for_a_moment_is_no_error_and_missing_for_long_is_one() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("nodens.yaml");
        let mut watcher = Watcher::new(file.clone(), fingerprint(b"a"));
        assert_eq!(watcher.poll(later()).unwrap(), None);
        fs::write(&file, "a").unwrap();
        assert_eq!(watcher.poll(later()).unwrap(), None);
        fs::remove_file(&file).unwrap();
        let errors = (0..5).filter(|_| watcher.poll(later()).is_err()).count();
        assert_eq!(errors, 1);
        fs::write(&file, "b").unwrap();
        assert_eq!(watcher.poll(later()).unwrap(), Some(b"b".to_vec()));
    }

    #[test]
    fn only_what_is_set_up_once_needs_a_restart() {
        let old = Config::default();
        let live =
            load_ok("cache: {failureTtl: 9s}\nlimits: {inFlight: 9}\nzones: [{match: [.], forward: {to: [1.1.1.1]}}]");
        assert!(restart_needed(&old, &live).is_empty());
        let new = load_ok(
            "answers: {udpSize: 600}\nlisten: {addresses: [127.0.0.1], port: 54, workers: 2, allowFrom: [10.0.0.0/8]}\ncache: {maxBytes: 1Mi, persist: {path: /tmp/c}}\nmetrics: {listen: [], corednsNames: true}
network: {interface: {kind: tun}, firewall: iptables, failOpen: {enabled: false}}",
        );
        let all = [
            "listen.addresses",
            "listen.port",
            "listen.workers",
            "answers",
            "network.interface",
            "network.firewall",
            "network.failOpen",
            "cache.maxBytes",
            "cache.persist",
            "metrics.listen",
            "metrics.corednsNames",
            "health.listen",
        ];
        assert_eq!(restart_needed(&old, &new), all);
    }
}
