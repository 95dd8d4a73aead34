//! Tables for the keys dns64, acl and loadBalance: what is refused, and what the rest means.

use crate::config::{AclAction, load_str};
use std::time::Duration;

/// What is wrong with these keys of a zone, without file and place.
pub(in crate::config::rules) fn complaints(keys: &str) -> Vec<String> {
    let text = format!("zones: [{{match: [.], forward: {{to: [192.0.2.1]}}, {keys}}}]");
    let problems = load_str("f", &text).err().unwrap_or_default().to_string();
    problems.lines().map(|line| line.split_once(": ").map_or(line, |(_, rest)| rest).to_owned()).collect()
}

fn zone(keys: &str) -> crate::config::Zone {
    let text = format!("zones: [{{match: [.], forward: {{to: [192.0.2.1]}}, {keys}}}]");
    load_str("f", &text).unwrap_or_else(|problems| panic!("{problems}")).config.zones[0].clone()
}

#[test]
fn mistakes_are_named_with_their_place_and_a_way_out() {
    for (keys, expected) in [
        (
            "dns64: {prefix: '2001:db8::/60'}",
            "zones[0].dns64.prefix: a prefix of 60 bits cannot hold an IPv4 address behind it; did you mean /56?",
        ),
        (
            "dns64: {prefix: '2001:db8::/128'}",
            "zones[0].dns64.prefix: a prefix of 128 bits cannot hold an IPv4 address behind it; did you mean /96?",
        ),
        (
            "dns64: {prefix: 10.0.0.0/8}",
            "zones[0].dns64.prefix: 10.0.0.0/8 is an IPv4 network; write an IPv6 one, such as 64:ff9b::/96",
        ),
        ("dns64: {translateall: true}", r#"zones[0].dns64.translateall: unknown key; did you mean "translateAll"?"#),
        ("acl: [{networks: [10.0.0.0/8]}]", r#"zones[0].acl[0]: "action" is missing"#),
        ("acl: [{action: blok}]", r#"zones[0].acl[0].action: "blok" is not valid; did you mean "block"?"#),
        (
            "acl: [{action: deny}]",
            r#"zones[0].acl[0].action: "deny" is not valid; choose from: allow, block, filter, drop"#,
        ),
        (
            "acl: [{action: block, types: [AAAB]}]",
            r#"zones[0].acl[0].types[0]: "AAAB" is not an RR type; did you mean "AAAA"?"#,
        ),
        (
            "acl: [{action: block, networks: []}]",
            "zones[0].acl[0].networks: an empty list: the rule would fit nothing; leave the key out for everything",
        ),
        (
            "acl: [{action: block, networks: [10.0.0.1/8]}]",
            r#"zones[0].acl[0].networks[0]: "10.0.0.1/8" has host bits set; did you mean "10.0.0.0/8"?"#,
        ),
        (
            "loadBalance: {policy: weigted}",
            r#"zones[0].loadBalance.policy: "weigted" is not valid; did you mean "weighted"?"#,
        ),
        (
            "loadBalance: {policy: weighted}",
            r#"zones[0].loadBalance: "file" is missing: policy weighted takes its weights from it"#,
        ),
        (
            "loadBalance: {policy: weighted, file: weights}",
            "zones[0].loadBalance.file: must be the absolute path of a file, such as /etc/nodens/weights",
        ),
        (
            "loadBalance: {file: /w}",
            "zones[0].loadBalance.file: has no effect: weights are used with policy weighted alone",
        ),
        ("loadBalance: {reload: 5s}", "zones[0].loadBalance.reload: has no effect without a file of weights"),
        (
            "loadBalance: {policy: weighted, file: /w, reload: 2d}",
            "zones[0].loadBalance.reload: 2d is out of range: must be between 0s and 1d",
        ),
    ] {
        let found = complaints(keys);
        assert!(found.len() == 1 && found[0].starts_with(expected), "{keys}\nexpected {expected}\nfound    {found:#?}");
    }
}

#[test]
fn what_is_not_written_has_its_default() {
    let bare = zone("dns64: {}, loadBalance: {}, acl: [{action: drop}]");
    let dns64 = bare.dns64.unwrap();
    assert_eq!((dns64.prefix, dns64.length), ("64:ff9b::".parse().unwrap(), 96));
    assert!(!dns64.translate_all && !dns64.allow_ipv4);
    let balance = bare.load_balance.unwrap();
    assert!(balance.weights.is_none() && balance.prefer.is_empty());
    let rule = &bare.acl[0];
    assert_eq!(rule.action, AclAction::Drop);
    assert!(rule.names.is_empty() && rule.types.is_empty() && rule.networks.is_empty());
    // Nothing behind a key is the same as no key.
    let none = zone("dns64: ~, loadBalance: ~, acl: ~, rewrite: ~");
    assert!(none.dns64.is_none() && none.load_balance.is_none() && none.acl.is_empty() && none.rewrite.is_empty());
}

#[test]
fn what_is_written_is_kept() {
    let zone = zone(
        "dns64: {prefix: '2001:db8::/32', translateAll: true, allowIpv4: true}, \
         loadBalance: {policy: weighted, file: /w, reload: 0s, prefer: [10.0.0.0/8]}, \
         acl: [{action: filter, names: [Example.], types: [aaaa, TYPE65], networks: [10.0.0.7]}]",
    );
    let dns64 = zone.dns64.unwrap();
    assert_eq!((dns64.prefix, dns64.length), ("2001:db8::".parse().unwrap(), 32));
    assert!(dns64.translate_all && dns64.allow_ipv4);
    let balance = zone.load_balance.unwrap();
    let weights = balance.weights.unwrap();
    assert_eq!((weights.file.to_str(), weights.reload), (Some("/w"), Duration::ZERO));
    assert_eq!(balance.prefer, ["10.0.0.0/8".parse().unwrap()]);
    let rule = &zone.acl[0];
    assert_eq!((rule.names.clone(), rule.types.clone()), (vec!["example".to_owned()], vec![28, 65]));
    assert_eq!(rule.networks, ["10.0.0.7/32".parse().unwrap()]);
}
