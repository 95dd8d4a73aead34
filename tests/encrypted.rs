//! Encrypted upstreams through the whole daemon: what a client gets, what the page and the log say.

#![allow(clippy::unwrap_used, reason = "what a test cannot go on without")]

mod support;

use hickory_proto::op::{Message, ResponseCode};
use std::path::Path;
use std::sync::Mutex;
use support::addresses;
use support::client::{edns_query, extended_error};
use support::server::Server;
use support::tls::{NAME, TlsUpstream};
use support::upstream::{Reply, Upstream};

/// Extended error (RFC 8914).
const NETWORK_ERROR: u16 = 23;

fn good(query: &Message) -> Message {
    addresses(query, 1, 300)
}

/// Everything to these servers, in this order, whose issuer is in `ca`.
fn zones(to: &[&str], ca: &Path) -> String {
    let to = to.join("\", \"");
    let ca = ca.display();
    format!("zones: [{{ match: [.], forward: {{ to: [\"{to}\"], policy: sequential, ca: \"{ca}\" }} }}]\n")
}

#[test]
fn d24_queries_go_to_an_encrypted_server_over_one_connection() {
    let upstream = TlsUpstream::start(4000, good);
    let server = Server::start(&zones(&[&upstream.target()], &upstream.ca()));
    for n in 0..50 {
        let answer = server.udp(&edns_query(&format!("n{n}.example.")));
        assert_eq!(answer.answers.len(), 1, "{answer:?}\n{}", server.log());
    }
    let (queries, whom) = ("nodens_upstream_queries_total", format!("upstream=\"{}\"", upstream.target()));
    assert!(server.metric(queries, &format!("{whom},proto=\"tls\",outcome=\"ok\"")) >= 50.0);
    assert_eq!(server.metric(queries, "proto=\"tcp\"") + server.metric(queries, "proto=\"udp\""), 0.0);
    assert_eq!(server.metric("nodens_upstream_dials_total", &whom), upstream.connections() as f64);
    assert!(upstream.connections() <= 2, "{} connections", upstream.connections());
    // Longer than any datagram.
    let large = TlsUpstream::start(4000, |query| addresses(query, 200, 300));
    let server = Server::start(&zones(&[&large.target()], &large.ca()));
    assert_eq!(server.tcp(&edns_query("large.example.")).answers.len(), 200);
}

#[test]
fn d24_an_expired_certificate_is_a_servfail_with_a_reason_and_the_next_server_is_asked() {
    let expired = TlsUpstream::start(2020, good);
    let mut server = Server::start(&zones(&[&expired.target()], &expired.ca()));
    let answer = server.udp(&edns_query("www.example."));
    assert_eq!(answer.metadata.response_code, ResponseCode::ServFail);
    assert_eq!(extended_error(&answer), Some(NETWORK_ERROR));
    let reason = format!("upstream {}: certificate expired", expired.target());
    server.until_logged(&reason);
    server.until_logged("no encrypted connection to an upstream");
    assert!(server.metric("nodens_upstream_queries_total", "proto=\"tls\",outcome=\"untrusted\"") >= 1.0);
    assert_eq!(server.metric("nodens_upstream_failing", NAME), 1.0);

    let plain = Upstream::start(|q| good(&q.message()).into());
    let server = Server::start(&zones(&[&expired.target(), &plain.address().to_string()], &expired.ca()));
    assert_eq!(server.udp(&edns_query("www.example.")).answers.len(), 1);
}

#[test]
fn d24_without_a_file_the_system_says_whom_to_trust() {
    let upstream = TlsUpstream::start(4000, good);
    let zones = format!("zones: [{{ match: [.], forward: {{ to: [\"{}\"] }} }}]\n", upstream.target());
    let server = Server::start_with(&zones, &|command| {
        command.env("SSL_CERT_FILE", upstream.ca()).env_remove("SSL_CERT_DIR");
    });
    assert_eq!(server.udp(&edns_query("www.example.")).answers.len(), 1, "{}", server.log());
    // Nobody else is trusted in its place.
    let mut server = Server::start_with(&zones, &|command| {
        command.env("SSL_CERT_FILE", "/nowhere/ca.pem").env_remove("SSL_CERT_DIR");
    });
    assert_eq!(server.udp(&edns_query("www.example.")).metadata.response_code, ResponseCode::ServFail);
    server.until_logged("cannot use what SSL_CERT_FILE names");
    server.until_logged("'/nowhere/ca.pem'");
}

#[test]
fn d24_a_server_of_plain_dns_never_sees_a_question() {
    let asked = std::sync::Arc::new(Mutex::new(Vec::new()));
    let seen = asked.clone();
    let plain = Upstream::start(move |q| {
        seen.lock().unwrap().push(q.bytes.clone());
        Reply::Bytes(vec![q.bytes.clone()])
    });
    let upstream = TlsUpstream::start(4000, good);
    let target = format!("tls://{}#{NAME}", plain.address());
    let server = Server::start(&zones(&[&target], &upstream.ca()));
    let answer = server.udp(&edns_query("secret.example."));
    assert_eq!(answer.metadata.response_code, ResponseCode::ServFail);
    assert!(extended_error(&answer).is_some());
    let asked = asked.lock().unwrap();
    assert!(!asked.iter().any(|octets| octets.windows(6).any(|part| part == b"secret")), "{asked:?}");
}
