//! The scripted server: UDP and TCP on one loopback port, a closure decides what comes back.
//!
//! Every query runs the closure in a thread of its own: one that blocks (on a channel, say) holds back its own reply
//! and no other.

use super::{DEADLINE, addresses, framed, read_framed};
use hickory_proto::op::Message;
use hickory_proto::rr::RecordType;
use std::io::{self, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, mpsc};
use std::thread;
use std::time::Duration;

/// How a query came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    Udp,
    /// Connections are numbered from 1 in the order they were accepted.
    Tcp {
        connection: usize,
    },
}

/// A query as it came.
#[derive(Clone, Debug)]
pub struct Received {
    pub bytes: Vec<u8>,
    pub transport: Transport,
    pub from: SocketAddr,
    /// How many came before this one.
    pub number: usize,
}

impl Received {
    /// The query, read.
    pub fn message(&self) -> Message {
        Message::from_vec(&self.bytes).expect("a readable query")
    }

    /// The name asked for, lower case, absolute.
    pub fn name(&self) -> String {
        self.message().queries[0].name().to_ascii().to_ascii_lowercase()
    }

    /// The type asked for.
    pub fn rtype(&self) -> RecordType {
        self.message().queries[0].query_type()
    }

    /// Is it one of those by which nodens looks for forwarding loops?
    pub fn is_probe(&self) -> bool {
        let name = self.name();
        let label = name.split('.').next().unwrap_or_default();
        self.rtype() == RecordType::HINFO && label.len() == 32 && label.bytes().all(|c| c.is_ascii_hexdigit())
    }

    pub fn is_udp(&self) -> bool {
        self.transport == Transport::Udp
    }
}

/// What the server does about a query.
#[derive(Clone, Debug)]
pub enum Reply {
    /// Sends these messages in order.
    Bytes(Vec<Vec<u8>>),
    /// Does nothing.
    Silence,
    /// Closes the TCP connection; over UDP, nothing.
    Close,
    /// Sends this message and closes the TCP connection.
    Last(Vec<u8>),
    /// Sends these octets without a length before them; over UDP, nothing.
    Raw(Vec<u8>),
    /// Sends this message octet by octet with a pause between; over UDP, nothing.
    Trickle(Vec<u8>, Duration),
}

impl From<Message> for Reply {
    fn from(message: Message) -> Reply {
        Reply::Bytes(vec![message.to_vec().unwrap()])
    }
}

type Script = Arc<dyn Fn(&Received) -> Reply + Send + Sync>;

/// What the threads share.
struct State {
    script: Script,
    received: Mutex<Vec<Received>>,
    probes: Mutex<Vec<Received>>,
    changed: Condvar,
    connections: Mutex<Vec<TcpStream>>,
    stopped: AtomicBool,
}

/// The running server; dropping it closes its port and its connections.
pub struct Upstream {
    address: SocketAddr,
    state: Arc<State>,
    udp: UdpSocket,
}

impl Upstream {
    /// Starts a server on a free loopback port.
    pub fn start(script: impl Fn(&Received) -> Reply + Send + Sync + 'static) -> Upstream {
        let (udp, tcp) = bind();
        Upstream::serve(udp, tcp, script)
    }

    /// Starts a server on an address that must be free.
    pub fn start_at(
        address: SocketAddr,
        script: impl Fn(&Received) -> Reply + Send + Sync + 'static,
    ) -> io::Result<Upstream> {
        Ok(Upstream::serve(UdpSocket::bind(address)?, TcpListener::bind(address)?, script))
    }

    fn serve(
        udp: UdpSocket,
        tcp: TcpListener,
        script: impl Fn(&Received) -> Reply + Send + Sync + 'static,
    ) -> Upstream {
        let address = udp.local_addr().unwrap();
        let state = Arc::new(State {
            script: Arc::new(script),
            received: Mutex::default(),
            probes: Mutex::default(),
            changed: Condvar::new(),
            connections: Mutex::default(),
            stopped: AtomicBool::new(false),
        });
        let (socket, shared) = (udp.try_clone().unwrap(), state.clone());
        thread::spawn(move || serve_udp(&socket, &shared));
        let shared = state.clone();
        thread::spawn(move || serve_tcp(&tcp, &shared));
        Upstream { address, state, udp }
    }

    /// Answers every name with one address, but holds back its answers to names that begin with `slow` until told, one by
    /// one.
    pub fn holding_slow() -> (Upstream, mpsc::Sender<()>) {
        let (release, held) = mpsc::channel::<()>();
        let held = Mutex::new(held);
        let upstream = Upstream::start(move |q| {
            if q.name().starts_with("slow") {
                // An error is the end of the test.
                let _ = held.lock().unwrap().recv();
            }
            addresses(&q.message(), 1, 300).into()
        });
        (upstream, release)
    }

    /// Where it answers.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The probes for forwarding loops so far.
    pub fn probes(&self) -> Vec<Received> {
        self.state.probes.lock().unwrap().clone()
    }

    /// All queries so far, but for probes, which come when nodens likes.
    pub fn received(&self) -> Vec<Received> {
        self.state.received.lock().unwrap().clone()
    }

