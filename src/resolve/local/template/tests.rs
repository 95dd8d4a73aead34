//! What CoreDNS's template plugin says, its own examples among it.

use super::super::tests::{asked, question, shown};
use super::*;
use crate::config::{Records, Respond};
use crate::wire::question::Question;
use crate::wire::question::rtype::{A, AAAA, MX, PTR, TXT};

fn rule(types: &[u16], names: &[&str], patterns: &[&str]) -> Respond {
    let own = |texts: &[&str]| texts.iter().map(|t| t.to_string()).collect();
    Respond {
        class: 1,
        types: types.to_vec(),
        names: own(names),
        patterns: own(patterns),
        records: Records::default(),
        rcode: 0,
        error: None,
        fallthrough: Vec::new(),
    }
}

fn answering(rule: Respond, answer: &[&str]) -> Respond {
    Respond { records: Records { answer: answer.iter().map(|t| t.to_string()).collect(), ..rule.records }, ..rule }
}

fn templates(rules: &[Respond]) -> Templates {
    Templates::new(rules, Arc::default()).unwrap()
}

fn said(templates: &Templates, name: &str, rtype: u16) -> String {
    shown(templates.answer(&asked(&question(name, rtype))))
}

#[test]
fn everything_can_be_nxdomain() {
    let soa = "invalid. 60 {{ .Class }} SOA ns.invalid. hostmaster.invalid. (1 60 60 60 60)";
    let all = Respond {
        class: 255,
        rcode: 3,
        error: Some((21, "Blocked according to RFC2606".into())),
        records: Records { authority: vec![soa.into()], ..Records::default() },
        ..rule(&[], &["invalid"], &[])
    };
    let templates = templates(&[all]);
    let want =
        "ns: invalid. 60 IN SOA ns.invalid. hostmaster.invalid. 1 60 60 60 60, ede 21 Blocked according to RFC2606";
    assert_eq!(said(&templates, "a.invalid", A), format!("3 aa, {want}"));
    assert_eq!(said(&templates, "valid", A), "next");
    let chaos = Question::new(&to_wire("invalid"), TXT, 3).unwrap();
    assert_eq!(shown(templates.answer(&asked(&chaos))), format!("3 aa, {}", want.replace(" IN ", " CH ")));
}

#[test]
fn addresses_are_made_of_names_and_names_of_addresses() {
    let forth = r"(^|[.])ip-(?P<a>[0-9]*)-(?P<b>[0-9]*)-(?P<c>[0-9]*)-(?P<d>[0-9]*)[.]example[.]$";
    let back = r"^(?P<d>[0-9]*)[.](?P<c>[0-9]*)[.](?P<b>[0-9]*)[.](?P<a>[0-9]*)[.]in-addr[.]arpa[.]$";
    let hex = "^ip0a(?P<b>[a-f0-9]{2})(?P<c>[a-f0-9]{2})(?P<d>[a-f0-9]{2})[.]example[.]$";
    let hexed =
        "{{ .Name }} 60 IN A 10.{{ parseInt .Group.b 16 8 }}.{{ parseInt .Group.c 16 8 }}.{{ parseInt .Group.d 16 8 }}";
    let on = vec![".".to_owned()];
    let templates = templates(&[
        Respond {
            fallthrough: on.clone(),
            ..answering(
                rule(&[A], &["example"], &[forth]),
                &["{{ .Name }} 60 IN A {{ .Group.a }}.{{ .Group.b }}.{{ .Group.c }}.{{ .Group.d }}"],
            )
        },
        Respond { fallthrough: on, ..answering(rule(&[A], &["example"], &[hex]), &[hexed]) },
        answering(
            rule(&[PTR], &["in-addr.arpa"], &[back]),
            &["{{ .Name }} 60 IN PTR ip-{{ .Group.a }}-{{ .Group.b }}-{{ .Group.c }}-{{ .Group.d }}.example."],
        ),
    ]);
    for (name, rtype, want) in [
        ("x.ip-10-0-0-1.example", A, "0 aa, x.ip-10-0-0-1.example. 60 IN A 10.0.0.1"),
        ("IP-10-0-0-1.example", A, "0 aa, ip-10-0-0-1.example. 60 IN A 10.0.0.1"),
        ("ip0a7b7b7b.example", A, "0 aa, ip0a7b7b7b.example. 60 IN A 10.123.123.123"),
        // Another type, another zone, no expression but a fall through.
        ("ip-10-0-0-1.example", AAAA, "next"),
        ("ip-10-0-0-1.elsewhere", A, "next"),
        ("other.example", A, "next"),
        ("1.0.0.10.in-addr.arpa", PTR, "0 aa, 1.0.0.10.in-addr.arpa. 60 IN PTR ip-10-0-0-1.example."),
        // No expression, and no fall through.
        ("10.in-addr.arpa", PTR, "fail 2: the name fits no expression of its rule"),
        // A template that gives no record of this question.
        (
            "ip-10-0-0-256.example",
            A,
            "fail 2: what a template of the answer section gives is no record: \"10.0.0.256\" is not an IPv4 address",
        ),
    ] {
        assert_eq!(said(&templates, name, rtype), want, "{name}");
    }
}

