//! The tree against the JSON schema: unknown keys, wrong types, bad values; and where each key stands in the text.
//!
//! The outcome is JSON that `file.rs` can always be read from: what is wrong is reported and left out. One schema
//! serves editors, `nodens config schema` and this check, so they cannot disagree.

use std::collections::HashMap;

use serde_json::{Map, Value as Json};

use crate::config::later;
use crate::config::problem::{Problem, Problems, hint, nearest, quoted};
use crate::config::text;
use crate::config::tree::{Entry, Node, Place, Value};

/// Where keys come from: lines of the file, or command-line arguments that replaced them.
#[derive(Debug, Default)]
pub(super) struct Origins {
    /// The file as the user knows it.
    pub(super) source: String,
    /// Key path to place.
    pub(super) places: HashMap<String, Place>,
    /// Key path to the argument that sets it and all below it.
    pub(super) arguments: HashMap<String, String>,
}

impl Origins {
    /// A problem with `key`, placed at the key itself or the nearest one above it that is written.
    pub(super) fn problem(&self, key: &str, message: impl Into<String>) -> Problem {
        let message = message.into();
        if let Some(argument) = ancestors(key).find_map(|k| self.arguments.get(k)) {
            return Problem { source: argument.clone(), at: None, key: String::new(), message };
        }
        let at = ancestors(key).find_map(|k| self.places.get(k)).copied();
        Problem { source: self.source.clone(), at, key: key.to_owned(), message }
    }

    /// The line of `key`, if it is written.
    pub(super) fn line(&self, key: &str) -> Option<usize> {
        self.places.get(key).map(|place| place.0)
    }
}

/// `a.b[0]`, `a.b`, `a`.
fn ancestors(key: &str) -> impl Iterator<Item = &str> {
    std::iter::successors(Some(key), |k| k.rfind(['.', '[']).map(|end| &k[..end]))
}

/// Whether `key` is `above` or below it.
pub(super) fn is_within(key: &str, above: &str) -> bool {
    key.strip_prefix(above).is_some_and(|rest| rest.is_empty() || above.is_empty() || rest.starts_with(['.', '[']))
}

/// Checks `root` against `schema`, notes the place of every key in `origins`, and returns what is right of it.
pub(super) fn check(root: &Node, schema: &Json, origins: &mut Origins, problems: &mut Problems) -> Json {
    origins.places.insert(String::new(), root.place);
    let mut walk = Walk { origins, problems };
    walk.value(root, schema, "").unwrap_or_else(|| Json::Object(Map::new()))
}

struct Walk<'a> {
    origins: &'a mut Origins,
    problems: &'a mut Problems,
}

