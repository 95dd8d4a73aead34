//! `zones[].rewrite`: rules that alter questions before they are looked up, and what comes back.
//!
//! The words are those of CoreDNS's plugin of that name. What is prefix, suffix or part of a name is compared as text,
//! in lower case and with the dot that ends a name; `resolve::local::rewrite` says what each rule does.

use regex_lite::Regex;
use schemars::JsonSchema;
use serde::Deserialize;

use super::words;
use crate::config::check::Check;
use crate::config::limits;
use crate::config::problem::{hint, quoted};
use crate::config::text::{Span, Text};

/// The longest TTL, in seconds (RFC 2181 §8).
const MAX_TTL: u64 = i32::MAX as u64;
/// What `data` of an EDNS option may be filled with.
const VARIABLES: [&str; 7] =
    ["{qname}", "{qtype}", "{client_ip}", "{client_port}", "{protocol}", "{server_ip}", "{server_port}"];

/// One rule: exactly one of its keys beside continue.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub(in crate::config) struct Rule {
    /// Whether the rules behind this one are tried too when it applies. Default: false.
    r#continue: Option<bool>,
    /// Asks for another name.
    name: Option<NameRule>,
    /// Asks for another type.
    r#type: Option<Pair>,
    /// Asks in another class.
    class: Option<Pair>,
    /// Changes the EDNS options of the query that goes upstream.
    edns0: Option<Edns0Rule>,
    /// Brings the TTLs of answers between bounds.
    ttl: Option<TtlRule>,
    /// Leads a CNAME elsewhere.
    cname: Option<CnameRule>,
    /// Gives another response code.
    rcode: Option<RcodeRule>,
}

/// How a text is compared with a name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// It is the name.
    #[default]
    Exact,
    /// The name begins with it.
    Prefix,
    /// The name ends with it.
    Suffix,
    /// The name holds it.
    Substring,
    /// It is a regular expression that matches somewhere in the name.
    Regex,
}

/// What is written in a rule that asks for another name.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
struct NameRule {
    /// How from is compared with the name. Default: exact.
    kind: Option<Kind>,
    /// What is replaced.
    #[schemars(required)]
    from: Option<String>,
    /// By what; with kind regex, {1} is what the first group has matched.
    #[schemars(required)]
    to: Option<String>,
    /// Whether names in the answer are changed back. Default: false; with kind exact they always are.
    auto: Option<bool>,
    /// Changes of the names that records of the answer stand at.
    answer_names: Vec<Replacement>,
    /// Changes of the names that records of the answer lead to.
    answer_values: Vec<Replacement>,
}

/// A regular expression and what takes the place of a name that it matches.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
struct Replacement {
    /// The regular expression.
    #[schemars(required)]
    from: Option<String>,
    /// The new name; {1} is what the first group has matched.
    #[schemars(required)]
    to: Option<String>,
}

/// A type or class and what it becomes.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
struct Pair {
    /// What is asked.
    #[schemars(required)]
    from: Option<String>,
    /// What is looked up.
    #[schemars(required)]
    to: Option<String>,
}

/// What is done to an EDNS option.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Action {
    /// Replaced, or added where there is none.
    #[default]
    Set,
    /// Added, whether there is one or not.
    Append,
    /// Replaced, where there is one.
    Replace,
    /// Removed.
    Unset,
}

/// Which EDNS option.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum Which {
    /// The one of code.
    Local,
    /// NSID, empty (RFC 5001).
    Nsid,
    /// The client's network (RFC 7871).
    Subnet,
}

