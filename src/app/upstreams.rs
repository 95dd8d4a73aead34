//! From `forward.to` to groups of servers, followed while the daemon runs.
//!
//! A zone whose `forward` stands unchanged over a reload keeps its group, and with it its connections. What `to` names
//! indirectly is looked at again: a resolv.conf every second, host names every half minute (and every second while
//! there is no address yet), by hickory-resolver through the host's own name servers, never through ourselves.

mod forward;
mod told;

use super::rules::{self, Rules};
use crate::admin::ready::Condition;
use crate::cache::{Prefetch, Stale, Ttls};
use crate::config::{self, AnswerStyle, Config, Forward, Target, View, resolvconf};
use crate::observe::cells::Counter;
use crate::observe::metrics::Metrics;
use crate::resolve::{Keep, Zone, Zones, fingerprint};
use crate::sys::clock::Moment;
use crate::upstream::{self, Bound, Endpoint, Exchange, Group, Link, Route, Server, Tally};
use crate::wire::edns::OPT_LEN;
use crate::wire::question::{CLASS_IN, Question, rtype, to_wire};
use crate::wire::reply;
use forward::{Share, codes};
use hickory_resolver::TokioResolver;
use hickory_resolver::config::{NameServerConfig, ResolverConfig};
use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

/// Where the address of the Service `kube-dns-upstream` stands.
const KUBE_DNS: &str = "KUBE_DNS_UPSTREAM_SERVICE_HOST";
/// How often files are looked at, and names that have no address yet.
const OFTEN: Duration = Duration::from_secs(1);
/// How often names with addresses are looked up again.
const SELDOM: Duration = Duration::from_secs(30);
/// The host's own resolver configuration.
const RESOLV_CONF: &str = "/etc/resolv.conf";

/// Why the zones of a configuration cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A rule cannot be followed.
    #[error(transparent)]
    Rule(#[from] rules::Error),
    /// The environment does not say where kube-dns is.
    #[error(
        "forward.to names kube-dns, but {KUBE_DNS} is {0}: create the Service kube-dns-upstream before this pod, \
         or write its address"
    )]
    KubeDns(&'static str),
    /// The environment names us.
    #[error(
        "forward.to names kube-dns, but {KUBE_DNS} is {0}, where nodens itself listens: queries would go round in circles; \
         create the Service kube-dns-upstream, and give it no address that is in listen.addresses"
    )]
    KubeDnsIsUs(IpAddr),
}

/// All groups. Cheap to clone.
#[derive(Clone)]
pub(super) struct Upstreams(Arc<Inner>);

struct Inner {
    /// Our own addresses, never used as upstreams.
    own: Vec<SocketAddr>,
    metrics: Arc<Metrics>,
    /// Who looks names up, instead of the host's own resolv.conf.
    resolvers: Option<Vec<SocketAddr>>,
    groups: Mutex<Vec<Source>>,
    names: Mutex<HashMap<String, Found>>,
    /// What was last said to be wrong with a file or a name.
    told: Mutex<HashMap<String, Vec<String>>>,
    /// Forwarding loops found.
    loops: Counter,
    /// The zones' own rules.
    rules: Rules,
    /// What is counted of all groups together.
    tally: Arc<Tally>,
}

/// A group, what it was made from, and the zones that lead to it.
#[derive(Clone)]
struct Source {
    forward: Forward,
    group: Arc<Group>,
    routes: Vec<(Arc<str>, Arc<Route>)>,
}

/// The addresses of a host name.
#[derive(Clone)]
struct Found {
    addresses: Vec<IpAddr>,
    at: Instant,
}

impl Source {
    /// The way to the group for the zone `name`: known already, or of those in `old`, or new.
    fn route(&mut self, name: &str, old: &[Source]) -> Arc<Route> {
        let old = old.iter().find(|known| known.forward == self.forward);
        let known = self.routes.iter().find(|(known, _)| **known == *name);
        if let Some((_, route)) = known {
            return Arc::clone(route);
        }
        let known = old.and_then(|old| old.routes.iter().find(|(known, _)| **known == *name));
        let route = known.map_or_else(|| Arc::new(Route::new(Arc::clone(&self.group))), |(_, route)| Arc::clone(route));
        self.routes.push((name.into(), Arc::clone(&route)));
        route
    }
}

