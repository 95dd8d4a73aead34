//! The binary as a user runs it: exit codes, what goes where, `query` against a scripted server.

mod support;

use hickory_proto::op::{Edns, Message, ResponseCode};
use hickory_proto::rr::rdata::opt::{EdnsCode, EdnsOption};
use serde_json::Value;
use std::process::{Command, Stdio};
use support::process::{NODENS, nodens, stderr, stdout};
use support::upstream::{Reply, Upstream};
use support::{addresses, nxdomain, reply};

/// The code of the option in which a server explains an answer.
const EXPLAIN: u16 = 65053;

fn explained(mut message: Message, text: &str) -> Message {
    let mut edns = Edns::new();
    edns.options_mut().insert(EdnsOption::Unknown(EXPLAIN, text.as_bytes().to_vec()));
    message.edns = Some(edns);
    message
}

fn ask(upstream: &Upstream, more: &[&str]) -> std::process::Output {
    let server = upstream.address().to_string();
    nodens(&[&["query", "--server", &server], more].concat())
}

#[test]
fn help_goes_to_standard_output_and_usage_errors_do_not() {
    let help = nodens(&["--help"]);
    assert_eq!(help.status.code(), Some(0));
    assert!(stdout(&help).contains("Usage: nodens") && help.stderr.is_empty());
    let wrong = nodens(&["query", "web", "--server", "dns.example"]);
    assert_eq!(wrong.status.code(), Some(2));
    assert!(wrong.stdout.is_empty() && stderr(&wrong).contains("dns.example"));
    let nameless = nodens(&["serve", "--upstream", "tls://10.1.0.54"]);
    assert_eq!(nameless.status.code(), Some(2));
    assert!(stderr(&nameless).contains("tls://10.1.0.54#dns.corp.example"), "{}", stderr(&nameless));
}

#[test]
fn failures_are_one_line_on_standard_error() {
    let failed = nodens(&["serve", "--config", "/nonexistent/nodens.yaml"]);
    assert_eq!(failed.status.code(), Some(1));
    assert!(failed.stdout.is_empty());
    let text = stderr(&failed);
    assert!(text.starts_with("nodens: error: ") && text.contains("/nonexistent/nodens.yaml"), "{text}");
    assert!(!text.contains('\x1b'), "no colours into a pipe: {text:?}");
}

#[test]
fn check_says_whether_a_file_is_usable() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("nodens.yaml");
    let good = "cache: { serveStale: { maxAge: 1d }, prefetch: { enabled: false }, persist: { path: /var/lib/nodens/cache.bin } }\n\
                zones:\n  - match: [.]\n    forward: { to: [\"192.0.2.53\", \"tls://192.0.2.54#dns.corp.example\"] }\n";
    std::fs::write(&file, good).unwrap();
    let file = file.to_str().unwrap();
    let text = nodens(&["check", "--config", file]);
    assert_eq!((text.status.code(), stdout(&text)), (Some(0), format!("{file}: ok\n")));
    let missing = nodens(&["check", "--config", "/nonexistent/nodens.yaml", "--output", "json"]);
    assert_eq!(missing.status.code(), Some(1));
    let report: Value = serde_json::from_slice(&missing.stdout).unwrap();
    assert_eq!(report["ok"], false);
    assert!(report["problems"][0]["message"].is_string());
}

#[test]
fn the_schema_is_json() {
    let schema = nodens(&["config", "schema"]);
    assert_eq!(schema.status.code(), Some(0));
    let schema: Value = serde_json::from_slice(&schema.stdout).unwrap();
    assert!(schema["$schema"].is_string());
}

#[test]
fn completions_exist_for_every_shell() {
    for shell in ["bash", "elvish", "fish", "powershell", "zsh"] {
        let script = nodens(&["completions", shell]);
        assert_eq!(script.status.code(), Some(0), "{shell}");
        assert!(stdout(&script).contains("upstream"), "{shell}");
    }
}

#[test]
fn manual_pages_are_printed_or_written_one_per_command() {
    assert!(stdout(&nodens(&["man"])).contains(".TH nodens 1"));
    let directory = tempfile::tempdir().unwrap();
    let pages = directory.path().join("man1");
    assert_eq!(nodens(&["man", "--dir", pages.to_str().unwrap()]).status.code(), Some(0));
    for page in ["nodens.1", "nodens-serve.1", "nodens-query.1", "nodens-config-schema.1"] {
        assert!(pages.join(page).is_file(), "{page}");
    }
    let unwritable = nodens(&["man", "--dir", "/proc/nodens"]);
    assert_eq!(unwritable.status.code(), Some(1));
    assert!(stderr(&unwritable).contains("cannot write /proc/nodens"));
}

#[test]
fn a_reader_that_goes_away_is_no_failure() {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let ended = Command::new(NODENS).arg("man").stdout(writer).stderr(Stdio::piped()).output().unwrap();
    assert_eq!((ended.status.code(), stderr(&ended)), (Some(0), String::new()));
}

