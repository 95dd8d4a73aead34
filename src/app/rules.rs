//! From what the configuration says of a zone to the rules before and behind its cache.

use crate::config;
use crate::resolve::local::acl::Acl;
use crate::resolve::local::balance::Balance;
use crate::resolve::local::dns64::Dns64;
use crate::resolve::local::rewrite::{InvalidPattern, Rewrites};
use crate::resolve::{Before, Behind};
use std::sync::Arc;

/// The rules before the cache; `None` when there are none.
pub(super) fn before(zone: &config::Zone) -> Option<Arc<Before>> {
    // Whoever else may answer comes first.
    let whoami = zone.whoami && zone.forwards.is_empty() && zone.hosts.is_none() && zone.respond.is_empty();
    let before = Before {
        acl: (!zone.acl.is_empty()).then(|| Acl::new(&zone.acl)),
        refuse_any: zone.refuse_any,
        whoami,
        dns64: zone.dns64.map(Dns64::new),
        balance: zone.load_balance.as_ref().map(Balance::new),
    };
    let any = before.refuse_any || before.whoami || before.acl.is_some() || before.dns64.is_some();
    (any || before.balance.is_some()).then(|| Arc::new(before))
}

/// The rules behind the cache; `None` when there are none.
///
/// # Errors
/// A regular expression is none; the configuration's check lets none such through.
pub(super) fn behind(zone: &config::Zone) -> Result<Option<Arc<Behind>>, InvalidPattern> {
    let rewrites = if zone.rewrite.is_empty() { None } else { Some(Rewrites::new(&zone.rewrite)?) };
    let behind = Behind { rewrites, minimal: zone.minimal_responses, answers: Vec::new() };
    let any = behind.rewrites.is_some() || behind.minimal || !behind.answers.is_empty();
    Ok(any.then(|| Arc::new(behind)))
}
