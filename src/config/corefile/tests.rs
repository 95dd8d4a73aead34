//! The grammar, form by form: what is accepted and as what, what is refused and where.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use proptest::prelude::*;

use super::*;

/// Files that are only in memory.
#[derive(Default)]
struct Memory(BTreeMap<PathBuf, String>);

impl Memory {
    fn new(files: &[(&str, &str)]) -> Memory {
        Memory(files.iter().map(|(path, text)| (PathBuf::from(path), (*text).to_owned())).collect())
    }
}

impl Files for Memory {
    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        self.0.get(path).map(|text| text.clone().into_bytes()).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn names(&self, folder: &Path) -> io::Result<Vec<String>> {
        let below = self.0.keys().filter_map(|path| path.strip_prefix(folder).ok()?.iter().next());
        let names: BTreeSet<String> = below.map(|name| name.to_str().unwrap().to_owned()).collect();
        Ok(names.into_iter().rev().collect())
    }
}

fn environment(name: &str) -> Option<String> {
    match name {
        "ZONE" => Some("cluster.local".into()),
        "TWO" => Some("10.0.0.1 10.0.0.2".into()),
        "NAME" => Some("errors".into()),
        "FILE" => Some("one.conf".into()),
        "LIST" => Some("a.org,".into()),
        "LOOP" => Some("{$LOOP}".into()),
        _ => None,
    }
}

/// Parses a Corefile that may import `files`.
fn with(files: &[(&str, &str)], text: &str) -> Result<Corefile, Problems> {
    parse_with("Corefile", text, Path::new("/etc"), &environment, &Memory::new(files))
}

/// The words of a list, those with white space or nothing in them in quotes.
fn list(words: &[Word]) -> String {
    let shown = |word: &Word| match word.text.contains(char::is_whitespace) || word.text.is_empty() {
        true => format!("'{}'", word.text),
        false => word.text.clone(),
    };
    words.iter().map(shown).collect::<Vec<_>>().join(" ")
}

/// What a Corefile says, in one line.
fn shown(corefile: &Corefile) -> String {
    let line = |line: &Line| list(&line.0);
    let directive = |directive: &Directive| {
        let mut text = list(&directive.name_and_arguments());
        if let Some(body) = &directive.body {
            text.push_str(&format!(" {{{}}}", body.iter().map(line).collect::<Vec<_>>().join("; ")));
        }
        text
    };
    let block = |block: &Block| {
        let directives: Vec<_> = block.directives.iter().map(directive).collect();
        format!("{}: {}", list(&block.keys), directives.join(", ")).trim_end().to_owned()
    };
    corefile.blocks.iter().map(block).collect::<Vec<_>>().join(" | ")
}

impl Directive {
    fn name_and_arguments(&self) -> Vec<Word> {
        std::iter::once(&self.name).chain(&self.arguments).cloned().collect()
    }
}

/// What `text` means, without a warning.
fn clean(text: &str) -> String {
    let corefile = with(&[], text).unwrap_or_else(|problems| panic!("{text:?}: {problems}"));
    assert_eq!(corefile.warnings, [], "{text:?}");
    shown(&corefile)
}

/// What `text` means, and the one warning about it.
fn odd(text: &str) -> (String, String) {
    let corefile = with(&[], text).unwrap_or_else(|problems| panic!("{text:?}: {problems}"));
    assert_eq!(corefile.warnings.len(), 1, "{text:?}: {:?}", corefile.warnings);
    (shown(&corefile), corefile.warnings[0].to_string())
}

/// The problems of `text`, one a line.
fn refused(text: &str) -> String {
    match with(&[], text) {
        Ok(corefile) => panic!("{text:?} is accepted: {}", shown(&corefile)),
        Err(problems) => problems.to_string(),
    }
}

/// Asserts that each text is refused with the message that stands beside it alone.
fn assert_refused(table: &[(&str, &str)]) {
    for (text, message) in table {
        let found = refused(text);
        assert!(found.starts_with(message) && !found.contains('\n'), "{text:?}: {found}");
    }
}

