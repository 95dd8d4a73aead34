//! Every default and legal range of the configuration, and the fixed numbers that others share with it.
//!
//! A value outside its range is refused with the range named, never clamped in silence. Sources stand beside the
//! numbers; where none stands, the number is a matter of judgement.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

/// The default of a key and the smallest and largest value it may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limit<T> {
    /// What holds when the key is not written.
    pub default: T,
    /// The smallest legal value.
    pub min: T,
    /// The largest legal value.
    pub max: T,
}

impl<T: PartialOrd> Limit<T> {
    /// Whether `value` is legal.
    pub fn allows(&self, value: &T) -> bool {
        *value >= self.min && *value <= self.max
    }
}

const fn limit<T: Copy>(default: T, min: T, max: T) -> Limit<T> {
    Limit { default, min, max }
}

const fn seconds(default: u64, min: u64, max: u64) -> Limit<Duration> {
    limit(Duration::from_secs(default), Duration::from_secs(min), Duration::from_secs(max))
}

const HOUR: u64 = 3600;
const DAY: u64 = 24 * HOUR;
const MIB: u64 = 1024 * 1024;

// Listening.

/// Where the file is looked for when none is named.
pub const DEFAULT_FILE: &str = "/etc/nodens/nodens.yaml";
/// `listen.addresses`: the address that Kubernetes' manifests give to a node-local cache.
pub const LISTEN_ADDRESS: Ipv4Addr = Ipv4Addr::new(169, 254, 20, 10);
/// What Kubernetes calls the address of the Service `kube-dns` in the environment of pods in its namespace.
pub const SERVICE_VARIABLE: &str = "KUBE_DNS_SERVICE_HOST";
/// What stands for that address where it is not known; nobody has it (RFC 5737).
pub const NO_SERVICE: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 53);
/// `listen.port`.
pub const PORT: Limit<u64> = limit(53, 1, 65_535);
/// `listen.workers`, when not `auto`.
pub const WORKERS: Limit<u64> = limit(1, 1, 64);
/// `metrics.listen`.
pub const METRICS_ADDRESS: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 9253);
/// The port of `health.listen`, on the first listen address.
pub const HEALTH_PORT: u16 = 8080;

/// `health.lameDuck`: what Kubernetes grants a pod at its end is 30 s unless it is told otherwise.
pub const LAME_DUCK: Limit<Duration> = seconds(0, 0, 60);
/// `listen.timeouts`, each.
pub const TIMEOUTS: Limit<Duration> = seconds(10, 1, DAY);

// The network.

/// `network.interface.name`: what node-cache calls it too, so that either adopts the other's.
pub const INTERFACE_NAME: &str = "nodelocaldns";
/// Longest `network.interface.name`, in octets: the kernel's 15 (IFNAMSIZ), less one by which two instances that overlap
/// in an upgrade tell theirs apart.
pub const MAX_INTERFACE_NAME: usize = 14;
/// `network.failOpen.endpoints`, before the cluster domain.
pub const FAIL_OPEN_SERVICE: &str = "kube-dns-endpoints.kube-system.svc";
/// The port of `network.failOpen.endpoints` where none is written.
pub const FAIL_OPEN_PORT: u16 = 53;

// The cache.

/// `cache.maxBytes`, in bytes.
pub const MAX_BYTES: Limit<u64> = limit(64 * MIB, MIB, 64 * 1024 * MIB);
/// `minTtl`, positive and negative. Long forced lifetimes serve addresses that have moved: an hour at most.
pub const MIN_TTL: Limit<Duration> = seconds(0, 0, HOUR);
/// `positive.maxTtl`; seven days is the ceiling of RFC 8767, section 4.
pub const POSITIVE_MAX_TTL: Limit<Duration> = seconds(30, 0, 7 * DAY);
/// `negative.maxTtl`; above a day negative caching was found harmful (RFC 2308, section 5).
pub const NEGATIVE_MAX_TTL: Limit<Duration> = seconds(5, 0, DAY);
/// `failureTtl`; RFC 9520, section 3.2, asks for at least 1 s and at most 5 min. 0 is for those who know why.
pub const FAILURE_TTL: Limit<Duration> = seconds(5, 0, 300);

