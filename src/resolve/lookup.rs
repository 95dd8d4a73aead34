//! One look-up under way: asks, judges what comes, stores it, and has everybody answered who waits.

use super::Outcome;
use super::failures::Failure;
use super::flight::{Inner, without_generation};
use super::stale::{Held, Overdue};
use super::zones::Zone;
use crate::cache::entry::{About, Refresh};
use crate::cache::{Entry, Flags, policy};
use crate::observe::limit::RateLimit;
use crate::observe::metrics::{Prefetch, StaleReason};
use crate::observe::queries::Source;
use crate::sys::clock::Moment;
use crate::upstream::{Condition, Error, Query, Reply, Transport};
use crate::wire::edns::{OPT_LEN, ede};
use crate::wire::header::rcode;
use crate::wire::question::Question;
use crate::wire::validate::{self, Class};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, sleep, timeout_at};

/// Time beyond the deadline that an upstream gets to say that it failed, before it is said for it.
const GRACE: Duration = Duration::from_millis(250);
/// For how long servers that fail, and have answered just before, are asked again.
const PERSISTENCE: Duration = Duration::from_secs(2);
/// The pauses between, of which each is twice as long as the one before.
const PAUSES: [Duration; 2] = [Duration::from_millis(25), Duration::from_millis(400)];
/// How long after a failed prefetch the question is asked again: it has not expired yet.
const EARLY_RECHECK: Duration = Duration::from_secs(1);

/// A look-up.
pub(super) struct Flight {
    pub(super) inner: Arc<Inner>,
    pub(super) zone: Arc<Zone>,
    /// Under which it stands in the table.
    pub(super) key: Arc<[u8]>,
    /// The store's, when it was started.
    pub(super) generation: u64,
    pub(super) question: Question,
    pub(super) flags: Flags,
    /// RD.
    pub(super) recursion: bool,
    /// The answer that is given out if no newer one can be had.
    pub(super) held: Option<Held>,
    /// If this is to renew an answer that is still good: the TTL that it has left.
    pub(super) prefetch: Option<u32>,
}

impl Flight {
    /// Asks, stores, and answers everybody who waits.
    pub(super) async fn run(self, message: Vec<u8>, patience: Duration) {
        let deadline = Instant::now() + patience;
        let result = match &self.held {
            None => timeout_at(deadline + GRACE, self.ask(&message, deadline)).await,
            Some(held) => {
                let mut asking = pin!(timeout_at(deadline + GRACE, self.ask(&message, deadline)));
                // Nobody waits for a prefetch before the answer has expired that it renews.
                let wait = held.rules.client_wait.max(held.entry.left(self.inner.clock.now()));
                tokio::select! {
                    biased;
                    result = &mut asking => result,
                    () = sleep(wait) => {
                        self.overdue(held);
                        asking.await
                    }
                }
            }
        };
        let now = self.inner.clock.now();
        let outcome = match result {
            Ok(Ok(reply)) => self.judge(reply, now),
            Ok(Err(error)) if error.is_refusal() => self.refused(&error, now),
            Ok(Err(error)) => self.failed(error.ede(), &error.to_string(), now),
            Err(_) => self.failed(ede::NO_REACHABLE_AUTHORITY, "no upstream answered in time", now),
        };
        let newer = outcome.entry.as_ref().filter(|_| outcome.source == Source::Miss);
        if let Some(entry) = newer {
            self.inner.store.insert(entry.clone(), self.generation);
        }
        let stored = newer.is_some_and(|entry| entry.about().lifetime > 0);
        let renewed = self.prefetch.map(|_| if stored { Prefetch::Renewed } else { Prefetch::Failed });
        self.inner.land(&self.key, &outcome, renewed);
    }

    /// Asks the zone's upstream; again, for a while, if it has only just begun to fail, or this host is short of ports and
    /// the like, and there is no old answer.
    async fn ask(&self, message: &[u8], deadline: Instant) -> Result<Reply, Error> {
        let query = Query { message, opt_len: OPT_LEN };
        let upstream = &self.zone.upstream;
        let first = upstream.exchange(query, deadline).await;
        if first.is_ok() || self.held.is_some() {
            return first;
        }
        let give_up = deadline.min(Instant::now() + PERSISTENCE);
        let [mut pause, longest] = PAUSES;
        let mut last = first;
        let passes = |e: &Error| !e.is_refusal() && (e.is_ours() || upstream.condition() == Condition::Shaken);
        while last.as_ref().is_err_and(passes) && Instant::now() + pause < give_up {
            sleep(pause).await;
            pause = (pause * 2).min(longest);
            last = upstream.exchange(query, deadline).await;
        }
        last
    }

    /// The upstream has taken as long as clients wait.
    fn overdue(&self, held: &Held) {
        static LINE: RateLimit = RateLimit::new(Duration::from_secs(1));
        let now = self.inner.clock.now();
        if !self.is_current() {
            return;
        }
        if let Some(suppressed) = LINE.allow(now) {
            tracing::warn!(question = ?self.question, suppressed, "upstreams are slow: a stale answer is given");
        }
        let why = format!("no upstream has answered within {} ms", held.rules.client_wait.as_millis());
        let overdue = Overdue { held: held.clone(), reason: StaleReason::Slow, why: why.into() };
        self.inner.overdue(&self.key, overdue, now);
    }

