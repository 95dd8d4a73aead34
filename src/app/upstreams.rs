//! From `forward.to` to groups of servers, followed while the daemon runs.
//!
//! A zone whose `forward` stands unchanged over a reload keeps its group, and with it its connections. What `to` names
//! indirectly is looked at again: a resolv.conf every second, host names every half minute (and every second while
//! there is no address yet), by hickory-resolver through the host's own name servers, never through ourselves.

use crate::admin::ready::Condition;
use crate::cache::{Prefetch, Stale, Ttls};
use crate::config::{self, Config, Forward, Target, resolvconf};
use crate::observe::metrics::Metrics;
use crate::resolve::{Zone, Zones};
use crate::upstream::{self, Endpoint, Exchange, Group, Security, Server};
use crate::wire::edns::OPT_LEN;
use crate::wire::question::{CLASS_IN, Question, rtype, to_wire};
use crate::wire::reply;
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

/// Why an upstream cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The environment does not say where kube-dns is.
    #[error(
        "forward.to names kube-dns, but {KUBE_DNS} is {0}: create the Service kube-dns-upstream before this pod, \
         or write its address"
    )]
    KubeDns(&'static str),
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
}

/// A group and what it was made from.
#[derive(Clone)]
struct Source {
    forward: Forward,
    group: Arc<Group>,
}

/// The addresses of a host name.
#[derive(Clone)]
struct Found {
    addresses: Vec<IpAddr>,
    at: Instant,
}

impl Upstreams {
    /// `own` is where we listen; names are looked up by `resolvers`, or by those of the host's resolv.conf.
    pub(super) fn new(own: Vec<SocketAddr>, metrics: Arc<Metrics>, resolvers: Option<Vec<SocketAddr>>) -> Upstreams {
        let (groups, names) = (Mutex::default(), Mutex::default());
        Upstreams(Arc::new(Inner { own, metrics, resolvers, groups, names }))
    }

    fn groups(&self) -> MutexGuard<'_, Vec<Source>> {
        self.0.groups.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The zones of `config`, with groups old and new; groups that it does not use any more are let go.
    pub(super) fn zones(&self, config: &Config) -> Result<Zones, Error> {
        let old = self.groups().clone();
        let mut sources: Vec<Source> = Vec::new();
        let mut zones = Vec::new();
        for zone in &config.zones {
            let known = sources.iter().chain(&old).find(|source| source.forward == zone.forward).cloned();
            let source = match known {
                Some(source) => source,
                None => {
                    let servers = self.servers_of(&zone.forward, true)?;
                    let group = Arc::new(Group::new(options(&zone.forward), servers));
                    Source { forward: zone.forward.clone(), group }
                }
            };
            for name in &zone.names {
                let upstream = Arc::clone(&source.group) as Arc<dyn Exchange>;
                let label = self.0.metrics.zones.intern(&label(name));
                let (stale, prefetch) = (zone.serve_stale.map(stale), zone.prefetch.map(prefetch));
                let ttls = ttls(&zone.ttls);
                zones.push(Zone { name: to_wire(name).into(), label, upstream, ttls, stale, prefetch });
            }
            if sources.iter().all(|known| known.forward != source.forward) {
                sources.push(source);
            }
        }
        *self.groups() = sources;
        Ok(Zones::new(zones))
    }

    /// Every server of every group, by address; one that several groups use is there once for each.
    pub(super) fn servers(&self) -> Vec<Arc<Server>> {
        let mut servers: Vec<Arc<Server>> = self.groups().iter().flat_map(|s| s.group.servers()).collect();
        servers.sort_by_key(|s| s.address());
        servers
    }

