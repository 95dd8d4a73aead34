//! Tables of records in text: what they mean, with hickory-proto reading the octets, and what is refused.

use super::*;
use crate::wire::question::{Question, to_wire};
use crate::wire::rr::response;
use hickory_proto::op::Message;
use proptest::prelude::*;

fn one(text: &str) -> Rr {
    read(text).unwrap_or_else(|e| panic!("{text}: {e}")).unwrap_or_else(|| panic!("{text}: nothing"))
}

/// The record as hickory-proto reads it from a message and writes it.
fn shown(text: &str) -> String {
    let question = Question::new(&to_wire("q"), 255, 1).unwrap();
    let message = response(&question, 0, true, [&[one(text)], &[], &[]]).unwrap();
    Message::from_vec(&message).unwrap_or_else(|e| panic!("{text}: {e}")).answers[0].to_string()
}

#[test]
fn records_of_the_usual_types_are_read() {
    for (text, want) in [
        ("a.example. 60 IN A 10.0.0.1", "a.example. 60 IN A 10.0.0.1"),
        ("a.example IN 1h30m A 10.0.0.1", "a.example. 5400 IN A 10.0.0.1"),
        ("a.example A 10.0.0.1 ; why", "a.example. 3600 IN A 10.0.0.1"),
        ("  a 0 aaaa 2001:db8::1\n", "a. 0 IN AAAA 2001:db8::1"),
        ("a 5 CH TXT x", "a. 5 CH TXT x"),
        ("*.a 5 IN CNAME B.example", "*.a. 5 IN CNAME B.example."),
        ("a 5 NS .", "a. 5 IN NS ."),
        ("1.0.0.10.in-addr.arpa. 60 IN PTR _x.a.", "1.0.0.10.in-addr.arpa. 60 IN PTR _x.a."),
        ("a 5 MX 10 mx.a.", "a. 5 IN MX 10 mx.a."),
        ("_dns._udp.a 5 SRV 1 2 53 t.a", "_dns._udp.a. 5 IN SRV 1 2 53 t.a."),
        ("a 5 SOA ns.a h.a (1 60 120 86400 1h)", "a. 5 IN SOA ns.a. h.a. 1 60 120 86400 3600"),
        ("a 5 SOA ns.a h.a (1 ; serial\n 60\n 120 86400\n3600\n)", "a. 5 IN SOA ns.a. h.a. 1 60 120 86400 3600"),
        ("a 5 CAA 0 issue \"ca.example\"", "a. 5 IN CAA 0 issue \"ca.example\""),
        ("a 5 TYPE1 \\# 4 0a00 0001", "a. 5 IN A 10.0.0.1"),
    ] {
        assert_eq!(shown(text), want, "{text}");
    }
}