/// `serveStale.maxAge`; RFC 8767, section 5, suggests one to three days, for resolvers that many share.
pub const STALE_MAX_AGE: Limit<Duration> = seconds(HOUR, 0, 7 * DAY);
/// `serveStale.answerTtl`; 30 s by RFC 8767, section 4.
pub const STALE_ANSWER_TTL: Limit<Duration> = seconds(30, 0, HOUR);
/// `serveStale.clientWait`; 1.8 s by RFC 8767, section 5, just below the two seconds after which some clients give up.
pub const CLIENT_WAIT: Limit<Duration> = limit(Duration::from_millis(1800), Duration::ZERO, PATIENCE);
/// `serveStale.recheck`; 30 s by RFC 8767, section 5.
pub const RECHECK: Limit<Duration> = seconds(30, 1, 300);
/// `prefetch.minHits`.
pub const MIN_HITS: Limit<u64> = limit(2, 1, 255);
/// `prefetch.remaining`, in percent.
pub const REMAINING: Limit<u64> = limit(10, 1, 90);
/// `persist.interval`.
pub const PERSIST_INTERVAL: Limit<Duration> = seconds(60, 1, DAY);

// Upstreams.

/// `forward.timeout`, of one attempt at one server; no more than [`PATIENCE`].
pub const TIMEOUT: Limit<Duration> = limit(Duration::from_secs(2), Duration::from_millis(10), PATIENCE);
/// `forward.maxConnections`, TCP, to each server.
pub const MAX_CONNECTIONS: Limit<u64> = limit(32, 1, 1024);
/// `forward.maxConcurrent`; 0 for any number.
pub const MAX_CONCURRENT: Limit<u64> = limit(0, 0, 1_000_000);
/// `forward.idle`: CoreDNS closes after 10 s, and who closes first loses no query.
pub const IDLE: Limit<Duration> = limit(Duration::from_secs(8), Duration::from_millis(100), Duration::from_secs(DAY));
/// `forward.maxAge`; 0 for any age.
pub const MAX_AGE: Limit<Duration> = seconds(60, 1, 30 * DAY);
/// The port asked where `forward.to` names none.
pub const UPSTREAM_PORT: u16 = 53;
/// The same for `tls://` (RFC 7858, section 3.1).
pub const TLS_PORT: u16 = 853;
/// How long one question may take with all its attempts: below the 5 s after which stub resolvers ask again.
pub const PATIENCE: Duration = Duration::from_millis(4500);

// Answers.

/// `answers.udpSize`: the largest UDP answer, whatever the client offers. The default is that of the DNS flag day 2020.
pub const UDP_ANSWER: Limit<u64> = limit(1232, 512, 4096);

/// Longest `zones[].nsid`, in octets: what an OPT has room for beside it.
pub const MAX_NSID: usize = 128;

// Rules of zones.

/// Longest regular expression, in octets: CoreDNS's bound.
pub const MAX_PATTERN: usize = 10_000;
/// Entries of one list of rules, names or patterns.
pub const MAX_RULES: usize = 1_000;
/// `loadBalance.reload`; 0 for never.
pub const WEIGHTS_RELOAD: Limit<Duration> = seconds(30, 0, DAY);
/// Longest `log.format` of a zone, in octets.
pub const MAX_LOG_FORMAT: usize = 1024;
/// `errors.consolidate[].every`.
pub const CONSOLIDATE: Limit<Duration> =
    limit(Duration::from_secs(10), Duration::from_millis(1), Duration::from_secs(DAY));
/// `hosts.ttl`; CoreDNS's range.
pub const HOSTS_TTL: Limit<Duration> = seconds(HOUR, 1, 65_535);
/// `hosts.reload`; 0 for never.
pub const HOSTS_RELOAD: Limit<Duration> = seconds(5, 0, DAY);
/// Entries of one `hosts.files`.
pub const MAX_HOSTS_FILES: usize = 16;

