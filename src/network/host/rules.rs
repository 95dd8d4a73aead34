//! Who keeps packets out of connection tracking: chosen, written, put back.

use super::{Error, Host, PATIENCE, Rules};
use crate::network::Firewall;
use crate::network::iptables::{self, Guard, Iptables};
use crate::network::nftables::{self, Live, inspect};

impl Host {
    /// Chooses who writes the rules; gives iptables if it is that.
    pub(super) fn choose(&mut self) -> Result<Option<Iptables>, Error> {
        let chosen = match self.plan.firewall {
            Firewall::None => return Ok(None),
            Firewall::Nftables => nftables::supported().map(|()| None).map_err(Error::Nftables)?,
            Firewall::Iptables => Some(find().map_err(Error::Iptables)?),
            Firewall::Auto => match nftables::supported() {
                Ok(()) => None,
                Err(error) => match find() {
                    Ok(tables) => {
                        tracing::info!(why = %error, "firewall: iptables");
                        return Ok(Some(tables));
                    }
                    Err(other) => {
                        self.failed("iptables", &format!("neither nftables nor iptables can be had: {error}; {other}"));
                        self.plan.firewall = Firewall::None;
                        return Ok(None);
                    }
                },
            },
        };
        let why = if self.plan.firewall == Firewall::Auto { "this kernel has it" } else { "so it is configured" };
        tracing::info!(why, "firewall: {}", if chosen.is_some() { "iptables" } else { "nftables" });
        Ok(chosen)
    }

    /// Writes the rules that are there from start to end.
    pub(super) fn make_rules(&mut self, tables: Option<Iptables>, generation: &str, alone: bool) {
        self.status.firewall = "none".to_owned();
        if let Some(tables) = tables {
            self.status.firewall = "iptables".to_owned();
            let goes_with_us = self.link.as_ref().is_some_and(|link| link.kind() == "tun");
            let guard = if goes_with_us { Guard::Local } else { Guard::Socket };
            // What an instance that was killed has left captures until it is replaced.
            let free = if alone { tables.release(&self.what).map(drop) } else { Ok(()) };
            let kept = free
                .and_then(|()| tables.keep(&self.what))
                .map(drop)
                .map_err(|error| (error.name(), error.to_string()));
            self.did(kept);
            self.rules = Rules::Iptables { tables, guard };
        } else if self.plan.firewall != Firewall::None {
            self.status.firewall = "nftables".to_owned();
            match Live::open(generation, &self.what) {
                Ok(live) => self.rules = Rules::Nftables { live, accept: None },
                Err(error) => self.failed("iptables", &error),
            }
        }
    }

    /// Puts back rules that others have removed; says whether there were any. Those of our own table nobody can remove.
    pub(super) fn repair_rules(&mut self, leads: bool) -> bool {
        let Rules::Iptables { tables, guard } = &self.rules else { return false };
        if !leads {
            return false;
        }
        let repaired = tables.intact(&self.what, *guard, self.status.notrack).and_then(|intact| {
            if !intact {
                tables.keep(&self.what)?;
                if self.status.notrack {
                    tables.capture(&self.what, *guard)?;
                }
            }
            Ok(!intact)
        });
        if let Ok(true) = repaired {
            self.repaired("rules", "iptables");
        }
        let any = matches!(repaired, Ok(true));
        self.did(repaired.map(drop).map_err(|error| (error.name(), error.to_string())));
        any
    }

    /// Removes the rules of node-cache. They would keep packets from kube-dns whenever nobody serves.
    pub(super) fn remove_leftovers(&mut self) {
        let mut removed = Vec::new();
        if let Some(netlink) = &mut self.nftables {
            match inspect::node_cache_rules(netlink, false) {
                Ok(rules) => removed.extend(rules),
                Err(error) => tracing::warn!(%error, "cannot look for rules of node-cache"),
            }
        }
        // Those of the older kind of iptables are seen by iptables alone; where that is not, they cannot be helped.
        if let Ok(tables) = Iptables::find() {
            match tables.remove_node_cache(false) {
                Ok(rules) => removed.extend(rules),
                Err(error) => tracing::warn!(%error, "cannot look for rules of node-cache"),
            }
        }
        if !removed.is_empty() {
            tracing::info!(rules = removed.len(), "removed what node-cache had left behind");
        }
    }

    /// Looks for policies that would drop untracked packets, and has iptables let ours pass where they are its own.
    /// A policy of nftables is not ours to override: no accept of one table outweighs a drop of another.
    pub(super) fn check_filters(&mut self) {
        let mut found: Vec<(String, bool)> = Vec::new();
        if let Some(netlink) = &mut self.nftables {
            match inspect::dropping(netlink) {
                Ok(chains) => found.extend(chains.iter().map(|chain| (chain.to_string(), chain.iptables))),
                Err(error) => tracing::warn!(%error, "cannot look for filters that drop"),
            }
        }
        if legacy_filters()
            && let Ok(chains) = Iptables::find().and_then(|tables| tables.dropping())
        {
            found.extend(chains.into_iter().map(|chain| (chain, true)));
        }
        let (theirs, rest): (Vec<_>, Vec<_>) = found.into_iter().partition(|(_, iptables)| *iptables);
        if !theirs.is_empty()
            && let Rules::Nftables { accept, .. } = &mut self.rules
        {
            let tables = accept.take().map_or_else(find, Ok);
            let done = tables.and_then(|tables| tables.accept(&self.what).map(|_| tables));
            match done {
                Ok(tables) => *accept = Some(tables),
                Err(error) => {
                    let (kind, what) = (error.name(), format!("{} drops untracked packets: {error}", theirs[0].0));
                    self.failed(kind, &what);
                }
            }
        }
        let dropping: Vec<String> = rest.into_iter().map(|(chain, _)| chain).collect();
        if dropping != self.status.dropping {
            for chain in &dropping {
                tracing::error!(
                    chain,
                    "its policy drops untracked packets, and no rule of ours outweighs that: have it accept UDP and TCP \
                     to and from port {} of our addresses",
                    self.what.port
                );
            }
            self.status.dropping = dropping;
        }
    }
}

/// iptables for someone who has other things to do than to wait.
fn find() -> Result<Iptables, iptables::Error> {
    let mut tables = Iptables::find()?;
    tables.set_patience(PATIENCE);
    Ok(tables)
}

/// Are there filters of the older kind of iptables? Asking iptables itself would load them.
fn legacy_filters() -> bool {
    ["ip_tables_names", "ip6_tables_names"].iter().any(|file| {
        std::fs::read_to_string(format!("/proc/net/{file}"))
            .is_ok_and(|names| names.lines().any(|name| name == "filter"))
    })
}