#[test]
fn query_shows_the_answer_and_where_it_came_from() {
    let upstream = Upstream::start(|query| {
        let text = "source=hit zone=cluster.local. age=12 ttl=18 upstream=10.96.0.11:53 proto=tcp";
        explained(addresses(&query.message(), 1, 18), text).into()
    });
    let text = ask(&upstream, &["web.shop.svc.cluster.local"]);
    assert_eq!(text.status.code(), Some(0));
    let text = stdout(&text);
    for part in
        ["NOERROR", "\t18\tIN\tA\t10.0.0.1\n", "source    hit", "age       12 s", "upstream  10.96.0.11:53 (tcp)"]
    {
        assert!(text.contains(part), "{part:?} in {text}");
    }
    let json: Value = serde_json::from_slice(&ask(&upstream, &["web.shop", "--output", "json"]).stdout).unwrap();
    assert_eq!(json["explanation"]["source"], "hit");
    assert_eq!(json["answers"][0]["data"], "10.0.0.1");
    assert_eq!(json["transport"], "udp");
}

#[test]
fn query_asks_what_it_was_told_to() {
    let upstream = Upstream::start(|query| reply(&query.message(), ResponseCode::NoError).into());
    ask(&upstream, &["10.96.0.10"]);
    ask(&upstream, &["web.shop", "aaaa", "--dnssec", "--tcp"]);
    let received = upstream.wait_for(2);
    assert!(received[0].is_udp());
    assert_eq!(
        (received[0].name().as_str(), received[0].rtype().to_string().as_str()),
        ("10.0.96.10.in-addr.arpa.", "PTR")
    );
    let edns = received[0].message().edns.expect("EDNS");
    assert_eq!(edns.option(EdnsCode::Unknown(EXPLAIN)), Some(&EdnsOption::Unknown(EXPLAIN, Vec::new())));
    assert!(!edns.flags().dnssec_ok);
    assert!(!received[1].is_udp());
    assert_eq!((received[1].name().as_str(), received[1].rtype().to_string().as_str()), ("web.shop.", "AAAA"));
    assert!(received[1].message().edns.expect("EDNS").flags().dnssec_ok);
}

#[test]
fn query_follows_a_truncated_reply_with_tcp() {
    let upstream = Upstream::start(|query| {
        let mut message = addresses(&query.message(), if query.is_udp() { 0 } else { 200 }, 5);
        message.metadata.truncation = query.is_udp();
        message.into()
    });
    let text = stdout(&ask(&upstream, &["cells.shop"]));
    assert!(text.contains("10.0.0.200") && text.contains("(tcp, truncated over udp and asked again)"), "{text}");
    assert!(text.contains("no explanation from this server"), "{text}");
}

#[test]
fn query_ignores_what_is_no_reply_to_it() {
    let upstream = Upstream::start(|query| {
        let right = addresses(&query.message(), 1, 5);
        let mut other_id = nxdomain(&query.message(), "shop.", 5);
        other_id.metadata.id ^= 1;
        let other_name = addresses(&support::query("other.", query.rtype()), 9, 5);
        let bytes = |m: &Message| m.to_vec().unwrap();
        Reply::Bytes(vec![vec![], query.bytes.clone(), bytes(&other_id), bytes(&other_name), bytes(&right)])
    });
    let json: Value = serde_json::from_slice(&ask(&upstream, &["web.shop", "--output", "json"]).stdout).unwrap();
    assert_eq!(json["answers"].as_array().map(Vec::len), Some(1));
}

#[test]
fn query_asks_once_more_when_a_datagram_is_lost() {
    let upstream = Upstream::start(|query| match query.number {
        0 => Reply::Silence,
        _ => addresses(&query.message(), 1, 5).into(),
    });
    assert_eq!(ask(&upstream, &["web.shop"]).status.code(), Some(0));
    assert_eq!(upstream.received().len(), 2);
}

#[test]
fn query_fails_where_there_is_no_answer() {
    for (rcode, code) in [(ResponseCode::NXDomain, 0), (ResponseCode::ServFail, 1), (ResponseCode::Refused, 1)] {
        let upstream = Upstream::start(move |query| reply(&query.message(), rcode).into());
        assert_eq!(ask(&upstream, &["web.shop"]).status.code(), Some(code), "{rcode}");
    }
    let closing = Upstream::start(|_| Reply::Close);
    let closed = ask(&closing, &["web.shop", "--tcp"]);
    assert_eq!(closed.status.code(), Some(1));
    assert!(stderr(&closed).contains(&format!("cannot ask {} over tcp", closing.address())), "{}", stderr(&closed));
    let port = support::free_port();
    let nobody = nodens(&["query", "web.shop", "--server", &format!("127.0.0.1:{port}")]);
    assert_eq!(nobody.status.code(), Some(1));
}

#[test]
fn query_does_not_take_another_message_over_tcp_for_its_reply() {
    let upstream = Upstream::start(|query| addresses(&support::query("other.", query.rtype()), 1, 5).into());
    let wrong = ask(&upstream, &["web.shop", "--tcp"]);
    assert_eq!(wrong.status.code(), Some(1));
    assert!(stderr(&wrong).contains("no reply to this query"), "{}", stderr(&wrong));
}
