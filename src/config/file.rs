//! The configuration file as it is written: every key optional, nothing checked beyond the type of each value.
//!
//! The doc comments are the descriptions in the JSON schema, which in turn is what the text is checked against
//! (`shape.rs`). Keys of features that are not built yet are not here but in `later.rs`.

mod forward;

use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;
use schemars::transform::RecursiveTransform;
use schemars::{JsonSchema, Schema};
use serde::Deserialize;

use crate::config::address::{Name, Place};
use crate::config::limits;
use crate::config::network::{Endpoint, InterfaceName};
use crate::config::rules::{ErrorsRule, LogRule};
use crate::config::rules::{acl, dns64, load_balance, rewrite};
use crate::config::rules::{hosts, respond};
use crate::config::text::{Percent, Size, Span, Text, Workers};
pub(super) use forward::Forward;
pub use forward::{Policy, Protocol, ReplyCode};

/// Configuration of nodens, the NodeLocal DNS cache. Every key is optional.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct File {
    /// Where queries are taken, over UDP and TCP.
    pub(super) listen: Listen,
    /// The node's network: what brings queries here, and where they go when nobody answers here.
    pub(super) network: Network,
    /// How answers are written.
    pub(super) answers: Answers,
    /// How much is cached, and for how long.
    pub(super) cache: Cache,
    /// Who is asked for which names; the longest match wins, a name that matches none is refused. Default: the
    /// cluster domain, in-addr.arpa and ip6.arpa by kube-dns, all else by the servers in /etc/resolv.conf.
    pub(super) zones: Option<Vec<Zone>>,
    /// The cluster.
    pub(super) kubernetes: Kubernetes,
    /// How much work is taken on at once.
    pub(super) limits: Limits,
    /// Metrics for Prometheus.
    pub(super) metrics: Metrics,
    /// Health checks: /health (alive) and /ready (really answers).
    pub(super) health: Health,
    /// What is logged.
    pub(super) log: Log,
}

/// Where queries are taken, over UDP and TCP.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Listen {
    /// Exact addresses, IPv4 and IPv6 together: ADDRESS[:PORT], or kube-dns for the address of that Service by the
    /// environment variable KUBE_DNS_SERVICE_HOST. Default: 169.254.20.10. Takes a restart.
    pub(super) addresses: Option<Vec<Text<Place>>>,
    /// Whether 0.0.0.0 and [::] may stand among the addresses. Default: false.
    pub(super) any_address: Option<bool>,
    /// The port on all of them that have none of their own. Default: 53. Takes a restart.
    #[schemars(range(min = limits::PORT.min, max = limits::PORT.max))]
    pub(super) port: Option<u64>,
    /// UDP workers: a number from 1 to 64, or auto. Default: auto. Takes a restart.
    pub(super) workers: Option<Text<Workers>>,
    /// Networks that may ask; others are refused. Default: all. Takes a restart.
    pub(super) allow_from: Option<Vec<Text<IpNet>>>,
    /// How long TCP clients may take.
    pub(super) timeouts: Timeouts,
}

/// How long TCP clients may take, each from 1s to 1d. Less if there are many of them.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Timeouts {
    /// Until the first query is there. Default: as idle.
    pub(super) read: Option<Text<Span>>,
    /// To take an answer. Default: as idle.
    pub(super) write: Option<Text<Span>>,
    /// Between an answer and the next query. Default: 10s.
    pub(super) idle: Option<Text<Span>>,
}

/// How answers are written.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Answers {
    /// What they look like where the standards leave a choice. Default: nodens. Takes a restart.
    pub(super) style: Option<AnswerStyle>,
    /// The largest UDP answer in octets, if the client takes as much. Default: 1232. Takes a restart.
    #[schemars(range(min = limits::UDP_ANSWER.min, max = limits::UDP_ANSWER.max))]
    pub(super) udp_size: Option<u64>,
}

/// What answers look like where the standards leave a choice.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum AnswerStyle {
    /// As the standards advise a cache.
    #[default]
    Nodens,
    /// As CoreDNS writes them: one TTL for all records, AA on answers from the cache, AD as the upstream says, EDNS size
    /// and options of the client given back.
    Coredns,
}

