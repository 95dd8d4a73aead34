//! Plugins that are switched on and no more, those that hold for all blocks, and those that mean nothing here.

use std::time::Duration;

use crate::config::corefile::lower::node::{Map, text};
use crate::config::corefile::lower::words::{Reading, integer, whole};
use crate::config::corefile::{Directive, Word};
use crate::config::text::Span;
use crate::config::tree::{Node, Place};

/// The largest UDP answer without bufsize, in octets: CoreDNS goes as far as the client does.
pub(super) const UDP_SIZE: i64 = 4096;
/// The size of bufsize without a number (DNS flag day 2020).
const BUFSIZE: i64 = 1232;

/// Plugins that no key stands for.
pub(super) const WITHOUT_KEYS: [&str; 7] = ["reload", "loop", "metadata", "pprof", "trace", "dnstap", "cancel"];

/// Reads one of [`WITHOUT_KEYS`].
pub(super) fn without_key(reading: &mut Reading<'_>, lines: &[&Directive]) {
    let Some(line) = lines.first().copied() else { return };
    match reading.name {
        "reload" => reload(reading, line),
        "loop" => {
            reading.once(lines);
            reading.at_most(&line.arguments, 0, "loop");
            reading.no_body(line);
        }
        "pprof" => {
            reading.once(lines);
            reading.at_most(&line.arguments, 1, "pprof [ADDRESS]");
            reading.warn_once("pprof", &line.name, "there are no profiles of Go here: nothing listens there");
        }
        "trace" => reading.warn_once("trace", &line.name, "nodens sends no traces"),
        "dnstap" => {
            reading.warn_once("dnstap", &line.name, "nodens sends nothing over dnstap; plugin log writes queries")
        }
        "cancel" => reading.warn_once("cancel", &line.name, "nodens gives up a query after 4.5 s always"),
        _ => reading.warn_once("metadata", &line.name, "nodens keeps no metadata: placeholders for it stay empty"),
    }
}

/// `reload [INTERVAL [JITTER]]`.
fn reload(reading: &mut Reading<'_>, line: &Directive) {
    reading.at_most(&line.arguments, 2, "reload [INTERVAL [JITTER]]");
    reading.no_body(line);
    if let Some(word) = line.arguments.first()
        && let Some(interval) = reading.duration(word)
    {
        if interval < Duration::from_secs(2) {
            reading.refuse::<()>(word, "interval value must be greater or equal to 2s");
        }
        let message = "the interval has no meaning here: nodens looks for changes twice a second";
        reading.warn_once("reload", word, message);
    }
    if let Some(word) = line.arguments.get(1)
        && let Some(jitter) = reading.duration(word)
        && jitter < Duration::from_secs(1)
        && !jitter.is_zero()
    {
        reading.refuse::<()>(word, "jitter value must be greater or equal to 1s, or 0s");
    }
}

/// Reads debug.
pub(super) fn debug(reading: &mut Reading<'_>, lines: &[&Directive], place: &mut Option<Place>) {
    let Some(line) = lines.first() else { return };
    reading.at_most(&line.arguments, 0, "debug");
    reading.warn_once(
        "debug",
        &line.name,
        "the log says more for all blocks; whether a fault ends the program stays as it is",
    );
    place.get_or_insert(line.name.from);
}

/// Reads bufsize. CoreDNS lowers what it offers upstream; answers are as large as the smallest number of all blocks says.
pub(super) fn bufsize(reading: &mut Reading<'_>, lines: &[&Directive], all: &mut Option<(Place, i64)>) {
    let Some(line) = lines.first() else { return };
    reading.at_most(&line.arguments, 1, "bufsize [512..4096]");
    reading.no_body(line);
    let (place, size) = match line.arguments.first() {
        None => (line.name.from, Some(BUFSIZE)),
        Some(word) => (word.from, reading.number_within(word, 512, UDP_SIZE)),
    };
    let Some(size) = size else { return };
    if all.is_some_and(|(_, other)| other != size) {
        reading.warn(&line.name, "the smallest bufsize holds for all blocks");
    }
    *all = Some(all.filter(|(_, other)| *other <= size).unwrap_or((place, size)));
}