    /// The answer that may be given out if no newer one can be had.
    fn old(&self, now: Moment) -> Option<&Held> {
        self.held.as_ref().filter(|held| self.is_current() && held.is_servable(now))
    }

    /// Has there been no flush since it was started?
    fn is_current(&self) -> bool {
        self.inner.store.generation() == self.generation
    }

    /// Makes of an upstream's reply what clients get and the store keeps.
    fn judge(&self, reply: Reply, now: Moment) -> Outcome {
        let Reply { message, server, transport, .. } = reply;
        let mut reply = match validate::reply(message, &self.question) {
            Ok(reply) => reply,
            Err(invalid) => return self.failed(ede::OTHER, &format!("upstream {server}: {invalid}"), now),
        };
        if reply.class == Class::Truncated && transport != Transport::Udp {
            return self.failed(ede::OTHER, &format!("upstream {server} truncated its reply over TCP"), now);
        }
        // In a loop it is our own old answer, which was given to the upstream as to any client: it must not become a new one.
        let is_stale = matches!(reply.ede, Some(ede::STALE_ANSWER | ede::STALE_NXDOMAIN));
        if is_stale && self.old(now).is_some() && self.inner.is_overdue(&self.key) {
            return self.failed(ede::OTHER, &format!("upstream {server} has nothing but an old answer either"), now);
        }
        let negative = matches!(reply.class, Class::NxDomain(_) | Class::NoData(_));
        // Without an SOA it may not be kept, and says the same all the same.
        let denies = negative || reply.class == Class::Unstorable && reply.rcode == rcode::NXDOMAIN;
        if denies && self.old(now).is_some_and(Held::outlives_negatives) {
            return self.failed(ede::OTHER, &format!("upstream {server} says that there is no such thing"), now);
        }
        let kept = self.zone.keep.allows(self.question.name(), negative);
        let lifetime = if kept { policy::apply(&mut reply, &self.zone.ttls) } else { 0 };
        let about = About {
            stored: now,
            // What was asked without RD may be all that the upstream had at hand: not for others.
            lifetime: if self.recursion { lifetime } else { 0 },
            rcode: reply.rcode,
            negative,
            flags: self.flags,
            ruled: self.zone.is_ruled(),
            zone: self.zone.label,
            upstream: self.inner.upstream(&server),
        };
        // What lives no longer than what it renews may be the very same, from a cache or, in a loop, from us: it shall expire.
        let rule = self.zone.prefetch.filter(|_| self.prefetch.is_none_or(|left| lifetime > left));
        let refresh = rule.map_or_else(Refresh::default, |rule| Refresh::new(rule, now.0 as u32 >> 10));
        let mut outcome = Outcome::of(Entry::with_refresh(&reply.message, about, refresh), Source::Miss, now);
        if reply.class == Class::Failure {
            outcome.error = Some((reply.ede.unwrap_or(ede::OTHER), format!("upstream {server} answered so").into()));
            return self.or_stale(outcome, now);
        }
        self.inner.failures.clear(without_generation(&self.key), now);
        // What cannot be kept puts an end to what was kept, if it says something of the name.
        if self.held.is_some() && about.lifetime == 0 && self.recursion && (denies || reply.class == Class::Positive) {
            self.inner.store.remove(&self.inner.store.key(self.question.as_bytes(), self.flags));
        }
        outcome
    }

    /// REFUSED, with the reason, or the old answer. Nothing is remembered of it: nobody was asked.
    fn refused(&self, error: &Error, now: Moment) -> Outcome {
        let why = error.to_string();
        let held = self.old(now).and_then(|held| held.outcome(StaleReason::Failed, why.as_str().into(), now));
        held.unwrap_or_else(|| Outcome::refused(self.zone.label, now, &why))
    }

    /// SERVFAIL, with the reason, or the old answer.
    fn failed(&self, code: u16, why: &str, now: Moment) -> Outcome {
        static LINE: RateLimit = RateLimit::new(Duration::from_secs(1));
        if let Some(suppressed) = LINE.allow(now) {
            tracing::warn!(question = ?self.question, why, suppressed, "a look-up failed");
        }
        let error = (code, why.into());
        self.or_stale(Outcome::failure(rcode::SERVFAIL, error, Source::Miss, self.zone.label, now), now)
    }

    /// Remembers a failure, and puts the old answer in its place if there is one.
    fn or_stale(&self, failure: Outcome, now: Moment) -> Outcome {
        let text = failure.error.as_ref().map_or_else(|| "".into(), |(_, text)| Arc::clone(text));
        let held = self.old(now);
        let recheck = held.map_or(Duration::ZERO, |held| match held.entry.is_fresh(now) {
            true => EARLY_RECHECK,
            false => held.rules.recheck,
        });
        let most = self.zone.ttls.failure;
        let remembered = Failure { rcode: failure.rcode, text: Arc::clone(&text) };
        self.inner.failures.add(without_generation(&self.key), remembered, most, recheck, now);
        held.and_then(|held| held.outcome(StaleReason::Failed, text, now)).unwrap_or(failure)
    }
}
