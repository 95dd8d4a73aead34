//! Clients of the DNS: what they ask, and what they say of it.

use super::namespace::{Namespace, Tool};
use super::{LOCAL, VIP};
use serde::Deserialize;
use std::collections::BTreeMap;

/// What one client saw of one target; as the tool prints it.
#[derive(Clone, Debug, Deserialize)]
pub struct Figures {
    /// `udp:169.254.20.10` and the like.
    pub target: String,
    /// Queries.
    pub sent: u64,
    /// Answers with NOERROR.
    pub answered: u64,
    /// Queries that nobody answered in time.
    pub lost: u64,
    /// Answers that were none: SERVFAIL, REFUSED.
    pub failed: u64,
    /// The longest time in which no answer came.
    pub longest_gap_ms: u64,
    /// Answers of the cache on the node.
    pub local: u64,
    /// Those of them that were stale.
    pub stale: u64,
    /// Answers that were not those of the name asked for.
    pub wrong: u64,
    /// How long half of the answers, 99 % of them and all took at most, in microseconds.
    pub p50_us: u64,
    /// See above.
    pub p99_us: u64,
    /// See above.
    pub worst_us: u64,
    /// Answers of kube-dns.
    pub backend: u64,
    /// Between the first and the last query that kube-dns answered.
    pub backend_for_ms: u64,
    /// Long-lived connections that were closed between queries.
    pub reopened: u64,
    /// Connections closed under a query, which was asked again.
    pub cut: u64,
    /// What went wrong, by what the system said.
    pub errors: BTreeMap<String, u64>,
}

/// How a single query was answered.
#[derive(Clone, Debug, Deserialize)]
pub struct Answered {
    /// Who was asked.
    pub target: String,
    /// `local`, `stale`, `backend`, `failed` or `lost`.
    pub outcome: String,
    /// After how long.
    pub ms: u64,
    /// What the answer's first record has left.
    pub ttl: u32,
}

/// Asks `target` once for `name`.
pub fn ask_once(namespace: &Namespace, target: &str, name: &str) -> Answered {
    let name = format!("--name={name}");
    let lines = namespace.tool(&["once", "--timeout=5000", &name, target]).finish();
    serde_json::from_str(&lines[0]).unwrap()
}

/// `udp:` and `tcp:` at `addresses`.
pub fn targets(addresses: &[&str]) -> Vec<String> {
    addresses.iter().flat_map(|ip| ["udp", "tcp"].map(|proto| format!("{proto}:{ip}"))).collect()
}

/// All addresses over both transports.
pub fn all_targets() -> Vec<String> {
    targets(&[LOCAL[0], LOCAL[1], VIP[0], VIP[1]])
}

/// Clients that ask until they are told to stop.
pub struct Asking(Tool);

impl Asking {
    /// Starts asking `targets` from `namespace` as `options` say, and returns when it has begun.
    pub fn start(namespace: &Namespace, options: &[&str], targets: &[String]) -> Asking {
        let mut args = vec!["ask"];
        args.extend(options);
        args.extend(targets.iter().map(String::as_str));
        let tool = namespace.tool(&args);
        tool.wait_for("asking");
        Asking(tool)
    }

    /// Stops asking; answers are still waited for.
    pub fn stop(&mut self) {
        self.0.stop();
    }

    /// Stops and gives the figures.
    pub fn finish(self) -> Vec<Figures> {
        let lines = self.0.finish();
        lines.iter().map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{line}: {error}"))).collect()
    }
}

/// Who answers each of `targets` now: `local`, `backend`, `failed` or `lost`.
pub fn who_answers(namespace: &Namespace, targets: &[String]) -> BTreeMap<String, String> {
    who_answers_within(namespace, targets, 1000)
}

/// The same, with a time of its own, in milliseconds.
pub fn who_answers_within(namespace: &Namespace, targets: &[String], ms: u64) -> BTreeMap<String, String> {
    let timeout = format!("--timeout={ms}");
    let mut args = vec!["once", &timeout];
    args.extend(targets.iter().map(String::as_str));
    let answered = namespace.tool(&args).finish();
    let answered = answered.iter().map(|line| serde_json::from_str::<Answered>(line).unwrap());
    answered.map(|a| (a.target, a.outcome)).collect()
}

/// Do all of `targets` get `outcome`?
pub fn all_are(namespace: &Namespace, targets: &[String], outcome: &str) -> bool {
    who_answers(namespace, targets).values().all(|o| o == outcome)
}
