//! Nodes of the tree, made of a Corefile's words: every one stands where the word stood that it comes from.

use crate::config::corefile::Word;
use crate::config::tree::{Entry, Node, Place, Value};

/// A mapping that is being filled.
#[derive(Clone, Debug)]
pub(super) struct Map {
    place: Place,
    entries: Vec<Entry>,
}

impl Map {
    /// An empty one that begins at `place`.
    pub(super) fn new(place: Place) -> Map {
        Map { place, entries: Vec::new() }
    }

    /// Adds a key. Each is put once.
    pub(super) fn put(&mut self, key: &str, node: Node) {
        self.entries.push(Entry { key: key.to_owned(), place: node.place, node, repeats: None });
    }

    /// Adds a key with one value.
    pub(super) fn text(&mut self, key: &str, place: Place, value: impl ToString) {
        self.put(key, text(place, value));
    }

    /// Adds a key with a list, unless that is empty.
    pub(super) fn list(&mut self, key: &str, items: Vec<Node>) {
        if let Some(first) = items.first() {
            self.put(key, Node { place: first.place, value: Value::List(items) });
        }
    }

    /// Adds a key with a mapping, unless that is empty.
    pub(super) fn map(&mut self, key: &str, map: Map) {
        if !map.is_empty() {
            self.put(key, map.node());
        }
    }

    /// Adds `more` behind what is there.
    pub(super) fn append(&mut self, more: Map) {
        self.entries.extend(more.entries);
    }

    /// Keys that have one value, and it.
    pub(super) fn pairs(&self) -> Vec<(&str, &str)> {
        let mut pairs = Vec::new();
        for entry in &self.entries {
            if let Value::Scalar(text) = &entry.node.value {
                pairs.push((entry.key.as_str(), text.as_str()));
            }
        }
        pairs
    }

    /// Whether there is nothing in it.
    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The finished mapping.
    pub(super) fn node(self) -> Node {
        Node { place: self.place, value: Value::Map(self.entries) }
    }
}

/// One value.
pub(super) fn text(place: Place, value: impl ToString) -> Node {
    Node { place, value: Value::Scalar(value.to_string()) }
}

/// A list of values as they are written.
pub(super) fn texts<'w>(words: impl IntoIterator<Item = &'w Word>) -> Vec<Node> {
    words.into_iter().map(|word| text(word.from, &word.text)).collect()
}