    /// The queries for `name` (lower case, absolute) so far.
    pub fn asked_for(&self, name: &str) -> Vec<Received> {
        self.received().into_iter().filter(|q| q.name() == name).collect()
    }

    /// Waits until a query for `name` has come, and returns it; panics when that takes too long.
    pub fn wait_for_name(&self, name: &str) -> Received {
        let received = self.state.received.lock().unwrap();
        let none = |r: &mut Vec<Received>| r.iter().all(|q| q.name() != name);
        let (received, timeout) = self.state.changed.wait_timeout_while(received, DEADLINE, none).unwrap();
        assert!(!timeout.timed_out(), "no query for {name} came");
        received.iter().find(|q| q.name() == name).unwrap().clone()
    }

    /// How many TCP connections were accepted so far.
    pub fn connections(&self) -> usize {
        self.state.connections.lock().unwrap().len()
    }

    /// Waits until `count` queries have come, and returns them; panics when that takes too long.
    pub fn wait_for(&self, count: usize) -> Vec<Received> {
        let received = self.state.received.lock().unwrap();
        let (received, timeout) =
            self.state.changed.wait_timeout_while(received, DEADLINE, |r| r.len() < count).unwrap();
        assert!(!timeout.timed_out(), "{} of {count} queries came", received.len());
        received.clone()
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.state.stopped.store(true, Ordering::SeqCst);
        for connection in self.state.connections.lock().unwrap().iter() {
            let _ = connection.shutdown(Shutdown::Both);
        }
        // Both loops wait for something to arrive; this does.
        let _ = self.udp.send_to(&[], self.address);
        let _ = TcpStream::connect(self.address);
    }
}

impl State {
    fn stopped(&self) -> bool {
        self.stopped.load(Ordering::SeqCst)
    }

    fn keep(&self, bytes: Vec<u8>, transport: Transport, from: SocketAddr) -> Received {
        let mut received = self.received.lock().unwrap();
        let query = Received { bytes, transport, from, number: received.len() };
        if Message::from_vec(&query.bytes).is_ok() && query.is_probe() {
            self.probes.lock().unwrap().push(query.clone());
            return query;
        }
        received.push(query.clone());
        self.changed.notify_all();
        query
    }
}

fn serve_udp(socket: &UdpSocket, state: &Arc<State>) {
    let mut buffer = vec![0; 65_535];
    while let Ok((length, from)) = socket.recv_from(&mut buffer) {
        if state.stopped() {
            return;
        }
        let query = state.keep(buffer[..length].to_vec(), Transport::Udp, from);
        let (socket, state) = (socket.try_clone().unwrap(), state.clone());
        thread::spawn(move || {
            if let Reply::Bytes(messages) = (state.script)(&query) {
                for message in messages {
                    let _ = socket.send_to(&message, from);
                }
            }
        });
    }
}

fn serve_tcp(listener: &TcpListener, state: &Arc<State>) {
    while let Ok((stream, from)) = listener.accept() {
        if state.stopped() {
            return;
        }
        let connection = {
            let mut connections = state.connections.lock().unwrap();
            connections.push(stream.try_clone().unwrap());
            connections.len()
        };
        let state = state.clone();
        thread::spawn(move || serve_connection(stream, from, Transport::Tcp { connection }, &state));
    }
}

fn serve_connection(mut stream: TcpStream, from: SocketAddr, transport: Transport, state: &Arc<State>) {
    let writer = Arc::new(Mutex::new(stream.try_clone().unwrap()));
    while let Some(bytes) = read_framed(&mut stream) {
        let query = state.keep(bytes, transport, from);
        let (writer, state) = (writer.clone(), state.clone());
        thread::spawn(move || match (state.script)(&query) {
            Reply::Bytes(messages) => {
                let all: Vec<u8> = messages.iter().flat_map(|m| framed(m)).collect();
                let _ = writer.lock().unwrap().write_all(&all);
            }
            Reply::Silence => {}
            Reply::Close => {
                let _ = writer.lock().unwrap().shutdown(Shutdown::Both);
            }
            Reply::Last(message) => {
                let mut writer = writer.lock().unwrap();
                let _ = writer.write_all(&framed(&message));
                let _ = writer.shutdown(Shutdown::Both);
            }
            Reply::Raw(octets) => {
                let _ = writer.lock().unwrap().write_all(&octets);
            }
            Reply::Trickle(message, pause) => {
                let mut writer = writer.lock().unwrap();
                for octet in framed(&message) {
                    if state.stopped() || writer.write_all(&[octet]).is_err() {
                        return;
                    }
                    thread::sleep(pause);
                }
            }
        });
    }
}

/// A UDP socket and a TCP listener on one free loopback port.
pub fn bind() -> (UdpSocket, TcpListener) {
    for _ in 0..16 {
        let udp = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        if let Ok(tcp) = TcpListener::bind(udp.local_addr().unwrap()) {
            return (udp, tcp);
        }
    }
    panic!("no loopback port is free for both UDP and TCP");
}
