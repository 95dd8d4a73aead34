//! The rules of a zone that stand behind its cache: questions are rewritten, answered here, or forwarded, and what comes
//! of it is altered, once for each look-up. The order is that of CoreDNS's plugins: rewrite, minimal, template, hosts,
//! forward. What they make is kept like any upstream's answer.

use super::local::minimal::minimal;
use super::local::rewrite::{Rewrites, Rewritten};
use super::local::{Answers, Asked, Said};
use super::lookup::{Cause, Failing, Flight, Got, received};
use crate::observe::limit::RateLimit;
use crate::observe::rules::Rewriting;
use crate::upstream::Query;
use crate::wire::edns::OPT_LEN;
use crate::wire::header::{self, Header, rcode};
use crate::wire::message::Message;
use crate::wire::question::Question;
use crate::wire::record::Section;
use crate::wire::validate::{self, Class};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// The rules, and in which order they are asked.
#[derive(Default)]
pub struct Behind {
    /// Alters questions, and the answers to them.
    pub rewrites: Option<Rewrites>,
    /// Are records left out that nobody asked for?
    pub minimal: bool,
    /// Those who may answer here, in order; whoever does is the last.
    pub answers: Vec<Arc<dyn Answers>>,
}

impl Behind {
    /// The answer to what `flight` looks up, by these rules or by its upstream, which is sent `message` then.
    pub(super) async fn get(&self, flight: &Flight, message: &[u8], deadline: Instant) -> Result<Got, Failing> {
        let asker = flight.asker;
        let asked = Asked { question: &flight.question, client: asker.client, proto: asker.proto };
        let rewritten = match &self.rewrites {
            Some(rewrites) => rewrites
                .request(&asked, Some(asker.place))
                .map_err(|error| cannot(flight, &error, Rewriting::InvalidName))?,
            None => None,
        };
        let Some(Rewritten { question, options, undo }) = rewritten else {
            let query = Query { message, opt_len: OPT_LEN };
            return self.answer(flight, &flight.question, query, deadline).await;
        };
        let (message, opt_len) = flight.query(&question, &options);
        let query = Query { message: &message, opt_len };
        let got = match self.answer(flight, &question, query, deadline).await {
            Ok(got) => got,
            // A failure is an answer that a rule may speak of, too. What has failed stays what it is.
            Err(Failing { rcode, cause }) => return Err(Failing { rcode: undo.rcode(rcode), cause }),
        };
        let more = match undo.more(&got.reply.message) {
            Some(question) => flight.look_up(&question).await,
            None => None,
        };
        let restored = undo.restore(got.reply.message, got.reply.rcode, &flight.question, more.as_deref());
        let restored = restored.map_err(|error| cannot(flight, &error, Rewriting::Unwritable))?;
        flight.inner.metrics.rules.rewritten(Rewriting::Done);
        // Where a CNAME was led elsewhere, it is another answer.
        let was = (restored.rcode == got.reply.rcode && more.is_none()).then_some(got.reply.class);
        let mut reply = made(restored.message, restored.rcode, &flight.question, was)?;
        if got.reply.class == Class::Failure {
            reply.class = Class::Failure;
        }
        Ok(Got { reply, ..got })
    }

    /// The answer to `question` by who answers here, else by the upstream.
    async fn answer(
        &self,
        flight: &Flight,
        question: &Question,
        query: Query<'_>,
        deadline: Instant,
    ) -> Result<Got, Failing> {
        let mut got = match self.here(flight, question).await? {
            Some(got) => got,
            None => received(flight.ask(query, deadline).await?, question)?,
        };
        if self.minimal {
            got.reply.message = minimal(got.reply.message);
        }
        Ok(got)
    }

    /// The answer of the first who answers here.
    async fn here(&self, flight: &Flight, question: &Question) -> Result<Option<Got>, Failing> {
        let asked = Asked { question, client: flight.asker.client, proto: flight.asker.proto };
        for rule in &self.answers {
            let (message, error, chase) = match rule.answer(&asked) {
                Said::Next => continue,
                Said::Fail { rcode, why } => return Err(Failing { rcode, cause: Cause::Rule(why) }),
                Said::Answer { message, error, chase } => (message, error, chase),
            };
            let behind = chase.and_then(|name| Question::new(&name, question.qtype(), question.qclass()));
            let message = match behind {
                Some(behind) => join(message, flight.look_up(&behind).await),
                None => message,
            };
            let code = Header::read(&message).map_or(rcode::SERVFAIL, |header| header.rcode());
            let reply = made(message, code, question, None)?;
            return Ok(Some(Got { reply, from: None, plugin: Some(rule.plugin()), error }));
        }
        Ok(None)
    }
}

/// A question that cannot be rewritten, or an answer that cannot be changed back.
fn cannot(flight: &Flight, error: &dyn std::error::Error, outcome: Rewriting) -> Failing {
    static LINE: RateLimit = RateLimit::new(Duration::from_secs(1));
    flight.inner.metrics.rules.rewritten(outcome);
    if let Some(suppressed) = LINE.allow(flight.inner.clock.now()) {
        tracing::warn!(question = ?flight.question, %error, suppressed, "a rule of the zone cannot be followed");
    }
    Failing::rule(error)
}

/// An answer that was made here, of one that was judged before if `was` is given.
fn made(message: Vec<u8>, rcode: u16, question: &Question, was: Option<Class>) -> Result<validate::Reply, Failing> {
    validate::made_here(message, rcode, question, was).map_err(|error| Failing::rule(&error))
}

/// `message` with the answers of `more`, if that could be had, behind its own.
fn join(message: Vec<u8>, more: Option<Vec<u8>>) -> Vec<u8> {
    let more = more.and_then(|more| Message::read(&more));
    let (Some(mut more), Some(mut whole)) = (more, Message::read(&message)) else { return message };
    // Of an answer that is not whole none is made that is.
    whole.header.flags |= more.header.flags & header::TC;
    whole.section_mut(Section::Answer).append(more.section_mut(Section::Answer));
    whole.write().unwrap_or(message)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::question::{CLASS_IN, rtype, to_wire};
    use crate::wire::rr::{Rr, response};

    #[test]
    fn with_an_answer_that_is_truncated_the_whole_is() {
        let answer = |name: &str, rtype, rdata: &[u8]| {
            let question = Question::new(&to_wire(name), rtype::A, CLASS_IN).unwrap();
            let rr = Rr { owner: to_wire(name), rtype, class: CLASS_IN, ttl: 30, rdata: rdata.to_vec() };
            (response(&question, rcode::NOERROR, true, [&[rr], &[], &[]]).unwrap(), question)
        };
        let (alias, question) = answer("a.example", rtype::CNAME, &to_wire("b.example"));
        let (mut more, _) = answer("b.example", rtype::A, &[192, 0, 2, 1]);
        let class =
            |more: &[u8]| made(join(alias.clone(), Some(more.to_vec())), 0, &question, None).ok().unwrap().class;
        assert_eq!(class(&more), Class::Positive);
        let header = Header::read(&more).unwrap();
        Header { flags: header.flags | header::TC, ..header }.write(&mut more);
        assert_eq!(class(&more), Class::Truncated);
    }
}
