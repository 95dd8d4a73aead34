//! Forwarding loops: whether an upstream sends what we ask it back to us. Each server of each zone is asked for a name
//! that nobody else knows; whoever asks us for it got it from there ([`Probes`]).
//!
//! That is done until it has replied once, half a minute later, every ten minutes, and every half minute while a server
//! loops, its group is not well, or stale answers are given; the less often the more zones share a group, and with jitter,
//! for there may be thousands of nodes. A server that a probe comes back from is not asked for names of that zone any more
//! ([`Route::mark`]), until one does not. If it has an answer all the same, it has others to ask than us: the loop is told
//! of, and the server still used. Other queries that come back meanwhile join the look-up that waits for them.

use super::upstreams::Upstreams;
use crate::observe::cells::Counter;
use crate::observe::metrics::Metrics;
use crate::resolve::Probes;
use crate::upstream::{Condition, Exchange, Query, Route, Server};
use crate::wire::edns::OPT_LEN;
use crate::wire::header::{Header, rcode};
use crate::wire::question::to_wire;
use crate::wire::reply;
use futures_util::future::join_all;
use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// How long a probe is out. It comes back in milliseconds, unless a forwarder on its way tries others first.
const PATIENCE: Duration = Duration::from_secs(3);
/// How often it is looked who is due.
const TICK: Duration = Duration::from_secs(1);
/// Probes under way at once, and so the most that one tick can send.
const AT_ONCE: usize = 8;
/// How many zones may share a group before each is probed less often.
const CROWD: u32 = 8;
/// How often a server is probed while not all is well, and when it is for the second time.
const SOON: Duration = Duration::from_secs(30);
/// How often all others are, and how often one loop is told of.
const SELDOM: Duration = Duration::from_secs(600);

/// Probes the servers of `upstreams` for ever, and has those that loop passed over.
pub(super) async fn watch(upstreams: Upstreams, probes: Arc<Probes>, metrics: Arc<Metrics>) {
    let mut watches = Watches::default();
    let mut tick = tokio::time::interval(TICK);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tick.tick().await;
        watches.follow(&upstreams.routes(), Instant::now());
        for complaint in watches.round(&probes, upstreams.loops_detected(), metrics.stale_answers()).await {
            tracing::error!("{complaint}");
        }
    }
}

/// One zone at one server.
struct Watch {
    zone: Arc<str>,
    route: Arc<Route>,
    server: Arc<Server>,
    /// By how much its turns are farther apart, because many zones share the group.
    patience: u32,
    /// When it is probed if not all is well.
    soon: Instant,
    /// When it is probed, however it is.
    due: Instant,
    /// Probes without a reply, as long as there has never been one.
    unknown: Option<u32>,
    /// Did the last probe come back?
    heard: bool,
    /// When that was told of.
    told: Option<Instant>,
    /// Stale answers given before it was probed last.
    stale: u64,
}

/// What became of a probe.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
struct Finding {
    /// Who brought it back to us.
    from: Option<IpAddr>,
    /// The RCODE of the server's reply, if there was one.
    code: Option<u16>,
}

impl Finding {
    /// Does all that the server is asked come back?
    fn loops(&self) -> bool {
        self.from.is_some() && !matches!(self.code, Some(rcode::NOERROR | rcode::NXDOMAIN))
    }
}

impl Watch {
    /// Is it to be probed, with so many `stale` answers given so far? In a loop these come back and may look like new ones,
    /// so that nothing else seems wrong.
    fn is_due(&self, now: Instant, stale: u64) -> bool {
        now >= self.due || (now >= self.soon && (stale != self.stale || self.route.condition() != Condition::Well))
    }

    /// Sends a probe, and marks the server when it comes back.
    async fn probe(&self, probes: &Arc<Probes>) -> Finding {
        let deadline = Instant::now() + PATIENCE;
        let Some(probe) = probes.send(&to_wire(&self.zone)) else { return Finding::default() };
        let message = reply::upstream_query(probe.question().as_bytes(), true, false, false);
        let reply = self.server.ask(Query { message: &message, opt_len: OPT_LEN }, deadline).await;
        let code = reply.ok().and_then(|reply| Some(Header::read(&reply.message)?.rcode()));
        let finding = Finding { from: probe.heard_from(), code };
        // Silence tells nothing new.
        if finding != Finding::default() {
            self.route.mark(&self.server, finding.loops());
        }
        finding
    }

