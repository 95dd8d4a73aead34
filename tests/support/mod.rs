//! For process tests: a scripted DNS server on raw sockets, a client as raw, and the `nodens` binary.
//!
//! The server answers what a closure says, byte for byte, so that it can misbehave in any way; it keeps every query
//! it got. None of nodens' own types are used here: messages are made and read with hickory-proto.

// Each test binary compiles this file for itself and uses a part of it.
#![allow(dead_code, unreachable_pub, clippy::expect_used, clippy::panic, clippy::print_stdout, clippy::unwrap_used)]

pub mod client;
pub mod demo;
pub mod netns;
pub mod proc;
pub mod process;
pub mod server;
pub mod tls;
pub mod upstream;

use hickory_proto::op::{Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::rdata::{A, SOA};
use hickory_proto::rr::{Name, RData, Record, RecordType};
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr as SocketName, UnixDatagram};
use std::time::Duration;

/// How long anything may take before a test fails: far longer than it ever should.
pub const DEADLINE: Duration = Duration::from_secs(20);

/// A query for `name`, recursion desired, no EDNS, a random id.
pub fn query(name: &str, rtype: RecordType) -> Message {
    let mut message = Message::query();
    message.metadata.recursion_desired = true;
    message.add_query(Query::query(Name::from_ascii(name).unwrap(), rtype));
    message
}

/// An empty reply to `query` with `rcode`.
pub fn reply(query: &Message, rcode: ResponseCode) -> Message {
    let mut message = Message::new(query.metadata.id, MessageType::Response, OpCode::Query);
    message.metadata.recursion_desired = query.metadata.recursion_desired;
    message.metadata.recursion_available = true;
    message.metadata.response_code = rcode;
    message.add_queries(query.queries.iter().cloned());
    message
}

/// NOERROR with `count` A records, 10.0.0.1 and up, under the name asked for.
pub fn addresses(query: &Message, count: u8, ttl: u32) -> Message {
    let mut message = reply(query, ResponseCode::NoError);
    let name = query.queries[0].name();
    message.answers =
        (1..=count).map(|i| Record::from_rdata(name.clone(), ttl, RData::A(A::new(10, 0, 0, i)))).collect();
    message
}

/// NXDOMAIN with the SOA record of `zone`, which allows `ttl` seconds.
pub fn nxdomain(query: &Message, zone: &str, ttl: u32) -> Message {
    let mut message = reply(query, ResponseCode::NXDomain);
    let zone = Name::from_ascii(zone).unwrap();
    let soa = SOA::new(Name::from_ascii("ns.").unwrap(), Name::from_ascii("host.").unwrap(), 1, 7200, 1800, 86400, ttl);
    message.authorities.push(Record::from_rdata(zone, ttl, RData::SOA(soa)));
    message
}

/// One datagram to `server` and the one that comes back, as sent and received.
pub fn ask_udp(server: SocketAddr, query: &[u8]) -> Vec<u8> {
    let any: IpAddr = if server.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind((any, 0)).unwrap();
    socket.set_read_timeout(Some(DEADLINE)).unwrap();
    socket.connect(server).unwrap();
    socket.send(query).unwrap();
    let mut buffer = vec![0; 65_535];
    let length = socket.recv(&mut buffer).expect("a reply over UDP");
    buffer.truncate(length);
    buffer
}

/// One message to `server` on a TCP connection of its own and the one that comes back.
pub fn ask_tcp(server: SocketAddr, query: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect(server).unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    stream.write_all(&framed(query)).unwrap();
    read_framed(&mut stream).expect("a reply over TCP")
}

/// `message` after its length in two octets (RFC 1035 §4.2.2).
pub fn framed(message: &[u8]) -> Vec<u8> {
    [&u16::try_from(message.len()).unwrap().to_be_bytes(), message].concat()
}

/// The next message of `stream`; `None` when it ends or fails.
pub fn read_framed(stream: &mut impl Read) -> Option<Vec<u8>> {
    let mut length = [0; 2];
    stream.read_exact(&mut length).ok()?;
    let mut message = vec![0; usize::from(u16::from_be_bytes(length))];
    stream.read_exact(&mut message).ok()?;
    Some(message)
}

/// A loopback port that is free for UDP and TCP and stays so for this test process.
///
/// It is none of those that the kernel gives to clients (32768 and up), and an abstract socket of its name keeps other
/// test processes off it: whoever binds it later will not be disturbed.
pub fn free_port() -> u16 {
    for _ in 0..1000 {
        let port = rand::random_range(20_000..32_000);
        let name = SocketName::from_abstract_name(format!("nodens-test-port-{port}")).unwrap();
        let Ok(claim) = UnixDatagram::bind_addr(&name) else { continue };
        let at = (Ipv4Addr::LOCALHOST, port);
        if UdpSocket::bind(at).is_ok() && TcpListener::bind(at).is_ok() {
            std::mem::forget(claim);
            return port;
        }
    }
    panic!("no loopback port is free for both UDP and TCP");
}
