//! When to read the configuration again, and what a new one cannot change without a restart.
//!
//! Files are polled by content, twice a second: that sees a ConfigMap's `..data` symlink being swapped, a file
//! renamed over the old one and an edit in place alike, and a hundred changes a second cost one load a second.

use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use crate::config::load::{fingerprint, read};
use crate::config::{Config, Source};

/// How often [`Watcher::poll`] is meant to be called.
pub const POLL_INTERVAL: Duration = Duration::from_millis(500);
/// A file younger than this may still be being written, and is looked at once more before it is believed.
const SETTLE: Duration = Duration::from_millis(100);

/// Watches what a configuration was read from.
#[derive(Clone, Debug)]
pub struct Watcher {
    source: Source,
    /// The files, and the folders, with the content last seen in each. The first is the one that must be there.
    seen: Vec<(PathBuf, u64)>,
    /// A change was seen, but a file was too young.
    deferred: bool,
    /// The file could not be read, this many times in a row.
    failures: u32,
}

impl Watcher {
    /// Watches `source`, whose file had the content with the fingerprint `seen` when it was read, and `files`.
    pub fn new(source: Source, seen: u64, files: &[PathBuf]) -> Watcher {
        let known = vec![(source.file().to_owned(), seen)];
        let mut watcher = Watcher { source, seen: known, deferred: false, failures: 0 };
        watcher.follow(files);
        watcher
    }

    /// What is watched.
    pub fn source(&self) -> &Source {
        &self.source
    }

    /// From now on watches `files`, besides what is watched in any case.
    pub fn follow(&mut self, files: &[PathBuf]) {
        let known = std::mem::take(&mut self.seen);
        let main = [self.source.file().to_owned()];
        let folder = self.source.folder().map(Path::to_owned);
        for path in main.iter().chain(&folder).chain(files) {
            if self.seen.iter().all(|(listed, _)| listed != path) {
                let content = known.iter().find(|(listed, _)| listed == path).map(|(_, content)| *content);
                self.seen.push((path.clone(), content.unwrap_or_else(|| content_of(path).0)));
            }
        }
    }

    /// Whether anything is other than it was last time. `now` is compared with the modification times.
    ///
    /// # Errors
    /// The file cannot be read: said once, at the second poll in a row, since a file being replaced may be missing
    /// for a moment. The next poll that succeeds starts afresh.
    pub fn poll(&mut self, now: SystemTime) -> io::Result<bool> {
        let read = std::fs::File::open(self.source.file());
        if let Err(e) = read {
            self.failures = self.failures.saturating_add(1);
            return if self.failures == 2 { Err(e) } else { Ok(false) };
        }
        self.failures = 0;
        let found: Vec<(u64, Option<SystemTime>)> = self.seen.iter().map(|(path, _)| content_of(path)).collect();
        let changed = |((_, seen), (content, _)): &(&(PathBuf, u64), &(u64, Option<SystemTime>))| seen != content;
        let mut modified = self.seen.iter().zip(&found).filter(changed).map(|(_, (_, modified))| *modified).peekable();
        if modified.peek().is_none() {
            self.deferred = false;
            return Ok(false);
        }
        // A modification time ahead of the clock says nothing about age.
        let is_young = |at: SystemTime| now.duration_since(at).is_ok_and(|age| age < SETTLE);
        let young = modified.flatten().any(is_young);
        if young && !self.deferred {
            self.deferred = true;
            return Ok(false);
        }
        self.deferred = false;
        self.seen.iter_mut().zip(found).for_each(|((_, seen), (content, _))| *seen = content);
        Ok(true)
    }

    /// Takes everything as it is now for seen: it is about to be read, as somebody asked for that.
    pub fn skip(&mut self) {
        self.seen.iter_mut().for_each(|(path, seen)| *seen = content_of(path).0);
        (self.deferred, self.failures) = (false, 0);
    }
}

