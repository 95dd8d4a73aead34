//! A tree as YAML that `tree` reads back to the same tree.
//!
//! What comes from one line of the source stands on one line, if it fits. Comments of the source stay with what they stood
//! at: behind the line that comes from theirs, or above the next one, within the zones if there is a choice.

use crate::config::corefile::Comment;
use crate::config::tree::{Entry, Node, Value};

/// How wide a line in braces or brackets may get.
const WIDTH: usize = 110;

/// A line of the text to be.
struct Line {
    depth: usize,
    text: String,
    /// The line of the source that it comes from.
    from: usize,
    /// Whether it stands below `zones`.
    in_zone: bool,
    above: Vec<String>,
    behind: Vec<String>,
}

/// Writes `root`, and `comments` where they belong.
pub(super) fn print(root: &Node, comments: &[Comment]) -> String {
    let mut writer = Writer { lines: Vec::new(), in_zone: false };
    match &root.value {
        Value::Map(entries) if !entries.is_empty() => writer.entries(entries, 0, ""),
        _ => writer.value(root, 0, String::new(), root.place.0),
    }
    let mut rest = Vec::new();
    for comment in comments {
        let shown = format!("# {}", comment.text.replace(|c| !is_printable(c), " ").trim());
        if let Some(line) = writer.behind(comment) {
            line.behind.push(shown);
        } else if let Some(line) = writer.below(comment) {
            line.above.push(shown);
        } else {
            rest.push(shown);
        }
    }
    let mut out = String::new();
    for line in writer.lines {
        let indent = " ".repeat(line.depth);
        for comment in line.above {
            out += &format!("{indent}{comment}\n");
        }
        let behind = if line.behind.is_empty() { String::new() } else { format!("  {}", line.behind.join(" ")) };
        out += &format!("{indent}{}{behind}\n", line.text);
    }
    for comment in rest {
        out += &format!("{comment}\n");
    }
    out
}

struct Writer {
    lines: Vec<Line>,
    in_zone: bool,
}

impl Writer {
    /// The line that `comment` stands behind, if it stands behind one.
    fn behind(&mut self, comment: &Comment) -> Option<&mut Line> {
        let here = |line: &&mut Line| line.from == comment.line && !comment.alone;
        let zone = self.lines.iter().any(|line| line.from == comment.line && line.in_zone);
        self.lines.iter_mut().filter(here).find(|line| line.in_zone == zone)
    }

    /// The line that `comment` stands above, if any follows.
    fn below(&mut self, comment: &Comment) -> Option<&mut Line> {
        let next = self.lines.iter().map(|line| line.from).filter(|from| *from > comment.line).min()?;
        let zone = self.lines.iter().any(|line| line.from == next && line.in_zone);
        self.lines.iter_mut().find(|line| line.from == next && line.in_zone == zone)
    }

    fn line(&mut self, depth: usize, text: String, from: usize) {
        let (above, behind) = (Vec::new(), Vec::new());
        self.lines.push(Line { depth, text, from, in_zone: self.in_zone, above, behind });
    }

    /// The keys of a mapping; `dash` stands before the first.
    fn entries(&mut self, entries: &[Entry], depth: usize, dash: &str) {
        for (i, entry) in entries.iter().enumerate() {
            let is_zones = depth == 0 && entry.key == "zones";
            self.in_zone |= is_zones;
            let (depth, before) = if i == 0 { (depth - dash.len(), dash) } else { (depth, "") };
            let head = format!("{before}{}:", scalar(&entry.key));
            match &entry.node.value {
                Value::List(items) if is_zones && !items.is_empty() => {
                    // What stands above the first zone is about that.
                    self.line(depth, head, 0);
                    self.items(items, depth + 2, true);
                }
                _ => self.value_at(&entry.node, depth, head, entry.place.0, depth + before.len()),
            }
            self.in_zone &= !is_zones;
        }
    }

    /// The items of a list.
    fn items(&mut self, items: &[Node], depth: usize, open: bool) {
        for item in items {
            match &item.value {
                Value::Map(entries) if !entries.is_empty() && (open || flow(item).is_none()) => {
                    self.entries(entries, depth + 2, "- ");
                }
                _ => self.value_at(item, depth, "-".to_owned(), item.place.0, depth),
            }
        }
    }

    fn value(&mut self, node: &Node, depth: usize, head: String, from: usize) {
        self.value_at(node, depth, head, from, depth);
    }

    /// A value behind `head`, or below it with more than `depth_of_key` spaces.
    fn value_at(&mut self, node: &Node, depth: usize, head: String, from: usize, depth_of_key: usize) {
        let space = if head.is_empty() { "" } else { " " };
        if let Some(flow) =
            flow(node).filter(|flow| depth + head.chars().count() + flow.chars().count() < WIDTH || is_single(node))
        {
            return self.line(depth, format!("{head}{space}{flow}"), from);
        }
        if !head.is_empty() {
            self.line(depth, head.clone(), from);
        }
        let below = if head.is_empty() { depth_of_key } else { depth_of_key + 2 };
        match &node.value {
            Value::Map(entries) => self.entries(entries, below, ""),
            Value::List(items) => self.items(items, below, false),
            _ => {}
        }
    }
}

/// Whether `node` can only be written on one line.
fn is_single(node: &Node) -> bool {
    match &node.value {
        Value::Null | Value::Scalar(_) => true,
        Value::List(items) => items.is_empty(),
        Value::Map(entries) => entries.is_empty(),
    }
}

