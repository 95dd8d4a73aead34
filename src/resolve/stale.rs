//! Expired answers that are held while newer ones are looked up (RFC 8767).

use super::Outcome;
use crate::cache::{Entry, Stale};
use crate::observe::metrics::StaleReason;
use crate::observe::queries::Source;
use crate::sys::clock::Moment;
use crate::wire::edns::ede;
use crate::wire::header::rcode;
use std::sync::Arc;

/// What goes with an answer that has expired.
#[derive(Clone, Copy, Debug)]
pub struct Staleness {
    /// The TTL that it shows.
    pub ttl: u32,
    /// Why there is no newer one.
    pub reason: StaleReason,
}

/// An answer that is held while a newer one is looked up.
#[derive(Clone)]
pub(super) struct Held {
    /// The answer.
    pub(super) entry: Entry,
    /// By what rules it is given out.
    pub(super) rules: Stale,
}

impl Held {
    /// It as the answer of `now`, with the reason in words; `None` when it is too old.
    pub(super) fn outcome(&self, reason: StaleReason, why: Arc<str>, now: Moment) -> Option<Outcome> {
        if !self.is_servable(now) {
            return None;
        }
        let mut outcome = Outcome::of(self.entry.clone(), Source::Stale, now);
        let code = if outcome.rcode == rcode::NXDOMAIN { ede::STALE_NXDOMAIN } else { ede::STALE_ANSWER };
        outcome.error = Some((code, why));
        outcome.stale = Some(Staleness { ttl: self.rules.answer_ttl, reason });
        Some(outcome)
    }

    /// Is it not too old yet?
    pub(super) fn is_servable(&self, now: Moment) -> bool {
        self.entry.is_servable(now, self.rules.max_age)
    }

    /// Does it stay although the upstream says, by a negative reply, that there is nothing of the kind?
    pub(super) fn outlives_negatives(&self) -> bool {
        self.rules.prefer_positive && !self.entry.about().negative
    }
}

/// An old answer that is given out while a newer one is looked up, and why.
pub(super) struct Overdue {
    /// The answer.
    pub(super) held: Held,
    /// Why there is no newer one.
    pub(super) reason: StaleReason,
    /// The same in words.
    pub(super) why: Arc<str>,
}

impl Overdue {
    /// It as the answer of `now`, unless it is too old.
    pub(super) fn outcome(&self, now: Moment) -> Option<Outcome> {
        self.held.outcome(self.reason, Arc::clone(&self.why), now)
    }
}
