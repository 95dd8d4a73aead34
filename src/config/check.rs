//! The file's values to a [`Config`]: defaults, ranges, and the rules that no single key can break alone.
//!
//! Every rule is tried whatever others say. A rule keeps silent about keys that the schema check has already found
//! fault with, since it would judge values that are not what was written.

mod cache;
mod forward;
mod node;

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use crate::config::address::{Place, Target};
use crate::config::file::{self, File};
use crate::config::limits::{self, Limit};
use crate::config::problem::{Problems, quoted};
use crate::config::shape::{Origins, is_within};
use crate::config::text::{Span, Text, Workers};
use crate::config::{Answers, Config, Endpoint, Firewall, Interface, Keep, Limits, Listen, Log, Network, Zone};
use cache::{Rules, keep};

/// The configuration of an empty file.
pub(super) fn defaults() -> Config {
    check(&File::default(), None, &Origins::default(), &mut Problems::default(), &mut Problems::default())
}

/// Resolves `file`; `service` is what the environment says of the address of the Service `kube-dns`. Problems and warnings
/// are added to those given; with any problem the result means nothing.
pub(super) fn check(
    file: &File,
    service: Option<&str>,
    origins: &Origins,
    problems: &mut Problems,
    warnings: &mut Problems,
) -> Config {
    let suspect = problems.0.iter().map(|p| p.key.clone()).collect();
    let service = service.map(|value| value.parse().map_err(|_| quoted(value)));
    let mut check = Check { service, origins, suspect, problems, warnings };
    let listen = check.listen(&file.listen);
    let rules = check.rules(&file.cache);
    let cluster_domain = check.cluster_domain(&file.kubernetes);
    let metrics = check.metrics(&file.metrics);
    let (health, health_also, lame_duck) = check.health(&file.health, &listen);
    let network = check.network(&file.network, &listen, &cluster_domain);
    let metrics_optional = check.metrics_optional(&file.metrics, &metrics);
    let config = Config {
        network,
        answers: check.answers(&file.answers),
        cache: check.cache(&file.cache),
        zones: match &file.zones {
            Some(zones) => check.zones(zones, rules, &listen),
            None => default_zones(&cluster_domain, rules),
        },
        limits: check.limits(&file.limits),
        metrics,
        metrics_optional,
        coredns_names: file.metrics.coredns_names.unwrap_or(false),
        health,
        health_also,
        lame_duck,
        log: Log { format: file.log.format.unwrap_or_default(), level: file.log.level.unwrap_or_default() },
        cluster_domain,
        listen,
    };
    check.ports(&config);
    check.loops(&config);
    config
}

/// The cluster's own names by kube-dns, all else by the node's servers.
fn default_zones(cluster_domain: &str, rules: Rules) -> Vec<Zone> {
    let zone = |names: &[&str], to: Target| Zone {
        names: names.iter().map(|&n| n.to_owned()).collect(),
        listen: Vec::new(),
        forwards: vec![forward::plain(vec![to])],
        ttls: rules.ttls,
        serve_stale: rules.serve_stale(),
        prefetch: rules.prefetch(),
        log: None,
        errors: None,
        keep: Keep::default(),
        nsid: None,
        rewrite: Vec::new(),
        dns64: None,
        acl: Vec::new(),
        load_balance: None,
        hosts: None,
        respond: Vec::new(),
        whoami: false,
        refuse_any: false,
        minimal_responses: false,
    };
    vec![
        zone(&[cluster_domain, "in-addr.arpa", "ip6.arpa"], Target::KubeDns { port: limits::UPSTREAM_PORT }),
        zone(&["."], Target::ResolvConf("/etc/resolv.conf".into())),
    ]
}

/// What the rules need: where keys stand, and where problems go.
pub(super) struct Check<'a> {
    /// The address of the Service `kube-dns` by the environment, or what that says instead of one.
    service: Option<Result<IpAddr, String>>,
    origins: &'a Origins,
    /// Keys that the schema check found fault with.
    suspect: Vec<String>,
    problems: &'a mut Problems,
    warnings: &'a mut Problems,
}

