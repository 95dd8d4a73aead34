//! What a zone says in the log of queries and failures, made from the configuration.

use crate::config::{ErrorLevel, LogClass, Protocol, Zone};
use crate::observe::errors::{Consolidate, Errors};
use crate::observe::querylog::{Class, QueryLog};
use crate::wire::question::to_wire;
use regex_lite::Regex;
use std::sync::Arc;
use tracing::Level;

/// The query log of `zone`, if it has one.
pub(super) fn query_log(zone: &Zone) -> Option<Arc<QueryLog>> {
    let log = zone.log.as_ref()?;
    let names = log.names.iter().map(|name| to_wire(name).into()).collect();
    let class = |class: &LogClass| match class {
        LogClass::All => vec![Class::Success, Class::Denial, Class::Error],
        LogClass::Success => vec![Class::Success],
        LogClass::Denial => vec![Class::Denial],
        LogClass::Error => vec![Class::Error],
    };
    Some(Arc::new(QueryLog::new(names, log.classes.iter().flat_map(class).collect(), &log.format)))
}

/// How the failures of `zone` are told, if they are in CoreDNS's words.
pub(super) fn errors(zone: &Zone) -> Option<Arc<Errors>> {
    let errors = zone.errors.as_ref()?;
    let rules = errors.consolidate.iter().filter_map(|rule| {
        let level = match rule.level {
            ErrorLevel::Error => Level::ERROR,
            ErrorLevel::Warning => Level::WARN,
            ErrorLevel::Info => Level::INFO,
            ErrorLevel::Debug => Level::DEBUG,
        };
        // That it can be read was checked with the configuration.
        let matching = Regex::new(&rule.matching).ok()?;
        Some(Consolidate { every: rule.every, matching, level, show_first: rule.show_first })
    });
    let over_tcp = zone.forwards.first().is_some_and(|forward| forward.protocol == Protocol::Tcp);
    Some(Arc::new(Errors::new(rules.collect(), if over_tcp { "tcp" } else { "udp" })))
}
