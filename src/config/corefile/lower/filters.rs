//! Plugins that look at who asks or at what the client gets: acl, dns64 and loadbalance.

use ipnet::IpNet;

use crate::config::corefile::lower::node::{Map, text, texts};
use crate::config::corefile::lower::words::{Reading, whole};
use crate::config::corefile::{Directive, Word};
use crate::config::problem::{hint, quoted};
use crate::config::text::Span;
use crate::config::tree::Node;

/// Reads acl.
pub(super) fn acl(reading: &mut Reading<'_>, lines: &[&Directive], zone: &mut Map) {
    let mut rules = Vec::new();
    for line in lines {
        let names = reading.zones(&line.arguments);
        for property in line.body.iter().flatten() {
            if let Some((action, rest)) = property.0.split_first() {
                rules.extend(rule(reading, action, rest, &names));
            }
        }
    }
    zone.list("acl", rules);
}

/// `ACTION [type TYPES…] [net NETWORKS…]`.
fn rule(reading: &mut Reading<'_>, action: &Word, mut rest: &[Word], names: &[Node]) -> Option<Node> {
    const ACTIONS: [&str; 4] = ["allow", "block", "filter", "drop"];
    let verb = action.text.to_ascii_lowercase();
    if !ACTIONS.contains(&verb.as_str()) {
        let hint = hint(&verb, &ACTIONS);
        return reading.refuse(action, format!("unexpected {}{hint}", quoted(&action.text)));
    }
    let (mut types, mut networks) = (Vec::new(), Vec::new());
    let (mut all_types, mut all_networks) = (false, false);
    let is_section = |word: &Word| ["type", "net"].iter().any(|section| word.text.eq_ignore_ascii_case(section));
    while let Some(section) = rest.split_off_first() {
        if !is_section(section) {
            return reading
                .refuse(section, format!("unexpected {}; write type TYPES or net NETWORKS", quoted(&section.text)));
        }
        let end = rest.iter().position(is_section).unwrap_or(rest.len());
        let (these, behind) = rest.split_at(end);
        rest = behind;
        reading.first(section, these, &format!("{} and something behind it", section.text))?;
        let all = these.iter().any(|word| word.text == "*");
        if section.text.eq_ignore_ascii_case("type") {
            all_types |= all;
            types.extend(texts(these));
        } else {
            all_networks |= all;
            for word in these.iter().filter(|_| !all) {
                networks.push(network(reading, word)?);
            }
        }
    }
    let mut keys = Map::new(action.from);
    keys.text("action", action.from, verb);
    keys.list("names", names.to_vec());
    if !all_types {
        keys.list("types", types);
    }
    if !all_networks {
        keys.list("networks", networks);
    }
    Some(keys.node())
}

/// A network or an address; bits behind the mask do not count.
fn network(reading: &mut Reading<'_>, word: &Word) -> Option<Node> {
    let one = || word.text.parse().ok().map(|ip: std::net::IpAddr| IpNet::from(ip));
    match word.text.parse::<IpNet>().ok().or_else(one) {
        Some(network) => Some(text(word.from, network.trunc())),
        None => reading
            .refuse(word, format!("illegal CIDR notation {}; write a network such as 10.0.0.0/8", quoted(&word.text))),
    }
}

/// Reads dns64.
pub(super) fn dns64(reading: &mut Reading<'_>, lines: &[&Directive], zone: &mut Map) {
    let Some(line) = lines.first() else { return };
    let mut keys = Map::new(line.name.from);
    let mut prefix = None;
    let (mut all, mut v4) = (None, None);
    for line in lines {
        reading.at_most(&line.arguments, 1, "dns64 [PREFIX]");
        prefix = line.arguments.first().or(prefix);
        for property in line.body.iter().flatten() {
            let Some((name, rest)) = property.0.split_first() else { continue };
            match name.text.as_str() {
                "prefix" => prefix = reading.one(name, rest, "prefix PREFIX, such as prefix 64:ff9b::/96").or(prefix),
                "translate_all" => all = Some(name),
                "allow_ipv4" => v4 = Some(name),
                _ => reading.unknown(name, &["prefix", "translate_all", "allow_ipv4"]),
            }
        }
    }
    if let Some(node) = prefix.and_then(|word| network(reading, word)) {
        keys.put("prefix", node);
    }
    for (key, word) in [("translateAll", all), ("allowIpv4", v4)] {
        if let Some(word) = word {
            keys.text(key, word.from, "true");
        }
    }
    zone.put("dns64", keys.node());
}

/// Reads loadbalance.
pub(super) fn load_balance(reading: &mut Reading<'_>, lines: &[&Directive], zone: &mut Map) {
    // CoreDNS sets it up from its first line.
    let Some(line) = lines.first() else { return };
    let mut keys = Map::new(line.name.from);
    let mut arguments = line.arguments.as_slice();
    let policy = arguments.split_off_first();
    let weighted = match policy.map(|word| (word, word.text.as_str())) {
        None => false,
        Some((word, "round_robin")) => {
            reading.at_most(arguments, 0, "loadbalance round_robin");
            keys.text("policy", word.from, "round-robin");
            false
        }
        Some((word, "weighted")) => {
            keys.text("policy", word.from, "weighted");
            if let Some(file) = reading.one(word, arguments, "loadbalance weighted FILE") {
                keys.text("file", file.from, &file.text);
            }
            true
        }
        Some((word, other)) => {
            let hint = hint(other, &["round_robin", "weighted"]);
            return reading.refuse(word, format!("unknown policy {}{hint}", quoted(other))).unwrap_or_default();
        }
    };
    for property in line.body.iter().flatten() {
        let Some((name, rest)) = property.0.split_first() else { continue };
        match name.text.as_str() {
            "reload" if weighted => {
                let word = reading.one(name, rest, "reload DURATION");
                if let Some((word, every)) = word.and_then(|word| Some((word, reading.duration(word)?))) {
                    keys.text("reload", word.from, Span(whole(every)));
                }
            }
            "prefer" => {
                reading.first(name, rest, "prefer NETWORKS...");
                let networks: Vec<Option<Node>> = rest.iter().map(|word| network(reading, word)).collect();
                keys.list("prefer", networks.into_iter().flatten().collect());
            }
            _ => reading.unknown(name, if weighted { &["reload", "prefer"] } else { &["prefer"] }),
        }
    }
    zone.put("loadBalance", keys.node());
}
