//! Look-ups that rules ask for themselves: where an alias made here leads, the addresses that IPv6 ones are made of. They go
//! the way of a client's query, through the rules and the cache of whatever zone the name is in, and count as none, but for
//! how many may be in flight.
//!
//! The patience of the client holds for them as well, from when its query came. A rule that leads to itself fails at once;
//! rules that lead to one another, or ever further on, after a few steps.

use super::flight::Inner;
use super::lookup::Asker;
use super::{Miss, Outcome, Waiter};
use crate::cache::Flags;
use crate::observe::limit::RateLimit;
use crate::sys::clock::Moment;
use crate::wire;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::oneshot;

/// So many rules may lead from one question to the next. CNAMEs that are meant end sooner.
const DEPTH: u8 = 8;

/// What is asked, and as whom.
pub(super) struct Question<'a> {
    /// The question.
    pub(super) question: &'a wire::question::Question,
    /// DO, CD and the view.
    pub(super) flags: Flags,
    /// On whose behalf.
    pub(super) asker: Asker,
}

/// Has `asked` answered to `waiter`.
pub(super) fn submit(inner: &Arc<Inner>, asked: Question<'_>, waiter: Box<dyn Waiter>) {
    let Asker { client, proto, place, arrived, depth } = asked.asker;
    let why = match () {
        () if depth >= DEPTH => "rules lead from name to name too often",
        () if !inner.admit() => "too many queries are in flight",
        () => {
            return inner.take(Miss {
                question: asked.question.as_bytes().into(),
                flags: asked.flags,
                recursion_desired: true,
                client,
                place,
                arrived,
                proto,
                depth: depth + 1,
                cells: Arc::clone(&inner.uncounted),
                waiter,
            });
        }
    };
    let now = inner.clock.now();
    tell(asked.question, why, now);
    waiter.answer(&Outcome::refused(0, now, why));
}

/// Says in the log why a rule does not get an answer.
pub(super) fn tell(question: &wire::question::Question, why: &str, now: Moment) {
    static LINE: RateLimit = RateLimit::new(Duration::from_secs(1));
    if let Some(suppressed) = LINE.allow(now) {
        tracing::warn!(?question, why, suppressed, "a look-up for a rule of the zone is not made");
    }
}

/// The answer to `asked`, if there is one, with the TTLs that a client would see.
pub(super) async fn look_up(inner: &Arc<Inner>, asked: Question<'_>) -> Option<Vec<u8>> {
    let (sender, receiver) = oneshot::channel();
    submit(inner, asked, Box::new(Inside(sender)));
    receiver.await.ok()?
}

/// A rule that waits.
struct Inside(oneshot::Sender<Option<Vec<u8>>>);

impl Waiter for Inside {
    fn answer(self: Box<Self>, outcome: &Outcome) {
        // Whoever asked may have given up.
        let _ = self.0.send(outcome.message());
    }

    fn is_rule(&self) -> bool {
        true
    }
}
