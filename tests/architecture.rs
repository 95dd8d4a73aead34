//! The shape of the source tree, checked: who may use whom, how files open, how long they are, where `unsafe` lives.
//!
//! Reads the text of `src/`, blind to comments, literals and test code. What it cannot see, such as a path built by a
//! macro, it does not forbid; it is there to catch drift, not intent.

#![expect(clippy::unwrap_used, reason = "all of this is a test")]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// The top-level modules along the path of a query; each may use those before it, unless [`LESS`] says otherwise.
const ORDER: [&str; 14] = [
    "wire", "sys", "observe", "config", "cache", "upstream", "resolve", "serve", "admin", "network", "guardian", "app",
    "cli", "main",
];

/// Modules that may use less than all before them. `config::limits` stands for that submodule alone.
const LESS: [(&str, &[&str]); 8] = [
    ("sys", &[]),
    ("observe", &["wire", "sys"]),
    ("config", &["wire", "observe", "sys::interfaces"]),
    ("cache", &["wire", "sys", "observe", "config::limits"]),
    ("upstream", &["wire", "sys", "observe", "config::limits"]),
    ("network", &["sys", "observe"]),
    ("guardian", &["wire", "sys", "observe", "network"]),
    ("main", &["cli"]),
];

/// Lines of a file that are not tests.
const LONGEST: usize = 500;

/// A source file, as the checks see it.
struct Source {
    /// Its place in the module tree: `["cache", "key"]`.
    module: Vec<String>,
    path: PathBuf,
    text: String,
    /// The text without comments, literals and test code, line for line.
    code: String,
}

impl Source {
    fn new(path: &Path, text: String) -> Source {
        let relative = path.strip_prefix("src").unwrap_or(path).with_extension("");
        let mut module: Vec<String> = relative.iter().map(|part| part.to_str().unwrap().to_owned()).collect();
        if module.last().is_some_and(|last| last == "mod") {
            module.pop();
        }
        let code = without_tests(&without_comments(&text));
        Source { module, path: path.to_owned(), text, code }
    }

    /// Is all of it test code?
    fn is_test(&self) -> bool {
        self.module.iter().any(|part| part == "tests")
    }
}

/// Every source file that is not a test.
fn sources() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut found = Vec::new();
    let mut folders = vec![root.join("src")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = fs::read_to_string(&path).unwrap();
                found.push(Source::new(path.strip_prefix(root).unwrap(), text));
            }
        }
    }
    assert!(found.len() > 10, "only {} files found", found.len());
    found.retain(|source| !source.is_test());
    found
}

/// `text` with comments and the insides of literals replaced by nothing; line ends stay.
fn without_comments(text: &str) -> String {
    let mut code = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let skipped = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if rest.starts_with("/*") {
            rest.find("*/").map_or(rest.len(), |end| end + 2)
        } else if let Some(end) = literal(rest, code.chars().last()) {
            code.push_str("\"\"");
            end
        } else {
            code.push(c);
            rest = &rest[c.len_utf8()..];
            continue;
        };
        code.extend(rest[..skipped].chars().filter(|&c| c == '\n'));
        rest = &rest[skipped..];
    }
    code
}

/// The length of the string or character literal that `text` opens with, if it does; `before` is what precedes it.
fn literal(text: &str, before: Option<char>) -> Option<usize> {
    let word = before.is_some_and(|c| c.is_alphanumeric() || c == '_');
    let raw = text.strip_prefix('b').or(text.strip_prefix('c')).unwrap_or(text).strip_prefix('r');
    if let Some(raw) = raw.filter(|_| !word) {
        let hashes = raw.len() - raw.trim_start_matches('#').len();
        if raw[hashes..].starts_with('"') {
            let opening = text.len() - raw.len() + hashes + 1;
            let closing = format!("\"{}", "#".repeat(hashes));
            return Some(text[opening..].find(&closing).map_or(text.len(), |end| opening + end + closing.len()));
        }
    }
    let quote = text.chars().next().filter(|&c| c == '"' || c == '\'')?;
    let inside = &text[1..];
    // A quote that neither escapes nor closes after one character opens a lifetime.
    if quote == '\'' && !inside.starts_with('\\') && inside.chars().nth(1) != Some('\'') {
        return None;
    }
    let mut escaped = false;
    let end = inside.char_indices().find(|&(_, c)| {
        let closes = c == quote && !escaped;
        escaped = c == '\\' && !escaped;
        closes
    });
    Some(end.map_or(text.len(), |(at, _)| at + 2))
}

