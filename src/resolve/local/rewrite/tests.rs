//! Tables of rules as they are written, what is asked then, and what the client gets.

use super::*;
use crate::config::load_str;
use crate::observe::queries::Proto;
use crate::wire::header::{self, Header};
use crate::wire::mnemonic;
use crate::wire::presentation::{name as wire, read};
use crate::wire::question::{CLASS_IN, TypeName};
use crate::wire::rr::{Rr, response};
use hickory_proto::op::Message;

/// The rules of a zone in which `yaml` stands behind `rewrite:`.
fn rules(yaml: &str) -> Rewrites {
    let text = format!("zones:\n- match: [.]\n  forward: {{to: [192.0.2.1]}}\n  rewrite: {yaml}\n");
    let loaded = load_str("f", &text).unwrap_or_else(|problems| panic!("{text}{problems}"));
    Rewrites::new(&loaded.config.zones[0].rewrite).unwrap()
}

/// `www.example A`, and perhaps a class.
fn question(text: &str) -> Question {
    let words: Vec<&str> = text.split(' ').collect();
    let class = words.get(2).map_or(CLASS_IN, |word| mnemonic::class_of(word).unwrap());
    Question::new(&wire(words[0]).unwrap(), mnemonic::type_of(words[1]).unwrap(), class).unwrap()
}

fn request_of(rules: &Rewrites, asked: &str) -> Result<Option<Rewritten>, InvalidName> {
    let asked = question(asked);
    let asked = Asked { question: &asked, client: "192.0.2.77:4660".parse().unwrap(), proto: Proto::Udp };
    rules.request(&asked, Some("[2001:db8::53]:53".parse().unwrap()))
}

/// What is looked up for `asked`.
fn looked_up(rules: &Rewrites, asked: &str) -> String {
    match request_of(rules, asked) {
        Ok(None) => "-".into(),
        Err(error) => error.to_string(),
        Ok(Some(Rewritten { question, .. })) => {
            let class = if question.qclass() == CLASS_IN { "".into() } else { format!(" {}", question.qclass()) };
            format!("{} {}{class}", DisplayName(question.name()), TypeName(question.qtype()))
        }
    }
}

fn reply(question: &Question, rcode: u16, records: &[&str]) -> Vec<u8> {
    let answer: Vec<Rr> = records.iter().map(|text| read(text).unwrap().unwrap()).collect();
    response(question, rcode, false, [&answer, &[], &[]]).unwrap()
}

/// What the client gets that asks `asked` when the upstream answers by `records`.
fn answered(rules: &Rewrites, asked: &str, records: &[&str]) -> Vec<String> {
    let rewritten = request_of(rules, asked).unwrap().expect("a rule applies");
    let restored = rewritten.undo.restore(reply(&rewritten.question, 0, records), 0, &question(asked), None).unwrap();
    let message = Message::from_vec(&restored.message).unwrap();
    let asked = question(asked);
    assert_eq!(restored.message[header::LEN..][..asked.as_bytes().len()], *asked.as_bytes(), "the client's question");
    message.answers.iter().map(ToString::to_string).collect()
}

#[test]
fn names_are_replaced_as_the_kind_says() {
    let table: &[(&str, &[(&str, &str)])] = &[
        (
            "[{name: {from: A.Example, to: B.example.}}]",
            &[("a.example A", "b.example. A"), ("x.a.example A", "-"), ("aa.example A", "-")],
        ),
        ("[{name: {kind: exact, from: a., to: .}}]", &[("a NS", ". NS"), ("b NS", "-")]),
        (
            "[{name: {kind: prefix, from: dev-, to: Prod-}}]",
            &[("dev-a.example A", "prod-a.example. A"), ("dev- A", "prod-. A"), ("a.dev-b A", "-")],
        ),
        (
            "[{name: {kind: suffix, from: .schmoogle.com., to: .google.com.}}]",
            &[("www.schmoogle.com A", "www.google.com. A"), ("schmoogle.com A", "-"), ("a.schmoogle.com.x A", "-")],
        ),
        ("[{name: {kind: suffix, from: oogle.com, to: ahoo.com}}]", &[("www.google.com A", "www.gahoo.com. A")]),
        (
            "[{name: {kind: substring, from: us-west-1, to: eu}}]",
            &[("us-west-1.a.us-west-1 A", "eu.a.eu. A"), ("us-west A", "-")],
        ),
        (
            r"[{name: {kind: regex, from: '(.*)-(us-west-1)\.example\.org', to: '{1}.service.{2}.Consul'}}]",
            &[("ftp-us-west-1.example.org A", "ftp.service.us-west-1.consul. A"), ("us-west-1.example.org A", "-")],
        ),
        // It need not match the whole name, and the name is all replaced.
        ("[{name: {kind: regex, from: '(b)(x)?', to: '{1}{1}{2}.example'}}]", &[("abc A", "bb.example. A")]),
        ("[{name: {kind: regex, from: '(.*)', to: '{1}x.'}}]", &[("a A", "a.x. A")]),
    ];
    for (yaml, cases) in table {
        let rules = rules(yaml);
        for (asked, expected) in *cases {
            assert_eq!(looked_up(&rules, asked), *expected, "{yaml}: {asked}");
        }
    }
}