#[test]
fn blocks() {
    for (text, meaning) in [
        ("", ""),
        (" \n# nothing\n", ""),
        (".:53 {\n errors\n cache 30\n}\n", ".:53: errors, cache 30"),
        (".:53\n{\n errors\n}", ".:53: errors"),
        (".:53 { }", ".:53:"),
        (".:53 {\n}", ".:53:"),
        (".:53 {}", ".:53 {}:"),
        ("a.org", "a.org:"),
        ("a.org b.org", "a.org b.org:"),
        ("a.org\nerrors\ncache {\n success 1\n}\nlog", "a.org: errors, cache {success 1}, log"),
        ("a.org b.org:1053 {\n log\n}", "a.org b.org:1053: log"),
        ("a.org, b.org {\n log\n}", "a.org b.org: log"),
        ("a.org,\nb.org,\n\nc.org {\n log\n}", "a.org b.org c.org: log"),
        ("a.org,\n# comment\nb.org\n{\n log\n}", "a.org b.org: log"),
        ("a.org,b.org {\n}", "a.org,b.org:"),
        ("a.org {\n}\nb.org {\n}", "a.org: | b.org:"),
        ("a.org {\n} b.org {\n}", "a.org: | b.org:"),
        ("\"a.org\" \"{\"\n log\n\"}\"", "a.org: log"),
        ("\"\" a.org {\n}", "a.org:"),
        ("https://mycompany.local:4453 {\n}", "https://mycompany.local:4453:"),
        (". { errors\n log\n}", ".: errors, log"),
        ("\u{feff}. {\r\n\terrors\r\n}\r\n", ".: errors"),
        ("a.org {\n    errors\n    }", "a.org: errors"),
    ] {
        assert_eq!(clean(text), meaning, "{text:?}");
    }
}

#[test]
fn directives() {
    for (text, meaning) in [
        ("bind 10.0.0.1 10.0.0.2", ".: bind 10.0.0.1 10.0.0.2"),
        ("bind 10.0.0.1 ", ".: bind 10.0.0.1"),
        ("cache {\n success 9984 30\n denial 9984 5\n }", ".: cache {success 9984 30; denial 9984 5}"),
        ("cache 30 example.org {\n }", ".: cache 30 example.org {}"),
        ("cache { }", ".: cache {}"),
        ("cache {} {\n }", ".: cache {} {}"),
        ("cache { success 10\n denial 5\n }", ".: cache {success 10; denial 5}"),
        ("hosts {\n 10.0.0.1 a b\n\n fallthrough\n }", ".: hosts {10.0.0.1 a b; fallthrough}"),
        ("forward . 1.1.1.1\nforward . 2.2.2.2", ".: forward . 1.1.1.1, forward . 2.2.2.2"),
        ("errors {\n a {\n b\n }\n c { d }\n }\nlog", ".: errors {a {; b; }; c { d }}, log"),
        ("errors {\n consolidate 10s \".* i/o timeout$\"\n }", ".: errors {consolidate 10s '.* i/o timeout$'}"),
        ("template ANY ANY a {\n match \"^\\.a\\.$\"\n }", ".: template ANY ANY a {match ^\\.a\\.$}"),
        ("nsid \"two words\" \"\"", ".: nsid 'two words' ''"),
        ("nsid \"two\nlines\"\nlog", ".: nsid 'two\nlines', log"),
        ("nsid \"two\nlines\" more\nlog", ".: nsid 'two\nlines' more, log"),
        ("errors#x y\nlog", ".: errors y, log"),
        ("errors # x y\nlog", ".: errors, log"),
        ("log import x", ".: log import x"),
    ] {
        assert_eq!(clean(&format!(". {{\n{text}\n}}")), meaning, "{text:?}");
    }
}

#[test]
fn every_directive_known() {
    for name in [
        "bind",
        "bufsize",
        "cache",
        "debug",
        "dns64",
        "errors",
        "forward",
        "health",
        "hosts",
        "loadbalance",
        "log",
        "loop",
        "prometheus",
        "pprof",
        "reload",
        "rewrite",
        "template",
        "timeouts",
        "trace",
        "whoami",
        "metadata",
        "dnstap",
        "ready",
        "nsid",
        "acl",
        "minimal",
        "any",
        "cancel",
    ] {
        assert_eq!(clean(&format!(". {{\n {name}\n}}")), format!(".: {name}"));
    }
}

