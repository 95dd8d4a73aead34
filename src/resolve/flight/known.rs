//! What is known of a question before anybody is asked: an answer that is fresh, one that is old and whether anybody waits
//! for a newer one, a remembered failure.

use super::{Inner, without_generation};
use crate::cache::Entry;
use crate::observe::metrics::StaleReason;
use crate::observe::queries::Source;
use crate::resolve::failures::Recheck;
use crate::resolve::stale::{Held, Overdue};
use crate::resolve::zones::Zone;
use crate::resolve::{Miss, Outcome, source_of};
use crate::sys::clock::Moment;
use crate::upstream::Condition;
use crate::wire::edns::ede;
use std::sync::Arc;

/// What is known of a question before anybody is asked.
pub(super) enum Known {
    /// The answer to it.
    Answer(Outcome),
    /// At most an old answer.
    Old(Option<Held>),
    /// An old answer that is given at once, while a newer one is looked up.
    Meanwhile(Overdue, Outcome),
}

impl Known {
    /// The entry of a fresh answer that this is, if it is to be renewed now: workers do not see the hits of zones with rules.
    pub(super) fn is_due(outcome: &Outcome, now: Moment) -> Option<&Entry> {
        let fresh = outcome.entry.as_ref().filter(|_| outcome.stale.is_none());
        fresh.filter(|entry| entry.wants_refresh(now))
    }
}

impl Inner {
    /// What is known without asking anybody. With `full`, too many look-ups are under way for more that nobody waits for.
    pub(super) fn known(&self, miss: &Miss, key: &[u8], zone: &Zone, full: bool, now: Moment) -> Known {
        let asked = self.store.key(&miss.question, miss.flags);
        let mut held = None;
        if self.store.contains(&asked)
            && let Some(entry) = self.store.find(&asked)
        {
            if entry.is_fresh(now) {
                let source = source_of(&entry);
                let whole_ttl = zone.keep.whole_ttl;
                return Known::Answer(Outcome { whole_ttl, ..Outcome::of(entry, source, now) });
            }
            let rules = zone.stale.filter(|rules| entry.is_servable(now, rules.max_age));
            held = rules.map(|rules| Held { entry, rules });
        }
        let question = without_generation(key);
        if let Some(held) = held {
            return self.while_held(held, question, zone, full, now);
        }
        let Some(failure) = self.failures.get(question, now) else { return Known::Old(None) };
        let error = (ede::CACHED_ERROR, failure.text);
        Known::Answer(Outcome::failure(failure.rcode, error, Source::NegativeHit, zone.label, now))
    }

    /// What is known of a question with an old answer.
    fn while_held(&self, held: Held, question: &[u8], zone: &Zone, full: bool, now: Moment) -> Known {
        let (reason, why, ask): (_, Arc<str>, _) = match self.failures.recheck(question, held.rules.recheck, now) {
            Some(Recheck::Later(why)) => (StaleReason::Recheck, why, false),
            Some(Recheck::Now(why)) => (StaleReason::Recheck, why, true),
            None if zone.upstream.condition() == Condition::Down => {
                (StaleReason::Down, "no upstream works".into(), true)
            }
            None if held.rules.client_wait.is_zero() => (StaleReason::Slow, "being looked up anew".into(), true),
            // Sooner or later nobody would wait for that one either, and no other limit would hold for it then.
            None if full => (StaleReason::Slow, "too many look-ups are under way".into(), false),
            None => return Known::Old(Some(held)),
        };
        let overdue = Overdue { held, reason, why };
        match overdue.outcome(now) {
            Some(outcome) if ask && !full => Known::Meanwhile(overdue, outcome),
            Some(outcome) => Known::Answer(outcome),
            None => Known::Old(None),
        }
    }
}