/// `node` in braces or brackets, if all of it comes from one line.
fn flow(node: &Node) -> Option<String> {
    let line = |inner: &Node| (inner.place.0 == node.place.0).then(|| flow(inner)).flatten();
    match &node.value {
        Value::Null => Some("~".to_owned()),
        Value::Scalar(text) => Some(scalar(text)),
        Value::List(items) if items.iter().any(|item| matches!(item.value, Value::Map(_))) => None,
        Value::List(items) => {
            let items: Option<Vec<String>> = items.iter().map(line).collect();
            Some(format!("[{}]", items?.join(", ")))
        }
        Value::Map(entries) if entries.is_empty() => Some("{}".to_owned()),
        Value::Map(entries) => {
            let entry = |e: &Entry| Some(format!("{}: {}", scalar(&e.key), line(&e.node)?));
            let entries: Option<Vec<String>> = entries.iter().map(entry).collect();
            Some(format!("{{ {} }}", entries?.join(", ")))
        }
    }
}

/// Whether `c` may stand in YAML as it is and ends no line there.
fn is_printable(c: char) -> bool {
    !c.is_control() && !['\u{feff}', '\u{2028}', '\u{2029}', '\u{fffe}', '\u{ffff}'].contains(&c)
}

/// One value, in quotes unless it is plain whatever stands around it.
fn scalar(text: &str) -> String {
    let is_word = |c: char| c.is_ascii_alphanumeric() || "_./".contains(c);
    let plain = text.starts_with(is_word)
        && text.chars().all(|c| is_word(c) || "-%".contains(c))
        && !["null", "Null", "NULL", "..."].contains(&text);
    if plain {
        return text.to_owned();
    }
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            ' '..='~' => out.push(c),
            c if !c.is_ascii() && c.is_alphanumeric() => out.push(c),
            c => out += &format!("\\U{:08x}", u32::from(c)),
        }
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::config::tree::parse;

    fn arbitrary() -> impl Strategy<Value = Node> {
        let text = prop_oneof![
            any::<String>(),
            "[-a-z0-9.:/_#{}\\[\\],\"'\\\\ %&*!|>?@`~\n\t]{0,12}",
            Just("null".to_owned()),
            Just("...".to_owned()),
            Just("---".to_owned()),
            Just("~".to_owned()),
        ]
        .prop_map(|text: String| text.chars().take(40).collect::<String>());
        let key = text.clone();
        let place = 1..4_usize;
        let leaf = prop_oneof![
            4 => text.prop_map(Value::Scalar),
            1 => Just(Value::Null),
        ];
        let node = |value: Value, line: usize| Node { place: (line, 1), value };
        let leaf = (leaf, place.clone()).prop_map(move |(value, line)| node(value, line));
        leaf.prop_recursive(4, 40, 5, move |inner| {
            let list = proptest::collection::vec(inner.clone(), 0..5).prop_map(Value::List);
            let map = proptest::collection::btree_map(key.clone(), inner, 0..5).prop_map(|map| {
                let entry = |(key, node): (String, Node)| Entry { key, place: node.place, node, repeats: None };
                Value::Map(map.into_iter().map(entry).collect())
            });
            (prop_oneof![list, map], 1..4_usize).prop_map(move |(value, line)| node(value, line))
        })
    }

    /// Everything but the places.
    fn bare(node: &Node) -> String {
        match &node.value {
            Value::Null => "~".to_owned(),
            Value::Scalar(text) => format!("{text:?}"),
            Value::List(items) => format!("[{}]", items.iter().map(bare).collect::<Vec<_>>().join(",")),
            Value::Map(entries) => {
                let entry = |e: &Entry| format!("{:?}:{}", e.key, bare(&e.node));
                format!("{{{}}}", entries.iter().map(entry).collect::<Vec<_>>().join(","))
            }
        }
    }

    proptest! {
        #[test]
        fn any_tree_is_read_back_as_it_was(root in arbitrary(), remark in ".{0,20}") {
            let comment = |line, alone| Comment { text: remark.replace('\n', " "), line, alone };
            let comments = [comment(1, false), comment(1, true), comment(3, false), comment(9, true)];
            for comments in [&[][..], &comments] {
                let text = print(&root, comments);
                let back = parse(&text).map_err(|e| TestCaseError::fail(format!("{e:?} in\n{text}")))?;
                prop_assert_eq!(bare(&back), bare(&root), "{}", text);
            }
        }
    }

    #[test]
    fn what_comes_from_one_line_stands_on_one() {
        let text =
            "a: { b: 1, c: [x, \"y z\"] }\nd:\n  e: 2\n  f:\n    - 10.0.0.1\n    - \"[::1]:53\"\n  g: \"\"\n  h: []\n";
        assert_eq!(print(&parse(text).unwrap(), &[]), text);
        let wide = format!("a: [{}]\n", vec!["aaaaaaaaaaaa"; 10].join(", "));
        let printed = print(&parse(&wide).unwrap(), &[]);
        assert_eq!(printed.lines().count(), 11, "{printed}");
    }

    #[test]
    fn comments_stay_with_what_they_stood_at() {
        let source = "listen: 1\nzones:\n- match: a\n  cache: 2\n- match: b\nhealth: 3\n";
        let root = parse(source).unwrap();
        let comment = |text: &str, line, alone| Comment { text: text.into(), line, alone };
        let comments = [
            comment("above", 0, true),
            comment("behind", 4, false),
            comment("second", 4, true),
            comment("end", 7, true),
        ];
        let expected = "# above\nlisten: 1\nzones:\n  - match: a\n    cache: 2  # behind\n  # second\n  - match: b\nhealth: 3\n# end\n";
        assert_eq!(print(&root, &comments), expected);
    }
}
