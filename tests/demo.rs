//! `nodens demo` as a process: what its guide says is so.

#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used)]

mod support;

use hickory_proto::op::{Message, ResponseCode};
use hickory_proto::rr::RecordType;
use serde_json::Value;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use support::demo::Demo;
use support::process::{can_run, nodens, shell};
use support::{DEADLINE, ask_tcp, ask_udp, query};

fn explained(demo: &Demo, name: &str) -> Value {
    let asked = nodens(&["query", name, "--server", &demo.cache.to_string(), "--output", "json"]);
    serde_json::from_slice(&asked.stdout).unwrap()
}

fn get(address: SocketAddr, path: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: demo\r\nConnection: close\r\n\r\n").unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    text
}

#[test]
fn the_second_answer_comes_from_the_cache() {
    let demo = Demo::start();
    let first = explained(&demo, "web.shop.svc.cluster.local");
    assert_eq!((&first["rcode"], &first["explanation"]["source"]), (&"NOERROR".into(), &"miss".into()), "{first}");
    let second = explained(&demo, "web.shop.svc.cluster.local");
    assert_eq!(
        (&second["answers"][0]["data"], &second["explanation"]["source"]),
        (&"10.96.14.20".into(), &"hit".into())
    );
    explained(&demo, "nowhere.shop.svc.cluster.local");
    let negative = explained(&demo, "nowhere.shop.svc.cluster.local");
    let expected = (&"NXDOMAIN".into(), &"negative_hit".into());
    assert_eq!((&negative["rcode"], &negative["explanation"]["source"]), expected, "{negative}");
    let metrics = get(demo.metrics, "/metrics");
    assert!(metrics.contains("nodens_responses_total{") && metrics.contains("source=\"hit\""), "{metrics}");
    assert!(get(demo.health, "/health").starts_with("HTTP/1.1 200"));
    assert_eq!(demo.terminate().code(), Some(0));
}

#[test]
fn thirty_addresses_need_tcp_or_edns() {
    let demo = Demo::start();
    let asked = query("cells.shop.svc.cluster.local.", RecordType::A).to_vec().unwrap();
    let read = |bytes: Vec<u8>| Message::from_vec(&bytes).unwrap();
    let datagram = ask_udp(demo.cache, &asked);
    assert!(datagram.len() <= 512 && read(datagram).metadata.truncation);
    let whole = read(ask_tcp(demo.cache, &asked));
    assert_eq!((whole.metadata.response_code, whole.answers.len()), (ResponseCode::NoError, 30));
}

#[test]
fn every_command_of_the_guide_works() {
    let demo = Demo::start();
    let commands: Vec<&str> = demo.guide.iter().filter_map(|line| line.strip_prefix("    ")).collect();
    assert!(commands.len() > 10, "{commands:#?}");
    for command in commands {
        if !can_run(command) {
            continue;
        }
        let ran = shell(command, Path::new("/"));
        let text = String::from_utf8_lossy(&ran.stdout);
        assert!(ran.status.success() && !text.is_empty(), "{command}: {text}");
        let failed = ["SERVFAIL", "REFUSED", "FORMERR"].iter().any(|rcode| text.contains(&format!("status: {rcode}")));
        assert!(!failed, "{command}: {text}");
    }
}
