//! Tables of hosts and answers as they are written: what they mean, and what is said of mistakes.

pub(super) mod altering;

use std::net::IpAddr;
use std::time::Duration;

use crate::config::load_str;
use crate::config::{Hosts, Respond, Zone};

/// A zone with more keys: each a line, or several.
fn text(keys: &str) -> String {
    let keys = keys.replace('\n', "\n  ");
    format!("zones:\n- match: [., a.example]\n  forward: {{to: [10.0.0.1]}}\n  {keys}")
}

fn zone(keys: &str) -> Zone {
    let text = text(keys);
    load_str("f", &text).unwrap_or_else(|problems| panic!("{text}: {problems}")).config.zones.remove(0)
}

fn hosts(value: &str) -> Hosts {
    zone(&format!("hosts: {value}")).hosts.unwrap()
}

fn respond(value: &str) -> Vec<Respond> {
    zone(&format!("respond: {value}")).respond
}

fn complaint(keys: &str) -> String {
    let text = text(keys);
    load_str("f", &text).err().unwrap_or_else(|| panic!("{text}: accepted")).to_string()
}

#[test]
fn a_zone_without_rules_has_none() {
    let zone = zone("cache: {}");
    assert_eq!((zone.hosts, zone.respond), (None, Vec::new()));
    assert!(!zone.whoami && !zone.refuse_any && !zone.minimal_responses);
}

#[test]
fn simple_rules_are_switched_on() {
    let zone = zone("whoami: true\nrefuseAny: true\nminimalResponses: true");
    assert!(zone.whoami && zone.refuse_any && zone.minimal_responses);
}

