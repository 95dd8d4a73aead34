//! What the namespace tests run inside their namespaces: a stand-ins for kube-dns, and clients that measure.
//!
//! A program of its own, because a process is in one network namespace and a test has many. Results are JSON, one line
//! each, on standard output; whatever runs without an end of its own ends with its standard input, and so with the test.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::unwrap_used,
    unreachable_pub,
    reason = "a tool of the tests"
)]

mod ask;
mod backend;
mod message;
mod pairs;
mod upstream;

use clap::Parser;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// One of the tools.
#[derive(Parser)]
enum Tool {
    /// Answers like kube-dns, on UDP and TCP, until standard input ends.
    Backend(backend::Args),
    /// Asks at a steady rate and says how it went.
    Ask(ask::Args),
    /// Asks every target once and says who answered.
    Once(ask::Once),
    /// Asks for A and AAAA at the very same time from one socket, a fresh one for each pair.
    Pairs(pairs::Args),
    /// Answers whatever it is asked, with the faults that it is given, until standard input ends.
    Upstream(upstream::Args),
    /// Prints the body of an HTTP page.
    Get {
        /// Who is asked.
        address: SocketAddr,
        /// For what.
        path: String,
    },
}

fn main() {
    match Tool::parse() {
        Tool::Backend(args) => backend::run(&args),
        Tool::Ask(args) => ask::run(args),
        Tool::Once(args) => ask::once(args),
        Tool::Pairs(args) => pairs::run(&args),
        Tool::Upstream(args) => upstream::run(args),
        Tool::Get { address, path } => get(address, &path),
    }
}

/// Ends with status 1 when there is no answer.
fn get(address: SocketAddr, path: &str) {
    let patience = Duration::from_secs(2);
    let exchange = || {
        let mut stream = TcpStream::connect_timeout(&address, patience)?;
        stream.set_read_timeout(Some(patience))?;
        write!(stream, "GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")?;
        let mut text = String::new();
        stream.read_to_string(&mut text).map(|_| text)
    };
    match exchange() {
        Ok(text) => print!("{text}"),
        Err(_) => std::process::exit(1),
    }
}

/// Waits for the end of standard input, which is the end of the test.
fn until_input_ends() {
    let _ = std::io::stdin().read_to_end(&mut Vec::new());
}