/// The node's network: what brings queries here, and where they go when nobody answers here. Nothing of it is touched
/// for loopback addresses.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Network {
    /// The addresses of the interface and of the rules. Default: the listen addresses. Takes a restart.
    pub(super) addresses: Option<Vec<Text<IpAddr>>>,
    /// The interface that holds the listen addresses.
    pub(super) interface: Interface,
    /// Who writes the rules that keep packets out of connection tracking. Default: auto. Takes a restart.
    pub(super) firewall: Option<Firewall>,
    /// Who answers when nodens does not.
    pub(super) fail_open: FailOpen,
}

impl Network {
    /// The one that asks for nothing.
    pub(super) fn off() -> Network {
        Network {
            addresses: None,
            interface: Interface { manage: Some(false), ..Interface::default() },
            firewall: Some(Firewall::None),
            fail_open: FailOpen { enabled: Some(false), ..FailOpen::default() },
        }
    }
}

/// The interface that holds the listen addresses.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Interface {
    /// Whether to make it; if not, the addresses must exist. Default: true. Takes a restart.
    pub(super) manage: Option<bool>,
    /// Its name. Default: nodelocaldns. Takes a restart.
    pub(super) name: Option<Text<InterfaceName>>,
    /// What it is made of. Default: auto. Takes a restart.
    pub(super) kind: Option<InterfaceKind>,
    /// Whether it stays when nodens stops, unless it is a TUN device, which cannot. Default: false. Takes a restart.
    pub(super) keep: Option<bool>,
}

/// Who answers when nodens does not.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct FailOpen {
    /// Whether queries then go to the servers named by endpoints. Default: true. Takes a restart.
    pub(super) enabled: Option<bool>,
    /// NAME[:PORT] of a headless Service that selects the kube-dns pods, or one ADDRESS[:PORT]. Default:
    /// kube-dns-endpoints.kube-system.svc and the cluster domain, port 53. Takes a restart.
    pub(super) endpoints: Option<Text<Endpoint>>,
}

/// How much is cached, and for how long.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Cache {
    /// Memory for cached answers, from 1Mi to 64Gi. Default: 64Mi. Takes a restart.
    pub(super) max_bytes: Option<Text<Size>>,
    /// Lifetimes of answers with data. Default: 0s to 30s.
    pub(super) positive: TtlRange,
    /// Lifetimes of NXDOMAIN and of answers without data. Default: 0s to 5s.
    pub(super) negative: TtlRange,
    /// How long a failure to get an answer is remembered, at most 5m. Default: 5s.
    pub(super) failure_ttl: Option<Text<Span>>,
    /// Answers after their lifetime, while no newer ones can be had.
    pub(super) serve_stale: ServeStale,
    /// Answers that are asked for often are renewed before they expire.
    pub(super) prefetch: Prefetch,
    /// Answers are kept over a restart. Default: they are not. Takes a restart.
    pub(super) persist: Option<Persist>,
}

/// Answers after their lifetime, while no newer ones can be had (RFC 8767).
#[derive(Clone, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct ServeStale {
    /// Whether they are given. Default: true.
    pub(super) enabled: Option<bool>,
    /// For how long after the end of their lifetime, at most 7d. Default: 1h.
    pub(super) max_age: Option<Text<Span>>,
    /// The TTL that they show, at most 1h. Default: 30s.
    pub(super) answer_ttl: Option<Text<Span>>,
    /// How long a client waits for a newer answer first, at most 4500ms. Default: 1800ms.
    pub(super) client_wait: Option<Text<Span>>,
    /// How long after a failure the upstream is asked again, from 1s to 5m. Default: 30s.
    pub(super) recheck: Option<Text<Span>>,
    /// Whether NXDOMAIN and answers without data count as failures while there is an answer with data. Default: false.
    pub(super) prefer_positive: Option<bool>,
}

/// Answers that are asked for often are renewed before they expire.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Prefetch {
    /// Whether they are. Default: true.
    pub(super) enabled: Option<bool>,
    /// How often an answer must be asked for in the last part of its life. Default: 2.
    #[schemars(range(min = limits::MIN_HITS.min, max = limits::MIN_HITS.max))]
    pub(super) min_hits: Option<u64>,
    /// How long that part is, from 1% to 90% of its lifetime. Default: 10%.
    pub(super) remaining: Option<Text<Percent>>,
}

/// Answers are kept over a restart.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Persist {
    /// The file they are kept in; its folder must exist. Takes a restart.
    #[schemars(required)]
    pub(super) path: Option<String>,
    /// How often it is written, from 1s to 1d. Default: 60s. Takes a restart.
    pub(super) interval: Option<Text<Span>>,
}