impl Upstreams {
    /// `own` is where we listen; names are looked up by `resolvers`, or by those of the host's resolv.conf.
    pub(super) fn new(own: Vec<SocketAddr>, metrics: Arc<Metrics>, resolvers: Option<Vec<SocketAddr>>) -> Upstreams {
        let (groups, names, told) = (Mutex::default(), Mutex::default(), Mutex::default());
        let (loops, tally, rules) = (Counter::new(), Arc::default(), Rules::default());
        Upstreams(Arc::new(Inner { own, metrics, resolvers, groups, names, told, loops, tally, rules }))
    }

    fn groups(&self) -> MutexGuard<'_, Vec<Source>> {
        self.0.groups.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The zones of `config`, with groups old and new; groups that it does not use any more are let go.
    pub(super) fn zones(&self, config: &Config) -> Result<Zones, Error> {
        let old = self.groups().clone();
        let mut sources: Vec<Source> = Vec::new();
        let mut zones = Vec::new();
        for (index, zone) in config.zones.iter().enumerate() {
            let (before, behind) = (self.0.rules.before(zone), self.0.rules.behind(zone)?);
            let mut ways = Vec::new();
            for forward in &zone.forwards {
                let at = self.source(forward, &old, &mut sources)?;
                let bound = forward.max_concurrent.map(|most| {
                    Arc::new(Bound::new(most, zone.names.first().map_or("", String::as_str), Arc::clone(&self.0.tally)))
                });
                ways.push((forward, at, bound));
            }
            let (log, errors) = (told::query_log(zone), told::errors(zone));
            for name in &zone.names {
                let mut links = Vec::new();
                for (forward, at, bound) in &ways {
                    let Some(Share { from, except }) = Share::of(forward, name) else { continue };
                    // Probed is what is asked for.
                    let probed = if from.is_some() { &forward.from } else { name };
                    let Some(source) = sources.get_mut(*at) else { continue };
                    let (upstream, next) = (source.route(probed, &old), codes(&forward.next));
                    links.push(Link { upstream, from, except, next, bound: bound.clone() });
                }
                let upstream = upstream::chain(links);
                let label = self.0.metrics.zones.intern(&label(name));
                let (stale, prefetch) = (zone.serve_stale.map(stale), zone.prefetch.map(prefetch));
                let plain = Zone::new(&to_wire(name), label, upstream, ttls(&zone.ttls, config));
                let (keep, revision) = (keep(&zone.keep), revision(zone, config));
                let nsid = zone.nsid.as_ref().map(|name| name.as_bytes().into());
                let (before, behind) = (before.clone(), behind.clone());
                let (log, errors) = (log.clone(), errors.clone());
                let zone = Zone { stale, prefetch, keep, before, behind, nsid, log, errors, revision, ..plain };
                zones.push((index, Arc::new(zone)));
            }
        }
        *self.groups() = sources;
        self.0.rules.keep(config);
        let of = |view: View| {
            let members = zones.iter().filter(|(index, _)| view.zones.contains(index));
            (view.places, members.map(|(_, zone)| Arc::clone(zone)).collect())
        };
        Ok(Zones::of_views(config.views().into_iter().map(of)))
    }

    /// The place in `sources` of the group that `forward` describes: known already, `old`, or new.
    fn source(&self, forward: &Forward, old: &[Source], sources: &mut Vec<Source>) -> Result<usize, Error> {
        let of = |known: &Source| known.forward == *forward;
        if let Some(at) = sources.iter().position(of) {
            return Ok(at);
        }
        let group = match old.iter().find(|known| of(known)) {
            Some(old) => Arc::clone(&old.group),
            None => {
                let group = Group::new(forward::options(forward), &self.servers_of(forward)?);
                Arc::new(group.counted_in(Arc::clone(&self.0.tally)))
            }
        };
        sources.push(Source { forward: forward.clone(), group, routes: Vec::new() });
        Ok(sources.len() - 1)
    }

