//! The plugin forward: `zones[].forward`, and `further` for all but the first line of a block.
//!
//! A file of servers is followed here, where CoreDNS reads it once. What CoreDNS lets one tune of its probes and its
//! connections has no counterpart: nodens sees to both by itself, and says so.

use std::time::Duration;

use crate::config::address::Target;
use crate::config::corefile::lower::node::{Map, text, texts};
use crate::config::corefile::lower::words::{Reading, whole};
use crate::config::corefile::{Directive, Word};
use crate::config::limits;
use crate::config::problem::{hint, quoted};
use crate::config::text::{Form, Span};
use crate::config::tree::{Node, Place, Value};

/// Most servers of one line.
const MAX_SERVERS: usize = 15;
/// The properties.
const PROPERTIES: [&str; 19] = [
    "except",
    "force_tcp",
    "prefer_udp",
    "expire",
    "max_age",
    "max_fails",
    "max_connect_attempts",
    "max_idle_conns",
    "tls",
    "tls_servername",
    "policy",
    "health_check",
    "max_concurrent",
    "next",
    "next_on_nodata",
    "failover",
    "failfast_all_unhealthy_upstreams",
    "read_timeout",
    "source_address",
];
/// RCODEs that can be told apart.
const RCODES: [&str; 12] = [
    "NOERROR", "FORMERR", "SERVFAIL", "NXDOMAIN", "NOTIMP", "REFUSED", "YXDOMAIN", "YXRRSET", "NXRRSET", "NOTAUTH",
    "NOTZONE", "BADVERS",
];

/// Reads all lines of the plugin.
pub(super) fn forward(reading: &mut Reading<'_>, lines: &[&Directive], zone: &mut Map) {
    let mut all: Vec<Node> = lines.iter().filter_map(|line| one(reading, line)).collect();
    if all.is_empty() {
        return;
    }
    zone.put("forward", all.remove(0));
    zone.list("further", all);
}