/// What is written in a rule that changes an EDNS option.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
struct Edns0Rule {
    /// What is done to it.
    #[schemars(required)]
    action: Option<Action>,
    /// Which option.
    #[schemars(required)]
    option: Option<Which>,
    /// Of a local option: its code, such as 0xffee.
    code: Option<String>,
    /// Of a local option: text, 0x and hexadecimal digits, or one of {qname}, {qtype}, {client_ip}, {client_port},
    /// {protocol}, {server_ip} and {server_port}.
    data: Option<String>,
    /// Of subnet: how many bits of an IPv4 client's address are told.
    #[schemars(range(max = 32))]
    v4: Option<u64>,
    /// The same for IPv6.
    #[schemars(range(max = 128))]
    v6: Option<u64>,
    /// Has no effect: options of upstreams never reach clients.
    revert: Option<bool>,
}

/// What is written in a rule that bounds TTLs.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
struct TtlRule {
    /// How name is compared with the name asked for. Default: exact.
    kind: Option<Kind>,
    /// Whose answers.
    #[schemars(required)]
    name: Option<String>,
    /// TTLs below it are raised to it. Default: 0s.
    min: Option<Text<Span>>,
    /// TTLs above it are cut to it. Default: no bound.
    max: Option<Text<Span>>,
}

/// What is written in a rule that leads a CNAME elsewhere.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
struct CnameRule {
    /// How from is compared with the name that the CNAME leads to. Default: exact.
    kind: Option<Kind>,
    /// What is replaced.
    #[schemars(required)]
    from: Option<String>,
    /// By what; with kind regex, {1} is what the first group has matched.
    #[schemars(required)]
    to: Option<String>,
}

/// What is written in a rule that gives another response code.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
struct RcodeRule {
    /// How name is compared with the name asked for. Default: exact.
    kind: Option<Kind>,
    /// Whose answers.
    #[schemars(required)]
    name: Option<String>,
    /// The response code that is replaced, such as NXDOMAIN.
    #[schemars(required)]
    from: Option<String>,
    /// By which.
    #[schemars(required)]
    to: Option<String>,
}

/// A rule that alters questions or answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rewrite {
    /// Whether the rules behind it are tried too when it applies.
    pub go_on: bool,
    /// What it does.
    pub change: Change,
}

/// What a rule does. Texts are in lower case, regular expressions apart, and valid; names end in a dot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// Asks for another name.
    Name {
        /// How the name is compared with `from`.
        kind: Kind,
        /// What is replaced.
        from: String,
        /// By what.
        to: String,
        /// Whether names in the answer are changed back.
        auto: bool,
        /// Regular expressions and what takes the place of owner names that they match.
        owners: Vec<(String, String)>,
        /// The same for names in RDATA.
        targets: Vec<(String, String)>,
    },
    /// Asks for another type.
    Type {
        /// QTYPE.
        from: u16,
        /// What is looked up.
        to: u16,
    },
    /// Asks in another class.
    Class {
        /// QCLASS.
        from: u16,
        /// What is looked up.
        to: u16,
    },
    /// Changes an EDNS option of the query.
    Edns0 {
        /// What is done.
        action: Action,
        /// To which.
        option: EdnsOption,
    },
    /// Bounds the TTLs of the answer.
    Ttl {
        /// How the name is compared with `name`.
        kind: Kind,
        /// Whose answers.
        name: String,
        /// Seconds.
        min: u32,
        /// Seconds.
        max: u32,
    },
    /// Leads a CNAME elsewhere.
    Cname {
        /// How its target is compared with `from`.
        kind: Kind,
        /// What is replaced.
        from: String,
        /// By what.
        to: String,
    },
    /// Gives another response code.
    Rcode {
        /// How the name is compared with `name`.
        kind: Kind,
        /// Whose answers.
        name: String,
        /// Which.
        from: u16,
        /// By which.
        to: u16,
    },
}

/// An EDNS option and what it is filled with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EdnsOption {
    /// Any, with fixed octets.
    Local(u16, Vec<u8>),
    /// Any, with what a variable such as `{client_ip}` stands for.
    Variable(u16, String),
    /// NSID, empty.
    Nsid,
    /// The client's network: bits of an IPv4 and of an IPv6 address.
    Subnet(u8, u8),
}