    /// The zones' own rules.
    pub(super) fn rules(&self) -> &Rules {
        &self.0.rules
    }

    /// Every server of every group, by address; one that several groups use is there once for each.
    pub(super) fn servers(&self) -> Vec<Arc<Server>> {
        let mut servers: Vec<Arc<Server>> = self.groups().iter().flat_map(|s| s.group.servers()).collect();
        servers.sort_by_key(|s| s.address());
        servers
    }

    /// The way of each zone to its servers, with its name, by group.
    pub(super) fn routes(&self) -> Vec<Vec<(Arc<str>, Arc<Route>)>> {
        self.groups().iter().map(|source| source.routes.clone()).collect()
    }

    /// Counts forwarding loops.
    pub(super) fn loops_detected(&self) -> &Counter {
        &self.0.loops
    }

    /// What is counted of all groups together.
    pub(super) fn tally(&self) -> &Tally {
        &self.0.tally
    }

    /// The addresses that `forward.to` stands for now; what cannot be read or is not known yet is left out.
    fn servers_of(&self, forward: &Forward) -> Result<Vec<Endpoint>, Error> {
        let mut servers: Vec<Endpoint> = Vec::new();
        for target in &forward.to {
            match target {
                Target::Address(address) => servers.push(address.into()),
                Target::Secure(server) => servers.push(forward::secure(server, forward)),
                Target::KubeDns { port } => servers.push(kube_dns(*port, &self.0.own)?.into()),
                Target::ResolvConf(path) => servers.extend(self.read(path).iter().map(Endpoint::from)),
                Target::Name { host, port } => {
                    let names = self.0.names.lock().unwrap_or_else(PoisonError::into_inner);
                    let Some(found) = names.get(host) else { continue };
                    let at = |ip: &IpAddr| SocketAddr::new(*ip, *port);
                    let (ours, others): (Vec<_>, Vec<_>) =
                        found.addresses.iter().map(at).partition(|server| resolvconf::is_among(*server, &self.0.own));
                    let ours = ours.iter().map(|server| format!("{server} is not used: nodens itself listens there"));
                    self.complain(target.to_string(), ours.collect());
                    servers.extend(others.iter().map(Endpoint::from));
                }
            }
        }
        let mut seen = Vec::new();
        servers.retain(|server| {
            !seen.contains(server) && {
                seen.push(server.clone());
                true
            }
        });
        Ok(servers)
    }

    /// The name servers in a resolv.conf; says what is wrong with it, once.
    fn read(&self, path: &Path) -> Vec<SocketAddr> {
        let (servers, complaints) = self.look(path);
        self.complain(path.display().to_string(), complaints);
        servers
    }

    /// The name servers in a resolv.conf, and what is wrong with it.
    fn look(&self, path: &Path) -> (Vec<SocketAddr>, Vec<String>) {
        const REST: &str = "queries for this zone fail, or go to those known before, until it names one";
        match std::fs::read_to_string(path) {
            Ok(text) => {
                let found = resolvconf::name_servers(&text, &self.0.own);
                let mut complaints: Vec<String> =
                    found.skipped.iter().map(|why| format!("a name server is not used: {why}")).collect();
                if found.servers.is_empty() {
                    complaints.push(format!("no name server can be used: {REST}"));
                }
                (found.servers, complaints)
            }
            Err(error) => (Vec::new(), vec![format!("cannot read it ({error}): {REST}")]),
        }
    }

    /// Says what is wrong with `what`, once.
    fn complain(&self, what: String, complaints: Vec<String>) {
        for complaint in self.news(what.clone(), complaints) {
            tracing::warn!(upstream = what, "{complaint}");
        }
    }

