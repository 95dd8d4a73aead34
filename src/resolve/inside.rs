//! Look-ups that rules ask for themselves: where an alias made here leads, the addresses that IPv6 ones are made of. They go
//! the way of a client's query, through the rules and the cache of whatever zone the name is in, and count as none.
//!
//! A rule that leads to itself waits for itself, and fails when the patience of the client is over.

use super::flight::Inner;
use super::lookup::Asker;
use super::{Miss, Outcome, Waiter};
use crate::cache::Flags;
use crate::wire;
use std::sync::Arc;
use tokio::sync::oneshot;

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
    let Asker { client, place, .. } = asked.asker;
    inner.metrics.in_flight.add(1);
    let miss = Miss {
        question: asked.question.as_bytes().into(),
        flags: asked.flags,
        recursion_desired: true,
        client,
        place,
        arrived: inner.clock.now(),
        cells: Arc::clone(&inner.uncounted),
        waiter,
    };
    inner.take(miss);
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
}
