//! Several ways of one zone, asked in order: the first whose names a query's is among takes it, and may hand it on to
//! the next by what its servers reply, as several `forward` of a CoreDNS server block do.
//!
//! A way may be bounded: who comes when as many queries are under way as may be is refused at once. A zone with one way
//! for all of its names has no chain; its queries go to the [`super::Route`] itself.

use super::stats::Tally;
use super::{Codes, Condition, Error, Exchange, Exchanged, Query, Reply};
use crate::observe::limit::RateLimit;
use crate::sys::clock::Moment;
use crate::wire::header;
use crate::wire::question::{Question, is_within};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;
use tokio::time::Instant;

/// How often the log is told that queries are refused.
const LINE: Duration = Duration::from_secs(10);

/// Ways in order.
struct Chain(Vec<Link>);

/// One of them.
pub struct Link {
    /// Who is asked.
    pub upstream: Arc<dyn Exchange>,
    /// For names at and below this one alone, lower-case, as on the wire; `None` for all of the zone.
    pub from: Option<Box<[u8]>>,
    /// Not for those at and below these, unless it is `from` itself.
    pub except: Vec<Box<[u8]>>,
    /// Replies upon which the next way is asked, if there is one for the name.
    pub next: Codes,
    /// How many queries may be under way; `None` for any number.
    pub bound: Option<Arc<Bound>>,
}

/// How many queries may be under way at once over some ways.
pub struct Bound {
    most: usize,
    under_way: AtomicUsize,
    tally: Arc<Tally>,
    line: RateLimit,
    zone: String,
}

/// A query that is under way.
struct UnderWay<'a>(&'a Bound);

impl Bound {
    /// Up to `most`; who is refused is counted in `tally`, and told of in the log with the name of `zone`.
    pub fn new(most: usize, zone: &str, tally: Arc<Tally>) -> Bound {
        Bound { most, under_way: AtomicUsize::new(0), tally, line: RateLimit::new(LINE), zone: zone.to_owned() }
    }

    /// One more, if that may be.
    fn enter(&self) -> Result<UnderWay<'_>, Error> {
        let one = UnderWay(self);
        if self.under_way.fetch_add(1, Relaxed) < self.most {
            return Ok(one);
        }
        self.tally.rejected.add(1);
        let (most, zone) = (self.most, &self.zone);
        if let Some(suppressed) = self.line.allow(Moment::now()) {
            tracing::warn!(zone, most, suppressed, "queries are refused: forward.maxConcurrent are under way");
        }
        Err(Error::Crowded { most })
    }
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.0.under_way.fetch_sub(1, Relaxed);
    }
}

impl Link {
    /// Is it for `name`?
    fn is_for(&self, name: &[u8]) -> bool {
        let within = |zone: &[u8]| is_within(name, zone);
        match self.from.as_deref() {
            Some(from) if name == from => true,
            from => from.is_none_or(within) && !self.except.iter().any(|zone| within(zone)),
        }
    }

    async fn ask(&self, query: Query<'_>, deadline: Instant) -> Result<Reply, Error> {
        let _under_way = self.bound.as_ref().map(|bound| bound.enter()).transpose()?;
        self.upstream.exchange(query, deadline).await
    }
}

/// These ways, in this order: where there is none for a name, an exchange fails with [`Error::Unserved`]. One that is for
/// all names, and any number of queries, needs nobody to choose it.
pub fn chain(links: Vec<Link>) -> Arc<dyn Exchange> {
    match <[Link; 1]>::try_from(links) {
        Ok([Link { upstream, from: None, except, bound: None, .. }]) if except.is_empty() => upstream,
        Ok(link) => Arc::new(Chain(link.into())),
        Err(links) => Arc::new(Chain(links)),
    }
}

impl Chain {
    async fn run(&self, query: Query<'_>, deadline: Instant) -> Result<Reply, Error> {
        let octets = query.message.len();
        let question = query.message.get(header::LEN..).and_then(Question::read);
        let question = question.ok_or(Error::BadQuery { octets })?;
        let mut said = None;
        for link in self.0.iter().filter(|link| link.is_for(question.name())) {
            // A failure is no reply: it ends the search, whatever others said, who may not know of the name.
            let reply = link.ask(query, deadline).await?;
            if !link.next.hold(&reply.message) {
                return Ok(reply);
            }
            said = Some(reply);
        }
        said.ok_or(Error::Unserved)
    }
}

impl Exchange for Chain {
    fn exchange<'a>(&'a self, query: Query<'a>, deadline: Instant) -> Exchanged<'a> {
        Box::pin(self.run(query, deadline))
    }

    /// The best of all ways: nothing is given up for a name because those fail who are not asked for it.
    fn condition(&self) -> Condition {
        let goodness = |condition: &Condition| match condition {
            Condition::Well => 2,
            Condition::Shaken => 1,
            Condition::Down => 0,
        };
        self.0.iter().map(|link| link.upstream.condition()).max_by_key(goodness).unwrap_or(Condition::Well)
    }
}

#[cfg(test)]
mod tests;