#[test]
fn of_several_expressions_the_first_that_matches_counts() {
    let rule = rule(&[A], &["."], &["^(?P<a>[0-9]+)-.*$", "^x(.*)$"]);
    let templates =
        templates(&[answering(rule, &["{{ .Name }} TXT \"{{ .Group.a }}|{{ index .Match 1 }}|{{ .Group | len }}\""])]);
    assert_eq!(said(&templates, "5-y", A), "0 aa, 5-y. 3600 IN TXT 5|5|3");
    assert_eq!(said(&templates, "xy", A), "0 aa, xy. 3600 IN TXT <no value>|y.|2");
}

#[test]
fn records_stand_in_the_section_they_are_written_for() {
    let records = Records {
        answer: vec!["{{ .Name }} 60 IN MX 10 {{ .Name }}".into()],
        authority: vec!["example. 60 IN NS ns0.example.".into(), "{{/* nothing */}}".into()],
        additional: vec!["{{ .Name }} 60 IN A 10.0.0.1".into(), "ns0.example. 60 IN A 203.0.113.8".into()],
    };
    let templates = templates(&[Respond { records, ..rule(&[MX], &["example"], &[]) }]);
    let want = "0 aa, a.example. 60 IN MX 10 a.example., ns: example. 60 IN NS ns0.example., \
                ar: a.example. 60 IN A 10.0.0.1, ar: ns0.example. 60 IN A 203.0.113.8";
    assert_eq!(said(&templates, "a.example", MX), want);
}

#[test]
fn a_cname_leads_on_when_addresses_are_wanted() {
    let alias = answering(rule(&[], &["foogle.com"], &[r"^foogle\.com\.$"]), &["foogle.com 60 IN CNAME Google.com"]);
    let whole = answering(
        rule(&[], &["whole"], &[]),
        &["whole. CNAME t.whole.", "t.whole. A 10.0.0.1", "{{ .Name }} CNAME t.whole"],
    );
    let templates = templates(&[alias, whole]);
    let answer = "0 aa, foogle.com. 60 IN CNAME Google.com.";
    for (rtype, want) in [(A, ", chase google.com."), (AAAA, ", chase google.com."), (MX, ""), (255, "")] {
        assert_eq!(said(&templates, "foogle.com", rtype), format!("{answer}{want}"), "{rtype}");
    }
    assert!(!said(&templates, "whole", A).contains("chase"), "the addresses are there");
    assert!(said(&templates, "whole", AAAA).ends_with("chase t.whole."));
}