#[test]
fn unknown_directives_are_named_with_their_place_and_the_nearest_known_one() {
    assert_eq!(
        refused(".:53 {\n    prometheus: 9253\n}"),
        "Corefile:2:5: unknown directive \"prometheus:\"; did you mean \"prometheus\"?"
    );
    assert_refused(&[
        (". {\n Errors\n}", "Corefile:2:2: unknown directive \"Errors\"; did you mean \"errors\"?"),
        (". {\n health{\n}", "Corefile:2:2: unknown directive \"health{\"; did you mean \"health\"?"),
        (". {\n multisocket 2\n}", "Corefile:2:2: unknown directive \"multisocket\"; known are acl, any,"),
        (". {\n \"\"\n}", "Corefile:2:2: unknown directive \"\"; known are"),
        (".\n errors\nb.org {\n log\n}", "Corefile:3:1: unknown directive \"b.org\""),
    ]);
    assert_eq!(
        refused(". {\n kubernetes x {\n  pods verified\n }\n errors\n fowrard . 1.1.1.1\n}\na.org {\n tls\n}")
            .lines()
            .count(),
        3
    );
}

#[test]
fn misplaced_braces_are_refused() {
    assert_refused(&[
        (". { whoami }", "Corefile:1:12: unexpected } behind \"whoami\": it must stand on a line of its own"),
        (". {\n cache { success 10 }\n}", "Corefile:2:21: this } must stand on a line of its own"),
        (". {\n forward . 1.1.1.1 {\n  force_tcp }\n}", "Corefile:3:13: this } must stand on a line of its own"),
        (". {\n errors {\n } }", "Corefile:3:4: unexpected } behind \"errors\""),
        (". {\n errors {\n } log\n}", "Corefile:3:4: nothing may stand behind the }"),
        (". {\n errors\n {\n  stacktrace\n }\n}", "Corefile:3:2: a directive is expected here, not {"),
        (". {\n errors\n", "Corefile:1:3: the block that begins here is not closed"),
        (". {", "Corefile:1:3: the block that begins here is not closed"),
        (". {\n errors {\n  stacktrace\n", "Corefile:2:9: this { is not closed"),
        (". {\n errors {\n  a {\n }\n", "Corefile:2:9: this { is not closed"),
        (". {\n}\n}\na.org {\n}", "Corefile:3:1: unexpected }: no block is open"),
        ("}\n. {\n}", "Corefile:1:1: unexpected }: no block is open"),
        ("a.org }\n", "Corefile:1:7: a zone or { is expected here, not }"),
        (". {\n} import x", "Corefile:2:3: a zone or { is expected here, not import"),
    ]);
    let deep = format!(". {{\n errors {{\n{}", "x {\n".repeat(40));
    assert!(refused(&deep).contains("nested deeper than 32 levels"));
}

#[test]
fn lists_of_zones_that_do_not_end_are_refused() {
    assert_refused(&[
        ("a.org, {\n}", "Corefile:1:8: another zone is expected behind the comma, not {"),
        ("a.org,\n\n{\n}", "Corefile:3:1: another zone is expected behind the comma, not {"),
        ("a.org,", "Corefile:1:1: another zone is expected behind the comma, but the text ends"),
    ]);
    // An empty zone is a key, and the reader of keys refuses it.
    assert_eq!(clean("a.org , b.org {\n}"), "a.org '' b.org:");
}

#[test]
fn slips_that_change_nothing_are_odd() {
    assert_eq!(odd(". {\n log\n}\n}"), (".: log".into(), "Corefile:4:1: a } too many at the end".into()));
    assert_eq!(odd(".\nlog\n}"), (".: log".into(), "Corefile:3:1: a } that no { belongs to".into()));
    let (meaning, warning) = odd(". {\n errors {\n  stacktrace\n }\n");
    assert_eq!(meaning, ".: errors {stacktrace}");
    assert!(warning.starts_with("Corefile:1:3: the block that begins here is not closed"));
    for text in ["{\n errors\n}", "{$UNSET} {\n errors\n}", "\"\"\nerrors"] {
        let (meaning, warning) = odd(text);
        assert_eq!((&*meaning, &*warning), ("", "Corefile:1:1: a block without a zone: it has no effect"), "{text}");
    }
}

#[test]
fn a_quote_that_nothing_closes_is_named_first() {
    let problems = refused(". {\n nsid \"abc\n}\n");
    assert!(problems.starts_with("Corefile:2:7: this quote is never closed\nCorefile:1:3: the block"), "{problems}");
}

