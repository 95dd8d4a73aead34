//! `zones[].acl`: who may ask what. The first rule that fits decides; what none fits is allowed.

use ipnet::IpNet;
use schemars::JsonSchema;
use serde::Deserialize;

use crate::config::address::Name;
use crate::config::check::Check;
use crate::config::limits;
use crate::config::rules::RrType;
use crate::config::text::Text;

/// What becomes of a query.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum AclAction {
    /// It is answered.
    Allow,
    /// It is refused (REFUSED).
    Block,
    /// It is answered by nothing (NOERROR without records).
    Filter,
    /// It is not answered.
    Drop,
}

/// Who may ask what.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(in crate::config) struct Rule {
    /// What becomes of a query that fits.
    #[schemars(required)]
    action: Option<AclAction>,
    /// Names at or below these. Default: all of the zone.
    names: Option<Vec<Text<Name>>>,
    /// Types. Default: all.
    types: Option<Vec<Text<RrType>>>,
    /// Networks that the client is in. Default: all.
    networks: Option<Vec<Text<IpNet>>>,
}

/// What becomes of a query that a rule fits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AclRule {
    /// What becomes of it.
    pub action: AclAction,
    /// Names at or below these, written like [`crate::config::Zone::names`]; empty for all.
    pub names: Vec<String>,
    /// Types; empty for all.
    pub types: Vec<u16>,
    /// Networks of clients; empty for all.
    pub networks: Vec<IpNet>,
}

impl Check<'_> {
    /// The rules of `key`, a zone's acl.
    pub(in crate::config) fn acl(&mut self, given: &[Rule], key: &str) -> Vec<AclRule> {
        let mut given: Vec<&Rule> = given.iter().collect();
        self.at_most(&mut given, limits::MAX_RULES, key);
        let rules = given.iter().enumerate();
        rules.filter_map(|(i, rule)| self.acl_rule(rule, &format!("{key}[{i}]"))).collect()
    }

    fn acl_rule(&mut self, rule: &Rule, key: &str) -> Option<AclRule> {
        let names = self.entries(&rule.names, &format!("{key}.names"), |name| name.0.clone());
        let types = self.entries(&rule.types, &format!("{key}.types"), |rtype| rtype.0);
        let networks = self.entries(&rule.networks, &format!("{key}.networks"), |network| *network);
        Some(AclRule { action: rule.action?, names, types, networks })
    }

    /// The entries of a list that stands for everything when it is left out, and so must not be empty.
    fn entries<T, U>(&mut self, given: &Option<Vec<Text<T>>>, key: &str, convert: fn(&T) -> U) -> Vec<U> {
        let mut entries: Vec<U> = given.iter().flatten().map(|text| convert(&text.0)).collect();
        if given.is_some() && entries.is_empty() {
            self.problem(key, "an empty list: the rule would fit nothing; leave the key out for everything");
        }
        self.at_most(&mut entries, limits::MAX_RULES, key);
        entries
    }
}