#[test]
fn rcodes_and_empty_answers() {
    let coded = |name, rcode| Respond { rcode, ..rule(&[AAAA], &[name], &[]) };
    let templates = templates(&[coded("a", 0), coded("b", 2), coded("c", 5), coded("d", 3)]);
    for (name, want) in [("x.a", "0 aa"), ("b", "fail 2: a rule says so"), ("c", "5 aa"), ("d", "3 aa"), ("e", "next")]
    {
        assert_eq!(said(&templates, name, AAAA), want, "{name}");
    }
}

#[test]
fn templates_know_the_question_and_who_asks() {
    let text = "{{ .Name }} TXT {{ .Zone }}|{{ .Class }}|{{ .Type }}|{{ .Remote }}|{{ .Question.Qtype }}";
    let templates = templates(&[
        answering(rule(&[AAAA], &["."], &[]), &[text]),
        answering(rule(&[TXT, A], &["b.a", "a", "."], &[]), &[text]),
    ]);
    let told = |name: &str, rtype| said(&templates, name, rtype).split("TXT ").nth(1).map(str::to_owned);
    assert_eq!(told("x.a", A).unwrap(), "a.|IN|A|192.0.2.1|1");
    assert_eq!(told("x.b.a", TXT).unwrap(), "b.a.|IN|TXT|192.0.2.1|16");
    // A rule for one type answers a question for all.
    assert_eq!(told("c", 255).unwrap(), ".|IN|AAAA|192.0.2.1|255");
    let six = question("c", A);
    let asked = Asked { client: "[::ffff:192.0.2.9]:1".parse().unwrap(), ..asked(&six) };
    assert!(shown(templates.answer(&asked)).contains("|192.0.2.9|"));
}

#[test]
fn names_that_are_odd_cannot_leave_their_place() {
    let templates = templates(&[answering(rule(&[], &["."], &[]), &["{{ .Name }} 60 IN TXT \"{{ .Name }}\""])]);
    let name = [&b"\x08a\n\" (;\x00\xff"[..], b"\0"].concat();
    let question = Question::new(&name, A, 1).unwrap();
    let Said::Answer { message, .. } = templates.answer(&asked(&question)) else { panic!("no answer") };
    let message = hickory_proto::op::Message::from_vec(&message).unwrap();
    assert_eq!(message.answers.len(), 1);
    assert_eq!(message.answers[0].name, message.queries[0].name);
}

#[test]
fn matches_and_failures_are_counted_by_their_labels() {
    let counts = Arc::new(Counts::default());
    let bad = answering(rule(&[A], &["bad"], &[]), &["{{ parseInt .Name 10 8 }}"]);
    let worse = answering(rule(&[A], &["worse"], &[]), &["{{ .Name }}"]);
    let none = Respond { rcode: 3, ..rule(&[], &["."], &[]) };
    let templates = Templates::new(&[bad, worse, none], Arc::clone(&counts)).unwrap();
    for (name, rtype) in [("bad", A), ("bad", A), ("worse", A), ("x", MX), ("x", 65280)] {
        said(&templates, name, rtype);
    }
    let key = |zone: &str, rtype: &str| Match { zone: zone.into(), class: "IN".into(), rtype: rtype.into() };
    let want = [(key(".", ""), 1), (key(".", "MX"), 1), (key("bad.", "A"), 2), (key("worse.", "A"), 1)];
    assert_eq!(counts.matches(), want);
    let failure = |zone: &str, template: &str, record| Failure {
        question: key(zone, "A"),
        section: "answer",
        template: template.into(),
        record,
    };
    let want = [(failure("bad.", "{{ parseInt .Name 10 8 }}", false), 2), (failure("worse.", "{{ .Name }}", true), 1)];
    assert_eq!(counts.failures(), want);
}

#[test]
fn what_the_check_would_have_refused_is_an_error() {
    let pattern = rule(&[], &["."], &["("]);
    assert!(Templates::new(&[pattern], Arc::default()).is_err());
    let template = answering(rule(&[], &["."], &[]), &["{{"]);
    let error = Templates::new(&[template], Arc::default()).err().unwrap();
    assert_eq!(error.to_string(), "cannot read the template {{: \"{{\" without \"}}\" (character 3)");
}