/// Between which bounds the lifetime of an answer is brought.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct TtlRange {
    /// Lifetimes below it are raised to it; at most 1h.
    pub(super) min_ttl: Option<Text<Span>>,
    /// Lifetimes above it are cut to it; at most 7d for answers with data, 1d for those without.
    pub(super) max_ttl: Option<Text<Span>>,
}

/// Between which bounds the lifetime of an answer is brought, and which are not kept.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct ZoneTtlRange {
    /// Lifetimes below it are raised to it; at most 1h.
    pub(super) min_ttl: Option<Text<Span>>,
    /// Lifetimes above it are cut to it; at most 7d for answers with data, 1d for those without.
    pub(super) max_ttl: Option<Text<Span>>,
    /// The names, with those below them, whose answers of this kind are not cached. Default: none.
    pub(super) never: Option<Vec<Text<Name>>>,
}

impl ZoneTtlRange {
    /// The bounds alone.
    pub(super) fn range(&self) -> TtlRange {
        TtlRange { min_ttl: self.min_ttl.clone(), max_ttl: self.max_ttl.clone() }
    }
}

/// Who is asked for the names at and below some domains.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Zone {
    /// The domains; the root "." is every name that no other zone matches.
    #[schemars(required)]
    pub(super) r#match: Option<Vec<Text<Name>>>,
    /// The listen addresses, as they are written there, for whose queries alone this zone is. Default: all.
    pub(super) listen: Option<Vec<Text<Place>>>,
    /// The servers to ask and how. Default: nobody is asked.
    pub(super) forward: Option<Forward>,
    /// More of them, in order: a query goes to the first whose from and except fit its name.
    pub(super) further: Option<Vec<Forward>>,
    /// Lifetimes in this zone, where they differ from those of the top-level cache.
    #[serde(default)]
    pub(super) cache: ZoneCache,
    /// The name that clients are told who ask for it (NSID, RFC 5001). Default: none.
    pub(super) nsid: Option<String>,
    /// Rules that alter questions before they are looked up, and what comes back, in order.
    #[serde(default)]
    pub(super) rewrite: Vec<rewrite::Rule>,
    /// IPv6 addresses for what has IPv4 ones alone (RFC 6147). Default: none.
    pub(super) dns64: Option<dns64::Written>,
    /// Who may ask what; the first rule that fits decides. Default: everybody everything.
    #[serde(default)]
    pub(super) acl: Vec<acl::Rule>,
    /// In which order the addresses of an answer are given. Default: as they come.
    pub(super) load_balance: Option<load_balance::Written>,
    /// A line of the log for each query. Default: none.
    pub(super) log: Option<LogRule>,
    /// A line of the log for each look-up that failed, in CoreDNS's words. Default: none.
    pub(super) errors: Option<ErrorsRule>,
    /// Names with fixed addresses. Default: none.
    pub(super) hosts: Option<hosts::Written>,
    /// What is answered by templates; the first rule that fits decides. Default: nothing.
    pub(super) respond: Option<Vec<respond::Rule>>,
    /// Whether every question is answered with who asks it. Default: false.
    pub(super) whoami: Option<bool>,
    /// Whether questions of type ANY are answered with next to nothing (RFC 8482). Default: false.
    pub(super) refuse_any: Option<bool>,
    /// Whether answers with data go without authority and additional section. Default: false.
    pub(super) minimal_responses: Option<bool>,
}

/// What is cached of one zone, and for how long.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct ZoneCache {
    /// Whether answers are cached at all. Default: true.
    pub(super) enabled: Option<bool>,
    /// The names, with those below them, whose answers alone are cached. Default: all.
    pub(super) only: Option<Vec<Text<Name>>>,
    /// Whether answers from the cache show the TTL that they came with. Default: false.
    pub(super) keep_ttl: Option<bool>,
    /// Lifetimes of answers with data.
    pub(super) positive: ZoneTtlRange,
    /// Lifetimes of NXDOMAIN and of answers without data.
    pub(super) negative: ZoneTtlRange,
    /// How long a failure to get an answer is remembered, at most 5m.
    pub(super) failure_ttl: Option<Text<Span>>,
    /// Answers after their lifetime, while no newer ones can be had.
    pub(super) serve_stale: ServeStale,
    /// Answers that are asked for often are renewed before they expire.
    pub(super) prefetch: Prefetch,
}