#[test]
fn the_environment_is_filled_in_after_words_are_cut() {
    for (text, meaning) in [
        ("{$ZONE}:53 {\n log\n}", "cluster.local:53: log"),
        ("{%ZONE%}:53 {\n log\n}", "cluster.local:53: log"),
        (". {\n forward . {$TWO}\n}", ".: forward . '10.0.0.1 10.0.0.2'"),
        (". {\n forward . \"{$TWO}\"\n}", ".: forward . '10.0.0.1 10.0.0.2'"),
        (". {\n {$NAME} {$UNSET}\n}", ".: errors ''"),
        (". {\n log {\n  class {%NAME%}x\n }\n}", ".: log {class errorsx}"),
        ("{$LIST}\nb.org {\n}", "a.org b.org:"),
        ("{$UNSET} a.org {\n}", "a.org:"),
    ] {
        assert_eq!(clean(text), meaning, "{text:?}");
    }
    assert_refused(&[
        (". {\n nsid {$LOOP}\n}", "Corefile:2:7: the environment variables in this word"),
        (". {\n {$ZONE}\n}", "Corefile:2:2: unknown directive \"cluster.local\""),
    ]);
}

#[test]
fn snippets() {
    for (text, meaning) in [
        ("(a) {\n errors\n}\n. {\n import a\n log\n}", ".: errors, log"),
        ("(a) {\n errors\n}\n. {\n log\n import a\n import a\n}", ".: log, errors, errors"),
        ("(a) {\n errors\n}\n(b) {\n import a\n log\n}\n. {\n import b\n}", ".: errors, log"),
        // Which snippet is meant shows where it is imported.
        ("(b) {\n import a\n}\n(a) {\n log\n}\n. {\n import b\n}", ".: log"),
        (
            "(a) {\n ttl 5\n}\n. {\n hosts {\n  import a\n  import a\n  reload 0s\n }\n}",
            ".: hosts {ttl 5; ttl 5; reload 0s}",
        ),
        ("(a) {\n hosts {\n  ttl 5\n }\n}\n. {\n import a\n}", ".: hosts {ttl 5}"),
        ("(a) {\n . {\n  log\n }\n}\nimport a\nb.org {\n}", ".: log | b.org:"),
        ("(a) {\n x.org\n}\nimport a\n{\n log\n}", "x.org: log"),
        ("(a) {\n x.org\n}\nb.org,\nimport a\n{\n log\n}", "b.org x.org: log"),
        ("(a) {\n}\n. {\n import a\n log\n}", ".: log"),
        ("(a) { errors }\n. {\n import a\n}", ".: errors"),
        ("(a) {\n nsid {$ZONE}\n}\n. {\n import a\n}", ".: nsid cluster.local"),
        ("({$NAME}) {\n log\n}\n. {\n import {$NAME}\n}", ".: log"),
        ("(a b) {\n}", "(a b):"),
        ("(a) {\n log\n}\n. { import a\n}", ".: log"),
    ] {
        assert_eq!(clean(text), meaning, "{text:?}");
    }
}

#[test]
fn what_snippets_may_not_do() {
    assert_refused(&[
        ("(a) {\n log\n}\n(a) {\n log\n}", "Corefile:4:1: there is a snippet \"a\" already"),
        ("(a) {\n import a\n}", "Corefile:2:9: the snippet \"a\" imports itself"),
        ("(a)\nlog", "Corefile:1:1: a snippet is written (NAME) { … }"),
        ("(a)", "Corefile:1:1: a snippet is written (NAME) { … }"),
        ("(a) {\n log {\n}", "Corefile:1:5: the snippet that begins here is not closed"),
        (". {\n import a\n}\n(a) {\n}", "Corefile:2:9: cannot import \"/etc/a\": "),
        (". {\n import\n}", "Corefile:2:2: import needs the name"),
        (". {\n import a b\n}", "Corefile:2:11: import takes one name"),
        (". {\n import {$UNSET}\n}", "Corefile:2:9: import needs a name, and this one is empty"),
        (
            "(a) {\n import b\n}\n(b) {\n import a\n}\n. {\n import a\n}",
            "Corefile:5:9: the snippet \"a\" imports itself (imported at Corefile:8:2)",
        ),
        (
            "(a) {\n logg\n}\n. {\n import a\n}",
            "Corefile:2:2: unknown directive \"logg\"; did you mean \"log\"? (imported at Corefile:5:2)",
        ),
    ]);
}

