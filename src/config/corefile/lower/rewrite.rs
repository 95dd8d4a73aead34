//! The plugin rewrite: `zones[].rewrite`, a rule for each line of it.
//!
//! A rule may stand on the line or, with nothing or only `continue` or `stop` on it, in braces, whose words are read as
//! if they stood on one line. Which texts and values a rule may have is checked where the keys are.

use crate::config::corefile::lower::node::{Map, text};
use crate::config::corefile::lower::words::{Reading, integer};
use crate::config::corefile::{Directive, Word};
use crate::config::problem::{hint, quoted};
use crate::config::tree::{Node, Place};

/// How names are compared.
const KINDS: [&str; 5] = ["exact", "prefix", "suffix", "substring", "regex"];
/// What rules can be about.
const FIELDS: [&str; 7] = ["name", "type", "class", "edns0", "ttl", "cname", "rcode"];

/// Reads all lines of the plugin.
pub(super) fn rewrite(reading: &mut Reading<'_>, lines: &[&Directive], zone: &mut Map) {
    zone.list("rewrite", lines.iter().filter_map(|line| rule(reading, line)).collect());
}

fn rule(reading: &mut Reading<'_>, line: &Directive) -> Option<Node> {
    let mut words: Vec<&Word> = line.arguments.iter().collect();
    if words.len() < 2 {
        words.extend(line.body.iter().flatten().flat_map(|line| &line.0));
    } else {
        reading.no_body(line);
    }
    let mut words = words.as_slice();
    let mut goes_on = None;
    if let Some((mode, rest)) = words.split_first()
        && ["continue", "stop"].contains(&mode.text.to_ascii_lowercase().as_str())
    {
        goes_on = Some(*mode).filter(|mode| mode.text.eq_ignore_ascii_case("continue"));
        words = rest;
    }
    let Some((field, rest)) = words.split_first() else {
        return reading.refuse(&line.name, "a rule is missing; write rewrite [continue|stop] FIELD FROM TO");
    };
    let change = match field.text.to_ascii_lowercase().as_str() {
        "name" => name(reading, field, rest),
        "type" | "class" => pair(reading, field, rest),
        "edns0" => edns0(reading, field, rest),
        "ttl" => ttl(reading, field, rest),
        "cname" => cname(reading, field, rest),
        "rcode" => rcode(reading, field, rest),
        "answer" => return reading.refuse(field, "response rewrites must begin with a name rule"),
        other => return reading.refuse(field, format!("invalid rule type {}{}", quoted(other), hint(other, &FIELDS))),
    }?;
    let mut keys = Map::new(line.name.from);
    keys.put(&field.text.to_ascii_lowercase(), change.node());
    if let Some(mode) = goes_on {
        keys.text("continue", mode.from, "true");
    }
    Some(keys.node())
}

fn word(keys: &mut Map, key: &str, word: &Word) {
    keys.text(key, word.from, &word.text);
}

/// Takes the kind of comparison off `words`, if there are more than `without`; exact if not.
fn kind(reading: &mut Reading<'_>, words: &mut &[&Word], without: usize, place: Place) -> Option<(Place, String)> {
    if words.len() <= without {
        return Some((place, "exact".to_owned()));
    }
    let first = words.split_off_first()?;
    let kind = first.text.to_ascii_lowercase();
    if KINDS.contains(&kind.as_str()) {
        return Some((first.from, kind));
    }
    let hint = hint(&kind, &KINDS);
    reading.refuse(first, format!("{} is no way to compare names{hint}", quoted(&first.text)))
}

/// `name [KIND] FROM TO [answer auto | answer name RE TO | answer value RE TO]…`.
fn name(reading: &mut Reading<'_>, field: &Word, mut words: &[&Word]) -> Option<Map> {
    let mut keys = Map::new(field.from);
    let (at, kind) = kind(reading, &mut words, 2, field.from)?;
    keys.text("kind", at, kind);
    let [from, to, answers @ ..] = words else {
        return reading.refuse(field, "too few arguments for a name rule; write name [KIND] FROM TO");
    };
    word(&mut keys, "from", from);
    word(&mut keys, "to", to);
    let (mut auto, mut owners, mut values) = (None, Vec::new(), Vec::new());
    let mut rest = answers;
    while let Some(first) = rest.split_off_first() {
        // Further rules need not repeat the word.
        let what = if first.text == "answer" {
            rest.split_off_first()
        } else {
            Some(first).filter(|_| rest.len() < answers.len() - 1)
        };
        let Some(what) = what else {
            return reading
                .refuse(first, "behind the names stands: answer auto, answer name RE TO or answer value RE TO");
        };
        match what.text.as_str() {
            "auto" => auto = Some(*what),
            "name" | "value" => {
                let [pattern, to, behind @ ..] = rest else {
                    return reading.refuse(what, format!("write answer {} REGEX TO", what.text));
                };
                rest = behind;
                let mut rule = Map::new(pattern.from);
                word(&mut rule, "from", pattern);
                word(&mut rule, "to", to);
                if what.text == "name" { owners.push(rule.node()) } else { values.push(rule.node()) }
            }
            other => {
                let hint = hint(other, &["auto", "name", "value"]);
                return reading.refuse(what, format!("invalid type {} for answer rule{hint}", quoted(other)));
            }
        }
    }
    if let Some(auto) = auto {
        keys.text("auto", auto.from, "true");
    }
    keys.list("answerNames", owners);
    keys.list("answerValues", values);
    Some(keys)
}

