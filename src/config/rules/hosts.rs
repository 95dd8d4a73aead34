//! `zones[].hosts`: names with fixed addresses, written here or in files of the form of `/etc/hosts`.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use schemars::JsonSchema;
use serde::Deserialize;

use crate::config::address::Name;
use crate::config::check::Check;
use crate::config::limits;
use crate::config::problem::quoted;
use crate::config::text::{Form, Span, Text};

/// A name that has addresses: a domain name, or `*.` and the domain below which every name has them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::config) struct HostName(String);

impl Form for HostName {
    const FORMAT: &'static str = "host-name";

    fn read(text: &str) -> Result<HostName, String> {
        match text.strip_prefix("*.") {
            Some(below) => Name::read(below).map(|Name(below)| HostName(format!("*.{below}"))),
            None if text == "." => Err(format!("{} is no name that could have addresses", quoted(text))),
            None => Name::read(text).map(|Name(name)| HostName(name)),
        }
    }
}

/// Names with fixed addresses.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub(in crate::config) struct Written {
    /// Files of the form of /etc/hosts; they are read again when they change. Default: none.
    files: Option<Vec<String>>,
    /// Addresses, and the names that each has. A name may begin with "*.", for every name below it.
    #[schemars(extend("propertyNames" = { "format": <IpAddr as Form>::FORMAT }))]
    entries: BTreeMap<String, Vec<Text<HostName>>>,
    /// The TTL of answers, from 1s to 65535s. Default: 1h.
    ttl: Option<Text<Span>>,
    /// Whether questions for the names of addresses (PTR) are answered, too. Default: true.
    reverse: Option<bool>,
    /// How often files are looked at, at most 1d; 0s for once. Default: 5s.
    reload: Option<Text<Span>>,
    /// Names at or below these alone. Default: all of the zone.
    names: Option<Vec<Text<Name>>>,
    /// The names, with those below them, that are looked up as ever when they have no addresses here; others are
    /// SERVFAIL then. Default: ["."].
    fallthrough: Option<Vec<Text<Name>>>,
}

/// Names with fixed addresses. Names of domains are written like [`crate::config::Zone::names`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hosts {
    /// Files to read; absolute.
    pub files: Vec<PathBuf>,
    /// Addresses and their names, in lower case, which may begin with `*.`.
    pub entries: Vec<(IpAddr, Vec<String>)>,
    /// The TTL of answers.
    pub ttl: Duration,
    /// Whether PTR is answered.
    pub reverse: bool,
    /// How often files are looked at; zero for once.
    pub reload: Duration,
    /// Only names at or below these.
    pub names: Vec<String>,
    /// Names at or below these go on when they have no addresses here.
    pub fallthrough: Vec<String>,
}

impl Check<'_> {
    /// The meaning of `key`, the hosts of a zone of these names.
    pub(in crate::config) fn hosts(&mut self, given: &Written, zone: &[String], key: &str) -> Hosts {
        let mut files: Vec<PathBuf> = given.files.iter().flatten().map(PathBuf::from).collect();
        let at = format!("{key}.files");
        self.at_most(&mut files, limits::MAX_HOSTS_FILES, &at);
        for (i, file) in files.iter().enumerate() {
            if !file.is_absolute() || file.file_name().is_none() {
                self.problem(&format!("{at}[{i}]"), "must be the absolute path of a file, such as /etc/hosts");
            }
        }
        if given.files.is_none() && given.entries.is_empty() && !self.is_suspect(&format!("{key}.entries")) {
            self.problem(key, "neither files nor entries: no name would have an address");
        }
        let entries = given.entries.iter().filter_map(|(address, names)| {
            let names = names.iter().map(|Text(HostName(name))| name.clone()).collect();
            Some((address.parse().ok()?, names))
        });
        let seconds = |span: Duration| Duration::from_secs(span.as_secs());
        Hosts {
            entries: entries.collect(),
            ttl: seconds(self.span(&given.ttl, limits::HOSTS_TTL, limits::HOSTS_TTL.default, &format!("{key}.ttl"))),
            reverse: given.reverse.unwrap_or(true),
            reload: {
                let limit = limits::HOSTS_RELOAD;
                self.span(&given.reload, limit, limit.default, &format!("{key}.reload"))
            },
            names: self.scope(&given.names, zone, &format!("{key}.names")),
            fallthrough: fallthrough(&given.fallthrough),
            files,
        }
    }

    /// The names that a rule is for: those written, or those of the zone.
    pub(super) fn scope(&mut self, given: &Option<Vec<Text<Name>>>, zone: &[String], key: &str) -> Vec<String> {
        let Some(names) = given else { return zone.to_vec() };
        let mut names: Vec<String> = names.iter().map(|Text(Name(name))| name.clone()).collect();
        if names.is_empty() {
            self.problem(key, "an empty list: nothing would be answered; leave the key out for all names of the zone");
        }
        self.at_most(&mut names, limits::MAX_RULES, key);
        names
    }
}

/// Where what is not answered goes on: everywhere, unless it is written otherwise.
pub(super) fn fallthrough(given: &Option<Vec<Text<Name>>>) -> Vec<String> {
    match given {
        None => vec![".".to_owned()],
        Some(names) => names.iter().map(|Text(Name(name))| name.clone()).collect(),
    }
}
