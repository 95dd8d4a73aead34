//! What is told of an answer beyond our own counts: CoreDNS's names for it, and its line in a query log.
//!
//! Where neither is wanted this costs a branch.

use super::front::{Door, Front};
use crate::cache::Entry;
use crate::observe::coredns::cells::{Answered, Plugin};
use crate::observe::queries::{Proto, Source};
use crate::observe::querylog::Logged;
use crate::resolve::{Outcome, source_of};
use crate::sys::clock::Moment;
use crate::wire::query::Query;
use crate::wire::question::Question;
use crate::wire::reply::Asked;
use std::net::SocketAddr;
use std::time::Duration;

/// A hit.
pub(super) fn hit(query: &Query<'_>, entry: &Entry, request_len: usize, response_len: usize) -> Answered {
    let (about, source) = (entry.about(), source_of(entry));
    Answered {
        zone: about.zone,
        qtype: query.question.qtype(),
        rcode: about.rcode,
        source,
        negative: about.negative,
        plugin: Plugin::of(source, true),
        request_len,
        response_len,
        dnssec_ok: query.dnssec_ok(),
        took: None,
    }
}

/// The refusal of a question that is never looked up.
pub(super) fn refusal(query: &Query<'_>, rcode: u16, request_len: usize, response_len: usize) -> Answered {
    Answered {
        zone: 0,
        qtype: query.question.qtype(),
        rcode,
        source: Source::Local,
        negative: false,
        plugin: Plugin::Server,
        request_len,
        response_len,
        dnssec_ok: query.dnssec_ok(),
        took: Some(Duration::ZERO),
    }
}

/// What is kept of a query that waits for its answer.
pub(super) struct Told {
    /// Who asked.
    pub(super) client: SocketAddr,
    /// When.
    pub(super) arrived: Moment,
    /// How many octets.
    pub(super) request_len: usize,
}

impl Told {
    /// Tells that it got `outcome`, written as `response`.
    pub(super) fn answer(
        &self,
        front: &Front,
        (door, proto): (&Door, Proto),
        outcome: &Outcome,
        asked: &Asked<'_>,
        response: &[u8],
    ) {
        let dnssec_ok = asked.edns.is_some_and(|edns| edns.dnssec_ok);
        door.cells(proto).answered(|| Answered {
            zone: outcome.zone,
            qtype: Question::read(asked.spelled).map_or(0, |question| question.qtype()),
            rcode: outcome.rcode,
            source: outcome.source,
            negative: outcome.entry.as_ref().is_some_and(|entry| entry.about().negative),
            plugin: outcome.plugin.unwrap_or(Plugin::of(outcome.source, outcome.entry.is_some())),
            request_len: self.request_len,
            response_len: response.len(),
            dnssec_ok,
            took: None,
        });
        let zones = front.resolver.zones();
        if !zones.logged {
            return;
        }
        let Some(question) = Question::read(asked.spelled) else { return };
        if let Some(log) = zones.find(door.view(), question.name()).and_then(|zone| zone.log.as_ref()) {
            log.write(&Logged {
                client: self.client,
                local: door.place.ip(),
                proto,
                question: &question,
                id: asked.id,
                dnssec_ok,
                udp_size: asked.edns.map(|edns| edns.udp_size),
                request_len: self.request_len,
                response,
                rcode: outcome.rcode,
                took: outcome.at.since(self.arrived),
            });
        }
    }
}
