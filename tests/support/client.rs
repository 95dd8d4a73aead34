//! Clients that are many, slow, rude or gone: sockets from any loopback address, queries without an answer.

use super::{DEADLINE, framed, query, read_framed};
use hickory_proto::op::{Edns, Message};
use hickory_proto::rr::RecordType;
use hickory_proto::rr::rdata::opt::{EdnsCode, EdnsOption};
use socket2::{Domain, Socket, Type};
use std::io::{ErrorKind, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream, UdpSocket};
use std::time::Duration;

/// The client that the other functions of this harness are.
pub const GOOD: Ipv4Addr = Ipv4Addr::LOCALHOST;
/// Another client of the same host.
pub const RUDE: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 66);

/// A datagram socket of the client `ip`, connected to `server`.
pub fn udp_from(ip: Ipv4Addr, server: SocketAddr) -> UdpSocket {
    let socket = UdpSocket::bind((ip, 0)).unwrap();
    socket.set_read_timeout(Some(DEADLINE)).unwrap();
    socket.connect(server).unwrap();
    socket
}

/// A connection of the client `ip` to `server`.
pub fn tcp_from(ip: impl Into<IpAddr>, server: SocketAddr) -> TcpStream {
    let socket = Socket::new(Domain::for_address(server), Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::new(ip.into(), 0).into()).unwrap();
    socket.connect(&server.into()).unwrap();
    let stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    stream.set_nodelay(true).unwrap();
    stream
}

/// Sends a query on a connection.
pub fn send(stream: &mut TcpStream, query: &Message) {
    stream.write_all(&framed(&query.to_vec().unwrap())).unwrap();
}

/// The next answer on a connection.
pub fn receive(stream: &mut TcpStream) -> Message {
    Message::from_vec(&read_framed(stream).expect("an answer on this connection")).expect("a readable answer")
}

/// The next answer on a datagram socket.
pub fn receive_udp(socket: &UdpSocket) -> Message {
    let mut buffer = vec![0; 65_535];
    let length = socket.recv(&mut buffer).expect("an answer over UDP");
    Message::from_vec(&buffer[..length]).expect("a readable answer")
}

/// Has the other end closed this connection, or reset it?
pub fn is_closed(stream: &TcpStream) -> bool {
    stream.set_nonblocking(true).unwrap();
    let seen = stream.peek(&mut [0]);
    stream.set_nonblocking(false).unwrap();
    match seen {
        Ok(octets) => octets == 0,
        Err(error) => error.kind() != ErrorKind::WouldBlock,
    }
}

/// Ends a connection with RST, as a process that dies with unread data does.
pub fn reset(stream: TcpStream) {
    socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap();
}

/// A query for the A records of `name` that has an OPT record, so that its answer may say more (RFC 8914).
pub fn edns_query(name: &str) -> Message {
    let mut message = query(name, RecordType::A);
    message.edns = Some(Edns::new().set_max_payload(1232).clone());
    message
}

/// The extended error of an answer (RFC 8914).
pub fn extended_error(answer: &Message) -> Option<u16> {
    match answer.edns.as_ref()?.option(EdnsCode::Unknown(15))? {
        EdnsOption::Unknown(_, data) => Some(u16::from_be_bytes([data[0], data[1]])),
        _ => None,
    }
}