    /// The addresses that `forward.to` stands for now; what cannot be read or is not known yet is left out.
    fn servers_of(&self, forward: &Forward, first: bool) -> Result<Vec<Endpoint>, Error> {
        let mut servers: Vec<Endpoint> = Vec::new();
        for target in &forward.to {
            match target {
                Target::Address(address) => servers.push(address.into()),
                Target::Secure(server) => servers.push(secure(server, forward.ca.as_ref())),
                Target::KubeDns { port } => servers.push(SocketAddr::new(kube_dns()?, *port).into()),
                Target::ResolvConf(path) => servers.extend(self.read(path, first).iter().map(Endpoint::from)),
                Target::Name { host, port } => {
                    let names = self.0.names.lock().unwrap_or_else(PoisonError::into_inner);
                    let found = names.get(host).map(|found| found.addresses.clone()).unwrap_or_default();
                    servers.extend(found.into_iter().map(|ip| SocketAddr::new(ip, *port).into()));
                }
            }
        }
        servers.retain(|server| !self.0.own.contains(&server.address()));
        let mut seen = Vec::new();
        servers.retain(|server| {
            !seen.contains(server) && {
                seen.push(server.clone());
                true
            }
        });
        Ok(servers)
    }

    /// The name servers in a resolv.conf; says what it passed over when it is read for the `first` time.
    fn read(&self, path: &Path, first: bool) -> Vec<SocketAddr> {
        match std::fs::read_to_string(path) {
            Ok(text) => {
                let found = resolvconf::name_servers(&text, &self.0.own);
                if first {
                    for why in &found.skipped {
                        tracing::warn!(file = %path.display(), why, "a name server is not used");
                    }
                    if found.servers.is_empty() {
                        tracing::warn!(file = %path.display(), "no name server can be used; queries for this zone fail until it names one");
                    }
                }
                found.servers
            }
            Err(error) => {
                if first {
                    tracing::warn!(file = %path.display(), %error, "cannot read; queries for this zone fail until it can be");
                }
                Vec::new()
            }
        }
    }

