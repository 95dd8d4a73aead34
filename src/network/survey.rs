//! What there is on this host of ours and of node-cache, whoever made it; and how to be rid of it.
//!
//! For people who look, and for an uninstallation. Looking needs CAP_NET_ADMIN, too: the kernel lists nftables to nobody
//! else.

use super::iptables::Iptables;
use super::link::{self, Found};
use super::netlink::Netlink;
use super::nftables::{self, inspect, standing};
use std::fmt::Display;
use std::net::SocketAddr;

/// What the standing table is to people.
const FALLBACK: &str = "the fallback to kube-dns (nftables)";

/// What was found.
#[derive(Clone, Debug, Default)]
pub struct Survey {
    /// Links under our names.
    pub links: Vec<Found>,
    /// Live tables, each of one instance.
    pub tables: Vec<String>,
    /// Where the standing table leads; `None` when there is none.
    pub fallback: Option<Vec<SocketAddr>>,
    /// Rules of ours that iptables holds.
    pub iptables: Vec<String>,
    /// Rules that node-cache left behind, or uses now.
    pub node_cache: Vec<String>,
    /// Filter chains whose policy drops untracked packets, and no rule of ours lets them pass.
    pub dropping: Vec<String>,
    /// What could not be looked at, and why.
    pub unseen: Vec<String>,
}

/// Looks for everything; `interface` is the name of ours.
pub fn survey(interface: &str) -> Survey {
    let mut found = Survey::default();
    match link::list(interface) {
        Ok(links) => found.links = links,
        Err(error) => found.missed(&error),
    }
    let mut filters = Vec::new();
    match tables() {
        Err(error) => {
            found.missed(&error);
            if matches!(error, nftables::Error::NotPermitted { .. }) {
                // iptables would be told the same.
                return found;
            }
        }
        Ok(None) => {}
        Ok(Some(mut netlink)) => {
            let mut look = || -> Result<(), nftables::Error> {
                found.tables = inspect::live_tables(&mut netlink)?;
                found.fallback = standing::endpoints(&mut netlink)?;
                found.node_cache = inspect::node_cache_rules(&mut netlink, true)?;
                filters = inspect::dropping(&mut netlink)?.iter().map(|c| (c.to_string(), c.iptables)).collect();
                Ok(())
            };
            if let Err(error) = look() {
                found.missed(&error);
            }
        }
    }
    // Hosts without iptables have no rules of it, or only such as nftables shows.
    if let Ok(tables) = Iptables::find() {
        match tables.remove_ours(true) {
            Ok(rules) => found.iptables = rules,
            Err(error) => found.missed(&error),
        }
        match tables.remove_node_cache(true) {
            // It sees those of the older kind as well.
            Ok(rules) if rules.len() > found.node_cache.len() => found.node_cache = rules,
            Ok(_) => {}
            Err(error) => found.missed(&error),
        }
        match tables.dropping() {
            Ok(chains) => filters.extend(chains.into_iter().map(|chain| (chain, true))),
            Err(error) => found.missed(&error),
        }
    }
    // Where iptables drops, rules of ours let packets pass.
    let passed = found.iptables.iter().any(|rule| rule.contains(" -t filter "));
    found.dropping =
        filters.into_iter().filter(|(_, iptables)| !(*iptables && passed)).map(|(chain, _)| chain).collect();
    found.dropping.sort_unstable();
    found.dropping.dedup();
    found
}

/// Removes everything but what a running instance owns: interface, fallback, rules of ours and of node-cache. Gives what
/// was removed, and what could not be.
pub fn clean(interface: &str) -> (Vec<String>, Vec<String>) {
    let (mut removed, mut failed) = (Vec::new(), Vec::new());
    let mut note = |result: Result<Vec<String>, String>| match result {
        Ok(lines) => removed.extend(lines),
        Err(error) => failed.push(error),
    };
    note(link::remove_leftovers(interface, false).map_err(text));
    let refused = match tables() {
        Ok(None) => false,
        Ok(Some(mut netlink)) => {
            let fallback = standing::remove(&mut netlink).map_err(text);
            note(fallback.map(|there| there.then(|| FALLBACK.to_owned()).into_iter().collect()));
            note(inspect::node_cache_rules(&mut netlink, false).map_err(text));
            false
        }
        Err(error) => {
            let refused = matches!(error, nftables::Error::NotPermitted { .. });
            note(Err(text(error)));
            refused
        }
    };
    if !refused && let Ok(tables) = Iptables::find() {
        note(tables.remove_ours(false).map_err(text));
        note(tables.remove_node_cache(false).map_err(text));
    }
    (removed, failed)
}

/// A socket for nftables; `None` where the kernel has none of it, and so no tables.
fn tables() -> Result<Option<Netlink>, nftables::Error> {
    match nftables::present() {
        Ok(netlink) => Ok(Some(netlink)),
        Err(nftables::Error::NoNftables { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

impl Survey {
    fn missed(&mut self, error: &dyn Display) {
        let line = error.to_string();
        if !self.unseen.contains(&line) {
            self.unseen.push(line);
        }
    }

    /// Is there nothing of ours, nor of node-cache?
    pub fn is_empty(&self) -> bool {
        let Survey { links, tables, fallback, iptables, node_cache, dropping: _, unseen } = self;
        links.is_empty()
            && tables.is_empty()
            && fallback.is_none()
            && iptables.is_empty()
            && node_cache.is_empty()
            && unseen.is_empty()
    }

    /// What [`clean`] would remove.
    pub fn removable(&self) -> Vec<String> {
        let dummy = self.links.iter().filter(|link| link.kind == "dummy");
        let mut lines: Vec<String> = dummy.map(|link| format!("interface {} (dummy)", link.name)).collect();
        lines.extend(self.fallback.iter().map(|_| FALLBACK.to_owned()));
        lines.extend(self.node_cache.iter().chain(&self.iptables).cloned());
        lines
    }
}

fn text(error: impl Display) -> String {
    error.to_string()
}
