//! Row G7 of the behaviour table, in an upgrade: two instances have the same addresses, and nobody notices that one goes.

#![allow(clippy::unwrap_used, reason = "what a test cannot go on without")]

mod support;

use hickory_proto::rr::RecordType;
use std::io::{self, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Instant;
use support::server::{Server, forward};
use support::upstream::Upstream;
use support::{DEADLINE, addresses, framed, query, read_framed};

/// Clients that ask at a time, each over a new connection each time.
const CLIENTS: usize = 4;
/// How much is asked at least before the old instance is told to stop, and after it has ended.
const ASKED: usize = 200;

/// Asks over a connection of its own.
fn ask(server: SocketAddr, packet: &[u8]) -> io::Result<()> {
    let mut stream = TcpStream::connect_timeout(&server, DEADLINE)?;
    stream.set_read_timeout(Some(DEADLINE))?;
    stream.write_all(&framed(packet))?;
    read_framed(&mut stream).map(drop).ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
}

#[test]
fn g07_an_instance_that_leaves_the_other_its_port_loses_no_connection() {
    let upstream = Upstream::start(|q| addresses(&q.message(), 1, 300).into());
    let config = forward(upstream.address());
    let old = Server::start(&config);
    let at = [old.dns, old.metrics, old.health];
    let mut new = Server::launch_at(at, &config, &|_| {});
    new.until_logged("serving");
    new.until("it is ready", |server| server.is_ready());

    let (asked, over) = (AtomicUsize::new(0), AtomicBool::new(false));
    let deadline = Instant::now() + 3 * DEADLINE;
    let going_on = || !over.load(Ordering::Relaxed) && Instant::now() < deadline;
    let packet = query("example.com", RecordType::A).to_vec().unwrap();
    let lost: Vec<String> = thread::scope(|scope| {
        let client = || {
            let mut lost = Vec::new();
            while going_on() {
                lost.extend(ask(at[0], &packet).err().map(|error| error.to_string()));
                asked.fetch_add(1, Ordering::Relaxed);
            }
            lost
        };
        let clients: Vec<_> = (0..CLIENTS).map(|_| scope.spawn(client)).collect();
        // That the old one is not ready any more is not to be seen.
        let probe = scope.spawn(|| {
            let mut lost = Vec::new();
            while going_on() {
                let answer = new.get(at[2], "/ready").unwrap_or_default();
                if !answer.contains("200 OK") {
                    lost.push(answer);
                }
            }
            lost
        });
        let ask_more = || {
            let enough = asked.load(Ordering::Relaxed) + ASKED;
            while asked.load(Ordering::Relaxed) < enough && going_on() {
                thread::yield_now();
            }
        };
        ask_more();
        old.signal("TERM");
        assert!(old.wait().success());
        ask_more();
        over.store(true, Ordering::Relaxed);
        clients.into_iter().chain([probe]).flat_map(|thread| thread.join().unwrap()).collect()
    });
    assert!(lost.is_empty(), "{} of {asked:?}: {lost:?}", lost.len());
}
