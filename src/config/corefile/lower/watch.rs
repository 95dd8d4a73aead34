//! Plugins that say how things are: log and errors in the log, health, ready and prometheus over HTTP.
//!
//! A listener that is written without an address is there for all: of IPv4, unless the block listens on IPv6 addresses,
//! since a node without IPv6 cannot bind those.

use std::net::{IpAddr, SocketAddr};

use crate::config::corefile::lower::node::{Map, text, texts};
use crate::config::corefile::lower::words::{Reading, whole};
use crate::config::corefile::{Directive, Word};
use crate::config::problem::{hint, quoted};
use crate::config::text::Span;
use crate::config::tree::{Node, Place, Value};

/// Where things are served over HTTP, for all blocks together.
#[derive(Debug, Default)]
pub(super) struct Ports {
    health: Vec<(SocketAddr, Place)>,
    metrics: Vec<(SocketAddr, Place)>,
    lame_duck: Option<(String, Place)>,
}

impl Ports {
    /// Reads health, ready or prometheus; `wide` is the address that stands for all.
    pub(super) fn read(&mut self, reading: &mut Reading<'_>, lines: &[&Directive], wide: IpAddr) {
        let (default, once) = match reading.name {
            "prometheus" => ((IpAddr::from([127, 0, 0, 1]), 9153), true),
            "ready" => ((wide, 8181), false),
            _ => ((wide, 8080), false),
        };
        if once {
            reading.once(lines);
        }
        let mut address = None;
        for line in lines.iter().take(if once { 1 } else { usize::MAX }) {
            reading.at_most(&line.arguments, 1, &format!("{} [ADDRESS]:PORT", line.name.text));
            let written = match line.arguments.first() {
                Some(word) => reading.listener(word, wide).map(|address| (address, word.from)),
                None => Some((SocketAddr::from(default), line.name.from)),
            };
            // Of several lines the last address holds, as in CoreDNS.
            address = match address {
                Some(_) if line.arguments.is_empty() => address,
                _ => written,
            };
            match reading.name {
                "prometheus" => reading.no_body(line),
                "health" => self.lame_duck(reading, line),
                _ => monitor(reading, line),
            }
        }
        let list = if reading.name == "prometheus" { &mut self.metrics } else { &mut self.health };
        list.extend(address.filter(|(address, _)| !list.iter().any(|(known, _)| known == address)));
    }

    fn lame_duck(&mut self, reading: &mut Reading<'_>, line: &Directive) {
        for property in line.body.iter().flatten() {
            match property.0.split_first() {
                Some((name, rest)) if name.text == "lameduck" => {
                    let word = reading.one(name, rest, "lameduck DURATION");
                    if let Some((word, time)) = word.and_then(|word| Some((word, reading.duration(word)?))) {
                        self.lame_duck = Some((Span(whole(time)).to_string(), word.from));
                    }
                }
                Some((name, _)) => reading.unknown(name, &["lameduck"]),
                None => {}
            }
        }
    }

    /// The keys `metrics` and `health`.
    pub(super) fn keys(&self, place: Place) -> Map {
        let mut keys = Map::new(place);
        let at = self.metrics.first().map_or(place, |(_, place)| *place);
        let mut metrics = Map::new(at);
        let listen = self.metrics.iter().map(|(address, place)| text(*place, address)).collect();
        metrics.put("listen", Node { place: at, value: Value::List(listen) });
        metrics.text("corednsNames", at, "true");
        keys.map("metrics", metrics);
        let mut health = Map::new(self.health.first().map_or(place, |(_, place)| *place));
        match self.health.split_first() {
            None => health.text("enabled", place, "false"),
            Some(((address, place), also)) => {
                health.text("listen", *place, address);
                health.list("also", also.iter().map(|(address, place)| text(*place, address)).collect());
            }
        }
        if let Some((time, place)) = &self.lame_duck {
            health.text("lameDuck", *place, time);
        }
        keys.map("health", health);
        keys
    }
}

/// The properties of ready: there is nothing that nodens would ever call unready again, but for all servers being down.
fn monitor(reading: &mut Reading<'_>, line: &Directive) {
    for property in line.body.iter().flatten() {
        match property.0.split_first() {
            Some((name, rest)) if name.text == "monitor" => {
                const CHOICES: [&str; 2] = ["until-ready", "continuously"];
                let Some(word) = reading.one(name, rest, "monitor until-ready|continuously") else { continue };
                if !CHOICES.contains(&word.text.as_str()) {
                    let hint = hint(&word.text, &CHOICES);
                    reading.refuse::<()>(word, format!("{} is not valid{hint}", quoted(&word.text)));
                }
            }
            Some((name, _)) => reading.unknown(name, &["monitor"]),
            None => {}
        }
    }
}