/// A number for the content of a file, or of a folder with the files in it, and when the youngest of them was written;
/// what cannot be read is as good as empty.
fn content_of(path: &Path) -> (u64, Option<SystemTime>) {
    let modified = |path: &Path| std::fs::metadata(path).and_then(|data| data.modified()).ok();
    let Ok(entries) = std::fs::read_dir(path) else {
        return read(path).map_or((0, None), |bytes| (fingerprint(&bytes), modified(path)));
    };
    // What a ConfigMap's volume keeps beside its files is hidden.
    let is_shown = |path: &PathBuf| !path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
    let mut files: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).filter(is_shown).collect();
    files.sort();
    let mut all = Vec::new();
    for file in &files {
        let content = read(file).map_or(0, |bytes| fingerprint(&bytes));
        all.extend_from_slice(file.as_os_str().as_encoded_bytes());
        all.extend_from_slice(&content.to_le_bytes());
    }
    (fingerprint(&all), files.iter().filter_map(|file| modified(file)).max())
}

/// The keys whose values differ and that only a restart makes effective.
pub fn restart_needed(old: &Config, new: &Config) -> Vec<&'static str> {
    let differs = [
        ("listen.addresses", old.listen.addresses != new.listen.addresses),
        ("listen.port", old.listen.port != new.listen.port),
        ("listen.workers", old.listen.workers != new.listen.workers),
        ("network.addresses", old.network.addresses != new.network.addresses),
        ("answers", old.answers != new.answers),
        ("network.interface", old.network.interface != new.network.interface),
        ("network.firewall", old.network.firewall != new.network.firewall),
        ("network.failOpen", old.network.fail_open != new.network.fail_open),
        ("cache.maxBytes", old.cache.max_bytes != new.cache.max_bytes),
        ("cache.persist", old.cache.persist != new.cache.persist),
        ("metrics.listen", old.metrics != new.metrics),
        ("metrics.corednsNames", old.coredns_names != new.coredns_names),
        ("metrics.optional", old.metrics_optional != new.metrics_optional),
        ("health.listen", old.health != new.health),
        ("health.also", old.health_also != new.health_also),
        ("health.lameDuck", old.lame_duck != new.lame_duck),
    ];
    differs.into_iter().filter_map(|(key, differs)| differs.then_some(key)).collect()
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;
    use crate::config::{Overrides, load, load_str};

    fn load_ok(text: &str) -> Config {
        load_str("f", text).unwrap().config
    }

    /// Watches `file`, in which there was `content`.
    fn watch(file: &Path, content: &[u8]) -> Watcher {
        Watcher::new(Source::File(file.to_owned()), fingerprint(content), &[])
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
        let mut watcher = Watcher::new(Source::File(at("nodens.yaml")), loaded.fingerprint, &[]);
        assert!(!watcher.poll(later()).unwrap());
        symlink("..2", at("..data_tmp")).unwrap();
        fs::rename(at("..data_tmp"), at("..data")).unwrap();
        assert!(watcher.poll(later()).unwrap());
        let config = watcher.source().load(&Overrides::default()).unwrap().config;
        assert_eq!((loaded.config.listen.port, config.listen.port), (54, 55));
        assert!(!watcher.poll(later()).unwrap());
    }

    #[test]
    fn a_file_renamed_over_or_edited_in_place_is_noticed_and_one_rewritten_the_same_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("nodens.yaml");
        fs::write(&file, "a").unwrap();
        let mut watcher = watch(&file, b"a");
        fs::write(folder.path().join("new"), "b").unwrap();
        fs::rename(folder.path().join("new"), &file).unwrap();
        assert!(watcher.poll(later()).unwrap());
        fs::write(&file, "c").unwrap();
        assert!(watcher.poll(later()).unwrap());
        fs::write(&file, "c").unwrap();
        assert!(!watcher.poll(later()).unwrap());
        fs::write(&file, "d").unwrap();
        watcher.skip();
        assert!(!watcher.poll(later()).unwrap());
    }

    #[test]
    fn a_file_being_written_is_believed_at_the_second_look() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("nodens.yaml");
        fs::write(&file, "half").unwrap();
        let written = fs::metadata(&file).unwrap().modified().unwrap();
        let mut watcher = watch(&file, b"before");
        assert!(!watcher.poll(written + Duration::from_millis(50)).unwrap());
        fs::write(&file, "whole").unwrap();
        // However young it still is: a file that changes all the time is read at every second poll.
        assert!(watcher.poll(written + Duration::from_millis(50)).unwrap());
    }

    #[test]
    fn g20_a_hundred_changes_a_second_cost_one_load_a_second() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("nodens.yaml");
        let mut watcher = Watcher::new(Source::File(file.clone()), 0, &[]);
        let mut loads = 0;
        for change in 0..100 {
            fs::write(&file, format!("# {change}")).unwrap();
            if change % 50 == 0 {
                let now = fs::metadata(&file).unwrap().modified().unwrap();
                loads += usize::from(watcher.poll(now).unwrap());
            }
        }
        assert_eq!(loads, 1, "of the two polls of a second, the first finds the file too young");
        assert!(watcher.poll(later()).unwrap(), "the last change is not lost");
    }

    #[test]
    fn a_file_missing_for_a_moment_is_no_error_and_missing_for_long_is_one() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("nodens.yaml");
        let mut watcher = watch(&file, b"a");
        assert!(!watcher.poll(later()).unwrap());
        fs::write(&file, "a").unwrap();
        assert!(!watcher.poll(later()).unwrap());
        fs::remove_file(&file).unwrap();
        let errors = (0..5).filter(|_| watcher.poll(later()).is_err()).count();
        assert_eq!(errors, 1);
        fs::write(&file, "b").unwrap();
        assert!(watcher.poll(later()).unwrap());
    }

    #[test]
    fn what_belongs_to_a_file_is_watched_with_it() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        fs::create_dir(at("imports")).unwrap();
        for (name, text) in [("Corefile", "a"), ("imports/one", "1"), ("snippet", "s")] {
            fs::write(at(name), text).unwrap();
        }
        let source = Source::File(at("Corefile"));
        let mut watcher = Watcher::new(source, fingerprint(b"a"), &[at("imports"), at("snippet"), at("later")]);
        assert!(!watcher.poll(later()).unwrap());
        let changes: [(&str, Option<&str>); 6] = [
            ("snippet", Some("t")),
            ("imports/one", Some("2")),
            ("imports/two", Some("")),
            ("later", Some("x")),
            ("imports/one", None),
            ("snippet", None),
        ];
        for (name, text) in changes {
            match text {
                Some(text) => fs::write(at(name), text).unwrap(),
                None => fs::remove_file(at(name)).unwrap(),
            }
            assert!(watcher.poll(later()).unwrap(), "{name}");
            assert!(!watcher.poll(later()).unwrap(), "{name}");
        }
        fs::write(at("imports/.hidden"), "").unwrap();
        assert!(!watcher.poll(later()).unwrap());
        fs::write(at("snippet"), "u").unwrap();
        watcher.follow(&[at("snippet")]);
        assert!(watcher.poll(later()).unwrap(), "a change between reading and following is not lost");
        fs::write(at("imports/one"), "3").unwrap();
        assert!(!watcher.poll(later()).unwrap(), "it does not belong to it any more");
    }

    #[test]
    fn only_what_is_set_up_once_needs_a_restart() {
        let old = Config::default();
        let live =
            load_ok("cache: {failureTtl: 9s}\nlimits: {inFlight: 9}\nzones: [{match: [.], forward: {to: [1.1.1.1]}}]");
        assert!(restart_needed(&old, &live).is_empty());
        let new = load_ok(
            "answers: {udpSize: 600}\nlisten: {addresses: [127.0.0.1], port: 54, workers: 2, allowFrom: [10.0.0.0/8]}\ncache: {maxBytes: 1Mi, persist: {path: /tmp/c}}\nmetrics: {listen: [], corednsNames: true, optional: ['127.0.0.1:1']}\nhealth: {also: ['127.0.0.1:2'], lameDuck: 1s}
network: {addresses: [10.0.0.1], interface: {kind: tun}, firewall: iptables, failOpen: {enabled: false}}",
        );
        let all = [
            "listen.addresses",
            "listen.port",
            "listen.workers",
            "network.addresses",
            "answers",
            "network.interface",
            "network.firewall",
            "network.failOpen",
            "cache.maxBytes",
            "cache.persist",
            "metrics.listen",
            "metrics.corednsNames",
            "metrics.optional",
            "health.listen",
            "health.also",
            "health.lameDuck",
        ];
        assert_eq!(restart_needed(&old, &new), all);
    }
}