#[test]
fn files_are_imported_relative_to_the_file_that_imports_them() {
    let files = [
        ("/etc/one.conf", "errors\nimport sub/two.conf\nlog"),
        ("/etc/sub/two.conf", "loop\nimport three.conf"),
        ("/etc/sub/three.conf", "reload"),
        ("/etc/blocks", "a.org {\n log\n}\n(s) {\n any\n}\nb.org {\n import s\n}"),
        ("/etc/empty", "# nothing"),
        ("/etc/properties", "\u{feff}ttl 5\r\nreload 0s\r\n"),
    ];
    for (text, meaning) in [
        (". {\n import one.conf\n whoami\n}", ".: errors, loop, reload, log, whoami"),
        (". {\n import /etc/one.conf\n}", ".: errors, loop, reload, log"),
        (". {\n import ../etc/./one.conf\n}", ".: errors, loop, reload, log"),
        (". {\n import {$FILE}\n}", ".: errors, loop, reload, log"),
        ("import blocks\n. {\n import s\n}", "a.org: log | b.org: any | .: any"),
        (". {\n import empty\n}\nimport empty", ".:"),
        (". {\n hosts {\n  import properties\n  fallthrough\n }\n}", ".: hosts {ttl 5; reload 0s; fallthrough}"),
        (".\nimport one.conf", ".: errors, loop, reload, log"),
        (". {\n log import one.conf\n}", ".: log import one.conf"),
        // A snippet comes before a file of its name.
        ("(one.conf) {\n any\n}\n. {\n import one.conf\n}", ".: any"),
    ] {
        let corefile = with(&files, text).unwrap_or_else(|problems| panic!("{text:?}: {problems}"));
        assert_eq!(shown(&corefile), meaning, "{text:?}");
    }
}

#[test]
fn what_was_read_is_listed_for_whoever_looks_for_changes() {
    let files = [("/etc/a", "import b"), ("/etc/b", "log"), ("/etc/c/x.override", "any"), ("/etc/c/other", "?")];
    let corefile = with(&files, ". {\n import a\n import a\n import c/*.override\n import d/*\n}").unwrap();
    assert_eq!(shown(&corefile), ".: log, log, any");
    let expected = ["/etc/a", "/etc/b", "/etc/c", "/etc/c/x.override", "/etc/d"].map(PathBuf::from);
    assert_eq!(corefile.files, expected);
    assert_eq!(corefile.warnings.len(), 1);
    let warning = corefile.warnings[0].to_string();
    assert_eq!(warning, "Corefile:5:9: no file matches \"d/*\", so nothing is imported");
}

#[test]
fn patterns() {
    let files = [
        ("/etc/c/b.override", "log"),
        ("/etc/c/a.override", "any"),
        ("/etc/c/.hidden.override", "loop"),
        ("/etc/c/a.server", "x"),
        ("/etc/d1/x", "errors"),
        ("/etc/d2/x", "cancel"),
        ("/etc/d2/y", "x"),
    ];
    for (pattern, meaning) in [
        ("c/*.override", ".: loop, any, log"),
        ("c/?.override", ".: any, log"),
        ("/etc/c/?.overr*", ".: any, log"),
        ("c/b*", ".: log"),
        ("d*/x", ".: errors, cancel"),
        ("d?/x", ".: errors, cancel"),
        ("c/../d*/x", ".: errors, cancel"),
        ("c/a.override*", ".: any"),
        ("c/z*", ".:"),
        ("none/*", ".:"),
    ] {
        let corefile = with(&files, &format!(". {{\n import {pattern}\n}}"));
        assert_eq!(
            corefile.map(|corefile| shown(&corefile)).map_err(|e| e.to_string()),
            Ok(meaning.into()),
            "{pattern}"
        );
    }
    for pattern in ["c/**", "*/*", "??", "[ab]", "a["] {
        let problems = with(&files, &format!(". {{\n import {pattern}\n}}")).unwrap_err().to_string();
        assert!(problems.starts_with("Corefile:2:9: cannot import") && problems.contains("pattern"), "{problems}");
    }
}