// Load.

/// `limits.inFlight`: questions waiting for an upstream.
pub const IN_FLIGHT: Limit<u64> = limit(10_000, 1, 1_000_000);
/// `limits.inFlightPerClient`; at most `limits.inFlight`.
pub const IN_FLIGHT_PER_CLIENT: Limit<u64> = limit(500, 1, 1_000_000);
/// `limits.tcpConnections`: open client connections.
pub const TCP_CONNECTIONS: Limit<u64> = limit(2_000, 1, 100_000);
/// `limits.tcpConnectionsPerClient`; at most `limits.tcpConnections`.
pub const TCP_CONNECTIONS_PER_CLIENT: Limit<u64> = limit(100, 1, 100_000);

// Kubernetes.

/// `kubernetes.clusterDomain`.
pub const CLUSTER_DOMAIN: &str = "cluster.local";

// The file itself.

/// Largest configuration file read, in bytes; a ConfigMap can hold no more.
pub const MAX_FILE_BYTES: usize = 1024 * 1024;
/// Deepest nesting read; the configuration itself needs six levels.
pub const MAX_DEPTH: usize = 32;
/// Most keys and values read, those repeated by YAML aliases included.
pub const MAX_NODES: usize = 200_000;
/// Each time a key or value is so many octets longer it counts as one more, or aliases could multiply long text.
pub const NODE_OCTETS: usize = 64;
/// Imports of snippets in one Corefile; the bound that CoreDNS has.
pub const MAX_SNIPPET_IMPORTS: usize = 10_000;
/// Octets of all files that one Corefile imports.
pub const MAX_IMPORT_BYTES: usize = 16 * MAX_FILE_BYTES;
/// Names looked at in one folder.
pub const MAX_FOLDER: usize = 10_000;
/// Problems reported of one file.
pub const MAX_PROBLEMS: usize = 100;
/// Entries of `listen.addresses` and of `metrics.listen`.
pub const MAX_LISTEN: usize = 16;
/// Entries of `zones`: each is a pool of connections and a set of metrics.
pub const MAX_ZONES: usize = 256;
/// Names over all `zones[].match`.
pub const MAX_NAMES: usize = 10_000;
/// Entries of one `forward.to`.
pub const MAX_SERVERS: usize = 16;
/// Entries of one `zones[].further`: a query is compared with all of them.
pub const MAX_FORWARDS: usize = 16;
/// Entries of one `forward.except`: a query is compared with all of them.
pub const MAX_EXCEPT: usize = 1000;
/// Entries of `listen.allowFrom`: each query is compared with all of them.
pub const MAX_NETWORKS: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_of_every_limit_are_legal() {
        fn legal<T: PartialOrd + Copy>(limit: Limit<T>) -> bool {
            limit.allows(&limit.default) && limit.allows(&limit.min) && limit.allows(&limit.max)
        }
        assert!([PORT, WORKERS, MAX_BYTES, MAX_CONNECTIONS, MAX_CONCURRENT].into_iter().all(legal));
        assert!([IN_FLIGHT, IN_FLIGHT_PER_CLIENT].into_iter().all(legal));
        assert!([TCP_CONNECTIONS, TCP_CONNECTIONS_PER_CLIENT].into_iter().all(legal));
        assert!([MIN_TTL, POSITIVE_MAX_TTL, NEGATIVE_MAX_TTL].into_iter().all(legal));
        assert!([FAILURE_TTL, TIMEOUT, IDLE, MAX_AGE, LAME_DUCK, TIMEOUTS].into_iter().all(legal));
        assert!([STALE_MAX_AGE, STALE_ANSWER_TTL, CLIENT_WAIT, RECHECK, PERSIST_INTERVAL].into_iter().all(legal));
        assert!([WEIGHTS_RELOAD].into_iter().all(legal));
        assert!([HOSTS_TTL, HOSTS_RELOAD].into_iter().all(legal));
        assert!([MIN_HITS, REMAINING].into_iter().all(legal));
    }
}