#[test]
fn character_strings_keep_what_is_quoted_or_escaped() {
    for (text, want) in [
        (r#"a TXT "v=1; k=\"x\" \\ (y)" z"#, &[&b"v=1; k=\"x\" \\ (y)"[..], b"z"][..]),
        (r#"a TXT "\065\255""#, &[b"A\xff"]),
        (r#"a TXT """#, &[b""]),
        (r#"a TXT "one""two""#, &[b"one", b"two"]),
        ("a TXT \"é\"", &["é".as_bytes()]),
    ] {
        let want: Vec<u8> = want.iter().flat_map(|s| [&[s.len() as u8], *s].concat()).collect();
        assert_eq!(one(text).rdata, want, "{text}");
    }
    let long = one(&format!("a TXT {}", "x".repeat(300)));
    assert_eq!((long.rdata.len(), long.rdata[0], long.rdata[256]), (302, 255, 45));
}

#[test]
fn names_are_read_with_their_escapes() {
    assert_eq!(name(r"a\.b.c").unwrap(), b"\x03a.b\x01c\0");
    assert_eq!(name(r"\097\\.").unwrap(), b"\x02a\\\0");
    let longest = [&*"a".repeat(63), &*"b".repeat(63), &*"c".repeat(63), &*"d".repeat(61)].join(".");
    assert_eq!(name(&longest).unwrap().len(), 255);
    for text in ["", "..", "a..b", ".a", r"a\", r"\256", r"\1", &format!("{longest}d"), &"a".repeat(64)] {
        assert!(name(text).is_err(), "{text}");
    }
}

#[test]
fn names_are_written_absolute() {
    for (wire, text) in [(to_wire("."), "."), (to_wire("a.Example"), "a.Example."), (b"\x03a b\0".to_vec(), r"a\032b.")]
    {
        assert_eq!(written(&wire), text);
    }
}

#[test]
fn text_without_a_record_is_none() {
    for text in ["", "  \n", "; only this", "()"] {
        assert_eq!(read(text), Ok(None), "{text}");
    }
}

#[test]
fn what_is_no_record_is_named() {
    for (text, why) in [
        ("a", "the type is missing"),
        ("a 60 IN", "the type is missing"),
        ("a..b A 10.0.0.1", "\"a..b\" is not a domain name"),
        ("a 60 60 A 10.0.0.1", "\"60\" is not a TTL, a class or an RR type"),
        ("a IN B 10.0.0.1", "\"B\" is not a TTL, a class or an RR type"),
        ("$INCLUDE /etc/passwd", "\"/etc/passwd\" is not a TTL, a class or an RR type"),
        ("a A", "an IPv4 address is missing"),
        ("a A 10.0.0.256", "\"10.0.0.256\" is not an IPv4 address"),
        ("a AAAA 10.0.0.1", "\"10.0.0.1\" is not an IPv6 address"),
        ("a A 10.0.0.1 10.0.0.2", "\"10.0.0.2\" is too much"),
        ("a A <no value>", "\"<no\" is not an IPv4 address"),
        ("a MX 65536 b", "\"65536\" is not a preference"),
        ("a SRV 1 +2 3 b", "\"+2\" is not a weight"),
        ("a SOA b c 1 2 3 4", "a number of seconds is missing"),
        ("a SOA b c (1 2 3 4 5", "a \"(\" is not closed"),
        ("a TXT )", "a \")\" without \"(\""),
        ("a TXT \"x", "a quote is not closed"),
        (r#"a TXT "\1""#, r#""\1" is not text"#),
        ("a A 10.0.0.1\nb A 10.0.0.2", "more than one line outside parentheses"),
        ("a HTTPS 1 .", "data of type HTTPS can only be written as \\# LENGTH HEX"),
        ("a TYPE9999 x", "data of type TYPE9999 can only be written as \\# LENGTH HEX"),
        ("a TYPE9999 \\# 2 00", "\"00\" is not as many octets in hex"),
        ("a TYPE9999 \\# 1 0g", "\"0g\" is not as many octets in hex"),
    ] {
        assert_eq!(read(text).unwrap_err().to_string(), why, "{text}");
    }
    assert_eq!(read(&format!("a TXT {}", "x ".repeat(40_000))), Err(Unreadable::TooLong));
}

proptest! {
    #[test]
    fn names_are_read_back_from_what_is_written(label: [u8; 5], second in "[a-z.;()@ \"]{1,63}") {
        let wire = [&[5], &label[..], &[second.len() as u8], second.as_bytes(), &[0]].concat();
        let text = written(&wire);
        prop_assert_eq!(name(&text), Ok(wire.clone()), "{}", text);
        let record = one(&format!("{text} 60 IN CNAME {text} ; why"));
        prop_assert_eq!((record.owner, record.rdata), (wire.clone(), wire));
    }

    #[test]
    fn no_text_breaks_it(text in "\\PC{0,80}", tail in "[ -~\n]{0,60}") {
        let _ = read(&text);
        let _ = read(&format!("a 1 IN TXT {tail}"));
        let _ = read(&format!("a {tail}"));
    }

    #[test]
    fn what_is_read_can_be_put_on_the_wire(owner in "[a-z]{1,9}(\\.[a-z]{1,9}){0,3}", ttl: u32, octets: [u8; 4]) {
        let address = Ipv4Addr::from(octets);
        prop_assert_eq!(shown(&format!("{owner} {ttl} IN A {address}")), format!("{owner}. {ttl} IN A {address}"));
    }
}