#[test]
fn imports_that_cannot_be_done_are_refused() {
    let files = [
        ("/etc/loop", "log\nimport loop"),
        ("/etc/x", "import ../etc/y"),
        ("/etc/y", "import x"),
        ("/etc/all/a", "import *"),
        ("/etc/bad", "errors\nlogg"),
        ("/etc/quote", "log\nnsid \"a"),
        ("/etc/open", "errors {\n"),
    ];
    for (name, message) in [
        ("none", "Corefile:2:9: cannot import \"/etc/none\": "),
        ("loop", "/etc/loop:2:8: the file \"/etc/loop\" imports itself (imported at Corefile:2:2)"),
        ("x", "/etc/y:1:8: the file \"/etc/x\" imports itself"),
        ("all/*", "/etc/all/a:1:8: the file \"/etc/all/a\" imports itself"),
        ("bad", "/etc/bad:2:1: unknown directive \"logg\"; did you mean \"log\"? (imported at Corefile:2:2)"),
        ("quote", "Corefile:2:9: cannot import \"/etc/quote\": the quote at 2:6 is never closed"),
    ] {
        let problems = with(&files, &format!(". {{\n import {name}\n}}")).unwrap_err().to_string();
        assert!(problems.starts_with(message) && !problems.contains('\n'), "{name}: {problems}");
    }
    // Text is text: an open brace of a file is closed by the next of the file around it.
    assert_eq!(shown(&with(&files, ". {\n import open\n }\n}").unwrap()), ".: errors {}");
}

#[test]
fn files_matched_together_may_import_one_another() {
    let files = [("/etc/c/a", "import b\nany"), ("/etc/c/b", "log")];
    assert_eq!(shown(&with(&files, ". {\n import c/*\n}").unwrap()), ".: log, any, log");
}

#[test]
fn words_know_where_they_stand_and_where_they_come_from() {
    let files = [("/etc/one.conf", "log\n import two.conf"), ("/etc/two.conf", "\nany x")];
    let corefile = with(&files, "(s) {\n errors\n}\n. {\n  import s\n  import one.conf\n  loop\n}").unwrap();
    let places: Vec<_> = corefile.blocks[0]
        .directives
        .iter()
        .map(|directive| (&directive.name, format!("{}", directive.name.file)))
        .map(|(word, file)| format!("{} {file} {:?} {:?}", word.text, word.place, word.from))
        .collect();
    assert_eq!(
        places,
        [
            "errors Corefile (2, 2) (5, 3)",
            "log /etc/one.conf (1, 1) (6, 3)",
            "any /etc/two.conf (2, 1) (6, 3)",
            "loop Corefile (7, 3) (7, 3)"
        ]
    );
}

#[test]
fn comments_of_the_main_file_are_kept() {
    let corefile = with(&[("/etc/a", "log # not this")], "# one\n. { # two\n import a\n}").unwrap();
    let comment = |text: &str, line, alone| Comment { text: text.into(), line, alone };
    assert_eq!(corefile.comments, [comment("one", 1, true), comment("two", 2, false)]);
}

#[test]
fn what_imports_may_cost_is_bounded() {
    let many = |n: usize| format!("(a) {{\n log\n}}\n. {{\n{}}}", "import a\n".repeat(n));
    assert_eq!(with(&[], &many(10_000)).unwrap().blocks[0].directives.len(), 10_000);
    assert!(refused(&many(10_001)).contains("more than 10000 imports of snippets"));

    // Each snippet is two of the one before.
    let mut doubling = "(s0) {\n log\n}\n".to_owned();
    for i in 1..40 {
        doubling.push_str(&format!("(s{i}) {{\n import s{}\n import s{}\n}}\n", i - 1, i - 1));
    }
    assert!(refused(&format!("{doubling}. {{\n import s39\n}}")).contains("more than 10000 imports of snippets"));

    let long = format!("(a) {{\n nsid {}\n}}\n. {{\n{}}}", "x".repeat(64_000), "import a\n".repeat(1000));
    assert!(refused(&long).contains("more than 200000 words"));
    let words = ("/etc/words", &*"log\n".repeat(1000));
    let files = with(&[words], &format!(". {{\n{}}}", "import words\n".repeat(1000)));
    assert!(files.unwrap_err().to_string().contains("more than 200000 words"));
    assert!(refused(&"a ".repeat(300_000)).contains("more than 200000 words"));
    assert_eq!(refused(&" ".repeat(limits::MAX_FILE_BYTES + 1)), "Corefile: larger than 1048576 bytes");
    assert!(with(&[("/etc/big", &" ".repeat(limits::MAX_FILE_BYTES + 1))], "import big").is_err());
    assert_eq!(refused(&format!(". {{\n{}}}", "bad\n".repeat(500))).lines().count(), limits::MAX_PROBLEMS);
}

