//! Scripted servers, and the messages they exchange with a group.

use crate::upstream::{Error, Exchange, Group, Options, Protocol, Query, Reply, Snapshot};
use crate::wire::header::{self, Header};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream, UdpSocket};
use tokio::time::{Instant, timeout};

/// Long enough for anything that is to happen, on any machine.
pub(super) const LONG: Duration = Duration::from_secs(20);
/// The id of every query here; replies must bear it whatever went over the wire.
pub(super) const ID: u16 = 0x1234;
/// An OPT record offering 1232 octets.
pub(super) const OPT: [u8; 11] = [0, 0, 41, 4, 208, 0, 0, 0, 0, 0, 0];

/// A query for the A record of one label.
pub(super) fn query(label: &str) -> Vec<u8> {
    let mut message = vec![0; header::LEN];
    Header { id: ID, flags: header::RD, qdcount: 1, ancount: 0, nscount: 0, arcount: 0 }.write(&mut message);
    message.push(label.len() as u8);
    message.extend(label.as_bytes());
    message.extend([0, 0, 1, 0, 1]);
    message
}

/// The same with an OPT record.
pub(super) fn query_with_opt(label: &str) -> Vec<u8> {
    let mut message = query(label);
    message[11] = 1;
    message.extend(OPT);
    message
}

/// The label asked for.
pub(super) fn label(message: &[u8]) -> String {
    let len = usize::from(message[header::LEN]);
    String::from_utf8(message[header::LEN + 1..][..len].to_vec()).unwrap()
}

/// A reply to `query`: header and question, with `flags` added.
pub(super) fn reply(query: &[u8], flags: u16) -> Vec<u8> {
    let h = Header::read(query).unwrap();
    let mut message = query[..query.len() - if h.arcount > 0 { OPT.len() } else { 0 }].to_vec();
    Header { flags: h.flags | header::QR | flags, arcount: 0, ..h }.write(&mut message);
    message
}

/// A reply to another question under the same id.
pub(super) fn other_question(query: &[u8]) -> Vec<u8> {
    let mut message = reply(query, 0);
    message[header::LEN + 1] ^= 1;
    message
}

/// `message` behind its length.
pub(super) fn framed(message: &[u8]) -> Vec<u8> {
    [&(message.len() as u16).to_be_bytes(), message].concat()
}

/// Reads one framed query; `None` when the connection ends.
pub(super) async fn read_query(stream: &mut (impl AsyncRead + Unpin)) -> Option<Vec<u8>> {
    let len = stream.read_u16().await.ok()?;
    let mut message = vec![0; usize::from(len)];
    stream.read_exact(&mut message).await.ok()?;
    Some(message)
}

/// Writes one framed message, if anybody still reads.
pub(super) async fn send(stream: &mut (impl AsyncWrite + Unpin), message: &[u8]) {
    let _ = stream.write_all(&framed(message)).await;
    let _ = stream.flush().await;
}

/// Answers every query on the connection until it ends.
pub(super) async fn answer_all(mut stream: impl AsyncRead + AsyncWrite + Unpin) {
    while let Some(query) = read_query(&mut stream).await {
        send(&mut stream, &reply(&query, 0)).await;
    }
}

/// Waits for ever: a server that is there and does nothing.
pub(super) async fn hang<T>(held: T) {
    let _held = held;
    std::future::pending::<()>().await;
}

/// A scripted server.
#[derive(Clone)]
pub(super) struct Script {
    pub(super) address: SocketAddr,
    accepted: Arc<AtomicUsize>,
}

impl Script {
    /// How many connections (or datagrams) it has seen.
    pub(super) fn seen(&self) -> usize {
        self.accepted.load(SeqCst)
    }
}

/// A TCP server that runs `script` for every connection, with the connection's number from 0.
pub(super) async fn tcp<F>(script: impl Fn(TcpStream, usize) -> F + Send + 'static) -> Script
where
    F: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    tcp_on(listener, script)
}

/// The same on a listener of the caller's.
pub(super) fn tcp_on<F>(listener: TcpListener, script: impl Fn(TcpStream, usize) -> F + Send + 'static) -> Script
where
    F: Future<Output = ()> + Send + 'static,
{
    let address = listener.local_addr().unwrap();
    let accepted = Arc::new(AtomicUsize::new(0));
    let counter = accepted.clone();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            // Nagle's delay is of the kernel's time, not of ours, which may be paused.
            stream.set_nodelay(true).unwrap();
            tokio::spawn(script(stream, counter.fetch_add(1, SeqCst)));
        }
    });
    Script { address, accepted }
}

/// Sockets for TCP and UDP on one port.
pub(super) async fn both() -> (TcpListener, UdpSocket) {
    loop {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        // Somebody else may have the port for UDP.
        if let Ok(socket) = UdpSocket::bind(listener.local_addr().unwrap()).await {
            return (listener, socket);
        }
    }
}

