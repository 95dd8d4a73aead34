//! The configuration: file → typed → validated. What leaves this module is a [`Config`]: plain values, every
//! default filled in, every rule checked, nothing of YAML left.
//!
//! `tree` reads the text, `shape` checks it against the schema of `file`, `check` resolves and validates, `load`
//! joins them with the command line. Nothing here opens a socket or looks up a name.

mod address;
mod check;
#[allow(dead_code, unused_imports, reason = "read by the lowering")]
mod corefile;
mod file;
mod later;
pub mod limits;
mod load;
mod network;
pub mod node_cache;
mod problem;
pub mod reload;
pub mod resolvconf;
mod rules;
mod shape;
mod source;
pub mod template;
#[cfg(test)]
mod tests;
mod text;
mod tree;
mod views;
mod yaml;

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;

pub use address::{Scheme, Secure, Target};
#[doc(hidden)]
pub use corefile::read_corefile;
pub use file::{AnswerStyle, Firewall, InterfaceKind, LogFormat, LogLevel, Policy, Protocol, ReplyCode, schema};
pub use load::{Loaded, Overrides, fingerprint, load, load_bytes, load_corefile, load_str, read};
pub use network::{Endpoint, Interface, Network};
pub use problem::{Problem, Problems};
pub use rules::acl::{AclAction, AclRule};
pub use rules::dns64::Dns64;
pub use rules::hosts::Hosts;
pub use rules::load_balance::{LoadBalance, Weights};
pub use rules::respond::{Records, Respond};
pub use rules::rewrite::{Action, Change, EdnsOption, Kind, Rewrite};
pub use rules::{Consolidate, ErrorLevel, Errors, LogClass, QueryLog};
pub use source::Source;
pub use text::Workers;
pub use views::View;

/// A valid configuration, complete with defaults.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Where queries are taken.
    pub listen: Listen,
    /// What is to be made of the node's network for that.
    pub network: Network,
    /// How answers are written.
    pub answers: Answers,
    /// The cache.
    pub cache: Cache,
    /// Who is asked for which names; at least one, no name in two of them.
    pub zones: Vec<Zone>,
    /// How much work is taken on at once.
    pub limits: Limits,
    /// Where metrics are served; may be empty.
    pub metrics: Vec<SocketAddr>,
    /// The same, where the port can be had.
    pub metrics_optional: Vec<SocketAddr>,
    /// Whether metrics have CoreDNS's names, too.
    pub coredns_names: bool,
    /// Where health checks are answered.
    pub health: Option<SocketAddr>,
    /// Where they are answered besides.
    pub health_also: Vec<SocketAddr>,
    /// How long queries are still taken once `/ready` has fallen, before a stop.
    pub lame_duck: Duration,
    /// What is logged.
    pub log: Log,
    /// The domain of the cluster, written like [`Zone::names`].
    pub cluster_domain: String,
}

/// Where queries are taken, over UDP and TCP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listen {
    /// Where exactly, at least one place; wildcards only where they were asked for.
    pub addresses: Vec<SocketAddr>,
    /// Whether one of them should be that of the Service `kube-dns`, which the environment does not say.
    pub service_missing: bool,
    /// The port of those that were written without one: the one that the node's network is about.
    pub port: u16,
    /// UDP workers.
    pub workers: Workers,
    /// Networks that may ask; empty for everyone.
    pub allow_from: Vec<IpNet>,
    /// How long TCP clients may take.
    pub timeouts: Timeouts,
}

/// How long TCP clients may take; what is not said is for the server to choose.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Timeouts {
    /// Until the first query is there.
    pub read: Option<Duration>,
    /// To take an answer.
    pub write: Option<Duration>,
    /// Between an answer and the next query.
    pub idle: Option<Duration>,
}

/// How answers are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answers {
    /// What they look like where the standards leave a choice.
    pub style: AnswerStyle,
    /// The largest one over UDP, in octets.
    pub udp_size: u16,
}

/// The cache.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cache {
    /// Memory for cached answers, in bytes.
    pub max_bytes: u64,
    /// Where answers are kept over a restart, if they are.
    pub persist: Option<Persist>,
}

/// Where answers are kept over a restart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Persist {
    /// The file; absolute.
    pub path: PathBuf,
    /// How often it is written.
    pub interval: Duration,
}

/// Answers after their lifetime, while no newer ones can be had (RFC 8767).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ServeStale {
    /// How long after the end of its lifetime an answer may be given out.
    pub max_age: Duration,
    /// The TTL that it shows then.
    pub answer_ttl: Duration,
    /// How long a client waits for a newer one first.
    pub client_wait: Duration,
    /// How long after a failure the next attempt is made.
    pub recheck: Duration,
    /// Whether NXDOMAIN and answers without data count as failures while there is data.
    pub prefer_positive: bool,
}

/// Answers that are asked for often are renewed before they expire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Prefetch {
    /// How often an answer must be asked for in the last part of its life.
    pub min_hits: u8,
    /// How long that part is, in percent of its lifetime.
    pub remaining: u8,
}