/// Reads log. CoreDNS logs by every line that fits; here all lines of a block are one rule.
pub(super) fn log(reading: &mut Reading<'_>, lines: &[&Directive], zone: &mut Map) {
    let Some(first) = lines.first() else { return };
    let mut keys = Map::new(first.name.from);
    let (mut names, mut classes): (Vec<Node>, Vec<&Word>) = (Vec::new(), Vec::new());
    let (mut all_names, mut all_classes) = (false, false);
    let mut formats: Vec<Option<&Word>> = Vec::new();
    for line in lines {
        let (scopes, format) = match line.arguments.split_last() {
            Some((last, scopes)) if !scopes.is_empty() && last.text.contains('{') => (scopes, Some(last)),
            _ => (line.arguments.as_slice(), None),
        };
        formats.push(format);
        all_names |= scopes.is_empty() || scopes.iter().any(|word| word.text == ".");
        for word in scopes {
            if word.text.contains('{') {
                let message = format!(
                    "CoreDNS takes {} for a name, and would log nothing; write log . {}",
                    quoted(&word.text),
                    quoted(&word.text)
                );
                reading.refuse::<()>(word, message);
                continue;
            }
            names.extend(reading.zone(word).unwrap_or_default());
        }
        let mut of_line = 0;
        for property in line.body.iter().flatten() {
            match property.0.split_first() {
                Some((name, rest)) if name.text == "class" => {
                    reading.first(name, rest, "class all|success|denial|error...");
                    of_line += rest.len();
                    classes.extend(rest);
                }
                Some((name, _)) => reading.unknown(name, &["class"]),
                None => {}
            }
        }
        all_classes |= of_line == 0;
    }
    const CLASSES: [&str; 4] = ["all", "success", "denial", "error"];
    for word in &classes {
        if !CLASSES.contains(&word.text.as_str()) {
            let hint = hint(&word.text, &CLASSES);
            reading.refuse::<()>(word, format!("invalid class: {}{hint}", quoted(&word.text)));
        }
    }
    if lines.len() > 1 {
        let same =
            |text: fn(&Word) -> &str| formats.iter().map(|f| f.map(text)).collect::<std::collections::HashSet<_>>();
        let alike = same(|word| &word.text).len() == 1;
        let message = if alike {
            "several lines are one here: what any of them would log is logged once"
        } else {
            "several lines are one here: what any of them would log is logged once, in the format of the first"
        };
        reading.warn(&first.name, message);
    }
    if !all_names {
        keys.list("names", names);
    }
    if !all_classes && !classes.iter().any(|word| word.text == "all") {
        classes.dedup_by_key(|word| word.text.as_str());
        keys.list("classes", texts(classes));
    }
    if let Some(word) = formats.into_iter().flatten().next() {
        keys.text("format", word.from, &word.text);
    }
    zone.put("log", keys.node());
}

/// Reads errors.
pub(super) fn errors(reading: &mut Reading<'_>, lines: &[&Directive], zone: &mut Map) {
    let Some(line) = reading.once(lines) else { return };
    let mut keys = Map::new(line.name.from);
    reading.at_most(&line.arguments, 1, "errors [stdout]");
    if let Some(word) = line.arguments.first().filter(|word| word.text != "stdout") {
        reading.refuse::<()>(word, format!("invalid log file: {}; write nothing or stdout", quoted(&word.text)));
    }
    let (mut rules, mut stacktrace) = (Vec::new(), None);
    for property in line.body.iter().flatten() {
        let Some((name, rest)) = property.0.split_first() else { continue };
        match name.text.as_str() {
            "stacktrace" => stacktrace = Some(name),
            "consolidate" => rules.extend(consolidate(reading, name, rest)),
            _ => reading.unknown(name, &["consolidate", "stacktrace"]),
        }
    }
    keys.list("consolidate", rules);
    if let Some(word) = stacktrace {
        keys.text("stacktrace", word.from, "true");
    }
    zone.put("errors", keys.node());
}

/// `consolidate DURATION REGEXP [LEVEL] [show_first]`.
fn consolidate(reading: &mut Reading<'_>, name: &Word, arguments: &[Word]) -> Option<Node> {
    const USAGE: &str = "consolidate DURATION REGEXP [LEVEL] [show_first]";
    let mut keys = Map::new(name.from);
    let every = reading.first(name, arguments, USAGE)?;
    let time = reading.duration(every)?;
    keys.text("every", every.from, Span(whole(time)));
    let Some(pattern) = arguments.get(1) else {
        return reading.refuse(every, format!("a regular expression is missing; write {USAGE}"));
    };
    keys.text("matching", pattern.from, &pattern.text);
    let mut rest = arguments.get(2..).unwrap_or_default();
    if let Some(level) = rest.first().filter(|word| word.text != "show_first") {
        const LEVELS: [&str; 4] = ["warning", "error", "info", "debug"];
        if !LEVELS.contains(&level.text.as_str()) {
            let hint = hint(&level.text, &LEVELS);
            return reading.refuse(level, format!("unknown log level: {}{hint}", quoted(&level.text)));
        }
        keys.text("level", level.from, &level.text);
        rest.split_off_first();
    }
    if let Some(word) = rest.split_off_first() {
        if word.text != "show_first" {
            return reading.refuse(word, format!("{} is not valid here; write {USAGE}", quoted(&word.text)));
        }
        keys.text("showFirst", word.from, "true");
    }
    reading.at_most(rest, 0, USAGE);
    Some(keys.node())
}