/// A UDP server: `script` gets each datagram with its number and returns what to send back, in order.
pub(super) async fn udp(mut script: impl FnMut(Vec<u8>, usize) -> Vec<Vec<u8>> + Send + 'static) -> Script {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let address = socket.local_addr().unwrap();
    let accepted = Arc::new(AtomicUsize::new(0));
    let counter = accepted.clone();
    tokio::spawn(async move {
        let mut octets = [0; 4096];
        while let Ok((len, from)) = socket.recv_from(&mut octets).await {
            for datagram in script(octets[..len].to_vec(), counter.fetch_add(1, SeqCst)) {
                socket.send_to(&datagram, from).await.unwrap();
            }
        }
    });
    Script { address, accepted }
}

/// A port where nobody listens, kept from all others by a socket that is bound and no more.
pub(super) fn closed_port() -> (TcpSocket, SocketAddr) {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = socket.local_addr().unwrap();
    (socket, address)
}

/// The same for UDP: the socket is connected, to nobody, and the kernel refuses what others send.
pub(super) async fn closed_udp_port() -> (UdpSocket, SocketAddr) {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    socket.connect("127.0.0.1:1").await.unwrap();
    let address = socket.local_addr().unwrap();
    (socket, address)
}

/// Options with a timeout so long that a test which runs into it fails.
pub(super) fn options(protocol: Protocol) -> Options {
    Options { protocol, policy: crate::upstream::Policy::Sequential, timeout: LONG, ..Options::default() }
}

/// A group of one server over TCP.
pub(super) fn group_of(server: &Script) -> Group {
    Group::new(options(Protocol::Tcp), &[server.address])
}

/// Asks `group` for `label`; the reply, if one comes, is checked to be the right one.
pub(super) async fn ask(group: &Group, name: &str) -> Result<Reply, Error> {
    ask_until(group, name, Instant::now() + LONG).await
}

/// The same with a deadline.
pub(super) async fn ask_until(group: &Group, name: &str, deadline: Instant) -> Result<Reply, Error> {
    let message = query(name);
    exchange(group, Query { message: &message, opt_len: 0 }, deadline).await
}

/// Asks with an OPT record.
pub(super) async fn ask_with_opt(group: &Group, name: &str) -> Result<Reply, Error> {
    let message = query_with_opt(name);
    exchange(group, Query { message: &message, opt_len: OPT.len() }, Instant::now() + LONG).await
}

async fn exchange(group: &Group, query: Query<'_>, deadline: Instant) -> Result<Reply, Error> {
    let reply = timeout(2 * LONG, group.exchange(query, deadline)).await.expect("the deadline is kept")?;
    assert_eq!(Header::read(&reply.message).unwrap().id, ID);
    if reply.message.len() > header::LEN {
        assert_eq!(label(&reply.message).to_lowercase(), label(query.message).to_lowercase());
    }
    Ok(reply)
}

/// The cells of the n-th server.
pub(super) fn snapshot(group: &Group, server: usize) -> Snapshot {
    group.servers()[server].snapshot()
}

/// Lets paused time pass, a millisecond at a time: each after all that can happen without it has, sockets included.
/// What the kernel has still to deliver, on a busy machine, it delivers before what is sent here after it.
pub(super) fn let_time_pass() {
    tokio::spawn(async {
        let echo = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        echo.connect(echo.local_addr().unwrap()).await.unwrap();
        loop {
            for _ in 0..3 {
                for _ in 0..5 {
                    tokio::task::yield_now().await;
                }
                echo.send(&[0]).await.unwrap();
                echo.recv(&mut [0]).await.unwrap();
            }
            tokio::time::advance(Duration::from_millis(1)).await;
        }
    });
}

/// Asks one name after the other, a new one every `interval`, without waiting for answers; returns how long each took.
pub(super) async fn ask_steadily(group: &Arc<Group>, count: usize, interval: Duration) -> Vec<Duration> {
    let mut asked = Vec::new();
    for n in 0..count {
        let group = group.clone();
        asked.push(tokio::spawn(async move {
            let started = Instant::now();
            ask(&group, &format!("name{n}")).await.unwrap();
            started.elapsed()
        }));
        tokio::time::sleep(interval).await;
    }
    futures_util::future::join_all(asked).await.into_iter().map(Result::unwrap).collect()
}

/// Waits until the cells of the first server satisfy `wanted`.
pub(super) async fn until(group: &Group, wanted: impl Fn(&Snapshot) -> bool) {
    let deadline = Instant::now() + LONG;
    while !wanted(&snapshot(group, 0)) {
        assert!(Instant::now() < deadline, "still {:?}", snapshot(group, 0));
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}
