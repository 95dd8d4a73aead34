//! The standing fallback: by nftables where that can be had, else by iptables.

use super::{Host, Rules};
use crate::network::nftables::standing;

impl Host {
    /// Has the fallback lead where it shall.
    pub(super) fn make_fallback(&mut self) {
        if !self.plan.fail_open || self.endpoints.is_empty() {
            return;
        }
        let done = match (&mut self.nftables, &self.rules) {
            (Some(netlink), _) => {
                standing::replace(netlink, &self.what, &self.endpoints).map_err(|error| ("iptables", error.to_string()))
            }
            (None, Rules::Iptables { tables, .. }) => tables
                .standing_replace(&self.what, &self.endpoints)
                .map(drop)
                .map_err(|error| (error.name(), error.to_string())),
            (None, _) => return,
        };
        if done.is_ok() {
            if self.status.endpoints != self.endpoints {
                tracing::info!(endpoints = ?self.endpoints, "should we not answer, queries go to");
            }
            self.status.endpoints.clone_from(&self.endpoints);
        }
        self.did(done);
    }

    /// Puts it back, or takes it over from an instance that saw to it before; says whether others had changed it.
    pub(super) fn repair_fallback(&mut self) -> bool {
        if self.endpoints.is_empty() {
            return false;
        }
        if self.fallback_is_intact() {
            self.status.endpoints.clone_from(&self.endpoints);
            return false;
        }
        let was_ours = !self.status.endpoints.is_empty();
        self.make_fallback();
        if was_ours {
            self.repaired("fallback", "the fallback to kube-dns");
        }
        was_ours
    }

    /// Is it as it was made? Where that cannot be told, it is.
    fn fallback_is_intact(&mut self) -> bool {
        match (&mut self.nftables, &self.rules) {
            (Some(netlink), _) => standing::intact(netlink, &self.what, &self.endpoints).unwrap_or(true),
            (None, Rules::Iptables { tables, .. }) => {
                tables.standing_endpoints().map_or(true, |there| there == self.endpoints)
            }
            // There is none.
            (None, _) => false,
        }
    }

    /// Removes it.
    pub(super) fn remove_fallback(&mut self) {
        let removed = match (&mut self.nftables, &self.rules) {
            (Some(netlink), _) => standing::remove(netlink).map_err(|error| error.to_string()),
            (None, Rules::Iptables { tables, .. }) => tables.standing_remove().map_err(|error| error.to_string()),
            (None, _) => return,
        };
        match removed {
            Ok(true) => tracing::info!("removed the fallback to kube-dns"),
            Ok(false) => {}
            Err(error) => tracing::error!(%error, "the fallback to kube-dns stays behind"),
        }
        self.status.endpoints.clear();
    }
}
