//! From what the configuration says of a zone to the rules before and behind its cache, and the files that these read:
//! hosts and weights. They are followed while the daemon runs, by the side thread, and kept over a reload that says the
//! same of them.

mod metrics;

use crate::config;
use crate::observe::limit::RateLimit;
use crate::resolve::local::Answers;
use crate::resolve::local::acl::Acl;
use crate::resolve::local::balance::{Balance, Weights};
use crate::resolve::local::dns64::Dns64;
use crate::resolve::local::hosts::Hosts;
use crate::resolve::local::rewrite::{InvalidPattern, Rewrites};
use crate::resolve::local::template::{self, Counts, Templates};
use crate::resolve::{Before, Behind};
use crate::sys::clock::Moment;
use crate::sys::file;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Largest file of weights that is read, in octets.
const MAX_WEIGHTS: u64 = 1 << 20;

/// A rule that cannot be followed; the configuration's check lets none such through.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Of `rewrite`.
    #[error(transparent)]
    Rewrite(#[from] InvalidPattern),
    /// Of `respond`.
    #[error(transparent)]
    Respond(#[from] template::Error),
}

/// What all zones' rules share, and what of them is followed.
#[derive(Default)]
pub(super) struct Rules {
    /// What templates did.
    pub(super) counts: Arc<Counts>,
    hosts: Mutex<Vec<(config::Hosts, Arc<Hosts>)>>,
    weighted: Mutex<Vec<Weighted>>,
}

/// Weights that stand in a file.
struct Weighted {
    rule: config::LoadBalance,
    balance: Arc<Balance>,
    /// When the file was looked at, and what was in it.
    seen: Option<(Moment, Option<u64>)>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Rules {
    /// The rules of `zone` before its cache; `None` when there are none.
    pub(super) fn before(&self, zone: &config::Zone) -> Option<Arc<Before>> {
        // Whoever else may answer comes first.
        let whoami = zone.whoami && zone.forwards.is_empty() && zone.hosts.is_none() && zone.respond.is_empty();
        let before = Before {
            acl: (!zone.acl.is_empty()).then(|| Acl::new(&zone.acl)),
            refuse_any: zone.refuse_any,
            whoami,
            dns64: zone.dns64.map(Dns64::new),
            balance: zone.load_balance.as_ref().map(|rule| self.balance(rule)),
        };
        let any = before.refuse_any || before.whoami || before.acl.is_some() || before.dns64.is_some();
        (any || before.balance.is_some()).then(|| Arc::new(before))
    }

    /// The rules of `zone` behind its cache; `None` when there are none.
    pub(super) fn behind(&self, zone: &config::Zone) -> Result<Option<Arc<Behind>>, Error> {
        let rewrites = if zone.rewrite.is_empty() { None } else { Some(Rewrites::new(&zone.rewrite)?) };
        let mut answers: Vec<Arc<dyn Answers>> = Vec::new();
        if !zone.respond.is_empty() {
            answers.push(Arc::new(Templates::new(&zone.respond, Arc::clone(&self.counts))?));
        }
        if let Some(hosts) = &zone.hosts {
            answers.push(self.host(hosts));
        }
        let any = rewrites.is_some() || zone.minimal_responses || !answers.is_empty();
        Ok(any.then(|| Arc::new(Behind { rewrites, minimal: zone.minimal_responses, answers })))
    }

    /// Forgets what no zone of `config` says.
    pub(super) fn keep(&self, config: &config::Config) {
        lock(&self.hosts).retain(|(known, _)| config.zones.iter().any(|zone| zone.hosts.as_ref() == Some(known)));
        lock(&self.weighted).retain(|w| config.zones.iter().any(|zone| zone.load_balance.as_ref() == Some(&w.rule)));
    }

    /// All that read hosts files.
    pub(super) fn hosts(&self) -> Vec<Arc<Hosts>> {
        lock(&self.hosts).iter().map(|(_, hosts)| Arc::clone(hosts)).collect()
    }

    /// Looks at the files that are due. Not for a thread that serves.
    pub(super) fn refresh(&self, now: Moment) {
        self.hosts().iter().for_each(|hosts| hosts.refresh(now));
        lock(&self.weighted).iter_mut().for_each(|weighted| weighted.refresh(now));
    }

    fn host(&self, rule: &config::Hosts) -> Arc<Hosts> {
        let mut all = lock(&self.hosts);
        if let Some((_, hosts)) = all.iter().find(|(known, _)| known == rule) {
            return Arc::clone(hosts);
        }
        let hosts = Arc::new(Hosts::new(rule));
        hosts.refresh(Moment::now());
        all.push((rule.clone(), Arc::clone(&hosts)));
        hosts
    }

    fn balance(&self, rule: &config::LoadBalance) -> Arc<Balance> {
        let mut all = lock(&self.weighted);
        if let Some(known) = all.iter().find(|known| known.rule == *rule) {
            return Arc::clone(&known.balance);
        }
        let balance = Arc::new(Balance::new(rule));
        let mut weighted = Weighted { rule: rule.clone(), balance: Arc::clone(&balance), seen: None };
        weighted.refresh(Moment::now());
        all.push(weighted);
        balance
    }
}

impl Weighted {
    /// Reads the file, if it is time to and it has changed.
    fn refresh(&mut self, now: Moment) {
        static LINE: RateLimit = RateLimit::new(Duration::from_secs(10));
        let Some(file) = &self.rule.weights else { return };
        let due = self.seen.is_none_or(|(at, _)| !file.reload.is_zero() && now.since(at) >= file.reload);
        if !due {
            return;
        }
        let before = self.seen.and_then(|(_, content)| content);
        let (content, complaint) = match read(&file.file) {
            Ok(text) if before == Some(config::fingerprint(text.as_bytes())) => (before, None),
            Ok(text) => match Weights::read(&text) {
                Ok(weights) => {
                    self.balance.set_weights(weights);
                    (Some(config::fingerprint(text.as_bytes())), None)
                }
                Err(error) => (before, Some(error.to_string())),
            },
            Err(error) => (before, Some(format!("cannot read it: {error}"))),
        };
        self.seen = Some((now, content));
        if let Some(why) = complaint
            && let Some(suppressed) = LINE.allow(now)
        {
            tracing::warn!(file = %file.file.display(), why, suppressed, "weights are not read; those known before stay");
        }
    }
}

/// The text in a file of weights.
fn read(path: &Path) -> std::io::Result<String> {
    let octets = file::read(path, MAX_WEIGHTS)?;
    String::from_utf8(octets).map_err(|_| std::io::Error::other("it is no text in UTF-8"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_that_are_too_many_are_none() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("weights");
        let octets = |n: u64| {
            std::fs::write(&path, "# ".repeat(n as usize / 2)).unwrap();
            read(&path).map(|text| text.len() as u64).map_err(|error| error.to_string())
        };
        assert_eq!(octets(MAX_WEIGHTS), Ok(MAX_WEIGHTS));
        assert_eq!(octets(MAX_WEIGHTS + 2), Err(format!("it is larger than {MAX_WEIGHTS} octets")));
        assert!(read(folder.path()).is_err());
    }
}
