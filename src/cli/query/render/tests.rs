//! What is printed for fixed messages.

use super::*;
use crate::cli::query::exchange::Transport;
use crate::cli::query::tests::answer;
use hickory_proto::rr::rdata::{NULL, SOA, TXT};
use hickory_proto::rr::{Name, RData};

const EXPLAINED: &str = "source=hit zone=cluster.local. age=12 ttl=18 upstream=10.96.0.11:53 proto=tcp";

fn record(name: &str, data: RData) -> Record {
    Record::from_rdata(Name::from_ascii(name).unwrap(), 5, data)
}

#[test]
fn a_hit_is_printed_with_everything_known_about_it() {
    let hit = answer("web.shop.svc.cluster.local.", ResponseCode::NoError, 1, Some(EXPLAINED));
    let expected = "\
web.shop.svc.cluster.local. A: NOERROR, flags qr rd ra

web.shop.svc.cluster.local.\t18\tIN\tA\t10.96.14.1

source    hit (from the cache)
zone      cluster.local.
age       12 s
ttl       18 s left
upstream  10.96.0.11:53 (tcp)
time      0.21 ms
server    192.0.2.53:53 (udp), 64 octets
";
    assert_eq!(text(&[hit], 0, Style::PLAIN), expected);
}

#[test]
fn a_server_that_explains_nothing_is_said_to_do_so() {
    let mut plain = answer("nowhere.example.", ResponseCode::NXDomain, 0, None);
    let soa = SOA::new(Name::from_ascii("ns.").unwrap(), Name::from_ascii("h.").unwrap(), 1, 2, 3, 4, 5);
    plain.exchanged.reply.authorities.push(record("example.", RData::SOA(soa)));
    plain.exchanged.truncated = true;
    plain.exchanged.transport = Transport::Tcp;
    let expected = "\
nowhere.example. A: NXDOMAIN, flags qr rd ra

; authority
example.\t5\tIN\tSOA\tns. h. 1 2 3 4 5

source    no explanation from this server: not nodens, or too old
time      0.21 ms
server    192.0.2.53:53 (tcp, truncated over udp and asked again), 64 octets
";
    assert_eq!(text(&[plain], 0, Style::PLAIN), expected);
}

#[test]
fn a_name_without_such_a_record_is_told_from_one_that_does_not_exist() {
    let nodata = answer("db.example.", ResponseCode::NoError, 0, Some("source=negative_hit"));
    let text = text(&[nodata], 0, Style::PLAIN);
    assert!(text.contains("\n; the name exists, but has no record of this type\n"), "{text}");
}

#[test]
fn a_search_lists_what_was_tried_before_the_answer() {
    let tried = [
        answer("web.a.", ResponseCode::NXDomain, 0, Some("source=negative_hit")),
        answer("web.b.", ResponseCode::NoError, 1, None),
    ];
    let text = text(&tried, 1, Style::PLAIN);
    let expected = "tried web.a. A  NXDOMAIN  negative_hit  0.21 ms\n\
                    tried web.b. A  NOERROR  -  0.21 ms\n\n\
                    web.b. A: NOERROR";
    assert!(text.starts_with(expected), "{text}");
}

#[test]
fn parts_of_an_explanation_unknown_today_are_shown_as_they_are() {
    let stale = answer("x.", ResponseCode::NoError, 1, Some("source=stale recheck=30 proto=udp"));
    let text = text(&[stale], 0, Style::PLAIN);
    assert!(text.contains("\nsource    stale\nprotocol  udp\nrecheck   30\n"), "{text}");
}

#[test]
fn nothing_a_server_sends_reaches_the_terminal_raw() {
    let mut hostile = answer("x.", ResponseCode::NoError, 0, None);
    let answers = &mut hostile.exchanged.reply.answers;
    answers.push(record("x.", RData::TXT(TXT::from_bytes(vec![b"\x1b[31m \"q\" \\ \xff", b"two"]))));
    let code = RecordType::Unknown(65280);
    answers.push(record("y.", RData::Unknown { code, rdata: NULL::with(vec![1, 0x1b, 255]) }));
    answers[0].name = Name::from_labels([&b"a\x1bb"[..], b"c.d"]).unwrap();
    let text = text(&[hostile], 0, Style::PLAIN);
    assert!(text.contains("\na\\027b.c\\.d.\t5"), "{text}");
    assert!(!text.contains('\x1b'), "{text:?}");
    assert!(text.contains(r#""\027[31m \"q\" \\ \255" "two""#), "{text}");
    assert!(text.contains("\tTYPE65280\t\\# 3 011bff\n"), "{text}");
}

#[test]
fn the_rcode_is_coloured_by_what_it_means() {
    for (rcode, colour) in
        [(ResponseCode::NoError, "32"), (ResponseCode::NXDomain, "33"), (ResponseCode::ServFail, "31")]
    {
        let text = text(&[answer("x.", rcode, 0, None)], 0, Style::COLOURED);
        assert!(text.contains(&format!("\x1b[{colour}m{}\x1b[0m", rcode_name(rcode))), "{text:?}");
    }
}

#[test]
fn json_holds_the_same() {
    let tried = [
        answer("web.a.", ResponseCode::NXDomain, 0, None),
        answer("web.b.", ResponseCode::NoError, 1, Some(&format!("{EXPLAINED} recheck=30"))),
    ];
    let expected = json!({
        "name": "web.b.",
        "type": "A",
        "rcode": "NOERROR",
        "flags": ["qr", "rd", "ra"],
        "answers": [{ "name": "web.b.", "ttl": 18, "class": "IN", "type": "A", "data": "10.96.14.1" }],
        "authorities": [],
        "additionals": [],
        "explanation": {
            "source": "hit",
            "zone": "cluster.local.",
            "ageSeconds": 12,
            "ttlSeconds": 18,
            "upstream": "10.96.0.11:53",
            "protocol": "tcp",
            "other": { "recheck": "30" },
        },
        "server": "192.0.2.53:53",
        "transport": "udp",
        "truncatedOverUdp": false,
        "octets": 64,
        "microseconds": 210,
        "tried": [
            { "name": "web.a.", "rcode": "NXDOMAIN", "source": null, "microseconds": 210 },
            { "name": "web.b.", "rcode": "NOERROR", "source": "hit", "microseconds": 210 },
        ],
    });
    assert_eq!(json(&tried, 1), expected);
    assert_eq!(json(&tried[..1], 0)["explanation"], Value::Null);
}
