//! Metrics under the names that CoreDNS and node-cache use, so that dashboards and alerts made for these go on working.
//!
//! Owns what these names need beyond our own: blocks of zones and their listeners, refreshes by zone, the probes of
//! `/health`, the fingerprint of the configuration. [`cells`] counts per answer, `page` writes it all. Only there where
//! `metrics.corednsNames` is on.

pub mod cells;
mod page;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::cells::Counter;
use super::queries::labels;
pub(super) use page::collect;

labels! {
    /// What node-cache counts when the node's network, or its configuration, cannot be set up.
    SetupError {
        /// A rule cannot be written.
        Iptables = "iptables",
        /// Somebody else holds the lock of iptables.
        IptablesLock = "iptables_lock",
        /// The interface cannot be made.
        InterfaceAdd = "interface_add",
        /// It cannot be seen whether the interface is there.
        InterfaceCheck = "interface_check",
        /// The ConfigMap, or what is made of it, is of no use.
        Configmap = "configmap",
    }
}

/// Zones that are served alike: what CoreDNS calls a server block.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Block {
    /// Its zones as they are labelled (`cluster.local.`), in the order written.
    pub zones: Vec<String>,
    /// The numbers of its listeners.
    pub servers: Vec<u16>,
    /// The numbers of the views that these are in.
    pub views: Vec<u8>,
    /// The plugins that do in CoreDNS what is done for these zones here.
    pub plugins: Vec<&'static str>,
}

impl Block {
    /// The `zones` label: all of them.
    pub fn label(&self) -> String {
        self.zones.join(",")
    }

    /// Are answers cached?
    pub fn has_cache(&self) -> bool {
        self.plugins.contains(&"cache")
    }
}

/// Upper bounds of the time that a probe of `/health` takes, in seconds.
const PROBE_BOUNDS: [f64; 5] = [0.00025, 0.0025, 0.025, 0.25, 2.5];

/// The probes of `/health` that we make of ourselves.
#[derive(Debug, Default)]
struct Probes {
    counts: [Counter; PROBE_BOUNDS.len() + 1],
    nanos: Counter,
    failures: Counter,
}

/// What CoreDNS's names need beyond our own metrics.
#[derive(Debug)]
pub struct CoreDns {
    blocks: Mutex<Arc<[Block]>>,
    /// By number of the zone.
    refreshes: Box<[Counter]>,
    probes: Probes,
    /// The configuration in force, in a number.
    version: Mutex<String>,
}

impl CoreDns {
    /// Nothing known yet of `zones` zones.
    pub(super) fn new(zones: usize) -> CoreDns {
        CoreDns {
            blocks: Mutex::new(Arc::default()),
            refreshes: (0..zones).map(|_| Counter::new()).collect(),
            probes: Probes::default(),
            version: Mutex::default(),
        }
    }

    /// Says what is served from now on.
    pub fn describe(&self, blocks: Vec<Block>) {
        *self.blocks.lock().unwrap_or_else(PoisonError::into_inner) = blocks.into();
    }

    /// What is served.
    pub fn blocks(&self) -> Arc<[Block]> {
        Arc::clone(&self.blocks.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Says which configuration is in force, by the SHA-512 of its text in hexadecimal.
    pub fn configured(&self, sha512: String) {
        *self.version.lock().unwrap_or_else(PoisonError::into_inner) = sha512;
    }

    /// Counts a look-up that nobody waits for, because an answer expires or has expired.
    pub fn refreshed(&self, zone: u16) {
        if let Some(counter) = self.refreshes.get(usize::from(zone)) {
            counter.add(1);
        }
    }

    /// Counts a probe of our own `/health`; `None` for one that brought nothing.
    pub fn probed(&self, took: Option<Duration>) {
        let Some(took) = took else { return self.probes.failures.add(1) };
        let at = PROBE_BOUNDS.iter().position(|&bound| took.as_secs_f64() <= bound).unwrap_or(PROBE_BOUNDS.len());
        self.probes.counts[at].add(1);
        self.probes.nanos.add(u64::try_from(took.as_nanos()).unwrap_or(u64::MAX));
    }
}

#[cfg(test)]
mod tests;
