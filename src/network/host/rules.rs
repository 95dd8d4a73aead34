//! Who keeps packets out of connection tracking: chosen, written, put back.

use super::{Error, Host, Rules};
use crate::network::Firewall;
use crate::network::iptables::{self, Guard, Iptables};
use crate::network::nftables::{self, Live, inspect};
use crate::observe::limit::RateLimit;
use crate::sys::clock::Moment;
use std::time::Duration;

impl Host {
    /// Chooses who writes the rules; gives iptables if it is that.
    pub(super) fn choose(&mut self) -> Result<Option<Iptables>, Error> {
        let chosen = match self.plan.firewall {
            Firewall::None => return Ok(None),
            Firewall::Nftables => nftables::supported().map(|()| None).map_err(Error::Nftables)?,
            Firewall::Iptables => Some(Iptables::find().map_err(Error::Iptables)?),
            Firewall::Auto => match nftables::supported() {
                Ok(()) => None,
                Err(error) => match Iptables::find() {
                    Ok(tables) => {
                        tracing::info!(why = %error, "firewall: iptables");
                        return Ok(Some(tables));
                    }
                    Err(other) => {
                        let error = format!("neither nftables nor iptables can be had: {error}; {other}");
                        self.failed_at("firewall", "iptables", &error);
                        self.plan.firewall = Firewall::None;
                        self.status.firewall = "auto".to_owned();
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
                Ok(live) => self.rules = Rules::Nftables { live, iptables: None },
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

    /// Removes the rules of node-cache. They would keep packets from kube-dns whenever nobody serves. And those of an
    /// instance that wrote them by iptables and was killed, when we are `alone` and do not write them ourselves.
    pub(super) fn remove_leftovers(&mut self, alone: bool) {
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
            if alone && !matches!(self.rules, Rules::Iptables { .. }) {
                match tables.remove_ours(false) {
                    Ok(rules) if rules.is_empty() => {}
                    Ok(rules) => {
                        tracing::info!(rules = rules.len(), "removed what an instance that was killed had left")
                    }
                    // Nor could iptables have written any there.
                    Err(iptables::Error::Unreadable { .. }) => {}
                    Err(error) => tracing::warn!(%error, "cannot look for rules of an instance before us"),
                }
            }
            if let Rules::Nftables { iptables, .. } = &mut self.rules {
                *iptables = Some(tables);
            }
        }
        if !removed.is_empty() {
            tracing::info!(rules = removed.len(), "removed what node-cache had left behind");
        }
    }

    /// Looks for policies that would drop untracked packets, and has iptables let ours pass where they are its own.
    /// A policy of nftables is not ours to override: no accept of one table outweighs a drop of another. Whether its rules
    /// let our packets pass cannot be told, so that with `firewall: auto` they are left to kube-dns.
    pub(super) fn check_filters(&mut self) {
        if matches!(self.rules, Rules::None) {
            // Packets are tracked.
            return;
        }
        let mut found: Vec<(String, bool)> = Vec::new();
        if let Some(netlink) = &mut self.nftables {
            match inspect::dropping(netlink) {
                Ok(chains) => found.extend(chains.iter().map(|chain| (chain.to_string(), chain.iptables))),
                Err(error) => {
                    static LINE: RateLimit = RateLimit::new(Duration::from_secs(600));
                    if let Some(suppressed) = LINE.allow(Moment::now()) {
                        tracing::warn!(%error, suppressed, "cannot look for filters that drop");
                    }
                }
            }
        }
        if legacy_filters() {
            match self.rules.with_iptables(|tables| tables.sees_legacy().and_then(|()| tables.dropping())) {
                Ok(chains) => found.extend(chains.into_iter().map(|chain| (chain, true))),
                Err(error) => {
                    static LINE: RateLimit = RateLimit::new(Duration::from_secs(3600));
                    if let Some(suppressed) = LINE.allow(Moment::now()) {
                        let remedy = "have iptables installed where nodens runs, and grant the capability NET_RAW";
                        tracing::warn!(%error, suppressed, remedy, "the filters of iptables-legacy may drop what we do not see");
                    }
                }
            }
        }
        let (theirs, rest): (Vec<_>, Vec<_>) = found.into_iter().partition(|(_, iptables)| *iptables);
        let mut dropping: Vec<String> = rest.into_iter().map(|(chain, _)| chain).collect();
        let passed =
            if theirs.is_empty() { Ok(false) } else { self.rules.with_iptables(|tables| tables.accept(&self.what)) };
        match passed {
            Ok(added) => {
                if added {
                    let chains: Vec<&str> = theirs.iter().map(|(chain, _)| &**chain).collect();
                    tracing::info!(?chains, "their policy drops untracked packets: iptables lets ours pass");
                }
                self.fine(&["filter"]);
            }
            Err(error) => {
                dropping.extend(theirs.into_iter().map(|(chain, _)| chain));
                self.failed_at("filter", error.name(), &format!("untracked packets may be dropped: {error}"));
            }
        }
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
            self.hold_back();
        }
    }

    /// Are packets left to kube-dns, because a filter would drop them? Not where somebody has said by whom rules are
    /// written, and so that they will pass.
    pub(super) fn is_held(&self) -> bool {
        self.plan.firewall == Firewall::Auto && !self.status.dropping.is_empty()
    }

    /// Releases what a filter would drop, and says so.
    fn hold_back(&mut self) {
        if !self.is_held() {
            return self.fine(&["held"]);
        }
        let message = format!(
            "packets are left to kube-dns, for the policy of {} would drop them untracked; when its rules let them pass, write \
             network.firewall: {}",
            self.status.dropping.join(" and of "),
            self.status.firewall
        );
        self.failed_at("held", "iptables", &message);
        if self.status.notrack {
            self.release(false);
        }
    }
}

impl Rules {
    /// Does something with iptables, if there is one.
    fn with_iptables<T>(
        &self,
        act: impl FnOnce(&Iptables) -> Result<T, iptables::Error>,
    ) -> Result<T, iptables::Error> {
        match self {
            Rules::Iptables { tables, .. } | Rules::Nftables { iptables: Some(tables), .. } => act(tables),
            _ => act(&Iptables::find()?),
        }
    }
}

/// Are there filters of the older kind of iptables? Asking iptables itself would load them.
fn legacy_filters() -> bool {
    ["ip_tables_names", "ip6_tables_names"].iter().any(|file| {
        std::fs::read_to_string(format!("/proc/net/{file}"))
            .is_ok_and(|names| names.lines().any(|name| name == "filter"))
    })
}