/// Reads timeouts: those of TCP clients.
pub(super) fn timeouts(reading: &mut Reading<'_>, lines: &[&Directive], all: &mut Option<Map>) {
    let Some(line) = lines.first() else { return };
    reading.at_most(&line.arguments, 0, "timeouts { ... }");
    let mut keys = Map::new(line.name.from);
    for property in line.body.iter().flatten() {
        let Some((name, rest)) = property.0.split_first() else { continue };
        const CHOICES: [&str; 3] = ["read", "write", "idle"];
        let Some(key) = CHOICES.iter().find(|key| **key == name.text) else {
            reading.unknown(name, &CHOICES);
            continue;
        };
        let Some(word) = reading.one(name, rest, "a duration behind it") else { continue };
        // A bare number is one of seconds here.
        let seconds = integer(&word.text).and_then(|seconds| u64::try_from(seconds).ok()).map(Duration::from_secs);
        let Some(time) = seconds.or_else(|| reading.duration(word)) else { continue };
        if time < Duration::from_secs(1) || time > Duration::from_secs(86_400) {
            reading.refuse::<()>(word, format!("timeout {} needs to be between 1 second and 24 hours", word.text));
            continue;
        }
        keys.text(key, word.from, Span(whole(time)));
    }
    if keys.is_empty() && !line.body.iter().flatten().any(|line| !line.0.is_empty()) {
        reading.refuse::<()>(&line.name, "timeouts block with no timeouts specified");
    }
    match all {
        Some(first) if first.pairs() != keys.pairs() => {
            reading.warn(&line.name, "the timeouts of the first block that has any hold for all");
        }
        Some(_) => {}
        None => *all = Some(keys),
    }
}

/// Reads nsid; without a text it is the host's name.
pub(super) fn nsid(reading: &mut Reading<'_>, lines: &[&Directive], zone: &mut Map, host: &str) {
    let Some(line) = lines.first() else { return };
    reading.no_body(line);
    let words: Vec<&str> = line.arguments.iter().map(|word| word.text.as_str()).collect();
    let place = line.arguments.first().map_or(line.name.from, |word| word.from);
    zone.text("nsid", place, if words.is_empty() { host.to_owned() } else { words.join(" ") });
}

/// Reads whoami.
pub(super) fn whoami(reading: &mut Reading<'_>, lines: &[&Directive], zone: &mut Map) {
    switch(reading, lines, zone, "whoami");
}

/// Reads any.
pub(super) fn any(reading: &mut Reading<'_>, lines: &[&Directive], zone: &mut Map) {
    switch(reading, lines, zone, "refuseAny");
}

/// Reads minimal.
pub(super) fn minimal(reading: &mut Reading<'_>, lines: &[&Directive], zone: &mut Map) {
    switch(reading, lines, zone, "minimalResponses");
}

/// What has been read elsewhere.
pub(super) fn nothing(_: &mut Reading<'_>, _: &[&Directive], _: &mut Map) {}

/// A plugin that is there or not.
fn switch(reading: &mut Reading<'_>, lines: &[&Directive], zone: &mut Map, key: &str) {
    let Some(line) = lines.first() else { return };
    reading.at_most(&line.arguments, 0, &line.name.text);
    reading.no_body(line);
    zone.text(key, line.name.from, "true");
}

/// The zones of `fallthrough [ZONES…]`: all if none is written.
pub(super) fn fall_through(reading: &mut Reading<'_>, name: &Word, zones: &[Word]) -> Vec<Node> {
    if zones.is_empty() { vec![text(name.from, ".")] } else { reading.zones(zones) }
}
