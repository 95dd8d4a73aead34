//! The rules, as `iptables-restore` reads them, and what is to be done to come from those that are to those wanted.
//! Nothing here runs anything.
//!
//! A packet that the raw table marks NOTRACK is never translated, so the fallback, kube-proxy's or our own, sleeps as
//! long as the *capture* rules match. The *kept* rules are about our replies and probes, which are never to be
//! translated, and are there from start to end.

use super::saved::{Rule, Saved};
use crate::network::{Match, PROBE_V4, PROBE_V6};
use std::net::{IpAddr, SocketAddr};

/// What all our comments begin with, those of other versions too.
pub(super) const OURS: &str = "nodens:";

/// The comment of rules that keep packets out of connection tracking.
pub(super) const SKIP: &str = "nodens: skip conntrack";

/// The comment of rules that let untracked packets pass.
pub(super) const ALLOW: &str = "nodens: allow DNS traffic";

/// The comment of rules that lead to kube-dns.
pub(super) const FAIL_OPEN: &str = "nodens: fail open";

/// What node-cache's comments begin with.
pub(super) const NODE_CACHE: &str = "NodeLocal DNS Cache:";

/// Our chain of the nat table.
pub(super) const CHAIN: &str = "NODENS-FAILOPEN";

/// What makes the capture rules stop matching when we are killed and cannot remove them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Guard {
    /// The address is no longer local: for an interface that dies with us. Covers pods and processes of the host.
    Local,
    /// No socket has exactly this address: for an interface that stays. Covers pods; what the host's own processes ask
    /// is not captured at all, since nothing could let go of it.
    Socket,
    /// Nothing does, as in node-cache: when we are killed, DNS of the node is gone until we are back.
    None,
}

/// A change to one table, as a command of iptables: `-I INPUT …`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Edit {
    pub(super) table: String,
    pub(super) command: String,
}

impl Edit {
    fn new(table: &str, command: String) -> Edit {
        Edit { table: table.to_owned(), command }
    }

    /// Removes `rule`, which must be as `iptables-save` prints it.
    fn delete(rule: &Rule) -> Edit {
        Edit::new(&rule.table, format!("-D {} {}", rule.chain, rule.text))
    }

    /// Adds `rule`: before all others, but for nat, where kube-proxy's come first.
    fn add(rule: &Rule) -> Edit {
        let how = if rule.table == "nat" { "-A" } else { "-I" };
        Edit::new(&rule.table, format!("{how} {} {}", rule.chain, rule.text))
    }
}

/// What `iptables-restore --noflush` reads to make `edits`.
pub(super) fn restore(edits: &[Edit]) -> String {
    let mut tables: Vec<&str> = Vec::new();
    for edit in edits {
        if !tables.contains(&&*edit.table) {
            tables.push(&edit.table);
        }
    }
    let mut text = String::new();
    for table in tables {
        text += &format!("*{table}\n");
        for edit in edits.iter().filter(|edit| edit.table == table) {
            text += &edit.command;
            text.push('\n');
        }
        text += "COMMIT\n";
    }
    text
}

/// What makes `present` mean the same as `wanted`, each once.
pub(super) fn difference<'a>(present: impl IntoIterator<Item = &'a Rule>, wanted: &[Rule]) -> Vec<Edit> {
    let mut missing: Vec<&Rule> = wanted.iter().collect();
    let mut edits = Vec::new();
    for rule in present {
        match missing.iter().position(|wanted| wanted.is(rule)) {
            Some(at) => drop(missing.remove(at)),
            None => edits.push(Edit::delete(rule)),
        }
    }
    edits.extend(missing.into_iter().map(Edit::add));
    edits
}

/// What is to be said so that all of `wanted` are there; others are left alone.
pub(super) fn additions(saved: &Saved, wanted: &[Rule]) -> Vec<Edit> {
    wanted.iter().filter(|wanted| !saved.rules.iter().any(|rule| rule.is(wanted))).map(Edit::add).collect()
}

/// What makes the capture rules for the addresses of `of` those `wanted`, whatever guard they had.
pub(super) fn captures(saved: &Saved, of: &Match, wanted: &[Rule]) -> Vec<Edit> {
    let (kept, port) = (kept(of), of.port.to_string());
    let present = saved.rules.iter().filter(|rule| {
        rule.table == "raw"
            && rule.value("--comment").is_some_and(|comment| comment == SKIP)
            && rule.value("--dport").is_some_and(|to| to == port)
            && rule.leads_to(&of.addresses)
            && !kept.iter().any(|kept| kept.is(rule))
    });
    difference(present, wanted)
}

/// The rules that are there from start to end: for our replies, the guardian's probes, and health.
pub(super) fn kept(of: &Match) -> Vec<Rule> {
    let port = of.port;
    let output = |text: String| skip("OUTPUT", text);
    let mut rules = Vec::new();
    for &address in &of.addresses {
        let probe: IpAddr = if address.is_ipv4() { PROBE_V4.into() } else { PROBE_V6.into() };
        for protocol in ["tcp", "udp"] {
            let (from, to) = (format!("-s {}", host(address)), format!("-d {}", host(address)));
            rules.push(output(format!("{from} -p {protocol} -m {protocol} --sport {port}")));
            rules.push(output(format!("-s {} {to} -p {protocol} -m {protocol} --dport {port}", host(probe))));
        }
    }
    if let Some(health) = of.health.filter(|health| of.addresses.contains(&health.ip())) {
        let (address, port) = (host(health.ip()), health.port());
        rules.push(output(format!("-d {address} -p tcp -m tcp --dport {port}")));
        rules.push(output(format!("-s {address} -p tcp -m tcp --sport {port}")));
    }
    rules
}