/// What stands in braces.
#[derive(Default)]
struct Options<'w> {
    keys: Vec<(&'static str, Node)>,
    force_tcp: Option<&'w Word>,
    prefer_udp: Option<&'w Word>,
    next: Vec<Node>,
    tls: Option<&'w Word>,
    certificates: Vec<(&'static str, Node)>,
    server_name: Option<&'w Word>,
    expire: Option<Duration>,
    max_age: Option<(Duration, &'w Word)>,
}

fn one(reading: &mut Reading<'_>, line: &Directive) -> Option<Node> {
    const USAGE: &str = "forward FROM TO..., such as forward . /etc/resolv.conf";
    let mut keys = Map::new(line.name.from);
    let from = reading.first(&line.name, &line.arguments, USAGE)?;
    let to = line.arguments.get(1..).unwrap_or_default();
    reading.first(&line.name, to, USAGE)?;
    let zones = reading.zone(from)?;
    if zones.len() > 1 {
        reading.warn(from, format!("{} stands for several zones, of which CoreDNS takes the first alone", from.text));
    }
    let mut options = Options::default();
    for property in line.body.iter().flatten() {
        if let Some((name, rest)) = property.0.split_first() {
            property_of(reading, name, rest, &mut options);
        }
    }
    if let Some((age, word)) = options.max_age
        && age > Duration::ZERO
        && age < options.expire.unwrap_or(Duration::from_secs(10))
    {
        return reading.refuse(word, "max_age must not be less than expire, which is 10s where it is not written");
    }
    if let Some(extra) = to.get(MAX_SERVERS) {
        return reading.refuse(extra, format!("more than {MAX_SERVERS} servers: {}", to.len()));
    }
    let servers: Vec<Option<Node>> = to.iter().map(|word| server(reading, word, &options)).collect();
    let encrypted = to.iter().any(|word| word.text.starts_with("tls://"));
    keys.list("to", servers.into_iter().collect::<Option<Vec<Node>>>()?);
    let (protocol, at) = match (options.force_tcp, options.prefer_udp) {
        (Some(word), _) => ("tcp", word.from),
        (None, Some(word)) => ("auto", word.from),
        (None, None) => ("auto", line.name.from),
    };
    keys.text("protocol", at, protocol);
    if !options.keys.iter().any(|(key, _)| *key == "policy") {
        keys.text("policy", line.name.from, "random");
    }
    for (key, node) in options.keys {
        keys.put(key, node);
    }
    keys.list("next", options.next);
    if encrypted {
        for (key, node) in options.certificates {
            keys.put(key, node);
        }
    } else if let Some(word) = options.tls.or(options.server_name) {
        reading.warn(word, "has no effect: no server of this line is written as tls://");
    }
    let mut node = Map::new(line.name.from);
    node.append(keys);
    if let Some(zone) = zones.into_iter().next().filter(|_| from.text != ".") {
        node.put("from", zone);
    }
    Some(node.node())
}

/// Reads one property.
fn property_of<'w>(reading: &mut Reading<'_>, name: &'w Word, rest: &'w [Word], options: &mut Options<'w>) {
    let at = name.from;
    let usage = |arguments: &str| format!("{}{}{arguments}", name.text, if arguments.is_empty() { "" } else { " " });
    let flag = |reading: &mut Reading<'_>| reading.at_most(rest, 0, &usage(""));
    let text_of = name.text.as_str();
    match text_of {
        "except" => {
            if reading.first(name, rest, &usage("ZONES...")).is_some() {
                let zones = reading.zones(rest);
                match options.keys.iter_mut().find(|(key, _)| *key == "except") {
                    Some((_, node)) => extend(node, zones),
                    None => options.keys.push(("except", list(at, zones))),
                }
            }
        }
        "force_tcp" => {
            flag(reading);
            options.force_tcp = Some(name);
        }
        "prefer_udp" => {
            flag(reading);
            options.prefer_udp = Some(name);
        }
        "failfast_all_unhealthy_upstreams" => {
            flag(reading);
            put(options, "failFast", text(at, "true"));
        }
        "next_on_nodata" => {
            flag(reading);
            options.next.push(text(at, "NODATA"));
        }
        "next" | "failover" => {
            if let Some(codes) =
                reading.first(name, rest, &usage("RCODE...")).and_then(|_| codes(reading, rest, text_of))
            {
                if text_of == "next" { options.next.extend(codes) } else { put(options, "failover", list(at, codes)) }
            }
        }
        "expire" | "max_age" | "read_timeout" => {
            let word = reading.one(name, rest, &usage("DURATION"));
            let Some((word, duration)) = word.and_then(|word| Some((word, reading.duration(word)?))) else { return };
            match text_of {
                "expire" => options.expire = Some(duration),
                "max_age" => options.max_age = Some((duration, word)),
                _ => {}
            }
            let key = match text_of {
                "expire" => "idle",
                "max_age" => "maxAge",
                _ => "timeout",
            };
            let limit = match text_of {
                "expire" => limits::IDLE,
                "max_age" => limits::MAX_AGE,
                _ => limits::TIMEOUT,
            };
            let zero = text_of == "max_age" && duration.is_zero();
            let duration = if zero { duration } else { reading.bounded(word, whole(duration), limit) };
            put(options, key, text(word.from, Span(duration)));
        }
        "max_concurrent" => {
            let number =
                reading.one(name, rest, &usage("NUMBER")).map(|word| (word, reading.number_within(word, 0, i64::MAX)));
            if let Some((word, Some(number))) = number {
                let most = i64::try_from(limits::MAX_CONCURRENT.max).unwrap_or(i64::MAX);
                put(options, "maxConcurrent", text(word.from, number.min(most)));
            }
        }
        "max_fails" | "max_connect_attempts" | "max_idle_conns" => {
            let word = reading.one(name, rest, &usage("NUMBER"));
            if word.and_then(|word| reading.number_within(word, 0, u32::MAX.into())).is_some() {
                let (what, message) = match text_of {
                    "max_fails" => ("max_fails", "nodens judges by itself when a server is down"),
                    "max_connect_attempts" => ("attempts", "a question is tried for 4.5 s, whatever it takes"),
                    _ => ("idle", "nodens keeps no more connections than it needs"),
                };
                reading.warn_once(what, name, format!("{text_of} has no meaning here: {message}"));
            }
        }
        "health_check" => health_check(reading, name, rest),
        "policy" => {
            let Some(word) = reading.one(name, rest, &usage("random|round_robin|sequential")) else { return };
            match word.text.as_str() {
                "random" | "round_robin" | "sequential" => {
                    put(options, "policy", text(word.from, word.text.replace('_', "-")));
                }
                other => {
                    let hint = hint(other, &["random", "round_robin", "sequential"]);
                    reading.refuse::<()>(word, format!("unknown policy {}{hint}", quoted(other)));
                }
            }
        }
        "tls" => {
            reading.at_most(rest, 3, &usage("[CERT KEY] [CA]"));
            options.tls = Some(name);
            let names: &[&'static str] = match rest.len() {
                1 => &["ca"],
                _ => &["certificate", "key", "ca"],
            };
            options.certificates = names.iter().copied().zip(texts(rest)).collect();
        }
        "tls_servername" => options.server_name = reading.one(name, rest, &usage("NAME")),
        "source_address" => {
            let Some(word) = reading.one(name, rest, &usage("ADDRESS")) else { return };
            put(options, "sourceAddress", text(word.from, &word.text));
        }
        _ => reading.unknown(name, &PROPERTIES),
    }
}

/// Sets a key; what is written last holds.
fn put(options: &mut Options<'_>, key: &'static str, node: Node) {
    options.keys.retain(|(known, _)| *known != key);
    options.keys.push((key, node));
}

fn list(place: Place, items: Vec<Node>) -> Node {
    Node { place, value: Value::List(items) }
}

fn extend(node: &mut Node, more: Vec<Node>) {
    if let Value::List(items) = &mut node.value {
        items.extend(more);
    }
}

/// RCODEs by name.
fn codes(reading: &mut Reading<'_>, words: &[Word], property: &str) -> Option<Vec<Node>> {
    let code = |word: &Word| {
        let name = word.text.to_ascii_uppercase();
        let name = if name == "NOTIMPL" { "NOTIMP".to_owned() } else { name };
        if !RCODES.contains(&name.as_str()) {
            let hint = hint(&name, &RCODES);
            return reading.refuse(word, format!("{} is not a valid rcode{hint}", quoted(&word.text)));
        }
        if property == "failover" && name == "NOERROR" {
            return reading.refuse(word, "NOERROR is no failure that another server could mend");
        }
        Some(text(word.from, name))
    };
    let found: Vec<Option<Node>> = words.iter().map(code).collect();
    found.into_iter().collect()
}

/// `health_check DURATION [no_rec] [domain FQDN]`.
fn health_check(reading: &mut Reading<'_>, name: &Word, arguments: &[Word]) {
    const USAGE: &str = "health_check DURATION [no_rec] [domain FQDN]";
    let Some((first, mut rest)) = arguments.split_first() else {
        return reading.refuse(name, format!("an argument is missing; write {USAGE}")).unwrap_or_default();
    };
    if reading.duration(first).is_none() {
        return;
    }
    while let Some(word) = rest.split_off_first() {
        match word.text.as_str() {
            "no_rec" => {}
            "domain" => match rest.split_off_first() {
                Some(domain) => drop(reading.zone(domain)),
                None => return reading.refuse(word, format!("a name is missing; write {USAGE}")).unwrap_or_default(),
            },
            _ => return reading.unknown(word, &["no_rec", "domain"]),
        }
    }
    let message =
        "health_check has no meaning here: nodens probes servers that fail by itself, and more seldom with time";
    reading.warn_once("health_check", name, message);
}

/// One server, as `forward.to` writes it.
fn server(reading: &mut Reading<'_>, word: &Word, options: &Options<'_>) -> Option<Node> {
    let (scheme, rest) = word.text.split_once("://").unwrap_or(("dns", &word.text));
    let written = match scheme {
        "dns" => rest.to_owned(),
        "tls" => {
            // ADDRESS%NAME and ADDRESS%NAME:PORT; a bracketed address has its name behind the bracket.
            let (address, name) = match rest.split_once('%') {
                None => (rest.to_owned(), None),
                Some((address, name)) => {
                    let (name, port) = name.rsplit_once(':').map_or((name, ""), |(n, _)| (n, &name[n.len()..]));
                    let bracket = if name.ends_with(']') { "]" } else { "" };
                    (format!("{address}{bracket}{port}"), Some(name.trim_end_matches(']')))
                }
            };
            let bare = bare_ip(&address);
            let name = name.or(options.server_name.map(|word| word.text.as_str())).unwrap_or(bare);
            format!("tls://{address}#{name}")
        }
        _ => {
            let message =
                format!("{scheme}:// is not supported as a destination protocol in forward; use dns:// or tls://");
            return reading.refuse(word, message);
        }
    };
    match Target::read(&written) {
        _ if rest.contains('/') && !rest.starts_with('/') => {
            reading.refuse(word, format!("{} is not an absolute path, such as /etc/resolv.conf", quoted(rest)))
        }
        Ok(_) => Some(text(word.from, written)),
        Err(_) if scheme == "dns" => reading.refuse(
            word,
            format!("not an IP address or file: {}; write IP, IP:PORT, [IPv6]:PORT, tls://IP or /PATH", quoted(rest)),
        ),
        Err(why) => reading.refuse(word, why),
    }
}

/// The address in `ADDRESS`, `ADDRESS:PORT` or `[ADDRESS]:PORT`.
fn bare_ip(text: &str) -> &str {
    if let Some((ip, _)) = text.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        return ip;
    }
    match text.rsplit_once(':') {
        Some((ip, _)) if !ip.contains(':') => ip,
        _ => text,
    }
}
