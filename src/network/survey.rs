//! What there is on this host of ours and of node-cache, whoever made it; and how to be rid of it.
//!
//! For people who look, and for an uninstallation. Looking needs CAP_NET_ADMIN, too: the kernel lists nftables to nobody
//! else.

use super::iptables::Iptables;
use super::link::{self, Found};
use super::nftables::{self, inspect, standing};
use std::fmt::Display;
use std::net::SocketAddr;

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
    /// Filter chains whose policy drops untracked packets.
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
    match nftables::open() {
        Err(error) => found.missed(&error),
        Ok(mut netlink) => {
            let mut look = || -> Result<(), nftables::Error> {
                found.tables = inspect::live_tables(&mut netlink)?;
                found.fallback = standing::endpoints(&mut netlink)?;
                found.node_cache = inspect::node_cache_rules(&mut netlink, true)?;
                found.dropping = inspect::dropping(&mut netlink)?.iter().map(ToString::to_string).collect();
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
            Ok(rules) if found.node_cache.is_empty() => found.node_cache = rules,
            Ok(_) => {}
            Err(error) => found.missed(&error),
        }
    }
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
    let by_nftables = |act: &dyn Fn(&mut super::netlink::Netlink) -> Result<Vec<String>, nftables::Error>| {
        nftables::open().and_then(|mut netlink| act(&mut netlink)).map_err(text)
    };
    note(by_nftables(&|netlink| {
        let gone = standing::remove(netlink)?;
        Ok(if gone { vec!["the fallback to kube-dns (nftables)".to_owned()] } else { Vec::new() })
    }));
    note(by_nftables(&|netlink| inspect::node_cache_rules(netlink, false)));
    if let Ok(tables) = Iptables::find() {
        note(tables.remove_ours(false).map_err(text));
        note(tables.remove_node_cache(false).map_err(text));
    }
    (removed, failed)
}

impl Survey {
    fn missed(&mut self, error: &dyn Display) {
        self.unseen.push(error.to_string());
    }

    /// What [`clean`] would remove.
    pub fn removable(&self) -> Vec<String> {
        let dummy = self.links.iter().filter(|link| link.kind == "dummy");
        let mut lines: Vec<String> = dummy.map(|link| format!("interface {} (dummy)", link.name)).collect();
        lines.extend(self.fallback.iter().map(|_| "the fallback to kube-dns (nftables)".to_owned()));
        lines.extend(self.node_cache.iter().chain(&self.iptables).cloned());
        lines
    }
}

fn text(error: impl Display) -> String {
    error.to_string()
}
