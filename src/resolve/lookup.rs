//! One look-up under way: asks, judges what comes, stores it, and has everybody answered who waits.

use super::failures::Failure;
use super::flight::{Inner, without_generation};
use super::stale::{Held, Overdue};
use super::wording;
use super::zones::Zone;
use super::{Miss, Outcome, inside};
use crate::cache::entry::{About, Refresh};
use crate::cache::{Entry, Flags, policy};
use crate::observe::coredns::cells::Plugin;
use crate::observe::errors::Failure as Failed;
use crate::observe::labels::Labels;
use crate::observe::limit::RateLimit;
use crate::observe::metrics::{Prefetch, StaleReason};
use crate::observe::queries::{Proto, Source};
use crate::sys::clock::Moment;
use crate::upstream::{Condition, Endpoint, Error, Query, Reply, Transport};
use crate::wire::edns::{OPT_LEN, ede};
use crate::wire::header::rcode;
use crate::wire::question::Question;
use crate::wire::reply;
use crate::wire::validate::{self, Class};
use std::net::SocketAddr;
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

/// Who asks, what rules may want to know of it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asker {
    /// Where the query came from.
    pub(super) client: SocketAddr,
    /// Over what.
    pub(super) proto: Proto,
    /// Where it came in.
    pub(super) place: SocketAddr,
    /// When it came.
    pub(super) arrived: Moment,
    /// How many rules have led from the client's question to this one.
    pub(super) depth: u8,
}

impl Asker {
    /// Who waits for the answer to `miss`.
    pub(super) fn of(miss: &Miss) -> Asker {
        let Miss { client, proto, place, arrived, depth, .. } = *miss;
        Asker { client, proto, place, arrived, depth }
    }
}

/// What was got for a question.
pub(super) struct Got {
    /// The answer.
    pub(super) reply: validate::Reply,
    /// The upstream that gave it; `None` when it was made here.
    pub(super) from: Option<Endpoint>,
    /// Whose work it is.
    pub(super) plugin: Option<Plugin>,
    /// The extended error that goes with it.
    pub(super) error: Option<(u16, Arc<str>)>,
}

/// Why nothing was got.
pub(super) struct Failing {
    /// The RCODE for the client.
    pub(super) rcode: u16,
    /// What went wrong.
    pub(super) cause: Cause,
}

/// What went wrong.
pub(super) enum Cause {
    /// The upstream gave no reply.
    Upstream(Error),
    /// The upstream's reply is worth nothing.
    Invalid(String),
    /// Nobody was asked, as too much is under way.
    Refused(String),
    /// A rule of the zone will have it so, for this reason.
    Rule(Arc<str>),
}

impl Failing {
    /// SERVFAIL, by a rule that cannot do what it must.
    pub(super) fn rule(error: &dyn std::error::Error) -> Failing {
        Failing { rcode: rcode::SERVFAIL, cause: Cause::Rule(error.to_string().into()) }
    }
}

impl From<Error> for Failing {
    fn from(error: Error) -> Failing {
        match error.is_refusal() {
            true => Failing { rcode: rcode::REFUSED, cause: Cause::Refused(error.to_string()) },
            false => Failing { rcode: rcode::SERVFAIL, cause: Cause::Upstream(error) },
        }
    }
}

/// What an upstream's reply to `question` is worth.
pub(super) fn received(reply: Reply, question: &Question) -> Result<Got, Failing> {
    let Reply { message, server, transport, .. } = reply;
    let invalid = |why| Failing { rcode: rcode::SERVFAIL, cause: Cause::Invalid(why) };
    let reply = validate::reply(message, question).map_err(|error| invalid(format!("upstream {server}: {error}")))?;
    if reply.class == Class::Truncated && transport != Transport::Udp {
        return Err(invalid(format!("upstream {server} truncated its reply over TCP")));
    }
    Ok(Got { reply, from: Some(server), plugin: None, error: None })
}

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
    /// Who asked first.
    pub(super) asker: Asker,
    /// How long whoever asked first may still wait.
    pub(super) patience: Duration,
    /// Is that so little that a failure says nothing of the question?
    pub(super) hurried: bool,
    /// If this is to renew an answer that is still good: the TTL that it has left.
    pub(super) prefetch: Option<u32>,
}