impl Check<'_> {
    fn listen(&mut self, given: &file::Listen) -> Listen {
        let port = given.port.and_then(|p| u16::try_from(p).ok()).unwrap_or(limits::PORT.default as u16);
        let mut addresses: Vec<SocketAddr> = match &given.addresses {
            None => vec![SocketAddr::new(limits::LISTEN_ADDRESS.into(), port)],
            Some(list) => self.listen_addresses(list, port),
        };
        const KEY: &str = "listen.addresses";
        self.at_most(&mut addresses, limits::MAX_LISTEN, KEY);
        self.unique(&addresses, KEY);
        if addresses.is_empty() {
            self.problem(KEY, "an empty list: nobody could ask");
        }
        for (i, address) in addresses.iter().map(SocketAddr::ip).enumerate() {
            let why = match address {
                a if a.is_unspecified() && given.any_address == Some(true) => continue,
                a if a.is_unspecified() => {
                    "is a wildcard: anybody who reaches the node could ask; write exact addresses, or listen.anyAddress: true"
                }
                a if a.is_multicast() => "is a multicast address; queries come to a unicast one",
                IpAddr::V4(a) if a.is_broadcast() => "is the broadcast address; queries come to a unicast one",
                IpAddr::V6(a) if a.is_unicast_link_local() => {
                    "is link-local and would need an interface's name; use a unique local address (fd00::/8)"
                }
                _ => continue,
            };
            self.problem(&format!("{KEY}[{i}]"), format!("{address} {why}"));
        }
        let workers = given.workers.as_ref().map_or(Workers::Auto, |text| text.0);
        if let Workers::Count(n) = workers {
            self.within(n, limits::WORKERS, |n| n.to_string(), "listen.workers");
        }
        let mut allow_from: Vec<_> = given.allow_from.iter().flatten().map(|text| text.0).collect();
        if given.allow_from.is_some() && allow_from.is_empty() {
            self.problem("listen.allowFrom", "an empty list: nobody could ask; leave the key out to allow everyone");
        }
        self.at_most(&mut allow_from, limits::MAX_NETWORKS, "listen.allowFrom");
        let everyone = |v4: bool| allow_from.iter().any(|n| n.prefix_len() == 0 && n.addr().is_ipv4() == v4);
        if everyone(true) && everyone(false) {
            allow_from.clear();
        }
        let is_service = |list: &Vec<Text<Place>>| list.iter().any(|text| text.0.is_service());
        let service_missing = self.service.is_none() && given.addresses.as_ref().is_some_and(is_service);
        Listen { addresses, service_missing, port, workers, allow_from, timeouts: self.timeouts(&given.timeouts) }
    }

    /// The listen addresses as they are here.
    fn listen_addresses(&mut self, list: &[Text<Place>], port: u16) -> Vec<SocketAddr> {
        let service = self.service_address();
        for (i, _) in list.iter().enumerate().filter(|(_, text)| text.0.is_service()) {
            let key = format!("listen.addresses[{i}]");
            match &self.service {
                Some(Ok(_)) => {}
                Some(Err(value)) => {
                    self.problem(&key, format!("{} is {value}, not an IP address", limits::SERVICE_VARIABLE))
                }
                None => {
                    let message = format!(
                        "{} is not set: here {service} stands for it; a pod in the namespace of the Service kube-dns has it",
                        limits::SERVICE_VARIABLE
                    );
                    self.warnings.push(self.origins.problem(&key, message));
                }
            }
        }
        list.iter().map(|text| text.0.at(port, service)).collect()
    }

    /// The address of the Service `kube-dns`, or one that nobody has, so that all the rest can be judged.
    fn service_address(&self) -> IpAddr {
        self.service.as_ref().and_then(|found| found.as_ref().ok().copied()).unwrap_or(limits::NO_SERVICE.into())
    }

    fn network(&mut self, given: &file::Network, listen: &Listen, cluster_domain: &str) -> Network {
        let file::Interface { manage, name, kind, keep } = &given.interface;
        let name = name.as_ref().map_or(limits::INTERFACE_NAME, |text| &text.0.0).to_owned();
        let interface = Interface { name, kind: kind.unwrap_or_default(), keep: keep.unwrap_or(false) };
        let firewall = given.firewall.unwrap_or_default();
        let fail_open = &given.fail_open;
        let endpoint = fail_open.endpoints.as_ref().map_or_else(
            || Endpoint::Name {
                host: format!("{}.{cluster_domain}", limits::FAIL_OPEN_SERVICE),
                port: limits::FAIL_OPEN_PORT,
            },
            |text| text.0.clone(),
        );
        let ours = |ip: &IpAddr| matches!(&endpoint, Endpoint::Address(server) if is_same(*ip, server.ip()));
        if listen.addresses.iter().map(SocketAddr::ip).any(|ip| ours(&ip)) {
            let message = format!("{endpoint} is where nodens itself listens: nobody would answer when it does not");
            self.problem("network.failOpen.endpoints", message);
        }
        let enabled = fail_open.enabled.unwrap_or(true);
        let asked_for = fail_open.enabled == Some(true) || (enabled && fail_open.endpoints.is_some());
        if firewall == Firewall::None && asked_for {
            let message = "has no effect: it takes rules, and with network.firewall none nobody writes any";
            self.warnings.push(self.origins.problem("network.failOpen", message));
        }
        Network {
            addresses: self.network_addresses(given, listen),
            interface: manage.unwrap_or(true).then_some(interface),
            firewall,
            fail_open: (enabled && firewall != Firewall::None).then_some(endpoint),
        }
    }

    fn zones(&mut self, given: &[file::Zone], global: Rules, listen: &Listen) -> Vec<Zone> {
        if given.is_empty() {
            self.problem("zones", "no zones: every name would be refused; leave the key out for the default ones");
        }
        let mut given: Vec<&file::Zone> = given.iter().collect();
        self.at_most(&mut given, limits::MAX_ZONES, "zones");
        let mut taken: HashMap<String, Vec<(Vec<SocketAddr>, String)>> = HashMap::new();
        let mut count = 0;
        let mut zones = Vec::new();
        for (i, zone) in given.iter().enumerate() {
            let key = format!("zones[{i}]");
            let names: Vec<String> = zone.r#match.iter().flatten().map(|text| text.0.0.clone()).collect();
            if zone.r#match.is_some() && names.is_empty() {
                self.problem(&format!("{key}.match"), "an empty list: the zone would match nothing");
            }
            let places = self.places(zone, listen, &key);
            for (n, name) in names.iter().enumerate() {
                let at = format!("{key}.match[{n}]");
                count += 1;
                let others = taken.entry(name.clone()).or_default();
                let meets = |other: &[SocketAddr]| {
                    other.is_empty() || places.is_empty() || other.iter().any(|place| places.contains(place))
                };
                if let Some((_, first)) = others.iter().find(|(other, _)| meets(other)) {
                    let line = self.origins.line(first).map(|l| format!(", line {l}")).unwrap_or_default();
                    self.problem(&at, format!("\"{name}\" is matched already ({first}{line})"));
                } else {
                    others.push((places.clone(), at));
                }
            }
            let forwards = self.forwards(zone, &names, &key);
            let answers = zone.hosts.is_some() || zone.respond.is_some() || zone.whoami == Some(true);
            if forwards.is_empty() && !answers && !self.is_suspect(&key) {
                let message = "no forward: every name of this zone fails (SERVFAIL)";
                self.warning(&key, message);
            }
            let rules = self.zone_rules(global, &zone.cache, &format!("{key}.cache"));
            let (serve_stale, prefetch) = (rules.serve_stale(), rules.prefetch());
            let keep = keep(&zone.cache);
            let (ttls, nsid) = (rules.ttls, self.nsid(zone, &key));
            let hosts = zone.hosts.as_ref().map(|hosts| self.hosts(hosts, &names, &format!("{key}.hosts")));
            let respond = zone.respond.as_deref().unwrap_or_default();
            zones.push(Zone {
                respond: self.respond(respond, &names, &format!("{key}.respond")),
                names,
                listen: places,
                forwards,
                whoami: zone.whoami.unwrap_or_default(),
                refuse_any: zone.refuse_any.unwrap_or_default(),
                minimal_responses: zone.minimal_responses.unwrap_or_default(),
                ttls,
                serve_stale,
                prefetch,
                keep,
                nsid,
                rewrite: self.rewrite(&zone.rewrite, &format!("{key}.rewrite")),
                dns64: zone.dns64.as_ref().map(|given| self.dns64(given, &format!("{key}.dns64"))),
                acl: self.acl(&zone.acl, &format!("{key}.acl")),
                load_balance: zone.load_balance.as_ref().map(|g| self.load_balance(g, &format!("{key}.loadBalance"))),
                log: self.query_log(zone.log.as_ref(), &format!("{key}.log")),
                errors: self.errors(zone.errors.as_ref(), &format!("{key}.errors")),
                hosts,
            });
        }
        if count > limits::MAX_NAMES {
            self.problem("zones", format!("more than {} names", limits::MAX_NAMES));
        }
        if !given.is_empty() && !taken.contains_key(".") && !self.is_suspect("zones") {
            let message = "no zone matches \".\": names outside these zones will be refused";
            self.warnings.push(self.origins.problem("zones", message));
        }
        zones
    }

    /// Where the queries come in that `zone` is for.
    fn places(&mut self, zone: &file::Zone, listen: &Listen, key: &str) -> Vec<SocketAddr> {
        let (key, service) = (format!("{key}.listen"), self.service_address());
        let mut places: Vec<SocketAddr> =
            zone.listen.iter().flatten().map(|text| text.0.at(listen.port, service)).collect();
        self.at_most(&mut places, limits::MAX_LISTEN, &key);
        if zone.listen.is_some() && places.is_empty() {
            self.problem(&key, "an empty list: no query would come to the zone");
        }
        for (i, place) in places.iter().enumerate() {
            if !listen.addresses.contains(place) && !self.is_suspect("listen.addresses") {
                self.problem(&format!("{key}[{i}]"), format!("{place} is not among listen.addresses"));
            }
        }
        places
    }

    fn nsid(&mut self, zone: &file::Zone, key: &str) -> Option<String> {
        let name = zone.nsid.clone()?;
        if name.is_empty() || name.len() > limits::MAX_NSID {
            self.problem(&format!("{key}.nsid"), format!("must have between 1 and {} octets", limits::MAX_NSID));
        }
        Some(name)
    }

    fn answers(&mut self, given: &file::Answers) -> Answers {
        let size = given.udp_size.and_then(|size| u16::try_from(size).ok());
        let udp_size = size.unwrap_or(limits::UDP_ANSWER.default as u16);
        Answers { style: given.style.unwrap_or_default(), udp_size }
    }

    fn cluster_domain(&mut self, given: &file::Kubernetes) -> String {
        let name = given.cluster_domain.as_ref().map_or(limits::CLUSTER_DOMAIN, |text| &text.0.0);
        if name == "." {
            self.problem("kubernetes.clusterDomain", "the root cannot be the cluster's domain");
        }
        name.to_owned()
    }

    fn limits(&mut self, given: &file::Limits) -> Limits {
        let mut pair = |all, one: Option<u64>, limit_all, limit_one: Limit<u64>, keys: (&str, &str)| {
            let all = count(all, limit_all);
            if one.is_some_and(|one| one > all as u64) {
                self.problem(keys.1, format!("{} is more than {}, {all}", count(one, limit_one), keys.0));
            }
            (all, count(one, limit_one).min(all))
        };
        let (in_flight, in_flight_per_client) = pair(
            given.in_flight,
            given.in_flight_per_client,
            limits::IN_FLIGHT,
            limits::IN_FLIGHT_PER_CLIENT,
            ("limits.inFlight", "limits.inFlightPerClient"),
        );
        let (tcp_connections, tcp_connections_per_client) = pair(
            given.tcp_connections,
            given.tcp_connections_per_client,
            limits::TCP_CONNECTIONS,
            limits::TCP_CONNECTIONS_PER_CLIENT,
            ("limits.tcpConnections", "limits.tcpConnectionsPerClient"),
        );
        Limits { in_flight, in_flight_per_client, tcp_connections, tcp_connections_per_client }
    }

    fn metrics(&mut self, given: &file::Metrics) -> Vec<SocketAddr> {
        let mut addresses = match &given.listen {
            Some(list) => list.iter().map(|text| text.0).collect(),
            None => vec![limits::METRICS_ADDRESS],
        };
        self.at_most(&mut addresses, limits::MAX_LISTEN, "metrics.listen");
        addresses
    }

    /// No two TCP listeners may want the same port of the same address.
    fn ports(&mut self, config: &Config) {
        let listen = config.listen.addresses.iter().enumerate();
        let listen = listen.map(|(i, address)| (*address, format!("listen.addresses[{i}]")));
        let metrics = config.metrics.iter().enumerate().map(|(i, a)| (*a, format!("metrics.listen[{i}]")));
        let health = config.health.map(|a| (a, "health.listen".to_owned()));
        let also = config.health_also.iter().enumerate().map(|(i, a)| (*a, format!("health.also[{i}]")));
        let all: Vec<(SocketAddr, String)> = listen.chain(metrics).chain(health).chain(also).collect();
        for (i, (address, key)) in all.iter().enumerate() {
            let clash = all[..i].iter().find(|(other, _)| overlap(address, other));
            // Two listen addresses that are the same are reported as such.
            if let Some((other, first)) = clash.filter(|_| !key.starts_with("listen.")) {
                self.problem(key, format!("{address} is taken by {first} ({other}); give one of them another port"));
            }
        }
    }

    /// A length of time within `limit`; `otherwise` if none is written.
    pub(super) fn span(
        &mut self,
        given: &Option<Text<Span>>,
        limit: Limit<Duration>,
        otherwise: Duration,
        key: &str,
    ) -> Duration {
        let Some(Text(Span(span))) = given else { return otherwise };
        match self.within(*span, limit, |d| Span(*d).to_string(), key) {
            true => *span,
            false => otherwise,
        }
    }

    /// Whether `value` is within `limit`; reports it if not.
    pub(super) fn within<T: PartialOrd>(
        &mut self,
        value: T,
        limit: Limit<T>,
        show: fn(&T) -> String,
        key: &str,
    ) -> bool {
        let fits = limit.allows(&value);
        if !fits {
            let range = format!("must be between {} and {}", show(&limit.min), show(&limit.max));
            self.problem(key, format!("{} is out of range: {range}", show(&value)));
        }
        fits
    }

    /// Reports a list that is too long, and cuts it so that comparing its entries stays cheap.
    pub(super) fn at_most<T>(&mut self, list: &mut Vec<T>, most: usize, key: &str) {
        if list.len() > most {
            self.problem(key, format!("{} entries; at most {most} are possible", list.len()));
            list.truncate(most);
        }
    }

    /// Reports entries that stand in `list` before.
    pub(super) fn unique<T: PartialEq + std::fmt::Display>(&mut self, list: &[T], key: &str) {
        for (i, item) in list.iter().enumerate() {
            if list.iter().take(i).any(|other| other == item) {
                self.problem(&format!("{key}[{i}]"), format!("{item} is listed twice"));
            }
        }
    }

    /// Reports what is wrong with `key`.
    pub(super) fn problem(&mut self, key: &str, message: impl Into<String>) {
        // Indexes shift where a bad entry was left out: the whole list is suspect then.
        let list = if key.ends_with(']') { key.rfind('[').map_or(key, |end| &key[..end]) } else { key };
        if !self.is_suspect(list) {
            self.problems.push(self.origins.problem(key, message));
        }
    }

    /// Reports what is odd about `key`.
    pub(super) fn warning(&mut self, key: &str, message: impl Into<String>) {
        self.warnings.push(self.origins.problem(key, message));
    }

    /// Whether the schema check found fault with `key` or anything below it.
    pub(super) fn is_suspect(&self, key: &str) -> bool {
        self.suspect.iter().any(|s| is_within(s, key))
    }
}

/// A number whose range the schema has checked.
fn count(given: Option<u64>, limit: Limit<u64>) -> usize {
    usize::try_from(given.unwrap_or(limit.default)).unwrap_or(usize::MAX)
}

/// Whether two addresses are one, however written.
fn is_same(a: IpAddr, b: IpAddr) -> bool {
    a.to_canonical() == b.to_canonical()
}

/// Whether binding one address leaves no room for the other; `[::]` takes IPv4 too.
fn overlap(a: &SocketAddr, b: &SocketAddr) -> bool {
    let covers = |wide: IpAddr, narrow: IpAddr| match wide {
        IpAddr::V4(v4) => v4.is_unspecified() && narrow.is_ipv4(),
        IpAddr::V6(v6) => v6.is_unspecified(),
    };
    a.port() == b.port() && (a.ip() == b.ip() || covers(a.ip(), b.ip()) || covers(b.ip(), a.ip()))
}
