//! The plugin template: `zones[].respond`, a rule for each line of it.

use crate::config::corefile::lower::node::{Map, text, texts};
use crate::config::corefile::lower::plain::fall_through;
use crate::config::corefile::lower::words::Reading;
use crate::config::corefile::{Directive, Word};
use crate::config::problem::quoted;
use crate::config::tree::{Node, Value};

/// Reads all lines of the plugin.
pub(super) fn template(reading: &mut Reading<'_>, lines: &[&Directive], zone: &mut Map) {
    zone.list("respond", lines.iter().filter_map(|line| rule(reading, line)).collect());
}

fn rule(reading: &mut Reading<'_>, line: &Directive) -> Option<Node> {
    const USAGE: &str = "template CLASS TYPE [ZONE...], such as template IN AAAA .";
    let class = reading.first(&line.name, &line.arguments, USAGE)?;
    let rest = line.arguments.get(1..).unwrap_or_default();
    let kind = reading.first(class, rest, USAGE)?;
    for word in [class, kind] {
        if word.text != word.text.to_ascii_uppercase() {
            let message = format!("{} must be in upper case: {}", quoted(&word.text), word.text.to_ascii_uppercase());
            reading.refuse::<()>(word, message);
        }
    }
    let mut keys = Map::new(line.name.from);
    keys.text("class", class.from, &class.text);
    keys.list("types", texts([kind]));
    keys.list("names", reading.zones(rest.get(1..).unwrap_or_default()));
    let mut lists: [(&str, Vec<Node>); 4] =
        [("match", Vec::new()), ("answer", Vec::new()), ("additional", Vec::new()), ("authority", Vec::new())];
    let (mut rcode, mut ede, mut fallthrough) = (None, None, None);
    for property in line.body.iter().flatten() {
        let Some((name, rest)) = property.0.split_first() else { continue };
        let found = lists.iter_mut().find(|(key, _)| *key == name.text);
        match (name.text.as_str(), found) {
            (key, Some((_, list))) => {
                reading.first(name, rest, &format!("{key} \"TEXT\"..."));
                list.extend(texts(rest));
            }
            ("rcode", _) => rcode = reading.one(name, rest, "rcode NAME, such as rcode NXDOMAIN"),
            ("ederror", _) => ede = extended(reading, name, rest),
            ("fallthrough", _) => fallthrough = Some((name, fall_through(reading, name, rest))),
            // CoreDNS passes it over.
            ("upstream", _) => {}
            _ => reading
                .unknown(name, &["match", "answer", "additional", "authority", "rcode", "ederror", "fallthrough"]),
        }
    }
    for (key, list) in lists {
        keys.list(key, list);
    }
    if let Some(rcode) = rcode {
        keys.text("rcode", rcode.from, &rcode.text);
    }
    if let Some(ede) = ede {
        keys.map("ede", ede);
    }
    let (at, zones) = fallthrough.map_or((line.name.from, Vec::new()), |(name, zones)| (name.from, zones));
    keys.put("fallthrough", Node { place: at, value: Value::List(zones) });
    Some(keys.node())
}

/// `ederror CODE [TEXT]`.
fn extended(reading: &mut Reading<'_>, name: &Word, arguments: &[Word]) -> Option<Map> {
    const USAGE: &str = "ederror CODE [\"TEXT\"]";
    reading.at_most(arguments, 2, USAGE);
    let code = reading.first(name, arguments, USAGE)?;
    let number = reading.number_within(code, 0, 65_535)?;
    let mut keys = Map::new(name.from);
    keys.put("code", text(code.from, number));
    if let Some(word) = arguments.get(1) {
        keys.text("text", word.from, &word.text);
    }
    Some(keys)
}
