//! One query over UDP: a socket of its own, connected, hence a fresh port, and a fresh random id (RFC 5452 §9).
//!
//! What arrives and does not match is counted and ignored, and the wait goes on; the caller ends it by dropping the
//! future. A retransmission is another call, from another port under another id.

use super::server::Server;
use super::{Error, Query, encrypted, message};
use crate::sys::socket::send_from;
use crate::wire::header::Header;
use rustix::net::RecvFlags;
use socket2::{Domain, Protocol, Socket, Type};
use std::io;
use std::mem::MaybeUninit;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsFd;
use std::sync::Arc;
use tokio::io::Interest;
use tokio::net::UdpSocket;

/// Room for one datagram. More than any server sends to a query that offers at most 1232 octets.
const ROOM: usize = 4096;

/// Sends the query to `server` and returns the first datagram that matches it, however long that takes.
pub(super) async fn exchange(server: &Server, query: Query<'_>, edns: bool) -> Result<Vec<u8>, Error> {
    if server.endpoint().security().is_some() {
        return Err(encrypted::untrusted(server.endpoint(), "not asked in plain"));
    }
    let address = server.address();
    let unreachable = |source| Error::Unreachable { server: address, source: Arc::new(source) };
    let Ok(_permit) = server.sockets.acquire().await else { return Err(Error::Busy { server: address }) };
    let id = rand::random();
    let mut sent = Vec::with_capacity(query.message.len());
    message::write_query(&mut sent, query, id, edns);
    let socket = send(address, server.options.source, &sent).map_err(unreachable)?;
    // An ICMP error makes the socket not readable but erroneous: tokio's own `recv` would sleep through it.
    let receive = || {
        let mut octets = [MaybeUninit::uninit(); ROOM];
        let ((reply, _), _) = rustix::net::recv(&socket, &mut octets, RecvFlags::empty())?;
        let matches = Header::read(reply).is_some_and(|h| h.id == id) && message::accept(query, reply);
        Ok(matches.then(|| reply.to_vec()))
    };
    loop {
        match socket.async_io(Interest::READABLE | Interest::ERROR, receive).await {
            Ok(Some(reply)) => return Ok(reply),
            Ok(None) => server.stats.unsolicited.add(1),
            Err(source) => return Err(unreachable(source)),
        }
    }
}

/// A connected socket from which `octets` have been sent. The kernel chooses the port, at random; sending before tokio
/// knows the socket spares a wait for its being writable, which a new one always is.
fn send(address: SocketAddr, source: Option<IpAddr>, octets: &[u8]) -> io::Result<UdpSocket> {
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
    socket.set_nonblocking(true)?;
    if let Some(source) = source {
        send_from(socket.as_fd(), source)?;
    }
    socket.connect(&address.into())?;
    socket.send(octets)?;
    UdpSocket::from_std(socket.into())
}