impl Walk<'_> {
    /// The JSON of `node` as `schema` wants it; nothing if it is null or wrong.
    fn value(&mut self, node: &Node, schema: &Json, key: &str) -> Option<Json> {
        let keyed = schema.get("properties").is_some() || free(schema).is_some();
        // Nothing behind a key is the same as no key; an entry of a list is there, whatever it says.
        if matches!(node.value, Value::Null) && !(keyed && key.ends_with(']')) {
            return None;
        }
        if keyed {
            return Some(Json::Object(self.object(node, schema, key)));
        }
        if let Some(items) = schema.get("items") {
            return self.list(node, items, key).map(Json::Array);
        }
        let Value::Scalar(text) = &node.value else {
            self.report(key, "expected a single value");
            return None;
        };
        let choices = choices(schema);
        let format = schema.get("format").and_then(Json::as_str).unwrap_or("");
        let outcome = match () {
            _ if choices.contains(&text.as_str()) => Ok(Json::from(text.as_str())),
            _ if !choices.is_empty() => Err(format!("{} is not valid{}", quoted(text), hint(text, &choices))),
            _ if takes(schema, "boolean") => boolean(text),
            _ if takes(schema, "string") => text::check(format, text).map(|()| Json::from(text.as_str())),
            _ => integer(text, schema),
        };
        outcome.map_err(|message| self.report(key, message)).ok()
    }

    fn object(&mut self, node: &Node, schema: &Json, key: &str) -> Map<String, Json> {
        let mut out = Map::new();
        let properties = schema.get("properties").and_then(Json::as_object);
        let entries: &[Entry] = match &node.value {
            Value::Map(entries) => entries,
            _ => {
                self.report(key, "expected keys and values");
                return out;
            }
        };
        let (free, format) = (free(schema), schema.pointer("/propertyNames/format").and_then(Json::as_str));
        for entry in entries {
            let path = if key.is_empty() { entry.key.clone() } else { format!("{key}.{}", entry.key) };
            if self.problems.is_full() {
                break;
            }
            if let Some(line) = entry.repeats {
                self.report_key(entry, key, format!("written twice; the first is on line {line}"));
                continue;
            }
            if let Some(Err(message)) = free.and(format).map(|format| text::check(format, &entry.key)) {
                self.report_key(entry, key, message);
                continue;
            }
            match properties.and_then(|p| p.get(&entry.key)).or(free) {
                Some(schema) => {
                    let scalar = matches!(entry.node.value, Value::Scalar(_));
                    let place = if scalar { entry.node.place } else { entry.place };
                    self.origins.places.insert(path.clone(), place);
                    if let Some(json) = self.value(&entry.node, schema, &path) {
                        out.insert(entry.key.clone(), json);
                    }
                }
                None => self.stranger(entry, &path, key, properties),
            }
        }
        let required = schema.get("required").and_then(Json::as_array).into_iter().flatten().filter_map(Json::as_str);
        for name in required {
            let given = entries.iter().any(|e| e.key == name && !matches!(e.node.value, Value::Null));
            if !given {
                self.report(key, format!("\"{name}\" is missing"));
            }
        }
        out
    }

    fn list(&mut self, node: &Node, items: &Json, key: &str) -> Option<Vec<Json>> {
        let nodes = match &node.value {
            Value::List(nodes) => nodes,
            Value::Scalar(text) => {
                self.report(key, format!("expected a list: write [{}]", quoted(text)));
                return None;
            }
            _ => {
                self.report(key, "expected a list");
                return None;
            }
        };
        let mut out = Vec::new();
        for (i, item) in nodes.iter().enumerate() {
            if self.problems.is_full() {
                break;
            }
            let path = format!("{key}[{i}]");
            self.origins.places.insert(path.clone(), item.place);
            if matches!(item.value, Value::Null) && items.get("properties").is_none() {
                self.report(&path, "an empty entry");
            }
            out.extend(self.value(item, items, &path));
        }
        Some(out)
    }

    /// A key that the schema does not have: of a later feature, or a mistake.
    fn stranger(&mut self, entry: &Entry, path: &str, parent: &str, properties: Option<&Map<String, Json>>) {
        self.origins.places.insert(path.to_owned(), entry.place);
        let siblings = later::below(parent);
        if !siblings.contains(&entry.key.as_str()) {
            let keys: Vec<&str> = properties.into_iter().flat_map(|p| p.keys().map(String::as_str)).collect();
            // A key of a later feature may be what was meant, but is nothing to choose while there are others.
            let hint = match nearest(&entry.key, &siblings) {
                Some(later) if nearest(&entry.key, &keys).is_none() => format!("; did you mean \"{later}\"?"),
                _ => hint(&entry.key, if keys.is_empty() { &siblings } else { &keys }),
            };
            return self.report_key(entry, parent, format!("unknown key{hint}"));
        }
        match &entry.node.value {
            Value::Map(entries) if !later::below(path).is_empty() => {
                for entry in entries {
                    self.stranger(entry, &format!("{path}.{}", entry.key), path, None);
                }
            }
            _ => {
                if let Some(message) = later::refusal(path, &entry.node) {
                    self.report(path, message);
                }
            }
        }
    }

    /// Reports the key itself, whose name may be any text.
    fn report_key(&mut self, entry: &Entry, parent: &str, message: String) {
        let shown = quoted(&entry.key);
        let dot = if parent.is_empty() { "" } else { "." };
        let key = format!("{parent}{dot}{}", shown.trim_matches('"'));
        self.problems.push(Problem { source: self.origins.source.clone(), at: Some(entry.place), key, message });
    }

    fn report(&mut self, key: &str, message: impl Into<String>) {
        self.problems.push(self.origins.problem(key, message));
    }
}

/// The schema of what stands behind any key of a mapping whose keys are the user's to choose; none for other mappings.
fn free(schema: &Json) -> Option<&Json> {
    schema.get("additionalProperties").filter(|values| values.is_object())
}

/// The texts that an enumeration allows; none for any other schema.
fn choices(schema: &Json) -> Vec<&str> {
    let alternatives = ["oneOf", "anyOf"].iter().filter_map(|k| schema.get(k)?.as_array()).flatten().flat_map(choices);
    let listed = schema.get("enum").and_then(Json::as_array).into_iter().flatten().filter_map(Json::as_str);
    schema.get("const").and_then(Json::as_str).into_iter().chain(listed).chain(alternatives).collect()
}

/// Whether `schema` allows values of the JSON type `name`.
fn takes(schema: &Json, name: &str) -> bool {
    match schema.get("type") {
        Some(Json::String(only)) => only == name,
        Some(Json::Array(any)) => any.iter().any(|t| t == name),
        _ => false,
    }
}

fn boolean(text: &str) -> Result<Json, String> {
    match text.to_ascii_lowercase().as_str() {
        "true" => Ok(true.into()),
        "false" => Ok(false.into()),
        _ => Err(format!("{} is neither true nor false", quoted(text))),
    }
}

fn integer(text: &str, schema: &Json) -> Result<Json, String> {
    let bound = |name: &str| schema.get(name).and_then(Json::as_u64);
    let (min, max) = (bound("minimum").unwrap_or(0), bound("maximum").unwrap_or(u64::MAX));
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    match text.parse::<u64>() {
        Ok(n) if digits && (min..=max).contains(&n) => Ok(n.into()),
        _ if digits => Err(format!("{text} is out of range: must be between {min} and {max}")),
        _ => Err(format!("{} is not a whole number; it must be between {min} and {max}", quoted(text))),
    }
}
