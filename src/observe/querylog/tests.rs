//! Lines of the query log, compared with what CoreDNS writes.

use super::*;
use crate::wire::question::{CLASS_IN, to_wire};

/// A response with these flags, and an SOA record as its only authority if wanted.
fn response(flags: u16, soa: bool) -> Vec<u8> {
    let mut message = vec![0x12, 0x34];
    message.extend(flags.to_be_bytes());
    message.extend([0, 1, 0, 0, 0, u8::from(soa), 0, 0]);
    message.extend(to_wire("example.org"));
    message.extend([0, 1, 0, 1]);
    if soa {
        message.extend([0xc0, 12, 0, 6, 0, 1, 0, 0, 0, 30, 0, 22, 0, 0]);
        message.extend([0; 20]);
    }
    message
}

fn question(name: &str, qtype: u16) -> Question {
    Question::new(&to_wire(name), qtype, CLASS_IN).unwrap()
}

fn logged<'a>(question: &'a Question, response: &'a [u8]) -> Logged<'a> {
    Logged {
        client: "10.0.0.7:40212".parse().unwrap(),
        local: "169.254.20.10".parse().unwrap(),
        proto: Proto::Udp,
        question,
        id: 4660,
        dnssec_ok: false,
        udp_size: None,
        request_len: 29,
        response,
        rcode: rcode::NOERROR,
        took: Duration::from_micros(1500),
    }
}

fn line(format: &str, answer: &Logged<'_>) -> String {
    QueryLog::new(Vec::new(), Vec::new(), format).line(answer).unwrap()
}

#[test]
fn the_common_and_the_combined_format_are_those_of_coredns() {
    let (question, response) = (question("example.org", 1), response(0x8580, false));
    let answer = logged(&question, &response);
    let common = r#"10.0.0.7:40212 - 4660 "A IN example.org. udp 29 false 512" NOERROR qr,aa,rd,ra 29 0.0015s"#;
    assert_eq!(line("{common}", &answer), common);
    assert_eq!(line("{combined}", &answer), format!("{common} \"0\""));
    assert_eq!(line("<{common}> {name}", &answer), format!("<{common}> example.org."));
}

#[test]
fn every_placeholder_stands_for_its_value() {
    let (asked, response) = (question("example.org", 65280), response(0x83fa, false));
    let answer = Logged {
        client: "[fd00::7]:53".parse().unwrap(),
        local: "fd00::10".parse().unwrap(),
        proto: Proto::Tcp,
        dnssec_ok: true,
        udp_size: Some(1232),
        rcode: 3841,
        took: Duration::from_secs(2),
        ..logged(&asked, &response)
    };
    for (format, want) in [
        ("{type}", "TYPE65280"),
        ("{name}", "example.org."),
        ("{class}", "IN"),
        ("{proto}", "tcp"),
        ("{size}", "29"),
        ("{remote}", "[fd00::7]"),
        ("{port}", "53"),
        ("{local}", "[fd00::10]"),
        ("{rcode}", "3841"),
        ("{rsize}", "29"),
        ("{duration}", "2s"),
        ("{>rflags}", "qr,tc,rd,ra,z,ad,cd"),
        ("{>id}", "4660"),
        ("{>opcode}", "0"),
        ("{>do}", "true"),
        ("{>bufsize}", "65535"),
        ("{/forward/upstream}", "-"),
        ("{name}{name}", "example.org.example.org."),
        ("{unknown} {>x} } {", "{unknown} {>x} } {"),
        ("{{name}}", "{example.org.}"),
    ] {
        assert_eq!(line(format, &answer), want, "{format}");
    }
    let udp = |udp_size| line("{>bufsize}", &Logged { proto: Proto::Udp, udp_size, ..answer });
    assert_eq!((udp(Some(1232)), udp(Some(100)), udp(None)), ("1232".to_owned(), "512".to_owned(), "512".to_owned()));
    let short = Logged { response: &[], ..answer };
    assert_eq!(line("{>rflags} {rsize}", &short), "- 0");
    assert_eq!(line("{name}", &logged(&question(".", 2), &response)), ".");
}

#[test]
fn placeholders_that_are_none_are_told() {
    assert_eq!(Format::parse("{common} {nmae} {name} {/x}").1, ["{nmae}"]);
}

#[test]
fn only_the_classes_and_names_asked_for_are_logged() {
    let (inside, outside) = (question("a.example.org", 1), question("notexample.org", 1));
    let (plain, soa) = (response(0x8180, false), response(0x8180, true));
    let is = |classes: &[Class], answer: &Logged<'_>| {
        let names = vec![to_wire("example.org").into_boxed_slice()];
        QueryLog::new(names, classes.to_vec(), COMMON).line(answer).is_some()
    };
    let success = logged(&inside, &plain);
    let nodata = Logged { response: &soa, ..success };
    let nxdomain = Logged { rcode: rcode::NXDOMAIN, ..success };
    let servfail = Logged { rcode: rcode::SERVFAIL, ..success };
    for (answer, class) in
        [(success, Class::Success), (nodata, Class::Denial), (nxdomain, Class::Denial), (servfail, Class::Error)]
    {
        for wanted in [Class::Success, Class::Denial, Class::Error] {
            assert_eq!(is(&[wanted], &answer), wanted == class, "{answer:?} {wanted:?}");
        }
        assert!(is(&[], &answer) && is(&[Class::Success, Class::Denial, Class::Error], &answer));
        assert!(!is(&[], &Logged { question: &outside, ..answer }));
    }
}
