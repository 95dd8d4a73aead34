//! A server that nodens forwards to, with the faults of real ones: slow, late, twice, one query at a time, failing now and
//! then, silent every other moment. What it says of a name follows from the name, so that whoever asks can tell a right
//! answer from a wrong one.
//!
//! The first label says more: `slow-1900-…` is answered after so many milliseconds, `big-100-…` with so many addresses,
//! `nx-…` does not exist.

use crate::message::{address_of, framed};
use crate::until_input_ends;
use hickory_proto::op::{Edns, Message, MessageType, OpCode, ResponseCode};
use hickory_proto::rr::rdata::{A, SOA};
use hickory_proto::rr::{Name, RData, Record, RecordType};
use std::cell::Cell;
use std::net::{Ipv4Addr, SocketAddr};
use std::rc::Rc;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::OwnedWriteHalf;
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::runtime::Builder;
use tokio::sync::Mutex;
use tokio::task::{LocalSet, spawn_local};
use tokio::time::sleep;

/// Arguments of `upstream`.
#[derive(clap::Args)]
pub struct Args {
    /// One query at a time on each connection, as CoreDNS does.
    #[arg(long)]
    in_order: bool,
    /// Milliseconds before each answer.
    #[arg(long, default_value_t = 0)]
    delay: u64,
    /// At most so many more, at random.
    #[arg(long, default_value_t = 0)]
    jitter: u64,
    /// How many times an answer is sent over UDP.
    #[arg(long, default_value_t = 1)]
    copies: u32,
    /// How many of a hundred answers are SERVFAIL.
    #[arg(long, default_value_t = 0)]
    servfail: u32,
    /// Silent for so many milliseconds, then not for as many, and so on.
    #[arg(long)]
    flap: Option<u64>,
    /// Lifetime of the answers, in seconds.
    #[arg(long, default_value_t = 30)]
    ttl: u32,
    /// Where it answers.
    addresses: Vec<SocketAddr>,
}

/// What all its tasks share.
struct State {
    args: Args,
    begin: Instant,
    queries: Cell<u64>,
    connections: Cell<u64>,
}

/// Binds everything, says so, serves, and says how many queries and connections there were.
pub fn run(args: Args) {
    let state = Rc::new(State { args, begin: Instant::now(), queries: Cell::default(), connections: Cell::default() });
    let runtime = Builder::new_current_thread().enable_all().build().unwrap();
    LocalSet::new().block_on(&runtime, async {
        for &address in &state.args.addresses {
            let udp = UdpSocket::bind(address).await.unwrap_or_else(|error| panic!("{address} (udp): {error}"));
            let tcp = TcpListener::bind(address).await.unwrap_or_else(|error| panic!("{address} (tcp): {error}"));
            spawn_local(datagrams(Rc::new(udp), state.clone()));
            spawn_local(connections(tcp, state.clone()));
        }
        println!("serving");
        tokio::task::spawn_blocking(until_input_ends).await.unwrap();
    });
    println!("{{\"queries\":{},\"connections\":{}}}", state.queries.get(), state.connections.get());
}

async fn datagrams(socket: Rc<UdpSocket>, state: Rc<State>) {
    let mut room = [0; 4096];
    loop {
        let Ok((length, from)) = socket.recv_from(&mut room).await else { continue };
        let Some(reply) = state.answer(&room[..length], 1232) else { continue };
        for _ in 0..state.args.copies {
            let (pause, message, socket) = (state.pause(&reply), reply.message.clone(), socket.clone());
            spawn_local(async move {
                wait(pause).await;
                let _ = socket.send_to(&message, from).await;
            });
        }
    }
}

async fn connections(listener: TcpListener, state: Rc<State>) {
    loop {
        let Ok((stream, _)) = listener.accept().await else { continue };
        state.connections.set(state.connections.get() + 1);
        spawn_local(connection(stream, state.clone()));
    }
}