/// `code` without the items marked `#[cfg(test)]`: up to the brace that closes them, or their semicolon.
fn without_tests(code: &str) -> String {
    let mut kept = String::with_capacity(code.len());
    let mut rest = code;
    while let Some(start) = rest.find("#[cfg(test)]") {
        kept.push_str(&rest[..start]);
        let item = &rest[start..];
        let mut depth = 0;
        let end = item.char_indices().find(|&(_, c)| {
            depth += i32::from("{([".contains(c)) - i32::from("})]".contains(c));
            depth == 0 && (c == '}' || c == ';')
        });
        rest = end.map_or("", |(at, _)| &item[at + 1..]);
    }
    kept.push_str(rest);
    kept
}

/// The words of `code`, each with what follows it.
fn words(code: &str) -> impl Iterator<Item = (&str, &str)> {
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    let mut rest = code;
    std::iter::from_fn(move || {
        rest = &rest[rest.find(is_word)?..];
        let (word, after) = rest.split_at(rest.find(|c| !is_word(c)).unwrap_or(rest.len()));
        rest = after;
        Some((word, after))
    })
}

/// The top-level modules that `source` uses, each with the submodule where the path names one.
fn uses(source: &Source) -> BTreeSet<Vec<String>> {
    let mut found = BTreeSet::new();
    // What a path starts from: the crate, or the parents of this module.
    let mut supers = 0;
    for (word, after) in words(&source.code) {
        let root = match word {
            "crate" | "nodens" => true,
            "super" => {
                supers += 1;
                // The parent of a top-level module is the root.
                supers == source.module.len()
            }
            _ => false,
        };
        let path = after.trim_start().strip_prefix("::").map(str::trim_start);
        if let Some(path) = path.filter(|_| root) {
            found.extend(tree(path).into_iter().filter(|path| !path.is_empty()));
        }
        if !(word == "super" && path.is_some()) {
            supers = 0;
        }
    }
    found
}

/// The paths of a use tree, two segments deep: `a::{b, c::d}` is `a::b` and `a::c`.
fn tree(text: &str) -> Vec<Vec<String>> {
    fn walk<'a>(mut text: &'a str, prefix: &[String], found: &mut Vec<Vec<String>>) -> &'a str {
        text = text.trim_start();
        if let Some(mut inside) = text.strip_prefix('{') {
            loop {
                inside = walk(inside, prefix, found).trim_start();
                match inside.chars().next() {
                    Some(',') => inside = &inside[1..],
                    Some('}') => return &inside[1..],
                    _ => return inside,
                }
            }
        }
        let end = text.find(|c: char| !c.is_alphanumeric() && c != '_' && c != '*').unwrap_or(text.len());
        let (word, after) = text.split_at(end);
        let mut path = prefix.to_vec();
        if path.len() < 2 && !word.is_empty() {
            path.push(word.to_owned());
        }
        if let Some(deeper) = after.trim_start().strip_prefix("::") {
            return walk(deeper, &path, found);
        }
        found.push(path);
        // `as name` renames the last segment only.
        match after.trim_start().strip_prefix("as ") {
            Some(name) => name.trim_start().trim_start_matches(|c: char| c.is_alphanumeric() || c == '_'),
            None => after,
        }
    }
    let mut found = Vec::new();
    walk(text, &[], &mut found);
    found
}

/// The uses of `source` that [`ORDER`] and [`LESS`] do not allow.
fn forbidden(source: &Source) -> Vec<String> {
    let own = source.module[0].as_str();
    let Some(place) = ORDER.iter().position(|&name| name == own) else {
        return vec![format!("{}: the module {own} has no place in ORDER", source.path.display())];
    };
    let allowed = LESS.iter().find(|(name, _)| *name == own).map_or(&ORDER[..place], |(_, allowed)| allowed);
    let permitted = |used: &[String]| allowed.contains(&used[0].as_str()) || allowed.contains(&&*used.join("::"));
    let other = |used: &[String]| used[0] != own && ORDER.contains(&used[0].as_str());
    let bad = uses(source).into_iter().filter(|used| other(used) && !permitted(used));
    bad.map(|used| format!("{}: {own} may not use {}", source.path.display(), used.join("::"))).collect()
}

fn assert_none(problems: Vec<String>) {
    assert!(problems.is_empty(), "\n{}\n", problems.join("\n"));
}