#[test]
fn what_is_no_name_is_refused_and_named() {
    let long = "a".repeat(60);
    for (yaml, asked, why) in [
        ("[{name: {kind: regex, from: '(.*)', to: '{1}..x'}}]", "a A", "invalid name after rewrite: a...x."),
        ("[{name: {kind: prefix, from: a, to: .}}]", "a A", "invalid name after rewrite: .."),
        ("[{name: {kind: prefix, from: a, to: aaaaa}}]", &format!("{long} A"), "invalid name after rewrite: aaaa"),
        ("[{name: {from: a, to: b..c}}]", "a A", "invalid name after rewrite: b..c."),
    ] {
        let found = looked_up(&rules(yaml), asked);
        assert!(found.starts_with(why), "{yaml}: {found}");
    }
}

#[test]
fn types_and_classes_are_replaced() {
    let types = rules("[{type: {from: ANY, to: HINFO}}]");
    assert_eq!(looked_up(&types, "a ANY"), "a. TYPE13");
    assert_eq!(looked_up(&types, "a A"), "-");
    let classes = rules("[{class: {from: CH, to: IN}}]");
    assert_eq!(looked_up(&classes, "a TXT CH"), "a. TXT");
    assert_eq!(looked_up(&classes, "a TXT"), "-");
    assert_eq!(answered(&classes, "a TXT CH", &["a. 5 IN A 192.0.2.1"]), ["a. 5 IN A 192.0.2.1"]);
}

#[test]
fn the_first_rule_that_applies_ends_the_search_unless_it_goes_on() {
    let stops = "[{name: {from: a, to: b}}, {name: {from: b, to: c}}, {type: {from: A, to: AAAA}}]";
    let goes_on = "[{continue: true, name: {from: a, to: b}}, {continue: true, name: {from: b, to: c}}, {type: {from: A, to: AAAA}}]";
    for (yaml, asked, expected) in [
        (stops, "a A", "b. A"),
        (stops, "b A", "c. A"),
        (stops, "d A", "d. AAAA"),
        (stops, "d MX", "-"),
        (goes_on, "a A", "c. AAAA"),
        (goes_on, "a MX", "c. MX"),
        (goes_on, "c MX", "-"),
    ] {
        assert_eq!(looked_up(&rules(yaml), asked), expected, "{yaml}: {asked}");
    }
    // What several did is undone from the last to the first.
    assert_eq!(
        answered(&rules(goes_on), "a MX", &["c 5 MX 1 c", "b 5 MX 1 x.c"]),
        ["a. 5 IN MX 1 a.", "a. 5 IN MX 1 x.a."]
    );
}

