//! Keys that the configuration will have, whose features are not built yet.
//!
//! They are refused as such rather than as unknown, and let through where what they say is "off". A key leaves
//! this table for `file.rs` when its feature arrives.

use crate::config::tree::{Node, Value};

/// One key that cannot be had yet.
struct Later {
    /// Its path, list indexes left out.
    key: &'static str,
    /// What may be written because it asks for nothing: a value, or one entry of a mapping; empty for nothing.
    off: &'static str,
}

const fn later(key: &'static str, off: &'static str) -> Later {
    Later { key, off }
}

const KEYS: [Later; 5] = [
    later("listen.tls", ""),
    later("kubernetes.searchShield", "false"),
    later("admin", ""),
    later("log.queries", "sample: 0"),
    later("log.slow", ""),
];

/// The keys of this table directly below `path`.
pub(super) fn below(path: &str) -> Vec<&'static str> {
    let path = without_indexes(path);
    let mut keys: Vec<&'static str> = KEYS.iter().filter_map(|k| child(&path, k.key)).collect();
    keys.dedup();
    keys
}

/// What to say of `node` at `path`, one of this table's keys; nothing if it asks for nothing.
pub(super) fn refusal(path: &str, node: &Node) -> Option<String> {
    let path = without_indexes(path);
    let off = KEYS.iter().find(|k| k.key == path).map_or("", |k| k.off);
    let asks_nothing = match (&node.value, off.split_once(": ")) {
        (Value::Null, _) => true,
        (Value::Scalar(text), None) => !off.is_empty() && text.eq_ignore_ascii_case(off),
        (Value::Map(entries), Some((key, value))) => entries
            .iter()
            .any(|e| matches!(&e.node.value, Value::Scalar(text) if e.key == key && text.eq_ignore_ascii_case(value))),
        _ => false,
    };
    match off {
        _ if asks_nothing => None,
        "" => Some("not supported yet; leave it out".into()),
        off => Some(format!("not supported yet; leave it out or write \"{off}\"")),
    }
}

/// The next component of `key` below `path`.
fn child(path: &str, key: &'static str) -> Option<&'static str> {
    let rest = if path.is_empty() { key } else { key.strip_prefix(path)?.strip_prefix('.')? };
    let first = rest.split('.').next()?;
    (!first.ends_with("[]")).then_some(first)
}

/// `zones[3].hosts` to `zones[].hosts`.
fn without_indexes(path: &str) -> String {
    let mut out = String::with_capacity(path.len());
    for c in path.chars() {
        if !(c.is_ascii_digit() && (out.ends_with('['))) {
            out.push(c);
        }
    }
    out
}