#[test]
fn hosts_are_read_with_their_defaults() {
    let read = hosts(r#"{entries: {"10.0.0.7": [DB.internal., "*.apps"], "2001:db8::1": [a]}}"#);
    let ip = |text: &str| text.parse::<IpAddr>().unwrap();
    let own = |names: &[&str]| names.iter().map(|name| name.to_string()).collect::<Vec<_>>();
    assert_eq!(
        read,
        Hosts {
            files: Vec::new(),
            entries: vec![(ip("10.0.0.7"), own(&["db.internal", "*.apps"])), (ip("2001:db8::1"), own(&["a"]))],
            ttl: Duration::from_secs(3600),
            reverse: true,
            reload: Duration::from_secs(5),
            names: own(&[".", "a.example"]),
            fallthrough: own(&["."]),
        }
    );
    let read =
        hosts("{files: [/etc/hosts, /h], ttl: 90s, reverse: false, reload: 0s, names: [internal], fallthrough: []}");
    assert_eq!(read.files.iter().map(|f| f.to_str().unwrap()).collect::<Vec<_>>(), ["/etc/hosts", "/h"]);
    assert_eq!((read.ttl.as_secs(), read.reload, read.reverse), (90, Duration::ZERO, false));
    assert_eq!((read.names, read.fallthrough), (own(&["internal"]), Vec::new()));
}

#[test]
fn answers_are_read_with_their_defaults() {
    let read = respond(r#"[{rcode: nxdomain}, {types: [A, ANY], class: ANY, fallthrough: []}]"#);
    let plain = Respond {
        class: 1,
        types: Vec::new(),
        names: vec![".".into(), "a.example".into()],
        patterns: Vec::new(),
        records: Default::default(),
        rcode: 3,
        error: None,
        fallthrough: vec![".".into()],
    };
    assert_eq!(read[0], plain);
    assert_eq!(read[1], Respond { class: 255, rcode: 0, fallthrough: Vec::new(), ..plain });
    let read = respond(
        "\n- types: [AAAA, TYPE65]\n  names: [example]\n  match: ['^(?P<a>x)[.]']\n  answer: ['{{ .Group.a }} 1 A 10.0.0.1']\n  \
         authority: ['. NS a']\n  additional: ['a A 10.0.0.1']\n  ede: {code: 15, text: no}",
    );
    assert_eq!(read[0].types, [28, 65]);
    assert_eq!(
        (read[0].names.as_slice(), read[0].patterns.as_slice()),
        (&["example".into()][..], &["^(?P<a>x)[.]".into()][..])
    );
    assert_eq!(read[0].records.answer, ["{{ .Group.a }} 1 A 10.0.0.1"]);
    assert_eq!((read[0].records.authority.len(), read[0].records.additional.len()), (1, 1));
    assert_eq!(read[0].error, Some((15, "no".into())));
}

#[test]
fn mistakes_are_named_with_their_place_and_a_way_out() {
    let table: &[(&str, &str)] = &[
        // Hosts.
        ("hosts: {}", "f:4:3: zones[0].hosts: neither files nor entries: no name would have an address"),
        ("hosts: yes", "f:4:10: zones[0].hosts: expected keys and values"),
        ("hosts: {entires: {}}", "zones[0].hosts.entires: unknown key; did you mean \"entries\"?"),
        ("hosts: {entries: [a]}", "f:4:11: zones[0].hosts.entries: expected keys and values"),
        (
            "hosts: {entries: {10.0.0.256: [a]}}",
            "f:4:21: zones[0].hosts.entries.10.0.0.256: \"10.0.0.256\" is not an IP address",
        ),
        ("hosts: {entries: {\"10.0.0.1\": a}}", "zones[0].hosts.entries.10.0.0.1: expected a list: write [\"a\"]"),
        (
            "hosts: {entries: {\"10.0.0.1\": [a..b]}}",
            "f:4:34: zones[0].hosts.entries.10.0.0.1[0]: \"a..b\" is not a domain name: it has an empty label",
        ),
        (
            "hosts: {entries: {\"10.0.0.1\": [a.*.b]}}",
            "\"a.*.b\" is not a domain name: a zone covers all names below it already; leave the \"*.\" out",
        ),
        ("hosts: {entries: {\"10.0.0.1\": [.]}}", "\".\" is no name that could have addresses"),
        ("hosts: {entries: {\"::1\": [a], \"::1\": [b]}}", "written twice; the first is on line 4"),
        (
            "hosts: {files: [hosts]}",
            "f:4:19: zones[0].hosts.files[0]: must be the absolute path of a file, such as /etc/hosts",
        ),
        ("hosts: {files: [/h], ttl: 0s}", "zones[0].hosts.ttl: 0s is out of range: must be between 1s and 65535s"),
        ("hosts: {files: [/h], ttl: 1d}", "zones[0].hosts.ttl: 1d is out of range: must be between 1s and 65535s"),
        ("hosts: {files: [/h], names: []}", "zones[0].hosts.names: an empty list: nothing would be answered"),
        // Answers.
        ("respond: {rcode: NXDOMAIN}", "f:4:3: zones[0].respond: expected a list"),
        ("respond: [{tpyes: [A]}]", "zones[0].respond[0].tpyes: unknown key; did you mean \"types\"?"),
        (
            "respond: [{types: [AAA]}]",
            "f:4:22: zones[0].respond[0].types[0]: \"AAA\" is not an RR type; did you mean \"AAAA\"?",
        ),
        ("respond: [{types: [QQ99]}]", "\"QQ99\" is not an RR type; write a name such as AAAA, or TYPE65"),
        ("respond: [{types: []}]", "zones[0].respond[0].types: an empty list: the rule would answer nothing"),
        ("respond: [{class: INN}]", "\"INN\" is not a class; did you mean \"IN\"?"),
        ("respond: [{rcode: NXDOMIAN}]", "\"NXDOMIAN\" is not an RCODE; did you mean \"NXDOMAIN\"?"),
        ("respond: [{rcode: BADVERS}]", "\"BADVERS\" cannot be used: it takes an OPT record"),
        ("respond: [{ede: {text: a}}]", "zones[0].respond[0].ede: \"code\" is missing"),
        ("respond: [{ede: {code: 65536}}]", "65536 is out of range: must be between 0 and 65535"),
        ("respond: [{match: ['(']}]", "f:4:22: zones[0].respond[0].match[0]: \"(\" is not a regular expression: "),
        (r"respond: [{match: ['^\pL+']}]", r"\p is not supported in "),
        (r"respond: [{match: ['\Qa\E']}]", r"\Q is not supported in "),
        (
            "respond: [{answer: ['{{ .Nmae }}']}]",
            "f:4:23: zones[0].respond[0].answer[0]: not a template: there is no \".Nmae\"; did you mean \"Name\"? (character 4)",
        ),
        (
            "respond: [{match: ['(?P<ip>x)'], answer: ['{{ .Group.pi }}']}]",
            "answer[0]: not a template: there is no \".Group.pi\"; did you mean \"ip\"? (character 10)",
        ),
        (
            "respond: [{authority: [a A 10.0.0.1, a B 10.0.0.1]}]",
            "authority[1]: not a record: \"B\" is not a TTL, a class or an RR type",
        ),
        ("respond: [{additional: ['']}]", "additional[0]: not a record: it is empty"),
        ("whoami: maybe", "f:4:11: zones[0].whoami: \"maybe\" is neither true nor false"),
    ];
    for (keys, want) in table {
        let said = complaint(keys);
        assert!(said.contains(want) && said.lines().count() == 1, "{keys}:\n{said}\nwants {want}");
    }
}

#[test]
fn backslashes_that_stand_for_themselves_escape_nothing() {
    // An escaped backslash, and then a letter.
    assert_eq!(respond(r"[{match: ['\\p\.\d']}]")[0].patterns, [r"\\p\.\d"]);
}
