//! Zones that are there for some listen addresses alone, as blocks of a Corefile that bind them, and sockets for all
//! addresses.

#![allow(clippy::unwrap_used, reason = "what a test cannot go on without")]

mod support;

use hickory_proto::op::Message;
use hickory_proto::rr::RecordType;
use std::net::{Ipv4Addr, SocketAddr};
use std::process::Command;
use support::process::NODENS;
use support::server::Server;
use support::upstream::Upstream;
use support::{addresses, ask_tcp, ask_udp, free_port, query};

/// An upstream whose answers have `records` addresses.
fn upstream(records: u8) -> Upstream {
    Upstream::start(move |q| addresses(&q.message(), records, 300).into())
}

fn at(last: u8, port: u16) -> SocketAddr {
    (Ipv4Addr::new(127, 0, 0, last), port).into()
}

/// A server of `corefile`, which knows ports and more by `with`, where DNS is at the first address.
fn serve(dns: SocketAddr, corefile: impl Fn(&str) -> String) -> Server {
    let [metrics, health] = [(); 2].map(|()| at(1, free_port()));
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("Corefile");
    std::fs::write(&path, corefile(&format!("prometheus {metrics}\n    health {health}"))).unwrap();
    let mut command = Command::new(NODENS);
    command.args(["serve", "--config"]).arg(path);
    let mut server = Server::run(command, directory, [dns, metrics, health], &|_| {});
    server.until("it is alive", |server| server.get(server.health, "/health").is_some_and(|r| r.contains("200 OK")));
    server
}

/// How many addresses the answer to `name` has, over UDP and TCP.
fn answered(server: SocketAddr, name: &str) -> [usize; 2] {
    let question = query(name, RecordType::A).to_vec().unwrap();
    [ask_udp(server, &question), ask_tcp(server, &question)]
        .map(|reply| Message::from_vec(&reply).unwrap().answers.len())
}

#[test]
fn one_name_is_answered_by_the_block_whose_address_was_asked() {
    let (first, second) = (upstream(1), upstream(2));
    let port = free_port();
    let blocks = |one: u8, two: u8, more: &str| {
        let block = |last: u8, to: SocketAddr, more: &str| {
            format!(
                ".:{port} {{\n    bind 127.0.0.{last}\n    cache 30\n    forward . {to} {{\n        force_tcp\n    }}\n    {more}\n}}\n"
            )
        };
        block(one, first.address(), more) + &block(two, second.address(), "")
    };
    let mut server = serve(at(1, port), |more| blocks(1, 2, more));
    for _ in 0..2 {
        assert_eq!(answered(at(1, port), "a.example."), [1, 1]);
        assert_eq!(answered(at(2, port), "a.example."), [2, 2]);
    }
    for upstream in [&first, &second] {
        assert_eq!(upstream.asked_for("a.example.").len(), 1, "the others were hits");
    }
    // The other way round: what is in the cache of one is not what the other answers.
    let more = format!("prometheus {}\n    health {}", server.metrics, server.health);
    std::fs::write(server.directory().join("Corefile"), blocks(2, 1, &more)).unwrap();
    server.until("it is in force", |server| server.metric("nodens_config_reloads_total", "outcome=\"loaded\"") >= 1.0);
    assert_eq!(answered(at(1, port), "a.example."), [2, 2]);
    assert_eq!(answered(at(2, port), "a.example."), [1, 1]);
}

#[test]
fn a_socket_for_all_addresses_answers_from_the_one_that_was_asked() {
    let upstream = upstream(3);
    let port = free_port();
    let _server = serve(at(1, port), |more| {
        let to = upstream.address();
        format!(
            ".:{port} {{\n    bind 0.0.0.0\n    cache 30\n    forward . {to} {{\n        force_tcp\n    }}\n    {more}\n}}\n"
        )
    });
    // Connected sockets: what comes from elsewhere would not be heard. First a miss, then hits.
    for last in [1, 2, 3] {
        assert_eq!(answered(at(last, port), "a.example."), [3, 3]);
    }
    assert_eq!(answered(at(4, port), "b.example."), [3, 3], "a miss");
}
