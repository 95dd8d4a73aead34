//! YAML text to a tree whose every node knows its line and column. Knows nothing of nodens' keys.
//!
//! Bounded in size, depth and number of nodes before anything is built, so that hostile text costs little: YAML's
//! aliases may multiply it only within that bound. One document, scalar keys, no tags.

use std::collections::HashMap;

use saphyr_parser::{Event, Parser, ScalarStyle, Span};

use crate::config::limits;
use crate::config::problem::quoted;

/// Line and column, both from 1.
pub(super) type Place = (usize, usize);

/// A value and where it begins.
#[derive(Clone, Debug)]
pub(super) struct Node {
    pub(super) place: Place,
    pub(super) value: Value,
}

/// What a node holds.
#[derive(Clone, Debug)]
pub(super) enum Value {
    /// Nothing, `~` or `null`: the same as not writing the key.
    Null,
    /// Any other scalar, as written; which type it has is decided by the key it stands under.
    Scalar(String),
    /// A sequence.
    List(Vec<Node>),
    /// A mapping, in the order of the text.
    Map(Vec<Entry>),
}

/// A key of a mapping with its value.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) key: String,
    pub(super) place: Place,
    pub(super) node: Node,
    /// The line of the same key before this one.
    pub(super) repeats: Option<usize>,
}

/// Why there is no tree.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub(super) struct Malformed {
    pub(super) place: Place,
    pub(super) message: String,
}

/// Reads the one document in `text`; an empty text is a null document.
pub(super) fn parse(text: &str) -> Result<Node, Malformed> {
    if text.len() > limits::MAX_FILE_BYTES {
        return Err(malformed((1, 1), format!("larger than {} bytes", limits::MAX_FILE_BYTES)));
    }
    let mut reader = Reader { parser: Parser::new_from_str(text), nodes: 0, anchors: HashMap::new() };
    let mut root = None;
    loop {
        let (event, place) = reader.next()?;
        match event {
            Event::StreamStart | Event::DocumentEnd | Event::Nothing => {}
            Event::DocumentStart(_) if root.is_some() => {
                return Err(malformed(place, "a second YAML document; the configuration is one".into()));
            }
            Event::DocumentStart(_) => {
                let (event, place) = reader.next()?;
                root = Some(reader.node(event, place, 0)?);
            }
            Event::StreamEnd => return Ok(root.unwrap_or(Node { place: (1, 1), value: Value::Null })),
            _ => return Err(malformed(place, "expected a YAML document".into())),
        }
    }
}

struct Reader<'t> {
    parser: Parser<'t, saphyr_parser::StrInput<'t>>,
    nodes: usize,
    anchors: HashMap<usize, (Node, usize)>,
}

impl<'t> Reader<'t> {
    fn next(&mut self) -> Result<(Event<'t>, Place), Malformed> {
        match self.parser.next_event() {
            Some(Ok((event, span))) => Ok((event, place_of(&span))),
            Some(Err(e)) => {
                let place = (e.marker().line().max(1), e.marker().col() + 1);
                Err(malformed(place, format!("not valid YAML: {}", e.info())))
            }
            None => Ok((Event::StreamEnd, (1, 1))),
        }
    }

    /// Builds the node that `event` begins. Recursion is bounded by [`limits::MAX_DEPTH`].
    fn node(&mut self, event: Event<'t>, place: Place, depth: usize) -> Result<Node, Malformed> {
        if depth > limits::MAX_DEPTH {
            return Err(malformed(place, format!("nested deeper than {} levels", limits::MAX_DEPTH)));
        }
        let before = self.nodes;
        self.count(1, place)?;
        let (anchor, tag, value) = match event {
            Event::Alias(id) => {
                let Some((node, size)) = self.anchors.get(&id).cloned() else {
                    return Err(malformed(place, "an alias inside the value it stands for".into()));
                };
                self.count(size, place)?;
                return Ok(node);
            }
            Event::Scalar(text, style, anchor, tag) => {
                self.count(text.len() / limits::NODE_OCTETS, place)?;
                (anchor, tag, scalar(&text, style))
            }
            Event::SequenceStart(anchor, tag) => (anchor, tag, self.list(depth)?),
            Event::MappingStart(anchor, tag) => (anchor, tag, self.map(depth)?),
            _ => return Err(malformed(place, "expected a value".into())),
        };
        if let Some(tag) = tag {
            return Err(malformed(
                place,
                format!("YAML tags such as {} have no meaning here", quoted(&tag.to_string())),
            ));
        }
        let node = Node { place, value };
        if anchor != 0 {
            let size = self.nodes - before;
            self.count(size, place)?; // the copy kept for its aliases
            self.anchors.insert(anchor, (node.clone(), size));
        }
        Ok(node)
    }

    fn list(&mut self, depth: usize) -> Result<Value, Malformed> {
        let mut items = Vec::new();
        loop {
            match self.next()? {
                (Event::SequenceEnd, _) => return Ok(Value::List(items)),
                (event, place) => items.push(self.node(event, place, depth + 1)?),
            }
        }
    }

    fn map(&mut self, depth: usize) -> Result<Value, Malformed> {
        let mut entries: Vec<Entry> = Vec::new();
        let mut lines: HashMap<String, usize> = HashMap::new();
        loop {
            let (event, place) = self.next()?;
            let key = match event {
                Event::MappingEnd => return Ok(Value::Map(entries)),
                Event::Scalar(text, ..) => text.into_owned(),
                _ => return Err(malformed(place, "a key must be a plain word".into())),
            };
            self.count(1 + key.len() / limits::NODE_OCTETS, place)?;
            let (event, value_place) = self.next()?;
            let node = self.node(event, value_place, depth + 1)?;
            let repeats = lines.get(&key).copied();
            if repeats.is_none() {
                lines.insert(key.clone(), place.0);
            }
            entries.push(Entry { key, place, node, repeats });
        }
    }

    /// Accounts for `n` more nodes.
    fn count(&mut self, n: usize, place: Place) -> Result<(), Malformed> {
        self.nodes += n;
        if self.nodes > limits::MAX_NODES {
            return Err(malformed(place, format!("more than {} values, aliases counted", limits::MAX_NODES)));
        }
        Ok(())
    }
}

fn scalar(text: &str, style: ScalarStyle) -> Value {
    match (style, text) {
        (ScalarStyle::Plain, "" | "~" | "null" | "Null" | "NULL") => Value::Null,
        _ => Value::Scalar(text.to_owned()),
    }
}

fn place_of(span: &Span) -> Place {
    (span.start.line().max(1), span.start.col() + 1)
}

fn malformed(place: Place, message: String) -> Malformed {
    Malformed { place, message }
}