#[test]
fn files_of_the_disk_are_read_and_only_ordinary_ones() {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("custom")).unwrap();
    fs::write(folder.path().join("custom/b.override"), "log").unwrap();
    fs::write(folder.path().join("custom/a.override"), "errors").unwrap();
    fs::write(folder.path().join("bytes"), b"log # \xff").unwrap();
    let read = |text: &str| parse("Corefile", text, folder.path(), &environment);
    assert_eq!(shown(&read(". {\n import custom/*.override\n}").unwrap()), ".: errors, log");
    for (name, why) in [("custom", "it is a folder"), ("bytes", "not UTF-8"), ("/dev/zero", "no ordinary file")] {
        let problems = read(&format!("import {name}")).unwrap_err().to_string();
        assert!(problems.contains(why), "{problems}");
    }
}

/// The Corefiles of the shapes in the wild: name and text.
fn wild() -> Vec<(String, String)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corefiles");
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        // What has an ending is about them: a README, and what they become as YAML.
        if path.extension().is_none() {
            let text = fs::read_to_string(&path).unwrap().replace("@PORT@", "53");
            found.push((name, text));
        }
    }
    assert!(found.len() >= 18, "only {} files", found.len());
    found
}

#[test]
fn every_shape_in_the_wild_is_parsed() {
    let server = [("/etc/generated-config/custom-server-block.server", "custom.org:53 {\n errors\n}")];
    for (name, text) in wild().iter().filter(|(name, _)| name != "kubesphere-typo") {
        let corefile = with(&server, text).unwrap_or_else(|problems| panic!("{name}: {problems}"));
        assert!(!corefile.blocks.is_empty(), "{name}");
        for word in corefile.blocks.iter().flat_map(|block| &block.keys) {
            assert!(key(&word.text).is_ok_and(|key| key.port.is_some()), "{name}: {}", word.text);
        }
        // Gardener's folder of overrides may be empty.
        let odd = if name == "gardener" { 2 } else { 0 };
        assert_eq!(corefile.warnings.len(), odd, "{name}: {:?}", corefile.warnings);
    }
}

#[test]
fn a_typo_of_the_wild_is_named_in_each_of_its_places() {
    let (_, text) = wild().into_iter().find(|(name, _)| name == "kubesphere-typo").unwrap();
    let hint = "unknown directive \"prometheus:\"; did you mean \"prometheus\"?";
    assert_eq!(refused(&text), format!("Corefile:21:5: {hint}\nCorefile:36:5: {hint}"));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn any_text_gives_an_answer(text in any::<String>()) {
        if let Err(problems) = read_corefile(&text) {
            prop_assert!(!problems.is_empty());
        }
    }

    #[test]
    fn any_words_give_an_answer(words in proptest::collection::vec(word(), 0..60)) {
        let files = [("/etc/a", words.concat()), ("/etc/b", "import a".into()), ("/etc/ab", "{".into())];
        let files = Memory(files.into_iter().map(|(path, text)| (path.into(), text)).collect());
        let text = words.concat();
        match parse_with("Corefile", &text, Path::new("/etc"), &environment, &files) {
            Ok(corefile) => for block in &corefile.blocks {
                prop_assert!(!block.keys.is_empty());
                let bodies = block.directives.iter().filter_map(|directive| directive.body.as_ref());
                prop_assert!(bodies.flatten().all(|line| !line.0.is_empty()));
            },
            Err(problems) => {
                prop_assert!(!problems.is_empty());
                let lines = text.lines().count();
                let main = problems.0.iter().filter(|problem| problem.source == "Corefile");
                prop_assert!(main.filter_map(|problem| problem.at).all(|(line, _)| line <= lines));
            }
        }
    }
}

/// A piece of a Corefile, or of something like it.
fn word() -> impl Strategy<Value = &'static str> {
    proptest::sample::select(vec![
        "\n",
        "\n",
        "\n",
        " ",
        " ",
        " {\n",
        "\n}\n",
        "{",
        "}",
        "\"",
        "#",
        ",",
        "\\",
        "errors",
        "log",
        ".",
        "a.org",
        "(a)",
        "(b)",
        "import ",
        "import a\n",
        "import b\n",
        "import *\n",
        "import a?\n",
        "{$LOOP}",
        "{$ZONE}",
        "{%",
        "\r",
        "\u{feff}",
    ])
}