/// Bounds of the lifetimes of answers; no minimum is above its maximum.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ttls {
    /// Shortest lifetime of an answer with data.
    pub positive_min: Duration,
    /// Longest lifetime of an answer with data.
    pub positive_max: Duration,
    /// Shortest lifetime of NXDOMAIN and NODATA.
    pub negative_min: Duration,
    /// Longest lifetime of NXDOMAIN and NODATA.
    pub negative_max: Duration,
    /// How long a failure is remembered.
    pub failure: Duration,
}

/// Who is asked for the names at and below some domains.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Zone {
    /// Absolute names, lower-case, without the trailing dot; the root is `.`. At least one.
    pub names: Vec<String>,
    /// For queries that come to these of the listen addresses alone; empty for all.
    pub listen: Vec<SocketAddr>,
    /// Whom to ask and how: the first that is for the name. Without any, nobody is asked.
    pub forwards: Vec<Forward>,
    /// Lifetimes: the zone's own over the global ones.
    pub ttls: Ttls,
    /// Whether stale answers are given, and how.
    pub serve_stale: Option<ServeStale>,
    /// Whether answers are renewed before they expire, and which.
    pub prefetch: Option<Prefetch>,
    /// Which answers are kept.
    pub keep: Keep,
    /// The name that clients are told who ask for it.
    pub nsid: Option<String>,
    /// Rules that alter questions and answers, in order.
    pub rewrite: Vec<Rewrite>,
    /// Whether IPv6 addresses are made of IPv4 ones, and how.
    pub dns64: Option<Dns64>,
    /// Who may ask what, in order.
    pub acl: Vec<AclRule>,
    /// In which order addresses are given, if in any.
    pub load_balance: Option<LoadBalance>,
    /// Whether queries are logged, and how.
    pub log: Option<QueryLog>,
    /// Whether failures are logged as CoreDNS does, and how.
    pub errors: Option<Errors>,
    /// Names with fixed addresses.
    pub hosts: Option<Hosts>,
    /// What is answered by templates, in order.
    pub respond: Vec<Respond>,
    /// Whether every question is answered with who asks it.
    pub whoami: bool,
    /// Whether questions of type ANY are answered with next to nothing (RFC 8482).
    pub refuse_any: bool,
    /// Whether answers with data go without the other sections.
    pub minimal_responses: bool,
}

/// Which answers are kept. Names are written like [`Zone::names`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Keep {
    /// Any at all?
    pub enabled: bool,
    /// Those of names at or below these alone; empty for all.
    pub only: Vec<String>,
    /// None with data of names at or below these.
    pub never_positive: Vec<String>,
    /// None without data of names at or below these.
    pub never_negative: Vec<String>,
    /// Hits show the TTL that the answer came with.
    pub whole_ttl: bool,
}

impl Default for Keep {
    fn default() -> Keep {
        let none = Vec::new;
        Keep { enabled: true, only: none(), never_positive: none(), never_negative: none(), whole_ttl: false }
    }
}

/// Whom to ask and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Forward {
    /// The servers, at least one, in the order written.
    pub to: Vec<Target>,
    /// How they are spoken to.
    pub protocol: Protocol,
    /// Which is asked first.
    pub policy: Policy,
    /// How long one attempt at one server may take.
    pub timeout: Duration,
    /// Most TCP connections to each server.
    pub max_connections: usize,
    /// Whose certificates encrypted servers must have, PEM; those that the system trusts when none is named.
    pub ca: Option<PathBuf>,
    /// Who we prove to be to encrypted servers.
    pub identity: Option<Identity>,
    /// Only names at and below this one are asked for; written like [`Zone::names`].
    pub from: String,
    /// Names at and below these are not, but `from` itself always is.
    pub except: Vec<String>,
    /// Replies upon which the next forward of the zone is asked.
    pub next: Vec<ReplyCode>,
    /// Replies upon which another server is asked; never NOERROR.
    pub failover: Vec<ReplyCode>,
    /// Whether a query fails at once while all servers are known to be down.
    pub fail_fast: bool,
    /// Queries of this zone that may be under way; more are refused.
    pub max_concurrent: Option<usize>,
    /// How long a TCP connection is kept that nobody uses.
    pub idle: Duration,
    /// How old a TCP connection may be to take queries; any age when `None`.
    pub max_age: Option<Duration>,
    /// The address that queries are sent from.
    pub source: Option<IpAddr>,
}

/// Files, PEM, that prove who we are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The certificate.
    pub certificate: PathBuf,
    /// Its private key.
    pub key: PathBuf,
}

/// How much work is taken on at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Questions waiting for an upstream.
    pub in_flight: usize,
    /// The same for one client; no more than `in_flight`.
    pub in_flight_per_client: usize,
    /// Open TCP connections of clients.
    pub tcp_connections: usize,
    /// The same for one client; no more than `tcp_connections`.
    pub tcp_connections_per_client: usize,
}

/// What is logged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Log {
    /// How a line looks.
    pub format: LogFormat,
    /// The least important that is logged.
    pub level: LogLevel,
}

impl Default for Config {
    /// What holds without a file and without arguments.
    fn default() -> Config {
        check::defaults()
    }
}