/// `type FROM TO`, `class FROM TO`.
fn pair(reading: &mut Reading<'_>, field: &Word, words: &[&Word]) -> Option<Map> {
    let [from, to] = words else {
        return reading.refuse(field, format!("{} rules must have exactly two arguments, FROM and TO", field.text));
    };
    let mut keys = Map::new(field.from);
    keys.text("from", from.from, from.text.to_ascii_uppercase());
    keys.text("to", to.from, to.text.to_ascii_uppercase());
    Some(keys)
}

/// `edns0 local|nsid|subnet set|append|replace|unset … [revert]`.
fn edns0(reading: &mut Reading<'_>, field: &Word, words: &[&Word]) -> Option<Map> {
    let [option, action, rest @ ..] = words else {
        return reading.refuse(field, "too few arguments for an EDNS0 rule; write edns0 local|nsid|subnet ACTION ...");
    };
    let mut keys = Map::new(field.from);
    let lower = |word: &Word| word.text.to_ascii_lowercase();
    keys.text("action", action.from, lower(action));
    keys.text("option", option.from, lower(option));
    let (rest, revert) = match rest.split_last() {
        Some((last, rest)) if last.text == "revert" => (rest, Some(*last)),
        _ => (rest, None),
    };
    let unset = lower(action) == "unset";
    match (lower(option).as_str(), rest) {
        ("local", [code]) if unset => word(&mut keys, "code", code),
        ("local", [code, data]) if !unset => {
            word(&mut keys, "code", code);
            word(&mut keys, "data", data);
        }
        ("local", _) => return reading.refuse(option, "write edns0 local set CODE DATA, or edns0 local unset CODE"),
        ("nsid", []) => {}
        ("nsid", [extra, ..]) => return reading.refuse(extra, "nsid takes no value; write edns0 nsid set"),
        ("subnet", []) if unset => {}
        ("subnet", [v4, v6]) if !unset => {
            keys.text("v4", v4.from, reading.number_within(v4, 0, 32)?);
            keys.text("v6", v6.from, reading.number_within(v6, 0, 128)?);
        }
        ("subnet", _) => return reading.refuse(option, "write edns0 subnet set V4BITS V6BITS"),
        (other, _) => {
            let hint = hint(other, &["local", "nsid", "subnet"]);
            return reading.refuse(option, format!("invalid rule type {}{hint}", quoted(other)));
        }
    }
    if let Some(revert) = revert {
        keys.text("revert", revert.from, "true");
    }
    Some(keys)
}

/// `ttl [KIND] NAME N|MIN-MAX|-MAX|MIN-`.
fn ttl(reading: &mut Reading<'_>, field: &Word, mut words: &[&Word]) -> Option<Map> {
    let mut keys = Map::new(field.from);
    let (at, kind) = kind(reading, &mut words, 2, field.from)?;
    keys.text("kind", at, kind);
    let [name, seconds] = words else {
        return reading.refuse(field, "write ttl [KIND] NAME SECONDS, or MIN-MAX, -MAX or MIN- for the seconds");
    };
    word(&mut keys, "name", name);
    let (min, max) = seconds.text.split_once('-').unwrap_or((&seconds.text, &seconds.text));
    let wrong =
        |text: &str| !text.is_empty() && (text.starts_with('+') || integer(text).is_none_or(|n| n > u32::MAX.into()));
    if (min.is_empty() && max.is_empty()) || wrong(min) || wrong(max) {
        return reading
            .refuse(seconds, format!("invalid TTL {}; write SECONDS, MIN-MAX, -MAX or MIN-", quoted(&seconds.text)));
    }
    for (key, bound) in [("min", min), ("max", max)] {
        if !bound.is_empty() {
            keys.put(key, text(seconds.from, format!("{bound}s")));
        }
    }
    Some(keys)
}

/// `cname [KIND] FROM TO`.
fn cname(reading: &mut Reading<'_>, field: &Word, mut words: &[&Word]) -> Option<Map> {
    let mut keys = Map::new(field.from);
    let (at, kind) = kind(reading, &mut words, 2, field.from)?;
    keys.text("kind", at, kind);
    let [from, to] = words else {
        return reading.refuse(field, "write cname [KIND] FROM TO");
    };
    word(&mut keys, "from", from);
    word(&mut keys, "to", to);
    Some(keys)
}

/// `rcode [KIND] NAME FROM TO`.
fn rcode(reading: &mut Reading<'_>, field: &Word, mut words: &[&Word]) -> Option<Map> {
    let mut keys = Map::new(field.from);
    let (at, kind) = kind(reading, &mut words, 3, field.from)?;
    keys.text("kind", at, kind);
    let [name, from, to] = words else {
        return reading.refuse(field, "write rcode [KIND] NAME FROM TO");
    };
    word(&mut keys, "name", name);
    keys.text("from", from.from, from.text.to_ascii_uppercase());
    keys.text("to", to.from, to.text.to_ascii_uppercase());
    Some(keys)
}