#[test]
fn dependencies_between_modules_go_one_way() {
    assert_none(sources().iter().filter(|source| source.module != ["lib"]).flat_map(forbidden).collect());
}

#[test]
fn files_open_by_saying_what_they_own() {
    let silent = |source: &Source| !source.text.starts_with("//! ");
    let problem = |source: &Source| format!("{}: the first line is not `//! …`", source.path.display());
    assert_none(sources().iter().filter(|s| silent(s)).map(problem).collect());
}

#[test]
fn files_are_short() {
    let count = |source: &Source| {
        // Test code at the bottom does not count; comments do.
        let tests = source.text.find("#[cfg(test)]\nmod ").unwrap_or(source.text.len());
        source.text[..tests].lines().count()
    };
    let long = |source: &Source| {
        let lines = count(source);
        (lines > LONGEST).then(|| format!("{}: {lines} lines, {LONGEST} at most", source.path.display()))
    };
    assert_none(sources().iter().filter_map(long).collect());
}

/// Does code use `unsafe`, or permit itself to?
fn is_unsafe(code: &str) -> bool {
    words(code).any(|(word, _)| word == "unsafe" || word == "unsafe_code")
}

#[test]
fn unsafe_lives_in_sys() {
    let problem = |source: &Source| format!("{}: unsafe belongs in src/sys", source.path.display());
    let elsewhere =
        |source: &&Source| source.module[0] != "sys" && is_unsafe(&source.code.replace("deny(unsafe_code)", ""));
    assert_none(sources().iter().filter(elsewhere).map(problem).collect());
}

// The checks above hold only while they can see: each must find what it looks for.

fn source(path: &str, text: &str) -> Source {
    Source::new(Path::new(path), text.to_owned())
}

#[test]
fn a_forbidden_edge_is_seen_in_every_spelling() {
    for text in [
        "use crate::serve;",
        "use crate::serve::udp;",
        "use crate::{wire, serve::{udp, client}};",
        "use crate::{\n    wire::header,\n    serve as s,\n};",
        "pub use crate :: serve :: *;",
        "fn f() { crate::serve::run(); }",
        "use super::super::serve;",
        "use nodens::serve;",
        "const A: char = '\"'; use crate::serve; const B: &str = \"\";",
        "fn f<'a>(x: &'a str) { crate::serve::run(x) }",
        "#[cfg(test)]\nmod tests { fn f() {} }\nuse crate::serve;",
    ] {
        assert_ne!(forbidden(&source("src/cache/store.rs", text)), [""; 0], "{text}");
    }
    assert_eq!(forbidden(&source("src/cache/mod.rs", "use super::serve;")).len(), 1);
    assert_eq!(forbidden(&source("src/app.rs", "use super::cli;")).len(), 1);
}

#[test]
fn permitted_edges_comments_literals_and_tests_are_passed_over() {
    for text in [
        "use crate::wire::header;",
        "use crate::cache::key;",
        "use crate::config::limits::MAX;",
        "use crate::config::{limits, limits::MAX};",
        "use super::key;",
        "use std::serve;",
        "// use crate::serve;",
        "/* use crate::serve; */",
        "//! [`crate::serve`]",
        "const A: &str = \"use crate::serve;\";",
        "const A: &str = r#\"\" use crate::serve;\"#;",
        "#[cfg(test)]\nmod tests { use crate::serve; fn f() { } }",
        "#[cfg(test)]\nuse crate::serve;",
    ] {
        assert_eq!(forbidden(&source("src/cache/store.rs", text)), [""; 0], "{text}");
    }
}

#[test]
fn one_submodule_is_not_the_whole_module() {
    let whole = forbidden(&source("src/cache/store.rs", "use crate::config::{limits, file};"));
    assert_eq!(whole, ["src/cache/store.rs: cache may not use config::file"]);
}

#[test]
fn a_module_nobody_placed_is_reported() {
    assert_eq!(forbidden(&source("src/extra.rs", "")), ["src/extra.rs: the module extra has no place in ORDER"]);
}

#[test]
fn unsafe_is_seen_in_code_and_only_there() {
    let code = |text| source("src/cache/store.rs", text).code;
    assert!(is_unsafe(&code("fn f() { unsafe { g() } }")));
    assert!(is_unsafe(&code("#[allow(unsafe_code)]")));
    assert!(!is_unsafe(&code("// unsafe\nconst A: &str = \"unsafe\";")));
}