    /// What of `complaints` was not said at the last look, and is to be.
    fn news(&self, what: String, complaints: Vec<String>) -> Vec<String> {
        let mut told = self.0.told.lock().unwrap_or_else(PoisonError::into_inner);
        let told = told.entry(what).or_default();
        let new = complaints.iter().filter(|complaint| !told.contains(complaint)).cloned().collect();
        *told = complaints;
        new
    }

    /// Follows files and names for ever.
    pub(super) async fn follow(self) {
        let mut tick = tokio::time::interval(OFTEN);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tick.tick().await;
            self.0.rules.refresh(Moment::now());
            let sources = self.groups().clone();
            self.refresh(&sources).await;
        }
    }

    /// Looks at files and names once, and tells the groups what has changed.
    async fn refresh(&self, sources: &[Source]) {
        self.look_up(sources).await;
        for source in sources.iter().filter(|source| source.forward.to.iter().any(is_indirect)) {
            let Ok(servers) = self.servers_of(&source.forward) else { continue };
            let before: Vec<Endpoint> = source.group.servers().iter().map(|s| s.endpoint().clone()).collect();
            let same = before.len() == servers.len() && before.iter().all(|server| servers.contains(server));
            // Nothing where there was something is more often a file being written than the truth.
            if !same && !servers.is_empty() {
                tracing::info!(before = list(&before), now = list(&servers), "upstream addresses changed");
                source.group.set_servers(&servers);
            }
        }
    }

    /// Looks up the names that are due.
    async fn look_up(&self, sources: &[Source]) {
        let hosts = sources.iter().flat_map(|s| &s.forward.to).filter_map(|target| match target {
            Target::Name { host, .. } => Some(host),
            _ => None,
        });
        let now = Instant::now();
        let due: Vec<&String> = {
            let names = self.0.names.lock().unwrap_or_else(PoisonError::into_inner);
            hosts.filter(|h| names.get(*h).is_none_or(|found| now >= found.at + SELDOM)).collect()
        };
        if due.is_empty() {
            return;
        }
        let Some(resolver) = self.host_resolver() else { return };
        for host in due {
            match resolver.lookup_ip(format!("{host}.")).await {
                Ok(found) => {
                    let addresses = found.iter().collect();
                    let mut names = self.0.names.lock().unwrap_or_else(PoisonError::into_inner);
                    names.insert(host.clone(), Found { addresses, at: now });
                }
                // The last known addresses go on being used.
                Err(error) => tracing::debug!(host, %error, "cannot look up an upstream's name"),
            }
        }
    }

    /// A resolver that asks the host's name servers.
    fn host_resolver(&self) -> Option<TokioResolver> {
        let servers = self.0.resolvers.clone().unwrap_or_else(|| self.read(&PathBuf::from(RESOLV_CONF)));
        let servers = servers.into_iter().map(|server| {
            let mut config = NameServerConfig::udp_and_tcp(server.ip());
            config.connections.iter_mut().for_each(|connection| connection.port = server.port());
            config
        });
        let servers = servers.collect();
        let config = ResolverConfig::from_parts(None, Vec::new(), servers);
        TokioResolver::builder_with_config(config, Default::default()).build().ok()
    }

    /// Asks each group in turn until one has answered, and says so: a daemon whose upstreams were never reached has
    /// nothing to give.
    pub(super) async fn reach(self, condition: Condition) {
        condition.set(false, "no upstream has answered yet");
        let mut pause = Duration::from_millis(100);
        loop {
            let sources = self.groups().clone();
            if sources.is_empty() {
                condition.set(true, "no upstream is configured");
            }
            for source in sources {
                let Some(question) = Question::new(&[0], rtype::NS, CLASS_IN) else { return };
                let message = reply::upstream_query(question.as_bytes(), true, false, false);
                let query = upstream::Query { message: &message, opt_len: OPT_LEN };
                let Some((_, route)) = source.routes.first() else { continue };
                let Ok(reply) = route.exchange(query, Instant::now() + OFTEN).await else { continue };
                // What a server that forwards back to us says may be our own word that it does.
                let servers = route.group().servers();
                if !servers.iter().any(|server| *server.endpoint() == reply.server && route.is_looping(server)) {
                    condition.set(true, format!("{} answered", reply.server));
                    // The condition lives as long as the daemon.
                    return std::future::pending().await;
                }
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(OFTEN / 2);
        }
    }
}