    /// Takes note of what was found; true if it is to be told. `jitter` is between 0 and 1.
    fn note(&mut self, finding: Finding, now: Instant, jitter: f64) -> bool {
        let spread = f64::from(self.patience) * (0.75 + jitter / 2.0);
        let pause = match (finding.from, finding.code, self.unknown) {
            (None, None, Some(silent)) => SOON.min(TICK * (1 << silent.min(8))),
            (None, None, None) if self.heard => SOON,
            (None, _, None) => SELDOM,
            _ => SOON,
        };
        self.unknown = self.unknown.filter(|_| finding.code.is_none()).map(|silent| silent + 1);
        self.soon = now + SOON.mul_f64(spread);
        self.due = now + pause.mul_f64(spread);
        if finding == Finding::default() {
            return false;
        }
        if self.heard && finding.from.is_none() {
            tracing::info!(zone = &*self.zone, upstream = %self.server.endpoint(), "queries do not come back any more");
        }
        self.heard = finding.from.is_some();
        let tell = self.heard && self.told.is_none_or(|told| now >= told + SELDOM);
        if tell {
            self.told = Some(now);
        }
        tell
    }
}

/// All watches, by the addresses of route and server, which they keep from being freed.
#[derive(Default)]
struct Watches(HashMap<(usize, usize), Watch>);

impl Watches {
    /// Watches all servers of `routes`, which are given by group, and no others.
    fn follow(&mut self, routes: &[Vec<(Arc<str>, Arc<Route>)>], now: Instant) {
        let mut old = std::mem::take(&mut self.0);
        for group in routes {
            let patience = u32::try_from(group.len()).unwrap_or(u32::MAX).div_ceil(CROWD).max(1);
            for (zone, route) in group {
                for server in route.group().servers() {
                    let key = (Arc::as_ptr(route).addr(), Arc::as_ptr(&server).addr());
                    let watch = old.remove(&key).unwrap_or_else(|| Watch {
                        zone: Arc::clone(zone),
                        route: Arc::clone(route),
                        server,
                        patience,
                        soon: now,
                        due: now,
                        unknown: Some(0),
                        heard: false,
                        told: None,
                        stale: 0,
                    });
                    self.0.insert(key, Watch { patience, ..watch });
                }
            }
        }
        old.values().for_each(|gone| gone.route.mark(&gone.server, false));
    }

    /// Probes those that are due, the longest overdue first; returns what is to be told, and counts loops that are new.
    async fn round(&mut self, probes: &Arc<Probes>, detected: &Counter, stale: u64) -> Vec<String> {
        let now = Instant::now();
        let mut due: Vec<_> =
            self.0.iter().filter(|(_, watch)| watch.is_due(now, stale)).map(|(key, w)| (w.soon, *key)).collect();
        due.sort_unstable();
        due.truncate(AT_ONCE);
        let findings = join_all(due.iter().filter_map(|(_, key)| Some(self.0.get(key)?.probe(probes)))).await;
        let now = Instant::now();
        let mut news: BTreeMap<(String, Finding), Vec<String>> = BTreeMap::new();
        for ((_, key), finding) in due.iter().zip(findings) {
            let Some(watch) = self.0.get_mut(key) else { continue };
            watch.stale = stale;
            if finding.from.is_some() && !watch.heard {
                detected.add(1);
            }
            if watch.note(finding, now, rand::random()) {
                let server = watch.server.endpoint().to_string();
                news.entry((server, finding)).or_default().push(format!("\"{}\"", watch.zone));
            }
        }
        news.iter().filter_map(|((server, finding), zones)| complaint(server, *finding, zones)).collect()
    }
}

/// What to say of a loop; nothing if there is none.
fn complaint(server: &str, finding: Finding, zones: &[String]) -> Option<String> {
    let from = finding.from?.to_canonical();
    let zones = zones.join(", ");
    let consequence = match finding.loops() {
        true => "it is not asked for these any more until that has ended",
        false => "it has an answer all the same, and is still asked",
    };
    Some(format!(
        "queries for {zones} sent to {server} come back to nodens from {from}: that server, or one that it asks, forwards to \
         this cache; {consequence}. Have it forward elsewhere (often the resolv.conf that it reads names this cache), or \
         take it out of forward.to"
    ))
}

#[cfg(test)]
mod tests;