impl Flight {
    /// Asks, stores, and answers everybody who waits.
    pub(super) async fn run(self, message: Vec<u8>) {
        let deadline = Instant::now() + self.patience;
        let result = match &self.held {
            None => timeout_at(deadline + GRACE, self.get(&message, deadline)).await,
            Some(held) => {
                let mut asking = pin!(timeout_at(deadline + GRACE, self.get(&message, deadline)));
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
            Ok(Ok(got)) => self.judge(got, now),
            Ok(Err(Failing { rcode, cause })) => match cause {
                Cause::Rule(why) => self.ruled_out(rcode, why, now),
                Cause::Refused(why) => self.refused(rcode, &why, now),
                Cause::Invalid(why) => self.failed(rcode, ede::OTHER, &why, now),
                Cause::Upstream(error) => self.gave_up(rcode, &error, now),
            },
            Err(_) => {
                let why = "no upstream answered in time";
                self.tell(rcode::SERVFAIL, why, || format!("{why}: i/o timeout"), now);
                self.fail(rcode::SERVFAIL, ede::NO_REACHABLE_AUTHORITY, why, now)
            }
        };
        let newer = outcome.entry.as_ref().filter(|_| matches!(outcome.source, Source::Miss | Source::Local));
        if let Some(entry) = newer {
            self.inner.store.insert(entry.clone(), self.generation);
        }
        let stored = newer.is_some_and(|entry| entry.about().lifetime > 0);
        let renewed = self.prefetch.map(|_| if stored { Prefetch::Renewed } else { Prefetch::Failed });
        self.inner.land(&self.key, &outcome, renewed);
    }

    /// The answer: by the zone's rules, or the upstream's as it is.
    async fn get(&self, message: &[u8], deadline: Instant) -> Result<Got, Failing> {
        match &self.zone.behind {
            None => received(self.ask(Query { message, opt_len: OPT_LEN }, deadline).await?, &self.question),
            Some(behind) => behind.get(self, message, deadline).await,
        }
    }

    /// Asks the zone's upstream; again, for a while, if it has only just begun to fail, or this host is short of ports and
    /// the like, and there is no old answer.
    pub(super) async fn ask(&self, query: Query<'_>, deadline: Instant) -> Result<Reply, Error> {
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

    /// Makes of what was got what clients get and the store keeps.
    fn judge(&self, got: Got, now: Moment) -> Outcome {
        let Got { mut reply, from, plugin, error } = got;
        let server = || from.as_ref().map_or_else(|| "here".to_owned(), |server| format!("upstream {server}"));
        // In a loop it is our own old answer, which was given to the upstream as to any client: it must not become a new one.
        let is_stale = matches!(reply.ede, Some(ede::STALE_ANSWER | ede::STALE_NXDOMAIN));
        if is_stale && self.old(now).is_some() && self.inner.is_overdue(&self.key) {
            return self.failed(
                rcode::SERVFAIL,
                ede::OTHER,
                &format!("{} has nothing but an old answer either", server()),
                now,
            );
        }
        let negative = matches!(reply.class, Class::NxDomain(_) | Class::NoData(_));
        // Without an SOA it may not be kept, and says the same all the same.
        let denies = negative || reply.class == Class::Unstorable && reply.rcode == rcode::NXDOMAIN;
        if denies && self.old(now).is_some_and(Held::outlives_negatives) {
            return self.failed(
                rcode::SERVFAIL,
                ede::OTHER,
                &format!("{} says that there is no such thing", server()),
                now,
            );
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
            upstream: from.as_ref().map_or(Labels::NONE, |server| self.inner.upstream(server)),
        };
        // What lives no longer than what it renews may be the very same, from a cache or, in a loop, from us: it shall expire.
        let rule = self.zone.prefetch.filter(|_| self.prefetch.is_none_or(|left| lifetime > left));
        let refresh = rule.map_or_else(Refresh::default, |rule| Refresh::new(rule, now.0 as u32 >> 10));
        let source = if from.is_some() { Source::Miss } else { Source::Local };
        let mut outcome = Outcome::of(Entry::with_refresh(&reply.message, about, refresh), source, now);
        (outcome.error, outcome.plugin) = (error, plugin);
        if reply.class == Class::Failure {
            if from.is_none() {
                return outcome;
            }
            outcome.error = Some((reply.ede.unwrap_or(ede::OTHER), format!("{} answered so", server()).into()));
            return self.or_stale(outcome, now);
        }
        self.inner.failures.clear(without_generation(&self.key), now);
        // What cannot be kept puts an end to what was kept, if it says something of the name. What is made here always does.
        let tells = denies || reply.class == Class::Positive || from.is_none() && reply.class == Class::Unstorable;
        if self.held.is_some() && about.lifetime == 0 && self.recursion && tells {
            self.inner.store.remove(&self.inner.store.key(self.question.as_bytes(), self.flags));
        }
        outcome
    }

    /// A refusal, with the reason, or the old answer. Nothing is remembered of it: nobody was asked.
    fn refused(&self, rcode: u16, why: &str, now: Moment) -> Outcome {
        self.tell_as(rcode, why, now);
        let held = self.old(now).and_then(|held| held.outcome(StaleReason::Failed, why.into(), now));
        held.unwrap_or_else(|| Outcome { rcode, ..Outcome::refused(self.zone.label, now, why) })
    }

    /// A failure that a rule of the zone wants. Nothing is remembered of it, and no old answer is better.
    fn ruled_out(&self, rcode: u16, why: Arc<str>, now: Moment) -> Outcome {
        if rcode == rcode::SERVFAIL {
            self.tell_as(rcode, &why, now);
        }
        Outcome::failure(rcode, (ede::OTHER, why), Source::Local, self.zone.label, now)
    }

    /// The query that goes upstream for `question`, with these EDNS options.
    pub(super) fn query(&self, question: &Question, options: &[(u16, Vec<u8>)]) -> (Vec<u8>, usize) {
        let (checking_disabled, dnssec_ok) = (self.flags.checking_disabled(), self.flags.dnssec_ok());
        reply::upstream_query_with(question.as_bytes(), self.recursion, checking_disabled, dnssec_ok, options)
    }

    /// What is answered to `question`, asked through all rules and the cache as if by who asked first.
    pub(super) async fn look_up(&self, question: &Question) -> Option<Vec<u8>> {
        if *question == self.question {
            inside::tell(question, "a rule leads from this question to itself", self.inner.clock.now());
            return None;
        }
        let asked = inside::Question { question, flags: self.flags, asker: self.asker };
        inside::look_up(&self.inner, asked).await
    }

    /// A failure, since no reply came, or the old answer.
    fn gave_up(&self, rcode: u16, error: &Error, now: Moment) -> Outcome {
        let why = error.to_string();
        let words = || wording::of(error, self.zone.errors.as_ref().map_or("", |errors| errors.transport));
        self.tell(rcode, &why, words, now);
        self.fail(rcode, error.ede(), &why, now)
    }

    /// A failure, with the reason, or the old answer.
    fn failed(&self, rcode: u16, code: u16, why: &str, now: Moment) -> Outcome {
        self.tell(rcode, why, || why.to_owned(), now);
        self.fail(rcode, code, why, now)
    }

    /// Says in the log why it failed, in the words that CoreDNS has for it if the zone wants these.
    fn tell(&self, rcode: u16, why: &str, in_coredns_words: impl FnOnce() -> String, now: Moment) {
        static LINE: RateLimit = RateLimit::new(Duration::from_secs(1));
        if self.zone.errors.is_some() {
            self.tell_as(rcode, &in_coredns_words(), now);
        } else if let Some(suppressed) = LINE.allow(now) {
            tracing::warn!(question = ?self.question, why, suppressed, "a look-up failed");
        }
    }

    /// Says so as CoreDNS does, at once or together with others like it, if the zone wants that.
    fn tell_as(&self, rcode: u16, why: &str, now: Moment) {
        let Some(errors) = &self.zone.errors else { return };
        let failure = Failed { rcode, question: &self.question, why };
        if let Some(every) = errors.failed(&failure, now) {
            let errors = Arc::clone(errors);
            tokio::spawn(async move {
                sleep(every).await;
                errors.tell(now + every);
            });
        }
    }

    /// A failure, with its RCODE and extended error, or the old answer.
    fn fail(&self, rcode: u16, code: u16, why: &str, now: Moment) -> Outcome {
        let error = (code, why.into());
        self.or_stale(Outcome::failure(rcode, error, Source::Miss, self.zone.label, now), now)
    }

    /// Remembers a failure, and puts the old answer in its place if there is one.
    fn or_stale(&self, failure: Outcome, now: Moment) -> Outcome {
        let text = failure.error.as_ref().map_or_else(|| "".into(), |(_, text)| Arc::clone(text));
        let held = self.old(now);
        let recheck = held.map_or(Duration::ZERO, |held| match held.entry.is_fresh(now) {
            true => EARLY_RECHECK,
            false => held.rules.recheck,
        });
        if !self.hurried {
            let most = self.zone.ttls.failure;
            let remembered = Failure { rcode: failure.rcode, text: Arc::clone(&text) };
            self.inner.failures.add(without_generation(&self.key), remembered, most, recheck, now);
        }
        held.and_then(|held| held.outcome(StaleReason::Failed, text, now)).unwrap_or(failure)
    }
}