/// Servers in one line of the log.
fn list(servers: &[Endpoint]) -> String {
    servers.iter().map(Endpoint::to_string).collect::<Vec<_>>().join(", ")
}

fn is_indirect(target: &Target) -> bool {
    matches!(target, Target::ResolvConf(_) | Target::Name { .. })
}

/// Where kube-dns is, by the environment; never at one of `own`.
fn kube_dns(port: u16, own: &[SocketAddr]) -> Result<SocketAddr, Error> {
    let value = std::env::var(KUBE_DNS).map_err(|_| Error::KubeDns("not set"))?;
    kube_dns_at(&value, port, own)
}

fn kube_dns_at(value: &str, port: u16, own: &[SocketAddr]) -> Result<SocketAddr, Error> {
    let ip: IpAddr = value.parse().map_err(|_| Error::KubeDns("not an IP address"))?;
    let address = SocketAddr::new(ip, port);
    if resolvconf::is_among(address, own) { Err(Error::KubeDnsIsUs(ip)) } else { Ok(address) }
}

/// Whether what the environment says of kube-dns, if anything, suits `config`.
///
/// # Errors
/// When `config` asks kube-dns, and the environment says nonsense, or that we are it.
pub(super) fn check_environment(config: &Config) -> Result<(), Error> {
    if std::env::var_os(KUBE_DNS).is_none() {
        return Ok(());
    }
    let own = super::sockets::dns_addresses(config);
    config.zones.iter().flat_map(|zone| &zone.forwards).flat_map(|forward| &forward.to).try_for_each(|target| {
        match target {
            Target::KubeDns { port } => kube_dns(*port, &own).map(drop),
            _ => Ok(()),
        }
    })
}

fn seconds(span: Duration) -> u32 {
    u32::try_from(span.as_secs()).unwrap_or(u32::MAX)
}

fn stale(rules: config::ServeStale) -> Stale {
    let config::ServeStale { max_age, answer_ttl, client_wait, recheck, prefer_positive } = rules;
    Stale { max_age, answer_ttl: seconds(answer_ttl), client_wait, recheck, prefer_positive }
}

fn prefetch(rules: config::Prefetch) -> Prefetch {
    Prefetch { min_hits: rules.min_hits, remaining: rules.remaining }
}

fn keep(keep: &config::Keep) -> Keep {
    let wire = |names: &[String]| names.iter().map(|name| to_wire(name).into()).collect();
    Keep {
        nothing: !keep.enabled,
        only: wire(&keep.only),
        never_positive: wire(&keep.never_positive),
        never_negative: wire(&keep.never_negative),
        whole_ttl: keep.whole_ttl,
    }
}

/// A number that changes with everything that the answers of `zone` are made by, but for its servers and lifetimes.
fn revision(zone: &config::Zone, config: &Config) -> u64 {
    let rules = (&zone.rewrite, &zone.dns64, &zone.acl, &zone.load_balance, &zone.hosts, &zone.respond);
    let switches = (zone.whoami, zone.refuse_any, zone.minimal_responses, zone.log.is_some());
    fingerprint(&format!("{rules:?}{switches:?}{:?}{:?}", zone.keep, config.answers))
}

fn ttls(ttls: &config::Ttls, config: &Config) -> Ttls {
    Ttls {
        positive: (seconds(ttls.positive_min), seconds(ttls.positive_max)),
        negative: (seconds(ttls.negative_min), seconds(ttls.negative_max)),
        failure: ttls.failure,
        one: config.answers.style == AnswerStyle::Coredns,
    }
}

/// A zone as metrics name it: absolute, with its dot, as CoreDNS writes it.
pub(super) fn label(name: &str) -> String {
    if name == "." { name.to_owned() } else { format!("{name}.") }
}

#[cfg(test)]
mod tests;
