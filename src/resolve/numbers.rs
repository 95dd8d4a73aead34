//! Numbers of the upstreams in metrics and entries, found without making text of an address each time.

use crate::observe::metrics::Metrics;
use crate::upstream::Endpoint;
use std::collections::HashMap;
use std::sync::{PoisonError, RwLock};

/// Most addresses that are known at once: the registry of labels is bounded, and this table must be as well, however often
/// addresses change.
const MOST: usize = 1024;

/// The numbers.
#[derive(Default)]
pub(super) struct Numbers(RwLock<HashMap<Endpoint, u16, foldhash::quality::RandomState>>);

impl Numbers {
    /// The number that `metrics` has for `server`.
    pub(super) fn of(&self, server: &Endpoint, metrics: &Metrics) -> u16 {
        if let Some(&label) = self.0.read().unwrap_or_else(PoisonError::into_inner).get(server) {
            return label;
        }
        let label = metrics.upstreams.intern(&server.to_string());
        let mut known = self.0.write().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= MOST {
            known.clear();
        }
        known.insert(server.clone(), label);
        label
    }
}