#[test]
fn names_in_the_answer_are_changed_back_where_a_rule_says_so() {
    type Row = (&'static str, &'static str, &'static [(&'static str, &'static str)]);
    let table: &[Row] = &[
        // An exact rule always does: owners and what records lead to, and names below.
        (
            "[{name: {from: red.example, to: blue.test}}]",
            "red.example A",
            &[
                ("blue.test. 9 A 192.0.2.1", "red.example. 9 IN A 192.0.2.1"),
                ("Blue.Test. 9 A 192.0.2.1", "red.example. 9 IN A 192.0.2.1"),
                ("x.blue.test. 9 CNAME y.blue.test.", "x.red.example. 9 IN CNAME y.red.example."),
                ("xblue.test. 9 CNAME other.", "xblue.test. 9 IN CNAME other."),
                ("blue.test. 9 SRV 1 2 3 blue.test.", "red.example. 9 IN SRV 1 2 3 red.example."),
                ("blue.test. 9 MX 1 blue.test.", "red.example. 9 IN MX 1 red.example."),
                ("blue.test. 9 NS blue.test.", "red.example. 9 IN NS red.example."),
                ("blue.test. 9 PTR blue.test.", "red.example. 9 IN PTR red.example."),
                (
                    "blue.test. 9 SOA blue.test. blue.test. 1 2 3 4 5",
                    "red.example. 9 IN SOA red.example. blue.test. 1 2 3 4 5",
                ),
                ("blue.test. 9 TXT blue.test.", "red.example. 9 IN TXT blue.test."),
            ],
        ),
        // A suffix by itself does not, with auto it does for every name with that end.
        (
            "[{name: {kind: suffix, from: .schmoogle.com., to: .google.com.}}]",
            "www.schmoogle.com A",
            &[("www.google.com. 9 A 192.0.2.1", "www.google.com. 9 IN A 192.0.2.1")],
        ),
        (
            "[{name: {kind: suffix, from: .schmoogle.com., to: .google.com., auto: true}}]",
            "www.schmoogle.com A",
            &[
                ("www.google.com. 9 CNAME other.google.com.", "www.schmoogle.com. 9 IN CNAME other.schmoogle.com."),
                ("google.com. 9 A 192.0.2.1", "google.com. 9 IN A 192.0.2.1"),
            ],
        ),
        // Of other kinds auto is about the name that was asked for.
        (
            "[{name: {kind: prefix, from: a-, to: b-, auto: true}}]",
            "a-x.example A",
            &[
                ("b-x.example. 9 CNAME b-y.example.", "a-x.example. 9 IN CNAME b-y.example."),
                ("z.b-x.example. 9 A 192.0.2.1", "z.a-x.example. 9 IN A 192.0.2.1"),
            ],
        ),
        (
            "[{name: {kind: regex, from: '^(.)-x', to: '{1}.y', auto: true}}]",
            "a-x.example A",
            &[("a.y. 9 A 192.0.2.1", "a-x.example. 9 IN A 192.0.2.1")],
        ),
        (
            r"[{name: {kind: regex, from: '(.*)-(us-west-1)\.coredns\.rocks', to: '{1}.service.{2}.consul', answerNames: [{from: '(.*)\.service\.(us-west-1)\.consul', to: '{1}-{2}.coredns.rocks'}]}}]",
            "ftp-us-west-1.coredns.rocks A",
            &[
                ("ftp.service.us-west-1.consul. 0 A 10.10.10.10", "ftp-us-west-1.coredns.rocks. 0 IN A 10.10.10.10"),
                (
                    "a.service.us-west-1.consul. 0 CNAME b.service.us-west-1.consul.",
                    "a-us-west-1.coredns.rocks. 0 IN CNAME b.service.us-west-1.consul.",
                ),
            ],
        ),
        (
            "[{name: {kind: suffix, from: a, to: b, answerValues: [{from: '(.*)b', to: '{1}a'}]}}]",
            "x.a MX",
            &[("x.b. 9 MX 1 mx.b.", "x.b. 9 IN MX 1 mx.a.")],
        ),
        // What would be no name stays as it is.
        (
            "[{name: {kind: prefix, from: a, to: b, answerNames: [{from: '^b', to: x..y}]}}]",
            "a A",
            &[("b. 9 A 192.0.2.1", "b. 9 IN A 192.0.2.1")],
        ),
    ];
    for (yaml, asked, cases) in table {
        for (upstream, client) in *cases {
            assert_eq!(answered(&rules(yaml), asked, &[upstream]), [*client], "{yaml}: {upstream}");
        }
    }
}

#[test]
fn names_are_changed_back_in_every_section() {
    let rules = rules("[{name: {from: a.example, to: b.test}}]");
    let rewritten = request_of(&rules, "a.example A").unwrap().unwrap();
    let rr = |text: &str| vec![read(text).unwrap().unwrap()];
    let sections = [rr("b.test 1 A 192.0.2.1"), rr("b.test 1 NS ns.b.test"), rr("ns.b.test 1 A 192.0.2.2")];
    let message = response(&rewritten.question, 0, true, sections.each_ref().map(Vec::as_slice)).unwrap();
    let restored = rewritten.undo.restore(message, 0, &question("a.example A"), None).unwrap();
    let message = Message::from_vec(&restored.message).unwrap();
    assert!(message.metadata.authoritative);
    assert_eq!(message.answers[0].to_string(), "a.example. 1 IN A 192.0.2.1");
    assert_eq!(message.authorities[0].to_string(), "a.example. 1 IN NS ns.a.example.");
    assert_eq!(message.additionals[0].to_string(), "ns.a.example. 1 IN A 192.0.2.2");
}

#[test]
fn ttls_are_brought_between_bounds() {
    for (bounds, ttls) in [
        ("min: 30s, max: 30s", [30, 30, 30]),
        ("min: 30s, max: 60s", [30, 45, 60]),
        ("max: 60s", [5, 45, 60]),
        ("min: 1m", [60, 60, 300]),
        ("max: 0s", [0, 0, 0]),
    ] {
        let rules = rules(&format!("[{{ttl: {{kind: suffix, name: example, {bounds}}}}}]"));
        let records = ["a.example 5 A 192.0.2.1", "a.example 45 A 192.0.2.1", "a.example 300 A 192.0.2.1"];
        let expected = ttls.map(|ttl| format!("a.example. {ttl} IN A 192.0.2.1"));
        assert_eq!(answered(&rules, "a.example A", &records), expected, "{bounds}");
        assert_eq!(looked_up(&rules, "a.test A"), "-");
    }
}

#[test]
fn response_codes_are_replaced() {
    let rules = rules("[{rcode: {kind: substring, name: .old., from: NXDOMAIN, to: NOERROR}}]");
    let rewritten = request_of(&rules, "a.old.example A").unwrap().unwrap();
    for (before, after) in [(3, 0), (2, 2), (0, 0)] {
        let message = reply(&rewritten.question, before, &[]);
        let restored = rewritten.undo.restore(message, before, &question("a.old.example A"), None).unwrap();
        assert_eq!((restored.rcode, Header::read(&restored.message).unwrap().rcode()), (after, after));
        assert_eq!(rewritten.undo.rcode(before), after, "a failure without a message");
    }
    assert_eq!(looked_up(&rules, "old.example A"), "-");
}

#[test]
fn a_cname_is_led_elsewhere_and_what_is_there_follows_it() {
    let all = [
        ("exact", "from: cdn.example, to: cdn.example.internal", "cdn.example.internal."),
        ("prefix", "from: cdn, to: static", "static.example."),
        ("suffix", "from: example, to: test", "cdn.test."),
        ("substring", "from: dn.ex, to: dn-s", "cdn-sample."),
        ("regex", r"from: '^(\w+)\.example\.$', to: '{1}.regex'", "cdn.regex."),
    ];
    for (kind, words, target) in all {
        let rules = rules(&format!("[{{cname: {{kind: {kind}, {words}}}}}]"));
        let asked = question("www.example A");
        let rewritten = request_of(&rules, "www.example A").unwrap().unwrap();
        assert_eq!(rewritten.question, asked, "the question stays");
        let records = ["www.example 5 CNAME w.other", "w.other 5 CNAME cdn.example", "cdn.example 5 A 192.0.2.1"];
        let message = reply(&asked, 0, &records);
        let more = rewritten.undo.more(&message).unwrap();
        assert_eq!(more, question(&format!("{target} A")), "{kind}");
        let mut found = reply(&more, 0, &[&format!("{target} 7 CNAME x.test"), "x.test 7 A 192.0.2.9"]);
        found[2] |= (header::TC >> 8) as u8;
        let restored = rewritten.undo.restore(message.clone(), 0, &asked, Some(&found)).unwrap();
        let restored = Message::from_vec(&restored.message).unwrap();
        assert!(restored.metadata.truncation, "as what was looked up");
        assert_eq!(
            restored.answers.iter().map(ToString::to_string).collect::<Vec<_>>(),
            [
                "www.example. 5 IN CNAME w.other.".to_owned(),
                format!("w.other. 5 IN CNAME {target}"),
                format!("{target} 7 IN CNAME x.test."),
                "x.test. 7 IN A 192.0.2.9".into(),
            ]
        );
        let unchanged = rewritten.undo.restore(message.clone(), 0, &asked, None).unwrap();
        assert_eq!(Message::from_vec(&unchanged.message).unwrap(), Message::from_vec(&message).unwrap());
        assert_eq!(rewritten.undo.more(&reply(&asked, 0, &["www.example 5 A 192.0.2.1"])), None, "no CNAME");
        assert_eq!(rewritten.undo.more(&reply(&asked, 0, &["www.example 5 CNAME other.test"])), None, "{kind}");
    }
}

#[test]
fn edns_options_are_set_added_replaced_and_removed() {
    let local = |action: &str, data: &str| {
        format!("{{continue: true, edns0: {{action: {action}, option: local, code: '0xffee', data: '{data}'}}}}")
    };
    let unset = "{continue: true, edns0: {action: unset, option: local, code: 65518}}";
    let found = |list: &[&str]| {
        let rewritten = request_of(&rules(&format!("[{}]", list.join(", "))), "Www.example AAAA").unwrap();
        rewritten.map(|rewritten| rewritten.options)
    };
    let option = |data: &[u8]| (0xffee, data.to_vec());
    let (abcd, x) = (option(b"abcd"), option(b"x"));
    assert_eq!(found(&[&local("set", "abcd")]), Some(vec![abcd.clone()]));
    assert_eq!(found(&[&local("set", "0x61626364")]), Some(vec![abcd.clone()]));
    assert_eq!(found(&[&local("set", "x"), &local("set", "abcd")]), Some(vec![abcd.clone()]));
    assert_eq!(found(&[&local("append", "x"), &local("append", "abcd")]), Some(vec![x.clone(), abcd.clone()]));
    assert_eq!(found(&[&local("append", "x"), &local("append", "{qname}")]), Some(vec![x.clone()]));
    assert_eq!(found(&[&local("replace", "x")]), None, "there is nothing to replace");
    assert_eq!(found(&[&local("set", "x"), &local("replace", "abcd")]), Some(vec![abcd]));
    assert_eq!(found(&[&local("set", "x"), unset]), Some(vec![]));
    assert_eq!(found(&["{edns0: {action: set, option: nsid}}"]), Some(vec![(3, vec![])]));
    for (variable, data) in [
        ("{qname}", &b"www.example."[..]),
        ("{qtype}", &[0, 28]),
        ("{client_ip}", &[192, 0, 2, 77]),
        ("{client_port}", &[0x12, 0x34]),
        ("{protocol}", b"udp"),
        ("{server_ip}", &[0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x53]),
        ("{server_port}", &[0, 53]),
    ] {
        assert_eq!(found(&[&local("set", variable)]), Some(vec![option(data)]), "{variable}");
    }
    assert_eq!(found(&[&local("set", "{forward/upstream}")]), None, "nothing is known of it");
}

#[test]
fn the_clients_network_is_told_as_far_as_the_rule_says() {
    let told = |client: &str, v4: u8, v6: u8| {
        let rules = rules(&format!("[{{edns0: {{action: set, option: subnet, v4: {v4}, v6: {v6}}}}}]"));
        let question = question("a A");
        let asked = Asked { question: &question, client: client.parse().unwrap(), proto: Proto::Tcp };
        rules.request(&asked, None).unwrap().unwrap().options
    };
    for (client, v4, v6, data) in [
        ("192.0.255.77:1", 24, 56, &[0, 1, 24, 0, 192, 0, 255][..]),
        ("192.0.255.77:1", 20, 56, &[0, 1, 20, 0, 192, 0, 240]),
        ("192.0.255.77:1", 32, 56, &[0, 1, 32, 0, 192, 0, 255, 77]),
        ("192.0.255.77:1", 0, 56, &[0, 1, 0, 0]),
        ("[::ffff:192.0.255.77]:1", 8, 56, &[0, 1, 8, 0, 192]),
        ("[2001:db8:1:ffff::1]:1", 24, 56, &[0, 2, 56, 0, 0x20, 1, 0xd, 0xb8, 0, 1, 0xff]),
        ("[2001:db8:1:ffff::1]:1", 24, 1, &[0, 2, 1, 0, 0]),
    ] {
        assert_eq!(told(client, v4, v6), [(8, data.to_vec())], "{client} {v4} {v6}");
    }
}

#[test]
fn what_cannot_be_read_or_written_is_an_error() {
    let rules = rules("[{name: {from: a, to: b}}]");
    let rewritten = request_of(&rules, "a A").unwrap().unwrap();
    let restore = |message: Vec<u8>| rewritten.undo.restore(message, 0, &question("a A"), None);
    assert_eq!(restore(vec![]), Err(Unwritable));
    let whole = reply(&rewritten.question, 0, &["b 5 A 192.0.2.1"]);
    assert_eq!(restore(whole[..whole.len() - 1].to_vec()), Err(Unwritable));
    // Each of so many records leads to a name that gets longer, and of SRV no reader need follow pointers.
    let long = ["a".repeat(60), "b".repeat(60), "c".repeat(60)].join(".");
    let rules = self::rules(&format!("[{{name: {{from: {long}, to: b}}}}]"));
    let asked = question(&format!("{long} SRV"));
    let rewritten = request_of(&rules, &format!("{long} SRV")).unwrap().unwrap();
    let restored =
        |n: usize| rewritten.undo.restore(reply(&rewritten.question, 0, &vec!["b 5 SRV 1 2 3 b"; n]), 0, &asked, None);
    assert!(restored(300).is_ok());
    assert_eq!(restored(400), Err(Unwritable));
}