/// Serves one connection to its end.
async fn connection(stream: TcpStream, state: Rc<State>) -> Option<()> {
    let _ = stream.set_nodelay(true);
    let (mut read, write) = stream.into_split();
    let write = Rc::new(Mutex::new(write));
    loop {
        let length = read.read_u16().await.ok()?;
        let mut packet = vec![0; usize::from(length)];
        read.read_exact(&mut packet).await.ok()?;
        let Some(reply) = state.answer(&packet, u16::MAX) else { continue };
        let sent = send(write.clone(), state.pause(&reply), framed(&reply.message));
        if state.args.in_order {
            sent.await;
        } else {
            spawn_local(sent);
        }
    }
}

async fn send(write: Rc<Mutex<OwnedWriteHalf>>, pause: Duration, octets: Vec<u8>) {
    wait(pause).await;
    let _ = write.lock().await.write_all(&octets).await;
}

/// The timer's shortest time is a millisecond.
async fn wait(pause: Duration) {
    if !pause.is_zero() {
        sleep(pause).await;
    }
}

/// An answer and how slow this very name is.
struct Reply {
    message: Vec<u8>,
    slow: Duration,
}

impl State {
    /// How long `reply` takes.
    fn pause(&self, reply: &Reply) -> Duration {
        let jitter = if self.args.jitter == 0 { 0 } else { rand::random_range(0..self.args.jitter) };
        reply.slow + Duration::from_millis(self.args.delay + jitter)
    }

    /// The reply to `packet`, of at most `limit` octets; `None` when there is none.
    fn answer(&self, packet: &[u8], limit: u16) -> Option<Reply> {
        let query = Message::from_vec(packet).ok()?;
        self.queries.set(self.queries.get() + 1);
        if self.args.flap.is_some_and(|flap| (self.begin.elapsed().as_millis() as u64 / flap).is_multiple_of(2)) {
            return None;
        }
        let question = query.queries.first()?.clone();
        let name = question.name().clone();
        let text = name.to_ascii().to_ascii_lowercase();
        let mut message = Message::new(query.metadata.id, MessageType::Response, OpCode::Query);
        message.metadata.recursion_desired = query.metadata.recursion_desired;
        message.metadata.recursion_available = true;
        let mut words = text.split(['-', '.']);
        let (kind, number) = (words.next()?, words.next().and_then(|word| word.parse::<u32>().ok()));
        let count = if kind == "big" { number.unwrap_or(1) } else { 1 };
        if rand::random_range(0..100) < self.args.servfail {
            message.metadata.response_code = ResponseCode::ServFail;
        } else if kind == "nx" {
            message.metadata.response_code = ResponseCode::NXDomain;
            message.authorities.push(Record::from_rdata(name.base_name(), self.args.ttl, RData::SOA(self.soa())));
        } else if question.query_type() == RecordType::A {
            let first = u32::from(address_of(&text));
            let data = (0..count).map(|n| RData::A(A(Ipv4Addr::from(first.wrapping_add(n)))));
            message.answers = data.map(|data| Record::from_rdata(name.clone(), self.args.ttl, data)).collect();
        } else {
            message.authorities.push(Record::from_rdata(name.base_name(), self.args.ttl, RData::SOA(self.soa())));
        }
        message.add_query(question);
        if query.edns.is_some() {
            message.edns = Some(Edns::new());
        }
        let mut octets = message.to_vec().ok()?;
        if octets.len() > usize::from(limit) {
            message.answers.clear();
            message.metadata.truncation = true;
            octets = message.to_vec().ok()?;
        }
        let slow = if kind == "slow" { number.unwrap_or(0) } else { 0 };
        Some(Reply { message: octets, slow: Duration::from_millis(u64::from(slow)) })
    }

    fn soa(&self) -> SOA {
        let [server, mailbox] = ["ns.", "host."].map(|name| Name::from_ascii(name).unwrap());
        SOA::new(server, mailbox, 1, 7200, 1800, 86400, self.args.ttl)
    }
}