/// The cluster.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Kubernetes {
    /// The domain of the cluster. Default: cluster.local.
    pub(super) cluster_domain: Option<Text<Name>>,
}

/// How much work is taken on at once.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Limits {
    /// Questions waiting for an upstream. Default: 10000.
    #[schemars(range(min = limits::IN_FLIGHT.min, max = limits::IN_FLIGHT.max))]
    pub(super) in_flight: Option<u64>,
    /// The same for one client address. Default: 500.
    #[schemars(range(min = limits::IN_FLIGHT_PER_CLIENT.min, max = limits::IN_FLIGHT_PER_CLIENT.max))]
    pub(super) in_flight_per_client: Option<u64>,
    /// Open TCP connections of clients. Default: 2000.
    #[schemars(range(min = limits::TCP_CONNECTIONS.min, max = limits::TCP_CONNECTIONS.max))]
    pub(super) tcp_connections: Option<u64>,
    /// The same for one client address. Default: 100.
    #[schemars(range(min = limits::TCP_CONNECTIONS_PER_CLIENT.min, max = limits::TCP_CONNECTIONS_PER_CLIENT.max))]
    pub(super) tcp_connections_per_client: Option<u64>,
}

/// Metrics for Prometheus.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Metrics {
    /// Where /metrics is served. Default: 0.0.0.0:9253; an empty list serves none. Takes a restart.
    pub(super) listen: Option<Vec<Text<SocketAddr>>>,
    /// The same, but a port that cannot be had is only logged and counted. Takes a restart.
    pub(super) optional: Option<Vec<Text<SocketAddr>>>,
    /// Whether everything is also counted under the names that CoreDNS and node-cache use. Default: false. Takes a restart.
    pub(super) coredns_names: Option<bool>,
}

/// Health checks.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Health {
    /// Whether they are served at all. Default: true. Takes a restart.
    pub(super) enabled: Option<bool>,
    /// Where /health and /ready are served. Default: port 8080 of the first listen address. Takes a restart.
    pub(super) listen: Option<Text<SocketAddr>>,
    /// Where they are served besides. Takes a restart.
    pub(super) also: Option<Vec<Text<SocketAddr>>>,
    /// How long queries are still taken at a stop, once /ready has fallen; at most 1m. Default: 0s. Takes a restart.
    pub(super) lame_duck: Option<Text<Span>>,
}

/// What is logged: to standard error, unless the format says otherwise.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Log {
    /// How a line looks. Default: auto.
    pub(super) format: Option<LogFormat>,
    /// The least important that is logged. Default: info.
    pub(super) level: Option<LogLevel>,
}

/// What the interface is made of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum InterfaceKind {
    /// A dummy link where the kernel has that, else a TUN device.
    #[default]
    Auto,
    /// A dummy link: it stays when nodens dies.
    Dummy,
    /// A TUN device: it goes when nodens dies.
    Tun,
}

/// Who writes the rules that keep packets out of connection tracking.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Firewall {
    /// nftables, unless this host needs iptables.
    #[default]
    Auto,
    /// A table of our own, which goes when nodens dies.
    Nftables,
    /// The iptables commands.
    Iptables,
    /// Nobody: the data plane redirects by itself, or nothing tracks connections.
    None,
}

/// How a log line looks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// Text on a terminal, JSON elsewhere.
    #[default]
    Auto,
    /// One JSON object a line.
    Json,
    /// For people.
    Text,
    /// As CoreDNS writes them, to standard output: the level in brackets, then the text.
    Coredns,
}

/// The least important that is logged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum LogLevel {
    /// What failed and needs somebody.
    Error,
    /// What is wrong but was coped with.
    Warn,
    /// Start, stop, reload, and what changed.
    #[default]
    Info,
    /// What helps to find a fault.
    Debug,
}

/// The JSON schema of the file, for editors and for `nodens config schema`.
pub fn schema() -> serde_json::Value {
    let mut settings = schemars::generate::SchemaSettings::draft2020_12();
    settings.inline_subschemas = true;
    // Defaults stand in the descriptions; a null would say that there are none.
    settings.transforms.push(Box::new(RecursiveTransform(|schema: &mut Schema| {
        if schema.get("default").is_some_and(serde_json::Value::is_null) {
            schema.remove("default");
        }
    })));
    settings.into_generator().into_root_schema_for::<File>().to_value()
}
