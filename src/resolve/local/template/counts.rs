//! How often rules have matched and templates failed, by the labels of CoreDNS's metrics.
//!
//! Outlives the rules, which are made anew whenever the configuration changes. The labels are bounded: zones and templates
//! are the configuration's, classes and types those that have a name.

use crate::config::template::Facts;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// A question that a rule has matched.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Match {
    /// The rule's zone, absolute.
    pub zone: String,
    /// The class, by name.
    pub class: String,
    /// The type, by name; empty for one without.
    pub rtype: String,
}

/// A template that gave no record.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Failure {
    /// To which question.
    pub question: Match,
    /// In which section: `answer`, `authority` or `additional`.
    pub section: &'static str,
    /// The template's text.
    pub template: Arc<str>,
    /// Whether it gave text that is no record; otherwise it gave none.
    pub record: bool,
}

/// Counters of matches and failures.
#[derive(Default)]
pub struct Counts {
    matches: Mutex<BTreeMap<Match, u64>>,
    failures: Mutex<BTreeMap<Failure, u64>>,
}

impl Counts {
    /// Every question that has been matched, and how often.
    pub fn matches(&self) -> Vec<(Match, u64)> {
        locked(&self.matches).iter().map(|(key, count)| (key.clone(), *count)).collect()
    }

    /// Every way in which templates have failed, and how often.
    pub fn failures(&self) -> Vec<(Failure, u64)> {
        locked(&self.failures).iter().map(|(key, count)| (key.clone(), *count)).collect()
    }

    /// Counts a match.
    pub(super) fn matched(&self, facts: &Facts) {
        *locked(&self.matches).entry(Match::of(facts)).or_default() += 1;
    }

    /// Counts a failure of a template: of its text, or of the `record` that it gave.
    pub(super) fn failed(&self, facts: &Facts, section: &'static str, template: &Arc<str>, record: bool) {
        let failure = Failure { question: Match::of(facts), section, template: Arc::clone(template), record };
        *locked(&self.failures).entry(failure).or_default() += 1;
    }
}

impl Match {
    fn of(facts: &Facts) -> Match {
        Match { zone: facts.zone.clone(), class: facts.class.clone(), rtype: facts.rtype.clone() }
    }
}

fn locked<T>(map: &Mutex<T>) -> MutexGuard<'_, T> {
    map.lock().unwrap_or_else(PoisonError::into_inner)
}
