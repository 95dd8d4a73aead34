//! Rules as they are written: what is wrong with them, and what they mean.

use super::*;
use crate::config::load_str;
use crate::config::rules::tests::altering::complaints;

#[test]
fn mistakes_are_named_with_their_place_and_a_way_out() {
    let table: &[(&str, &str)] = &[
        (
            "[{}]",
            "zones[0].rewrite[0]: a rule has exactly one of name, type, class, edns0, ttl, cname and rcode; none is written",
        ),
        (
            "[{type: {from: A, to: AAAA}, class: {from: CH, to: IN}}]",
            "zones[0].rewrite[0]: a rule has exactly one of name, type, class, edns0, ttl, cname and rcode; more than one are written",
        ),
        ("[{nam: {from: a, to: b}}]", r#"zones[0].rewrite[0].nam: unknown key; did you mean "name"?"#),
        ("[{name: {from: a}}]", r#"zones[0].rewrite[0].name: "to" is missing"#),
        ("[{name: {to: a}}]", r#"zones[0].rewrite[0].name: "from" is missing"#),
        ("[{name: {from: '', to: b}}]", "zones[0].rewrite[0].name.from: is empty: it would match every name or none"),
        (
            "[{name: {kind: sufix, from: a, to: b}}]",
            r#"zones[0].rewrite[0].name.kind: "sufix" is not valid; did you mean "suffix"?"#,
        ),
        (
            "[{name: {kind: regex, from: '(', to: b}}]",
            r#"zones[0].rewrite[0].name.from: "(" is not a regular expression: "#,
        ),
        (
            "[{name: {kind: regex, from: '(a)', to: '{1}{2}'}}]",
            r#"zones[0].rewrite[0].name.to: 2 groups are used; "(a)" has 1"#,
        ),
        (
            "[{name: {kind: prefix, from: a, to: b, answerNames: [{from: '(', to: b}]}}]",
            r#"zones[0].rewrite[0].name.answerNames[0].from: "(" is not a regular expression: "#,
        ),
        (
            "[{name: {kind: prefix, from: a, to: b, answerValues: [{from: a, to: '{1}'}]}}]",
            r#"zones[0].rewrite[0].name.answerValues[0].to: 1 groups are used; "a" has 0"#,
        ),
        (
            "[{name: {kind: prefix, from: a, to: b, auto: true, answerNames: [{from: a, to: b}]}}]",
            "zones[0].rewrite[0].name.auto: cannot be combined with answerNames: either says what owners become",
        ),
        (
            "[{type: {from: AAAB, to: A}}]",
            r#"zones[0].rewrite[0].type.from: "AAAB" is not an RR type; did you mean "AAAA"?"#,
        ),
        ("[{class: {from: CD, to: IN}}]", r#"zones[0].rewrite[0].class.from: "CD" is not a class; did you mean "CH"?"#),
        (
            "[{rcode: {name: a, from: NXDOMIAN, to: NOERROR}}]",
            r#"zones[0].rewrite[0].rcode.from: "NXDOMIAN" is not an RCODE; did you mean "NXDOMAIN"?"#,
        ),
        ("[{ttl: {name: a}}]", "zones[0].rewrite[0].ttl: neither min nor max: it would change nothing"),
        ("[{ttl: {name: a, min: 2m, max: 1m}}]", "zones[0].rewrite[0].ttl: min 120s is above max 60s"),
        (
            "[{ttl: {name: a, max: 500ms}}]",
            "zones[0].rewrite[0].ttl.max: 500ms is no TTL: whole seconds, up to 2147483647s",
        ),
        (
            "[{ttl: {name: a, min: 30000d}}]",
            "zones[0].rewrite[0].ttl.min: 30000d is no TTL: whole seconds, up to 2147483647s",
        ),
        ("[{ttl: {name: a, max: 30}}]", r#"zones[0].rewrite[0].ttl.max: "30" has no unit; write 30s for seconds"#),
        ("[{edns0: {option: nsid}}]", r#"zones[0].rewrite[0].edns0: "action" is missing"#),
        (
            "[{edns0: {action: sett, option: nsid}}]",
            r#"zones[0].rewrite[0].edns0.action: "sett" is not valid; did you mean "set"?"#,
        ),
        (
            "[{edns0: {action: set, option: locl}}]",
            r#"zones[0].rewrite[0].edns0.option: "locl" is not valid; did you mean "local"?"#,
        ),
        ("[{edns0: {action: set, option: local, code: 1}}]", r#"zones[0].rewrite[0].edns0: "data" is missing"#),
        (
            "[{edns0: {action: set, option: nsid, data: x}}]",
            "zones[0].rewrite[0].edns0.data: does not belong to this option and action",
        ),
        (
            "[{edns0: {action: set, option: local, code: 0xfffff, data: x}}]",
            r#"zones[0].rewrite[0].edns0.code: "0xfffff" is not the code of an option, such as 0xffee or 65518"#,
        ),
        (
            "[{edns0: {action: set, option: local, code: 1, data: 0x123}}]",
            r#"zones[0].rewrite[0].edns0.data: "0x123" is not 0x and pairs of hexadecimal digits"#,
        ),
        (
            "[{edns0: {action: set, option: local, code: 1, data: '{client_pi}'}}]",
            r#"zones[0].rewrite[0].edns0.data: "{client_pi}" is not a variable; did you mean "client_ip"?"#,
        ),
        (
            "[{edns0: {action: set, option: subnet, v4: 33, v6: 56}}]",
            "zones[0].rewrite[0].edns0.v4: 33 is out of range: must be between 0 and 32",
        ),
    ];
    let mut wrong = Vec::new();
    for (rewrite, expected) in table {
        let found = complaints(&format!("rewrite: {rewrite}"));
        if found.len() != 1 || !found[0].starts_with(expected) {
            wrong.push(format!("--- {rewrite}\nexpected {expected}\nfound    {found:#?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn what_is_odd_is_warned_of() {
    for (rewrite, expected) in [
        ("[{name: {from: a, to: b..c}}]", "\"b..c\" is not a legal name: the answer will be SERVFAIL"),
        (
            "[{edns0: {action: set, option: local, code: 1, data: '{forward/upstream}'}}]",
            "nothing here knows of {forward/upstream}: the rule never applies",
        ),
    ] {
        let text = format!("zones: [{{match: [.], forward: {{to: [192.0.2.1]}}, rewrite: {rewrite}}}]");
        let warnings = load_str("f", &text).unwrap().warnings.to_string();
        assert!(warnings.ends_with(expected), "{rewrite}: {warnings}");
    }
}

#[test]
fn rules_mean_what_they_say() {
    let text = "zones: [{match: [.], forward: {to: [192.0.2.1]}, rewrite: [{continue: true, name: {kind: prefix, from: Dev-, to: Prod-}}, {name: {from: A, to: B.}}, {ttl: {kind: regex, name: 'A$', max: 1m}}]}]";
    let none = Vec::new;
    let rewrite = load_str("f", text).unwrap().config.zones[0].rewrite.clone();
    assert_eq!(
        rewrite,
        [
            Rewrite {
                go_on: true,
                change: Change::Name {
                    kind: Kind::Prefix,
                    from: "dev-".into(),
                    to: "prod-".into(),
                    auto: false,
                    owners: none(),
                    targets: none()
                }
            },
            Rewrite {
                go_on: false,
                change: Change::Name {
                    kind: Kind::Exact,
                    from: "a.".into(),
                    to: "b.".into(),
                    auto: true,
                    owners: none(),
                    targets: none()
                }
            },
            Rewrite { go_on: false, change: Change::Ttl { kind: Kind::Regex, name: "A$".into(), min: 0, max: 60 } },
        ]
    );
}
