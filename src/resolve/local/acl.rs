//! `zones[].acl`: who may ask what. Rules in order, the first that fits decides, and what none fits is allowed.

use crate::config::{AclAction, AclRule};
use crate::wire::edns::ede;
use crate::wire::header::rcode;
use crate::wire::question::{Question, is_within, to_wire};
use ipnet::IpNet;
use std::net::IpAddr;

/// The rules of a zone.
#[derive(Debug)]
pub struct Acl(Vec<Rule>);

/// A rule; empty lists fit everything.
#[derive(Debug)]
struct Rule {
    action: AclAction,
    /// Lower-case wire names.
    names: Vec<Vec<u8>>,
    types: Vec<u16>,
    networks: Vec<IpNet>,
}

impl Acl {
    /// The rules that the configuration has.
    pub fn new(rules: &[AclRule]) -> Acl {
        let rule = |rule: &AclRule| Rule {
            action: rule.action,
            names: rule.names.iter().map(|name| to_wire(name)).collect(),
            types: rule.types.clone(),
            networks: rule.networks.clone(),
        };
        Acl(rules.iter().map(rule).collect())
    }

    /// What becomes of `question` when `client` asks it.
    pub fn verdict(&self, client: IpAddr, question: &Question) -> AclAction {
        let client = client.to_canonical();
        let fits = |rule: &&Rule| {
            (rule.types.is_empty() || rule.types.contains(&question.qtype()))
                && (rule.names.is_empty() || rule.names.iter().any(|name| is_within(question.name(), name)))
                && (rule.networks.is_empty() || rule.networks.iter().any(|network| network.contains(&client)))
        };
        self.0.iter().find(fits).map_or(AclAction::Allow, |rule| rule.action)
    }
}

/// The answer without records that a verdict leads to: its RCODE and extended error (RFC 8914 §4.16, §4.18); `None` when
/// there is none, because the query goes on or is dropped.
pub fn answer(verdict: AclAction) -> Option<(u16, u16)> {
    match verdict {
        AclAction::Block => Some((rcode::REFUSED, ede::BLOCKED)),
        AclAction::Filter => Some((rcode::NOERROR, ede::FILTERED)),
        AclAction::Allow | AclAction::Drop => None,
    }
}

#[cfg(test)]
mod tests;
