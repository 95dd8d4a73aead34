//! `zones[].rewrite` as it is written: every key optional, nothing checked beyond the type of each value.

use schemars::JsonSchema;
use serde::Deserialize;

use super::{Action, Kind};
use crate::config::rules::{Class, Pattern, Rcode, RrType};
use crate::config::text::{Span, Text};

/// One rule: exactly one of its keys beside continue.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub(in crate::config) struct Rule {
    /// Whether the rules behind this one are tried too when it applies. Default: false.
    pub(super) r#continue: Option<bool>,
    /// Asks for another name.
    pub(super) name: Option<NameRule>,
    /// Asks for another type.
    pub(super) r#type: Option<TypePair>,
    /// Asks in another class.
    pub(super) class: Option<ClassPair>,
    /// Changes the EDNS options of the query that goes upstream.
    pub(super) edns0: Option<Edns0Rule>,
    /// Brings the TTLs of answers between bounds.
    pub(super) ttl: Option<TtlRule>,
    /// Leads a CNAME elsewhere.
    pub(super) cname: Option<CnameRule>,
    /// Gives another response code.
    pub(super) rcode: Option<RcodeRule>,
}

/// What is written in a rule that asks for another name.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct NameRule {
    /// How from is compared with the name. Default: exact.
    pub(super) kind: Option<Kind>,
    /// What is replaced.
    #[schemars(required)]
    pub(super) from: Option<String>,
    /// By what; with kind regex, {1} is what the first group has matched.
    #[schemars(required)]
    pub(super) to: Option<String>,
    /// Whether names in the answer are changed back. Default: false; with kind exact they always are.
    pub(super) auto: Option<bool>,
    /// Changes of the names that records of the answer stand at.
    #[serde(default)]
    pub(super) answer_names: Vec<Replacement>,
    /// Changes of the names that records of the answer lead to.
    #[serde(default)]
    pub(super) answer_values: Vec<Replacement>,
}

/// A regular expression and what takes the place of a name that it matches.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Replacement {
    /// The regular expression.
    #[schemars(required)]
    pub(super) from: Option<Text<Pattern>>,
    /// The new name; {1} is what the first group has matched.
    #[schemars(required)]
    pub(super) to: Option<String>,
}

/// A type and what it becomes.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct TypePair {
    /// What is asked.
    #[schemars(required)]
    pub(super) from: Option<Text<RrType>>,
    /// What is looked up.
    #[schemars(required)]
    pub(super) to: Option<Text<RrType>>,
}

/// A class and what it becomes.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct ClassPair {
    /// What is asked.
    #[schemars(required)]
    pub(super) from: Option<Text<Class>>,
    /// What is looked up.
    #[schemars(required)]
    pub(super) to: Option<Text<Class>>,
}

/// Which EDNS option.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(super) enum Which {
    /// The one of code.
    Local,
    /// NSID, empty (RFC 5001).
    Nsid,
    /// The client's network (RFC 7871).
    Subnet,
}

/// What is written in a rule that changes an EDNS option.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Edns0Rule {
    /// What is done to it.
    #[schemars(required)]
    pub(super) action: Option<Action>,
    /// Which option.
    #[schemars(required)]
    pub(super) option: Option<Which>,
    /// Of a local option: its code, such as 0xffee.
    pub(super) code: Option<String>,
    /// Of a local option: text, 0x and hexadecimal digits, or one of {qname}, {qtype}, {client_ip}, {client_port},
    /// {protocol}, {server_ip} and {server_port}.
    pub(super) data: Option<String>,
    /// Of subnet: how many bits of an IPv4 client's address are told.
    #[schemars(range(max = 32))]
    pub(super) v4: Option<u64>,
    /// The same for IPv6.
    #[schemars(range(max = 128))]
    pub(super) v6: Option<u64>,
    /// Has no effect: options of upstreams never reach clients.
    pub(super) revert: Option<bool>,
}

/// What is written in a rule that bounds TTLs.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct TtlRule {
    /// How name is compared with the name asked for. Default: exact.
    pub(super) kind: Option<Kind>,
    /// Whose answers.
    #[schemars(required)]
    pub(super) name: Option<String>,
    /// TTLs below it are raised to it. Default: 0s.
    pub(super) min: Option<Text<Span>>,
    /// TTLs above it are cut to it. Default: no bound.
    pub(super) max: Option<Text<Span>>,
}

/// What is written in a rule that leads a CNAME elsewhere.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct CnameRule {
    /// How from is compared with the name that the CNAME leads to. Default: exact.
    pub(super) kind: Option<Kind>,
    /// What is replaced.
    #[schemars(required)]
    pub(super) from: Option<String>,
    /// By what; with kind regex, {1} is what the first group has matched.
    #[schemars(required)]
    pub(super) to: Option<String>,
}

/// What is written in a rule that gives another response code.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct RcodeRule {
    /// How name is compared with the name asked for. Default: exact.
    pub(super) kind: Option<Kind>,
    /// Whose answers.
    #[schemars(required)]
    pub(super) name: Option<String>,
    /// The response code that is replaced, such as NXDOMAIN.
    #[schemars(required)]
    pub(super) from: Option<Text<Rcode>>,
    /// By which.
    #[schemars(required)]
    pub(super) to: Option<Text<Rcode>>,
}