    /// Follows files and names for ever.
    pub(super) async fn follow(self) {
        let mut tick = tokio::time::interval(OFTEN);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tick.tick().await;
            let sources = self.groups().clone();
            self.refresh(&sources).await;
        }
    }

    /// Looks at files and names once, and tells the groups what has changed.
    async fn refresh(&self, sources: &[Source]) {
        self.look_up(sources).await;
        for source in sources.iter().filter(|source| source.forward.to.iter().any(is_indirect)) {
            let Ok(servers) = self.servers_of(&source.forward, false) else { continue };
            let before: Vec<Endpoint> = source.group.servers().iter().map(|s| s.endpoint().clone()).collect();
            let same = before.len() == servers.len() && before.iter().all(|server| servers.contains(server));
            // Nothing where there was something is more often a file being written than the truth.
            if !same && !servers.is_empty() {
                tracing::info!(before = list(&before), now = list(&servers), "upstream addresses changed");
                source.group.set_servers(servers);
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
        let servers = self.0.resolvers.clone().unwrap_or_else(|| self.read(&PathBuf::from(RESOLV_CONF), false));
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
            for source in sources {
                let Some(question) = Question::new(&[0], rtype::NS, CLASS_IN) else { return };
                let message = reply::upstream_query(question.as_bytes(), true, false, false);
                let query = upstream::Query { message: &message, opt_len: OPT_LEN };
                if let Ok(reply) = source.group.exchange(query, Instant::now() + OFTEN).await {
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

fn secure(server: &config::Secure, ca: Option<&PathBuf>) -> Endpoint {
    let security = Security { scheme: server.scheme.name(), name: server.name.clone(), ca: ca.cloned() };
    Endpoint::secure(server.address, security)
}

fn is_indirect(target: &Target) -> bool {
    matches!(target, Target::ResolvConf(_) | Target::Name { .. })
}

fn kube_dns() -> Result<IpAddr, Error> {
    let value = std::env::var(KUBE_DNS).map_err(|_| Error::KubeDns("not set"))?;
    value.parse().map_err(|_| Error::KubeDns("not an IP address"))
}

fn options(forward: &Forward) -> upstream::Options {
    upstream::Options {
        protocol: match forward.protocol {
            config::Protocol::Tcp => upstream::Protocol::Tcp,
            config::Protocol::Udp => upstream::Protocol::Udp,
            config::Protocol::Auto => upstream::Protocol::Auto,
        },
        policy: match forward.policy {
            config::Policy::LeastLoaded => upstream::Policy::LeastLoaded,
            config::Policy::Random => upstream::Policy::Random,
            config::Policy::RoundRobin => upstream::Policy::RoundRobin,
            config::Policy::Sequential => upstream::Policy::Sequential,
        },
        timeout: forward.timeout,
        max_connections: forward.max_connections,
        ..upstream::Options::default()
    }
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

fn ttls(ttls: &config::Ttls) -> Ttls {
    Ttls {
        positive: (seconds(ttls.positive_min), seconds(ttls.positive_max)),
        negative: (seconds(ttls.negative_min), seconds(ttls.negative_max)),
        failure: ttls.failure,
    }
}

/// A zone as metrics name it: absolute, with its dot, as CoreDNS writes it.
fn label(name: &str) -> String {
    if name == "." { name.to_owned() } else { format!("{name}.") }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Answers every A query with 192.0.2.`octet`, for ever; returns where.
    async fn resolver(octet: Arc<std::sync::atomic::AtomicU8>) -> SocketAddr {
        let socket = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let address = socket.local_addr().unwrap();
        tokio::spawn(async move {
            let mut buf = [0; 512];
            while let Ok((len, peer)) = socket.recv_from(&mut buf).await {
                let query = hickory_proto::op::Message::from_vec(&buf[..len]).unwrap();
                let mut answer = hickory_proto::op::Message::response(query.metadata.id, query.metadata.op_code);
                answer.metadata.recursion_available = true;
                let question = query.queries[0].clone();
                if question.query_type() == hickory_proto::rr::RecordType::A {
                    let ip = [192, 0, 2, octet.load(std::sync::atomic::Ordering::SeqCst)].into();
                    let data = hickory_proto::rr::RData::A(hickory_proto::rr::rdata::A(ip));
                    answer.add_answer(hickory_proto::rr::Record::from_rdata(question.name().clone(), 1, data));
                }
                answer.add_query(question);
                socket.send_to(&answer.to_vec().unwrap(), peer).await.unwrap();
            }
        });
        address
    }

    #[tokio::test]
    async fn d20_host_names_are_looked_up_and_followed() {
        let octet = Arc::new(std::sync::atomic::AtomicU8::new(1));
        let resolver = resolver(Arc::clone(&octet)).await;
        let upstreams = Upstreams::new(Vec::new(), Metrics::new(), Some(vec![resolver]));
        let config = "zones: [{ match: [.], forward: { to: [\"dns.example:5353\"] } }]";
        let config = config::load_str("test", config).unwrap().config;
        upstreams.zones(&config).unwrap();
        assert!(upstreams.servers().is_empty(), "nothing is known yet");
        let sources = upstreams.groups().clone();
        upstreams.refresh(&sources).await;
        let addresses = |u: &Upstreams| u.servers().iter().map(|s| s.address().to_string()).collect::<Vec<_>>();
        assert_eq!(addresses(&upstreams), ["192.0.2.1:5353"]);
        octet.store(2, std::sync::atomic::Ordering::SeqCst);
        upstreams.refresh(&sources).await;
        assert_eq!(addresses(&upstreams), ["192.0.2.1:5353"], "not due yet");
        upstreams.0.names.lock().unwrap().values_mut().for_each(|found| found.at -= SELDOM);
        upstreams.refresh(&sources).await;
        assert_eq!(addresses(&upstreams), ["192.0.2.2:5353"]);
    }

    #[tokio::test]
    async fn a_group_that_several_zones_share_is_listed_once() {
        let upstreams = Upstreams::new(Vec::new(), Metrics::new(), None);
        let zone = |name: &str, to: &str| format!("{{ match: [{name}], forward: {{ to: [{to}] }} }}");
        let zones = [zone("a", "192.0.2.1"), zone("b", "192.0.2.2"), zone("c", "192.0.2.1")].join(", ");
        let config = config::load_str("test", &format!("zones: [{zones}]")).unwrap().config;
        for _ in 0..2 {
            upstreams.zones(&config).unwrap();
            let addresses: Vec<String> = upstreams.servers().iter().map(|s| s.address().to_string()).collect();
            assert_eq!(addresses, ["192.0.2.1:53", "192.0.2.2:53"], "each server's counts are exported once");
        }
    }

    #[test]
    fn names_become_labels() {
        assert_eq!((label("."), label("cluster.local")), (".".to_owned(), "cluster.local.".to_owned()));
    }
}