/// The rules that bring queries to us.
pub(super) fn capture(of: &Match, guard: Guard) -> Vec<Rule> {
    let (guarded, chains): (_, &[&str]) = match guard {
        Guard::Local => (" -m addrtype --dst-type LOCAL", &["PREROUTING", "OUTPUT"]),
        // A socket of all addresses is somebody else's: without `--nowildcard` it does not count.
        Guard::Socket => (" -m socket", &["PREROUTING"]),
        Guard::None => ("", &["PREROUTING", "OUTPUT"]),
    };
    let mut rules = Vec::new();
    for &address in &of.addresses {
        for chain in chains {
            for protocol in ["tcp", "udp"] {
                let packets = format!("-d {} -p {protocol} -m {protocol} --dport {}", host(address), of.port);
                rules.push(skip(chain, packets + guarded));
            }
        }
    }
    rules
}

/// The rules that let untracked packets pass where the policy is to drop.
pub(super) fn accept(of: &Match) -> Vec<Rule> {
    let mut rules = Vec::new();
    for &address in &of.addresses {
        for protocol in ["tcp", "udp"] {
            let (address, port) = (host(address), of.port);
            let end = format!("-m comment --comment \"{ALLOW}\" -j ACCEPT");
            let to = format!("-d {address} -p {protocol} -m {protocol} --dport {port} {end}");
            rules.push(Rule::new("filter", "INPUT", to));
            let from = format!("-s {address} -p {protocol} -m {protocol} --sport {port} {end}");
            rules.push(Rule::new("filter", "OUTPUT", from));
        }
    }
    rules
}

/// The rules that lead to `endpoints` whoever is not captured. All is of one family.
fn standing(of: &Match, endpoints: &[SocketAddr]) -> Vec<Rule> {
    let mut rules = Vec::new();
    let comment = format!("-m comment --comment \"{FAIL_OPEN}\"");
    let translated = format!("-m conntrack --ctstate DNAT {comment} -j MASQUERADE");
    for &address in &of.addresses {
        for protocol in ["tcp", "udp"] {
            let packets = format!("-d {} -p {protocol} -m {protocol} --dport {}", host(address), of.port);
            for (n, endpoint) in endpoints.iter().enumerate() {
                let chance = match endpoints.len() - n {
                    1 => String::new(),
                    left => format!(" -m statistic --mode random --probability {:.10}", 1.0 / left as f64),
                };
                let text = format!("{packets}{chance} {comment} -j DNAT --to-destination {endpoint}");
                rules.push(Rule::new("nat", CHAIN, text));
            }
        }
        // What a process of this host sends to its own address has that as its source.
        rules.push(Rule::new("nat", "POSTROUTING", format!("-s {} {translated}", host(address))));
    }
    let mut hosts: Vec<IpAddr> = endpoints.iter().map(SocketAddr::ip).collect();
    hosts.dedup();
    for endpoint in hosts.into_iter().map(host) {
        // A kube-dns pod that asks itself would answer past us.
        rules.push(Rule::new("nat", "POSTROUTING", format!("-s {endpoint} -d {endpoint} {translated}")));
    }
    for chain in ["PREROUTING", "OUTPUT"] {
        rules.push(Rule::new("nat", chain, format!("{comment} -j {CHAIN}")));
    }
    rules
}

/// What makes the fallback lead to `endpoints`, all of one family and sorted. Our chain is written anew when anything in
/// it differs, since what a rule means there depends on those before it.
pub(super) fn fall_back(saved: &Saved, of: &Match, endpoints: &[SocketAddr]) -> Vec<Edit> {
    if endpoints.is_empty() {
        return ours(saved);
    }
    let (inside, outside) = standing(of, endpoints).into_iter().partition::<Vec<_>, _>(|rule| rule.chain == CHAIN);
    let present = saved.rules.iter().filter(|rule| rule.table == "nat" && rule.is_ours());
    let (inner, outer) = present.partition::<Vec<_>, _>(|rule| rule.chain == CHAIN);
    let mut edits = Vec::new();
    if inner.len() != inside.len() || inner.iter().zip(&inside).any(|(is, wanted)| !is.is(wanted)) {
        let how = if saved.has_chain("nat", CHAIN) { "-F" } else { "-N" };
        edits.push(Edit::new("nat", format!("{how} {CHAIN}")));
        edits.extend(inside.iter().map(Edit::add));
    }
    edits.extend(difference(outer, &outside));
    edits
}

/// What removes those rules that `which` names.
pub(super) fn removal(saved: &Saved, which: impl Fn(&Rule) -> bool) -> Vec<Edit> {
    saved.rules.iter().filter(|rule| which(rule)).map(Edit::delete).collect()
}

/// What removes all of ours, the chain last.
pub(super) fn ours(saved: &Saved) -> Vec<Edit> {
    let mut edits = removal(saved, Rule::is_ours);
    if saved.has_chain("nat", CHAIN) {
        edits.push(Edit::new("nat", format!("-X {CHAIN}")));
    }
    edits
}

/// A rule of the raw table that keeps packets out of connection tracking.
fn skip(chain: &str, packets: String) -> Rule {
    Rule::new("raw", chain, format!("{packets} -m comment --comment \"{SKIP}\" -j NOTRACK"))
}

/// An address as iptables prints it.
fn host(address: IpAddr) -> String {
    format!("{address}/{}", if address.is_ipv4() { 32 } else { 128 })
}
