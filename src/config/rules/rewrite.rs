//! `zones[].rewrite`: rules that alter questions before they are looked up, and what comes back.
//!
//! The words are those of CoreDNS's plugin of that name. What is prefix, suffix or part of a name is compared as text, in
//! lower case and with the dot that ends a name; `resolve::local::rewrite` says what each rule does.

mod check;
#[cfg(test)]
mod tests;
mod written;

use schemars::JsonSchema;
use serde::Deserialize;

pub(in crate::config) use written::Rule;

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
