//! The plugin hosts: `zones[].hosts`.
//!
//! Without a file it reads /etc/hosts, lines in braces or not. What follows `fallthrough` in braces can be no line of
//! hosts any more, and a line that begins with no address is passed over, as in the file.

use std::net::IpAddr;

use crate::config::corefile::lower::node::{Map, text, texts};
use crate::config::corefile::lower::plain::fall_through;
use crate::config::corefile::lower::words::{Reading, whole};
use crate::config::corefile::{Directive, Word};
use crate::config::problem::quoted;
use crate::config::text::Span;
use crate::config::tree::{Node, Value};

/// The file that is read when none is named.
const FILE: &str = "/etc/hosts";

/// Reads the plugin.
pub(super) fn hosts(reading: &mut Reading<'_>, lines: &[&Directive], zone: &mut Map) {
    let Some(line) = reading.once(lines) else { return };
    let mut keys = Map::new(line.name.from);
    match line.arguments.split_first() {
        None => keys.list("files", vec![text(line.name.from, FILE)]),
        Some((file, zones)) => {
            if !file.text.starts_with('/') {
                let message = format!("{} is not the absolute path of a file, such as {FILE}", quoted(&file.text));
                reading.refuse::<()>(file, message);
            }
            keys.list("files", texts([file]));
            keys.list("names", reading.zones(zones));
        }
    }
    let mut entries: Vec<(&Word, Vec<Node>)> = Vec::new();
    let (mut after, mut fallthrough) = (Map::new(line.name.from), None);
    for property in line.body.iter().flatten() {
        let Some((name, rest)) = property.0.split_first() else { continue };
        match name.text.as_str() {
            "fallthrough" => fallthrough = Some((name, fall_through(reading, name, rest))),
            "no_reverse" => after.text("reverse", name.from, "false"),
            "ttl" => {
                let word = reading.first(name, rest, "ttl SECONDS");
                let seconds = word.and_then(|word| Some((word, reading.number_within(word, 1, 65_535)?)));
                if let Some((word, seconds)) = seconds {
                    after.text("ttl", word.from, format!("{seconds}s"));
                }
            }
            "reload" => {
                let word = reading.one(name, rest, "reload DURATION, 0s for never");
                if let Some((word, every)) = word.and_then(|word| Some((word, reading.duration(word)?))) {
                    after.text("reload", word.from, Span(whole(every)));
                }
            }
            _ if fallthrough.is_some() => {
                reading.unknown(name, &["fallthrough", "no_reverse", "ttl", "reload"]);
            }
            address => match address.parse::<IpAddr>() {
                Ok(ip) if !rest.is_empty() => {
                    let is_same = |(word, _): &&mut (&Word, Vec<Node>)| word.text.parse() == Ok(ip);
                    match entries.iter_mut().find(is_same) {
                        Some((_, names)) => names.extend(texts(rest)),
                        None => entries.push((name, texts(rest))),
                    }
                }
                Ok(_) => reading.warn(name, format!("{address} has no names: the line is passed over")),
                Err(_) => {
                    let message =
                        format!("{} is no IP address: the line is passed over, as CoreDNS does", quoted(address));
                    reading.warn(name, message);
                }
            },
        }
    }
    let mut map = Map::new(line.name.from);
    for (ip, names) in entries {
        map.list(&ip.text, names);
    }
    keys.map("entries", map);
    keys.append(after);
    let (at, zones) = fallthrough.map_or((line.name.from, Vec::new()), |(name, zones)| (name.from, zones));
    keys.put("fallthrough", Node { place: at, value: Value::List(zones) });
    zone.put("hosts", keys.node());
}
